"""Where the rotation axis lies on the detector.

Two sources of evidence. The double wedge of the sinogram (`soct.tomography.angular_spectrum`) uses all projections at once, needs no
opposite ones, and is the sharper one for objects that the detector shows whole. Opposite projections
(`soct.tomography.opposite_projections`) serve where the object reaches beyond the detector, as with an axis near its edge in a scan of
a full turn. Rows are averaged in bands, which lose nothing, for a mean of sinograms is a sinogram.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage as ndi

from soct.tomography.angles import AngleUnit, radians
from soct.tomography.keywords import check_keywords
from soct.tomography.notices import TomographyWarning, tell
from soct.tomography.opposite_projections import (
    OppositePairs,
    find_opposite,
    likeness_of_axes,
    register_opposite,
)
from soct.tomography.projections import Stack, as_stack, check_sinogram, plane_of
from soct.tomography.wedge_search import search_axis

FloatVector = NDArray[np.float64]
Picker = Callable[[Any, FloatVector, float], float]
Method = Literal["angular spectrum", "opposite projections"]

_BANDS = 16
# Projections must span this much: less says nothing of the axis that noise would leave.
_LEAST_SPAN_DEG = 90.0
_HALF_TURN_DEG = 170.0
# Part of the brightest columns that the outermost ones show where the object reaches beyond the detector.
_CUT = 0.06


@dataclass(frozen=True)
class RotationAxis:
    """The rotation axis, with what speaks for it.

    Attributes
    ----------
    axis : float
        Detector coordinate in pixels: 0 is the centre of the first pixel.
    uncertainty : float
        Standard deviation, pixels.
    method : str
        ``angular spectrum`` or ``opposite projections``.
    candidates, score : ndarray (m,)
        Axes tried, and how badly each explains the projections, 0 (entirely) to 1; the axis is where it is lowest, but for
        rounding.
    rows, row_axes, row_uncertainties : ndarray (k,)
        Middle of every band of rows that says something, the axis that it says, and how surely.
    notices : tuple of str
        What a user must know about it.
    """

    axis: float
    uncertainty: float
    method: Method
    candidates: FloatVector
    score: FloatVector
    rows: FloatVector
    row_axes: FloatVector
    row_uncertainties: FloatVector
    notices: tuple[str, ...] = ()


def estimate_rot_axis(
    stack: Stack,
    theta: ArrayLike,
    *,
    theta_unit: AngleUnit = "auto",
    derivatives: bool = False,
    picker: Picker | None = None,
    **params: Any,
) -> float:
    """Find where the rotation axis lies on the detector.

    Parameters
    ----------
    stack : (n, rows, cols) or (cols, n)
        Line integrals: projections, or one sinogram (detector, angle).
    theta : array_like (n,)
        Angles over half a turn, a full one, or part of one; even or uneven, in any order.
    theta_unit : {"auto", "rad", "deg"}
        "auto" takes a span of at most 2 pi for radians.
    derivatives : bool
        The projections are derivatives along the detector (phase gradients), whose mirror images change sign.
    picker : callable, optional
        ``picker(stack, theta, axis) -> axis``, with theta in radians, lets somebody correct the estimate. Without it nothing is asked.
    **params
        Documented parameters of other functions are passed over.

    Returns
    -------
    float
        Detector coordinate in pixels: 0 is the centre of the first pixel.

    Raises
    ------
    ValueError
        Shapes that do not fit, NaN, angles that span too little, or projections that show nothing.
    TypeError
        An unknown parameter.

    See Also
    --------
    find_rotation_axis : the same with uncertainty, score and notices.
    """
    check_keywords("estimate_rot_axis", params, ("theta_unit", "derivatives", "picker"))
    found = find_rotation_axis(stack, theta, theta_unit=theta_unit, derivatives=derivatives)
    tell(found.notices, TomographyWarning)
    if picker is None:
        return found.axis
    n = _angle_count(stack)
    return float(picker(stack, radians(theta, theta_unit, n), found.axis))


def _angle_count(stack: Any) -> int:
    shape = np.shape(stack) if not hasattr(stack, "shape") else stack.shape
    return int(shape[0] if len(shape) == 3 else shape[-1])


def find_rotation_axis(
    stack: Stack,
    theta: ArrayLike,
    *,
    theta_unit: AngleUnit = "auto",
    derivatives: bool = False,
) -> RotationAxis:
    """Find the rotation axis, and tell how sure that is.

    Parameters
    ----------
    stack : (n, rows, cols) or (cols, n)
        Line integrals: projections, or one sinogram (detector, angle).
    theta : array_like (n,)
        Angles, see `estimate_rot_axis`.
    theta_unit : {"auto", "rad", "deg"}
    derivatives : bool
        The projections are derivatives along the detector.

    Returns
    -------
    RotationAxis

    Raises
    ------
    ValueError
        Shapes that do not fit, NaN, angles that span too little, or projections that show nothing.
    """
    bands, rows = _read_bands(stack)
    angles = radians(theta, theta_unit, bands.shape[1])
    span = float(np.rad2deg(np.ptp(angles)))
    _check_scan(bands, span)
    cut = cut_sides(bands, derivatives)
    pairs = find_opposite(angles)
    if any(cut) and len(pairs) >= max(3, len(angles) // 4):
        found = _by_pairs(bands, rows, pairs, derivatives)
    elif any(cut) and span + _step_deg(angles) < 179.0:
        raise ValueError(
            f"The object reaches beyond the detector, and the angles span {span:.1f} degrees: "
            "without half a turn nothing tells the axis"
        )
    else:
        found = _by_wedge(bands, rows, angles, any(cut), derivatives)
    return _with_notices(found, cut, span + _step_deg(angles))


def _step_deg(angles: FloatVector) -> float:
    steps = np.diff(np.sort(angles))
    steps = steps[steps > 1e-9]
    return float(np.rad2deg(np.median(steps))) if steps.size else 0.0


def _check_scan(bands: NDArray[Any], span: float) -> None:
    if bands.shape[1] < 8 or bands.shape[2] < 16:
        raise ValueError(
            f"A rotation axis needs at least 8 projections of 16 columns, not {bands.shape[1]} of {bands.shape[2]}"
        )
    if span < _LEAST_SPAN_DEG:
        raise ValueError(
            f"The angles span {span:.1f} degrees; at least {_LEAST_SPAN_DEG:.0f} are needed to tell the axis, "
            "180 to tell it well. Are the angles in the unit that theta_unit says?"
        )
    if not np.ptp(bands, axis=2).any():
        raise ValueError("All projections are of one brightness: nothing tells the rotation axis")


def _read_bands(stack: Any) -> tuple[NDArray[np.float32], FloatVector]:
    """Return means over bands of rows, (bands, n, cols), and the middles of the bands."""
    if not hasattr(stack, "shape"):
        stack = np.asarray(stack)
    if len(stack.shape) == 2:
        sinogram = check_sinogram(stack)
        _refuse_complex(sinogram)
        return np.asarray(sinogram.T[None], np.float32), np.zeros(1)
    stack = as_stack(stack)
    n, rows, cols = stack.shape
    edges = np.linspace(0, rows, min(_BANDS, rows) + 1).astype(int)
    bands = np.empty((len(edges) - 1, n, cols), np.float32)
    for k in range(n):
        plane = plane_of(stack, k)
        _refuse_complex(plane)
        sums = np.add.reduceat(plane.astype(np.float64, copy=False), edges[:-1], axis=0)
        bands[:, k] = sums / np.diff(edges)[:, None]
    return bands, 0.5 * (edges[:-1] + edges[1:] - 1)


def _refuse_complex(array: NDArray[Any]) -> None:
    if array.dtype.kind == "c":
        raise ValueError("A rotation axis is found from real line integrals, not complex numbers")


def cut_sides(bands: NDArray[Any], derivatives: bool = False) -> tuple[bool, bool]:
    """Whether the object reaches beyond the first and the last column, of projections ``(bands, n, cols)``."""
    # Means over neighbouring angles and columns: noise must not look like an object that is cut.
    mean = ndi.uniform_filter(bands.mean(axis=0, dtype=np.float64), (7, 5), mode="nearest")
    if not derivatives:
        mean -= np.percentile(mean, 1)
    bright = float(np.percentile(np.abs(mean), 97))
    left, right = (bool(np.percentile(np.abs(mean[:, e]), 90) > _CUT * bright) for e in (0, -1))
    return left, right


# -- Two ways to find it


def _by_wedge(
    bands: NDArray[np.float32],
    rows: FloatVector,
    angles: FloatVector,
    is_cut: bool,
    derivatives: bool,
) -> RotationAxis:
    found = search_axis(bands, angles, is_cut=is_cut, derivatives=derivatives)
    best = found.best
    said = np.isfinite(best.row_uncertainties)
    return RotationAxis(
        best.axis,
        max(best.uncertainty, found.search.width, *(abs(r.axis - best.axis) for r in found.rivals)),
        "angular spectrum",
        found.search.candidates,
        found.search.score,
        rows[said],
        best.row_axes[said],
        best.row_uncertainties[said],
        tuple(
            f"The axis might as well lie at {rival.axis:.1f} px: little tells the two apart"
            for rival in found.rivals
        ),
    )


def _by_pairs(
    bands: NDArray[np.float32], rows: FloatVector, pairs: OppositePairs, derivatives: bool
) -> RotationAxis:
    front, behind = _front_and_behind(bands, pairs, derivatives)
    axes, correlation, evidence = likeness_of_axes(front, behind)
    start = float(axes[np.argmax(evidence)])
    fit = register_opposite(front, behind, start)
    said = np.isfinite(fit.row_uncertainties)
    notices: tuple[str, ...] = ()
    if fit.left_out > 0.2 * len(pairs):
        notices = (
            f"{fit.left_out} of {len(pairs)} opposite pairs disagree with the others: did the object move?",
        )
    return RotationAxis(
        fit.axis,
        fit.uncertainty,
        "opposite projections",
        axes,
        np.clip((1 - correlation) / 2, 0, 1),
        rows[said],
        fit.row_axes[said],
        fit.row_uncertainties[said],
        notices,
    )


def _front_and_behind(
    bands: NDArray[np.float32], pairs: OppositePairs, derivatives: bool
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return projections and those from behind, ``(k, bands, cols)``."""
    behind = pairs.behind(bands.swapaxes(0, 1))
    return bands[:, pairs.first].swapaxes(0, 1), -behind if derivatives else behind


