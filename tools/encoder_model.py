"""The demo encoder's architecture, its pretraining heads and loss, and its export."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor

from filterbank import CHANNELS, start_as_filterbank
from pretraining_targets import CODEBOOKS, DIMENSIONS

MASK_LENGTH = 10
IGNORED = -100


def make_config(mask_time_prob: float = 0.0) -> HubertConfig:
    """3.5 M parameters, 50 frames a second; layer norm throughout, so padding is harmless.

    One convolution of 25 ms every 20 ms and one across channels, in the place of wav2vec2's seven:
    the same receptive field (400 samples) and stride (320) at a tenth of the cost, and it can start
    as a filterbank.
    """
    return HubertConfig(
        hidden_size=256, num_hidden_layers=4, num_attention_heads=4, intermediate_size=1024,
        conv_dim=(CHANNELS, CHANNELS), conv_stride=(320, 1), conv_kernel=(400, 1), conv_bias=True,
        feat_extract_norm="layer",
        do_stable_layer_norm=True, num_conv_pos_embeddings=32, num_conv_pos_embedding_groups=16,
        hidden_dropout=0.0, attention_dropout=0.0, activation_dropout=0.0, feat_proj_dropout=0.0,
        final_dropout=0.0, layerdrop=0.0, mask_time_prob=mask_time_prob,
    )  # fmt: skip


def random_encoder(seed: int) -> HubertModel:
    """The architecture with the weights that transformers gives it: the control of the probe."""
    torch.manual_seed(seed)
    return HubertModel(make_config()).eval()


class Pretraining(nn.Module):
    """Encoder, one linear classifier for each codebook, and one linear regression."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        # not zero, or transformers makes no mask embedding; we always pass the mask ourselves
        self.encoder = HubertModel(make_config(mask_time_prob=0.05))
        start_as_filterbank(self.encoder, seed)
        width = self.encoder.config.hidden_size
        self.heads = nn.ModuleDict({k: nn.Linear(width, size) for k, size in CODEBOOKS.items()})
        self.regression = nn.Linear(width, DIMENSIONS)

    def forward(
        self, waves: Tensor, targets: Tensor, descriptions: Tensor, mask: Tensor
    ) -> dict[str, Tensor]:
        """Loss and measurements.

        ``waves (B, samples)`` float32, ``targets (B, T, codebooks)``, ``descriptions (B, T, D)``,
        ``mask (B, T)`` true where the encoder's input frame is replaced by the mask embedding. The
        loss is the mean cross-entropy over codebooks plus 3 times the mean squared error of the
        regression. Masked and visible frames count the same (alpha = 0.5 in HuBERT's terms): in a
        short training the visible ones teach the acoustics.
        """
        hidden = self.encoder(waves, mask_time_indices=mask).last_hidden_state
        valid = targets[..., 0] != IGNORED
        hidden_part, seen_part = mask & valid, ~mask & valid
        report: dict[str, Tensor] = {}
        entropy = hidden.new_zeros(())
        for i, (key, head) in enumerate(self.heads.items()):
            logits = head(hidden)
            each = functional.cross_entropy(
                logits.transpose(1, 2), targets[..., i], reduction="none"
            )
            masked, seen = each[hidden_part].mean(), each[seen_part].mean()
            entropy = entropy + (masked + seen) / (2 * len(self.heads))
            with torch.no_grad():
                right = (logits.argmax(-1) == targets[..., i]).float()
                report[f"{key}_masked_accuracy"] = right[hidden_part].mean()
                report[f"{key}_seen_accuracy"] = right[seen_part].mean()
        error = (self.regression(hidden) - descriptions).square().mean(-1)
        masked, seen = error[hidden_part].mean(), error[seen_part].mean()
        report["entropy"] = entropy.detach()
        report["error_masked"], report["error_seen"] = masked.detach(), seen.detach()
        report["loss"] = entropy + 3.0 * (masked + seen) / 2
        return report


def export(encoder: HubertModel, out: Path) -> None:
    """Save in ``transformers`` format: float16 weights that load as float32."""
    half = HubertModel(make_config())
    state = {k: v for k, v in encoder.state_dict().items() if k != "masked_spec_embed"}
    half.load_state_dict(state)
    half.half().save_pretrained(out)
    # transformers takes the dtype to compute in from the config, not from the file
    path = out / "config.json"
    config = json.loads(path.read_text())
    config["dtype"] = "float32"
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    Wav2Vec2FeatureExtractor(
        feature_size=1, sampling_rate=16_000, padding_value=0.0, return_attention_mask=True,
        do_normalize=True,  # costs the cue of loudness, but recording levels say nothing
    ).save_pretrained(out)  # fmt: skip
