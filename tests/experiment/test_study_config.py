"""A study file that is wrong is refused with one sentence that names the key and its line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import sigma_ser as ss
from sigma_ser.demo import study_path
from sigma_ser.experiment.reading import load_study, parse_study

GOOD = """
name = "good"

[corpus]
name = "demo"
protocol = "demo-voices"

[encoder]
name = "demo"

[[victims]]
head = "mlp"

[budgets]
sparsity = [0.01]

[[attacks]]
name = "pgd"
explainers = ["gradient"]
native = false
"""


def _written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "study.toml"
    path.write_text(text, "utf-8")
    return path


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        (
            "sparsity = [0.01]",
            "sparsty = [0.01]",
            "line 15.*budgets.sparsty.*did you mean sparsity",
        ),
        ("sparsity = [0.01]", "sparsity = [1.5]", "line 15.*budgets.sparsity"),
        ("[budgets]", "[budget]", "line 14.*no key 'budget'; did you mean budgets"),
        ('head = "mlp"', "", "line 11: victims.0: the key 'head' is missing"),
        ('name = "good"', 'name = "../evil"', "name.*letters, digits"),
        ("[[attacks]]", "[[attacks]", "not valid TOML"),
        ("native = false", "scopes = [0]", "attacks.0.scopes"),
    ],
)
def test_a_wrong_study_names_key_and_line(
    tmp_path: Path, right: str, wrong: str, said: str
) -> None:
    path = _written(tmp_path, GOOD.replace(right, wrong))
    with pytest.raises(ss.errors.ConfigError, match=said):
        load_study(path)


def test_overrides_reach_lists_and_open_sections(tmp_path: Path) -> None:
    study = load_study(
        _written(tmp_path, GOOD),
        ["attacks.0.steps=7", "budgets.epsilon=[0.25, 1]", "victims.0.head=bilstm"],
    )
    assert study.attacks[0].settings == {"steps": 7}
    assert study.budgets.epsilon == [0.25, 1]
    assert study.victims[0].head == "bilstm"


@pytest.mark.parametrize("override", ["budgets.epsilon", "attacks.9.name=x", "name.deeper=1"])
def test_an_override_without_a_place_is_refused(tmp_path: Path, override: str) -> None:
    with pytest.raises(ss.errors.ConfigError, match="--set"):
        load_study(_written(tmp_path, GOOD), [override])


def test_relative_folders_are_relative_to_the_file(tmp_path: Path) -> None:
    study = load_study(_written(tmp_path, GOOD), ["corpus.root=../data"])
    assert study.corpus[0].root == (tmp_path.parent / "data").resolve()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"victims": [{"head": "bilstn"}]}, "no head is called 'bilstn'; did you mean bilstm"),
        ({"victims": [{"head": "mlp", "epoch": 3}]}, "no setting 'epoch'"),
        ({"attacks": [{"name": "dual-avraging"}]}, "did you mean dual-averaging"),
        ({"attacks": [{"name": "pgd", "step": 3}]}, "step"),
        ({"attacks": [{"name": "pgd", "explainers": ["gradiant"]}]}, "did you mean gradient"),
        ({"encoder": {"name": "demo", "contxt": "utterance"}}, "encoder.contxt.*context"),
        ({"encoder": {"name": "dmo"}}, "demo"),
        ({"corpus": {"name": "tes", "protocol": "tess-word"}}, "did you mean tess"),
    ],
)
def test_an_unknown_name_lists_near_matches_and_writes_nothing(
    small_study: dict[str, Any], tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    with pytest.raises(ss.SigmaError, match=said):
        ss.run(small_study | change, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_folder_that_is_not_there_and_an_empty_one(
    small_study: dict[str, Any], tmp_path: Path
) -> None:
    for root in (tmp_path / "absent", tmp_path):
        corpus = {"name": "tess", "root": str(root), "protocol": "tess-loso2"}
        with pytest.raises(ss.errors.CorpusError):
            ss.run(small_study | {"corpus": corpus}, out=tmp_path / "run")
        assert not (tmp_path / "run").exists()


def test_the_demo_study_and_the_examples_are_valid() -> None:
    examples = Path(__file__).parents[2] / "examples"
    for path in (study_path(), *examples.glob("*.toml")):
        assert load_study(path).attacks


def test_values_and_file_agree(tmp_path: Path) -> None:
    import tomllib

    path = _written(tmp_path, GOOD)
    assert parse_study(tomllib.loads(GOOD)) == load_study(path)
