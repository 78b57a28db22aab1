"""Compiled kernels that project images and back-project sinograms; `soct.tomography.radon` says what they compute.

Lines of the image (rows, or columns where the angle is steep) all cross the detector with the same spacing, in another phase. So a
projection is first interpolated at that spacing in several phases (its table), and a line is the blend of two of them: no look-up per
pixel, and the processor works on eight pixels at a time. Projecting does the same the other way round. Positions are computed in
double precision whatever the arrays hold. Every sum is taken in one order: results do not depend on the number of threads or on how
many slices are given at once.

The kernels for a GPU are those of `soct.tomography.radon_arrays`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange

_ANGLES_AT_ONCE = 16
# Zeros beyond both ends of a projection: a cubic reaches two pixels, and positions two samples beyond may be asked for.
_MARGIN = 6


@njit(cache=True, nogil=True)
def _line_geometry(
    angle: float, rows: int, columns: int
) -> tuple[bool, float, float]:  # pragma: no cover - compiled
    """Whether lines are rows; detector pixels per sample of a line; samples by which a line lags the one before."""
    c, s = np.cos(angle), np.sin(angle)
    # At 45 degrees rounding must not decide: other libraries round otherwise.
    if abs(c) > abs(s) - 1e-9:
        return True, c, -s / c
    return False, -s, -c / s


@njit(cache=True, nogil=True)
def _table_range(
    slope: float, lines: int, samples: int
) -> tuple[int, int]:  # pragma: no cover - compiled
    """First sample position that any line has, and how many positions there are."""
    a = -(lines // 2) * slope
    b = (lines - 1 - lines // 2) * slope
    first = int(np.floor(min(a, b))) - samples // 2
    last = int(np.floor(max(a, b))) - samples // 2 + samples
    return first, last - first + 1


@njit(cache=True, nogil=True)
def _line_place(
    line: int, lines: int, samples: int, slope: float, first: int, phases: int
) -> tuple[int, int, float]:  # pragma: no cover - compiled
    """Where a line begins in the table, and between which phases it lies."""
    start = (line - lines // 2) * slope
    whole = np.floor(start)
    part = (start - whole) * phases
    phase = min(int(part), phases - 1)
    return int(whole) - samples // 2 - first, phase, part - phase


@njit(cache=True, nogil=True)
def _taps(
    t: float, cubic: bool
) -> tuple[int, float, float, float, float]:  # pragma: no cover - compiled
    """Return the detector pixel below `t`, which is positive, and the weights of the one before it, of itself and of the next two."""
    i = int(t)
    f = t - i
    if not cubic:
        return i, 0.0, 1.0 - f, f, 0.0
    g = 1.0 - f
    # Keys' cubic convolution: it reproduces parabolas, and its weights have the mean t.
    return (
        i,
        -0.5 * f * g * g,
        1.0 + f * f * (1.5 * f - 2.5),
        1.0 + g * g * (1.5 * g - 2.5),
        -0.5 * g * f * f,
    )


@njit(cache=True, nogil=True)
def _seen(
    offset: float, step: float, detectors: int, length: int
) -> tuple[int, int]:  # pragma: no cover - compiled
    """Which positions of a table row (at ``offset + j step``) may touch the detector; two samples more at most."""
    a = (-2.0 - offset) / step
    b = (detectors + 1.0 - offset) / step
    lo = min(int(max(np.floor(min(a, b)), 0.0)), length)
    hi = int(max(min(np.ceil(max(a, b)) + 1.0, float(length)), 0.0))
    return lo, max(lo, hi)


@njit(cache=True, nogil=True)
def _fill_table(
    values: Any, axis: float, step: float, cubic: bool, first: int, length: int, table: Any
) -> None:  # pragma: no cover - compiled
    """Interpolate one projection, 0 beyond its ends, at the samples of a line in every phase."""
    phases = table.shape[0] - 1
    padded = np.zeros(values.size + 2 * _MARGIN, values.dtype)
    padded[_MARGIN:-_MARGIN] = values
    for phase in range(phases + 1):
        offset = axis + (first + phase / phases) * step
        lo, hi = _seen(offset, step, values.size, length)
        row = table[phase]
        row[:lo] = 0
        row[hi:length] = 0
        for j in range(lo, hi):
            i, a, b, c, d = _taps(_MARGIN + offset + j * step, cubic)
            row[j] = a * padded[i - 1] + b * padded[i] + c * padded[i + 1] + d * padded[i + 2]


@njit(cache=True, nogil=True)
def _fold_table(
    table: Any, axis: float, step: float, cubic: bool, first: int, length: int, out: Any
) -> None:  # pragma: no cover - compiled
    """Collect what lines left in a table on the detector: the transpose of `_fill_table`."""
    phases = table.shape[0] - 1
    sums = np.zeros(out.size + 2 * _MARGIN)
    for phase in range(phases + 1):
        offset = axis + (first + phase / phases) * step
        lo, hi = _seen(offset, step, out.size, length)
        row = table[phase]
        for j in range(lo, hi):
            i, a, b, c, d = _taps(_MARGIN + offset + j * step, cubic)
            value = row[j]
            sums[i - 1] += a * value
            sums[i] += b * value
            sums[i + 1] += c * value
            sums[i + 2] += d * value
    out[:] = sums[_MARGIN:-_MARGIN]


@njit(cache=True, nogil=True)
def _span(
    line: int, lines: int, samples: int, radius: float
) -> tuple[int, int]:  # pragma: no cover - compiled
    """Which samples of a line lie within `radius` of the centre."""
    d = line - lines // 2
    room = radius * radius - d * d
    if room < 0:
        return 0, 0
    half = int(np.floor(np.sqrt(room)))
    return max(samples // 2 - half, 0), min(samples // 2 + half + 1, samples)


@njit(cache=True, nogil=True)
def _add_line(
    table: Any, start: int, phase: int, share: Any, lo: int, hi: int, out: Any
) -> None:  # pragma: no cover - compiled
    low = table[phase, start + lo : start + hi]
    high = table[phase + 1, start + lo : start + hi]
    into = out[lo:hi]
    for x in range(hi - lo):
        into[x] += low[x] + share * (high[x] - low[x])


@njit(cache=True, nogil=True)
def _leave_line(
    values: Any, start: int, phase: int, share: Any, table: Any
) -> None:  # pragma: no cover - compiled
    n = values.size
    low = table[phase, start : start + n]
    high = table[phase + 1, start : start + n]
    rest = values.dtype.type(1) - share
    for x in range(n):
        low[x] += rest * values[x]
        high[x] += share * values[x]


@njit(cache=True, nogil=True, parallel=True)
def project_slices(
    images: Any, turned: Any, angles: Any, axis: Any, cubic: bool, phases: int, out: Any
) -> None:  # pragma: no cover - compiled
    """Project slices ``(k, rows, columns)``, also given with rows and columns exchanged, to ``(k, n, detectors)``."""
    slices, rows, columns = images.shape
    n = angles.size
    for task in prange(slices * n):
        k, a = task // n, task % n
        along_rows, step, slope = _line_geometry(angles[a], rows, columns)
        lines = images[k] if along_rows else turned[k]
        count, samples = lines.shape
        first, length = _table_range(slope, count, samples)
        table = np.zeros((phases + 1, length), images.dtype)
        for line in range(count):
            start, phase, share = _line_place(line, count, samples, slope, first, phases)
            _leave_line(lines[line], start, phase, images.dtype.type(share), table)
        _fold_table(table, axis[a], step, cubic, first, length, out[k, a])


@njit(cache=True, nogil=True)
def _add_angle(
    table: Any,
    line: int,
    lines: int,
    samples: int,
    slope: float,
    first: int,
    radius: float,
    out: Any,
) -> None:  # pragma: no cover - compiled
    """Add one projection, given as its table, to a line of the image."""
    phases = table.shape[0] - 1
    lo, hi = _span(line, lines, samples, radius)
    if hi > lo:
        start, phase, share = _line_place(line, lines, samples, slope, first, phases)
        _add_line(table, start, phase, out.dtype.type(share), lo, hi, out)


@njit(cache=True, nogil=True, parallel=True)
def back_project_one(
    projections: Any,
    angles: Any,
    axis: Any,
    cubic: bool,
    radius: float,
    phases: int,
    out: Any,
    turned: Any,
) -> None:  # pragma: no cover - compiled
    """Back-project ``(n, detectors)``: threads share the angles of a block, then its lines."""
    rows, columns = out.shape
    n = angles.size
    tables = np.empty((_ANGLES_AT_ONCE, phases + 1, rows + columns + 4), projections.dtype)
    along = np.empty(n, np.bool_)
    slopes = np.empty(n)
    firsts = np.empty(n, np.int64)
    for begin in range(0, n, _ANGLES_AT_ONCE):
        block = min(_ANGLES_AT_ONCE, n - begin)
        for b in prange(block):
            a = begin + b
            along[a], step, slopes[a] = _line_geometry(angles[a], rows, columns)
            count, samples = (rows, columns) if along[a] else (columns, rows)
            firsts[a], length = _table_range(slopes[a], count, samples)
            _fill_table(projections[a], axis[a], step, cubic, firsts[a], length, tables[b])
        for task in prange(rows + columns):
            by_row = task < rows
            line = np.int64(task) if by_row else np.int64(task) - rows
            count, samples = (rows, columns) if by_row else (columns, rows)
            into = out[line] if by_row else turned[line]
            for b in range(block):
                a = begin + b
                if along[a] == by_row:
                    table = tables[b]
                    _add_angle(table, line, count, samples, slopes[a], firsts[a], radius, into)


@njit(cache=True, nogil=True, parallel=True)
def back_project_many(
    projections: Any,
    angles: Any,
    axis: Any,
    cubic: bool,
    radius: float,
    phases: int,
    out: Any,
    turned: Any,
) -> None:  # pragma: no cover - compiled
    """Back-project ``(k, n, detectors)``: threads share the slices."""
    slices, rows, columns = out.shape
    for k in prange(slices):
        table = np.empty((phases + 1, rows + columns + 4), projections.dtype)
        for a in range(angles.size):
            along_rows, step, slope = _line_geometry(angles[a], rows, columns)
            into = out[k] if along_rows else turned[k]
            count, samples = into.shape
            first, length = _table_range(slope, count, samples)
            _fill_table(projections[k, a], axis[a], step, cubic, first, length, table)
            for line in range(count):
                _add_angle(table, line, count, samples, slope, first, radius, into[line])


@njit(cache=True, nogil=True)
def _correct_line(
    table: Any,
    norms: Any,
    start: int,
    phase: int,
    share: Any,
    lo: int,
    hi: int,
    low: float,
    high: float,
    out: Any,
) -> None:  # pragma: no cover - compiled
    """Add what a projection's rays lack to a line of the image, and keep it between two limits."""
    for x in range(lo, hi):
        j = start + x
        weight = norms[phase, j] + share * (norms[phase + 1, j] - norms[phase, j])
        if weight > 0:
            lack = table[phase, j] + share * (table[phase + 1, j] - table[phase, j])
            out[x] = min(max(out[x] + lack / weight, low), high)


