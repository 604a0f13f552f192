"""Names of attacks, explainers and measures as a paper writes them."""

from __future__ import annotations

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
    "input-x-gradient": "Input x gradient",
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
    "sigma-lambda": "SIGMA-lambda",
    "sigma-mu": "SIGMA-mu",
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
