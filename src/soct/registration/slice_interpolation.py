"""The tissue between two slices, guessed from the surfaces that face each other across a gap.

Each A-line ends above the gap and begins again below it. The images along these two surfaces, ``B_before`` and
``B_after`` (means of a few planes), show tissue that changes from the one to the other; an affine transform T
with ``B_before(T x) ~ B_after(x)`` says how it moves. At the share ``a`` of the way down, the morphed value is

    ``(1 - a) B_before(T^a x) + a B_after(T^(a-1) x)``

so that structures move along while one image fades into the other. ``T^a = (M^a, t_a)`` with the fractional matrix
power ``M^a`` and ``t_a = (I - M^a) (I - M)^-1 t``; near the identity both are linear in a.

Nothing is measured here. Gates refuse a transform that does not make the surfaces agree, and whoever uses the
result marks it as made up. Points are ``(y, x)`` in pixels about the image's centre.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import linalg
from scipy import ndimage as ndi
from skimage.filters import threshold_otsu

from soct.registration.slice_pair import register_slice_pair
from soct.space import FloatArray

Floats = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
Method = Literal["zmorph", "weighted", "average"]

_NEAR_IDENTITY = 1e-6
_IMAGINARY = 1e-3
_KNOTS = 65
_LEAST_PIXELS = 256
_SMOOTHING_PX = 1.5


@dataclass(frozen=True)
class FractionalAffine:
    """A power of an affine transform.

    Attributes
    ----------
    matrix : (2, 3) float64
        ``(M^a, t_a)`` over ``(y, x, 1)``.
    imaginary : float
        Largest imaginary part that was dropped; more than 1e-3 means that there is no real path.
    """

    matrix: Floats
    imaginary: float


def fractional_affine(matrix: Any, fraction: float) -> FractionalAffine:
    """Return an affine transform to the power of `fraction`.

    Parameters
    ----------
    matrix : (2, 3) float
        ``(M, t)``; the determinant of M must be positive.
    fraction : float
        1 gives the transform, 0 the identity, -1 the inverse.

    Raises
    ------
    ValueError
        A determinant that is not positive: a mirror image has no half-way.
    """
    m, t = np.asarray(matrix, np.float64)[:, :2], np.asarray(matrix, np.float64)[:, 2]
    if not float(np.linalg.det(m)) > 0:
        raise ValueError(
            f"the determinant {np.linalg.det(m):.3g} of an affine transform must be positive"
        )
    eye = np.eye(2)
    if np.abs(m - eye).max() < _NEAR_IDENTITY:
        return FractionalAffine(np.column_stack([eye + fraction * (m - eye), fraction * t]), 0.0)
    power = np.asarray(linalg.fractional_matrix_power(m, fraction))
    moved: NDArray[Any]
    if np.linalg.svd(eye - m, compute_uv=False)[-1] > _NEAR_IDENTITY:
        moved = (eye - power) @ np.linalg.solve(eye - m, t)
    else:
        # A direction that M leaves alone (a pure shear, one scale of 1): the same power of the whole transform.
        whole = np.eye(3)
        whole[:2] = np.column_stack([m, t])
        moved = np.asarray(linalg.expm(fraction * linalg.logm(whole)))[:2, 2]
    imaginary = max(float(np.abs(np.imag(power)).max()), float(np.abs(np.imag(moved)).max()))
    return FractionalAffine(np.column_stack([np.real(power), np.real(moved)]), imaginary)


@dataclass(frozen=True)
class Surface:
    """The image along the end of a slice.

    Attributes
    ----------
    image : (h, w) float32
    valid : (h, w) bool
    """

    image: FloatArray
    valid: BoolArray

    def smoothed(self) -> FloatArray:
        """Return the image with speckle smoothed away; valid pixels alone count."""
        weight = ndi.gaussian_filter(self.valid.astype(np.float32), _SMOOTHING_PX)
        total = ndi.gaussian_filter(
            np.where(self.valid, self.image, 0).astype(np.float32), _SMOOTHING_PX
        )
        return np.asarray(np.divide(total, weight, out=np.zeros_like(total), where=weight > 1e-3))


def surface_ncc(first: FloatArray, second: FloatArray, valid: BoolArray) -> float:
    """Return the normalised cross-correlation over valid pixels; NaN where there are too few or no contrast."""
    if np.count_nonzero(valid) < _LEAST_PIXELS:
        return math.nan
    p, q = first[valid].astype(np.float64), second[valid].astype(np.float64)
    p, q = p - p.mean(), q - q.mean()
    scale = math.sqrt(float(p @ p) * float(q @ q))
    return float(p @ q) / scale if scale > 0 else math.nan


def find_facing_surfaces(
    before: Sequence[Surface], after: Sequence[Surface]
) -> tuple[int, int, float]:
    """Choose the pair of surfaces that agree best: the last planes of a slice may be noise.

    Parameters
    ----------
    before, after : sequence of Surface
        Candidates, from the gap inwards.

    Returns
    -------
    (i, j, ncc)
        Of two pairs that agree equally, the one nearer to the gap; ``(0, 0, NaN)`` where none can be compared.
    """
    above, below = [s.smoothed() for s in before], [s.smoothed() for s in after]
    best = (0, 0, math.nan)
    for i, j in sorted(np.ndindex(len(before), len(after)), key=lambda at: (sum(at), at)):
        ncc = surface_ncc(above[i], below[j], before[i].valid & after[j].valid)
        if math.isfinite(ncc) and not ncc <= best[2]:
            best = (i, j, ncc)
    return best


@dataclass(frozen=True)
class MorphGates:
    """What a morph must pass.

    Attributes
    ----------
    min_overlap_ncc : float
        Correlation of the two surfaces once one is warped onto the other.
    min_improvement : float
        What the affine transform must add to it; an affine that adds less is not believed, and the surfaces face each
        other as the poses put them.
    min_foreground : float
        Share of the common pixels that are tissue in both.
    max_translation_px, max_rotation_deg : float
        Bounds of the transform.
    """

    min_overlap_ncc: float = 0.3
    min_improvement: float = 0.05
    min_foreground: float = 0.1
    max_translation_px: float = 30.0
    max_rotation_deg: float = 5.0


@dataclass(frozen=True)
class MorphPlan:
    """How two surfaces belong together.

    Attributes
    ----------
    matrix : (2, 3) float64
        T: points of the surface after the gap to points of the one before, about the centre.
    method : {"zmorph", "weighted"}
        ``weighted`` where T is the identity because no affine transform was believed.
    ncc_before, ncc_after : float
        Correlation of the surfaces as the poses put them, and through T.
    foreground : float
        Share of the common pixels that are tissue in both.
    failure : str
        The gate that refuses to interpolate; empty where all pass.
    note : str
        Why the affine transform was not believed; empty where it was.
    """

    matrix: Floats
    method: Method
    ncc_before: float
    ncc_after: float
    foreground: float
    failure: str = ""
    note: str = ""


def plan_morph(before: Surface, after: Surface, gates: MorphGates | None = None) -> MorphPlan:
    """Register two surfaces across a gap, and judge the result.

    Parameters
    ----------
    before, after : Surface
        Of the same shape, in the same frame.
    gates : MorphGates, optional
    """
    gates = gates or MorphGates()
    identity = np.eye(3)[:2]
    a, b = before.smoothed(), after.smoothed()
    both = before.valid & after.valid
    start = surface_ncc(a, b, both)
    foreground = _foreground(a, b, both)
    failure = ""
    if not math.isfinite(start):
        failure = "the surfaces have nothing in common that could be compared"
    elif foreground < gates.min_foreground:
        failure = (
            f"tissue on {foreground:.0%} of the surfaces is less than {gates.min_foreground:.0%}"
        )
    if failure:
        return MorphPlan(identity, "weighted", start, start, foreground, failure)
    matrix, ncc, note = _affine(before, after, gates, start)
    if not ncc >= gates.min_overlap_ncc:
        failure = f"the surfaces correlate {ncc:.2f}, less than {gates.min_overlap_ncc:g}"
    return MorphPlan(
        matrix, "weighted" if note else "zmorph", start, ncc, foreground, failure, note
    )


def _affine(
    before: Surface, after: Surface, gates: MorphGates, start: float
) -> tuple[Floats, float, str]:
    """Return the affine transform, the correlation through it, and why it is the identity if it is."""
    identity = np.eye(3)[:2]
    found = register_slice_pair(
        after.image,
        before.image,
        fixed_valid=after.valid,
        moving_valid=before.valid,
        max_translation_px=gates.max_translation_px,
        max_rotation_deg=gates.max_rotation_deg,
        transform="affine",
    )
    if not found.accepted:
        return identity, start, f"no affine transform: {found.reason}"
    matrix = _about_centre(found.transform.matrix(), after.image.shape)
    if not float(np.linalg.det(matrix[:, :2])) > 0:
        return identity, start, "the affine transform is a mirror image"
    warped = warp(before, matrix)
    ncc = surface_ncc(warped.smoothed(), after.smoothed(), warped.valid & after.valid)
    if not ncc - start >= gates.min_improvement:
        return (
            identity,
            start,
            f"an affine transform adds {max(ncc - start, 0):.3f} to the correlation, less than "
            f"{gates.min_improvement:g}",
        )
    return matrix, ncc, ""


def _foreground(a: FloatArray, b: FloatArray, both: BoolArray) -> float:
    """Share of the common pixels that are above Otsu's threshold in both."""
    seen = both & (a > 0) & (b > 0)
    if np.count_nonzero(seen) < _LEAST_PIXELS:
        return 0.0
    # Of the logarithm: the multiplicative spread of tissue must not count as two classes.
    levels = [np.log(image[seen]) for image in (a, b)]
    pooled = np.concatenate(levels)
    if np.ptp(pooled) < 1e-6:
        return 0.0
    threshold = float(threshold_otsu(pooled))
    tissue = (levels[0] > threshold) & (levels[1] > threshold)
    return float(np.count_nonzero(tissue) / np.count_nonzero(both))


