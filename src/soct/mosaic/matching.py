"""How far neighbouring tiles are apart: phase correlation of the strips that they share.

For each pair the strips that can overlap are correlated with zero padding, so that no shift within the search window
is confused with its wrapped-around twin, after half whitening (``C / |C|^0.5``) and a Gaussian low-pass. The
best few peaks are kept: which of them is right is decided with all other pairs, in `soct.mosaic.placement`. A
peak's confidence comes from its lead over the second peak in units of the surface's spread. The correlation
coefficient would not do: wrong links reach 0.98 after the low-pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from soct.mosaic.spectra import (
    cross_correlate,
    fast_shape,
    low_pass,
    prepare_windows,
    transform,
    window_autocorrelation,
)
from soct.mosaic.strips import StripStore, overlap_boxes
from soct.space import FloatArray

MAX_PIXELS_PER_BATCH = 4_000_000


@dataclass(frozen=True)
class MatchOptions:
    """How strips are compared.

    Attributes
    ----------
    sigma_px : float
        Gaussian low-pass.
    whitening : float
        Exponent of the division by ``|C|``.
    candidates : int
        Peaks kept per pair.
    taper : float
        Part of each side under the raised cosine.
    offset_fraction : float
        Of the mean brightness, added before the logarithm.
    separation_px : float
        Least distance between two peaks.
    surround_px : int
        How far beyond the search window the noise is looked at.
    lead_scale : float
        Lead (in spreads) at which the confidence is one half.
    reduce_from_px : int
        Strips at least this wide are compared as means of 2 x 2 pixels: the low-pass takes the rest anyway, in a
        fourth of the time. What is lost of the place of a peak, the refinement makes good.
    """

    sigma_px: float = 1.5
    whitening: float = 0.5
    candidates: int = 5
    taper: float = 0.03
    offset_fraction: float = 0.5
    separation_px: float = 4.0
    surround_px: int = 12
    lead_scale: float = 1.5
    reduce_from_px: int = 64


@dataclass(frozen=True)
class PairMatches:
    """Candidate offsets of every pair.

    Attributes
    ----------
    pairs : int64 ndarray (m, 2)
    offsets_px : float64 ndarray (m, c, 2)
        Position of the second tile minus that of the first, best first; NaN where there are fewer peaks.
    scores : float64 ndarray (m, c)
        Height above the surface's mean in units of its spread.
    confidence : float64 ndarray (m,)
        In [0, 1], from the lead of the best peak over the second.
    texture : float64 ndarray (m,)
        Standard deviation of the log-brightness in the fainter of the two strips.
    valid_fraction : float64 ndarray (m,)
        Valid pixels of the two strips.
    """

    pairs: NDArray[np.int64]
    offsets_px: NDArray[np.float64]
    scores: NDArray[np.float64]
    confidence: NDArray[np.float64]
    texture: NDArray[np.float64]
    valid_fraction: NDArray[np.float64]


@njit(cache=True, nogil=True)
def _vertex(a: float, b: float, c: float) -> float:  # pragma: no cover - compiled
    """Where the parabola through three neighbouring samples has its top, relative to the middle one."""
    curvature = a - 2.0 * b + c
    if curvature >= 0.0:
        return 0.0
    return min(max(0.5 * (a - c) / curvature, -0.5), 0.5)


@njit(cache=True, nogil=True, parallel=True)
def _find_peaks(
    surface: Any,
    overlap_y: Any,
    overlap_x: Any,
    low: Any,
    high: Any,
    extra: Any,
    separation: float,
    out: Any,
    scores: Any,
    rival: Any,
) -> None:  # pragma: no cover - compiled
    """Best peaks with ``low <= u <= high`` (inclusive, may be negative: the surface is periodic)."""
    n, rows, columns = surface.shape
    k = scores.shape[1]
    size = 4 * k
    for b in prange(n):
        filled = 0
        found_y = np.zeros(size, np.int64)
        found_x = np.zeros(size, np.int64)
        found_v = np.full(size, -np.inf)
        outside = -np.inf
        total = 0.0
        square = 0.0
        count = 0
        for uy in range(low[b, 0] - extra[0], high[b, 0] + extra[0] + 1):
            y = uy % rows
            ym = (uy - 1) % rows
            yp = (uy + 1) % rows
            for ux in range(low[b, 1] - extra[1], high[b, 1] + extra[1] + 1):
                x = ux % columns
                # Noise falls with the root of the overlap, so this makes it alike everywhere.
                v = surface[b, y, x] / np.sqrt(overlap_y[y] * overlap_x[x])
                total += v
                square += v * v
                count += 1
                inside = low[b, 0] <= uy <= high[b, 0] and low[b, 1] <= ux <= high[b, 1]
                if v <= (found_v[size - 1] if inside else outside):
                    continue
                xm = (ux - 1) % columns
                xp = (ux + 1) % columns
                here = surface[b, y, x]
                if (
                    here < surface[b, y, xm]
                    or here <= surface[b, y, xp]
                    or here < surface[b, ym, x]
                    or here <= surface[b, yp, x]
                ):
                    continue
                if not inside:
                    outside = v
                    continue
                # Insertion into the sorted list of local maxima.
                i = min(filled, size - 1)
                while i > 0 and found_v[i - 1] < v:
                    found_v[i] = found_v[i - 1]
                    found_y[i] = found_y[i - 1]
                    found_x[i] = found_x[i - 1]
                    i -= 1
                found_v[i] = v
                found_y[i] = uy
                found_x[i] = ux
                filled = min(filled + 1, size)
        if filled:
            # The best peak is no part of the noise that it is measured against.
            for uy in range(found_y[0] - 3, found_y[0] + 4):
                if uy < low[b, 0] - extra[0] or uy > high[b, 0] + extra[0]:
                    continue
                for ux in range(found_x[0] - 3, found_x[0] + 4):
                    if ux < low[b, 1] - extra[1] or ux > high[b, 1] + extra[1]:
                        continue
                    y = uy % rows
                    x = ux % columns
                    v = surface[b, y, x] / np.sqrt(overlap_y[y] * overlap_x[x])
                    total -= v
                    square -= v * v
                    count -= 1
        mean = total / max(count, 1)
        sigma = np.sqrt(max(square / max(count, 1) - mean * mean, 1e-30))
        rival[b] = (outside - mean) / sigma
        kept = 0
        for i in range(filled):
            if kept == k:
                break
            near = False
            for m in range(kept):
                dy = out[b, m, 0] - found_y[i]
                dx = out[b, m, 1] - found_x[i]
                if dy * dy + dx * dx < separation * separation:
                    near = True
            if near:
                continue
            y = found_y[i] % rows
            x = found_x[i] % columns
            ym = (y - 1) % rows
            yp = (y + 1) % rows
            xm = (x - 1) % columns
            xp = (x + 1) % columns
            # A shrinking overlap tilts the peak towards small lags; undone before the vertex is taken.
            v = surface[b, y, x]
            out[b, kept, 0] = found_y[i] + _vertex(
                surface[b, ym, x] * overlap_y[y] / overlap_y[ym],
                v,
                surface[b, yp, x] * overlap_y[y] / overlap_y[yp],
            )
            out[b, kept, 1] = found_x[i] + _vertex(
                surface[b, y, xm] * overlap_x[x] / overlap_x[xm],
                v,
                surface[b, y, xp] * overlap_x[x] / overlap_x[xp],
            )
            scores[b, kept] = (found_v[i] - mean) / sigma
            kept += 1


@dataclass(frozen=True)
class Peaks:
    """Best peaks of correlation surfaces.

    Attributes
    ----------
    positions : float64 ndarray (n, c, 2)
        Lags, sub-pixel, best first; NaN where there are fewer peaks.
    scores : float64 ndarray (n, c)
        Height above the mean of the surface in units of its spread; 0 where there is no peak.
    rival : float64 ndarray (n,)
        Score of the best peak outside the search window, where only noise can be.
    """

    positions: NDArray[np.float64]
    scores: NDArray[np.float64]
    rival: NDArray[np.float64]

    def confidence(self, lead_scale: float) -> NDArray[np.float64]:
        """Confidence in the best peak from its lead over every other: ``x^2 / (x^2 + s^2)``.

        Parameters
        ----------
        lead_scale : float
            The lead `s`, in spreads, at which the confidence is one half.
        """
        second = self.scores[:, 1] if self.scores.shape[1] > 1 else np.zeros(len(self.scores))
        second = np.maximum(np.maximum(second, self.rival), 0.0)
        lead = np.maximum(self.scores[:, 0] - second, 0.0)
        confidence: NDArray[np.float64] = lead**2 / (lead**2 + lead_scale**2)
        return confidence


def find_peaks(
    surface: FloatArray,
    low: NDArray[np.int64],
    high: NDArray[np.int64],
    count: int,
    separation_px: float,
    overlap: tuple[FloatArray, FloatArray] | None = None,
    surround_px: int = 0,
    least_overlap: float = 0.1,
) -> Peaks:
    """Sub-pixel positions and heights of the best peaks of correlation surfaces.

    Parameters
    ----------
    surface : float32 ndarray (n, rows, columns)
        Periodic.
    low, high : int ndarray (n, 2)
        Search window, inclusive.
    count : int
    separation_px : float
        Least distance between two peaks.
    overlap : (ndarray (rows,), ndarray (columns,)), optional
        `window_autocorrelation` of the windows along both axes: undoes that small lags share more pixels.
    surround_px : int
        How far beyond the search window the noise is looked at. A peak of noise does not lead there.
    least_overlap : float
        Part of a window along an axis below which noise is not raised any more.
    """
    n, rows, columns = surface.shape
    if overlap is None:
        overlap = (np.ones(rows, np.float32), np.ones(columns, np.float32))
    # Where hardly anything overlaps, noise must not be raised without bound.
    oy, ox = (np.maximum(o, np.float32(least_overlap)) for o in overlap)
    widest = (high - low + 1).max(axis=0)
    room = (np.array([rows, columns]) - widest) // 2
    extra = np.clip(room, 0, surround_px).astype(np.int64)
    peaks = Peaks(np.full((n, count, 2), np.nan), np.zeros((n, count)), np.zeros(n))
    _find_peaks(
        surface, oy, ox, low, high, extra, separation_px, peaks.positions, peaks.scores, peaks.rival
    )
    return peaks


def match_strips(
    store: StripStore,
    expected_px: NDArray[np.float64],
    margin_px: float,
    options: MatchOptions | None = None,
    *,
    which: NDArray[np.int64] | None = None,
    workers: int = 1,
) -> PairMatches:
    """Candidate offsets of every pair of a `StripStore`.

    Parameters
    ----------
    store : StripStore
    expected_px : ndarray (m, 2)
        Expected offset of each pair.
    margin_px : float
        Search window about it, per axis.
    options : MatchOptions, optional
    which : int ndarray, optional
        Only these pairs (the others come back empty).
    workers : int
        FFT threads.
    """
    options = options or MatchOptions()
    m = len(store.pairs)
    c = options.candidates
    result = PairMatches(
        store.pairs,
        np.full((m, c, 2), np.nan),
        np.zeros((m, c)),
        np.zeros(m),
        np.zeros(m),
        np.zeros(m),
    )
    todo = [p for p in (range(m) if which is None else which.tolist()) if store.has(p)]
    boxes = {p: overlap_boxes(expected_px[p], store.tile_shape, margin_px) for p in todo}
    for batch, shape, factor in _batches(todo, boxes, margin_px, max(store.channels, 1), options):
        _match_batch(
            store, batch, boxes, shape, factor, expected_px, margin_px, options, workers, result
        )
    return result


def _batches(
    todo: list[int], boxes: dict[int, Any], margin: float, channels: int, options: MatchOptions
) -> list[tuple[list[int], tuple[int, int], int]]:
    """Group pairs of like shape and reduction, so that one FFT plan serves many and memory stays bounded."""
    groups: dict[tuple[tuple[int, int], int], list[int]] = {}
    for p in todo:
        sizes = [(b[1] - b[0], b[3] - b[2]) for b in boxes[p]]
        h, w = (max(s[a] for s in sizes) for a in (0, 1))
        if min(min(s) for s in sizes) < 2:
            continue
        factor = 2 if min(min(s) for s in sizes) >= options.reduce_from_px else 1
        # The search window reaches margin pixels beyond the strips' alignment on either side.
        pad = int(np.ceil(margin / factor))
        key = fast_shape((h // factor + 2 * pad, w // factor + 2 * pad)), factor
        groups.setdefault(key, []).append(p)
    batches = []
    for (shape, factor), members in groups.items():
        size = max(1, MAX_PIXELS_PER_BATCH // (shape[0] * shape[1] * channels * factor**2))
        batches += [(members[i : i + size], shape, factor) for i in range(0, len(members), size)]
    return batches


@njit(cache=True, nogil=True, parallel=True)
def _halve(raw: Any, out: Any) -> None:  # pragma: no cover - compiled
    """Means of 2 x 2 pixels; no data where one of them has none."""
    n, k, rows, columns = out.shape
    for item in prange(n * k):
        b = item // k
        c = item % k
        for y in range(rows):
            for x in range(columns):
                out[b, c, y, x] = np.float32(0.25) * (
                    raw[b, c, 2 * y, 2 * x]
                    + raw[b, c, 2 * y, 2 * x + 1]
                    + raw[b, c, 2 * y + 1, 2 * x]
                    + raw[b, c, 2 * y + 1, 2 * x + 1]
                )


def _match_batch(
    store: StripStore,
    batch: list[int],
    boxes: dict[int, Any],
    fft_shape: tuple[int, int],
    factor: int,
    expected: NDArray[np.float64],
    margin: float,
    options: MatchOptions,
    workers: int,
    result: PairMatches,
) -> None:
    offsets = np.maximum(options.offset_fraction * store.mean, 1e-9)
    spectra, stats, origins, sizes = [], [], [], []
    for side in (0, 1):
        raw, shapes, origin = cut_windows(store, batch, [boxes[p][side] for p in batch], side)
        if factor == 2:
            n, k, h, w = raw.shape
            small = np.empty((n, k, h // 2, w // 2), np.float32)
            _halve(raw, small)
            raw, shapes = small, shapes // 2
        windows, stat = prepare_windows(raw, shapes, offsets, fft_shape, options.taper)
        spectra.append(transform(windows, workers))
        stats.append(stat)
        origins.append(origin)
        sizes.append(shapes)
    gain = low_pass(fft_shape, options.sigma_px / factor)
    surface = cross_correlate(spectra[0], spectra[1], fft_shape, gain, options.whitening, workers)
    # A peak at u means: second tile's position - first one's = u + origin(first) - origin(second).
    base = origins[0] - origins[1]
    centre = (expected[batch] - base) / factor
    low = np.floor(centre - margin / factor).astype(np.int64)
    high = np.ceil(centre + margin / factor).astype(np.int64)
    typical = np.median(np.concatenate(sizes), axis=0).astype(int)
    overlap_y, overlap_x = (
        window_autocorrelation(int(n), length, options.taper)
        for n, length in zip(typical, fft_shape, strict=True)
    )
    peaks = find_peaks(
        surface,
        low,
        high,
        options.candidates,
        options.separation_px / factor,
        (overlap_y, overlap_x),
        -(-options.surround_px // factor),
    )
    result.offsets_px[batch] = factor * peaks.positions + base[:, None, :]
    result.scores[batch] = peaks.scores
    result.confidence[batch] = peaks.confidence(options.lead_scale)
    result.texture[batch] = np.sqrt(np.minimum(*(s[..., 1].max(axis=1) for s in stats)))
    result.valid_fraction[batch] = np.minimum(*(s[..., 0].max(axis=1) for s in stats))


def cut_windows(
    store: StripStore, batch: list[int], boxes: list[Any], side: int
) -> tuple[FloatArray, NDArray[np.int64], NDArray[np.int64]]:
    """Boxes of many pairs as one array (in the upper left corners), their shapes and origins."""
    shapes = np.array([(b[1] - b[0], b[3] - b[2]) for b in boxes], np.int64)
    h, w = shapes.max(axis=0)
    raw = np.empty((len(batch), store.channels, h, w), np.float32)
    for k, (p, box) in enumerate(zip(batch, boxes, strict=True)):
        store.cut(p, side, box, raw[k])
    origins = np.array([(b[0], b[2]) for b in boxes], np.int64)
    return raw, shapes, origins
