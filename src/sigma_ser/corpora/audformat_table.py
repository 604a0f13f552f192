"""A data set in audEERING's audformat: a folder with `db.yaml` and its tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from sigma_ser.core.errors import ConfigError, CorpusError
from sigma_ser.core.registry import register

from .reader import Card, Listing, Official
from .tables import COLUMNS, listing_of_rows


@register("corpus", "audformat")
@dataclass(frozen=True)
class AudformatTable:
    """The tables of an audformat database; needs the package `audformat`.

    Each row of the table `table` is an utterance: a file, or a segment of a file. Columns of other
    tables are joined by file, those of segments by segment. Of columns with the same name, that of
    `table` is used, otherwise that of the first table by name.

    Args:
        table: table whose rows are the corpus; by default the first with a column for the label.
        columns: which column holds which field, such as `{"label": "emo"}`.
    """

    table: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)

    card: ClassVar[Card] = Card(title="An audformat database", source="root='folder of db.yaml'")
    official: ClassVar[Official | None] = None
    default_root: ClassVar[Path | None] = None

    def list(self, root: Path) -> Listing:
        """The rows of the table, with the columns of all tables."""
        try:
            import audformat
        except ImportError as error:
            raise ConfigError(
                "reading an audformat database needs the package audformat; "
                "run: pip install 'sigma-ser[corpora]'"
            ) from error
        root = root.absolute()
        if not (root / "db.yaml").is_file():
            raise CorpusError(f"{root} has no db.yaml; give the folder of an audformat database")
        database = audformat.Database.load(str(root), load_data=True)
        tables = {
            name: database[name].df
            for name in sorted(database.tables)
            if database[name].type
            in {audformat.define.IndexType.FILEWISE, audformat.define.IndexType.SEGMENTED}
        }
        chosen = self._chosen(tables, root)
        # The later of two columns with the same name wins, so the chosen table comes last.
        order = [*reversed([name for name in tables if name != chosen]), chosen]
        cells = [_cells(tables[name]) for name in order]
        rows: list[dict[str, Any]] = []
        for index in tables[chosen].index:
            file, *segment = index if isinstance(index, tuple) else (index,)
            row: dict[str, Any] = {}
            for one in cells:
                row |= one.get(file) or one.get(index) or {}
            row["file"] = file
            rows.append(row | dict(zip(("start", "end"), segment, strict=False)))
        # Columns of these names in a table of files are not segments.
        whole = {} if tables[chosen].index.nlevels > 1 else {"start": "", "end": ""}
        listing = listing_of_rows(
            rows, root, {"path": "file", **whole, **self.columns}, root / "db.yaml"
        )
        listing.name = database.name
        listing.card = Card(
            title=database.name,
            source=str(database.source or root),
            licence=str(database.license or ""),
            citation=str(database.description or ""),
        )
        return listing

    def _chosen(self, tables: Mapping[str, Any], root: Path) -> str:
        label = self.columns.get("label")
        wanted = {label} if label else {"label", *COLUMNS["label"]}
        if self.table is not None:
            if self.table not in tables:
                raise ConfigError(
                    f"{root} has no table {self.table!r} of files or segments; it has "
                    f"{', '.join(tables)}"
                )
            return self.table
        for name, frame in tables.items():
            if wanted & {str(column).lower() for column in frame.columns}:
                return name
        raise CorpusError(
            f"no table of {root} has a column for the label; name it with columns={{'label': ...}}"
        )


def _cells(frame: Any) -> dict[Any, dict[str, Any]]:
    """The cells of a table that have a value, by file or by segment (file, start, end)."""
    return {index: row.dropna().to_dict() for index, row in frame.iterrows()}
