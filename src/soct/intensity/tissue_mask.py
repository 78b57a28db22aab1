"""Where a stacked volume holds tissue: one threshold per serial section, closed over pores and thin gaps.

Convention: see `soct.space`.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from soct.compute.array_modules import array_module, filters, to_host
from soct.errors import InputError
from soct.space import Array


def section_ranges(n_planes: int, n_sections: int) -> list[tuple[int, int]]:
    """Cut the planes of a volume into sections whose sizes differ by one plane at most.

    Raises
    ------
    InputError
        There are fewer planes than sections, or no section is asked for.
    """
    if not 1 <= n_sections <= n_planes:
        raise InputError(
            "A volume cannot be cut into that many sections",
            expected=f"from 1 to {n_planes} sections, one plane each at least",
            found=str(n_sections),
        )
    edges = [round(i * n_planes / n_sections) for i in range(n_sections + 1)]
    return list(itertools.pairwise(edges))


def compute_tissue_mask(
    vol: Array,
    smoothing_sigma: float = 2.0,
    n_serial_slices: int = 1,
    closing_radius: int = 3,
    z_closing_sections: int = 2,
    smoothing_sigma_z: float = 1.0,
    use_gpu: bool = False,
) -> Array:
    """Find the tissue of a volume.

    Each section is smoothed and cut at its own Otsu threshold (of the logarithm, over voxels that hold data): sections
    differ in brightness. Holes within a plane are filled, and closing bridges clefts in the plane and short gaps along z.

    Parameters
    ----------
    vol : ndarray (z, y, x)
        0 and NaN are no data.
    smoothing_sigma : float
        Gaussian sigma in the plane, voxels.
    n_serial_slices : int
        Sections of equal thickness that the planes consist of.
    closing_radius : int
        Radius of the disk that closes each plane, voxels; 0 for none.
    z_closing_sections : int
        Gaps along z up to this many sections are closed; 0 for none. A volume of one section has no such gaps.
    smoothing_sigma_z : float
        Gaussian sigma along z within a section, voxels.
    use_gpu : bool
        Compute on a GPU with CuPy.

    Returns
    -------
    ndarray (z, y, x) bool
        All False where the volume holds no data.

    Raises
    ------
    InputError
        `vol` is not a volume, or has fewer planes than sections.
    ResourceError
        No GPU can be used and one is asked for.
    """
    if np.ndim(vol) != 3 or 0 in np.shape(vol):
        raise InputError("A tissue mask needs a volume (z, y, x)", found=str(np.shape(vol)))
    xp = array_module(gpu=use_gpu)
    ndi = filters(xp)
    sections = section_ranges(vol.shape[0], n_serial_slices)
    mask = xp.zeros(vol.shape, bool)
    for start, stop in sections:
        data = xp.nan_to_num(xp.asarray(vol[start:stop], xp.float32), nan=0, posinf=0, neginf=0)
        lit = data > 0
        if not bool(lit.any()):
            continue
        smooth = _smooth(data, lit, (smoothing_sigma_z, smoothing_sigma, smoothing_sigma), xp, ndi)
        threshold = tissue_threshold(to_host(smooth[lit]))
        mask[start:stop] = (smooth > threshold) & (smooth > 0)
    disk = xp.asarray(_disk(closing_radius))
    for z in range(vol.shape[0]):
        if bool(mask[z].any()):
            plane = _close(mask[z], disk, ndi, xp) if closing_radius > 0 else mask[z]
            mask[z] = ndi.binary_fill_holes(plane)
    if len(sections) > 1 and z_closing_sections > 0:
        reach = z_closing_sections * max(stop - start for start, stop in sections)
        line = xp.ones((reach + 1, 1, 1), bool)
        mask = _close(mask, line, ndi, xp)
    return np.asarray(to_host(mask), bool)


def tissue_threshold(values: Array, bins: int = 256) -> float:
    """Return the brightness that separates tissue from background.

    Otsu's threshold of the logarithm, since tissue is many times brighter than what surrounds it and itself of several
    brightnesses, which a threshold of the linear values cuts apart. Where there is only one class (no valley in
    the histogram and less than a factor of three between the sides), everything is tissue.

    Parameters
    ----------
    values : ndarray
        Positive and smoothed.
    bins : int
        Of the histogram.
    """
    top = float(np.percentile(values, 99))
    logs = np.log(np.clip(values, 1e-3 * top, top))
    low, high = float(logs.min()), float(logs.max())
    if not high > low + 1e-6:
        return 0.0
    counts, edges = np.histogram(logs, bins, range=(low, high))
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)[:-1].astype(float)
    above = len(logs) - below
    mass = np.cumsum(counts * centres)
    dark, bright = mass[:-1] / np.maximum(below, 1), (mass[-1] - mass[:-1]) / above
    split = int(np.argmax(below * above * (bright - dark) ** 2))
    if bright[split] - dark[split] < np.log(3) and not _has_valley(counts, split):
        return 0.0
    # The smoothed border of dim tissue passes half of its level where the tissue ends.
    middle = np.exp(np.array([dark[split], np.percentile(logs[logs > edges[split + 1]], 25)]))
    return float(max(middle.mean(), np.exp(edges[split + 1])))


def _has_valley(counts: Array, split: int) -> bool:
    """Whether the histogram falls to half of the lower peak between the peaks of the two sides."""
    width = max(1, len(counts) // 32)
    smooth = np.convolve(counts, np.ones(width) / width, mode="same")
    left = int(np.argmax(smooth[: split + 1]))
    right = split + 1 + int(np.argmax(smooth[split + 1 :]))
    return bool(smooth[left : right + 1].min() < 0.5 * min(smooth[left], smooth[right]))


def _smooth(data: Any, lit: Any, sigma: tuple[float, float, float], xp: Any, ndi: Any) -> Any:
    """Gaussian mean over voxels with data: zeros around them do not darken a border."""
    weight = ndi.gaussian_filter(lit.astype(xp.float32), sigma, mode="nearest")
    total = ndi.gaussian_filter(data, sigma, mode="nearest")
    return xp.where(lit, total / xp.maximum(weight, 1e-6), 0)


def _disk(radius: int) -> Array:
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    return np.asarray(y * y + x * x <= radius * radius + radius)


def _close(mask: Any, element: Any, ndi: Any, xp: Any) -> Any:
    """Close without eating at the borders of the array."""
    pad = [(n // 2 + 1, n // 2 + 1) if n > 1 else (0, 0) for n in element.shape]
    grown = ndi.binary_dilation(xp.pad(mask, pad), element)
    closed = ndi.binary_erosion(grown, element)
    inner = tuple(slice(a, n + a) for (a, _), n in zip(pad, mask.shape, strict=True))
    return closed[inner] | mask
