"""`sigma-ser explain` as a user calls it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import sigma_ser as ss
from sigma_ser.cli.explain import explain
from sigma_ser.core.errors import SigmaError

app = typer.Typer()
app.command()(explain)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str, str]:
    """Folders of a store and of a victim, and the id of an utterance of theirs."""
    folder = tmp_path_factory.mktemp("explain")
    whole = ss.load_corpus("demo")
    corpus = dataclasses.replace(whole, utterances=whole.utterances[::8])
    store = ss.extract(corpus, ss.load_encoder("demo"), folder / "store")
    victim = ss.train(store, ss.make_folds(corpus, "demo-voices")[0], head="cnn", epochs=3)
    victim.save(folder / "victim")
    return str(store.folder), str(folder / "victim"), store.ids[0]


def test_the_bank_is_filled_once_and_quality_is_measured(
    trained: tuple[str, str, str], tmp_path: Path
) -> None:
    store, victim, _ = trained
    call = [victim, store, "gradient", "deeplift", "attention"]
    call += ["--bank", str(tmp_path / "bank"), "--utterances", "6", "--quality", "3", "--json"]
    first = CliRunner().invoke(app, call)
    assert first.exit_code == 0, first.output
    gradient, deeplift, attention = json.loads(first.stdout)["explainers"]
    assert (gradient["maps"], gradient["made"], gradient["backwards"]) == (6, 6, 1)
    assert 0 <= gradient["deletion"] <= 1
    assert 0 <= gradient["insertion"] <= 1
    assert deeplift["completeness"] < 0.01
    assert "attention" in attention["refused"]  # a convolution has no attention weights
    again = json.loads(CliRunner().invoke(app, call).stdout)["explainers"]
    assert [line.get("made") for line in again] == [0, 0, None]
    measured = {name: value for name, value in gradient.items() if name != "made"}
    assert {name: value for name, value in again[0].items() if name != "made"} == measured


def test_one_utterance_is_drawn_with_its_audio(
    trained: tuple[str, str, str], tmp_path: Path
) -> None:
    store, victim, name = trained
    out = tmp_path / "one.png"
    call = [victim, store, "gradient", "--bank", str(tmp_path / "bank")]
    call += ["--utterances", "1", "--quality", "0", "--plot", name, "--out", str(out)]
    result = CliRunner().invoke(app, [*call, "--corpus", "demo"])
    assert result.exit_code == 0, result.output
    assert str(out) in result.stdout.replace("\n", "")
    with_audio = out.read_bytes()
    assert with_audio.startswith(b"\x89PNG")
    assert CliRunner().invoke(app, call).exit_code == 0
    assert out.read_bytes() != with_audio  # waveform and spectrogram are drawn only where known
    unknown = CliRunner().invoke(app, [*call, "--plot", "unknown"])
    assert isinstance(unknown.exception, SigmaError)
    assert "unknown" in str(unknown.exception)
