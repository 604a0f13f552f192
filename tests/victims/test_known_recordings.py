"""Recordings of the training are known again, under any name."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

import sigma_ser as ss
from sigma_ser.victims.checkpoint import RECORDINGS
from sigma_ser.victims.exposure import known_recordings


def test_a_recording_is_known_by_its_content(tmp_path: Path) -> None:
    corpus = ss.load_corpus("demo")
    some = dataclasses.replace(corpus, utterances=corpus.utterances[:48])
    renamed = dataclasses.replace(
        some, utterances=[dataclasses.replace(one, id=f"new-{one.id}") for one in some.utterances]
    )
    encoder = ss.load_encoder("demo")
    store = ss.extract(some, encoder, out=tmp_path / "store")
    other = ss.extract(renamed, encoder, out=tmp_path / "renamed")
    ids = [one.id for one in some.utterances]
    fold = ss.Fold("0", tuple(ids[:32]), (), tuple(ids[32:]))
    victim = ss.train(store, fold, head="linear", epochs=1)

    everything = [f"new-{name}" for name in ids]
    assert known_recordings(victim, other, everything) == everything[:32]
    assert known_recordings(victim, store, ids) == ids[:32]
    folder = victim.save(tmp_path / "victim")
    assert known_recordings(ss.load_victim(folder), other, everything) == everything[:32]
    # Another kind of victim says nothing of its training.
    assert known_recordings(ss.wrap(victim.module), store, ids) == []

    # An earlier version saved no digests: names are all that is known.
    (folder / RECORDINGS).unlink()
    earlier = ss.load_victim(folder)
    assert known_recordings(earlier, store, ids) == ids[:32]
    assert known_recordings(earlier, other, everything) == []
    (folder / RECORDINGS).write_text("[]")
    with pytest.raises(ss.errors.VictimError, match="has changed since it was saved"):
        ss.load_victim(folder)
