"""How likely a slice pair is registered to within a pixel.

A logistic model of what one registration shows about itself, set by hand beside a fit to simulated pairs
(shared texture from all to nearly nothing, speckle, brightness that differs, fields of view that shift).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

# Round numbers, set by hand near a maximum-likelihood fit to 358 simulated pairs, half of them nearly without
# shared texture; they are not the fit itself. The predicted error carries nearly all of it. The caution is a
# safety factor on top, chosen by eye: it puts 0.6 where nine pairs in ten are within a pixel, so that all pairs
# above it together exceed 95 % even among hard ones.
_INTERCEPT = -0.2
_PER_SHARPNESS = 0.25
_PER_LOG_SIGMA = 3.0
_PER_INVERSE = 1.0
_CAUTION = 1.9


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
    odds = (
        _INTERCEPT
        + _PER_SHARPNESS * min(evidence.sharpness, 4.0)
        - _PER_LOG_SIGMA * math.log(max(evidence.sigma_px, 1e-3))
        - _PER_INVERSE * max(0.0, evidence.inverse_error_px - 0.3)
    )
    return 1.0 / (1.0 + math.exp(-max(odds - _CAUTION, -50.0)))
