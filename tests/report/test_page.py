"""The page: numbers equal independent counts of the rows, names are escaped, edge cases work."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from sigma_ser.core.rows import CELL_COLUMNS
from sigma_ser.report.cells import POOLED_COLUMNS, budgets_of, page_cells
from sigma_ser.report.comparison import break_even
from sigma_ser.report.inputs import ReportInputs
from sigma_ser.report.page import render_page
from sigma_ser.report.tables import write_tables
from sigma_ser.report.writer import write_report

Rows = Callable[..., pl.DataFrame]
Inputs = Callable[..., ReportInputs]
Run = Callable[[Path, ReportInputs], Path]
HOSTILE = "<img src=x onerror=alert(1)></script><script>alert('{}')</script>&amp;\"'"


class Numbers(HTMLParser):
    """Collects every marked number, and the tags that the page is made of."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.marked: list[tuple[str, str]] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.line = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append((tag, given))
        if tag == "tr":
            self.line = given.get("id") or ""
        if tag == "data":
            what = given["data-of"] or ""
            # In the table of all results, the line names the cell.
            what = what if ":" in what or what.startswith("[") else f"cell:{self.line}:{what}"
            self.marked.append((what, given["value"] or ""))


def fresh(rows: list[dict[str, Any]], column: str) -> float | None:
    """A number of a cell by a plain loop over its rows, apart from the code under test."""
    right = [row for row in rows if row["correct_before"]]
    flipped = sum(row["success"] for row in right)
    if column in ("utterances", "flipped"):
        return len(right) if column == "utterances" else flipped
    if column in ("asr", "asr_low", "asr_high"):
        if not right:
            return None
        n, p, z = len(right), flipped / len(right), 1.959963984540054
        middle = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z * ((p * (1 - p) + z * z / (4 * n)) / n) ** 0.5 / (1 + z * z / n)
        return {"asr": p, "asr_low": middle - half, "asr_high": middle + half}[column]
    parts = {
        "passes": ("forwards", "backwards"),
        "mask_passes": ("mask_forwards", "mask_backwards"),
        "passes_total": ("forwards", "backwards", "mask_forwards", "mask_backwards"),
        "seconds_total": ("seconds", "mask_seconds"),
    }.get(column, (column,))
    values = [sum(row[part] for part in parts) for row in right if row[parts[0]] is not None]
    return sum(values) / len(values) if values else None


def test_every_number_equals_a_fresh_count_of_the_rows(
    make_rows: Rows, make_inputs: Inputs
) -> None:
    rows = make_rows(folds=2, utterances=30, sparsities=(0.01, 0.02))
    cells = {cell["cell"]: cell for cell in page_cells(rows).to_dicts()}
    everything = rows.to_dicts()
    behind: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in everything:
        behind.setdefault(tuple(row[name] for name in POOLED_COLUMNS), []).append(row)
    page = render_page(make_inputs(rows))
    marked = Numbers(page).marked
    places = {what for what, _ in marked}
    assert len([what for what in places if what.startswith("cell:")]) >= 14 * len(cells)
    # The strongest attack of each victim, whose emotions and confusions are shown.
    shown = {
        panel: cells[cell]
        for panel, cell in re.findall(
            r'<strong>([\w-]+)</strong> misclassifies <a class="n" tabindex="-1" href="#(c\d+)">',
            page,
        )
    }
    assert set(shown) == {"mean-pool", "bilstm"}
    here = [c for c in cells.values() if (c["sparsity"], c["epsilon"]) == (0.02, 1.0)]
    for what, value in marked:
        if what.startswith("cell:"):
            _, cell, column = what.split(":")
            lines = behind[tuple(cells[cell][name] for name in POOLED_COLUMNS)]
            expected = fresh(lines, column)
        else:
            kind, panel, *rest = json.loads(what)
            if kind == "break-even":
                assert float(value) == pytest.approx(break_even(cells[panel], here)), what
                continue
            lines = behind[tuple(shown[panel][name] for name in POOLED_COLUMNS)]
            if kind == "emotion":
                label, column = rest
                expected = fresh([line for line in lines if line["label"] == label], column)
            else:
                moment, truth, predicted = rest
                expected = sum(
                    line["label"] == truth and line[f"prediction_{moment}"] == predicted
                    for line in lines
                )
        if expected is None:
            assert value == "", what
        else:
            assert float(value) == pytest.approx(expected, abs=1e-9), what


