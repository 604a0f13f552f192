"""The model owner's audit: a ready study of one recogniser, and its verdict in one sentence."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sigma_ser.core import registry
from sigma_ser.core.errors import ConfigError
from sigma_ser.core.files import safe_name
from sigma_ser.corpora.corpus import Corpus, load_corpus
from sigma_ser.evaluate.groups import worst_case
from sigma_ser.victims.checkpoint import FOLD, TrainedVictim
from sigma_ser.victims.loading import load_victim

if TYPE_CHECKING:
    import polars as pl

SPARSITIES = (0.001, 0.01, 0.05)
_EXPLAINERS = ("integrated-gradients", "gradient")
# A class with fewer attacked utterances is no ground for a verdict.
_ENOUGH = 3


def audit_study(
    model: str,
    corpus: str,
    *,
    root: Path | None = None,
    encoder: str | None = None,
    layer: int | str | None = None,
    epsilon: float = 0.5,
    utterances: int = 70,
    settings: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The study of an audit, as the values of a study file.

    A victim trained here is attacked on the test part of its own fold, which it has not heard, or
    on a fifth of a corpus of which it has heard nothing; a foreign one on a fifth, as nobody knows
    what it was trained on.

    Args:
        model: whatever `load_victim` takes.
        corpus: a registered corpus; a manifest file; or a folder of class folders.
        root: folder of a registered corpus.
        encoder: whose features the model knows; a trained victim says so itself, and `hf:` models
            are their own.
        layer: of that encoder.
        epsilon: largest move of a value, in standard deviations of its channel.
        utterances: how many are attacked.
        settings: further keywords of `load_victim`.

    Raises:
        SigmaError: if the model or the corpus cannot be used, or a victim trained here does not
            say what it has heard, or has heard all of the corpus that is not in its test part.
    """
    given = Path(corpus)
    known = corpus in registry.names("corpus")
    reader = corpus if known else "manifest" if given.is_file() else "folders"
    if not known and not given.exists():
        if len(given.parts) > 1 or given.suffix:
            raise ConfigError(
                f"there is no file or folder {corpus}; give a manifest, a folder of class "
                "folders, or a registered corpus"
            )
        registry.get("corpus", corpus)  # lists near matches
    place = root if known else given
    recordings = load_corpus(reader, place)
    section, split = _encoder_of(model, recordings, encoder, layer, settings or {})
    victim = {"load": _absolute(model), "name": _title(model), **(settings or {})}
    where = {"name": reader} if place is None else {"name": reader, "root": str(place.absolute())}
    guided = {"explainers": list(_EXPLAINERS), "scopes": [8]}
    return {
        "name": f"audit-{safe_name(_title(model))}",
        "corpus": {**where, **split},
        "encoder": section,
        "victims": [victim],
        "explainers": {
            "integrated-gradients": {"steps": 16, "output": "margin"},
            "gradient": {"output": "margin"},
        },
        "budgets": {"sparsity": list(SPARSITIES), "epsilon": [epsilon]},
        "consistency": {"settings": {"output": "logit", "steps": 8}},
        "evaluation": {"utterances": utterances, "batch_size": 35},
        "attacks": [
            {"name": "dual-averaging", **guided},
            {"name": "reselect", "steps": 20, "restarts": 0},
            {"name": "oneshot"},
            {"name": "random"},
        ],
    }


def verdict(rows: pl.DataFrame, uar: float) -> str:
    """What an audit found, in one sentence: the least budget that hurts, where, and the trust.

    Args:
        rows: of the audit's run.
        uar: of the victim on clean recordings.
    """
    import polars as pl

    cases = worst_case(rows).drop_nulls("worst_case_asr").sort("sparsity")
    if not len(cases):
        return "It recognises none of the attacked recordings, so there is nothing to lose."
    most = cases["worst_case_asr"].max()
    # The smallest budget that does nearly all of the harm says more than the largest.
    told = cases.filter(pl.col("worst_case_asr") >= 0.5).head(1)
    if not len(told):
        told = cases.filter(pl.col("worst_case_asr") == most).head(1)
    (case,) = told.to_dicts()
    here = rows.filter(pl.col("sparsity") == case["sparsity"])
    sentence = (
        f"It recognises the emotions with {100 * uar:.0f} % UAR, and moving "
        f"{100 * case['sparsity']:g} % of its feature values by at most {case['epsilon']:g} "
        f"standard deviations changes {case['flipped']} of {case['utterances']} right answers "
        f"({100 * case['worst_case_asr']:.0f} %)"
    )
    labels = worst_case(here, ["label"]).filter(pl.col("utterances") >= _ENOUGH)
    if len(labels) > 1:
        weakest = labels.sort("worst_case_asr", descending=True).row(0, named=True)
        sentence += f", most easily {weakest['label']} ({100 * weakest['worst_case_asr']:.0f} %)"
    fallen = here.filter(pl.col("correct_before") & pl.col("success"))
    kept = fallen["topk_intersection"].mean()
    floor = fallen["topk_intersection_floor"].mean()
    if isinstance(kept, float) and isinstance(floor, float):
        sentence += (
            f", while its explanations keep {100 * kept:.0f} % of their most salient values "
            f"(random moves of that size leave {100 * floor:.0f} %)"
        )
    return sentence + "."


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
            raise ConfigError(f"{model} does not say whose features it knows; give --encoder")
        return {"name": encoder, "layer": -1 if layer is None else layer}, fifth
    card = victim.card.encoder
    section = {"name": encoder or card["name"], "layer": card["layer"] if layer is None else layer}
    if victim.layer_weights is not None:
        section["layer"] = "all"
    for key in ("revision", "context", "dtype"):
        if card.get(key) is not None:
            section[key] = card[key]
    return section, _unheard(model, victim, corpus) or fifth


def _unheard(model: str, victim: TrainedVictim, corpus: Corpus) -> dict[str, Any] | None:
    """The split of a corpus that tests what a victim has not heard; `None` if that is all of it."""
    fold, file = victim.fold, Path(model).absolute() / FOLD
    if victim.card.fold_key is None:
        raise ConfigError(
            f"{model} does not say which recordings it learnt from, since the version of sigma-ser "
            f"that saved it did not keep that (only that it was the fold {victim.card.fold} of "
            f"{victim.card.corpus}); train it again to audit it on others, or, if you know how the "
            f'corpus was split, name that split in a study and the victim as load = "{model}"'
        )
    if fold is None or not file.is_file():
        raise ConfigError(
            f"{model} does not say which recordings it learnt from, since {FOLD} is missing; copy "
            "it from where the victim was saved, or train the victim again"
        )
    known = {one.id for one in corpus.utterances}
    if known.isdisjoint(fold.train + fold.validation):
        return None
    if known.isdisjoint(fold.test):
        raise ConfigError(
            f"{model} learnt from recordings of {corpus.name}, which has none of the test part of "
            f"its fold {fold.name}; give the corpus of its training, or one that is new to it"
        )
    return {
        "protocol": "fold-file",
        "protocol_settings": {"file": str(file)},
        "folds": [0],
    }


def _absolute(model: str) -> str:
    return str(Path(model).absolute()) if Path(model).exists() else model


def _title(model: str) -> str:
    return safe_name(model.removeprefix("hf:").replace(":", ".").rstrip("/").split("/")[-1])
