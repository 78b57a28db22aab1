"""Sub-pixel refinement: the overlaps cut anew where they belong, with the best weight for every frequency.

After a first solve both tiles can be cut to the very region that they share. How far two such windows agree at a
frequency is the same for all pairs of a slice but for noise, so the coherence is pooled over all pairs, and with
it the delay of greatest likelihood for Gaussian signals is found (Hannan and Thomson 1973; Knapp and Carter
1976): each bin of the cross spectrum weighs ``coh / (1 - coh^2) / sqrt(S11 S22)``. The covariance is the
empirical (sandwich) one of that estimate.

A taper that lies on each tile's own pixels is itself a pattern that the two windows share at the whole-pixel offset,
and pulls the estimate there: by 0.1 px on overlaps of 16 px with coarse texture. The tapers are therefore shifted to the
estimated offset, so that they weigh the same tissue, and the windows are cut anew until the estimate stays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.fft
from numba import njit, prange
from numpy.typing import NDArray
from scipy import ndimage as ndi

from soct.mosaic.matching import cut_windows, find_peaks
from soct.mosaic.spectra import ComplexArray, fast_shape, prepare_windows, transform
from soct.mosaic.strips import StripStore, overlap_boxes
from soct.space import FloatArray

# Below this part of the strongest frequency's power lies what tapers leak from it, whose phase is not the tissue's.
_LEAKAGE = 1e-5
# Squared pixels: what ends of windows and rounding leave of an error without any noise.
_LEAST_VARIANCE = 1e-6


@dataclass(frozen=True)
class RefineOptions:
    """How offsets are refined.

    Attributes
    ----------
    taper : float
        Part of each side of an overlap under the raised cosine.
    taper_limit_px : float
        Longest taper on overlaps at least 32 pixels wide; up to twice that on narrower ones, where leakage reaches the
        frequencies that carry the tissue.
    offset_fraction : float
        Of the mean brightness, added before the logarithm.
    search_px : float
        Greatest change of an offset.
    pooled_pairs : int
        Most pairs from which the coherence is pooled, per orientation.
    smooth_bins : int
        Width of the box over neighbouring frequencies in the pooled spectra; less for small windows (a twelfth of the FFT,
        at least 3).
    iterations : int
        Times that pairs are cut anew, at most.
    settled_px : float
        A pair is cut anew while its offset moves by more than this; see the module's text.
    surround_px : int
        How far beyond the search window the noise is looked at.
    lead_scale : float
        Lead (in spreads) at which the confidence is one half.
    """

    taper: float = 0.5
    taper_limit_px: float = 4.0
    offset_fraction: float = 0.5
    search_px: float = 3.0
    pooled_pairs: int = 96
    smooth_bins: int = 9
    iterations: int = 4
    settled_px: float = 0.02
    surround_px: int = 12
    lead_scale: float = 1.5


@dataclass(frozen=True)
class RefinedOffsets:
    """Offsets after refinement.

    Attributes
    ----------
    offsets_px : float64 ndarray (m, 2)
        NaN where the pair could not be refined.
    covariance_px2 : float64 ndarray (m, 2, 2)
    confidence : float64 ndarray (m,)
        From the lead of the peak of the weighted correlation, within the search window.
    coherence : dict
        Per FFT shape, the pooled coherence on the half spectrum (for diagnosis).
    """

    offsets_px: NDArray[np.float64]
    covariance_px2: NDArray[np.float64]
    confidence: NDArray[np.float64]
    coherence: dict[tuple[int, int], FloatArray]


@njit(cache=True, nogil=True)
def _phases(n: int, count: int, shift: float, out: Any) -> None:  # pragma: no cover - compiled
    """``exp(2 pi i f shift)`` for the first `count` FFT frequencies of length n."""
    for i in range(count):
        f = i if i <= n // 2 else i - n
        a = 2.0 * np.pi * f * shift / n
        out[i] = complex(np.cos(a), np.sin(a))


@njit(cache=True, nogil=True, parallel=True)
def _pool(
    first: Any, second: Any, shifts: Any, width: int, cross: Any, power1: Any, power2: Any
) -> None:  # pragma: no cover - compiled
    """Sum over pairs the phase-corrected cross spectrum and the two power spectra, per channel."""
    n, k, rows, columns = first.shape
    py = np.empty((n, rows), np.complex128)
    px = np.empty((n, columns), np.complex128)
    for b in range(n):
        # The cross spectrum of windows shifted by s carries exp(-2 pi i f s).
        _phases(rows, rows, shifts[b, 0], py[b])
        _phases(width, columns, shifts[b, 1], px[b])
    for y in prange(rows):
        for b in range(n):
            for c in range(k):
                for x in range(columns):
                    f = first[b, c, y, x]
                    g = second[b, c, y, x]
                    re = f.real * g.real + f.imag * g.imag
                    im = f.imag * g.real - f.real * g.imag
                    p = py[b, y] * px[b, x]
                    cross[c, y, x] += re * p.real - im * p.imag
                    power1[c, y, x] += f.real * f.real + f.imag * f.imag
                    power2[c, y, x] += g.real * g.real + g.imag * g.imag


@njit(cache=True, nogil=True, parallel=True)
def _weighted_cross(first: Any, second: Any, weight: Any, out: Any) -> None:  # pragma: no cover
    n, k, rows, columns = first.shape
    for b in prange(n):
        for y in range(rows):
            for x in range(columns):
                re = np.float32(0.0)
                im = np.float32(0.0)
                for c in range(k):
                    f = first[b, c, y, x]
                    g = second[b, c, y, x]
                    re += weight[c, y, x] * (f.real * g.real + f.imag * g.imag)
                    im += weight[c, y, x] * (f.imag * g.real - f.real * g.imag)
                out[b, y, x] = complex(re, im)


@njit(cache=True, nogil=True, parallel=True)
def _climb(
    cross: Any, width: int, limit: float, occupancy: Any, shifts: Any, covariance: Any
) -> None:  # pragma: no cover - compiled
    """Newton steps to the maximum of ``Re sum C exp(2 pi i f s)``, then the sandwich covariance."""
    n, rows, columns = cross.shape
    for b in prange(n):
        py = np.empty(rows, np.complex128)
        px = np.empty(columns, np.complex128)
        sy = shifts[b, 0]
        sx = shifts[b, 1]
        hyy = 0.0
        hyx = 0.0
        hxx = 0.0
        vyy = 0.0
        vyx = 0.0
        vxx = 0.0
        for _ in range(5):
            _phases(rows, rows, sy, py)
            _phases(width, columns, sx, px)
            gy = 0.0
            gx = 0.0
            hyy = 0.0
            hyx = 0.0
            hxx = 0.0
            vyy = 0.0
            vyx = 0.0
            vxx = 0.0
            for y in range(rows):
                wy = 2.0 * np.pi * (y if y <= rows // 2 else y - rows) / rows
                for x in range(columns):
                    wx = 2.0 * np.pi * x / width
                    m = 1.0 if x == 0 or 2 * x == width else 2.0
                    p = py[y] * px[x]
                    z = cross[b, y, x]
                    re = m * (z.real * p.real - z.imag * p.imag)
                    im = m * (z.real * p.imag + z.imag * p.real)
                    gy -= wy * im
                    gx -= wx * im
                    hyy += wy * wy * re
                    hyx += wy * wx * re
                    hxx += wx * wx * re
                    vyy += wy * wy * im * im
                    vyx += wy * wx * im * im
                    vxx += wx * wx * im * im
            determinant = hyy * hxx - hyx * hyx
            if hyy <= 0.0 or hxx <= 0.0 or determinant <= 0.0:
                break
            dy = (hxx * gy - hyx * gx) / determinant
            dx = (hyy * gx - hyx * gy) / determinant
            length = np.sqrt(dy * dy + dx * dx)
            scale = 1.0 if length <= limit else limit / length
            sy += scale * dy
            sx += scale * dx
            if length < 1e-4:
                break
        shifts[b, 0] = sy
        shifts[b, 1] = sx
        determinant = hyy * hxx - hyx * hyx
        if hyy > 0.0 and hxx > 0.0 and determinant > 0.0:
            # Zero padding and tapers correlate neighbouring bins; a real signal counts each bin once more.
            f = occupancy[b]
            iyy = hxx / determinant
            iyx = -hyx / determinant
            ixx = hyy / determinant
            ayy = iyy * vyy + iyx * vyx
            ayx = iyy * vyx + iyx * vxx
            axy = iyx * vyy + ixx * vyx
            axx = iyx * vyx + ixx * vxx
            covariance[b, 0, 0] = f * (ayy * iyy + ayx * iyx)
            covariance[b, 0, 1] = f * (ayy * iyx + ayx * ixx)
            covariance[b, 1, 0] = f * (axy * iyy + axx * iyx)
            covariance[b, 1, 1] = f * (axy * iyx + axx * ixx)
        else:
            covariance[b] = np.inf


@dataclass(frozen=True)
class _Cut:
    """Spectra of both windows of some pairs, cut at integer offsets."""

    first: ComplexArray
    second: ComplexArray
    at: NDArray[np.int64]
    occupancy: NDArray[np.float64]


def _cut_batch(
    store: StripStore,
    batch: list[int],
    at: NDArray[np.int64],
    current: NDArray[np.float64],
    fft_shape: tuple[int, int],
    options: RefineOptions,
    workers: int,
) -> _Cut:
    offsets = np.maximum(options.offset_fraction * store.mean, 1e-9)
    boxes = [overlap_boxes(tuple(at[p]), store.tile_shape) for p in batch]
    spectra, areas = [], np.ones(len(batch))
    narrow = min(min(b[0][1] - b[0][0], b[0][3] - b[0][2]) for b in boxes)
    limit = options.taper_limit_px * float(np.clip(32.0 / narrow, 1.0, 2.0))
    half = 0.5 * (current[batch] - at[batch])
    for side, shifts in enumerate((-half, half)):
        raw, shapes, _ = cut_windows(store, batch, [b[side] for b in boxes], side)
        windows, stats = prepare_windows(
            raw, shapes, offsets, fft_shape, options.taper, limit, shifts
        )
        spectra.append(transform(windows, workers))
        areas = shapes.prod(axis=1) * stats[..., 0].max(axis=1)
    occupancy = fft_shape[0] * fft_shape[1] / np.maximum(areas, 1.0)
    return _Cut(spectra[0], spectra[1], at[batch], occupancy)


def _likelihood_weight(
    cuts: list[_Cut],
    shifts: list[NDArray[np.float64]],
    fft_shape: tuple[int, int],
    smooth: int,
    floor: float = 1e-9,
) -> tuple[FloatArray, FloatArray]:
    """Pooled coherence per channel on the half spectrum, and the weight of each bin of a cross spectrum."""
    cross, power1, power2 = (np.zeros(cuts[0].first.shape[1:]) for _ in range(3))
    for cut, shift in zip(cuts, shifts, strict=True):
        _pool(cut.first, cut.second, shift, fft_shape[1], cross, power1, power2)
    box = [max(3, min(smooth, n // 12)) for n in fft_shape]
    cross, power1, power2 = (
        ndi.uniform_filter(a, (1, *box), mode=("nearest", "wrap", "mirror"))
        for a in (cross, power1, power2)
    )
    power = np.sqrt(np.maximum(power1, 0.0) * np.maximum(power2, 0.0))
    power = np.maximum(power, floor * max(float(power.max()), 1e-30))
    coherence = np.clip(cross / power, 0.0, 0.995)
    weight = coherence / (1.0 - coherence**2) / power
    weight[:, 0, 0] = 0.0
    peak = float(weight.max())
    if peak > 0.0:
        weight /= peak
    return coherence.astype(np.float32), weight.astype(np.float32)


def refine_offsets(
    store: StripStore,
    offsets_px: NDArray[np.float64],
    trusted: NDArray[np.bool_],
    options: RefineOptions | None = None,
    *,
    workers: int = 1,
) -> RefinedOffsets:
    """Refine offsets of pairs to a small fraction of a pixel.

    Parameters
    ----------
    store : StripStore
    offsets_px : ndarray (m, 2)
        Offsets within `search_px` of the truth; NaN rows are left out.
    trusted : bool ndarray (m,)
        Pairs from which the coherence is pooled.
    options : RefineOptions, optional
    workers : int
        FFT threads.
    """
    options = options or RefineOptions()
    m = len(store.pairs)
    result = RefinedOffsets(np.full((m, 2), np.nan), np.full((m, 2, 2), np.inf), np.zeros(m), {})
    current = np.array(offsets_px, np.float64)
    weights: dict[tuple[int, int], FloatArray] = {}
    todo = [p for p in range(m) if store.has(p) and _inside(store, p, current[p])]
    groups = _group(store, todo, current)
    before = np.full((m, 2), np.nan)
    for iteration in range(options.iterations):
        if iteration and not todo:
            break
        for fft_shape, members in groups.items():
            wanted = set(todo)
            chosen = [p for p in members if p in wanted]
            if chosen:
                _refine_group(
                    store, chosen, fft_shape, trusted, current, weights, options, workers, result
                )
        step = result.offsets_px - current
        step = _extrapolate(step, before)
        before = result.offsets_px - current
        todo = [
            p
            for p in todo
            if np.isfinite(step[p]).all()
            and np.abs(step[p]).max() > options.settled_px
            and _inside(store, p, current[p] + step[p])
        ]
        result.offsets_px[todo] = current[todo] + step[todo]
        current[todo] = result.offsets_px[todo]
    return result


def _extrapolate(
    step: NDArray[np.float64], before: NDArray[np.float64], most: float = 0.8
) -> NDArray[np.float64]:
    """Where steps of constant ratio lead (Aitken): near the solution the pull of the tapers is linear."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.nan_to_num(step / before, nan=0.0, posinf=0.0, neginf=0.0)
    longer = step / (1.0 - np.clip(ratio, 0.0, most))
    return np.where(np.abs(longer) <= 1.0, longer, step)


