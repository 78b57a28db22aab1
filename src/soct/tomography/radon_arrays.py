"""Projections, back-projections and their filters over an array module: CuPy on a GPU, numpy as the plain reference.

Each function does what the compiled kernel of the same name in `soct.tomography.radon_kernels` does, by the same tables: values agree
within 1e-12 of the greatest absolute value in double precision and 1e-5 in single (sums are taken in another order).
One projection of all slices is worked on at a time, so memory for two or three copies of the slices is enough. ``xp`` is the
array module of all arrays given but `angles` and `axis`, which are numpy's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from soct.tomography.filters import FilterName, padded_size, transfer_function


@dataclass(frozen=True)
class _Lines:
    """How the lines of an image see one projection; see `soct.tomography.radon_kernels`.

    Attributes
    ----------
    along_rows : bool
        Whether lines are rows.
    step : float
        Detector pixels per sample.
    positions : float64 array (phases + 1, length)
        Detector coordinate of each place in the table.
    start, phase : int64 array (lines,)
        Where a line begins in the table.
    share : array (lines,)
        Of the phase after `phase`.
    """

    along_rows: bool
    step: float
    positions: Any
    start: Any
    phase: Any
    share: Any


def _lines(
    xp: Any, angle: float, axis: float, shape: tuple[int, int], phases: int, dtype: Any
) -> _Lines:
    c, s = float(np.cos(angle)), float(np.sin(angle))
    along_rows = abs(c) > abs(s) - 1e-9
    step, slope = (c, -s / c) if along_rows else (-s, -c / s)
    lines, samples = shape if along_rows else shape[::-1]
    lag = (xp.arange(lines, dtype=xp.float64) - lines // 2) * slope
    ends = (-(lines // 2) * slope, (lines - 1 - lines // 2) * slope)
    first = int(np.floor(min(ends))) - samples // 2
    length = int(np.floor(max(ends))) - samples // 2 + samples - first + 1
    whole = xp.floor(lag)
    part = (lag - whole) * phases
    phase = xp.minimum(part.astype(xp.int64), phases - 1)
    offsets = axis + (first + xp.arange(phases + 1, dtype=xp.float64) / phases) * step
    return _Lines(
        along_rows,
        step,
        offsets[:, None] + xp.arange(length, dtype=xp.float64) * step,
        whole.astype(xp.int64) - samples // 2 - first,
        phase,
        (part - phase).astype(dtype),
    )


def _kernel(xp: Any, distance: Any, cubic: bool) -> Any:
    """Weight of a detector pixel at some distance."""
    d = xp.abs(distance)
    if not cubic:
        return xp.maximum(1.0 - d, 0.0)
    near = 1.0 + d * d * (1.5 * d - 2.5)
    e = 2.0 - d
    far = -0.5 * (d - 1.0) * e * e
    return xp.where(d < 1.0, near, xp.where(d < 2.0, far, 0.0))


def _fill_tables(xp: Any, values: Any, lines: _Lines, cubic: bool) -> Any:
    """Interpolate projections ``(k, detectors)`` at each place of the table."""
    detectors = values.shape[-1]
    below = xp.floor(lines.positions)
    table = xp.zeros((len(values), *below.shape), xp.float64)
    for tap in range(-1, 3):
        at = below + tap
        weight = _kernel(xp, lines.positions - at, cubic) * ((at >= 0) & (at < detectors))
        table += weight * values[:, xp.clip(at, 0, detectors - 1).astype(xp.int64)]
    return table.astype(values.dtype)


def _fold_tables(xp: Any, tables: Any, lines: _Lines, detectors: int, cubic: bool) -> Any:
    """Collect tables ``(k, phases + 1, length)`` on the detector: the transpose of `_fill_tables`."""
    phases, length = lines.positions.shape
    pixel = xp.arange(detectors, dtype=xp.float64)
    row = xp.arange(phases)[:, None]
    sums = xp.zeros((len(tables), detectors), xp.float64)
    # The places nearest to a pixel: triangle and cubic end two pixels away, six places at most to either side in all.
    nearest = xp.floor((pixel[None] - lines.positions[:, :1]) / lines.step)
    reach = int(np.ceil(2.0 / abs(lines.step)))
    for tap in range(-reach, reach + 2):
        at = nearest + tap
        inside = (at >= 0) & (at < length)
        at = xp.clip(at, 0, length - 1).astype(xp.int64)
        weight = _kernel(xp, lines.positions[row, at] - pixel, cubic) * inside
        sums += (weight * tables[:, row, at]).sum(axis=1)
    return sums


def _places(xp: Any, lines: _Lines, samples: int) -> Any:
    return lines.start[:, None] + xp.arange(samples)


def _look_up(xp: Any, tables: Any, lines: _Lines, samples: int) -> Any:
    """Return tables at the samples of each line, ``(k, lines, samples)``."""
    at = _places(xp, lines, samples)
    low = tables[:, lines.phase[:, None], at]
    high = tables[:, lines.phase[:, None] + 1, at]
    high -= low
    high *= lines.share[:, None]
    low += high
    return low


def _leave(xp: Any, images: Any, lines: _Lines) -> Any:
    """Add the lines of images ``(k, lines, samples)`` to their places in new tables."""
    phases, length = lines.positions.shape
    count, samples = images.shape[1:]
    at = xp.arange(length) - lines.start[:, None]
    inside = (at >= 0) & (at < samples)
    moved = images[:, xp.arange(count)[:, None], xp.clip(at, 0, samples - 1)] * inside
    mix = xp.zeros((phases, count), images.dtype)
    mix[lines.phase, xp.arange(count)] = 1 - lines.share
    mix[lines.phase + 1, xp.arange(count)] = lines.share
    return xp.matmul(mix, moved)


def project_slices(
    xp: Any, images: Any, angles: Any, axis: Any, detectors: int, cubic: bool, phases: int
) -> Any:
    """Return projections ``(k, n, detectors)`` of slices ``(k, rows, columns)``."""
    out = xp.empty((len(images), len(angles), detectors), images.dtype)
    for a, (angle, centre) in enumerate(zip(angles, axis, strict=True)):
        lines = _lines(xp, angle, float(centre), images.shape[1:], phases, images.dtype)
        turned = images if lines.along_rows else images.transpose(0, 2, 1)
        out[:, a] = _fold_tables(xp, _leave(xp, turned, lines), lines, detectors, cubic)
    return out


def back_project_slices(
    xp: Any,
    projections: Any,
    angles: Any,
    axis: Any,
    shape: tuple[int, int],
    radius: float,
    cubic: bool,
    phases: int,
) -> Any:
    """Return slices ``(k, rows, columns)`` of projections ``(k, n, detectors)``."""
    out = xp.zeros((len(projections), *shape), projections.dtype)
    for a, (angle, centre) in enumerate(zip(angles, axis, strict=True)):
        lines = _lines(xp, angle, float(centre), shape, phases, projections.dtype)
        tables = _fill_tables(xp, projections[:, a], lines, cubic)
        into = out if lines.along_rows else out.transpose(0, 2, 1)
        into += _look_up(xp, tables, lines, into.shape[2])
    out *= disc(xp, shape, radius)
    return out


def disc(xp: Any, shape: tuple[int, int], radius: float) -> Any:
    """Whether pixels lie within `radius` of pixel ``(rows // 2, columns // 2)``."""
    y, x = (xp.arange(n) - n // 2 for n in shape)
    return y[:, None] ** 2 + x[None] ** 2 <= radius * radius


def sart_sweep(
    xp: Any,
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
) -> None:
    """Correct slices ``(k, rows, columns)`` by each projection in turn, in place."""
    inside = disc(xp, images.shape[1:], radius)
    detectors = projections.shape[2]
    for a in (int(v) for v in order):
        lines = _lines(xp, angles[a], float(axis[a]), images.shape[1:], phases, images.dtype)
        turned = images if lines.along_rows else images.transpose(0, 2, 1)
        within = inside if lines.along_rows else inside.T
        sums = _fold_tables(xp, _leave(xp, turned, lines), lines, detectors, True)
        seen = (lengths[a] > 0).astype(xp.float64)
        lack = seen * relaxation * (projections[:, a] - sums) / xp.maximum(lengths[a], 1.0)
        tables = _fill_tables(xp, xp.concatenate([lack, seen[None]]), lines, True)
        found = _look_up(xp, tables.astype(images.dtype), lines, turned.shape[2])
        weight = found[-1]
        there = within & (weight > 0)
        step = found[:-1] / xp.where(there, weight, 1)
        turned[...] = xp.where(there, xp.clip(turned + step, low, high), turned)


def filter_projections(
    xp: Any, projections: Any, filtertype: FilterName, freqcutoff: float, derivatives: bool
) -> Any:
    """Filter along the last axis as `soct.tomography.filters.filter_sinogram` does."""
    detectors = projections.shape[-1]
    size = padded_size(detectors)
    response = xp.asarray(transfer_function(size, filtertype, freqcutoff, derivatives))
    spectrum = xp.fft.rfft(projections, size, axis=-1)
    spectrum *= response.astype(spectrum.dtype)
    return xp.fft.irfft(spectrum, size, axis=-1)[..., :detectors].astype(projections.dtype)
