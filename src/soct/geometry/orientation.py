"""How an array lies in the body: three-letter codes, and permuting and reversing axes without losing the place.

A code such as ``"SAR"`` says, letter by letter, what the array's axes z, y and x grow towards: Right or Left,
Anterior or Posterior, Superior or Inferior. (BrainGlobe's ``"asr"`` names the sides that axes *start* at: use
`opposite_orientation`.) World coordinates are millimetres along (right, anterior, superior), as in NIfTI; ITK's
are the same with the first two negated. An affine is a 4 x 4 matrix from array indices ``(z, y, x, 1)`` to
world coordinates; index 0 is the centre of the first voxel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations, product

import numpy as np
from numpy.typing import NDArray

from soct.space import Array, Voxel

Matrix = NDArray[np.float64]
Shape = tuple[int, int, int]
Window = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]

RAS = "SAR"
"""Arrays whose x, y and z grow to the right, anterior and superior: what other programs call RAS+."""

_AXIS = {"R": 0, "L": 0, "A": 1, "P": 1, "S": 2, "I": 2}
_SIGN = {"R": 1, "L": -1, "A": 1, "P": -1, "S": 1, "I": -1}
_OPPOSITE = {"R": "L", "L": "R", "A": "P", "P": "A", "S": "I", "I": "S"}
_POSITIVE = "RAS"
LPS_FROM_RAS: Matrix = np.diag([-1.0, -1.0, 1.0, 1.0])
"""From world coordinates to ITK's, and back."""


def parse_orientation(code: str) -> str:
    """Return a code in capitals.

    Raises
    ------
    ValueError
        It doesn't name one of R/L, one of A/P and one of S/I.
    """
    letters = code.strip().upper()
    if len(letters) != 3 or {_AXIS.get(letter) for letter in letters} != {0, 1, 2}:
        raise ValueError(
            f"orientation {code!r}: three letters are needed, what z, y and x grow towards, "
            "one of R/L, one of A/P and one of S/I, such as PIR"
        )
    return letters


def opposite_orientation(code: str) -> str:
    """Turn a code of the sides that axes start at into one of the sides they grow towards, or back."""
    return "".join(_OPPOSITE[letter] for letter in parse_orientation(code))


def direction_matrix(code: str) -> Matrix:
    """Return the 3 x 3 matrix whose columns are the world directions of the axes z, y and x."""
    matrix = np.zeros((3, 3))
    for axis, letter in enumerate(parse_orientation(code)):
        matrix[_AXIS[letter], axis] = _SIGN[letter]
    return matrix


def is_right_handed(code: str) -> bool:
    """Tell whether the axes x, y and z, in this order, form a right-handed frame in the body.

    An array of a code of the other hand shows the body mirrored wherever a program draws its axes as a
    right-handed frame. No image of a symmetric brain tells the two apart: only the microscope does.
    """
    return float(np.linalg.det(direction_matrix(code)[:, ::-1])) > 0


def all_orientations(*, right_handed: bool) -> tuple[str, ...]:
    """Return the 24 codes of one handedness: what turning, without mirroring, can make of an array."""
    codes = (
        "".join(letters)
        for order in permutations(("RL", "AP", "SI"))
        for letters in product(*order)
    )
    return tuple(sorted(code for code in codes if is_right_handed(code) == right_handed))


@dataclass(frozen=True)
class Reorientation:
    """A permutation and reversal of axes.

    Attributes
    ----------
    axes : tuple of int
        Which axis of the input becomes each axis of the output.
    flips : tuple of bool
        Whether each axis of the output is reversed.
    """

    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]

    @property
    def mirrors(self) -> bool:
        """Whether drawing the output's axes as the input's were drawn shows a mirror image."""
        matrix = np.eye(3)[list(self.axes)] * np.where(self.flips, -1, 1)[:, None]
        return float(np.linalg.det(matrix)) < 0

    def apply(self, data: Array) -> Array:
        """Return a view of an array ``(z, y, x)`` with its axes turned."""
        turned = data.transpose(self.axes)
        return turned[tuple(slice(None, None, -1 if flip else 1) for flip in self.flips)]

    def shape(self, shape: Sequence[int]) -> Shape:
        """Return the output's shape from the input's."""
        z, y, x = (int(shape[axis]) for axis in self.axes)
        return z, y, x

    def voxel(self, voxel_um: Sequence[float]) -> Voxel:
        """Return the output's voxel size from the input's."""
        return Voxel(*(float(voxel_um[axis]) for axis in self.axes))

    def input_window(self, window: Window, shape: Sequence[int]) -> Window:
        """Return the block of the input that becomes a block of the output.

        Parameters
        ----------
        window : tuple of (start, stop)
            Along z, y and x of the output.
        shape : sequence of int
            Of the input.
        """
        found = [(0, 0)] * 3
        for (start, stop), axis, flip in zip(window, self.axes, self.flips, strict=True):
            length = int(shape[axis])
            found[axis] = (length - stop, length - start) if flip else (start, stop)
        return found[0], found[1], found[2]

    def index_matrix(self, shape: Sequence[int]) -> Matrix:
        """Return the 4 x 4 matrix from indices of the output to indices of the input of this shape."""
        matrix = np.zeros((4, 4))
        matrix[3, 3] = 1
        for out, (axis, flip) in enumerate(zip(self.axes, self.flips, strict=True)):
            matrix[axis, out] = -1 if flip else 1
            matrix[axis, 3] = shape[axis] - 1 if flip else 0
        return matrix

    def affine(self, affine: Matrix, shape: Sequence[int]) -> Matrix:
        """Return the output's affine from the affine and shape of the input: every voxel keeps its place."""
        return affine @ self.index_matrix(shape)

    def inverse(self) -> Reorientation:
        """Return what undoes this."""
        axes, flips = [0] * 3, [False] * 3
        for out, (axis, flip) in enumerate(zip(self.axes, self.flips, strict=True)):
            axes[axis], flips[axis] = out, flip
        return Reorientation((axes[0], axes[1], axes[2]), (flips[0], flips[1], flips[2]))


