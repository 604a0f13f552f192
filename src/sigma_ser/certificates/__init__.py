"""Certificates, one module each method: lower bounds on the margins under every allowed change.

`certify` runs the method that suits a victim; an attack shows what can be done, a certificate what
cannot.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sigma_ser.core.lazy import lazy_names

if TYPE_CHECKING:
    from .affine import Affine as Affine
    from .affine_tested import AffineTested as AffineTested
    from .certificate import Certificate as Certificate
    from .certificate import CertificateMethod as CertificateMethod
    from .choice import certify as certify
    from .frame_ablation import FrameAblation as FrameAblation
    from .framewise import Framewise as Framewise

_HOMES = {
    "Affine": "affine",
    "AffineTested": "affine_tested",
    "Certificate": "certificate",
    "CertificateMethod": "certificate",
    "FrameAblation": "frame_ablation",
    "Framewise": "framewise",
    "certify": "choice",
}

if not TYPE_CHECKING:
    __getattr__, __dir__, __all__ = lazy_names(__name__, _HOMES)
