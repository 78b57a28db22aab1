"""Rigid and affine transforms of the plane, in the convention of `soct.space`.

A transform maps a fixed (output) point ``p`` to the moving (input) point

    ``q = A (p - centre - shift) + centre``

with points, shift and centre ``(y, x)`` in pixels. So the moving image's point `centre` lands at
``centre + shift`` in the fixed image; without a rotation the moving image's origin lands at `shift`. For a
rigid transform ``A`` turns by `rotation_deg`, positive from the +x axis towards the +y axis: the angle that
SimpleITK's ``Euler2DTransform`` has, whose translation is ``-A shift``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Point = tuple[float, float]


def rotation_matrix(rotation_deg: float) -> NDArray[np.float64]:
    """Return the 2 x 2 matrix that turns ``(y, x)`` points by `rotation_deg` from +x towards +y."""
    angle = math.radians(rotation_deg)
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, s], [-s, c]])


@dataclass(frozen=True)
class AffineTransform2D:
    """Fixed point to moving point: ``q = linear (p - centre - shift) + centre``.

    Attributes
    ----------
    linear : tuple of tuple of float
        2 x 2 matrix over ``(y, x)``, without unit.
    shift : tuple of float
        ``(dy, dx)`` in pixels: the moving image's `centre` lands at ``centre + shift`` in the fixed one.
    centre : tuple of float
        ``(y, x)`` in pixels.
    """

    linear: tuple[Point, Point]
    shift: Point
    centre: Point

    def matrix(self) -> NDArray[np.float64]:
        """Return the 3 x 3 homogeneous matrix over ``(y, x, 1)`` that maps fixed to moving points."""
        linear = np.array(self.linear, dtype=np.float64)
        centre = np.array(self.centre)
        out = np.eye(3)
        out[:2, :2] = linear
        out[:2, 2] = centre - linear @ (centre + np.array(self.shift))
        return out

    def apply(self, points: Any) -> NDArray[np.float64]:
        """Map fixed points ``(..., 2)`` in ``(y, x)`` pixels to moving points."""
        matrix = self.matrix()
        return np.asarray(points, dtype=np.float64) @ matrix[:2, :2].T + matrix[:2, 2]

    def inverse(self) -> AffineTransform2D:
        """Return the transform from moving to fixed points, about the same centre."""
        return affine_from_matrix(np.asarray(np.linalg.inv(self.matrix())), self.centre)

    def about(self, centre: Point) -> AffineTransform2D:
        """Return the same mapping written about another centre."""
        return affine_from_matrix(self.matrix(), centre)

    @property
    def rotation_deg(self) -> float:
        """The rotation nearest to the linear part, in degrees."""
        a = self.linear
        return math.degrees(math.atan2(a[0][1] - a[1][0], a[0][0] + a[1][1]))


@dataclass(frozen=True)
class RigidTransform2D:
    """Fixed point to moving point: ``q = R (p - centre - shift) + centre``.

    Attributes
    ----------
    rotation_deg : float
        Angle of ``R``, positive from +x towards +y.
    shift : tuple of float
        ``(dy, dx)`` in pixels: the moving image's `centre` lands at ``centre + shift`` in the fixed one.
    centre : tuple of float
        Centre of rotation ``(y, x)`` in pixels.
    """

    rotation_deg: float = 0.0
    shift: Point = (0.0, 0.0)
    centre: Point = (0.0, 0.0)

    def matrix(self) -> NDArray[np.float64]:
        """Return the 3 x 3 homogeneous matrix over ``(y, x, 1)`` that maps fixed to moving points."""
        turn = rotation_matrix(self.rotation_deg)
        centre = np.array(self.centre)
        out = np.eye(3)
        out[:2, :2] = turn
        out[:2, 2] = centre - turn @ (centre + np.array(self.shift))
        return out

    def apply(self, points: Any) -> NDArray[np.float64]:
        """Map fixed points ``(..., 2)`` in ``(y, x)`` pixels to moving points."""
        turn = rotation_matrix(self.rotation_deg)
        centre = np.array(self.centre)
        moved = np.asarray(points, dtype=np.float64) - centre - np.array(self.shift)
        return moved @ turn.T + centre

    def inverse(self) -> RigidTransform2D:
        """Return the transform from moving to fixed points, about the same centre."""
        turn = rotation_matrix(self.rotation_deg)
        dy, dx = -(turn @ np.array(self.shift))
        return RigidTransform2D(-self.rotation_deg, (float(dy), float(dx)), self.centre)

    def about(self, centre: Point) -> RigidTransform2D:
        """Return the same mapping written about another centre of rotation."""
        landed = self.inverse().apply(centre)
        dy, dx = landed - np.array(centre)
        return RigidTransform2D(self.rotation_deg, (float(dy), float(dx)), centre)

    def compose(self, inner: RigidTransform2D) -> RigidTransform2D:
        """Return the transform that applies `inner` first and then this one, about `inner`'s centre."""
        rotation = self.rotation_deg + inner.rotation_deg
        centre = np.array(inner.centre)
        # The fixed point that ends at the centre is where the centre lands.
        landed = inner.inverse().apply(self.inverse().apply(centre))
        dy, dx = landed - centre
        return RigidTransform2D(rotation, (float(dy), float(dx)), inner.centre)

    def euler_parameters(self) -> tuple[float, Point, Point]:
        """Return ``(angle_rad, translation, centre)`` of SimpleITK's ``Euler2DTransform``, as ``(y, x)``."""
        dy, dx = -(rotation_matrix(self.rotation_deg) @ np.array(self.shift))
        return math.radians(self.rotation_deg), (float(dy), float(dx)), self.centre


def rigid_from_euler(angle_rad: float, translation: Point, centre: Point) -> RigidTransform2D:
    """Return the transform with SimpleITK's ``Euler2DTransform`` parameters, given as ``(y, x)`` pixels."""
    rotation = math.degrees(angle_rad)
    dy, dx = -(rotation_matrix(-rotation) @ np.array(translation))
    return RigidTransform2D(rotation, (float(dy), float(dx)), centre)


def affine_from_matrix(matrix: NDArray[np.float64], centre: Point) -> AffineTransform2D:
    """Return the affine transform with the 3 x 3 homogeneous `matrix`, written about `centre`."""
    linear = matrix[:2, :2]
    middle = np.array(centre)
    dy, dx = np.linalg.solve(linear, middle - matrix[:2, 2]) - middle
    rows = ((float(linear[0, 0]), float(linear[0, 1])), (float(linear[1, 0]), float(linear[1, 1])))
    return AffineTransform2D(rows, (float(dy), float(dx)), centre)


def rigid_from_matrix(matrix: NDArray[np.float64], centre: Point) -> RigidTransform2D:
    """Return the rigid transform whose homogeneous matrix is nearest to `matrix` at `centre`."""
    affine = affine_from_matrix(matrix, centre)
    return RigidTransform2D(affine.rotation_deg, affine.shift, centre)
