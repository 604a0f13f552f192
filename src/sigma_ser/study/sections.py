"""The sections of a study file as typed values; `config` joins them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    model_validator,
)

from sigma_ser.core.budget import Granularity
from sigma_ser.core.files import safe_name
from sigma_ser.core.value_types import (
    Distinct,
    Epsilon,
    FoldNumbers,
    OneOrMore,
    OneOrMoreDistinct,
    Ratio,
    Seed,
    Share,
)

Layer = int | Literal["mean", "all"]
Surface = Literal["features", "waveform"]
Surfaces = OneOrMoreDistinct[Surface]

FEATURES: Surface = "features"
WAVEFORM: Surface = "waveform"

# Words that stand for victims in `mask_sources`; with those of the surfaces, for its own maps.
OWN, OTHERS, CONSENSUS, UNIVERSAL = "own", "others", "consensus", "universal"
SOURCES = (OWN, FEATURES, WAVEFORM, OTHERS, CONSENSUS, UNIVERSAL)


class Section(BaseModel):
    """A section whose keys are all known."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class OpenSection(BaseModel):
    """A section whose further keys are settings of the thing that it names."""

    model_config = ConfigDict(extra="allow", frozen=True)

    @property
    def settings(self) -> dict[str, Any]:
        """The keys beyond those of the section: settings of the thing that it names."""
        return dict(self.model_extra or {})


class CorpusSection(OpenSection):
    """Recordings and their split. Further keys are settings of the corpus reader."""

    name: str
    root: Path | None = Field(None, description="folder of the corpus; relative to the study file")
    protocol: OneOrMore[str] = Field(
        [],
        description="one, or a list: each is run. It may be left out with a store under "
        "[features] where no victim is trained: then the whole store is the test part",
    )
    protocol_settings: dict[str, Any] = {}
    seed: Seed = Field(0, description="of the split, where the protocol draws one")
    folds: FoldNumbers | None = Field(
        None, description="numbers of the folds to run; all by default"
    )


class EncoderSection(OpenSection):
    """Features. Further keys are settings of `load_encoder` (revision, context ...)."""

    name: str = Field(description="`demo`, a Hugging Face id, or a folder")
    layer: OneOrMore[Layer] = Field([-1], description="one, or a list: each is run")


class FeaturesSection(Section):
    """Features that are there already, in place of an encoder."""

    store: Path = Field(description="folder that `sigma-ser extract` wrote")


class AdversarialSection(OpenSection):
    """Adversarial training. Further keys are settings of the attack."""

    attack: str
    sparsity: Share = 0.01
    epsilon: Annotated[Epsilon, Field(gt=0)] = 0.5
    share: Share = Field(0.5, description="weight of the adversarial loss")


class VictimSection(OpenSection):
    """One head to train, or one recogniser to load, and to attack.

    With `head`, further keys are those of `TrainingSettings`; with `load`, those of `load_victim`.
    """

    head: str | None = Field(None, description="name of a head to train")
    load: str | None = Field(None, description="instead of a head: any source of `load_victim`")
    name: str | None = Field(None, description="name in the rows; that of the head by default")
    seeds: Distinct[Seed] = Field([0], min_length=1)
    head_settings: dict[str, Any] = {}
    adversarial: AdversarialSection | None = Field(
        None, description="adversarial training with this attack"
    )
    attacked: StrictBool = Field(
        True, description="false: its explanations make masks for others only"
    )
    surface: Surfaces = Field(
        [FEATURES, WAVEFORM], description="of the surfaces of the study, those it is attacked on"
    )

    @model_validator(mode="after")
    def _one_origin(self) -> VictimSection:
        if self.head is None and self.load is None:
            raise ValueError("give 'head' or 'load'")
        if self.head is not None and self.load is not None:
            raise ValueError("give either 'head' or 'load', not both")
        if self.load is not None and (self.head_settings or self.adversarial):
            raise ValueError("a loaded victim is not trained: remove head_settings and adversarial")
        return self

    @property
    def title(self) -> str:
        """Its name in the rows, without the seed."""
        return self.name or self.head or safe_name(Path(str(self.load)).name)


class BudgetSection(Section):
    """Budgets: every combination of these values is one."""

    sparsity: list[Share] = Field([0.01], min_length=1)
    epsilon: list[Epsilon] = Field(
        [0.5],
        min_length=1,
        description="in standard deviations of a channel; on the waveform a share of full scale",
    )
    snr: OneOrMore[Ratio] | None = Field(
        None, description="on the waveform, in place of epsilon: signal-to-noise ratios in dB"
    )
    waveform_sparsity: OneOrMore[Share] | None = Field(
        None, description="on the waveform, in place of sparsity"
    )
    granularity: list[Granularity] = Field(["element"], min_length=1)


