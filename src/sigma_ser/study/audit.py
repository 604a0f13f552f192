"""The study of an audit of one recogniser, and the declaration of its criteria."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sigma_ser.core import registry
from sigma_ser.core.errors import ConfigError, UnknownNameError
from sigma_ser.core.files import file_digest, safe_name, whole_file, write_json
from sigma_ser.corpora.corpus import Corpus, load_corpus
from sigma_ser.runs.files import read_object
from sigma_ser.runs.layout import RunLayout
from sigma_ser.victims.checkpoint import FOLD, TrainedVictim
from sigma_ser.victims.loading import load_victim

from .artifacts import absolute_source, source_title
from .sections import FEATURES, WAVEFORM

if TYPE_CHECKING:
    from sigma_ser.evaluate.criteria.declared import Criteria

AuditSurface = Literal["features", "waveform", "both"]

SPARSITIES = (0.001, 0.01, 0.05)
_EXPLAINERS = ("integrated-gradients", "gradient")
# On the waveform: shares of the samples, and signal-to-noise ratios in dB.
_SAMPLES = (0.1, 1.0)
_RATIOS = (20.0, 30.0, 40.0)
# A pass through an encoder costs hundreds of passes through a head, so fewer utterances are
# attacked, with a limit on the passes for each.
WAVEFORM_UTTERANCES = 24
_WAVEFORM_PASSES = 100
# What happens to recordings without an attacker. The ratios are those of ordinary rooms and
# microphones; codecs and the telephone have none.
_NATURAL_RATIOS = (20.0, 30.0)
_NATURAL: tuple[tuple[str, bool], ...] = (
    ("white-noise", True),
    ("speech-shaped-noise", True),
    ("reverberation", True),
    ("gain", True),
    ("telephone", False),
    ("mp3", False),
    ("opus", False),
)


def audit_study(
    model: str,
    corpus: str,
    *,
    root: Path | None = None,
    encoder: str | None = None,
    layer: int | str | None = None,
    epsilon: float = 0.5,
    utterances: int = 70,
    criteria: Criteria | None = None,
    settings: Mapping[str, Any] | None = None,
    surface: AuditSurface = "features",
    waveform_utterances: int | None = None,
) -> dict[str, Any]:
    """The study of an audit, as the values of a study file.

    A victim trained by sigma-ser is attacked on the test part of its own fold, or on a fifth of a
    corpus that it was not trained on. Any other model is attacked on a fifth of the corpus, since
    its training data are unknown.

    Args:
        model: whatever `load_victim` takes.
        corpus: a registered corpus; a manifest file; or a folder of class folders.
        root: folder of a registered corpus.
        encoder: whose features the model knows; a trained victim says so itself, and `hf:` models
            are their own.
        layer: of that encoder.
        epsilon: largest move of a value, in standard deviations of its channel.
        utterances: how many are attacked.
        criteria: declared criteria, whose budgets are attacked in place of the three of an audit.
        settings: further keywords of `load_victim`.
        surface: what is attacked. Natural corruptions are applied to the recordings in any case.
        waveform_utterances: how many of the utterances are attacked on the waveform and corrupted;
            `None` stands for 24, and for all where a criterion concerns the waveform or a
            corruption.

    Raises:
        SigmaError: if the model or the corpus cannot be used, or a trained victim does not say
            which recordings it was trained on, or was trained on everything that is given.
    """
    reader, place = corpus_place(corpus, root)
    recordings = load_corpus(reader, place)
    section, split = _encoder_of(model, recordings, encoder, layer, settings or {})
    victim = {"load": absolute_source(model), "name": source_title(model), **(settings or {})}
    where = {"name": reader} if place is None else {"name": reader, "root": str(place.absolute())}
    attacked = (FEATURES, WAVEFORM) if surface == "both" else (surface,)
    _check_surfaces(criteria, attacked)
    fewer = waveform_utterances
    if fewer is None:
        declared = criteria is not None and (criteria.budgets(WAVEFORM) or criteria.corrupted)
        fewer = utterances if declared else min(utterances, WAVEFORM_UTTERANCES)
    evaluation = {"utterances": utterances, "waveform_utterances": fewer, "batch_size": 35}
    return {
        "name": f"audit-{safe_name(source_title(model))}",
        "corpus": {**where, **split},
        "surface": [WAVEFORM] if surface == WAVEFORM else [FEATURES, WAVEFORM],
        "encoder": section,
        "victims": [victim],
        "explainers": {
            "integrated-gradients": {"steps": 16, "output": "margin"},
            "gradient": {"output": "margin"},
        },
        "budgets": _budgets(criteria, epsilon),
        "consistency": {"settings": {"output": "logit", "steps": 8}, "surface": [FEATURES]},
        "evaluation": evaluation,
        "attacks": [one for one in _attacks() if one["surface"] in attacked],
        "corruptions": _corruptions(criteria),
        # By the tightest proven method, where one suits the victim.
        "certificates": [{}] if FEATURES in attacked else [],
    }


def _attacks() -> list[dict[str, Any]]:
    on_features, on_waveform = {"surface": FEATURES}, {"surface": WAVEFORM}
    return [
        {"name": "dual-averaging", "explainers": list(_EXPLAINERS), "scopes": [8], **on_features},
        {"name": "reselect", "steps": 20, "restarts": 0, **on_features},
        {"name": "oneshot", **on_features},
        {"name": "random", **on_features},
        {"name": "sigma-autoattack", "max_passes": _WAVEFORM_PASSES, **on_waveform},
        {"name": "random", **on_waveform},
    ]


def _corruptions(criteria: Criteria | None) -> list[dict[str, Any]]:
    """Every natural corruption at its ratios, and those that the criteria name."""
    ratios: dict[str, list[float]] = {
        name: list(_NATURAL_RATIOS) if has_ratio else [] for name, has_ratio in _NATURAL
    }
    for one in criteria.corrupted if criteria is not None else ():
        known = ratios.setdefault(one.corruption, [])
        if one.snr is not None and one.snr not in known:
            known.append(one.snr)
    return [{"name": name, **({"snr": snr} if snr else {})} for name, snr in ratios.items()]


def _check_surfaces(criteria: Criteria | None, attacked: tuple[str, ...]) -> None:
    for surface in (FEATURES, WAVEFORM) if criteria is not None else ():
        if criteria is not None and criteria.budgets(surface) and surface not in attacked:
            raise ConfigError(
                f"a criterion concerns the surface {surface}, which the audit does not attack; "
                "give --surface both"
            )


def corpus_place(corpus: str, root: Path | None) -> tuple[str, Path | None]:
    """The reader and the place of a corpus that a user names.

    Args:
        corpus: a registered corpus; a manifest file; or a folder of class folders.
        root: folder of a registered corpus.

    Raises:
        ConfigError: if there is no such file or folder.
        UnknownNameError: if it is neither registered nor a path.
    """
    given = Path(corpus)
    if corpus in registry.names("corpus"):
        return corpus, root
    if not given.exists():
        if len(given.parts) > 1 or given.suffix:
            raise ConfigError(
                f"there is no file or folder {corpus}; give a manifest, a folder with one "
                "subfolder per class, or a registered corpus"
            )
        try:
            registry.get("corpus", corpus)  # lists near matches
        except UnknownNameError as fault:
            joint = " or" if str(fault).endswith("?") else "; or"
            raise UnknownNameError(
                f"{fault}{joint} give the path of a manifest or of a folder with one subfolder "
                "per class"
            ) from None
    return "manifest" if given.is_file() else "folders", given


def _budgets(criteria: Criteria | None, epsilon: float) -> dict[str, list[Any]]:
    """The budget section: every combination of the values that the criteria name."""
    found: dict[str, list[Any]] = {
        "sparsity": list(SPARSITIES),
        "epsilon": [epsilon],
        "waveform_sparsity": list(_SAMPLES),
        "snr": list(_RATIOS),
    }
    if criteria is None:
        return found
    features, waveform = criteria.budgets(FEATURES), criteria.budgets(WAVEFORM)
    if features:
        found["sparsity"] = sorted({one.sparsity for one in features})
        found["epsilon"] = sorted({one.epsilon for one in features if one.epsilon is not None})
    if waveform:
        found["waveform_sparsity"] = sorted({one.sparsity for one in waveform})
        found["snr"] = sorted({one.snr for one in waveform if one.snr is not None})
    units = sorted({one.granularity for one in (*features, *waveform)})
    return {**found, **({"granularity": units} if units else {})}


def declare(path: Path, folder: Path) -> None:
    """Copy a criteria file into a run folder, and record when it differs from an earlier one.

    Args:
        path: the criteria file.
        folder: the run folder, which may not exist yet.

    Raises:
        RunError: if the record of an earlier declaration is damaged.
    """
    layout = RunLayout(folder)
    changed = False
    if layout.declaration.is_file():
        again = "choose another folder with --out"
        earlier = read_object(layout.declaration, ("hash", "changed"), again)
        changed = bool(earlier["changed"])
    differs = layout.criteria.is_file() and file_digest(layout.criteria) != file_digest(path)
    undeclared = not layout.criteria.is_file() and layout.rows.exists()
    changed = changed or undeclared or (differs and layout.rows.exists())
    content = path.read_bytes()
    with whole_file(layout.criteria) as aside:
        aside.write_bytes(content)
    write_json(layout.declaration, {"hash": file_digest(layout.criteria), "changed": changed})


def _encoder_of(
    model: str,
    corpus: Corpus,
    encoder: str | None,
    layer: int | str | None,
    settings: Mapping[str, Any],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The encoder section of a model, and how its corpus is split."""
    fifth = {"protocol": "random-stratified", "protocol_settings": {"folds": 5}, "folds": [0]}
    if model.startswith("hf:"):
        named = {"name": encoder or model.removeprefix("hf:")}
        revision = {"revision": settings["revision"]} if "revision" in settings else {}
        return {**named, "layer": -1 if layer is None else layer, **revision}, fifth
    victim = load_victim(model, **settings)
    if not isinstance(victim, TrainedVictim):
        if encoder is None:
            raise ConfigError(
                f"{model} does not say which encoder its features come from; give --encoder"
            )
        return {"name": encoder, "layer": -1 if layer is None else layer}, fifth
    card = victim.card.encoder
    section = {"name": encoder or card["name"], "layer": card["layer"] if layer is None else layer}
    if victim.layer_weights is not None:
        section["layer"] = "all"
    for key in ("revision", "context", "dtype"):
        if card.get(key) is not None:
            section[key] = card[key]
    return section, _unseen_split(model, victim, corpus) or fifth