def test_the_cost_of_a_shared_explanation_is_counted_once(
    make_rows: Rows, make_inputs: Inputs
) -> None:
    rows = make_rows(utterances=30, sparsities=(0.02,), epsilons=(1.0,))
    assert '["shared"' not in render_page(make_inputs(rows)).replace("&#34;", '"')
    inside = rows.filter(pl.col("explainer") == "integrated-gradients", pl.col("scope") == 8)
    transferred = inside.filter(pl.col("victim") == "mean-pool").with_columns(
        pl.lit("bilstm").alias("mask_source")
    )
    everything = pl.concat([rows, transferred])
    marked = Numbers(render_page(make_inputs(everything))).marked
    shown = {
        (place[1], place[2]): float(value)
        for what, value in marked
        if what.startswith("[") and (place := json.loads(what))[0] == "shared"
    }
    title = "integrated-gradients ×8 of bilstm"
    assert {name for name, _ in shown} == {title}

    def spent(lines: pl.DataFrame) -> float:
        return sum(fresh(part.to_dicts(), "passes") or 0 for part in lines.partition_by("victim"))

    own = inside.filter(pl.col("victim") == "bilstm")
    free = rows.filter(pl.col("attack") == "dual-averaging", pl.col("explainer").is_null())
    once = 64 + spent(pl.concat([own, transferred]))
    assert shown[title, "once_passes"] == pytest.approx(once)
    assert shown[title, "native_passes"] == pytest.approx(spent(free))


def test_a_replayed_perturbation_is_counted_where_both_victims_were_right(
    make_rows: Rows, make_inputs: Inputs
) -> None:
    rows = make_rows(utterances=40, sparsities=(0.02,), epsilons=(1.0,))
    here = rows.filter(pl.col("attack") == "dual-averaging", pl.col("explainer").is_null())
    rng = np.random.default_rng(3)
    replays = here.select(
        *CELL_COLUMNS,
        "utterance",
        "label",
        "prediction_before",
        "prediction_after",
        pl.when(pl.col("victim") == "bilstm")
        .then(pl.lit("mean-pool"))
        .otherwise(pl.lit("bilstm"))
        .alias("target_victim"),
        pl.lit(0, pl.Int64).alias("target_seed"),
        pl.col("correct_before").alias("source_correct"),
        pl.col("success").alias("source_success"),
    ).with_columns(
        pl.Series("correct_before", rng.random(len(here)) < 0.7),
        pl.Series("success", rng.random(len(here)) < 0.4),
    )
    page = render_page(make_inputs(rows, replays=replays))
    marked = [(json.loads(what), v) for what, v in Numbers(page).marked if what.startswith('["rep')]
    assert len(marked) == 4
    for (_, _, source, target), value in marked:
        both = [
            row
            for row in replays.to_dicts()
            if row["victim"] == source and row["source_correct"] and row["correct_before"]
        ]
        column = "source_success" if source == target else "success"
        assert float(value) == pytest.approx(sum(row[column] for row in both) / len(both))
        assert (f"<small>of {len(both)}</small>" in page) == (source != target and len(both) < 20)
    assert "applied unchanged" not in render_page(make_inputs(rows))


def test_hostile_names_are_text(
    make_rows: Rows, make_inputs: Inputs, make_exemplar: Callable[..., Any]
) -> None:
    rows = make_rows(utterances=14, victims=(HOSTILE,), sparsities=(0.01, 0.02)).with_columns(
        pl.lit(HOSTILE).alias("corpus"), (pl.col("label") + HOSTILE).alias("label")
    )
    plain = make_inputs(make_rows(utterances=14, victims=("x",), sparsities=(0.01, 0.02)))
    hostile = make_inputs(
        rows,
        name=HOSTILE,
        exemplars=[make_exemplar(HOSTILE, text=HOSTILE, speaker=HOSTILE, victim=HOSTILE)],
        corpus_card={HOSTILE: HOSTILE},
        leakage=[{HOSTILE: HOSTILE}],
        study_text=HOSTILE,
    )
    tags = Numbers(render_page(hostile)).tags
    assert [t for t, _ in tags].count("script") == [
        t for t, _ in Numbers(render_page(plain)).tags
    ].count("script")
    assert not [a for _, attributes in tags for a in attributes if a.startswith("on")]
    assert all((a.get("src") or "data:").startswith("data:") for _, a in tags)


def test_hostile_names_are_text_in_markdown(make_rows: Rows, tmp_path: Path) -> None:
    name = "a|b *c* <img src=x> `d` [e](f) \\n~g~\n\n# h"
    rows = make_rows(utterances=14, victims=(name,))
    cells = page_cells(rows)
    write_tables(tmp_path, rows, cells, budgets_of(cells))
    text = (tmp_path / "results.md").read_text("utf-8")
    escaped = r"a\|b \*c\* \<img src=x\> \`d\` \[e\](f) \\n\~g\~ \# h"
    head, _, *lines = text.splitlines()
    assert lines
    assert all(escaped in line for line in lines)
    # As many cells as headings, and no line that is not one of the table.
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {head.count("|")}


