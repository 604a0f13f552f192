"""The waveforms of utterances as a batch of one channel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sigma_ser.audio.reading import read_audio
from sigma_ser.audio.recording import MAX_SECONDS
from sigma_ser.core.errors import CorpusError
from sigma_ser.core.utterance import Utterance

from .corpus import Corpus

if TYPE_CHECKING:
    from sigma_ser.core.features import FeatureBatch


def waveforms(
    corpus: Corpus, ids: Sequence[str], *, max_seconds: float = MAX_SECONDS
) -> FeatureBatch:
    """Read recordings as a batch of waves, the features of victims of `on_waveform`.

    Args:
        corpus: recordings with labels.
        ids: of the utterances, at least one.
        max_seconds: limit of the duration of a recording in seconds.

    Returns:
        `(B, S, 1)`, 16 kHz, mono, full scale at 1; `lengths` are numbers of samples.

    Raises:
        CorpusError: if `ids` is empty or one string, or an utterance is not in the corpus.
        AudioError: if a recording cannot be used.

    >>> import sigma_ser as ss
    >>> corpus = ss.load_corpus("demo")
    >>> ss.waveforms(corpus, [corpus.utterances[0].id]).x.shape[2]
    1
    """
    if isinstance(ids, str) or not len(ids):
        raise CorpusError(f"ids must be a list of at least one utterance id, got {ids!r}")
    return waves_of([corpus[name] for name in ids], max_seconds=max_seconds)


def waves_of(utterances: Sequence[Utterance], *, max_seconds: float = MAX_SECONDS) -> FeatureBatch:
    """Read the recordings of utterances as `waveforms` does.

    Args:
        utterances: at least one.
        max_seconds: limit of the duration of a recording in seconds.

    Raises:
        AudioError: if a recording cannot be used.
    """
    # Readers of corpora do not wait for torch.
    import torch

    from sigma_ser.core.features import pad

    waves = [
        read_audio(one.path, start=one.start, end=one.end, max_seconds=max_seconds)
        for one in utterances
    ]
    return pad([torch.from_numpy(wave)[:, None] for wave in waves], [one.id for one in utterances])
