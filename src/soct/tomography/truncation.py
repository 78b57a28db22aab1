"""Whether an object leaves the detector, told from the signal at the detector's ends and from the mass, which is the same from all sides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Vector = NDArray[np.float64]

_SIGNIFICANT = 5.0
_FAINT = 0.03
"""Of the greatest signal: less at an end is a background rather than an object."""
_FEW = 0.02
_DARK = 0.1
_DARKEST = 0.01
_SAME_MASS = 0.005
_LOST = 0.02
"""Of the mass: less, lost at an end, does no harm."""


@dataclass(frozen=True)
class Truncation:
    """What reaches the detector's ends.

    Attributes
    ----------
    left, right : float
        Share of the projections whose signal at that end rises above noise and background, and that lack mass, if most do not.
    level : float
        Greatest median signal at an end among those projections, as a part of the greatest signal.
    mass_spread : float
        Standard deviation of the mass over its mean, less what noise explains; NaN for derivatives.
    """

    left: float
    right: float
    level: float
    mass_spread: float

    @property
    def truncated(self) -> bool:
        """Whether the object leaves the field of view in more than a few projections."""
        return max(self.left, self.right) > _FEW

    @property
    def both_ends(self) -> bool:
        """Whether it does so at either end: then no ray passes beside it."""
        return min(self.left, self.right) > _FEW

    def describe(self) -> str:
        """Say it in a sentence."""
        if not self.truncated:
            return "The object lies within the field of view"
        where = [
            f"at the {name} end in {share:.0%} of the projections"
            for name, share in (("left", self.left), ("right", self.right))
            if share > _FEW
        ]
        mass = (
            f"; the mass varies by {self.mass_spread:.1%}" if np.isfinite(self.mass_spread) else ""
        )
        return (
            f"The object is truncated: it leaves the field of view {' and '.join(where)}, "
            f"with up to {self.level:.0%} of the greatest signal{mass}"
        )


def edge_levels(sinogram: Array) -> tuple[Vector, Vector, int]:
    """Return the mean signal at both ends of each projection, and over how many pixels it is taken."""
    width = max(2, round(0.01 * len(sinogram)))
    return (
        sinogram[:width].mean(axis=0),
        sinogram[len(sinogram) - width :].mean(axis=0),
        width,
    )


def detect_truncation(sinogram: Array, noise: float, derivatives: bool = False) -> Truncation:
    """Look for the object at the detector's ends.

    Parameters
    ----------
    sinogram : ndarray (detectors, n)
        Without its background, see `subtract_background`.
    noise : float
        Standard deviation per pixel.
    derivatives : bool
        Whether it is the derivative along the detector.
    """
    left, right, width = edge_levels(sinogram)
    greatest = float(np.quantile(np.abs(sinogram), 0.999))
    limit = max(_SIGNIFICANT * noise / np.sqrt(width), _FAINT * greatest)
    beyond = [np.abs(level) > limit for level in (left, right)]
    strong = [
        float(np.median(np.abs(level[over])))
        for level, over in zip((left, right), beyond, strict=True)
        if over.any()
    ]
    arm = 0.5 * (len(sinogram) - 1) - np.arange(len(sinogram)) if derivatives else None
    mass = sinogram.sum(axis=0) if arm is None else arm @ sinogram
    by_noise = noise * float(np.sqrt(len(sinogram) if arm is None else (arm**2).sum()))
    whole = max(float(np.abs(np.median(mass))), 1e-300)
    spread = float(np.sqrt(max(float(mass.var()) - by_noise**2, 0.0))) / whole
    touching = beyond[0] | beyond[1]
    if 0 < touching.mean() < 0.5 and by_noise < _LOST * whole:
        # An object that only comes near to an end loses no mass there.
        lost = np.abs(mass - np.median(mass[~touching])) > max(_LOST * whole, 5.0 * by_noise)
        beyond = [over & lost for over in beyond]
    return Truncation(
        float(beyond[0].mean()),
        float(beyond[1].mean()),
        max(strong, default=0.0) / max(greatest, 1e-300),
        np.nan if derivatives else spread,
    )


def subtract_background(sinogram: Array, noise: float) -> tuple[Array, float]:
    """Take an even background out of each projection: the line through both of its ends.

    Parameters
    ----------
    sinogram : ndarray (detectors, n)
    noise : float
        Standard deviation per pixel.

    Returns
    -------
    ndarray (detectors, n)
        As given, where what the ends show is not told from an object that leaves the field.
    float
        Median background, as a part of the greatest signal.
    """
    width = max(5, round(0.01 * len(sinogram)))
    # Medians, so that a dead column at an end has no say.
    left, right = np.median(sinogram[:width], axis=0), np.median(sinogram[-width:], axis=0)
    greatest = float(np.quantile(np.abs(sinogram), 0.999))
    ends = np.stack([left, right])
    middle = float(np.median(ends))
    if middle == 0.0:
        return sinogram, 0.0
    # A whole sinogram's background has little noise; that of single ends would add theirs to every moment.
    share = ((np.arange(len(sinogram)) + 0.5 - 0.5 * width) / (len(sinogram) - width))[:, None]
    line = np.median(left) * (1 - share) + np.median(right) * share
    rest = sinogram - line
    # Where some ends show more than others by much, it is the object that does.
    unevenness = np.quantile(np.abs(ends - middle), 0.98)
    faint = abs(middle) < _DARK * greatest
    if faint and unevenness <= max(2.0 * abs(middle), _FAINT * greatest):
        return rest, abs(middle) / greatest
    if _is_whole(rest, noise, width):
        return rest, abs(middle) / greatest
    return sinogram, 0.0


def _is_whole(sinogram: Array, noise: float, width: int) -> bool:
    """Whether a sinogram without a bright background is that of an object within the field: dark ends, and one mass from all sides."""
    ends = np.abs(np.stack([sinogram[:width].mean(axis=0), sinogram[-width:].mean(axis=0)]))
    greatest = float(np.quantile(np.abs(sinogram), 0.999))
    mass = sinogram.sum(axis=0)
    whole = float(np.abs(np.median(mass)))
    if whole < _DARK * float(np.abs(sinogram).sum(axis=0).mean()):
        return False
    by_noise = noise * np.sqrt(len(sinogram))
    dark = np.quantile(ends, 0.98) < _DARKEST * greatest + 4.0 * noise / np.sqrt(width)
    return bool(dark and float(mass.std()) < _SAME_MASS * whole + 2.0 * by_noise)
