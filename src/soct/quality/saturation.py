"""Samples at the ceiling of the detector: how many of a tile, told from a brightest speckle by their pile-up.

What a raw file holds is a number, not the detector's range, so the ceiling is read off the samples themselves:
clipping piles up what should lie above it on one value, more than lie in the range below it. Brightness that
was only measured thins out towards its maximum, also where it was rounded to whole numbers.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_FEWEST = 8
"""Fewer samples on the largest value may be chance where values are whole numbers."""
_RANGE = 64
"""The pile is compared with what lies in this part of the way down to the mean."""
_PILE = 2.0


def clipped_share(samples: NDArray[np.floating]) -> float:
    """Return the share of samples that were clipped at the largest value.

    Parameters
    ----------
    samples : ndarray of float
        Of one tile, any shape, all finite, as recorded: averaging over depth hides clipping.

    Returns
    -------
    float
        0 to 1; 0 where the largest value is only the brightest sample. A speckle pattern clipped at the value
        that a millionth of it exceeds still counts, if the tile has eight such samples.
    """
    if samples.size == 0:
        return 0.0
    top = samples.max()
    at_top = int(np.count_nonzero(samples == top))
    if at_top < _FEWEST or at_top == samples.size:
        return 0.0
    below = top - (float(top) - float(samples.mean())) / _RANGE
    near = int(np.count_nonzero(samples >= below)) - at_top
    if near == 0:
        # Coarse steps: the next value that occurs stands for the range below.
        second = samples[samples < top].max()
        near = int(np.count_nonzero(samples == second))
    return at_top / samples.size if at_top > _PILE * near else 0.0
