"""Names of attacks, explainers, heads and measures as a paper writes them."""

from __future__ import annotations

_WRITTEN: dict[str, str] = {
    "adversarial-path": "Adversarial path",
    "bilstm": "BiLSTM",
    "cnn": "CNN",
    "cosine": "cosine",
    "cornersearch": "CornerSearch",
    "deeplift": "DeepLIFT",
    "deeplift-shap": "DeepLIFT SHAP",
    "dual-averaging": "Dual averaging",
    "ead": "EAD",
    "ecapa": "ECAPA",
    "emobox": "EmoBox",
    "fgsm": "FGSM",
    "fmn-l0": "FMN-L0",
    "grad-cam": "Grad-CAM",
    "gradient-shap": "GradientSHAP",
    "greedyfool": "GreedyFool",
    "gru": "GRU",
    "guided-backprop": "Guided backpropagation",
    "input-x-gradient": "Input x gradient",
    "integrated-gradients": "Integrated Gradients",
    "iou": "IoU",
    "jsma": "JSMA",
    "kernel-shap": "KernelSHAP",
    "lime": "LIME",
    "mifgsm": "MI-FGSM",
    "mlp": "MLP",
    "onepixel": "One-Pixel",
    "oneshot": "One shot",
    "pgd": "PGD",
    "pgd0": "PGD0",
    "rise": "RISE",
    "saif": "SAIF",
    "sapf": "SAPF",
    "sigma-autoattack": "SIGMA AutoAttack",
    "sigma-lambda": "SIGMA-lambda",
    "sigma-mu": "SIGMA-mu",
    "sigma-zero": "sigma-zero",
    "smoothgrad": "SmoothGrad",
    "sparse-autoattack": "Sparse-AutoAttack",
    "sparse-rs": "Sparse-RS",
    "sparsefool": "SparseFool",
    "spgd": "Sparse-PGD",
    "ssim_time": "SSIM over time",
    "staa-net": "STAA-Net",
    "superb": "SUPERB",
    "topk_intersection": "top-k overlap",
    "vargrad": "VarGrad",
    "vfga": "VFGA",
}


def display_name(name: str) -> str:
    """A name as a paper writes it; names that are not known here get a capital letter.

    >>> display_name("integrated-gradients"), display_name("my-attack"), display_name("mlp-2")
    ('Integrated Gradients', 'My attack', 'MLP-2')
    """
    if name in _WRITTEN:
        return _WRITTEN[name]
    # Names of victims may end with their seed.
    head, dash, seed = name.rpartition("-")
    if dash and seed.isdigit() and head in _WRITTEN:
        return f"{_WRITTEN[head]}-{seed}"
    words = name.replace("-", " ").replace("_", " ")
    return words[:1].upper() + words[1:]
