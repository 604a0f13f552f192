"""A study file that is wrong is refused with one sentence that names the key and its line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

import sigma_ser as ss
from sigma_ser.demo import study_path
from sigma_ser.study.config import StudyConfig
from sigma_ser.study.loading import load_study, parse_study
from sigma_ser.study.name_checks import check_names

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


def config_of(*given: Any, **more: Any) -> StudyConfig:
    return load_study(*given, **more).config


def config_of_values(*given: Any, **more: Any) -> StudyConfig:
    return parse_study(*given, **more).config


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
        (
            "sparsity = [0.01]",
            "sparsity = [1.5]",
            r"line 15: budgets\.sparsity\.0 must be at most 1, got 1\.5",
        ),
        (
            "sparsity = [0.01]",
            'sparsity = ["a"]',
            r"line 15: budgets\.sparsity\.0 must be a number, got 'a'",
        ),
        (
            'name = "demo"\n\n[[v',
            'name = "demo"\nlayer = "first"\n\n[[v',
            r"line 10: encoder\.layer must be a whole number or 'mean' or 'all', got 'first'",
        ),
        ("native = false", 'native = "yes"', r"line 20: attacks\.0\.native must be true or false"),
        (
            'explainers = ["gradient"]\n',
            "",
            "line 17: attacks.0: attack 'pgd' runs nowhere: set native = true or name explainers",
        ),
        (
            'head = "mlp"',
            'head = "mlp"\nseeds = [0, 0]',
            r"line 13: victims\.0\.seeds: each entry must occur only once, got \[0, 0\]",
        ),
        (
            'head = "mlp"',
            'head = "mlp"\nattacked = false',
            "no victim is attacked: remove attacked = false",
        ),
        ('head = "mlp"', 'head = "mlp"\nload = "x:y"', "give either 'head' or 'load', not both"),
        ("[budgets]", "[budget]", "line 14.*no key 'budget'; did you mean budgets"),
        ('head = "mlp"', "", "line 11: victims.0: give 'head' or 'load'"),
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
        config_of(path)


@pytest.mark.parametrize(
    ("right", "wrong", "error", "said"),
    [
        ('name = "pgd"', 'name = "pgdd"', "UnknownName", "line 18: no attack is called 'pgdd'"),
        ('name = "pgd"', 'name = "pgd"\nsteps = -3', "Attack",
         "line 19: steps of the attack 'pgd' must be above 0, got -3"),
        ('head = "mlp"', 'head = "mlpp"', "UnknownName", "line 12: no head is called 'mlpp'"),
        ('head = "mlp"', 'head = "mlp"\nepochs = 0', "Victim", "line 13: epochs must be at least"),
        ('head = "mlp"', 'head = "mlp"\nsettings = {hidden = 8}', "Victim",
         "line 13: .*'settings'.*beside head, those of the head are keys of head_settings"),
        ('"gradient"', '"gradiant"', "UnknownName", "line 19: no explainer is called 'gradiant'"),
        ('"demo-voices"', '"demo-voice"', "UnknownName", "line 6: no protocol is called"),
        ("native = false", 'mask_sources = ["tcn"]', "Config",
         "line 20: .*not a victim of the study; give one of: mlp, own, features, "),
        ("[budgets]", '[executor]\nname = "proceses"\n[budgets]', "UnknownName",
         "line 15: no executor is called 'proceses'"),
    ],
)  # fmt: skip
def test_a_wrong_name_or_setting_names_file_and_line(
    tmp_path: Path, right: str, wrong: str, error: str, said: str
) -> None:
    path = _written(tmp_path, GOOD.replace(right, wrong))
    with pytest.raises(getattr(ss.errors, f"{error}Error"), match=f"^{path}, {said}"):
        check_names(load_study(path))


def test_a_wrong_name_in_an_option_names_the_option(tmp_path: Path) -> None:
    study = load_study(_written(tmp_path, GOOD), ["attacks.0.name=pgdd"])
    with pytest.raises(
        ss.errors.UnknownNameError, match=r"^--set attacks\.0\.name=pgdd: no attack"
    ):
        check_names(study)


def test_a_study_without_consistency_can_be_written(tmp_path: Path) -> None:
    # TOML has no null.
    study = load_study(_written(tmp_path, GOOD), ["consistency.explainer=none"])
    check_names(study)
    assert study.config.consistency.explainer is None


def test_overrides_reach_lists_and_open_sections(tmp_path: Path) -> None:
    study = config_of(
        _written(tmp_path, GOOD),
        ["attacks.0.steps=7", "budgets.epsilon=[0.25, 1]", "victims.0.head=bilstm"],
    )
    assert study.attacks[0].settings == {"steps": 7}
    assert study.budgets.epsilon == [0.25, 1]
    assert study.victims[0].head == "bilstm"


@pytest.mark.parametrize("override", ["budgets.epsilon", "attacks.9.name=x", "name.deeper=1"])
def test_an_override_without_a_place_is_refused(tmp_path: Path, override: str) -> None:
    with pytest.raises(ss.errors.ConfigError, match="--set"):
        config_of(_written(tmp_path, GOOD), [override])


def test_relative_folders_are_relative_to_the_file(tmp_path: Path) -> None:
    study = config_of(_written(tmp_path, GOOD), ["corpus.root=../data"])
    assert study.corpus[0].root == (tmp_path.parent / "data").resolve()


def test_a_folder_named_like_the_embedded_encoder_does_not_replace_it(tmp_path: Path) -> None:
    for name in ("demo", "other"):
        (tmp_path / name).mkdir()
    path = _written(tmp_path, GOOD)
    assert config_of(path, ["encoder.name=demo"]).encoder[0].name == "demo"
    folder = str((tmp_path / "other").resolve())
    assert config_of(path, ["encoder.name=other"]).encoder[0].name == folder


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"victims": [{"head": "bilstn"}]}, "no head is called 'bilstn'; did you mean bilstm"),
        ({"victims": [{"head": "mlp", "epoch": 3}]}, "no setting 'epoch'"),
        ({"attacks": [{"name": "dual-avraging"}]}, "did you mean dual-averaging"),
        ({"attacks": [{"name": "pgd", "step": 3}]}, "step"),
        ({"attacks": [{"name": "pgd", "explainers": ["gradiant"]}]}, "did you mean gradient"),
        (
            {"encoder": {"name": "demo", "contxt": "utterance"}},
            r"\[encoder\] has no setting 'contxt'; did you mean context",
        ),
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
        assert config_of(path).attacks


def test_values_and_file_agree(tmp_path: Path) -> None:
    import tomllib

    path = _written(tmp_path, GOOD)
    assert config_of_values(tomllib.loads(GOOD)) == config_of(path)


def test_an_including_file_changes_what_it_names_and_keeps_the_rest(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "study.toml").write_text(GOOD + "\n[corpus.protocol_settings]\na = 1\n")
    path = tmp_path / "mine.toml"
    path.write_text(
        'include = "base/study.toml"\nname = "mine"\n[corpus]\nroot = "sounds"\n'
        "[budgets]\nepsilon = [1.0, 2.0]\n"
    )
    study = config_of(path)
    assert (study.name, study.corpus[0].name) == ("mine", "demo")
    assert study.corpus[0].protocol_settings == {"a": 1}
    assert study.corpus[0].root == (tmp_path / "sounds").resolve()
    assert (study.budgets.sparsity, study.budgets.epsilon) == ([0.01], [1.0, 2.0])


def test_a_fault_in_an_included_file_names_that_file(tmp_path: Path) -> None:
    base = _written(tmp_path, GOOD.replace("sparsity = [0.01]", "sparsty = [0.01]"))
    path = tmp_path / "mine.toml"
    path.write_text('include = "study.toml"\n[budgets]\nepsilon = [1.0]\n')
    with pytest.raises(ss.errors.ConfigError, match=rf"{base}, line 15: .*budgets.sparsty"):
        config_of(path)


@pytest.mark.parametrize(
    ("include", "said"),
    [
        ('"absent.toml"', "cannot read .*absent.toml, which .*mine.toml includes: No such file"),
        ('"mine.toml"', "line 1: mine.toml includes itself"),
        ("3", "line 1: include takes a file name"),
    ],
)
def test_an_include_that_cannot_be(tmp_path: Path, include: str, said: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(f"include = {include}\n")
    with pytest.raises(ss.errors.ConfigError, match=said):
        config_of(path)


def test_the_second_of_two_tables_is_named_by_its_own_line(tmp_path: Path) -> None:
    path = _written(tmp_path, GOOD + '\n[[attacks]]\nname = "pgd"\nscopes = [0]\n')
    with pytest.raises(ss.errors.ConfigError, match=r"line 24: attacks\.1\.scopes\.0"):
        config_of(path)


def test_a_wrong_value_of_set_is_laid_at_its_door(tmp_path: Path) -> None:
    with pytest.raises(ss.errors.ConfigError, match=r"^--set budgets\.sparsity=\[2\]: "):
        config_of(_written(tmp_path, GOOD), ["budgets.sparsity=[2]"])


def test_one_value_stands_for_a_list_and_tables_may_be_repeated(tmp_path: Path) -> None:
    text = GOOD.replace('name = "demo"\n\n[[victims]]', 'name = "demo"\nlayer = [0, "mean"]\n'
                        '\n[[encoder]]\nname = "other"\n\n[[victims]]')  # fmt: skip
    study = config_of(_written(tmp_path, text.replace("[encoder]\n", "[[encoder]]\n", 1)))
    assert [(one.name, one.layer) for one in study.encoder] == [
        ("demo", [0, "mean"]), ("other", [-1]),
    ]  # fmt: skip
    assert study.corpus[0].protocol == ["demo-voices"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"attacks": [{"name": "pgd", "mask_sources": ["bilstm"]}]}, "not a victim of the study"),
        ({"victims": [{"head": "mlp"}, {"head": "mlp"}]}, "2 victims called 'mlp'; give each"),
        (
            {"victims": [{"load": "x:y", "labls": []}]},
            "no setting 'labls'",
        ),
        ({"victims": [{"load": "x:y", "head": "mlp"}]}, "'load', not both"),
        ({"tracking": {"name": "mlflow"}}, "mlflow is not installed"),
        ({"corpus": {"name": "demo", "protocol": "demo-voices", "folds": []}}, "at least 1 entry"),
    ],
)
def test_what_does_not_fit_together_is_refused_before_any_work(
    small_study: dict[str, Any],
    tmp_path: Path,
    change: dict[str, Any],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(ss.SigmaError, match=said):
        ss.run(small_study | change, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            "evaluation.seed=9223372036854775808",
            "evaluation.seed must be below 9223372036854775808",
        ),
        ("evaluation.seed=-1", "evaluation.seed must be at least 0"),
        ("victims.0.seeds=[18446744073709551616]", "victims.0.seeds.0 must be below"),
        ("attacks.0.seeds=[18446744073709551616]", "attacks.0.seeds.0 must be below"),
        (
            "corpus.folds=2",
            r"corpus.folds: expected .* such as \[0, 1\], got 2; for 2 folds in all",
        ),
        ("corpus.seed=9223372036854775808", "corpus.seed must be below"),
        ("budgets.epsilon=[inf]", "budgets.epsilon.0 must be at most"),
        ("budgets.epsilon=[1e30]", "budgets.epsilon.0 must be at most"),
        ("budgets.epsilon=[nan]", "budgets.epsilon.0"),
        ("budgets.sparsity=[nan]", "budgets.sparsity.0"),
        ("attacks.0.scopes=[9223372036854775808]", "attacks.0.scopes.0"),
        ("attacks.0.steps=9223372036854775808", "steps of the attack 'pgd' must fit 64 bits"),
        ("attacks.0.step_size=inf", "step_size of the attack 'pgd' must be finite, got inf"),
        ('attacks.0.loss=["margin"]', "attack 'pgd' does not accept"),
        ('attacks=[{name = "dual-averaging", losses = 3}]', "'dual-averaging' does not accept"),
        ("consistency.settings={steps = 0.5}", "steps of the explainer .* must be a whole number"),
        ("consistency.settings={step = 3}", "no setting 'step'"),
        ("victims.0.head_settings={hidden = 0}", "head 'mlp' .*hidden.* has an empty"),
        ("victims.0.head_settings={dropout = 2.0}", "dropout"),
        ("victims.0.head_settings={dropout = nan}", "dropout of the head .* must be finite"),
        ("victims.0.learning_rate=inf", "learning_rate of training must be finite"),
    ],
)
def test_values_out_of_their_domain_are_refused_before_any_work(
    tmp_path: Path, change: str, said: str
) -> None:
    with pytest.raises(ss.SigmaError, match=said):
        ss.run(_written(tmp_path, GOOD), out=tmp_path / "run", overrides=[change])
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "text",
    ["a = " + "[" * 5000, ".".join("a" for _ in range(5000)) + " = 1", "[" + "a." * 5000 + "a]"],
)
def test_a_study_that_is_nested_without_end_is_one_sentence(tmp_path: Path, text: str) -> None:
    with pytest.raises(ss.errors.ConfigError, match=r"nested too deeply|not valid TOML"):
        config_of(_written(tmp_path, text))
    with pytest.raises(ss.errors.ConfigError, match="nested too deeply"):
        config_of(_written(tmp_path, GOOD), overrides=["attacks.0.steps=" + "[" * 5000])


def test_values_that_are_nested_without_end_are_one_sentence() -> None:
    values: dict[str, Any] = {}
    for _ in range(5000):
        values = {"a": values}
    with pytest.raises(ss.errors.ConfigError, match="nested too deeply"):
        config_of_values(values)
