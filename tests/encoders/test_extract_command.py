"""`sigma-ser extract` as a user calls it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import sigma_ser as ss
from sigma_ser.cli.extract import extract
from sigma_ser.core.errors import ConfigError
from sigma_ser.corpora.corpus import Corpus


def test_the_command_makes_a_store_and_tells_what_is_in_it(
    corpus: Corpus,
    tiny: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ss, "load_corpus", lambda name, root: corpus)
    app = typer.Typer()
    app.command()(extract)
    call = ["toy", "--out", str(tmp_path / "store"), "--encoder", str(tiny("hubert"))]
    reported = CliRunner().invoke(app, [*call, "--layer", "1", "--json"])
    assert reported.exit_code == 0, reported.output
    summary = json.loads(reported.stdout)
    store = ss.FeatureStore(summary["store"])
    assert (summary["utterances"], summary["dim"]) == (len(store), store.dim) == (23, 32)
    assert summary["frames"] == int(store.lengths(store.ids).sum())
    assert summary["encoder"]["layer"] == 1
    plain = CliRunner().invoke(app, [*call, "--layer", "1"])
    assert plain.stdout.startswith("23 utterances, ")
    wrong = CliRunner().invoke(app, [*call, "--layer", "last"])
    assert isinstance(wrong.exception, ConfigError)