def _inside(store: StripStore, pair: int, offset: NDArray[np.float64]) -> bool:
    """Whether the overlap at an offset lies in the strips that were kept."""
    if not np.isfinite(offset).all():
        return False
    at = np.rint(offset)
    boxes = overlap_boxes((float(at[0]), float(at[1])), store.tile_shape)
    for box, kept in zip(boxes, store.boxes[pair], strict=True):
        if box[1] - box[0] < 4 or box[3] - box[2] < 4:
            return False
        if box[0] < kept[0] or box[1] > kept[1] or box[2] < kept[2] or box[3] > kept[3]:
            return False
    return True


def _group(
    store: StripStore, todo: list[int], offsets: NDArray[np.float64]
) -> dict[tuple[int, int], list[int]]:
    """Pairs by orientation; a common FFT shape makes their frequencies comparable."""
    h, w = store.tile_shape
    groups: dict[tuple[int, int], list[int]] = {}
    for down in (True, False):
        members = [p for p in todo if (abs(offsets[p, 0]) / h > abs(offsets[p, 1]) / w) == down]
        if not members:
            continue
        at = np.rint(offsets[members])
        # Offsets may still move by a few pixels.
        shape = (h - np.abs(at[:, 0]).min() + 6, w - np.abs(at[:, 1]).min() + 6)
        shape = (min(shape[0], h + 6), min(shape[1], w + 6))
        key = fast_shape((int(shape[0]), int(shape[1])))
        groups.setdefault(key, []).extend(members)
    return groups


