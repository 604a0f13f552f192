"""The encoders of the wav2vec 2.0 kind.

| model type | paper |
|---|---|
| `wav2vec2` | wav2vec 2.0 (Baevski et al. 2020), XLS-R (Babu et al. 2022) |
| `hubert` | HuBERT (Hsu et al. 2021); the embedded encoder is one |
| `wavlm` | WavLM (Chen et al. 2022) |
| `unispeech` | UniSpeech (Wang et al. 2021) |
| `unispeech-sat` | UniSpeech-SAT (Chen et al. 2022) |
| `data2vec-audio` | data2vec (Baevski et al. 2022) |
"""

from __future__ import annotations

from sigma_ser.core.registry import register

from .convolutional import Convolutional

_MODELS = {
    "wav2vec2": "Wav2Vec2Model",
    "hubert": "HubertModel",
    "wavlm": "WavLMModel",
    "unispeech": "UniSpeechModel",
    "unispeech-sat": "UniSpeechSatModel",
    "data2vec-audio": "Data2VecAudioModel",
}
# The positional convolutions of data2vec have biases and norms between them: values in the padding
# grow and reach back into the utterance (by 3.7 in the test).
_NEVER_PADDED = {"data2vec-audio"}

for _family, _model_class in _MODELS.items():
    register("encoder", _family)(
        type(
            _model_class.removesuffix("Model"),
            (Convolutional,),
            {
                "__doc__": f"Features of a `{_model_class}` of transformers.",
                "__module__": __name__,
                "family": _family,
                "model_class": _model_class,
                "padding_safe": _family not in _NEVER_PADDED,
            },
        )
    )
