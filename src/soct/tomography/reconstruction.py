"""Slices from sinograms: filtered back-projection or SART, one slice or a stack slab by slab.

Values are those of the object per pixel: a sinogram of line integrals, in units times pixels, gives the units back. Angles may be
unevenly spaced and cover any part of the turn (`soct.tomography.angles.angular_weights`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from typing import Any, Literal

import numpy as np
from numba import get_num_threads
from numpy.typing import ArrayLike, NDArray

from soct.compute.backend import CPU, Backend, Device
from soct.tomography import radon_arrays
from soct.tomography.angles import AngleUnit, angular_weights
from soct.tomography.field_of_view import (
    Geometry,
    complete_opposite,
    continue_edges,
    extended_size,
)
from soct.tomography.filters import (
    check_cutoff,
    filter_name,
    filter_sinogram,
    integrate_derivatives,
    low_pass,
)
from soct.tomography.projections import real_floating
from soct.tomography.radon import Kernel, back_project_slices, is_cubic
from soct.tomography.sart import ITERATIONS, RELAXATION, reconstruct_sart

Array = NDArray[Any]
Algorithm = Literal["FBP", "SART"]


@dataclass(frozen=True)
class SliceSettings:
    """How slices are reconstructed; checked when made.

    Attributes
    ----------
    algorithm : {"FBP", "SART"}
        Filtered back-projection, or SART for few projections.
    filtertype : {"ram-lak", "shepp-logan", "cosine", "hamming", "hann", "none"}
        Window on the ramp (FBP); ``none`` back-projects without filter.
    freqcutoff : float
        No detector frequency beyond it is used; in units of Nyquist's, over 0 and up to 1.
    derivatives : bool
        Sinograms hold derivatives of the line integrals with respect to the detector coordinate.
    calc_derivatives : bool
        Sinograms hold line integrals whose differences along the detector are to be used: a constant added to a projection then has no
        effect.
    extended : bool
        The rotation axis is near one end of the detector, the object reaches beyond that end, and a full turn was taken: opposite
        projections complete each other. The slice is then twice as wide as the longer side unless `size` says otherwise.
    circle : bool
        Leave 0 what lies outside the inscribed circle.
    cliplow, cliphigh : float, optional
        Limits of the values (within the circle).
    size : int, optional
        Rows and columns of the slice; as the detector is long unless told otherwise.
    padding : {"zero", "edge"}
        What projections are taken to be beyond the detector (FBP): nothing, or, where the object reaches beyond it, their outermost value
        falling to nothing over half a detector. Zero gives a truncated object a bright rim.
    interpolation : {"cubic", "linear"}
        Of filtered projections (FBP): linear is scikit-image's, less sharp and a little less noisy.
    iterations : int
        Passes of SART over all projections.
    relaxation : float
        Share of each correction that SART makes, over 0 and below 2.
    """

    algorithm: Algorithm = "FBP"
    filtertype: str | None = "ram-lak"
    freqcutoff: float = 1.0
    derivatives: bool = False
    calc_derivatives: bool = False
    extended: bool = False
    circle: bool = True
    cliplow: float | None = None
    cliphigh: float | None = None
    size: int | None = None
    padding: Literal["zero", "edge"] = "zero"
    interpolation: Kernel = "cubic"
    iterations: int = ITERATIONS
    relaxation: float = RELAXATION

    def __post_init__(self) -> None:
        name = str(self.algorithm).upper()
        if name not in ("FBP", "SART"):
            raise ValueError(f"there is no algorithm {self.algorithm!r}; choose FBP or SART")
        object.__setattr__(self, "algorithm", name)
        object.__setattr__(self, "filtertype", filter_name(self.filtertype))
        check_cutoff(self.freqcutoff)
        is_cubic(self.interpolation)
        if self.padding not in ("zero", "edge"):
            raise ValueError(f"there is no padding {self.padding!r}; choose zero or edge")
        if self.extended and (self.derivatives or self.calc_derivatives):
            raise ValueError("extended takes line integrals, not derivatives: integrate them first")
        if self.size is not None and self.size < 1:
            raise ValueError(f"size must be at least 1 pixel, not {self.size}")
        low, high = self.limits
        if not low < high:
            raise ValueError(f"cliplow must be below cliphigh, not {low} and {high}")

    @property
    def limits(self) -> tuple[float, float]:
        """Least and greatest value, infinite where there is no limit."""
        low = -np.inf if self.cliplow is None else float(self.cliplow)
        return low, np.inf if self.cliphigh is None else float(self.cliphigh)


def slice_settings(function: str, given: dict[str, Any]) -> SliceSettings:
    """Return settings from keywords; one that isn't known is a TypeError with the nearest name."""
    known = [f.name for f in fields(SliceSettings)]
    for name in given:
        if name not in known:
            near = get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"it takes {', '.join(known)}"
            raise TypeError(f"{function}() got an unknown parameter {name!r}; {hint}")
    return SliceSettings(**given)


