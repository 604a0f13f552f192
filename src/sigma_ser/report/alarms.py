"""Alarms on the page and as a table of a paper: how well explanations reveal attacks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sigma_ser.evaluate.alarm.table import CONTROL, EVASION, NONE

from .cells import SETTING
from .display_names import FREE, display_name, method_names
from .formats import budget_text, percent
from .paper_table import Entry, Line, PaperTable, Style
from .setting_words import with_settings

if TYPE_CHECKING:
    import polars as pl

# By the features that they use, in the order of the columns.
ALARMS: dict[str, str] = {"map": "map", "margin": "margin", "all": "map and margin"}
# With fewer utterances, scores of clean against clean ones already seem to differ.
_ENOUGH = 30
_METHOD = (
    "attack", "attack_settings", "attack_seed", "victim_seed", "explainer", "mask_source", "scope",
)  # fmt: skip


@dataclass(frozen=True)
class AlarmLine:
    """One attack on one victim, with the lines of `alarm_table` for each alarm by name.

    `kind` is that of the page's cells.
    """

    method: str
    kind: str
    by_alarm: Mapping[str, Mapping[str, Any]]

    @property
    def first(self) -> Mapping[str, Any]:
        """The line of the first alarm; names of the attack are the same in each."""
        return next(iter(self.by_alarm.values()))

    @property
    def success(self) -> list[float]:
        """Success rates; several where each alarm has an attack of its own."""
        rates = [one["asr"] for one in self.by_alarm.values() if one["asr"] is not None]
        return list(rates) if self.kind == "evasion" else rates[:1]


@dataclass(frozen=True)
class AlarmPanel:
    """The alarms of one victim at the reference budget."""

    title: str
    explainer: str
    fitted_on: str
    lines: Sequence[AlarmLine]

    @property
    def finding(self) -> str:
        """The result of the alarm on the map in one or two sentences."""
        known = next((one for one in self.lines if one.kind not in {"evasion", "none"}), None)
        evasion = next((one for one in self.lines if one.kind == "evasion"), None)
        first = _detected(known)
        if known is None or first is None:
            return "No attack succeeded, so there is nothing to detect."
        text = (
            f"At 5\u202f% false alarms the alarm on the map detects {percent(first['rate'])} of "
            f"the {first['utterances']} successful attacks of {known.method}."
        )
        if first["clean"] < _ENOUGH:
            text += f" Figures of fewer than {_ENOUGH} clean utterances say little."
        if evasion is None:
            return text
        second = _detected(evasion)
        rates = [one.by_alarm["map"]["asr"] for one in (evasion, known)]
        detected = (
            "" if second is None else f", and {percent(second['rate'])} of these are detected"
        )
        return (
            f"{text} The attack that knows it succeeds on {percent(rates[0])} of the utterances "
            f"instead of {percent(rates[1])}{detected}."
        )


def _detected(line: AlarmLine | None) -> Mapping[str, Any] | None:
    """The figures of the alarm on the map, where an attack succeeded."""
    found = None if line is None else line.by_alarm.get("map")
    return found if found is not None and found["auroc"] is not None else None


def alarm_panels(
    table: pl.DataFrame | None, budget: tuple[float, float] | None
) -> list[AlarmPanel]:
    """The alarms of each victim at one budget.

    Args:
        table: of `evaluate.alarm.alarm_table`; `None` without alarms.
        budget: sparsity and epsilon.
    """
    import polars as pl

    if table is None or table.is_empty() or budget is None:
        return []
    here = table.filter((pl.col("sparsity") == budget[0]) & (pl.col("epsilon") == budget[1]))
    varying = [name for name in SETTING if table[name].n_unique() > 1]
    panels = []
    by = [*SETTING, "victim"]
    for group in here.partition_by(by, maintain_order=True):
        first = group.row(0, named=True)
        title = " · ".join([first["victim"], *(str(first[name]) for name in varying)])
        lines = list(_lines(group))
        # The attack that the alarms are fitted on comes first, and what is no attack last.
        order = [*first["fitted_on"].split(", "), "", EVASION, CONTROL, NONE]
        lines.sort(key=lambda line: _place(line, order))
        panels.append(AlarmPanel(title, first["alarm_explainer"], first["fitted_on"], lines))
    return panels


def _lines(group: pl.DataFrame) -> Iterator[AlarmLine]:
    others = group.select("attack", "attack_settings").unique(maintain_order=True).to_dicts()
    for same in group.partition_by(_METHOD, maintain_order=True):
        by_alarm = {one["alarm"]: one for one in same.to_dicts()}
        first = next(iter(by_alarm.values()))
        attack = str(first["attack"])
        kinds = {EVASION: "evasion", NONE: "none", CONTROL: "control"}
        kind = kinds.get(attack, "native" if first["explainer"] is None else "mask")
        yield AlarmLine(_words(first, others), kind, by_alarm)


def _place(line: AlarmLine, order: Sequence[str]) -> tuple[int, bool]:
    attack = line.first["attack"]
    place = order.index(attack) if attack in order else order.index("")
    return place, line.kind == "mask"


def _words(line: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> str:
    """An attack with its mask, by the names of the study file."""
    if line["attack"] == EVASION:
        return "attack that knows the alarm"
    if line["attack"] == NONE:
        return "other clean utterances"
    every = [one["attack_settings"] for one in others if one["attack"] == line["attack"]]
    attack = with_settings(line["attack"], line["attack_settings"], every)
    if line["explainer"] is None:
        return attack
    owner = "" if line["mask_source"] in (None, "own") else f" of {line['mask_source']}"
    return f"{attack} in {line['explainer']} ×{line['scope'] or 1}{owner}"


def _name(line: AlarmLine, panel: AlarmPanel) -> str:
    """An attack with its mask, as a paper writes it."""
    if line.kind in {"evasion", "none"}:
        return line.method.capitalize()
    attack, explanation, mask = method_names(line.first, [one.first for one in panel.lines])
    return attack if mask == FREE else f"{attack} in {explanation}, {mask}"


def _paper_lines(panel: AlarmPanel) -> Iterator[tuple[str, Mapping[str, Mapping[str, Any]]]]:
    """Name and alarms of each line; an attack that knows an alarm has a line for each of them."""
    for line in panel.lines:
        if line.kind != "evasion":
            yield _name(line, panel), line.by_alarm
            continue
        for alarm, title in ALARMS.items():
            if alarm in line.by_alarm:
                yield f"Attack that knows the alarm on {title}", {alarm: line.by_alarm[alarm]}


def _entries(by_alarm: Mapping[str, Mapping[str, Any]]) -> Iterator[Entry]:
    """Success rate, then AUROC and rate of each alarm."""
    yield Entry(next(iter(by_alarm.values()))["asr"])
    for name in ALARMS:
        one = by_alarm.get(name)
        for rate in ("auroc", "rate"):
            yield (
                Entry(None)
                if one is None
                else Entry(one[rate], one[f"{rate}_low"], one[f"{rate}_high"])
            )


def alarm_paper_table(
    table: pl.DataFrame | None, budget: tuple[float, float] | None
) -> PaperTable | None:
    """The alarms as a table of a paper; `None` without alarms."""
    panels = alarm_panels(table, budget)
    if not panels or budget is None:
        return None
    lines = [
        Line(panel.title, (name,), tuple(_entries(by_alarm)), reference=True)
        for panel in panels
        for name, by_alarm in _paper_lines(panel)
    ]
    columns = [("", "Success"), *(
        (title, heading) for title in ALARMS.values() for heading in ("AUROC", "at 5 %")
    )]  # fmt: skip
    fitted_on = ", ".join(display_name(one) for one in panels[0].fitted_on.split(", "))
    caption = (
        f"Detection of attacks from one saliency map ({display_name(panels[0].explainer)}): AUROC, "
        "and share detected at 5 % false alarms in per cent, each with its 95 % interval; alarms "
        f"fitted on {fitted_on}, {budget_text(*budget)}"
    )
    styles: list[Style] = ["rate"]
    for _ in ALARMS:
        styles += ["decimal", "rate"]
    return PaperTable("alarm", caption, ("Attack",), tuple(columns), tuple(lines), tuple(styles))
