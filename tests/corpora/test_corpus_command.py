"""`sigma-ser corpus check`: what it prints, writes and exits with."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

import sigma_ser as ss
from sigma_ser.cli.corpus import app
from sigma_ser.core.errors import CorpusError

MakeSound = Callable[..., Path]


@pytest.fixture
def folder(tmp_path: Path, make_sound: MakeSound) -> Path:
    """Two classes of four, and one recording that is cut short."""
    for label in ("happy", "sad"):
        for number in range(4):
            make_sound(tmp_path / "c" / label / f"{number}[/b].wav", voice=f"{label}{number}")
    bad = make_sound(tmp_path / "c" / "sad" / "cut[red].wav")
    bad.write_bytes(bad.read_bytes()[:-100])
    return tmp_path / "c"


def test_json_is_one_object_and_nothing_else(folder: Path) -> None:
    result = CliRunner().invoke(
        app, ["check", "folders", str(folder), "--json", "--protocol", "random-stratified",
              "--folds", "4", "--workers", "1"], catch_exceptions=False,
    )  # fmt: skip
    assert result.exit_code == 0
    summary = json.loads(result.stdout)
    assert summary["utterances"] == 8
    assert summary["classes"] == {"happy": 4, "sad": 4}
    assert summary["sample_rates"] == {"16000": 8}
    assert summary["seconds"]["total"] == pytest.approx(0.32)
    (bad,) = summary["quarantine"]
    assert bad["reason"] == "truncated"
    assert bad["bytes"] == (folder / "sad" / "cut[red].wav").stat().st_size
    assert len(summary["folds"]) == 4


def test_people_get_every_fault_in_words(folder: Path) -> None:
    result = CliRunner().invoke(
        app, ["check", "folders", str(folder), "--protocol", "random-stratified",
              "--folds", "4"],
        catch_exceptions=False,
    )  # fmt: skip
    assert result.exit_code == 0
    assert "8 utterances, 2 classes" in result.stdout
    assert "quarantine: 1 files (truncated 1)" in result.stdout
    assert "cut[red].wav is 100 bytes shorter than its header declares" in result.stdout
    assert "identical audio" in result.stdout


def test_strict_makes_quarantine_an_error(folder: Path) -> None:
    arguments = ["check", "folders", str(folder), "--strict"]
    assert CliRunner().invoke(app, arguments).exit_code == 1
    (folder / "sad" / "cut[red].wav").unlink()
    assert CliRunner().invoke(app, arguments).exit_code == 0


def test_a_later_run_starts_from_the_manifest(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "sub" / "out.parquet"
    CliRunner().invoke(app, ["check", "folders", str(folder), "--manifest", str(out)],
                       catch_exceptions=False)  # fmt: skip
    saved = ss.load_corpus("manifest", out)
    assert saved.key == ss.load_corpus("folders", folder).key
    result = CliRunner().invoke(app, ["check", "manifest", str(out), "--json"])
    assert json.loads(result.stdout)["corpus"] == "c"


def test_a_bad_folder_is_one_error_and_no_manifest(tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    result = CliRunner().invoke(
        app, ["check", "folders", str(tmp_path / "none"), "--manifest", str(out)]
    )
    assert isinstance(result.exception, CorpusError)
    assert not out.exists()


def test_checking_does_not_wait_for_torch() -> None:
    """Importing torch takes longer than checking a small corpus."""
    script = (
        "import sys; from sigma_ser.corpora.summary import summarise; import sigma_ser as ss;"
        "ss.registry.names('corpus'); ss.registry.names('protocol');"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
