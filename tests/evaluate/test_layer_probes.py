"""The probe of `sigma-ser extract --compare` on the embedded encoder."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import sigma_ser as ss
from sigma_ser.cli.extract import extract
from sigma_ser.core.errors import ConfigError, StoreError
from sigma_ser.corpora.corpus import Corpus
from sigma_ser.evaluate.probe import probe_layers

app = typer.Typer()
app.command()(extract)


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    """Every fourth recording of the demo corpus: all voices, all emotions."""
    whole = ss.load_corpus("demo")
    return dataclasses.replace(whole, utterances=whole.utterances[::4])


@pytest.mark.slow
def test_each_layer_of_a_store_of_all_is_the_layer_extracted_alone(
    corpus: Corpus, tmp_path: Path
) -> None:
    folds = ss.make_folds(corpus, "demo-voices")
    everything = ss.extract(corpus, ss.load_encoder("demo", layer="all"), tmp_path / "all")
    probes = probe_layers(everything, folds)
    assert [probe.layer for probe in probes] == list(range(everything.layers))
    second = ss.extract(corpus, ss.load_encoder("demo", layer=2), tmp_path / "second")
    (alone,) = probe_layers(second, folds)
    assert alone == probes[2]
    assert alone.uar >= 0.4  # chance: 1/7
    assert alone.uar_low < alone.uar < alone.uar_high
    assert alone.test_utterances == len(folds[0].test)


def test_a_fold_that_the_store_cannot_serve_is_named(corpus: Corpus, tmp_path: Path) -> None:
    fold = ss.make_folds(corpus, "demo-voices")[0]
    angry = tuple(one for one in corpus.utterances if one.label == "angry")
    few = dataclasses.replace(corpus, utterances=angry)
    store = ss.extract(few, ss.load_encoder("demo"), tmp_path / "few")
    with pytest.raises(StoreError, match=f"fold {fold.name} has .* too few for a probe"):
        probe_layers(store, [fold])


@pytest.mark.slow
def test_the_command_prints_the_table(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ss, "load_corpus", lambda name, root: corpus)
    call = ["demo", "--out", str(tmp_path / "store"), "--compare"]
    result = CliRunner().invoke(app, [*call, "--protocol", "demo-voices", "--json"])
    assert result.exit_code == 0, result.output
    probes = json.loads(result.stdout)["probes"]
    assert len(probes) == 5
    wrong = CliRunner().invoke(app, [*call, "--layer", "2"])
    assert isinstance(wrong.exception, ConfigError)