def _about_centre(matrix: Floats, shape: tuple[int, ...]) -> Floats:
    """Rewrite a homogeneous matrix over pixels as one over pixels about the image's centre."""
    shift = np.eye(3)
    shift[:2, 2] = [(n - 1) / 2 for n in shape]
    return np.asarray((np.linalg.inv(shift) @ matrix @ shift)[:2])


def warp(surface: Surface, matrix: Any) -> Surface:
    """Return a surface seen through a transform about its centre: ``out(x) = surface(T x)``."""
    m = np.asarray(matrix, np.float64)
    centre = np.array([(n - 1) / 2 for n in surface.image.shape])
    offset = m[:, 2] + centre - m[:, :2] @ centre
    image, weight = (
        ndi.affine_transform(data, m[:, :2], offset, order=1, output=np.float32)
        for data in (np.where(surface.valid, surface.image, 0), surface.valid.astype(np.float32))
    )
    valid = weight > 0.5
    return Surface(np.divide(image, weight, out=np.zeros_like(image), where=valid), valid)


class Morph:
    """Values between two surfaces; see the module's docstring.

    Parameters
    ----------
    before, after : Surface
        Of the same shape, in the same frame.
    method : {"zmorph", "weighted", "average"}
        ``weighted``: without motion; ``average``: the mean of both at any depth.
    matrix : (2, 3) float, optional
        T of `plan_morph`, for ``zmorph``.

    Attributes
    ----------
    imaginary : float
        Largest imaginary part that the matrix powers dropped.
    """

    def __init__(
        self, before: Surface, after: Surface, method: Method = "zmorph", matrix: Any = None
    ) -> None:
        if before.image.shape != after.image.shape:
            raise ValueError(f"surfaces of shapes {before.image.shape} and {after.image.shape}")
        self.before, self.after, self.method = before, after, method
        self.imaginary = 0.0
        self._tables: tuple[Floats, Floats] | None = None
        if method == "zmorph" and matrix is not None and not _is_identity(matrix):
            at = np.linspace(0.0, 1.0, _KNOTS)
            forward = [fractional_affine(matrix, float(a)) for a in at]
            backward = [fractional_affine(matrix, float(a) - 1.0) for a in at]
            self.imaginary = max(p.imaginary for p in (*forward, *backward))
            self._tables = (
                np.stack([p.matrix for p in forward]),
                np.stack([p.matrix for p in backward]),
            )

    @property
    def is_dubious(self) -> bool:
        """Whether the transform has no real path, so that halves of it are not what they seem."""
        return self.imaginary > _IMAGINARY

    def plane(self, fraction: Any) -> Surface:
        """Return the values at a share of the way down.

        Parameters
        ----------
        fraction : float or (h, w) float
            0 on the surface before the gap, 1 on the one after it; may differ between A-lines.
        """
        a = np.broadcast_to(np.asarray(fraction, np.float32), self.before.image.shape)
        a = np.clip(a, 0.0, 1.0)
        before, after = self.before, self.after
        if self._tables is not None:
            before = _sample(before, a, self._tables[0])
            after = _sample(after, a, self._tables[1])
        share = np.full(a.shape, 0.5, np.float32) if self.method == "average" else a
        # Where only one of the two can be sampled (the other's edge), it stands alone.
        w0, w1 = (1 - share) * before.valid, share * after.valid
        total = w0 + w1
        valid = (before.valid | after.valid) & (total > 1e-6)
        mixed = w0 * np.where(before.valid, before.image, 0) + w1 * np.where(
            after.valid, after.image, 0
        )
        return Surface(
            np.divide(mixed, total, out=np.zeros(a.shape, np.float32), where=valid), valid
        )


