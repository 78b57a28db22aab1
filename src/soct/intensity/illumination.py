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
from scipy import fft, linalg
from scipy import ndimage as ndi
from threadpoolctl import threadpool_limits

from soct.errors import InputError
from soct.geometry.resampling import average_boxes
from soct.intensity.overlap_equations import OverlapEquations, build_overlap_equations
from soct.space import Array, FloatArray

FlatFieldMethod = Literal["basic", "median", "mean"]
WORKING_PX = 128
LOW_ORDER = 10
SIGNIFICANCE = 4.0
MIN_TISSUE_FRACTION = 0.25
BOWL_SIGMA = 0.3
OTHER_SIGMA = 0.05


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
        ``basic``, or ``median`` or ``mean`` of the tiles after division by their brightness, smoothed.
    darkfield : bool
        Estimate a dark field too (needs tiles of different brightness).
    smoothness : float, optional
        How many standard errors a fine cosine coefficient must reach to count; 4 when absent.
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
    """
    stack = np.asarray(projections, dtype=np.float32)
    if stack.ndim != 3 or 0 in stack.shape:
        raise InputError("A flat field needs a stack (n, y, x) of tiles", found=str(stack.shape))
    shape = output_shape or (stack.shape[1], stack.shape[2])
    work = np.stack([reduce_projection(np.nan_to_num(p, posinf=0, neginf=0)) for p in stack])
    scale = np.array(work.shape[1:]) / np.array(stack.shape[1:])
    tissue = find_tissue_pixels(work)
    votes = tissue.mean(axis=(1, 2)).astype(np.float32)
    votes[votes < MIN_TISSUE_FRACTION] = 0
    if not votes.any():
        return _no_illumination(shape, len(stack), method)
    dark = _estimate_dark(work, votes) if darkfield else np.zeros(work.shape[1:], np.float32)
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
        fit = _fit_log_flat(
            logs,
            tissue,
            votes,
            equations,
            _cluster_places(positions_px, stack.shape),
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
        _expand_cosines(fft.dctn(dark, norm="ortho"), shape).astype(np.float32),
        np.where(votes > 0, np.exp(fit.baseline), np.nan).astype(np.float32),
        votes,
        fit.equations,
        fit.iterations,
        fit.converged,
        method,
        f"{method} over {int((votes > 0).sum())} of {len(stack)} tiles"
        + (f" and {fit.equations} overlap equations" if fit.equations else ""),
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
    logs = np.log(smooth[lit])
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


@dataclass(frozen=True)
class _LogFlatFit:
    coefficients: Array
    baseline: Array
    equations: int
    iterations: int
    converged: bool


def _fit_log_flat(
    logs: FloatArray,
    tissue: Array,
    votes: FloatArray,
    equations: OverlapEquations | None,
    places: Array,
    smoothness: float,
    max_iterations: int,
) -> _LogFlatFit:
    """Reweighted fit of the cosine coefficients of log F."""
    use = np.flatnonzero(votes > 0)
    logs, mask, votes_used = logs[use], tissue[use], votes[use]
    flat = np.zeros(logs.shape[1:])
    coefficients = np.zeros(logs.shape[1:])
    baseline = np.zeros(len(use))
    spectrum: Array | None = None
    converged, rounds = False, 0
    while rounds < min(max_iterations, 15) and not converged:
        rounds += 1
        residual = np.where(mask, logs - flat.astype(np.float32), np.nan)
        baseline = np.array([_centre(r) for r in residual])
        residual -= baseline[:, None, None].astype(np.float32)
        # What leaves the bulk of a tile (vessels, edges, dust) loses its weight: the reweighted L1 step.
        bulk = 1.4826 * float(np.nanmedian(np.abs(residual))) + 1e-6
        weight = np.where(
            mask, 1 / np.maximum(np.abs(np.nan_to_num(residual)) / (1.5 * bulk), 1), 0
        )
        weight = (weight * votes_used[:, None, None]).astype(np.float32)
        filled = np.nan_to_num(residual)
        total = weight.sum(0)
        update = (filled * weight).sum(0) / np.maximum(total, 1e-3 * max(float(total.max()), 1e-9))
        if spectrum is None:
            spectrum = _tile_scatter(filled * mask, votes_used, places[use])
        measured = fft.dctn(flat + update, norm="ortho")
        new = _shrink(measured, spectrum, equations, smoothness)
        change = float(np.abs(fft.idctn(new - coefficients, norm="ortho")).max())
        coefficients = new
        flat = fft.idctn(coefficients, norm="ortho")
        converged = change < 5e-4
    every = np.full(len(votes), np.nan)
    every[use] = baseline
    return _LogFlatFit(
        coefficients, every, 0 if equations is None else len(equations.ratio), rounds, converged
    )


def _centre(residual: Array) -> float:
    values = residual[np.isfinite(residual)]
    return float(values.mean()) if values.size else 0.0


def _cluster_places(positions_px: Array | None, shape: tuple[int, ...]) -> Array:
    """Give tiles that look at the same place of the sample, in whatever slice, one number.

    Consecutive slices show nearly the same anatomy at the same place, so only places are independent samples of it.
    """
    if positions_px is None:
        return np.arange(shape[0])
    positions = np.nan_to_num(np.asarray(positions_px, dtype=float))
    cells = np.round((positions - positions.min(0)) / (0.6 * np.array(shape[1:]))).astype(int)
    return np.asarray(np.unique(cells, axis=0, return_inverse=True)[1]).ravel()


def _tile_scatter(residual: Array, votes: Array, places: Array) -> Array:
    """Squared standard error of every cosine coefficient of the mean over tiles."""
    transformed = fft.dctn(residual, axes=(1, 2), norm="ortho")
    labels, member = np.unique(places, return_inverse=True)
    n = len(labels)
    share = np.bincount(member, votes)
    pooled = np.zeros((n, *transformed.shape[1:]), np.float32)
    for tile, place in enumerate(member):
        pooled[place] += transformed[tile] * (votes[tile] / share[place])
    if n < 3:
        # Two places cannot show what they share: nothing is significant.
        return np.asarray((pooled**2).max(0) + 1e-9)
    effective = share.sum() ** 2 / (share**2).sum()
    power = ((pooled - pooled.mean(0)) ** 2).sum(0) / (n - 1)
    smooth = ndi.uniform_filter(power, 3, mode="nearest")
    return np.asarray(np.maximum(power, smooth) / effective + 1e-12)


def _shrink(
    measured: Array, error: Array, equations: OverlapEquations | None, smoothness: float
) -> Array:
    """Keep what is alike in all tiles: low orders by a joint fit, fine ones by significance."""
    kept = np.where(measured**2 > smoothness**2 * error, measured, 0.0)
    n_y, n_x = measured.shape
    ky, kx = np.mgrid[: min(LOW_ORDER, n_y), : min(LOW_ORDER, n_x)]
    ky, kx = ky.ravel()[1:], kx.ravel()[1:]
    target, variance = measured[ky, kx], error[ky, kx]
    normal, right = _prior_precision(ky, kx, measured.shape), np.zeros(len(ky))
    if equations is not None:
        matrix, right = equations.normal_equations(ky, kx, measured.shape, target)
        normal = normal + matrix
        variance = variance * _anatomy_excess(
            normal, right, target, variance, np.maximum(ky, kx) <= 3
        )
    normal, right = normal + np.diag(1 / variance), right + target / variance
    with threadpool_limits(1, "blas"):
        kept[ky, kx] = linalg.solve(normal, right, assume_a="pos")
    kept[0, 0] = 0
    return np.asarray(kept)


def _prior_precision(ky: Array, kx: Array, shape: tuple[int, ...]) -> Array:
    """Inverse covariance of the cosine coefficients of a log flat field before any tile is seen.

    Vignetting and tilt are a bowl: polynomials of second order, of any strength that occurs. What else there is
    falls with the square of the order; optics are nearly separable, so what bends along both axes is small.
    """
    y = np.linspace(-1, 1, shape[0])[:, None] * np.ones((1, shape[1]))
    x = np.linspace(-1, 1, shape[1])[None] * np.ones((shape[0], 1))
    bowls = np.stack([y, x, y * y, x * x, 0.5 * x * y])
    coefficients = fft.dctn(bowls, axes=(1, 2), norm="ortho")[:, ky, kx] * BOWL_SIGMA
    order = np.maximum(ky, 1.0) ** 2 * np.maximum(kx, 1.0) ** 2
    size = np.sqrt(shape[0] * shape[1])
    rest = np.where((ky > 0) & (kx > 0), 0.4 * OTHER_SIGMA, OTHER_SIGMA) * size / order
    with threadpool_limits(1, "blas"):
        return np.asarray(linalg.inv(coefficients.T @ coefficients + np.diag(rest**2)))


def _anatomy_excess(
    normal: Array, right: Array, target: Array, variance: Array, coarse: Array
) -> float:
    """Judge by the overlaps how much more the mean over tiles is off than its scatter says.

    Anatomy larger than a tile makes neighbouring tiles alike and their mean seem certain; the overlap
    equations are free of it. The factor on the variance is the likeliest one for the coarse orders.
    """
    factors = 2.0 ** np.arange(0, 10, 0.5)
    scores = []
    with threadpool_limits(1, "blas"):
        inverse = linalg.inv(normal)
        difference = (target - inverse @ right)[coarse]
        covariance = inverse[np.ix_(coarse, coarse)]
        for factor in factors:
            total = linalg.cholesky(covariance + np.diag(factor * variance[coarse]), lower=True)
            scaled = linalg.solve_triangular(total, difference, lower=True)
            scores.append(-0.5 * float(scaled @ scaled) - float(np.log(np.diag(total)).sum()))
    return float(factors[int(np.argmax(scores))])


def _average_log_flat(
    logs: FloatArray, tissue: Array, votes: FloatArray, method: FlatFieldMethod
) -> _LogFlatFit:
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
    return _LogFlatFit(coefficients, baseline, 0, 1, True)


def _estimate_dark(stack: FloatArray, votes: FloatArray) -> FloatArray:
    """Intercept of every pixel against tile brightness, smooth and nowhere negative."""
    level = stack.mean(axis=(1, 2)).astype(float)
    spread = level - level.mean()
    if len(stack) < 8 or not (spread**2).sum() > (0.05 * level.mean()) ** 2 * len(stack):
        return np.zeros(stack.shape[1:], np.float32)
    slope = np.tensordot(spread, stack, (0, 0)) / (spread**2).sum()
    intercept = stack.mean(0) - slope * level.mean()
    coefficients = fft.dctn(intercept, norm="ortho")
    coefficients[3:], coefficients[:, 3:] = 0, 0
    smooth = fft.idctn(coefficients, norm="ortho")
    flat_coefficients = fft.dctn(slope, norm="ortho")
    flat_coefficients[3:], flat_coefficients[:, 3:] = 0, 0
    flat = np.maximum(fft.idctn(flat_coefficients, norm="ortho"), 0.1)
    # The mean of the dark field is not seen by the regression; the least that keeps it non-negative is taken.
    offset = max(float((-smooth / flat).max()), 0.0)
    dark = smooth + offset * flat
    # Nor can it exceed what the darkest places of the tiles show.
    darkest = np.percentile(ndi.gaussian_filter(stack, (0, 2, 2), mode="nearest"), 0.5)
    return np.clip(dark, 0, max(float(darkest), 0.0)).astype(np.float32)


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
