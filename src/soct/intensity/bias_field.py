"""Slow changes of brightness that are the instrument's, not the tissue's: estimated by N4 and divided out.

The functions of this module keep the names and signatures that scripts written for linumpy call. Every backend
fits the field on block means of the volume (`soct.intensity.coarse_field`) and carries it to all voxels
in the same way; they differ only in who iterates: ``cpu`` is SimpleITK, ``numba`` and ``gpu`` are
`soct.intensity.n4`. On the phantoms of ``benchmarks/bias_field.py`` they agree to 1e-4.

Convention: see `soct.space`.

References
----------
Tustison et al., IEEE Trans. Med. Imaging 29:1310, 2010.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, cast

import numpy as np
from numba import get_num_threads, njit, prange
from scipy import ndimage as ndi

from soct.compute.array_modules import array_module, gpu_problem
from soct.errors import InputError
from soct.intensity.coarse_field import CoarseField, Shrunk, block_edges, shrink
from soct.intensity.n4 import CONVERGENCE, fit_log_field
from soct.intensity.tissue_mask import compute_tissue_mask, section_ranges
from soct.space import Array, FloatArray

__all__ = [
    "Backend",
    "MeshOptions",
    "apply_bias_field",
    "axis_factor",
    "compute_tissue_mask",
    "fit_shrunk",
    "n4_correct",
    "n4_correct_per_section",
    "resolve_backend",
]

Backend = Literal["cpu", "numba", "gpu", "auto"]
BACKENDS = ("cpu", "numba", "gpu", "auto")
DEFAULT_ITERATIONS = (50, 50, 50, 50)
LEAST_BLOCKS = 4
"""An axis is not reduced to fewer blocks than this."""
BLOCKS_PER_ELEMENT = 8
"""Blocks that an element of the finest mesh spans along the longest axis: a finer mesh follows the tissue."""
LEAST_VOXELS = 64
"""With fewer blocks of tissue than this there is no histogram to sharpen."""
_WORK_UNITS = 8
_CROSS = np.array([[[0, 1, 0], [1, 1, 1], [0, 1, 0]]], bool)


class BiasCorrection(NamedTuple):
    """What N4 made of a volume.

    Attributes
    ----------
    corrected : ndarray (z, y, x) float32
    bias_field : ndarray (z, y, x) float32
        Positive and finite everywhere; its logarithm is 0 on average over the mask.
    """

    corrected: FloatArray
    bias_field: FloatArray


@dataclass(frozen=True)
class MeshOptions:
    """How fine the field may be.

    Attributes
    ----------
    iterations : tuple of int
        Most iterations of each level; the mesh doubles from one to the next.
    spline_distance_mm : float
        Size of an element of the first mesh.
    """

    iterations: tuple[int, ...] = DEFAULT_ITERATIONS
    spline_distance_mm: float = 10.0

    def levels(self, blocks: Sequence[int]) -> tuple[int, ...]:
        """Return the iterations of the levels that a grid of this size bears."""
        most = max(1, int(np.floor(np.log2(max(max(blocks) / BLOCKS_PER_ELEMENT, 1)))) + 1)
        return self.iterations[:most]

    def elements(self, extent_mm: Sequence[float], blocks: Sequence[int]) -> list[int]:
        """Choose the elements of the first mesh along each axis."""
        finest = 1 << (len(self.levels(blocks)) - 1)
        return [
            max(
                1,
                min(
                    int(np.ceil(size / self.spline_distance_mm - 1e-9)),
                    n // (BLOCKS_PER_ELEMENT * finest),
                ),
            )
            for size, n in zip(extent_mm, blocks, strict=True)
        ]


def axis_factor(length: int, factor: int) -> int:
    """Return the size of the blocks along an axis: `factor`, or less where that leaves too few blocks."""
    return max(1, min(factor, length // LEAST_BLOCKS))


def resolve_backend(backend: str) -> Literal["cpu", "numba", "gpu"]:
    """Return the backend that runs: ``auto`` is the GPU where one can be used, else numba.

    Raises
    ------
    InputError
        There is no such backend.
    ResourceError
        ``gpu`` is asked for and none can be used.
    """
    if backend not in BACKENDS:
        raise InputError("Unknown backend", expected=", ".join(BACKENDS), found=str(backend))
    if backend == "auto":
        return "numba" if gpu_problem() else "gpu"
    if backend == "gpu":
        array_module(gpu=True)
    return cast(Literal["cpu", "numba", "gpu"], backend)


def n4_correct(
    vol: Array,
    mask: Array | None = None,
    *,
    shrink_factor: int = 4,
    n_iterations: Sequence[int] | None = None,
    spline_distance_mm: float = 10.0,
    voxel_size_mm: tuple[float, float, float] = (1.0, 1.0, 1.0),
    backend: str = "cpu",
    out: Array | None = None,
    bias_out: Array | None = None,
) -> BiasCorrection:
    """Estimate the bias field of a volume and divide by it.

    Parameters
    ----------
    vol : ndarray (z, y, x)
        Linear intensity. Values that are not positive or not finite are no data: they take no part in the fit,
        and NaN stays NaN.
    mask : ndarray (z, y, x) bool, optional
        Tissue; found on the shrunk volume when absent. An empty mask gives a field of 1.
    shrink_factor : int
        Voxels per block along each axis for the fit; less along an axis that would keep fewer than 4 blocks.
    n_iterations : sequence of int, optional
        Most iterations of each level, default ``[50, 50, 50, 50]``.
    spline_distance_mm : float
        Element of the first mesh; each level halves it. The finest element stays at least 8 blocks long: the
        first mesh is made coarser for that, and on a small volume the last levels are left out.
    voxel_size_mm : tuple of float
        Along z, y, x.
    backend : str
        ``cpu`` (SimpleITK), ``numba``, ``gpu`` (CuPy), or ``auto`` (GPU where there is one, else numba).
    out, bias_out : ndarray (z, y, x), optional
        Where the results are written; `out` may be `vol` itself.

    Returns
    -------
    BiasCorrection
        ``(corrected, bias_field)``. A constant volume, or one with fewer than 64 blocks of tissue, holds nothing to
        fit: its field is 1.

    Raises
    ------
    InputError
        Shapes, types or options do not fit.
    ResourceError
        The backend is ``gpu`` and no GPU can be used.
    """
    vol = np.asarray(vol)
    _check(vol, mask, shrink_factor, n_iterations, spline_distance_mm, voxel_size_mm, out, bias_out)
    chosen = resolve_backend(backend)
    options = MeshOptions(
        DEFAULT_ITERATIONS if n_iterations is None else tuple(n_iterations), spline_distance_mm
    )
    edges = [block_edges(n, axis_factor(n, shrink_factor)) for n in vol.shape]
    small = shrink(vol, mask, (edges[0], edges[1], edges[2]))
    inside = _tissue_blocks(small, masked=mask is not None)
    extent = [n * v for n, v in zip(vol.shape, voxel_size_mm, strict=True)]
    field = fit_shrunk(small, inside, extent, options, chosen)
    bias = np.empty(vol.shape, np.float32) if bias_out is None else bias_out
    log_field = bias if bias.dtype == np.float32 else np.empty(vol.shape, np.float32)
    nz, ny, nx = vol.shape
    field.evaluate((0, nz), (0, ny), (0, nx), log_field)
    _exponentiate(log_field)
    if log_field is not bias:
        bias[...] = log_field
    corrected = np.empty(vol.shape, np.float32) if out is None else out
    np.divide(vol, bias, out=corrected, casting="same_kind")
    return BiasCorrection(corrected, bias)


def apply_bias_field(vol: Array, bias_field: Array, floor: float = 1e-06) -> FloatArray:
    """Divide a volume by a field.

    Parameters
    ----------
    vol, bias_field : ndarray, same shape
    floor : float
        Least divisor.
    """
    if np.shape(vol) != np.shape(bias_field):
        raise InputError(
            "The bias field has another shape than the volume",
            expected=str(np.shape(vol)),
            found=str(np.shape(bias_field)),
        )
    return np.divide(vol, np.maximum(bias_field, floor)).astype(np.float32, copy=False)


def n4_correct_per_section(
    vol: Array,
    n_serial_slices: int,
    mask: Array | None = None,
    *,
    n_processes: int = 1,
    **kwargs: Any,
) -> BiasCorrection:
    """Correct each serial section by a field of its own.

    Every field is 1 on average, so the sections keep their levels; `soct.intensity.plane_gains` levels them.

    Parameters
    ----------
    vol : ndarray (z, y, x)
    n_serial_slices : int
        Sections of equal thickness that the planes consist of.
    mask : ndarray (z, y, x) bool, optional
        Tissue.
    n_processes : int
        Sections that are worked on at a time; the result does not depend on it.
    **kwargs
        For `n4_correct`; `out` and `bias_out` are whole volumes.

    Returns
    -------
    BiasCorrection
    """
    vol = np.asarray(vol)
    if vol.ndim != 3:
        raise InputError("Bias correction needs a volume (z, y, x)", found=str(vol.shape))
    if mask is not None and np.shape(mask) != vol.shape:
        raise _unfit("mask", vol.shape, np.shape(mask))
    out, bias_out = kwargs.pop("out", None), kwargs.pop("bias_out", None)
    corrected = np.empty(vol.shape, np.float32) if out is None else out
    bias = np.empty(vol.shape, np.float32) if bias_out is None else bias_out

    def correct(section: tuple[int, int]) -> None:
        here = slice(*section)
        part = None if mask is None else np.asarray(mask)[here]
        n4_correct(vol[here], part, out=corrected[here], bias_out=bias[here], **kwargs)

    sections = section_ranges(vol.shape[0], n_serial_slices)
    if n_processes <= 1:
        for section in sections:
            correct(section)
    else:
        with ThreadPoolExecutor(n_processes) as pool:
            list(pool.map(correct, sections))
    return BiasCorrection(corrected, bias)


def fit_shrunk(
    small: Shrunk,
    inside: Array,
    extent_mm: Sequence[float],
    options: MeshOptions,
    backend: Literal["cpu", "numba", "gpu"],
) -> CoarseField:
    """Fit the field of a volume that is shrunk already.

    Parameters
    ----------
    small : Shrunk
    inside : ndarray (mz, my, mx) bool
        Blocks of tissue.
    extent_mm : sequence of float
        Size of the volume along z, y, x.
    options : MeshOptions
    backend : str
        From `resolve_backend`.

    Returns
    -------
    CoarseField
        0 everywhere where there is nothing to fit.
    """
    values = small.image[inside]
    if values.size < LEAST_VOXELS or np.ptp(np.log(values)) < 1e-5:
        return CoarseField(np.zeros(small.image.shape, np.float32), small.centres)
    iterations = options.levels(small.image.shape)
    elements = options.elements(extent_mm, small.image.shape)
    if backend == "cpu":
        log_bias = _fit_itk(small.image, inside, elements, iterations)
    else:
        xp = array_module(gpu=backend == "gpu")
        found = fit_log_field(small.image, inside, small.centres, elements, iterations, xp=xp)
        log_bias = found.log_bias
    return CoarseField(log_bias, small.centres)


def _tissue_blocks(small: Shrunk, *, masked: bool) -> Array:
    """Blocks that take part: at least half valid, or any part of them where none is."""
    inside = small.share >= 0.5
    if not inside.any():
        inside = small.share > 0
    if not masked and inside.any():
        tissue = compute_tissue_mask(
            np.where(inside, small.image, 0),
            smoothing_sigma=0.5,
            smoothing_sigma_z=0.25,
            closing_radius=1,
        )
        # A block on the border holds both; within the tissue there is none.
        core = ndi.binary_erosion(tissue, _CROSS, border_value=1)
        inside &= core if core.any() else tissue
    return inside


def _fit_itk(
    image: FloatArray, inside: Array, elements: Sequence[int], iterations: Sequence[int]
) -> FloatArray:
    """Fit by SimpleITK's N4, which has no mesh on an axis of fewer than four samples: those are repeated."""
    import SimpleITK as sitk

    repeats = [-(-LEAST_BLOCKS // n) if n < LEAST_BLOCKS else 1 for n in image.shape]
    for axis, times in enumerate(repeats):
        image, inside = (np.repeat(a, times, axis) for a in (image, inside))
    fitted = sitk.GetImageFromArray(np.where(inside, image, 1).astype(np.float32))
    n4 = sitk.N4BiasFieldCorrectionImageFilter()
    n4.SetMaximumNumberOfIterations([int(n) for n in iterations])
    n4.SetNumberOfControlPoints([n + 3 for n in reversed(elements)])
    n4.SetConvergenceThreshold(CONVERGENCE)
    # Sums follow the division of the work, not the number of threads.
    n4.SetNumberOfWorkUnits(_WORK_UNITS)
    n4.SetNumberOfThreads(get_num_threads())
    n4.Execute(fitted, sitk.GetImageFromArray(inside.astype(np.uint8)))
    log_bias = sitk.GetArrayFromImage(n4.GetLogBiasFieldAsImage(fitted))
    log_bias = log_bias - log_bias[inside].mean(dtype=np.float64)
    for axis, times in enumerate(repeats):
        if times > 1:
            parts = np.split(log_bias, log_bias.shape[axis] // times, axis)
            log_bias = np.concatenate([p.mean(axis, keepdims=True) for p in parts], axis)
    return np.asarray(log_bias, np.float32)


def _check(
    vol: Array,
    mask: Array | None,
    shrink_factor: int,
    n_iterations: Sequence[int] | None,
    spline_distance_mm: float,
    voxel_size_mm: Sequence[float],
    out: Array | None,
    bias_out: Array | None,
) -> None:
    if vol.ndim != 3 or 0 in vol.shape:
        raise InputError("Bias correction needs a volume (z, y, x)", found=str(vol.shape))
    for name, other in (("mask", mask), ("out", out), ("bias_out", bias_out)):
        if other is not None and np.shape(other) != vol.shape:
            raise _unfit(name, vol.shape, np.shape(other))
    for name, target in (("out", out), ("bias_out", bias_out)):
        if target is not None and not np.issubdtype(target.dtype, np.floating):
            raise InputError(
                f"`{name}` cannot hold the result",
                expected="floating point",
                found=str(target.dtype),
            )
    if shrink_factor < 1 or int(shrink_factor) != shrink_factor:
        raise InputError(
            "The shrink factor must be a whole number",
            expected="1 or more",
            found=str(shrink_factor),
        )
    if n_iterations is not None and (len(n_iterations) == 0 or min(n_iterations) < 0):
        raise InputError(
            "Iterations are given per level",
            expected="one number of 0 or more per level, such as [50, 50, 50, 50]",
            found=str(list(n_iterations)),
        )
    if not spline_distance_mm > 0 or len(voxel_size_mm) != 3 or not min(voxel_size_mm) > 0:
        raise InputError(
            "Spline distance and voxel size must be positive",
            found=f"{spline_distance_mm} mm and {tuple(voxel_size_mm)} mm",
        )


def _unfit(name: str, expected: Sequence[int], found: Sequence[int]) -> InputError:
    return InputError(
        f"`{name}` has another shape than the volume",
        expected=str(tuple(expected)),
        found=str(tuple(found)),
    )


@njit(cache=True, nogil=True, parallel=True)
def _exponentiate(values: FloatArray) -> None:
    for z in prange(values.shape[0]):
        for y in range(values.shape[1]):
            for x in range(values.shape[2]):
                values[z, y, x] = np.exp(values[z, y, x])