def _is_identity(matrix: Any) -> bool:
    return bool(np.abs(np.asarray(matrix, np.float64) - np.eye(3)[:2]).max() < 1e-9)


def _sample(surface: Surface, fraction: NDArray[Any], table: Floats) -> Surface:
    """Sample a surface through ``T^a`` (or ``T^(a-1)``), with a that may differ between pixels."""
    h, w = surface.image.shape
    if float(np.ptp(fraction)) == 0.0:
        at = float(fraction.flat[0]) * (_KNOTS - 1)
        low = min(int(at), _KNOTS - 2)
        t = at - low
        return warp(surface, (1 - t) * table[low] + t * table[low + 1])
    y = (np.arange(h, dtype=np.float32) - (h - 1) / 2)[:, None]
    x = (np.arange(w, dtype=np.float32) - (w - 1) / 2)[None, :]
    knots = np.linspace(0.0, 1.0, _KNOTS)
    centre = ((h - 1) / 2, (w - 1) / 2)
    where = np.stack(
        [
            sum(
                np.interp(fraction, knots, table[:, row, k]).astype(np.float32) * part
                for k, part in enumerate((y, x, np.float32(1)))
            )
            + np.float32(centre[row])
            for row in (0, 1)
        ]
    )
    image, weight = (
        ndi.map_coordinates(data, where, order=1, output=np.float32)
        for data in (np.where(surface.valid, surface.image, 0), surface.valid.astype(np.float32))
    )
    valid = weight > 0.5
    return Surface(np.divide(image, weight, out=np.zeros_like(image), where=valid), valid)