def _refine_group(
    store: StripStore,
    members: list[int],
    fft_shape: tuple[int, int],
    trusted: NDArray[np.bool_],
    current: NDArray[np.float64],
    weights: dict[tuple[int, int], FloatArray],
    options: RefineOptions,
    workers: int,
    result: RefinedOffsets,
) -> None:
    at = np.rint(np.nan_to_num(current)).astype(np.int64)
    size = max(1, 4_000_000 // (fft_shape[0] * fft_shape[1] * store.channels))
    held: dict[int, _Cut] = {}
    if fft_shape not in weights:
        pool = [p for p in members if trusted[p]] or members
        step = max(1, -(-len(pool) // options.pooled_pairs))
        cuts = []
        pool = pool[::step]
        batches = [pool[i : i + size] for i in range(0, len(pool), size)]
        for number, batch in enumerate(batches):
            cuts.append(_cut_batch(store, batch, at, current, fft_shape, options, workers))
            if batch == members[number * size : number * size + len(batch)]:
                held[number] = cuts[-1]
        shifts = [current[b] - at[b] for b in batches]
        for _ in range(2):
            coherence, weight = _likelihood_weight(cuts, shifts, fft_shape, options.smooth_bins)
            shifts = [
                _estimate(cut, weight, fft_shape, s, options.search_px)[0]
                for cut, s in zip(cuts, shifts, strict=True)
            ]
        coherence, weight = _likelihood_weight(cuts, shifts, fft_shape, options.smooth_bins)
        weights[fft_shape] = weight
        result.coherence[fft_shape] = coherence
    weight = weights[fft_shape]
    for number, start in enumerate(range(0, len(members), size)):
        batch = members[start : start + size]
        cut = held.get(number)
        if cut is None or len(cut.at) != len(batch):
            cut = _cut_batch(store, batch, at, current, fft_shape, options, workers)
        cross = np.empty((len(batch), *cut.first.shape[2:]), np.complex64)
        _weighted_cross(cut.first, cut.second, weight, cross)
        surface = scipy.fft.irfft2(cross, s=fft_shape, workers=workers)
        low = np.full((len(batch), 2), -int(np.ceil(options.search_px)), np.int64)
        peaks = find_peaks(surface, low, -low, 3, 4.0, surround_px=options.surround_px)
        start_at = peaks.positions[:, 0]
        shift, covariance = _climb_from(cross, fft_shape, start_at, cut.occupancy)
        bad = ~np.isfinite(start_at).all(axis=1) | (np.hypot(*(shift - start_at).T) > 1.0)
        shift[bad] = np.nan
        covariance[bad] = np.inf
        result.offsets_px[batch] = cut.at + shift
        result.covariance_px2[batch] = covariance
        result.confidence[batch] = np.where(bad, 0.0, peaks.confidence(options.lead_scale))


def _climb_from(
    cross: ComplexArray,
    fft_shape: tuple[int, int],
    start: NDArray[np.float64],
    occupancy: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    shifts = np.nan_to_num(start)
    covariance = np.empty((len(cross), 2, 2))
    _climb(cross, fft_shape[1], 0.5, occupancy, shifts, covariance)
    return shifts, covariance


def _estimate(
    cut: _Cut,
    weight: FloatArray,
    fft_shape: tuple[int, int],
    start: NDArray[np.float64],
    limit: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    cross = np.empty((len(start), *cut.first.shape[2:]), np.complex64)
    _weighted_cross(cut.first, cut.second, weight, cross)
    shifts, covariance = _climb_from(cross, fft_shape, start, cut.occupancy)
    far = np.hypot(*(shifts - start).T) > limit
    shifts[far] = start[far]
    return shifts, covariance


def refine_spectra(
    first: ComplexArray,
    second: ComplexArray,
    start: NDArray[np.float64],
    fft_shape: tuple[int, int],
    *,
    limit_px: float,
    smooth_bins: int = 9,
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Refine one shift from its own two spectra: the coherence comes from neighbouring frequencies alone.

    Parameters
    ----------
    first, second : complex64 ndarray (1, k, rows, columns)
        Of windows that are not padded, tapered over the same tissue.
    start : ndarray (2,)
        Lag ``(y, x)`` of the first window's content against the second's, within a fraction of a pixel.
    limit_px : float
        Greatest change.

    Returns
    -------
    The shift ``(2,)`` and its covariance ``(2, 2)``, or None where nothing was found within the limit.
    """
    cut = _Cut(first, second, np.zeros((1, 2), np.int64), np.ones(1))
    shift = np.asarray(start, np.float64)[None]
    for _ in range(2):
        _, weight = _likelihood_weight([cut], [shift], fft_shape, smooth_bins, _LEAKAGE)
        shift, covariance = _estimate(cut, weight, fft_shape, shift, limit_px)
    if not np.isfinite(covariance).all() or np.hypot(*(shift[0] - start)) > limit_px:
        return None
    return shift[0], covariance[0] + _LEAST_VARIANCE * np.eye(2)