# -- What is to be said


def _with_notices(found: RotationAxis, cut: tuple[bool, bool], span: float) -> RotationAxis:
    told = list(found.notices)
    if any(cut):
        where = {(True, True): "both ends", (True, False): "its first column", (False, True): "its last column"}[cut]  # fmt: skip
        told.append(
            f"The object reaches beyond the detector at {where}; the axis was found from "
            + ("opposite projections alone" if found.method == "opposite projections" else "what it shows on both sides of the axis")
        )  # fmt: skip
    if span < _HALF_TURN_DEG:
        told.append(
            f"The projections span {span:.0f} degrees of the 180 that the axis needs; it is uncertain by {found.uncertainty:.2g} px"
        )
    elif found.uncertainty > 1.0:
        told.append(f"The axis is uncertain by {found.uncertainty:.2g} px")
    if tilt := _tilt(found):
        told.append(tilt)
    return replace(found, notices=tuple(told))


def _tilt(found: RotationAxis) -> str:
    """Say by how much the axis leans against the detector's columns, if it does for sure."""
    if len(found.rows) < 4:
        return ""
    weight = 1 / found.row_uncertainties
    x = found.rows - np.average(found.rows, weights=weight**2)
    design = np.stack([np.ones_like(x), x], axis=1) * weight[:, None]
    solution, *_ = np.linalg.lstsq(design, found.row_axes * weight, rcond=None)
    rest = (found.row_axes * weight) - design @ solution
    scale = max(1.0, float((rest**2).sum()) / (len(x) - 2))
    sigma = float(np.sqrt(scale / (design[:, 1] ** 2).sum()))
    change = float(solution[1] * np.ptp(found.rows))
    if abs(solution[1]) < 5 * sigma or abs(change) < 0.5:
        return ""
    return (
        f"The axis leans: from the first rows to the last it moves by {change:+.2f} px "
        f"({np.rad2deg(np.arctan(solution[1])):+.3f} degrees)"
    )
