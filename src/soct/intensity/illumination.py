"""The flat field of the tiles: how brightly each place in the field of view is lit and collected.

The model is BaSiC's (Peng et al., Nat. Commun. 8:14836, 2017): tile ``I_i = F * B_i + D``, with one flat field
``F`` of mean 1, one dark field ``D`` and one brightness ``B_i`` per tile; ``F`` is smooth and sparse in the
cosine domain and what the tiles show beyond it (anatomy) is sparse, which reweighting enforces. Two things
are ours. How smooth ``F`` is follows from the tiles: a cosine coefficient counts as far as it is alike in all of
them, measured by its scatter from tile to tile. And where tiles overlap, the same tissue is seen at two
places of the field, so the ratio there is one of ``F`` alone: these equations are free of anatomy.

Convention: see `soct.space`. Projections are 2-D tile images (mean over depths inside the tissue).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import fft
from scipy import ndimage as ndi

from soct.errors import InputError
from soct.geometry.resampling import average_boxes
from soct.intensity.basicpy_flat import fit_basicpy
from soct.intensity.flat_field_fit import LogFlatFit, cluster_places, fit_log_flat
from soct.intensity.overlap_equations import build_overlap_equations
from soct.space import Array, FloatArray

FlatFieldMethod = Literal["basic", "basicpy", "median", "mean"]
WORKING_PX = 128
SIGNIFICANCE = 4.0
MIN_TISSUE_FRACTION = 0.25
DARK_SIGNIFICANCE = 2.5


@dataclass(frozen=True)
class Illumination:
    """A flat and a dark field, and how they were found.

    Attributes
    ----------
    flat : ndarray (y, x) float32
        Relative sensitivity, mean 1, positive.
    dark : ndarray (y, x) float32
        What a tile shows without light, in the unit of the tiles.
    baseline : ndarray (n,) float32
        Brightness of each tile; NaN for tiles that did not vote.
    weights : ndarray (n,) float32
        Vote of each tile: its share of tissue, 0 below a quarter.
    equations : int
        Overlap equations used.
    iterations : int
        Rounds of reweighting.
    converged : bool
        Whether the last round changed the flat field by less than 0.05 %.
    method : str
        ``basic``, ``median`` or ``mean``.
    reason : str
        What was done, in words.
    """

    flat: FloatArray
    dark: FloatArray
    baseline: FloatArray
    weights: FloatArray
    equations: int
    iterations: int
    converged: bool
    method: str
    reason: str


def choose_samples(n_tiles: int, max_samples: int = 2000) -> list[int]:
    """Choose which tiles of a run the flat field is estimated from: evenly spread, always the same."""
    if n_tiles <= max_samples:
        return list(range(n_tiles))
    return [int(i) for i in (np.arange(max_samples) * n_tiles) // max_samples]


def reduce_projection(projection: Array, working_px: int = WORKING_PX) -> FloatArray:
    """Average a projection over boxes so that neither side exceeds the working size.

    Parameters
    ----------
    projection : ndarray (y, x)
    working_px : int
        Largest side of the result; 2,000 of them at 128 take 131 MB.

    Returns
    -------
    ndarray float32
    """
    data = np.asarray(projection, dtype=np.float32)
    factor = max(1.0, max(data.shape) / working_px)
    shape = (max(1, round(data.shape[0] / factor)), max(1, round(data.shape[1] / factor)))
    return data if shape == data.shape else average_boxes(data, shape)


def correct_illumination(tile: Array, illumination: Illumination) -> FloatArray:
    """Take the dark field off a tile and divide it by the flat field.

    Parameters
    ----------
    tile : ndarray (..., y, x)
    illumination : Illumination
        Of the same lateral shape.
    """
    if tile.shape[-2:] != illumination.flat.shape:
        raise InputError(
            "The flat field has another shape than the tile",
            expected=str(illumination.flat.shape),
            found=str(tile.shape[-2:]),
        )
    out = np.asarray(tile, dtype=np.float32) - illumination.dark
    out /= illumination.flat
    return out


def estimate_illumination(
    projections: Array,
    *,
    positions_px: Array | None = None,
    groups: Array | None = None,
    method: FlatFieldMethod = "basic",
    darkfield: bool = False,
    smoothness: float | None = None,
    max_iterations: int = 500,
    output_shape: tuple[int, int] | None = None,
) -> Illumination:
    """Estimate the flat field that the tiles of a run share.

    Parameters
    ----------
    projections : ndarray (n, y, x)
        Tile projections at full size, or from `reduce_projection`.
    positions_px : ndarray (n, 2), optional
        Rough positions (y, x) of the tiles in pixels of `projections`; enables the overlap equations.
    groups : ndarray (n,) int, optional
        Slice of each tile; only tiles of one slice overlap. All alike when absent.
    method : str
        ``basic``; ``basicpy``, that library's fit of the tiles that vote; or ``median`` or ``mean`` of the tiles
        after division by their brightness, smoothed.
    darkfield : bool
        Estimate a dark field too: one offset, from tiles of different brightness, 0 where their
        anatomy hides it. A measured dark frame is better wherever there is one.
    smoothness : float, optional
        How many standard errors a fine cosine coefficient must reach to count; 4 when absent. For ``basicpy``
        its own ``smoothness_flatfield``.
    max_iterations : int
        Limit on the rounds of reweighting.
    output_shape : tuple of int, optional
        Shape of the result when `projections` were reduced.

    Returns
    -------
    Illumination
        Flat 1 where no tile votes: nothing is ever invented from blank tiles.

    Raises
    ------
    InputError
        When `projections` is not a stack of images.
    ConfigurationError
        When the method is ``basicpy`` and the library is not installed.
    """
    stack = np.asarray(projections, dtype=np.float32)
    if stack.ndim != 3 or 0 in stack.shape:
        raise InputError("A flat field needs a stack (n, y, x) of tiles", found=str(stack.shape))
    shape = output_shape or (stack.shape[1], stack.shape[2])
    work = np.stack([reduce_projection(_without_gaps(p)) for p in stack])
    scale = np.array(work.shape[1:]) / np.array(stack.shape[1:])
    tissue = find_tissue_pixels(work)
    votes = tissue.mean(axis=(1, 2)).astype(np.float32)
    votes[votes < MIN_TISSUE_FRACTION] = 0
    if not votes.any():
        return _no_illumination(shape, len(stack), method)
    if method == "basicpy":
        return _by_basicpy(work, votes, shape, darkfield, smoothness, max_iterations)
    dark = 0.0
    if darkfield:
        first = estimate_illumination(
            stack,
            positions_px=positions_px,
            groups=groups,
            method=method,
            smoothness=smoothness,
            max_iterations=max_iterations,
            output_shape=(work.shape[1], work.shape[2]),
        )
        dark = _estimate_dark(work, votes, first.flat)
    floor = 1e-3 * float(np.median(work[tissue]))
    logs = np.log(np.maximum(work - dark, floor)).astype(np.float32)
    if method == "basic":
        equations = None
        if positions_px is not None:
            equations = build_overlap_equations(
                work - dark,
                tissue,
                np.asarray(positions_px, dtype=float) * scale,
                np.zeros(len(stack), int) if groups is None else np.asarray(groups),
            )
        fit = fit_log_flat(
            logs,
            tissue,
            votes,
            equations,
            cluster_places(positions_px, stack.shape),
            smoothness or SIGNIFICANCE,
            max_iterations,
        )
    else:
        fit = _average_log_flat(logs, tissue, votes, method)
    log_flat = _expand_cosines(fit.coefficients, shape)
    flat = np.exp(log_flat - log_flat.mean())
    flat /= flat.mean()
    return Illumination(
        flat.astype(np.float32),
        np.full(shape, dark, np.float32),
        np.where(votes > 0, np.exp(fit.baseline), np.nan).astype(np.float32),
        votes,
        fit.equations,
        fit.iterations,
        fit.converged,
        method,
        f"{method} over {int((votes > 0).sum())} of {len(stack)} tiles"
        + (f" and {fit.equations} overlap equations" if fit.equations else "")
        + (", no significant dark field" if darkfield and dark == 0 else ""),
    )


def _without_gaps(image: FloatArray) -> FloatArray:
    known = np.isfinite(image)
    return image if known.all() else np.where(known, image, np.float32(0))


def _by_basicpy(
    work: FloatArray,
    votes: FloatArray,
    shape: tuple[int, int],
    darkfield: bool,
    smoothness: float | None,
    max_iterations: int,
) -> Illumination:
    found = fit_basicpy(
        work[votes > 0], darkfield=darkfield, smoothness=smoothness, max_iterations=max_iterations
    )
    flat = np.exp(_expand_cosines(fft.dctn(np.log(found.flat), norm="ortho"), shape))
    dark = _expand_cosines(fft.dctn(found.dark, norm="ortho"), shape)
    baseline = np.full(len(work), np.nan, np.float32)
    baseline[votes > 0] = found.baseline
    return Illumination(
        (flat / flat.mean()).astype(np.float32),
        np.maximum(dark, 0).astype(np.float32),
        baseline,
        votes,
        0,
        0,
        True,
        "basicpy",
        f"BaSiCPy over {int((votes > 0).sum())} of {len(work)} tiles",
    )


def find_tissue_pixels(stack: Array) -> Array:
    """Tell tissue from background over all tiles together.

    Parameters
    ----------
    stack : ndarray (n, y, x)

    Returns
    -------
    ndarray (n, y, x) bool
        Above Otsu's threshold of the smoothed log brightness; every lit pixel where there are no two classes.
    """
    smooth = ndi.gaussian_filter(np.asarray(stack, np.float32), (0, 2, 2), mode="nearest")
    lit = smooth > 0
    if not lit.any():
        return np.zeros(stack.shape, bool)
    levels = smooth[lit]
    logs = np.log(levels[:: 1 + levels.size // 400_000])
    low, high = np.percentile(logs, [0.5, 99.5])
    if high - low < 0.7:
        return lit
    counts, edges = np.histogram(np.clip(logs, low, high), 128)
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)
    above = below[-1] - below
    mass = np.cumsum(counts * centres)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean_low, mean_high = mass / below, (mass[-1] - mass) / above
        between = np.nan_to_num(below * above * (mean_low - mean_high) ** 2)
    split = int(np.argmax(between))
    # Texture alone splits too; two classes are taken for real only when the valley between them is deep.
    left, right = int(np.argmax(counts[: split + 1])), split + int(np.argmax(counts[split:]))
    smoothed = ndi.gaussian_filter1d(counts.astype(float), 3)
    valley = smoothed[left : right + 1].min() if right > left else np.inf
    two_classes = valley < 0.5 * min(smoothed[left], smoothed[right])
    if not two_classes or mean_high[split] - mean_low[split] < 0.9:
        return lit
    return np.asarray(lit & (smooth > np.exp(edges[split + 1])))


def _average_log_flat(
    logs: FloatArray, tissue: Array, votes: FloatArray, method: FlatFieldMethod
) -> LogFlatFit:
    """Median or mean of the normalised tiles, smoothed: the simple estimates."""
    baseline = np.full(len(logs), np.nan)
    normalised = []
    for i in np.flatnonzero(votes > 0):
        values = np.exp(logs[i])
        level = float(np.median(values[tissue[i]]))
        baseline[i] = np.log(level)
        normalised.append(np.where(tissue[i], values / level, np.nan))
    tiles = np.stack(normalised)
    seen = np.isfinite(tiles).any(0)
    pooled = np.ones(logs.shape[1:])
    average = np.nanmedian if method == "median" else np.nanmean
    pooled[seen] = average(tiles[:, seen], axis=0)
    sigma = 0.06 * max(pooled.shape)
    smooth = ndi.gaussian_filter(pooled, sigma, mode="nearest")
    coefficients = fft.dctn(np.log(np.maximum(smooth, 1e-6)), norm="ortho")
    coefficients[0, 0] = 0
    return LogFlatFit(coefficients, baseline, 0, 1, True)


def _estimate_dark(stack: FloatArray, votes: FloatArray, flat: Array) -> float:
    """Constant offset that makes dim tiles look less vignetted than bright ones; 0 unless significant.

    With an offset D, ``ln(F B + D)`` is ``ln F + ln B + D / (F B)``: the share of the shape 1/F in a tile
    grows with 1/B. Anatomy scatters that share, and its scatter decides what is significant.
    """
    used = stack[votes > 0]
    if len(used) < 8:
        return 0.0
    # It cannot exceed what the darkest places of the tiles show.
    darkest = float(np.percentile(ndi.gaussian_filter(used, (0, 2, 2), mode="nearest"), 0.5))
    shape = 1 / flat - (1 / flat).mean()
    if darkest <= 0 or (shape**2).mean() < 1e-6:
        return 0.0
    floor = 1e-3 * float(np.median(used))
    dark, error = 0.0, 0.0
    for _ in range(8):
        logs = np.log(np.maximum(used - dark, floor))
        level = logs.mean((1, 2))
        share = ((logs - level[:, None, None]) * shape).sum((1, 2)) / (shape**2).sum()
        inverse = np.exp(-level)
        spread = inverse - inverse.mean()
        if not (spread**2).sum() > 0:
            return 0.0
        slope = float((spread * share).sum() / (spread**2).sum())
        left = share - share.mean() - slope * spread
        error = float(np.sqrt((left**2).sum() / (len(used) - 2) / (spread**2).sum()))
        dark = float(np.clip(dark + slope, 0, darkest))
    return dark if dark > DARK_SIGNIFICANCE * error else 0.0


def _expand_cosines(coefficients: Array, shape: tuple[int, int]) -> Array:
    """Evaluate cosine coefficients of a box-averaged image on the full grid."""
    source = coefficients.shape
    if source == shape:
        return np.asarray(fft.idctn(coefficients, norm="ortho"))
    full = np.zeros(shape)
    rows, cols = min(source[0], shape[0]), min(source[1], shape[1])
    # Averaging over a box of f samples damps order k by sinc(k / 2n) of the box; this takes it back.
    gain_y = _box_response(rows, source[0], shape[0])
    gain_x = _box_response(cols, source[1], shape[1])
    full[:rows, :cols] = coefficients[:rows, :cols] / (gain_y[:, None] * gain_x[None])
    full *= np.sqrt(full.size / coefficients.size)
    return np.asarray(fft.idctn(full, norm="ortho"))


def _box_response(orders: int, n_coarse: int, n_fine: int) -> Array:
    if n_coarse >= n_fine:
        return np.ones(orders)
    k = np.arange(orders)
    return np.asarray(np.sinc(k / (2 * n_coarse)) / np.sinc(k / (2 * n_fine)))


def _no_illumination(shape: tuple[int, int], n_tiles: int, method: str) -> Illumination:
    zeros = np.zeros(shape, np.float32)
    return Illumination(
        np.ones(shape, np.float32),
        zeros,
        np.full(n_tiles, np.nan, np.float32),
        np.zeros(n_tiles, np.float32),
        0,
        0,
        True,
        method,
        "no tile holds enough tissue: the flat field is 1",
    )
