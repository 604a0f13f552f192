"""The audit of a recogniser: a prepared study, and its verdict in one sentence."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sigma_ser.core import registry
from sigma_ser.core.errors import ConfigError, UnknownNameError
from sigma_ser.core.files import file_digest, safe_name, whole_file, write_json
from sigma_ser.core.gradient_signs import masked_warning
from sigma_ser.corpora.corpus import Corpus, load_corpus
from sigma_ser.evaluate.groups import worst_case
from sigma_ser.runs.files import read_object
from sigma_ser.runs.layout import RunLayout
from sigma_ser.victims.checkpoint import FOLD, TrainedVictim
from sigma_ser.victims.loading import load_victim

from .artifacts import absolute_source, source_title

if TYPE_CHECKING:
    import polars as pl

    from sigma_ser.evaluate.criteria.declared import Criteria

SPARSITIES = (0.001, 0.01, 0.05)
_EXPLAINERS = ("integrated-gradients", "gradient")
# A class with fewer attacked utterances is too small for a statement.
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
    criteria: Criteria | None = None,
    settings: Mapping[str, Any] | None = None,
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

    Raises:
        SigmaError: if the model or the corpus cannot be used, or a trained victim does not say
            which recordings it was trained on, or was trained on everything that is given.
    """
    reader, place = corpus_place(corpus, root)
    recordings = load_corpus(reader, place)
    section, split = _encoder_of(model, recordings, encoder, layer, settings or {})
    victim = {"load": absolute_source(model), "name": source_title(model), **(settings or {})}
    where = {"name": reader} if place is None else {"name": reader, "root": str(place.absolute())}
    guided = {"explainers": list(_EXPLAINERS), "scopes": [8]}
    return {
        "name": f"audit-{safe_name(source_title(model))}",
        "corpus": {**where, **split},
        "encoder": section,
        "victims": [victim],
        "explainers": {
            "integrated-gradients": {"steps": 16, "output": "margin"},
            "gradient": {"output": "margin"},
        },
        "budgets": _budgets(criteria, epsilon),
        "consistency": {"settings": {"output": "logit", "steps": 8}},
        "evaluation": {"utterances": utterances, "batch_size": 35},
        "attacks": [
            {"name": "dual-averaging", **guided},
            {"name": "reselect", "steps": 20, "restarts": 0},
            {"name": "oneshot"},
            {"name": "random"},
        ],
        "certificates": [{}],  # by the tightest proven method, where one suits the victim
    }


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
    if criteria is None or not criteria.budgets:
        return {"sparsity": list(SPARSITIES), "epsilon": [epsilon]}
    columns = zip(*criteria.budgets, strict=True)
    granularity, sparsity, bounds = (sorted(set(values)) for values in columns)
    return {"granularity": granularity, "sparsity": sparsity, "epsilon": bounds}


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


def verdict(rows: pl.DataFrame, uar: float, gradient_check: Mapping[str, Any] | None = None) -> str:
    """The result of an audit in one sentence: smallest harmful budget, weakest class, explanations.

    Where there are signs of masked gradients, a warning precedes it.

    Args:
        rows: of the audit's run.
        uar: of the victim on clean recordings.
        gradient_check: the record of the victim's gradient check.
    """
    signs = (gradient_check or {}).get("signs", ())
    sentence = _verdict(rows, uar)
    return f"{masked_warning('this recogniser', signs)} {sentence}" if signs else sentence


def _verdict(rows: pl.DataFrame, uar: float) -> str:
    import polars as pl

    cases = worst_case(rows).drop_nulls("worst_case_asr").sort("sparsity")
    if not len(cases):
        return "It classifies none of the attacked recordings correctly, so no attack is possible."
    most = cases["worst_case_asr"].max()
    # The smallest budget that misclassifies half of them is more informative than the largest.
    case_table = cases.filter(pl.col("worst_case_asr") >= 0.5).head(1)
    if not len(case_table):
        case_table = cases.filter(pl.col("worst_case_asr") == most).head(1)
    (case,) = case_table.to_dicts()
    here = rows.filter(pl.col("sparsity") == case["sparsity"])
    sentence = (
        f"It recognises the emotions with {100 * uar:.0f} % UAR, and changing "
        f"{100 * case['sparsity']:g} % of its feature values by at most {case['epsilon']:g} "
        f"standard deviations misclassifies {case['flipped']} of {case['utterances']} utterances "
        f"({100 * case['worst_case_asr']:.0f} %)"
    )
    labels = worst_case(here, ["label"]).filter(pl.col("utterances") >= _ENOUGH)
    if len(labels) > 1:
        weakest = labels.sort("worst_case_asr", descending=True).row(0, named=True)
        sentence += f", most easily {weakest['label']} ({100 * weakest['worst_case_asr']:.0f} %)"
    flipped_rows = here.filter(pl.col("correct_before") & pl.col("success"))
    kept = flipped_rows["topk_intersection"].mean()
    floor = flipped_rows["topk_intersection_floor"].mean()
    if isinstance(kept, float) and isinstance(floor, float):
        sentence += (
            f", while its explanations keep {100 * kept:.0f} % of their most salient values "
            f"(random perturbations of that size leave {100 * floor:.0f} %)"
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