def reconstruct_slice(
    sinogram: ArrayLike,
    theta: ArrayLike,
    *,
    theta_unit: AngleUnit = "auto",
    axis: float | None = None,
    shifts: ArrayLike | None = None,
    backend: Backend = CPU,
    **settings: Any,
) -> Array:
    """Return a slice, or several that share their angles.

    Parameters
    ----------
    sinogram : array (detectors, n) or (slices, detectors, n)
    theta : array (n,)
        Angles of the projections.
    theta_unit : {"auto", "rad", "deg"}
        ``auto`` takes a span of at most 2 pi for radians.
    axis : float, optional
        Detector coordinate of the rotation axis; ``detectors // 2`` unless told otherwise. It comes to lie at pixel
        ``(size // 2, size // 2)`` of the slice.
    shifts : array (n,), optional
        Horizontal displacement of the object in each projection; the sinogram isn't interpolated for it.
    backend : Backend
        Where it is computed.
    **settings
        Those of `SliceSettings`: algorithm, filtertype, freqcutoff, derivatives, calc_derivatives, extended, circle, cliplow, cliphigh,
        size, padding, interpolation, iterations, relaxation.

    Returns
    -------
    array (size, size) or (slices, size, size)
        float32 if that holds the sinogram's type, else float64.
    """
    chosen = slice_settings("reconstruct_slice", settings)
    values = real_floating(sinogram)
    if values.ndim not in (2, 3) or 0 in values.shape:
        raise ValueError(
            f"a sinogram is (detectors, n), or several of one shape, not {values.shape}"
        )
    detectors, n = values.shape[-2:]
    geometry = Geometry.of(theta, theta_unit, axis, shifts, detectors, n)
    projections = np.ascontiguousarray(values.reshape(-1, detectors, n).transpose(0, 2, 1))
    slices = reconstruct_projections(projections, geometry, chosen, backend)
    return slices.reshape(*values.shape[:-2], *slices.shape[-2:])


def reconstruct_projections(
    projections: Array, geometry: Geometry, settings: SliceSettings, backend: Backend = CPU
) -> Array:
    """Return slices ``(slices, size, size)`` of projections ``(slices, n, detectors)``."""
    bad = projections.size - int(np.isfinite(projections).sum())
    if bad:
        raise ValueError(
            f"{bad} of {projections.size} values of the sinogram are NaN or infinite: fill them first"
        )
    if settings.calc_derivatives and not settings.derivatives:
        # A difference belongs half a pixel after the first of both.
        projections = np.diff(projections, axis=-1)
        geometry = replace(geometry, axis=geometry.axis - 0.5)
        settings = replace(
            settings, derivatives=True, size=settings.size or projections.shape[-1] + 1
        )
    size = _slice_size(settings, geometry, projections.shape[-1])
    if settings.extended and settings.algorithm == "FBP":
        projections = complete_opposite(projections, geometry)
    radius = size // 2 if settings.circle else float(np.hypot(size, size) / 2)
    if settings.algorithm == "SART":
        return _sart(projections, geometry, settings, size, radius, backend)
    return _clip(_fbp(projections, geometry, settings, size, radius, backend), settings, radius)


def _slice_size(settings: SliceSettings, geometry: Geometry, detectors: int) -> int:
    if settings.size is None and settings.extended:
        return extended_size(geometry, detectors)
    return settings.size or detectors


def _sart(
    projections: Array,
    geometry: Geometry,
    settings: SliceSettings,
    size: int,
    radius: float,
    backend: Backend,
) -> Array:
    if settings.derivatives:
        projections = integrate_derivatives(projections, axis=-1)
    return reconstruct_sart(
        np.ascontiguousarray(low_pass(projections, settings.freqcutoff, axis=-1)),
        geometry.angles,
        geometry.axis,
        (size, size),
        radius=radius,
        iterations=settings.iterations,
        relaxation=settings.relaxation,
        low=settings.cliplow,
        high=settings.cliphigh,
        backend=backend,
    )


