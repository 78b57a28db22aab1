"""How likely a slice pair is registered to within a pixel.

A logistic model of what one registration shows about itself, fitted to simulated pairs (shared texture from
all to nearly nothing, speckle, brightness that differs, fields of view that shift).
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class PairEvidence:
    """What speaks for or against one registration.

    Attributes
    ----------
    ncc_before, ncc_after : float
        Correlation at the start and at the result.
    sharpness : float
        Lead of the best candidate over the best different one, in spreads of the search.
    inverse_error_px : float
        Distance to the registration with roles swapped, in pixels.
    sigma_px : float
        Predicted RMS error over the image, in pixels.
    overlap : float
        Share of the smaller image that was compared.
    """

    ncc_before: float
    ncc_after: float
    sharpness: float
    inverse_error_px: float
    sigma_px: float
    overlap: float


def pair_confidence(evidence: PairEvidence) -> float:
    """Return the calibrated confidence in [0, 1]."""
    if not math.isfinite(evidence.sigma_px) or not math.isfinite(evidence.inverse_error_px):
        return 0.0
    score = (
        1.0
        + 1.2 * min(evidence.sharpness, 5.0)
        - 1.5 * math.log(max(evidence.sigma_px, 1e-3) / 0.3)
        - 1.0 * math.log(max(evidence.inverse_error_px, 1e-2) / 0.3)
    )
    return 1.0 / (1.0 + math.exp(-score))
