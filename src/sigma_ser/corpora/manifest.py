"""A corpus from a table: a CSV, JSON or Parquet file, or one that `save_manifest` wrote."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from sigma_ser.audio.recording import AudioFacts
from sigma_ser.core.errors import CorpusError
from sigma_ser.core.files import whole_file
from sigma_ser.core.registry import register
from sigma_ser.core.utterance import Utterance

from .corpus import Corpus
from .reader import Card, Entry, Listing, Official, Quarantined, Verdict
from .segments import Place
from .table_files import read_rows
from .tables import listing_of_rows

_METADATA = b"sigma_ser.corpus"
_FIELDS = ("id", "path", "label", "speaker", "session", "text_id")
_FACTS = ("sample_rate", "num_samples", "channels", "peak", "content", "subtype")


@register("corpus", "manifest")
@dataclass(frozen=True)
class Manifest:
    """A table with a column for the path and one for the label.

    Args:
        columns: the column of each field, such as `{"label": "emo"}`; usual names (`path` or
            `file`, `label` or `emotion`, `speaker`, `text`, `start`, `end` ...) are found
            automatically, and an empty name is for a field that the table does not have.
        folder: folder of relative paths; by default that of the table.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    folder: str | None = None

    card: ClassVar[Card] = Card(title="A manifest", source="root='table.csv'")
    official: ClassVar[Official | None] = None
    default_root: ClassVar[Path | None] = None

    def list(self, root: Path) -> Listing:
        """The rows of the table."""
        root = root.absolute()
        saved = _saved(root)
        if saved is not None:
            return saved
        folder = root.parent if self.folder is None else Path(self.folder).absolute()
        listing = listing_of_rows(read_rows(root), folder, self.columns, root)
        listing.name = root.stem
        listing.card = Card(title=f"Recordings of {root.name}", source=str(root))
        return listing


def save_manifest(corpus: Corpus, path: Path) -> None:
    """Write a Parquet manifest from which the corpus loads again without reading a recording.

    It contains absolute paths, sizes, modification times, the properties of each recording,
    quarantine, differences and card. Recordings that have changed since are read again.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows: list[dict[str, Any]] = []
    for one in corpus.utterances:
        status = one.path.stat()
        row = {name: str(getattr(one, name)) for name in _FIELDS}
        facts = corpus.facts[one.id]
        rows.append(
            {
                **row,
                "start": one.start,
                "end": one.end,
                **{name: getattr(facts, name) for name in _FACTS},
                "warnings": ",".join(facts.warnings),
                "size": status.st_size,
                "mtime_ns": status.st_mtime_ns,
                **{f"column:{name}": values[one.id] for name, values in corpus.columns.items()},
            }
        )
    metadata = {
        "name": corpus.name,
        "card": asdict(corpus.card),
        "quarantine": [{**asdict(bad), "path": str(bad.path)} for bad in corpus.quarantine],
        "differences": list(corpus.differences),
        "notes": list(corpus.notes),
    }
    table = pa.Table.from_pylist(rows)
    table = table.replace_schema_metadata({_METADATA: json.dumps(metadata)})
    with whole_file(path) as aside:
        pq.write_table(table, aside)


def _saved(root: Path) -> Listing | None:
    """The listing of a manifest by `save_manifest`; `None` for any other table."""
    if root.suffix.lower() != ".parquet" or not root.is_file():
        return None
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        schema = pq.read_schema(root)
    except pa.ArrowInvalid as error:
        raise CorpusError(f"the manifest {root} is not a Parquet file; write it again") from error
    if _METADATA not in (schema.metadata or {}):
        return None
    metadata = json.loads(schema.metadata[_METADATA])
    listing = Listing(
        quarantine=[
            Quarantined(**{**bad, "path": Path(bad["path"])}) for bad in metadata["quarantine"]
        ],
        differences=metadata["differences"],
        notes=metadata["notes"],
        name=metadata["name"],
        card=Card(**metadata["card"]),
    )
    for row in read_rows(root):
        path = Path(row["path"])
        extra = {
            name.removeprefix("column:"): value
            for name, value in row.items()
            if name.startswith("column:")
        }
        place = Place(path, row.get("start"), row.get("end"))
        utterance = Utterance(
            **{**{name: row[name] for name in _FIELDS}, "path": path},
            start=place.start,
            end=place.end,
        )
        facts = AudioFacts(
            **{name: row.get(name, "") for name in _FACTS},
            warnings=tuple(filter(None, row["warnings"].split(","))),
        )
        listing.entries.append(Entry(utterance, extra))
        listing.known[place.key] = Verdict(row["size"], row["mtime_ns"], facts)
    return listing
