"""Exhaustive start: every rotation in range, every shift in range, at low resolution.

For each rotation the moving stack is turned about its centre and compared with the fixed one at all shifts
by the masked correlation of Padfield (IEEE TIP 21, 2012), planes pooled. The score of a shift is the
correlation times the square root of the share of the overlap, so that a sliver that happens to agree does
not win. Several distinct candidates are kept: which of them is right shows only after refinement.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy import fft

from soct.registration.contrast import BoolArray
from soct.registration.transforms import RigidTransform2D
from soct.space import FloatArray

_LEAST_OVERLAP = 0.15


@dataclass(frozen=True)
class Candidate:
    """A possible transform, with the score of its peak.

    Attributes
    ----------
    transform : RigidTransform2D
        In the pixels of the searched images, about the moving stack's centre.
    score : float
        Correlation times the square root of the overlap's share.
    spread : float
        Standard deviation of the score over the searched shifts at this rotation.
    """

    transform: RigidTransform2D
    score: float
    spread: float


@njit(cache=True, nogil=True)
def _turn(
    images: FloatArray, valid: BoolArray, cosine: float, sine: float
) -> tuple[FloatArray, FloatArray]:  # pragma: no cover - compiled
    """Turn a stack about its centre, bilinear; also whether the sample is valid, as 0 or 1."""
    k, h, w = images.shape
    cy, cx = (h - 1) / 2.0, (w - 1) / 2.0
    out = np.zeros((k, h, w), dtype=np.float32)
    inside = np.zeros((k, h, w), dtype=np.float32)
    for p in range(k):
        for y in range(h):
            for x in range(w):
                qy = cosine * (y - cy) + sine * (x - cx) + cy
                qx = -sine * (y - cy) + cosine * (x - cx) + cx
                if qy < 0.0 or qx < 0.0 or qy > h - 1 or qx > w - 1:
                    continue
                iy = min(int(qy), h - 2)
                ix = min(int(qx), w - 2)
                u = qy - iy
                t = qx - ix
                near_y = iy + (1 if u >= 0.5 else 0)
                near_x = ix + (1 if t >= 0.5 else 0)
                if not valid[p, near_y, near_x]:
                    continue
                out[p, y, x] = (1 - u) * (
                    (1 - t) * images[p, iy, ix] + t * images[p, iy, ix + 1]
                ) + u * ((1 - t) * images[p, iy + 1, ix] + t * images[p, iy + 1, ix + 1])
                inside[p, y, x] = 1.0
    return out, inside


@njit(cache=True, nogil=True)
def _peaks(
    score: NDArray[np.float32], count: int, radius: int
) -> NDArray[np.int64]:  # pragma: no cover - compiled
    """Find the `count` highest local maxima, `radius` apart; -1 where there are fewer."""
    h, w = score.shape
    work = score.copy()
    out = np.full((count, 2), -1, dtype=np.int64)
    for n in range(count):
        best = 0.0
        by, bx = -1, -1
        for y in range(h):
            for x in range(w):
                v = work[y, x]
                if v > best:
                    # A maximum on the flank of a suppressed one is no peak of its own.
                    peak = True
                    for i in range(max(0, y - 1), min(h, y + 2)):
                        for j in range(max(0, x - 1), min(w, x + 2)):
                            if score[i, j] > v:
                                peak = False
                    if peak:
                        best = v
                        by, bx = y, x
        if by < 0:
            break
        out[n, 0] = by
        out[n, 1] = bx
        for y in range(max(0, by - radius), min(h, by + radius + 1)):
            for x in range(max(0, bx - radius), min(w, bx + radius + 1)):
                work[y, x] = 0.0
    return out


def rotations(max_rotation_deg: float, reach_px: float) -> list[float]:
    """Angles from ``-max`` to ``max``, 0 among them, at most 1.6 px apart at `reach_px` from the centre."""
    step = math.degrees(1.6 / max(reach_px, 1.0))
    n = math.ceil(max_rotation_deg / step)
    return [max_rotation_deg * i / n for i in range(-n, n + 1)] if n else [0.0]


def search(
    fixed: FloatArray,
    fixed_valid: BoolArray,
    moving: FloatArray,
    moving_valid: BoolArray,
    start: tuple[float, float],
    max_shift_px: float,
    max_rotation_deg: float,
    *,
    per_rotation: int = 3,
) -> list[Candidate]:
    """Find the candidates of a rigid transform between two small stacks.

    Parameters
    ----------
    fixed, moving : (k, h, w) float32
        Local contrast, 0 where invalid; h and w may differ between the two.
    fixed_valid, moving_valid : (k, h, w) bool
    start : (dy, dx)
        Expected shift of the moving stack's centre beyond its own position, in pixels.
    max_shift_px : float
        Radius of the search around `start`.
    max_rotation_deg : float
        Range of the rotation on both sides of 0.
    per_rotation : int
        Peaks kept at each rotation.

    Returns
    -------
    list of Candidate
        Best score first; at most one for each peak and rotation.
    """
    h, w = (max(a, b) for a, b in zip(fixed.shape[1:], moving.shape[1:], strict=True))
    reach = math.ceil(max_shift_px) + 2
    shape = tuple(
        fft.next_fast_len(n + min(n, reach + math.ceil(abs(s))), real=True)
        for n, s in zip((h, w), start, strict=True)
    )
    base = tuple(round(s) for s in start)
    grid = np.arange(-reach, reach + 1)
    index = np.ix_((grid + base[0]) % shape[0], (grid + base[1]) % shape[1])
    offset_y = grid[:, None] + base[0] - start[0]
    offset_x = grid[None, :] + base[1] - start[1]
    allowed = np.hypot(offset_y, offset_x) <= max_shift_px + 1.0

    def spectrum(stack: NDArray[np.float32]) -> NDArray[np.complex64]:
        return np.asarray(fft.rfftn(stack, shape, axes=(-2, -1)))

    f = spectrum(fixed)
    f_power = spectrum((fixed * fixed).mean(axis=0))
    f_mask = spectrum(fixed_valid.mean(axis=0, dtype=np.float32))
    most = float(fixed_valid.sum()) / fixed.shape[0]
    out: list[Candidate] = []
    for angle in rotations(max_rotation_deg, 0.35 * math.hypot(*moving.shape[1:])):
        cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        turned, inside = _turn(moving, moving_valid, cosine, sine)
        cross = (f * spectrum(turned).conj()).mean(axis=0)
        m_power = spectrum((turned * turned).mean(axis=0)).conj()
        m_mask = spectrum(inside.mean(axis=0)).conj()
        stack = np.stack([cross, f_power * m_mask, f_mask * m_power, f_mask * m_mask])
        surfaces = fft.irfftn(stack, shape, axes=(-2, -1))[(slice(None), *index)]
        number = np.maximum(surfaces[3], 1.0)
        share = surfaces[3] / max(min(most, float(inside.sum()) / inside.shape[0]), 1.0)
        energy = np.maximum(surfaces[1], 1e-3 * number) * np.maximum(surfaces[2], 1e-3 * number)
        score = surfaces[0] / np.sqrt(energy) * np.sqrt(np.clip(share, 0, 1))
        score = np.where(allowed & (share >= _LEAST_OVERLAP), score, 0).astype(np.float32)
        spread = float(score[allowed].std()) if allowed.any() else 0.0
        centre = ((moving.shape[1] - 1) / 2.0, (moving.shape[2] - 1) / 2.0)
        for y, x in _peaks(score, per_rotation, 3):
            if y < 0:
                break
            shift = (float(grid[y] + base[0]), float(grid[x] + base[1]))
            transform = RigidTransform2D(angle, shift, centre)
            out.append(Candidate(transform, float(score[y, x]), spread))
    out.sort(key=lambda c: -c.score)
    return out
