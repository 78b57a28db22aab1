"""A sinogram ready to be aligned horizontally: without background, dead columns and changes of mass, and whether the object leaves the detector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from soct.tomography.dead_columns import fill_columns, find_dead_columns
from soct.tomography.horizontal_settings import HorizontalSettings
from soct.tomography.notices import TomographyWarning
from soct.tomography.support import noise_level
from soct.tomography.truncation import Truncation, detect_truncation, subtract_background

Array = NDArray[Any]

_VARYING_MASS = 0.003
_TOLD_MASS = 0.02


@dataclass(frozen=True)
class PreparedSinogram:
    """A sinogram ready to be aligned, and what had to be done to it.

    Attributes
    ----------
    sinogram : ndarray (detectors, n)
    noise : float
        Standard deviation per pixel.
    truncation : Truncation
    notices : tuple of TomographyWarning
        What was done.
    mass : float
        Sum over the sum of magnitudes: near 1 of a positive object, near -1 of a negative one.
    """

    sinogram: Array
    noise: float
    truncation: Truncation
    notices: tuple[TomographyWarning, ...]
    mass: float


def prepare_sinogram(values: Array, chosen: HorizontalSettings) -> PreparedSinogram:
    """Take out of a sinogram what is not the object's.

    Raises
    ------
    ValueError
        Nothing but zeros.
    """
    notices: list[TomographyWarning] = []
    derivatives = chosen.of_derivatives
    if chosen.calc_derivatives or not derivatives:
        values, background = subtract_background(values, noise_level(values))
        if background > 0.005:
            notices.append(
                TomographyWarning(
                    f"A background of {background:.1%} of the greatest signal was subtracted"
                )
            )
    dead = find_dead_columns(values)
    if dead.size:
        values = fill_columns(values, dead)
        some = ", ".join(map(str, dead[:8].tolist())) + (", ..." if dead.size > 8 else "")
        notices.append(
            TomographyWarning(
                f"{dead.size} detector columns ({some}) show the same in all projections and were interpolated"
            )
        )
    if chosen.calc_derivatives:
        values = np.gradient(values, axis=0)
    if not np.abs(values).max() > 0:
        raise ValueError("The sinogram is zero everywhere: there is nothing to align")
    noise = noise_level(values)
    truncation = detect_truncation(values, noise, derivatives)
    lines = np.cumsum(values, axis=0) if derivatives else values
    mass = float(lines.sum() / np.abs(lines).sum())
    if not derivatives and not truncation.truncated and abs(mass) > 0.5:
        spread = truncation.mass_spread
        if spread > _VARYING_MASS:
            whole = values.sum(axis=0)
            values = values * (np.median(whole) / np.where(whole == 0, 1.0, whole))
        if spread > _TOLD_MASS:
            notices.append(
                TomographyWarning(
                    f"The mass of the projections varies by {spread:.1%}; they were scaled to the same mass"
                )
            )
    return PreparedSinogram(values, noise, truncation, tuple(notices), mass)