@njit(cache=True, nogil=True, parallel=True)
def sart_sweep(
    images: Any,
    projections: Any,
    lengths: Any,
    angles: Any,
    axis: Any,
    order: Any,
    radius: float,
    relaxation: float,
    low: float,
    high: float,
    phases: int,
) -> None:  # pragma: no cover - compiled
    """Correct slices ``(k, rows, columns)`` by each projection ``(k, n, detectors)`` in turn; threads share slices.

    `lengths` ``(n, detectors)`` are those of the rays within `radius`.
    """
    slices, rows, columns = images.shape
    detectors = projections.shape[2]
    for k in prange(slices):
        image = images[k]
        table = np.empty((phases + 1, rows + columns + 4), images.dtype)
        norms = np.empty((phases + 1, rows + columns + 4), images.dtype)
        sums, seen = np.empty(detectors), np.empty(detectors)
        for a in order:
            along_rows, step, slope = _line_geometry(angles[a], rows, columns)
            lines = image if along_rows else np.ascontiguousarray(image.T)
            count, samples = lines.shape
            first, length = _table_range(slope, count, samples)
            table[:] = 0
            for line in range(count):
                start, phase, share = _line_place(line, count, samples, slope, first, phases)
                _leave_line(lines[line], start, phase, images.dtype.type(share), table)
            _fold_table(table, axis[a], step, True, first, length, sums)
            for i in range(detectors):
                seen[i] = lengths[a, i] > 0
                # A ray that only grazes the slice must not decide over its pixels.
                lack = projections[k, a, i] - sums[i]
                sums[i] = seen[i] * relaxation * lack / max(lengths[a, i], 1.0)
            _fill_table(sums, axis[a], step, True, first, length, table)
            _fill_table(seen, axis[a], step, True, first, length, norms)
            for line in range(count):
                lo, hi = _span(line, count, samples, radius)
                start, phase, share = _line_place(line, count, samples, slope, first, phases)
                part = images.dtype.type(share)
                _correct_line(table, norms, start, phase, part, lo, hi, low, high, lines[line])
            if not along_rows:
                image[:] = lines.T
