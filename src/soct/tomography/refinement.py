"""Refine horizontal shifts once more, from where they are."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from soct.tomography.horizontal import OWN_KEYWORDS
from soct.tomography.horizontal_settings import HorizontalSettings
from soct.tomography.keywords import check_keywords
from soct.tomography.many_slices import align_horizontal_slices
from soct.tomography.notices import tell
from soct.tomography.projections import Stack, as_stack


def refine_horizontalalignment(
    stack: Stack, theta: ArrayLike, shiftstack: ArrayLike, **params: Any
) -> tuple[NDArray[np.float64], dict[str, Any]]:
    """Align projections horizontally from present shifts, and return what it was done with.

    Nothing is asked: change the parameters that come back and call again.

    Parameters
    ----------
    stack : (n, rows, cols)
    theta : array_like (n,)
    shiftstack : array_like (2, n)
        Vertical shifts, which are applied, and horizontal ones to start from; not changed.
    **params
        Those of `align_horizontal` and `align_horizontal_slices`; one slice is used unless `n_slices_tc` says otherwise. Documented
        parameters of the other functions are passed over, and come back as they were.

    Returns
    -------
    shiftstack : float64 ndarray (2, n)
    params : dict
        All parameters that had an effect, with their values, and those that were given.

    Raises
    ------
    ValueError, TypeError
        As `align_horizontal_slices`; an unknown parameter is named with the nearest one.

    Warns
    -----
    TomographyWarning
        The result holds with a reservation.
    """
    own = ("slicenum", "n_slices_tc", "n_workers_tc", *OWN_KEYWORDS)
    given = check_keywords("refine_horizontalalignment", params, own)
    stack = as_stack(stack)
    used = {
        **{field.name: field.default for field in fields(HorizontalSettings)},
        "slicenum": stack.shape[1] // 2,
        "n_slices_tc": 1,
        "n_workers_tc": 1,
        "theta_unit": "auto",
        "axis": stack.shape[2] // 2,
        **given,
    }
    found = align_horizontal_slices(stack, theta, shiftstack, **used)
    tell(found.notices)
    return found.shifts, {**params, **used}