class MaskedSection(OpenSection):
    """What runs without a mask and inside the masks of explainers."""

    native: StrictBool = Field(True, description="also run it without a mask")
    explainers: list[str] = Field([], description="also run it inside the masks of these")
    scopes: list[Annotated[int, Field(ge=1, le=10**9)]] = Field([1], min_length=1)
    mask_sources: list[str] = Field(
        [OWN],
        min_length=1,
        description="whose map makes the mask: `own`; `features` or `waveform`, that of the same "
        "victim on this surface; the name of a victim; `others`, every other victim; `consensus` "
        "of all victims; `universal`, one map for a victim; or `victim@encoder:layer`, whose "
        "frames carry over",
    )

    @property
    def described(self) -> str:
        """The section as the subject of an error message."""
        raise NotImplementedError

    @model_validator(mode="after")
    def _runs_somewhere(self) -> MaskedSection:
        if not self.native and not self.explainers:
            raise ValueError(f"{self.described} runs nowhere: set native = true or name explainers")
        return self


class AttackSection(MaskedSection):
    """One attack, native and inside masks. Further keys are its settings."""

    name: str
    surface: Surfaces = Field(
        [FEATURES, WAVEFORM], description="of the surfaces of the study, those that it attacks"
    )
    seeds: Distinct[Seed] | None = Field(
        None, description="of its randomness; the study's by default"
    )

    @property
    def described(self) -> str:
        """The section as the subject of an error message."""
        return f"attack {self.name!r}"


class CorruptionSection(OpenSection):
    """A natural corruption, as a control on the waveform. Further keys are its settings."""

    name: str
    snr: OneOrMore[Ratio] | None = Field(
        None, description="one, or a list: each is run; those of the budgets by default"
    )


class CertificateSection(MaskedSection):
    """Lower bounds on the margins at every budget. Further keys are settings of the method."""

    method: str | None = Field(
        None, description="name of a method; by default the tightest proven one for each victim"
    )

    @property
    def described(self) -> str:
        """The section as the subject of an error message."""
        return "the certificate" if self.method is None else f"certificate {self.method!r}"


class AlarmSection(OpenSection):
    """Detectors of attacks on features from the explanation of an input alone.

    Further keys are settings of the attack that knows the alarm.
    """

    explainer: str = "input-x-gradient"
    fitted_on: OneOrMoreDistinct[str] = Field(
        ["dual-averaging"],
        description="attacks whose successful perturbations the alarms are fitted on, with the "
        "settings under [[attacks]] where they are listed there",
    )
    part: Literal["validation", "test"] = Field(
        "validation",
        description="part whose utterances the alarms are fitted on; of the test part, those that "
        "are not attacked",
    )
    adaptive: StrictBool = Field(True, description="also run an attack that knows the alarm")


class ConsistencySection(Section):
    """How the consistency of explanations under attack is measured."""

    explainer: Annotated[
        str | None, BeforeValidator(lambda name: None if name == "none" else name)
    ] = Field("integrated-gradients", description="`none` measures nothing")
    settings: dict[str, Any] = {}
    surface: Surfaces = Field(
        [FEATURES, WAVEFORM], description="of the surfaces of the study, those that are measured"
    )


class EvaluationSection(Section):
    """Which test utterances are attacked, and in which batches."""

    utterances: int | None = Field(None, ge=1, description="per fold, stratified; all by default")
    waveform_utterances: int | None = Field(
        None, ge=1, description="how many of these are attacked on the waveform; all by default"
    )
    ids: Distinct[str] | None = Field(
        None, min_length=1, description="attack exactly these utterances of the test part"
    )
    batch_size: int = Field(32, ge=1)
    device: Literal["cpu", "cuda"] = Field(
        "cpu", description="where victims are explained and attacked; heads are trained on the CPU"
    )
    seed: Seed = 0
    exemplars: int = Field(3, ge=0, description="number of utterances shown in full in the report")
    exemplar_sounds: StrictBool | None = Field(
        None,
        description="embed their sounds in the report; by default only where the licence of the "
        "corpus permits redistribution",
    )
    keep: StrictBool = Field(
        False, description="keep which values each attack changed; the report shows them"
    )
    replay: StrictBool = Field(
        False, description="also replay each perturbation on every other victim of its fold"
    )


class ExecutorSection(OpenSection):
    """Where tasks run. Further keys are settings of the executor."""

    name: str = "processes"


class TrackingSection(OpenSection):
    """An experiment tracker that also receives the results. Further keys are its settings."""

    name: Literal["mlflow", "tensorboard", "trackio"]
