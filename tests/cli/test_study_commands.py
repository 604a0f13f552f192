"""run --dry-run, status, diff, gc and audit, on one small run."""

from __future__ import annotations

import csv
import json
import shutil
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import polars as pl
import pytest
import typer
from typer.testing import CliRunner

import sigma_ser as ss
from sigma_ser.cli import audit, diff, gc, run, status
from sigma_ser.core.errors import ConfigError, RunError
from sigma_ser.core.files import content_key
from sigma_ser.demo import corpus_path
from sigma_ser.study import estimate
from sigma_ser.study.audit import audit_study

app = typer.Typer()
for command in (run.run, status.status, diff.diff, gc.gc, audit.audit):
    app.command()(command)

STUDY = """
name = "small"

[corpus]
name = "manifest"
root = "{root}"
protocol = "speaker-kfold"
protocol_settings = {{ folds = 3 }}
folds = [0]

[encoder]
name = "demo"

[[victims]]
head = "linear"
epochs = 20
learning_rate = 0.01

[consistency]
explainer = "gradient"

[evaluation]
exemplars = 0

[executor]
name = "inline"

[[attacks]]
name = "dual-averaging"
steps = 3
explainers = ["gradient"]
"""


@pytest.fixture(scope="module")
def study_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    with (corpus_path() / "index.csv").open(newline="") as file:
        rows = [
            row
            for row in csv.DictReader(file)
            if row["speaker"] in {"f1", "m1", "f4"}
            and row["label"] in {"angry", "sad"}
            and row["text_id"] in {"bean", "chalk", "dog", "fall", "goose", "home"}
        ]
    with (folder / "corpus.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["id", "path", "label", "speaker", "text"])
        writer.writeheader()
        for row in rows:
            path = str((corpus_path() / row["path"]).resolve())
            kept = {name: row[name] for name in ("id", "label", "speaker")}
            writer.writerow({**kept, "path": path, "text": row["text_id"]})
    study = folder / "study.toml"
    study.write_text(STUDY.format(root=folder / "corpus.csv"), "utf-8")
    return study


@pytest.fixture(scope="module")
def done(study_file: Path) -> Path:
    """The folder of the finished run."""
    return ss.run(study_file, out=study_file.parent / "run").folder


def said(*arguments: str, status: int = 0) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == status, (result.output, result.exception)
    return result.stdout


def values_of(*arguments: str, status: int = 0) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(said(*arguments, "--json", status=status))
    return values


def test_a_dry_run_tells_what_is_there_and_writes_nothing(study_file: Path, done: Path) -> None:
    new = study_file.parent / "new"
    values = values_of("run", str(study_file), "--dry-run", "--out", str(new))
    assert not new.exists()
    assert values["cells"] == 2
    assert [stage["name"] for stage in values["stages"]] == [
        "features", "victims", "gradients", "explanations", "floors", "attacks",
    ]  # fmt: skip
    assert all(stage["cached"] == 0 for stage in values["stages"])
    # The time of the stages, and that of the program and the page.
    assert values["seconds"] > sum(stage["seconds"] for stage in values["stages"]) / 2 + 5
    # The disk is values as it is taken: features and maps make nearly all of it.
    files = [
        path for kind in ("features", "saliency", "attacks") for path in (done / kind).rglob("*")
    ]
    taken = sum(path.stat().st_size for path in files if path.is_file())
    assert values["bytes"] == pytest.approx(taken, rel=0.15)
    again = values_of("run", str(study_file), "--dry-run", "--out", str(done))
    assert all(stage["cached"] == stage["total"] > 0 for stage in again["stages"])
    assert (again["seconds"], again["bytes"]) == (0, 0)


def test_a_dry_run_measures_each_certificate_once(
    study_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bound takes from milliseconds to seconds, which depends on the head and the budget."""
    measured = []

    def bound(*given: Any) -> None:
        measured.append((len(given[1]), given[3].epsilon))

    monkeypatch.setattr(estimate, "certify", bound)
    changes = ["certificates=[{}]", "budgets.epsilon=[0.5, 1.0]"]
    found = estimate.estimate_study(study_file, out=tmp_path / "new", overrides=changes)
    assert measured == [(1, 0.5), (1, 1.0)]
    (stage,) = (one for one in found.stages if one.name == "certificates")
    assert stage.total == 2


def test_the_schema_knows_every_section() -> None:
    schema = json.loads(said("run", "--schema"))
    assert {"corpus", "encoder", "victims", "attacks", "include"} <= set(schema["properties"])


def test_status_of_a_finished_run_and_of_no_run(done: Path, tmp_path: Path) -> None:
    values = values_of("status", str(done))
    assert values["state"] == "finished"
    assert all(stage["done"] == stage["total"] for stage in values["stages"])
    assert "finished" in said("status", str(done))
    with pytest.raises(RunError, match="is not a run folder"):
        CliRunner().invoke(app, ["status", str(tmp_path)], catch_exceptions=False)


def test_notes_stand_in_the_terminal_and_in_json(study_file: Path, done: Path) -> None:
    """The gradient of a linear head is constant; 12 test utterances are few."""
    values = values_of("run", str(study_file), "--out", str(done))
    notes = {note["code"]: note["text"] for note in values["notes"]}
    assert {"constant-explainer", "too-few"} <= set(notes)
    for cell in values["attacks"]:
        assert {"constant-explainer", "too-few"} <= set(cell["notes"])
    text = " ".join(said("run", str(study_file), "--out", str(done)).split())
    for code in ("constant-explainer", "too-few"):
        assert text.count(f"Note ({code}): {notes[code]}") == 1
    written = pl.read_csv(done / "analysis" / "notes.csv")
    assert set(written["code"]) == {note["code"] for note in values["notes"]}


def test_diff_finds_what_was_changed(study_file: Path, done: Path, tmp_path: Path) -> None:
    assert not values_of("diff", str(done), str(done))["differ"]
    other = tmp_path / "other"
    shutil.copytree(done, other)
    ss.run(study_file, out=other, overrides=["attacks.0.steps=1", "evaluation.exemplars=1"])
    values = values_of("diff", str(done), str(other), status=1)
    assert {one["what"] for one in values["settings"]} == {
        "attacks.0.steps",
        "evaluation.exemplars",
    }
    assert values["victims"] == []
    assert values["environment"] == []
    assert "all 0 rows" not in said("diff", str(done), str(other), status=1)


def test_gc_keeps_what_the_study_needs(study_file: Path, done: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(done, folder)
    assert values_of("gc", str(folder)) == {"paths": [], "bytes": 0, "removed": False}
    before = {path.relative_to(folder) for path in folder.rglob("*")}
    ss.run(study_file, out=folder, overrides=["attacks.0.steps=1"])
    ss.run(study_file, out=folder)
    (folder / "attacks" / ".part-00000.0a1b2c3d.parquet").write_text("left behind")
    declined = CliRunner().invoke(app, ["gc", str(folder)], input="n\n")
    assert "3 items" in declined.stdout
    values = values_of("gc", str(folder), "--yes")
    assert values["removed"]
    assert len(values["paths"]) == 3
    assert {path.relative_to(folder) for path in folder.rglob("*")} == before
    with pytest.raises(ConfigError, match="the argument 'study' is missing; give a study file"):
        CliRunner().invoke(app, ["run"], catch_exceptions=False)
    (tmp_path / "photographs").mkdir()
    with pytest.raises(RunError, match="photographs is not a run folder"):
        CliRunner().invoke(app, ["gc", str(tmp_path / "photographs")], catch_exceptions=False)
    assert not list((tmp_path / "photographs").iterdir())


def test_an_audit_ends_in_a_verdict(done: Path, study_file: Path) -> None:
    (victim,) = (done / "victims").iterdir()
    out = done.parent / "audit"
    shutil.copytree(done / "features", out / "features")
    values = values_of(
        "audit", str(victim), str(study_file.parent / "corpus.csv"), "--out", str(out),
        "--utterances", "4", "--set", 'executor={name="inline"}', "--set", "evaluation.exemplars=0",
        "--set", "consistency.settings={steps=2}", "--set", "budgets.sparsity=[0.01]",
        "--set", 'corruptions=[{name="telephone"}]',
    )  # fmt: skip
    assert values["verdict"] is None
    assert values["summary"].startswith("It recognises the emotions with")
    assert "misclassifies" in values["summary"]
    assert (out / "verdict.txt").read_text("utf-8").strip() == values["summary"]
    assert Path(values["report"]).exists()
    record = json.loads((out / "audit.json").read_text("utf-8"))
    assert record["criteria"] == []
    assert {name: values[name] for name in record} == record
    assert "No verdict" in (out / "report" / "audit.html").read_text("utf-8")
    rows = pl.read_parquet(out / "rows.parquet")
    fold = ss.load_victim(victim).fold
    assert fold is not None
    assert set(rows["utterance"]) <= set(fold.test)


def test_an_audit_against_criteria_declared_before(
    done: Path, study_file: Path, tmp_path: Path
) -> None:
    (victim,) = (done / "victims").iterdir()
    criteria, out = tmp_path / "criteria.toml", tmp_path / "audit"
    shutil.copytree(done / "features", out / "features")
    limit = "[[attack_success]]\nsparsity = 0.01\nepsilon = 0.5\nat_most = {}\n"
    on_audio = "surface='waveform'\nsparsity = 1.0\nsnr = 30\nat_most = 1.0\n"
    noise = "[[corrupted]]\ncorruption = 'white-noise'\nsnr = 20\nat_most = 1.0\n"
    criteria.write_text(
        "utterances = 1\nclean_uar = 1.0\n"
        + limit.format(1.0) + "[[attack_success]]\n" + on_audio + noise
    )  # fmt: skip
    call = [
        "audit", str(victim), str(study_file.parent / "corpus.csv"), "--out", str(out), "--json",
        "--utterances", "4", "--set", 'executor={name="inline"}', "--set", "evaluation.exemplars=0",
        "--set", "consistency.settings={steps=2}", "--criteria", str(criteria),
        "--surface", "both", "--waveform-utterances", "2", "--set", "attacks.4.max_passes=4",
        "--set", "budgets.waveform_sparsity=[1.0]", "--set", "budgets.snr=[30]",
        "--set", 'corruptions=[{name="white-noise", snr=20}]',
    ]  # fmt: skip

    def audited() -> tuple[int, dict[str, Any]]:
        done = CliRunner().invoke(app, call)
        return done.exit_code, json.loads(done.stdout)

    status, record = audited()
    uar, success, waves, noisy = record["criteria"]
    assert (status, record["verdict"]) == (3, "fail" if uar["high"] < 1 else "inconclusive")
    assert (success["result"], success["limit"]) == ("pass", 1.0) or record["findings"]
    schema = json.loads(files("sigma_ser.report").joinpath("audit.schema.json").read_text("utf-8"))
    jsonschema.validate(json.loads((out / "audit.json").read_text("utf-8")), schema)
    # Every figure can be computed again from the rows.
    rows = pl.read_parquet(out / "rows.parquet").filter(pl.col("attack") != "random")
    here = rows.filter("correct_before", surface="features")
    fooled = here.group_by("utterance").agg(pl.col("success").any())["success"]
    assert (success["measured"], success["n"]) == (fooled.mean(), len(fooled))
    waveform = rows.filter("round_trip_correct", surface="waveform")
    for line, attack in ((waves, "sigma-autoattack"), (noisy, "white-noise")):
        outcomes = waveform.filter(attack=attack)["round_trip_success"]
        assert (line["measured"], line["n"]) == (outcomes.mean(), len(outcomes))
    assert [one["surface"] for one in record["attacks"]] == ["features", "waveform"]
    assert set(record["gradient_check"]["surfaces"]) == {"features", "waveform"}
    assert record["threat_model"]["surface"] == "both"
    # Limits that are changed once results exist were not declared before.
    criteria.write_text("utterances = 1\n" + limit.format(1.0))
    status, record = audited()
    assert (status, record["verdict"]) == (3, "inconclusive")
    assert record["findings"][0]["code"] == "criteria-changed"
    criteria.write_text(limit.format(2.0))
    failed = CliRunner().invoke(app, call)
    assert "line 4: attack_success.0.at_most must be at most 1" in str(failed.exception)


def test_an_audit_attacks_no_training_utterance_of_the_victim(
    done: Path, study_file: Path, tmp_path: Path
) -> None:
    corpus = study_file.parent / "corpus.csv"
    store = ss.FeatureStore(next((done / "features").iterdir()))
    recordings = ss.load_corpus("manifest", corpus)

    def audited(victim: Path, manifest: Path) -> set[str]:
        section = audit_study(str(victim), str(manifest))["corpus"]
        folds = ss.make_folds(
            ss.load_corpus("manifest", manifest),
            section["protocol"],
            **section["protocol_settings"],
        )
        return set(folds[section["folds"][0]].test)

    # Folds of one name, of another seed and of another number: the name says nothing.
    for number, settings in enumerate([{"seed": 0}, {"seed": 1}, {"seed": 0, "folds": 4}]):
        fold = ss.make_folds(recordings, "random-stratified", **settings)[0]
        victim = ss.train(store, fold, head="linear", epochs=1).save(tmp_path / str(number))
        assert audited(victim, corpus) == set(fold.test)

    lines = corpus.read_text().splitlines()
    held = [line for line in lines[1:] if line.split(",")[0] in fold.test]
    unrelated, training = tmp_path / "unrelated.csv", tmp_path / "training.csv"
    unrelated.write_text("\n".join([lines[0], *held]))
    training.write_text("\n".join(line for line in lines if line not in held))
    assert audit_study(str(victim), str(unrelated))["corpus"]["protocol"] == "random-stratified"
    with pytest.raises(ConfigError, match=r"was trained on recordings of .* none of the test part"):
        audited(victim, training)
    with pytest.raises(ConfigError, match=r"no file or folder /nowhere/it\.csv"):
        audit_study(str(victim), "/nowhere/it.csv")
    (victim / "fold.json").unlink()
    with pytest.raises(ConfigError, match=r"was trained on, since fold\.json is missing; copy it"):
        audited(victim, corpus)
    # As versions saved it that did not keep the fold.
    card = json.loads((victim / "card.json").read_text("utf-8"))
    for name in ("fold_key", "seal"):
        del card[name]
    card["seal"] = content_key(card)
    (victim / "card.json").write_text(json.dumps(card), "utf-8")
    with pytest.raises(
        ConfigError, match=r"did not record that .* fold .* name that split in a study"
    ):
        audited(victim, corpus)
