"""Class names: one spelling for each emotion that corpora spell differently."""

from __future__ import annotations

# Other spellings of the same word; different emotions are never merged here.
_SPELLINGS = {
    "neutral": ("neu", "neutrality"),
    "happy": ("hap", "happiness"),
    "sad": ("sadness",),
    "angry": ("ang", "anger"),
    "fear": ("fea", "fearful"),
    "disgust": ("dis", "disgusted"),
    "surprise": (
        "sur", "surprised", "ps", "pleasant surprise", "pleasant surprised", "pleasantsurprise",
        "pleasantsurprised",
    ),
    "calm": ("calmness",),
    "frustrated": ("fru", "frustration"),
    "excited": ("exc", "excitement"),
    "bored": ("boredom",),
}  # fmt: skip
_CANONICAL = {other: name for name, others in _SPELLINGS.items() for other in (name, *others)}


def canonical_label(text: str) -> str:
    """The class name of an emotion; other words are returned in lower case.

    >>> canonical_label("Pleasant_surprised"), canonical_label("Anger"), canonical_label("Joy")
    ('surprise', 'angry', 'joy')
    """
    plain = " ".join(text.replace("_", " ").replace("-", " ").lower().split())
    return _CANONICAL.get(plain, plain.replace(" ", "_"))
