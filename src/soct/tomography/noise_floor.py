"""The shell correlation that a second, equally noisy volume would show, from the spectrum of one.

Power is that of the thing, S, plus that of noise, N. Two volumes of one thing with independent noise correlate by ``S / (S + N)``, so the
correlation follows from one of them as soon as N is known. White noise is the level at which the spectrum ends. Noise that interpolation
has coloured has the spectrum of a region without structure, where there is one.

Halves of one volume (even and odd voxels; Koho et al., Nat. Commun. 10, 2019) are no way round N: what they correlate
by is S minus its alias, which is 0 at half of the highest frequency whatever the volume, hence the calibration that such
methods need; and interpolation makes neighbours alike, which they take for detail.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from soct.tomography.shell_correlation import ShellCorrelation, judge

FloatVector = NDArray[np.float64]

# Part of the highest frequency at which noise is looked for, and how long a stretch is averaged.
_HIGH = 0.6
_STRETCH = 0.12
# White noise has the same power in both of these parts of the range of frequencies.
_LOWER, _UPPER = (0.70, 0.82), (0.90, 1.0)
_LEVEL = 1.15


@dataclass(frozen=True)
class NoiseFloor:
    """What a spectrum says of its noise.

    Attributes
    ----------
    power : ndarray (m,)
        Of the noise, for each shell.
    fall : float
        Power from 70 to 82 % of the highest frequency over power from 90 % on, relative to the noise's shape: 1 where only
        such noise is left.
    fall_error : float
        How much `fall` may be off by chance: one standard deviation.
    is_level : bool
        Whether the spectrum ends in noise. If not, detail is as fine as the voxels, or noise is of another shape.
    """

    power: FloatVector
    fall: float
    fall_error: float
    is_level: bool


def find_noise_floor(
    frequencies: FloatVector,
    power: FloatVector,
    counts: FloatVector,
    shape: FloatVector | None = None,
) -> NoiseFloor:
    """Find the noise below a spectrum.

    Parameters
    ----------
    frequencies, power, counts : ndarray (m,)
        Of shells, see `Shells`: mean power of the values of each, and how many independent numbers that is of.
    shape : ndarray (m,), optional
        Spectrum of noise alone, in any unit; white where absent.
    """
    assumed = np.ones(len(power)) if shape is None else np.maximum(shape, 1e-300)
    ratio = power / assumed
    part = frequencies / frequencies[-1]
    high = ratio[part >= _HIGH]
    width = max(1, round(_STRETCH * len(ratio)))
    means = np.convolve(high, np.ones(min(width, len(high))), "valid") / min(width, len(high))
    fall, error = spectral_fall(frequencies, ratio, counts)
    return NoiseFloor(float(means.min()) * assumed, fall, error, is_white(fall, error))


def spectral_fall(
    frequencies: FloatVector, power: FloatVector, counts: FloatVector
) -> tuple[float, float]:
    """Return by which factor power falls from 76 to 95 % of the highest frequency, and its standard deviation by chance.

    Both are NaN where shells are too few.
    """
    part = frequencies / frequencies[-1]
    level, chance = [], 0.0
    for low, high in (_LOWER, _UPPER):
        within = (part >= low) & (part <= high * (1 + 1e-9))
        if not within.any():
            return float("nan"), float("nan")
        total = float(counts[within].sum())
        level.append(float((power * counts)[within].sum()) / total)
        chance += 2 / total
    fall = level[0] / max(level[1], 1e-300)
    return fall, fall * float(np.sqrt(chance))


def is_white(fall: float, error: float) -> bool:
    """Whether a spectrum that falls by a factor towards its end (`spectral_fall`) may be that of white noise there."""
    return fall < _LEVEL + 2 * error


def correlation_of_one(
    frequencies: FloatVector,
    power: FloatVector,
    counts: FloatVector,
    shape: FloatVector | None = None,
) -> ShellCorrelation:
    """Return the shell correlation that a second, equally noisy volume would show.

    Parameters
    ----------
    frequencies, power, counts : ndarray (m,)
        Of shells, see `Shells`.
    shape : ndarray (m,), optional
        Spectrum of noise alone; white where absent.
    """
    floor = find_noise_floor(frequencies, power, counts, shape)
    correlation = np.clip(1 - floor.power / np.maximum(power, 1e-300), -1, 1)
    told = () if floor.is_level else (NOT_LEVEL,)
    return judge(frequencies, correlation, counts, told)


NOT_LEVEL = (
    "The spectrum does not end in noise: either detail is as fine as the voxels, or the noise of neighbours is correlated "
    "(a resampled or smoothed volume), and the resolution told is finer than the true one"
)
