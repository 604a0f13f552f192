"""w2v-BERT 2.0 (Barrault et al. 2023): a Conformer on log-mel features."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sigma_ser.core.errors import EncoderError
from sigma_ser.core.features import valid_frames
from sigma_ser.core.registry import register
from sigma_ser.encoders.source import is_count

from .convolutional import Convolutional

_WINDOW, _HOP = 400, 160
_EMPHASIS = 0.97
_MEL_FLOOR = 1.192092955078125e-07  # the resolution of float32


@register("encoder", "wav2vec2-bert")
class Wav2Vec2Bert(Convolutional):
    """Features of a `Wav2Vec2BertModel`: two mel frames of 10 ms make one input step."""

    # Layer norms, causal convolutions and an attention mask: padding has no effect.
    family = "wav2vec2-bert"
    model_class = "Wav2Vec2BertModel"
    hop = 2 * _HOP
    receptive_field = _WINDOW + _HOP
    stride = window = 1

    def preprocessing(self) -> dict[str, Any]:
        """The mel spectrogram, each bin normalised over the utterance."""
        # The default of SeamlessM4TFeatureExtractor.
        return {"mel_bins": self.source.preprocessor().get("feature_size", 80)}

    def prepare(self, wave: Float[np.ndarray, "N"]) -> Float[Tensor, "T M"]:
        """Log-mel features without the last mel frame of an odd number."""
        made = self._mel(wave, sampling_rate=self._mel.sampling_rate, return_tensors="pt")
        features: Tensor = made.input_features[0]
        return features[: self.frames(len(wave))]

    def prepare_tensor(self, wave: Float[Tensor, "N"]) -> Float[Tensor, "T M"]:
        """The features of `prepare`, with the gradient of the same computation in torch.

        Where a bin hardly varies, the normalisation amplifies the rounding of float32 to 6e-5, so
        only the feature extractor itself gives the features of extraction.
        """
        exact = self.prepare(wave.detach().cpu().numpy()).to(wave.device)
        if not wave.requires_grad:
            return exact
        mel = kaldi_log_mel(wave, torch.from_numpy(self._mel.mel_filters))
        # Over all mel frames, of which the last one of an odd number is then left out.
        mel = (mel - mel.mean(0)) / (mel.var(0) + 1e-7).sqrt()
        pairs = mel[: 2 * len(exact)].reshape(exact.shape)
        return exact + (pairs - pairs.detach())

    def frames(self, samples: int) -> int:
        """The number of whole pairs of mel frames."""
        return max(0, ((samples - _WINDOW) // _HOP + 1) // 2)

    def steps(self, size: int) -> int:
        """An input step is a frame."""
        return size

    def run(self, inputs: Float[Tensor, "B T M"], lengths: list[int] | None) -> Tensor:
        """Run the model, with an attention mask where the batch is padded."""
        mask = None
        if lengths is not None:
            mask = valid_frames(torch.tensor(lengths), inputs.shape[1]).long().to(self.device)
        last: Tensor = self.model(self.place(inputs), attention_mask=mask).last_hidden_state
        return last

    def measure(self) -> None:
        """The mel spectrogram fixes hop and receptive field.

        Raises:
            EncoderError: if the feature extractor makes other inputs than the model takes, or an
                adapter follows the selected hidden state.
        """
        self.refuse_adapter()
        preprocessor = self.source.preprocessor()
        bins, stride = preprocessor.get("num_mel_bins", 80), preprocessor.get("stride", 2)
        width = self.source.count("feature_projection_input_dim")
        if stride != 2 or not is_count(bins) or 2 * bins != width:
            raise EncoderError(
                f"the feature extractor of {self.source.name} makes inputs of {bins!r} mel bins in "
                f"{stride!r} mel frames, and its model takes {width} numbers of 2 mel frames; "
                "download or export the model again"
            )

    @cached_property
    def _mel(self) -> Any:
        from transformers import SeamlessM4TFeatureExtractor

        preprocessor = self.source.preprocessor()
        used = {"feature_size", "num_mel_bins", "stride", "padding_value"} & preprocessor.keys()
        return SeamlessM4TFeatureExtractor(**{name: preprocessor[name] for name in used})


def kaldi_log_mel(wave: Float[Tensor, "N"], filters: Float[Tensor, "F M"]) -> Float[Tensor, "T M"]:
    """The log-mel spectrogram of Kaldi, as `SeamlessM4TFeatureExtractor` computes it.

    Args:
        wave: at 16 kHz, full scale at 1.
        filters: of the mel bins, over the 257 frequencies of the Fourier transform.

    Returns:
        One row for every 160 samples.
    """
    frames = (wave.double() * 2**15).unfold(0, _WINDOW, _HOP)
    frames = frames - frames.mean(1, keepdim=True)
    before = torch.cat([frames[:, :1], frames[:, :-1]], 1)
    # The window of Povey: that of Hann to the power of 0.85.
    window = torch.hann_window(
        _WINDOW, periodic=False, dtype=torch.float64, device=wave.device
    ).pow(0.85)
    spectrum = torch.fft.rfft((frames - _EMPHASIS * before) * window, 2 * (len(filters) - 1))
    # The feature extractor stores the spectrum in float32.
    power = spectrum.to(torch.complex64).to(torch.complex128).abs().square()
    mel: Tensor = power @ filters.to(power)
    return mel.clamp(min=_MEL_FLOOR).log().float()
