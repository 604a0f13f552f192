"""Names of attacks, explainers and measures as a paper writes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .setting_words import with_settings

FREE = "free choice"

_WRITTEN: dict[str, str] = {
    "adversarial-path": "Adversarial path",
    "attention-weights": "Attention weights",
    "causal-segments": "Causal segments",
    "cornersearch": "CornerSearch",
    "cosine": "cosine",
    "deeplift": "DeepLIFT",
    "deeplift-shap": "DeepLIFT SHAP",
    "dual-averaging": "Dual averaging",
    "ead": "EAD",
    "expected-gradients": "Expected Gradients",
    "feature-ablation": "Feature ablation",
    "fgsm": "FGSM",
    "fmn-l0": "FMN-L0",
    "grad-cam": "Grad-CAM",
    "gradient": "Gradient",
    "gradient-margin": "Gradient of the margin",
    "gradient-shap": "GradientSHAP",
    "greedy-support": "Greedy support",
    "greedyfool": "GreedyFool",
    "guided-backprop": "Guided backpropagation",
    "homotopy": "Homotopy",
    "input-x-gradient": "Input × gradient",
    "integrated-gradients": "Integrated Gradients",
    "iou": "IoU",
    "jsma": "JSMA",
    "kernel-shap": "KernelSHAP",
    "lime": "LIME",
    "mifgsm": "MI-FGSM",
    "occlusion": "Occlusion",
    "onepixel": "One-Pixel",
    "oneshot": "One shot",
    "pgd": "PGD",
    "pgd0": "PGD0",
    "random": "Random",
    "reselect": "Reselect",
    "rise": "RISE",
    "saif": "SAIF",
    "sapf": "SAPF",
    "sigma-autoattack": "SIGMA AutoAttack",
    "sigma-lambda": "SIGMA-λ",
    "sigma-mu": "SIGMA-μ",
    "sigma-zero": "sigma-zero",
    "smoothgrad": "SmoothGrad",
    "sparse-autoattack": "Sparse-AutoAttack",
    "sparse-path": "Sparse path",
    "sparse-rs": "Sparse-RS",
    "sparsefool": "SparseFool",
    "spgd": "Sparse-PGD",
    "ssim_time": "SSIM over time",
    "staa-net": "STAA-Net",
    "topk_intersection": "top-k overlap",
    "universal": "Universal",
    "vargrad": "VarGrad",
    "vfga": "VFGA",
}


def display_name(name: str) -> str:
    """A name as a paper writes it; a name that is not known here stays as it is.

    >>> display_name("integrated-gradients"), display_name("my-attack")
    ('Integrated Gradients', 'my-attack')
    """
    return _WRITTEN.get(name, name)


def attack_name(line: Mapping[str, Any], others: Iterable[Mapping[str, Any]]) -> str:
    """The attack of a line; with settings only where attacks of its name differ in them.

    Args:
        line: with `attack` and `attack_settings`.
        others: every line of the table.
    """
    same = (one["attack_settings"] for one in others if one["attack"] == line["attack"])
    every = [one for one in dict.fromkeys(same) if one is not None]
    return with_settings(display_name(line["attack"]), line["attack_settings"], every)


def method_names(
    line: Mapping[str, Any], others: Iterable[Mapping[str, Any]]
) -> tuple[str, str, str]:
    """Attack, explanation and mask of a line.

    Args:
        line: also with `explainer`, `mask_source`, `scope` and `victim`.
        others: every line of the table.
    """
    attack = attack_name(line, others)
    if line["explainer"] is None:
        return attack, "–", FREE
    source = line["mask_source"]
    owner = "" if source in (None, "own", line["victim"]) else f" of {source}"
    return attack, display_name(line["explainer"]) + owner, mask_size(line["scope"])


def mask_size(scope: int | None) -> str:
    """The size of a mask in budgets: `k` or `8 k`."""
    return "k" if (scope or 1) == 1 else f"{scope} k"
