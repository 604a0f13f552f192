"""The page about corpora names everything that there is to name."""

from __future__ import annotations

from pathlib import Path

import sigma_ser as ss
from sigma_ser.audio.faults import REASONS

_PAGE = (Path(__file__).parents[2] / "docs" / "corpora.md").read_text("utf-8")


def test_every_corpus_protocol_and_reason_has_a_line() -> None:
    # Names that other tests or packages registered belong to their own pages.
    shipped = [
        name
        for kind in ("corpus", "protocol")
        for name in ss.registry.names(kind)
        if ss.registry.get(kind, name).__module__.startswith("sigma_ser.")
    ]
    reasons = {*REASONS, "unknown-name", "no-label", "conflicting-copy"}
    assert [name for name in {*shipped, *reasons} if f"| `{name}` |" not in _PAGE] == []
