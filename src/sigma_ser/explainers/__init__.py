"""Explainers, one module a family: each returns a saliency map for a class of the victim.

Run one by name with `explain`, or build one with `make_explainer` or its class.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sigma_ser.core.lazy import lazy_names

if TYPE_CHECKING:
    from .adversarial_path import AdversarialPath as AdversarialPath
    from .base import BaseExplainer as BaseExplainer
    from .causal_segments import CausalSegments as CausalSegments
    from .classes import explained_class as explained_class
    from .classes import predicted as predicted
    from .classes import runner_up as runner_up
    from .control import Random as Random
    from .deeplift import DeepLift as DeepLift
    from .deeplift import DeepLiftShap as DeepLiftShap
    from .expected import ExpectedGradients as ExpectedGradients
    from .expected import GradientShap as GradientShap
    from .explanation import explain as explain
    from .explanation import make_explainer as make_explainer
    from .gradient import Gradient as Gradient
    from .gradient import GradientMargin as GradientMargin
    from .gradient import InputXGradient as InputXGradient
    from .greedy_support import GreedySupport as GreedySupport
    from .integrated import IntegratedGradients as IntegratedGradients
    from .layers import AttentionWeights as AttentionWeights
    from .layers import GradCAM as GradCAM
    from .layers import GuidedBackprop as GuidedBackprop
    from .noise import SmoothGrad as SmoothGrad
    from .noise import VarGrad as VarGrad
    from .occlusion import FeatureAblation as FeatureAblation
    from .occlusion import Occlusion as Occlusion
    from .over_time import OverTime as OverTime
    from .rise import RISE as RISE
    from .sparse_path import SparsePath as SparsePath
    from .surrogate import KernelShap as KernelShap
    from .surrogate import Lime as Lime
    from .universal import Universal as Universal
    from .universal import UniversalMap as UniversalMap

_HOMES = {
    "AdversarialPath": "adversarial_path",
    "AttentionWeights": "layers",
    "BaseExplainer": "base",
    "CausalSegments": "causal_segments",
    "DeepLift": "deeplift",
    "DeepLiftShap": "deeplift",
    "ExpectedGradients": "expected",
    "FeatureAblation": "occlusion",
    "GradCAM": "layers",
    "Gradient": "gradient",
    "GradientMargin": "gradient",
    "GradientShap": "expected",
    "GreedySupport": "greedy_support",
    "GuidedBackprop": "layers",
    "InputXGradient": "gradient",
    "IntegratedGradients": "integrated",
    "KernelShap": "surrogate",
    "Lime": "surrogate",
    "Occlusion": "occlusion",
    "OverTime": "over_time",
    "RISE": "rise",
    "Random": "control",
    "SmoothGrad": "noise",
    "SparsePath": "sparse_path",
    "Universal": "universal",
    "UniversalMap": "universal",
    "VarGrad": "noise",
    "explain": "explanation",
    "explained_class": "classes",
    "make_explainer": "explanation",
    "predicted": "classes",
    "runner_up": "classes",
}

if not TYPE_CHECKING:
    __getattr__, __dir__, __all__ = lazy_names(__name__, _HOMES)
