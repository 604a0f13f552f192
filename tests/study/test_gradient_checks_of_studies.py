"""Studies check the gradients of each victim, and warn wherever a rate of it is shown."""

from __future__ import annotations

import io
import json
import shutil
from typing import Any

import polars as pl
import pytest
from rich.console import Console

import sigma_ser as ss
from sigma_ser.cli.results import as_json, print_warnings
from sigma_ser.report.audit_sentences import verdict
from sigma_ser.runs.garbage import find_garbage

pytestmark = pytest.mark.slow

VICTIMS = """
import torch
from torch import nn

import sigma_ser as ss

inner = ss.load_victim({folder!r})


class Plain(nn.Module):
    class_names = inner.class_names

    def __init__(self):
        super().__init__()
        self.inner = inner.module

    def forward(self, x, lengths):
        return self.inner(x, lengths)


class Rounded(Plain):
    def forward(self, x, lengths):
        return torch.round(self.inner(x, lengths) * 4) / 4


class Noisy(Plain):
    def forward(self, x, lengths):
        return self.inner(x + 3 * torch.randn_like(x), lengths)


class InCompany(Plain):
    def forward(self, x, lengths):
        return self.inner(x - 0.3 * x.mean((0, 1)), lengths)
"""


@pytest.fixture(scope="module")
def masked(
    tmp_path_factory: pytest.TempPathFactory,
    finished: ss.Study,
    study_values: dict[str, Any],
) -> ss.Study:
    """One head without a shield and behind three of them; their weights are the same."""
    folder = tmp_path_factory.mktemp("masked")
    trained = next(
        path for path in (finished.folder / "victims").iterdir() if "linear" in path.name
    )
    (folder / "shields_of_a_test.py").write_text(VICTIMS.format(folder=str(trained)), "utf-8")
    shutil.copytree(finished.folder / "features", folder / "run" / "features")
    names = {"plain": "Plain", "rounded": "Rounded", "noisy": "Noisy", "company": "InCompany"}
    values = study_values | {
        "victims": [
            {"load": f"shields_of_a_test:{kind}", "name": name} for name, kind in names.items()
        ],
        "budgets": {"sparsity": [0.02], "epsilon": [0.5, 2.0]},
        "consistency": {"explainer": None},
        "explainers": {},
        "attacks": [{"name": "dual-averaging", "steps": 3}],
        "evaluation": {"batch_size": 4, "exemplars": 0},
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        return ss.run(values, out=folder / "run")


def signs(study: ss.Study) -> dict[str, list[str]]:
    return {one["name"]: one["gradient_check"]["signs"] for one in study.victims}


def test_equal_weights_in_different_code_are_different_victims(masked: ss.Study) -> None:
    found = signs(masked)
    assert found["plain"] == []
    assert "zero-gradient" in found["rounded"]
    assert found["noisy"] == ["random"]
    assert "batch-dependent" in found["company"]
    assert set(masked.rows["victim"]) == set(found)


def test_the_victims_of_a_trained_study_have_no_sign(finished: ss.Study) -> None:
    assert [one["gradient_check"]["masked"] for one in finished.victims] == [False, False]


def test_the_warning_is_before_any_rate(masked: ss.Study) -> None:
    page = masked.report.read_text("utf-8")
    warnings = page.split('<p class="warning" role="alert">')
    assert len(warnings) == 4
    assert "data-of" not in "".join(warnings[:3])
    assert "plain" not in "".join(warning.split("</p>")[0] for warning in warnings[1:])
    terminal = io.StringIO()
    print_warnings(Console(file=terminal), masked)
    assert terminal.getvalue().count("no evidence of robustness") == 3
    values = json.loads(as_json(masked))
    assert len(values["warnings"]) == 3
    assert list(values).index("warnings") < list(values).index("attacks")
    assert values["victims"][1]["gradient_check"]["masked"] is True


def test_a_page_without_masked_victims_has_no_warning(finished: ss.Study) -> None:
    assert 'class="warning"' not in finished.report.read_text("utf-8")


def test_the_verdict_on_a_masked_victim_begins_with_the_warning(masked: ss.Study) -> None:
    plain, rounded = masked.victims[:2]
    rows = masked.rows.filter(pl.col("victim") == "rounded")
    checks = {"features": rounded["gradient_check"]}
    assert verdict(rows, rounded["uar"], checks).startswith("Gradients of this recogniser are")
    rows = masked.rows.filter(pl.col("victim") == "plain")
    assert verdict(rows, plain["uar"], {"features": plain["gradient_check"]}).startswith("It rec")


def test_the_check_is_an_artefact_of_the_run(masked: ss.Study) -> None:
    checks = sorted((masked.folder / "gradients").iterdir())
    assert len(checks) == 4
    assert not find_garbage(masked.layout).paths
    record: dict[str, Any] = json.loads((checks[0] / "check.json").read_text("utf-8"))
    assert {"masked", "signs", "utterances", "passes"} <= record.keys()


def test_success_on_a_victim_that_depends_on_the_batch_holds_alone(masked: ss.Study) -> None:
    rows = masked.rows.filter(pl.col("victim") == "company")
    assert not masked.failures
    assert len(rows) == len(masked.rows.filter(pl.col("victim") == "plain"))
    decided = rows["prediction_after"] != rows["label"]
    assert (decided == rows["success"]).all()
