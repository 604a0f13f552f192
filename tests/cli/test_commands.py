"""The command line: only JSON on standard output, errors as one sentence with exit status 2."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from sigma_ser.cli import root


def sigma_ser(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the command as a user would, in a separate process."""
    return subprocess.run(
        [sys.executable, "-m", "sigma_ser", *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        check=False,
    )


@pytest.mark.slow
def test_list_names_every_kind(tmp_path: Path) -> None:
    found = json.loads(sigma_ser("list", "--json", folder=tmp_path).stdout)
    assert {"pgd", "dual-averaging"} <= set(found["attack"])
    assert {"gradient", "integrated-gradients"} <= set(found["explainer"])
    assert {"mlp", "bilstm"} <= set(found["head"])
    assert {"demo", "tess"} <= set(found["corpus"])


@pytest.mark.slow
def test_doctor_finds_what_is_shipped(tmp_path: Path) -> None:
    found = json.loads(sigma_ser("doctor", "--json", folder=tmp_path).stdout)
    assert found["demo corpus"] == found["demo encoder"] == "shipped"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["list", "atack"], "did you mean attack"),
        (["run", "absent.toml"], "cannot read the study file"),
        (["run", "wrong.toml"], "there is no key 'corpse'"),
        (["demo", "--out"], ""),
    ],
)
def test_wrong_usage_is_one_sentence_and_exit_2(
    tmp_path: Path, arguments: list[str], said: str
) -> None:
    (tmp_path / "wrong.toml").write_text("[corpse]\n", "utf-8")
    done = sigma_ser(*arguments, folder=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert [path.name for path in tmp_path.iterdir()] == ["wrong.toml"]


def test_an_interrupt_is_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    app = typer.Typer()

    @app.command()
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(root, "app", app)
    monkeypatch.setattr(sys, "argv", ["sigma-ser"])
    with pytest.raises(SystemExit) as ended:
        root.run_command_line()
    assert ended.value.code == 130
    assert "interrupted; completed results are kept" in capsys.readouterr().err


def test_help_does_not_import_torch() -> None:
    code = (
        "import sys, sigma_ser, sigma_ser.cli.root\n"
        "sys.exit(any(name in sys.modules for name in ('torch', 'polars', 'captum')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_documented_command_exists() -> None:
    # A past fault: `sigma-ser attack` was tested and documented, but not registered.
    from sigma_ser.cli.root import app

    project = Path(__file__).parents[2]
    pages = [project / "README.md", *sorted((project / "docs").rglob("*.md"))]
    text = "\n".join(page.read_text("utf-8") for page in pages)
    # Blocks of code before code within a line; prose says "sigma-ser explains ...".
    code = "\n".join(re.findall(r"```.*?```|`[^`]+`", text, re.DOTALL))
    named = set(re.findall(r"sigma-ser ([a-z]+)", code))
    registered = {command.name for command in app.registered_commands}
    registered |= {group.name for group in app.registered_groups}
    assert {"attack", "run"} <= named
    assert named <= registered
