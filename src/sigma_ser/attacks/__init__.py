"""Attacks, one module each, and SIGMA, which joins explainer, mask and attack.

Run one by name with `attack`, or build one with `make_attack` or its class.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sigma_ser.core.lazy import lazy_names

if TYPE_CHECKING:
    from .base import AttackInterrupted as AttackInterrupted
    from .base import SparseAttack as SparseAttack
    from .black_box import BlackBoxAttack as BlackBoxAttack
    from .cornersearch import CornerSearch as CornerSearch
    from .dual_averaging import DualAveraging as DualAveraging
    from .ead import EAD as EAD
    from .factory import attack as attack
    from .factory import make_attack as make_attack
    from .fgsm import FGSM as FGSM
    from .fmn_l0 import FMNL0 as FMNL0
    from .generator import Generator as Generator
    from .generator_training import train_generator as train_generator
    from .greedyfool import GreedyFool as GreedyFool
    from .homotopy import Homotopy as Homotopy
    from .jsma import JSMA as JSMA
    from .limits import ObservedRange as ObservedRange
    from .masked import MaskedAttack as MaskedAttack
    from .mifgsm import MIFGSM as MIFGSM
    from .minimum_norm import MinimumNormAttack as MinimumNormAttack
    from .onepixel import OnePixel as OnePixel
    from .oneshot import OneShot as OneShot
    from .pgd import PGD as PGD
    from .pgd0 import PGD0 as PGD0
    from .random_corner import RandomCorner as RandomCorner
    from .reselect import Reselect as Reselect
    from .saif import SAIF as SAIF
    from .sapf import SAPF as SAPF
    from .sigma import Sigma as Sigma
    from .sigma_lambda import SigmaLambda as SigmaLambda
    from .sigma_mu import SigmaMu as SigmaMu
    from .sigma_zero import SigmaZero as SigmaZero
    from .sparse_autoattack import SigmaAutoAttack as SigmaAutoAttack
    from .sparse_autoattack import SparseAutoAttack as SparseAutoAttack
    from .sparse_rs import SparseRS as SparseRS
    from .sparsefool import SparseFool as SparseFool
    from .spgd import SparsePGD as SparsePGD
    from .staa_net import StaaNet as StaaNet
    from .success_curve import SuccessCurve as SuccessCurve
    from .vfga import VFGA as VFGA

_HOMES = {
    "AttackInterrupted": "base",
    "BlackBoxAttack": "black_box",
    "CornerSearch": "cornersearch",
    "DualAveraging": "dual_averaging",
    "EAD": "ead",
    "FGSM": "fgsm",
    "FMNL0": "fmn_l0",
    "Generator": "generator",
    "GreedyFool": "greedyfool",
    "Homotopy": "homotopy",
    "JSMA": "jsma",
    "MIFGSM": "mifgsm",
    "MaskedAttack": "masked",
    "MinimumNormAttack": "minimum_norm",
    "ObservedRange": "limits",
    "OnePixel": "onepixel",
    "OneShot": "oneshot",
    "PGD": "pgd",
    "PGD0": "pgd0",
    "RandomCorner": "random_corner",
    "Reselect": "reselect",
    "SAIF": "saif",
    "SAPF": "sapf",
    "Sigma": "sigma",
    "SigmaAutoAttack": "sparse_autoattack",
    "SigmaLambda": "sigma_lambda",
    "SigmaMu": "sigma_mu",
    "SigmaZero": "sigma_zero",
    "SparseAttack": "base",
    "SparseAutoAttack": "sparse_autoattack",
    "SparseFool": "sparsefool",
    "SparsePGD": "spgd",
    "SparseRS": "sparse_rs",
    "StaaNet": "staa_net",
    "SuccessCurve": "success_curve",
    "VFGA": "vfga",
    "attack": "factory",
    "make_attack": "factory",
    "train_generator": "generator_training",
}

if not TYPE_CHECKING:
    __getattr__, __dir__, __all__ = lazy_names(__name__, _HOMES)
