"""The laws of corpus readers."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sigma_ser.core import registry
from sigma_ser.corpora.corpus import Corpus, load_corpus
from sigma_ser.corpora.reader import Listing, Reader

from .laws import require


def check_corpus(reader: str | Reader, root: str | os.PathLike[str], **options: Any) -> None:
    """Check the laws of a corpus reader on a copy of its corpus; a small one will do.

    The reader states title and licence; listing reads only, and twice the same; the paths of the
    entries are absolute and below the folder; ids are unique and safe as file names; every
    utterance has a label; ids, labels, speakers, sessions and texts do not depend on where the
    folder lies.

    Args:
        reader: a registered name, or a reader.
        root: the folder of the corpus.
        options: of a reader that is given by name.

    Raises:
        ConformanceError: names the first law that is broken.
        CorpusError: if the folder holds no usable recording.

    >>> import sigma_ser as ss
    >>> from sigma_ser import demo
    >>> from sigma_ser.testing import check_corpus
    >>> check_corpus("demo", demo.corpus_path())
    """
    made: Any = registry.make("corpus", reader, options) if isinstance(reader, str) else reader
    require(isinstance(made, Reader), made, "lacks a part of a Reader: card, official, list")
    require(bool(made.card.title), made, "has a card without a title")
    require(
        made.official is None or bool(made.card.source and made.card.licence),
        made,
        "states official counts and a card without source or licence",
    )
    folder = Path(root).absolute()
    before = list(_files(folder))
    listing = made.list(folder)
    require(isinstance(listing, Listing), made, "does not return a Listing")
    require(list(_files(folder)) == before, made, "changes files of the corpus when it lists them")
    _check_entries(made, listing)
    corpus = load_corpus(made, folder, remember=False)
    _check_corpus(made, corpus)
    require(
        load_corpus(made, folder, remember=False).key == corpus.key,
        made,
        "lists another corpus at a second call",
    )
    with tempfile.TemporaryDirectory() as elsewhere:
        # A manifest is one file; its recordings lie beside it.
        held = folder if folder.is_dir() else folder.parent
        link = Path(elsewhere) / held.name
        link.symlink_to(held, target_is_directory=True)
        moved = load_corpus(made, link / folder.relative_to(held), remember=False)
    require(
        _described(moved) == _described(corpus),
        made,
        "gives other utterances when the folder of the corpus lies elsewhere",
    )


def _check_entries(reader: Reader, listing: Listing) -> None:
    require(len(listing.entries) > 0, reader, "lists no recording")
    for entry in listing.entries:
        one = entry.utterance
        require(one.path.is_absolute(), reader, f"lists the path {one.path}, which is not absolute")
        require(one.path.is_file(), reader, f"lists {one.path}, which is not a file")
        require(
            bool(one.id) and Path(one.id).name == one.id,
            reader,
            f"lists the id {one.id!r}, which is no file name",
        )
        require(bool(one.label), reader, f"lists {one.id!r} without a label")


def _check_corpus(reader: Reader, corpus: Corpus) -> None:
    names = corpus.class_names
    require(
        tuple(sorted(set(names))) == tuple(names),
        reader,
        f"makes class names that are not sorted: {names}",
    )
    ids = [one.id for one in corpus]
    require(len(set(ids)) == len(ids), reader, "makes a corpus with an id that occurs twice")


def _described(corpus: Corpus) -> list[tuple[str, ...]]:
    return [(one.id, one.label, one.speaker, one.session, one.text_id) for one in corpus]


def _files(root: Path) -> Iterator[tuple[str, int, int]]:
    """Path, size and modification time of each file."""
    if root.is_file():
        yield str(root), root.stat().st_size, root.stat().st_mtime_ns
    for folder, folders, names in os.walk(root):
        folders.sort()
        for name in sorted(names):
            facts = os.stat(os.path.join(folder, name))
            yield os.path.join(folder, name), facts.st_size, facts.st_mtime_ns