def reorientation(source: str, target: str) -> Reorientation:
    """Return how to turn an array of code `source` into one of code `target`."""
    source, target = parse_orientation(source), parse_orientation(target)
    kinds = [_AXIS[letter] for letter in source]
    axes = [kinds.index(_AXIS[letter]) for letter in target]
    flips = [source[axis] != letter for axis, letter in zip(axes, target, strict=True)]
    return Reorientation((axes[0], axes[1], axes[2]), (flips[0], flips[1], flips[2]))


def make_affine(
    code: str, voxel_um: Sequence[float], translation_um: Sequence[float] = (0.0, 0.0, 0.0)
) -> Matrix:
    """Return the affine of an array of this code.

    Parameters
    ----------
    code : str
        What z, y and x grow towards.
    voxel_um : sequence of float
        Voxel size along z, y and x.
    translation_um : sequence of float
        Where the centre of the first voxel lies along the array's own axes, as OME-Zarr says it.
    """
    direction = direction_matrix(code)
    affine = np.eye(4)
    affine[:3, :3] = direction * (np.asarray(voxel_um, float) / 1000)
    affine[:3, 3] = direction @ (np.asarray(translation_um, float) / 1000)
    return affine


def voxel_of(affine: Matrix) -> Voxel:
    """Return the voxel size of an affine, in micrometres along z, y and x."""
    return Voxel(*(float(1000 * length) for length in np.linalg.norm(affine[:3, :3], axis=0)))


def orientation_of(affine: Matrix) -> str:
    """Return the code whose axes lie nearest to those of an affine, also where it is oblique.

    Raises
    ------
    ValueError
        The affine is singular.
    """
    linear = np.asarray(affine, float)[:3, :3]
    lengths = np.linalg.norm(linear, axis=0)
    if not np.isfinite(linear).all() or lengths.min() <= 0:
        raise ValueError("an affine with an axis of no length")
    cosines = linear / lengths
    if abs(float(np.linalg.det(cosines))) < 1e-6:
        raise ValueError("an affine whose axes lie in one plane")
    order = max(
        permutations(range(3)), key=lambda p: sum(abs(cosines[p[axis], axis]) for axis in range(3))
    )
    letters = []
    for axis, world in enumerate(order):
        letter = _POSITIVE[world]
        letters.append(letter if cosines[world, axis] > 0 else _OPPOSITE[letter])
    return "".join(letters)


def is_oblique(affine: Matrix, tolerance_deg: float = 0.1) -> bool:
    """Tell whether any axis leans away from the nearest axis of the body by more than a tolerance."""
    linear = np.asarray(affine, float)[:3, :3]
    cosines = np.abs(linear / np.linalg.norm(linear, axis=0)).max(axis=0)
    return float(cosines.min()) < np.cos(np.radians(tolerance_deg))


@dataclass(frozen=True)
class OrientedVolume:
    """An array ``(z, y, x)`` that knows where each of its voxels lies.

    Attributes
    ----------
    data : ndarray, shape (Z, Y, X)
        The voxels.
    affine : ndarray, shape (4, 4)
        From indices ``(z, y, x, 1)`` to world coordinates (right, anterior, superior) in millimetres.
    """

    data: Array
    affine: Matrix

    @property
    def voxel_um(self) -> Voxel:
        """Voxel size."""
        return voxel_of(self.affine)

    @property
    def orientation(self) -> str:
        """The code whose axes lie nearest."""
        return orientation_of(self.affine)

    def reoriented(self, code: str) -> OrientedVolume:
        """Return the same volume with its axes turned to the code; the data are a view."""
        turn = reorientation(self.orientation, code)
        return OrientedVolume(turn.apply(self.data), turn.affine(self.affine, self.data.shape))