def _fbp(
    projections: Array,
    geometry: Geometry,
    settings: SliceSettings,
    size: int,
    radius: float,
    backend: Backend,
) -> Array:
    # Filtered projections go on beyond the detector, where the object itself is not.
    detectors = projections.shape[-1]
    before = max(0, int(np.ceil(radius - geometry.axis.min())) + 2)
    after = max(0, int(np.ceil(geometry.axis.max() + radius + 3 - detectors)))
    reach = detectors // 2 if settings.padding == "edge" and not settings.derivatives else 0
    before, after = max(before, reach), max(after, reach)
    padded = np.pad(projections, ((0, 0), (0, 0), (before, after)))
    if reach:
        continue_edges(padded, before, after, reach)
    if backend.compiled or settings.filtertype == "none":
        padded = filter_sinogram(
            padded,
            filtertype=settings.filtertype,
            freqcutoff=settings.freqcutoff,
            derivatives=settings.derivatives,
            axis=-1,
            threads=get_num_threads(),
        )
    else:
        padded = radon_arrays.filter_projections(
            backend.xp,
            backend.up(padded),
            filter_name(settings.filtertype),
            settings.freqcutoff,
            settings.derivatives,
        )
    padded *= backend.up(angular_weights(geometry.angles)[:, None].astype(projections.dtype))
    return back_project_slices(
        padded,
        geometry.angles,
        geometry.axis + before,
        (size, size),
        radius,
        is_cubic(settings.interpolation),
        backend,
    )


def _clip(slices: Array, settings: SliceSettings, radius: float) -> Array:
    if settings.cliplow is None and settings.cliphigh is None:
        return slices
    np.clip(slices, *settings.limits, out=slices)
    low, high = settings.limits
    if settings.circle and not low <= 0.0 <= high:
        slices *= radon_arrays.disc(np, slices.shape[-2:], radius)
    return slices


def reconstruct_stack(
    stack: Any,
    theta: ArrayLike,
    *,
    theta_unit: AngleUnit = "auto",
    axis: float | None = None,
    shifts: ArrayLike | None = None,
    rows: tuple[int, int] | None = None,
    out: Any = None,
    slab: int | None = None,
    device: Device | None = None,
    progress: Callable[[int, int], None] | None = None,
    **settings: Any,
) -> Any:
    """Reconstruct the slices of a stack, slab by slab; results do not depend on the slabs or on threads.

    Parameters
    ----------
    stack : array-like (n, rows, cols)
        Aligned vertically; anything that gives arrays for ``stack[:, a:b, :]``.
    theta, theta_unit, axis, shifts, **settings
        As in `reconstruct_slice`.
    rows : (int, int), optional
        First row and the one after the last; all unless told otherwise.
    out : array-like (rows, size, size), optional
        Is filled with ``out[a:b] = slices``; a float array is made unless given.
    slab : int, optional
        Rows at once; as many as fit in about 256 MB unless told otherwise.
    device : Device, optional
        Where it is computed, processors unless told otherwise. Where its memory does not hold a slab, slabs are halved, and in the end
        computed on processors; `Device.fallbacks` says so.
    progress : callable, optional
        Is told how many slices are done, and of how many.

    Returns
    -------
    array-like (rows, size, size)
        `out`.
    """
    chosen = slice_settings("reconstruct_stack", settings)
    if len(stack.shape) != 3 or 0 in stack.shape:
        raise ValueError(f"a stack is (n, rows, cols), not {tuple(stack.shape)}")
    n, height, columns = (int(v) for v in stack.shape)
    first, stop = (0, height) if rows is None else (int(rows[0]), int(rows[1]))
    if not 0 <= first < stop <= height:
        raise ValueError(f"rows must lie within 0 and {height}, in order, not {rows}")
    geometry = Geometry.of(theta, theta_unit, axis, shifts, columns, n)
    size = _slice_size(chosen, geometry, columns)
    dtype = real_floating(np.empty(0, stack.dtype)).dtype
    if out is None:
        out = np.empty((stop - first, size, size), dtype)
    elif tuple(out.shape) != (stop - first, size, size):
        raise ValueError(f"out must have the shape {(stop - first, size, size)}, not {out.shape}")
    step = slab or _slab_rows(n, columns, size, dtype.itemsize)
    device = device or Device()
    a = first
    while a < stop:
        b = min(a + step, stop)
        block = real_floating(stack[:, a:b, :])
        projections = np.ascontiguousarray(block.transpose(1, 0, 2))
        try:
            slices = reconstruct_projections(projections, geometry, chosen, device.backend)
        except MemoryError:
            step = device.shorten(b - a, 1)
            continue
        out[a - first : b - first] = slices
        a = b
        if progress is not None:
            progress(b - first, stop - first)
    return out


_SLAB_BYTES = 256e6


def _slab_rows(n: int, columns: int, size: int, itemsize: int) -> int:
    """How many rows fit: projections padded, their spectra, and two images per slice."""
    each = itemsize * (8 * n * columns + 2 * size * size)
    return max(1, int(_SLAB_BYTES / each))
