"""Audio files as 16 kHz mono float32, the quality of changed audio, and natural corruptions.

Whatever cannot be used raises a typed error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sigma_ser.core.lazy import lazy_names

if TYPE_CHECKING:
    from .quality import AudioQuality as AudioQuality
    from .quality import audio_quality as audio_quality
    from .reading import inspect_audio as inspect_audio
    from .reading import read_audio as read_audio
    from .reading import read_utterance as read_utterance
    from .reading import stream_audio as stream_audio
    from .recording import AudioFacts as AudioFacts

_HOMES = {
    "AudioFacts": "recording",
    "AudioQuality": "quality",
    "audio_quality": "quality",
    "inspect_audio": "reading",
    "read_audio": "reading",
    "read_utterance": "reading",
    "stream_audio": "reading",
}

if not TYPE_CHECKING:
    __getattr__, __dir__, __all__ = lazy_names(__name__, _HOMES)
