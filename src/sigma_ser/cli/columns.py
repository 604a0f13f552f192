"""The option `--column` of commands that read a table of recordings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

ColumnOption = Annotated[
    list[str] | None,
    typer.Option(
        "--column",
        metavar="FIELD=COLUMN",
        help="Column of a manifest for a field (path, label, speaker, session, text_id, id, start, "
        "end), such as `path=clip`. May be repeated.",
    ),
]


def columns_of(given: Sequence[str] | None) -> dict[str, Any]:
    """The option `columns` of a reader; empty without `--column`.

    Args:
        given: texts such as `path=clip`.

    Raises:
        ConfigError: if a text has no equals sign.
    """
    from sigma_ser.core.errors import ConfigError

    columns = {}
    for text in given or ():
        field, sign, name = text.partition("=")
        if not sign or not field:
            raise ConfigError(f"--column must be FIELD=COLUMN, such as path=clip, got {text!r}")
        columns[field.strip()] = name
    return {"columns": columns} if columns else {}
