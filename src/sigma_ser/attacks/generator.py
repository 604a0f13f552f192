"""The generator of `staa-net`: a small Wave-U-Net that proposes where and how far to move."""

from __future__ import annotations

import hashlib
import itertools
import json
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from sigma_ser.core.errors import AttackError
from sigma_ser.core.files import write_json, write_tensors

WEIGHTS, CARD = "generator.safetensors", "generator.json"

_FORMAT = 1
# Kernels of the contracting and the expanding path (Stoller, Ewert & Dixon 2018, section 3.1).
_DOWN, _UP = 15, 5
_SLOPE = 0.2


class Generator(nn.Module):
    """Magnitudes and scores of every element in one forward pass.

    A U-Net over time (Wave-U-Net, Stoller et al. 2018) with a factor of 4 between its levels and
    two outputs. Each utterance passes through it alone and at its own length.

    Args:
        channels: channels of the features, 1 for waves; at least 1.
        width: channels of the first level, at least 1; each level has `width` more.
        levels: number of times that the rate is reduced, at least 1.

    Attributes:
        card: how it was trained, as plain data; empty before.
    """

    factor = 4

    def __init__(self, channels: int = 1, *, width: int = 16, levels: int = 3) -> None:
        for name, value in (("channels", channels), ("width", width), ("levels", levels)):
            if value < 1:
                raise AttackError(f"{name} of a generator must be at least 1, got {value}")
        super().__init__()
        self.channels, self.width, self.levels = channels, width, levels
        self.card: dict[str, Any] = {}
        sizes = [width * (level + 1) for level in range(levels + 1)]
        self.down = nn.ModuleList(
            nn.Conv1d(before, size, _DOWN, padding=_DOWN // 2)
            for before, size in zip([channels, *sizes], sizes, strict=False)
        )
        self.up = nn.ModuleList(
            nn.Conv1d(size + deeper, size, _UP, padding=_UP // 2)
            for size, deeper in itertools.pairwise(sizes)
        )
        self.magnitude = nn.Conv1d(width, channels, 1)
        self.score = nn.Conv1d(width, channels, 1)
        self.float()

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.score.weight.device

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        lengths: Int[Tensor, "B"],
        mean: Float[Tensor, "D"],
        scale: Float[Tensor, "D"],
    ) -> tuple[Float[Tensor, "B T D"], Float[Tensor, "B T D"]]:
        """Propose a perturbation.

        Args:
            x: clean features; what lies behind their lengths is ignored.
            lengths: valid frames or samples.
            mean, scale: of the victim, by which the features are standardised.

        Returns:
            Magnitudes in [-1, 1] as shares of the bound, and scores in [0, 1], both zero on
            padding, on the device of `x`.
        """
        parts = [
            self._one(((row[:size] - mean) / scale).to(self.device))
            for row, size in zip(x, lengths.tolist(), strict=True)
        ]
        padded = nn.utils.rnn.pad_sequence(parts, batch_first=True).to(x.device)
        missing = x.shape[1] - padded.shape[1]
        magnitude, score = functional.pad(padded, (0, 0, 0, 0, 0, missing)).unbind(3)
        return magnitude, score

    def _one(self, x: Float[Tensor, "T D"]) -> Float[Tensor, "T D 2"]:
        """Magnitude and score of one utterance."""
        # The level of a recording is no feature of it.
        hidden = (x / _size(x)).T[None]
        multiple = self.factor**self.levels
        hidden = functional.pad(hidden, (0, -hidden.shape[2] % multiple))
        skipped = []
        for level, layer in enumerate(self.down):
            if level:
                skipped.append(hidden)
                hidden = hidden[:, :, :: self.factor]
            hidden = functional.leaky_relu(layer(hidden), _SLOPE)
        for layer, skip in zip(reversed(self.up), reversed(skipped), strict=True):
            rise = functional.interpolate(hidden, size=skip.shape[2], mode="linear")
            hidden = functional.leaky_relu(layer(torch.cat([skip, rise], 1)), _SLOPE)
        magnitude, score = (
            layer(hidden)[0, :, : len(x)].T for layer in (self.magnitude, self.score)
        )
        # Both are normalised over the utterance: outputs that saturate would have no gradient, and
        # scores of exactly 1 no order.
        score = score - score.mean()
        return torch.stack(
            [torch.tanh(2 * magnitude / _size(magnitude)), torch.sigmoid(score / _size(score))], 2
        )

    @property
    def key(self) -> str:
        """A hash of the weights."""
        digest = hashlib.blake2b(digest_size=8)
        for name, value in self.state_dict().items():
            digest.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def __repr__(self) -> str:
        return f"Generator(channels={self.channels}, key={self.key!r})"

    def save(self, folder: str | Path) -> None:
        """Write the weights (safetensors) and the card (JSON) into a folder."""
        folder = Path(folder)
        write_tensors(folder / WEIGHTS, {k: v.contiguous() for k, v in self.state_dict().items()})
        sizes = {"channels": self.channels, "width": self.width, "levels": self.levels}
        write_json(folder / CARD, {"format": _FORMAT, **sizes, "key": self.key, **self.card})

    @classmethod
    def load(cls, folder: str | Path) -> Generator:
        """Read a generator that `save` or `train_generator` has written.

        Raises:
            AttackError: if the folder holds no generator, or its files do not fit together.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        folder = Path(folder)
        try:
            card = json.loads((folder / CARD).read_text("utf-8"))
            sizes = {name: card.pop(name) for name in ("channels", "width", "levels")}
            written, key = card.pop("format"), card.pop("key")
            if written != _FORMAT:
                raise AttackError(f"{folder} has a generator of format {written}, not {_FORMAT}")
            made = cls(**sizes)
            made.load_state_dict(load_file(folder / WEIGHTS))
        except (FileNotFoundError, NotADirectoryError):
            raise AttackError(
                f"{folder} holds no trained generator ({WEIGHTS} and {CARD}); "
                "ss.attacks.train_generator(..., checkpoint=FOLDER) writes one"
            ) from None
        except (ValueError, TypeError, KeyError, RuntimeError, SafetensorError, OSError) as fault:
            raise AttackError(
                f"the generator in {folder} cannot be read ({fault}); train it again"
            ) from fault
        if not all(bool(torch.isfinite(one).all()) for one in made.parameters()):
            raise AttackError(
                f"{folder} has weights that are not finite; train the generator again"
            )
        if made.key != key:
            raise AttackError(
                f"{WEIGHTS} in {folder} does not belong to its {CARD}; train the generator again"
            )
        made.card = card
        return made.eval().requires_grad_(False)


def _size(x: Float[Tensor, "T D"]) -> Float[Tensor, ""]:
    """The root mean square, at least 1e-6; it has a gradient at 0."""
    return (x.square().mean() + 1e-12).sqrt()
