"""The protocol that reads a fold from a file, such as that of a trained victim."""

from __future__ import annotations

from pathlib import Path

from sigma_ser.core.errors import CorpusError
from sigma_ser.core.registry import register

from .corpus import Corpus
from .folds import PARTS, Fold


@register("protocol", "fold-file")
def fold_file(corpus: Corpus, *, seed: int = 0, file: str = "fold.json") -> list[Fold]:
    """The fold of a file that `Fold.to_json` wrote, such as `fold.json` of a trained victim.

    Ids that the corpus does not have are left out, and so are utterances that are in no part.

    Raises:
        CorpusError: if there is no such file, or the training or test part is empty.
    """
    del seed
    try:
        text = Path(file).read_text("utf-8")
    except OSError as fault:
        raise CorpusError(
            f"no fold can be read from {file} ({fault.strerror}); set file= to one that "
            "Fold.to_json wrote, such as fold.json of a trained victim"
        ) from fault
    fold = Fold.from_json(text)
    known = {one.id for one in corpus.utterances}
    parts = ([name for name in getattr(fold, part) if name in known] for part in PARTS)
    return [Fold(fold.name, *parts)]
