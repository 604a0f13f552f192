"""The commented study file from which a user starts."""

from __future__ import annotations

from importlib.resources import files

from sigma_ser.core import registry

# Protocols that belong to a corpus; all others are divided by speaker.
_PROTOCOLS = {
    "demo": "demo-voices",
    "tess": "tess-loso2",
    "iemocap": "iemocap4-loso5",
    "iemocap4": "iemocap4-loso5",
}

# Column in which comments begin.
_COMMENT = 36


def study_template(corpus: str = "demo", root: str | None = None) -> str:
    """A commented study of one corpus, with the defaults of this package for everything else.

    Args:
        corpus: a registered corpus.
        root: its folder or table; `None` leaves a placeholder, except for the embedded corpus.

    Returns:
        The text of a TOML file.

    Raises:
        UnknownNameError: if there is no such corpus; the message lists near matches.
    """
    registry.get("corpus", corpus)
    text = files("sigma_ser.cli").joinpath("study_template.toml").read_text("utf-8")
    if root is not None:
        line = f'root = "{_escaped(root)}"'
    elif corpus == "demo":
        line = '# root = "/data/corpus"           # folder of a corpus that is not embedded'
    else:
        line = 'root = "/data/corpus"             # the folder or table of your copy: adapt this'
    protocol = _PROTOCOLS.get(corpus, "speaker-kfold")
    return text.format(
        name="mine",
        corpus=f'name = "{corpus}"'.ljust(_COMMENT),
        root=line,
        protocol=f'protocol = "{protocol}"'.ljust(_COMMENT),
    )


def _escaped(text: str) -> str:
    """Text inside the quotes of a TOML string."""
    return text.replace("\\", "\\\\").replace('"', '\\"')