def test_the_page_asks_for_nothing_from_elsewhere(make_rows: Rows, make_inputs: Inputs) -> None:
    page = render_page(make_inputs(make_rows(utterances=14)))
    assert "http://" not in page
    assert "https://" not in page
    for tag, attributes in Numbers(page).tags:
        assert tag not in ("link", "iframe", "object", "embed"), tag
        target = attributes.get("src") or attributes.get("href") or "#"
        assert target.startswith(("#", "data:")), target
    ids = [a["id"] for _, a in Numbers(page).tags if "id" in a]
    assert len(ids) == len(set(ids))
    links = {a["href"] for t, a in Numbers(page).tags if t == "a"}
    assert {link[1:] for link in links if link and not link.startswith("#rows-of-")} <= set(ids)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"strength": 0.0}, "No attack causes"),
        ({"utterances": 1}, "utterances that"),
        ({"emotions": ("angry",)}, "No attack causes"),
        ({"consistency": False}, "misclassifies"),
        ({"attacks": (("random", None, None, 1.0, 0.1),)}, "misclassifies"),
        ({"sparsities": (0.01,), "epsilons": (0.5,)}, "misclassifies"),
    ],
    ids=["no success", "one utterance", "one class", "no metrics", "one attack", "one budget"],
)
def test_thin_runs_give_a_sensible_page(
    make_rows: Rows, make_inputs: Inputs, change: dict[str, Any], expected: str
) -> None:
    page = render_page(make_inputs(make_rows(**{"utterances": 21, **change}), exemplars=()))
    assert expected in page
    for word in (">nan", ">None<", "Undefined", "inf%"):
        assert word not in page
    assert ("Consistency of the explanation under attack" in page) == change.get(
        "consistency", True
    )


def test_a_run_without_rows_says_so(
    make_rows: Rows, make_inputs: Inputs, make_run: Run, tmp_path: Path
) -> None:
    rows = make_rows(utterances=3).clear()
    inputs = make_inputs(rows, exemplars=(), victims=(), leakage=())
    page = write_report(make_run(tmp_path, inputs))
    assert "no attacked utterance" in page.read_text("utf-8")


def test_the_report_is_a_page_tables_and_figures(
    make_rows: Rows, make_inputs: Inputs, make_run: Run, tmp_path: Path
) -> None:
    inputs = make_inputs(make_rows(utterances=14, victims=("bilstm",), epsilons=(1.0,)))
    make_run(tmp_path, inputs)
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    page = write_report(tmp_path)
    assert page == tmp_path / "report" / "index.html"
    after = {path for path in tmp_path.rglob("*") if path.is_file()}
    written = {str(path.relative_to(tmp_path)) for path in after - before}
    assert {name for name in written if not name.startswith("analysis/")} == {
        "report/index.html",
        *(f"tables/{name}.csv" for name in ("cells", "cells_by_fold", "victims", "leakage")),
        "tables/results.md",
        "tables/results.tex",
        *(
            f"figures/{name}.{suffix}"
            for name in ("strength", "budget", "front")
            for suffix in ("svg", "pdf", "png")
        ),
    }
    cells = pl.read_csv(tmp_path / "tables" / "cells.csv", infer_schema_length=None)
    assert cells["asr"].to_list() == page_cells(inputs.rows)["asr"].to_list()
    assert cells["asr"].max() <= 1.0, "files hold fractions"


def test_the_recording_can_be_left_out(make_rows: Rows, make_inputs: Inputs) -> None:
    inputs = make_inputs(make_rows(utterances=7))
    assert "data:audio/flac" in render_page(inputs)
    silent = render_page(inputs, audio=False)
    assert "data:audio" not in silent
    assert "Explanation before" in silent


def test_the_embedded_recording_is_the_original(
    make_rows: Rows, make_inputs: Inputs, make_exemplar: Callable[..., Any]
) -> None:
    import base64
    import io

    import soundfile

    exemplar = make_exemplar()
    page = render_page(make_inputs(make_rows(utterances=7), exemplars=[exemplar]))
    (encoded,) = re.findall(r'data:audio/flac;base64,([^"]+)"', page)
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(encoded)), dtype="float32")
    assert rate == 16_000
    assert np.abs(samples - exemplar.waveform).max() < 2**-14