def _unseen_split(model: str, victim: TrainedVictim, corpus: Corpus) -> dict[str, Any] | None:
    """A split whose test part a victim was not trained on; `None` if that is the whole corpus."""
    fold, file = victim.fold, Path(model).absolute() / FOLD
    if victim.card.fold_key is None:
        raise ConfigError(
            f"{model} does not say which recordings it was trained on, since the version of "
            "sigma-ser that saved it did not record that (only that it was fold "
            f"{victim.card.fold} of {victim.card.corpus}); train it again, or, if you know the "
            f'split, name that split in a study and the victim as load = "{model}"'
        )
    if fold is None or not file.is_file():
        raise ConfigError(
            f"{model} does not say which recordings it was trained on, since {FOLD} is missing; "
            "copy it from where the victim was saved, or train the victim again"
        )
    known = {one.id for one in corpus.utterances}
    if known.isdisjoint(fold.train + fold.validation):
        return None
    if known.isdisjoint(fold.test):
        raise ConfigError(
            f"{model} was trained on recordings of {corpus.name}, which has none of the test part "
            f"of its fold {fold.name}; give the corpus of its training, or an unrelated one"
        )
    return {
        "protocol": "fold-file",
        "protocol_settings": {"file": str(file)},
        "folds": [0],
    }
