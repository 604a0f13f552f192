"""Notes on degenerate measurements: figures that say less than they seem to.

A success rate of a victim at chance, or the consistency of an explainer that does not depend on the
input, is computed like any other figure. A note names the reason beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sigma_ser.core.rows import CONSISTENCY_METRICS
from sigma_ser.statistics.bootstrap import mean_intervals

from .paired import CONTEST, METHOD
from .rates import UTTERANCE, attacks_only, correct_rows, headline, owners

if TYPE_CHECKING:
    import polars as pl

Note = dict[str, Any]

# Codes with the short names that stand beside a figure.
CODES: dict[str, str] = {
    "at-chance": "victim at chance",
    "too-few": "few utterances",
    "every-attack-succeeds": "every attack succeeds",
    "no-attack-succeeds": "no attack succeeds",
    "constant-explainer": "constant explanation",
    "zero-maps": "maps of zeros",
    "at-floor": "as after a random change",
}
# Rates of fewer utterances have wide intervals.
ENOUGH = 20
_VICTIM = CONTEST[:6]
_PLACE = [name for name in _VICTIM if name != "victim"]
_CELL = (*CONTEST, *METHOD)
# A note is about all cells of a victim, about those of one budget, or about one cell.
_LEVELS = (_VICTIM, CONTEST, _CELL)
_ZEROS = 0.1
# Maps in float32 that differ in rounding only have a cosine this close to 1.
_SAME = 1 - 1e-11


def degenerate(rows: pl.DataFrame, victims: Sequence[Mapping[str, Any]] = ()) -> pl.DataFrame:
    """Name the degenerate measurements of a run.

    - `at-chance`: the 95 % interval of the UAR includes chance, which is 1 / number of classes in
      the test part, or lies below it.
    - `too-few`: fewer than 20 recordings were classified correctly before the attack.
    - `every-attack-succeeds`, `no-attack-succeeds`: all success rates of a victim at a budget are
      1 (are 0). Random controls do not count.
    - `constant-explainer`: on every utterance that was changed, the explanations before and after
      are equal up to a factor, after the attack and after a random change.
    - `zero-maps`: an explanation before or after the attack is zero everywhere, on more than a
      tenth of the utterances.
    - `at-floor`: the bootstrap 95 % interval of a consistency measure minus its floor includes 0.
      Random controls, and cells of a constant explainer, are left out.

    Args:
        rows: the columns of `core.rows`; natural corruptions are left out.
        victims: the lines of `victims.json`, with `name`, `fold`, `uar`, `uar_low`, `uar_high`,
            `confusion`.

    Returns:
        One line for each note: `code`; `text`; `measures`, the columns of `summarise` that it is
        about, separated by commas (null: all of them); `fold`; and the columns of `CONTEST` and
        `METHOD`. The latter are null where the note is about all cells of the victim or of the
        budget.
    """
    import polars as pl

    schema: dict[str, Any] = dict.fromkeys(("code", "text", "measures", "fold"), pl.String)
    rows = headline(attacks_only(rows))
    types = {name: rows.schema[name] for name in _CELL}
    notes = _at_chance(rows, victims)
    if not rows.is_empty():
        cells = _cells(rows).to_dicts()
        notes += _too_few(cells) + _without_contrast(cells) + _explanations(cells)
        notes += _at_floor(rows, cells)
    return pl.DataFrame(notes, schema=schema | types)


class NoteIndex:
    """The notes of each cell.

    Args:
        notes: the result of `degenerate`.
    """

    def __init__(self, notes: pl.DataFrame) -> None:
        self.table = notes
        self.lines: list[Note] = notes.to_dicts()
        self._known: list[dict[tuple[Any, ...], list[Note]]] = [{} for _ in _LEVELS]
        for note in self.lines:
            level = (note["sparsity"] is not None) + (note["attack"] is not None)
            self._known[level].setdefault(_key(note, _LEVELS[level]), []).append(note)

    def of(self, cell: Mapping[str, Any], column: str | None = None) -> list[Note]:
        """The notes about a cell.

        Args:
            cell: a mapping with the columns of `CONTEST` and `METHOD`.
            column: only notes about this column of `summarise`; `None` returns all.

        Returns:
            Lines of `degenerate` as dictionaries.
        """
        found = [
            note
            for known, level in zip(self._known, _LEVELS, strict=True)
            for note in known.get(_key(cell, level), ())
        ]
        return [note for note in found if column is None or is_about(note, column)]


def _key(line: Mapping[str, Any], columns: Sequence[str]) -> tuple[Any, ...]:
    return tuple(line[name] for name in columns)


def is_about(note: Note, column: str) -> bool:
    """Whether a note is about a column of `summarise`."""
    return note["measures"] is None or column in note["measures"].split(",")


def _at_chance(rows: pl.DataFrame, victims: Sequence[Mapping[str, Any]]) -> list[Note]:
    known = rows.select(_VICTIM).unique(maintain_order=True).to_dicts()
    notes = []
    for victim in victims:
        low, high = victim.get("uar_low"), victim.get("uar_high")
        classes = sum(1 for row in victim.get("confusion") or () if sum(row))
        if low is None or high is None or not classes or not low <= 1 / classes:
            continue
        text = (
            f"{victim['name']} is not better than chance on {victim['fold']}: its UAR is "
            f"{_percent(victim['uar'])} (95 % interval {_percent(low)} to {_percent(high)}) with "
            f"{classes} classes, so there is little that an attack could change."
        )
        # Lines of earlier versions and of other tools may lack the corpus.
        notes += [
            {**line, "code": "at-chance", "text": text, "fold": victim["fold"]}
            for line in known
            if line["victim"] == victim["name"]
            and all(victim.get(name, line[name]) == line[name] for name in _PLACE)
        ]
    return notes


def _cells(rows: pl.DataFrame) -> pl.DataFrame:
    """What is counted of each cell, over the utterances classified correctly before the attack."""
    import polars as pl

    wanted = ("correct_before", "success", "l0", "cosine", "cosine_floor", "consistency_explainer")
    correct, cosine = pl.col("correct_before"), pl.col("cosine")
    same = pl.all_horizontal(
        pl.col(name).fill_nan(0).fill_null(0) >= _SAME for name in ("cosine", "cosine_floor")
    )
    changed = correct & cosine.is_not_null() & (pl.col("l0").fill_null(1) > 0)
    explained = pl.col("consistency_explainer").filter(correct)
    return (
        rows.select(list(dict.fromkeys((*_CELL, *UTTERANCE, *wanted))))
        .group_by(_CELL, maintain_order=True)
        .agg(
            pl.struct(UTTERANCE).filter(correct).n_unique().alias("recordings"),
            pl.col("success").filter(correct).mean().alias("rate"),
            explained.drop_nulls().first().alias("explained"),
            cosine.filter(correct).drop_nulls().is_nan().mean().alias("zeros"),
            (changed.any() & same.filter(changed).all()).alias("constant"),
        )
    )


def _too_few(cells: Sequence[Note]) -> list[Note]:
    few = [cell for cell in cells if cell["recordings"] < ENOUGH]

    def text(group: Sequence[Note]) -> str:
        most = max(cell["recordings"] for cell in group)
        return (
            f"{_subject(group)}: {most} utterance{'s were' if most != 1 else ' was'} classified "
            f"correctly before the attack, fewer than {ENOUGH}, so intervals are wide."
        )

    return _collapsed("too-few", few, cells, text)


def _without_contrast(cells: Sequence[Note]) -> list[Note]:
    notes = []
    for group in _grouped([cell for cell in cells if cell["attack"] != "random"], CONTEST):
        rates = {cell["rate"] for cell in group}
        if rates not in ({0.0}, {1.0}):
            continue
        code, what = (
            ("every-attack-succeeds", "every attack succeeds on every utterance")
            if rates == {1.0}
            else ("no-attack-succeeds", "no attack succeeds on any utterance")
        )
        where = {name: group[0][name] for name in CONTEST}
        text = (
            f"{_victim(group[0])}, {_budget(group[0])}: {what}, so this budget does not "
            "distinguish attacks."
        )
        notes.append({**where, "code": code, "text": text, "measures": "asr"})
    return notes


def _explanations(cells: Sequence[Note]) -> list[Note]:
    explained = [cell for cell in cells if cell["explained"] is not None]

    def constant(group: Sequence[Note]) -> str:
        return (
            f"{_subject(group)}: the explanation of {group[0]['explained']} is the same before "
            "and after every change, random changes included, so its consistency does not depend "
            "on the attack."
        )

    def zeros(group: Sequence[Note]) -> str:
        share = max(cell["zeros"] for cell in group)
        return (
            f"{_subject(group)}: the explanation of {group[0]['explained']} is zero everywhere, "
            f"before or after the attack, on {'up to ' if len(group) > 1 else ''}{_percent(share)} "
            "of the utterances; correlations are means over the others."
        )

    every = ",".join(CONSISTENCY_METRICS)
    same = [cell for cell in explained if cell["constant"]]
    empty = [cell for cell in explained if (cell["zeros"] or 0.0) > _ZEROS]
    return [
        {**note, "measures": every}
        for note in (
            *_collapsed("constant-explainer", same, explained, constant),
            *_collapsed("zero-maps", empty, explained, zeros),
        )
    ]


def _at_floor(rows: pl.DataFrame, cells: Sequence[Note]) -> list[Note]:
    import polars as pl

    constant = {_key(cell, _CELL) for cell in cells if cell["constant"]}
    names = [
        name
        for name in CONSISTENCY_METRICS
        if rows[name].count() and rows[f"{name}_floor"].count()
    ]  # fmt: skip
    if not names:
        return []
    floors = [f"{name}_floor" for name in names]
    correct = correct_rows(rows, *_CELL, *UTTERANCE, *names, *floors)
    notes = []
    for key, group in correct.group_by(_CELL, maintain_order=True):
        cell = dict(zip(_CELL, key, strict=True))
        if cell["attack"] == "random" or key in constant:
            continue
        above = group.select(
            (pl.col(name) - pl.col(floor)).cast(pl.Float64)
            for name, floor in zip(names, floors, strict=True)
        ).to_numpy()
        low, high = mean_intervals(above, owner=owners(group))
        equal = [name for name, a, b in zip(names, low, high, strict=True) if a <= 0 <= b]
        if equal:
            text = (
                f"{_subject([cell])}: {', '.join(equal)} after the attack "
                f"{'does' if len(equal) == 1 else 'do'} not differ from after a random change of "
                "the same size (95 % interval of the difference)."
            )
            notes.append({**cell, "code": "at-floor", "text": text, "measures": ",".join(equal)})
    return notes


def _collapsed(
    code: str,
    flagged: Sequence[Note],
    eligible: Sequence[Note],
    text: Callable[[Sequence[Note]], str],
) -> list[Note]:
    """One note for a victim all of whose eligible cells are flagged, else one for each cell."""
    sizes = {_key(group[0], _VICTIM): group for group in _grouped(eligible, _VICTIM)}
    notes = []
    for group in _grouped(flagged, _VICTIM):
        whole = sizes[_key(group[0], _VICTIM)]
        one_explainer = len({cell["explained"] for cell in whole}) == 1
        if len(group) == len(whole) and one_explainer:
            where = {name: group[0][name] for name in _VICTIM}
            notes.append({**where, "code": code, "text": text(group)})
            continue
        notes += [
            {**{name: cell[name] for name in _CELL}, "code": code, "text": text([cell])}
            for cell in group
        ]
    return notes


def _grouped(cells: Sequence[Note], columns: Sequence[str]) -> list[list[Note]]:
    groups: dict[tuple[Any, ...], list[Note]] = {}
    for cell in cells:
        groups.setdefault(_key(cell, columns), []).append(cell)
    return list(groups.values())


def _subject(group: Sequence[Note]) -> str:
    """What a note is about: a victim, or the attack of one cell on it."""
    cell, victim = group[0], _victim(group[0])
    if len(group) > 1:
        return victim
    mask = "" if cell["explainer"] is None else f" in {cell['explainer']} x{cell['scope'] or 1}"
    source = cell["mask_source"]
    mask += "" if source in (None, "own", cell["victim"]) else f" of {source}"
    return f"{victim}, {cell['attack']}{mask}, {_budget(cell)}"


def _victim(cell: Note) -> str:
    return f"{cell['victim']}{' on the waveform' if cell['surface'] == 'waveform' else ''}"


def _budget(cell: Note) -> str:
    snr, what = cell["budget_snr"], "samples" if cell["surface"] == "waveform" else "values"
    strength = f"epsilon {cell['epsilon']:g}" if snr is None else f"{snr:g} dB"
    return f"{100 * cell['sparsity']:g} % of the {what}, {strength}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
