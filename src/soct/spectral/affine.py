"""Affine maps of the plane, on points and on images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from soct.spectral.image import Image

Points = NDArray[np.float64]

_SINGULAR = 1e-12


def _pair(value: ArrayLike, name: str) -> Points:
    pair = np.asarray(value, np.float64)
    if pair.shape != (2,) or not np.isfinite(pair).all():
        raise ValueError(f"{name} must be a point (x, y) of two finite numbers, not {value!r}")
    return pair


class Affine:
    """A map ``p -> L p + t`` of points ``(x, y)``.

    Parameters
    ----------
    matrix : array_like, optional
        ``(2, 3)``, the columns of `L` and then `t`; ``(3, 3)`` with a last row of ``(0, 0, 1)``; ``(2, 2)``, `L` alone; another
        `Affine`. The identity where absent. Always copied.

    Notes
    -----
    Angles are in radians, positive from the +x axis towards the +y axis, which is clockwise on a screen, where y grows downwards.
    ``A @ B`` first does `B`. ``A * p`` maps a point ``(2,)`` or points ``(n, 2)``.

    Examples
    --------
    >>> Affine.rotator(np.pi / 2, (1, 1)) * (2, 1)
    array([1., 2.])
    """

    __slots__ = ("_matrix",)
    __hash__ = None  # type: ignore[assignment]
    # Otherwise ``points * A`` would become an array of maps.
    __array_ufunc__ = None

    def __init__(self, matrix: ArrayLike | Affine | None = None) -> None:
        if matrix is None:
            self._matrix = np.eye(2, 3)
            return
        if isinstance(matrix, Affine):
            self._matrix = matrix._matrix.copy()
            return
        given = np.array(matrix, np.float64)
        if given.shape == (2, 2):
            given = np.hstack([given, np.zeros((2, 1))])
        elif given.shape == (3, 3) and np.array_equal(given[2], (0.0, 0.0, 1.0)):
            given = given[:2].copy()
        if given.shape != (2, 3):
            raise ValueError(
                "An affine map is a matrix (2, 3), (2, 2), or (3, 3) with the last row (0, 0, 1); "
                f"this one has the shape {given.shape}"
            )
        if not np.isfinite(given).all():
            raise ValueError(f"An affine map must be finite; this one is {given.tolist()}")
        self._matrix = given

    @classmethod
    def translator(cls, dxy: ArrayLike) -> Affine:
        """Shift by `dxy`."""
        return cls(np.column_stack([np.eye(2), _pair(dxy, "dxy")]))

    @classmethod
    def rotator(cls, phi: float, xy0: ArrayLike = (0.0, 0.0)) -> Affine:
        """Rotate by `phi` radians about `xy0`."""
        c, s = np.cos(phi), np.sin(phi)
        return cls._about(np.array([[c, -s], [s, c]]), xy0)

    @classmethod
    def scaler(cls, s: float | ArrayLike, xy0: ArrayLike = (0.0, 0.0)) -> Affine:
        """Scale by `s`, one factor or one for x and one for y, about `xy0`."""
        factors = np.broadcast_to(np.asarray(s, np.float64), (2,))
        return cls._about(np.diag(factors), xy0)

    @classmethod
    def _about(cls, linear: Points, xy0: ArrayLike) -> Affine:
        centre = _pair(xy0, "xy0")
        return cls(np.column_stack([linear, centre - linear @ centre]))

    @property
    def matrix(self) -> Points:
        """The matrix, (2, 3), read-only."""
        view = self._matrix.view()
        view.flags.writeable = False
        return view

    @property
    def shape(self) -> tuple[int, int]:
        """``(2, 3)``."""
        return (2, 3)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Points:
        if copy is False:
            raise ValueError("The matrix of an affine map is only handed out as a copy")
        return np.array(self._matrix, dtype)

    def __getitem__(self, index: Any) -> Any:
        return self.matrix[index]

    def __len__(self) -> int:
        return 2

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Affine) and np.array_equal(self._matrix, other._matrix)

    def __repr__(self) -> str:
        return f"Affine({self._matrix.tolist()})"

    def __matmul__(self, other: Affine) -> Affine:
        if not isinstance(other, Affine):
            return NotImplemented
        linear = self._matrix[:, :2] @ other._matrix
        linear[:, 2] += self._matrix[:, 2]
        return Affine(linear)

    def __mul__(self, points: ArrayLike) -> Points:
        if isinstance(points, Affine):
            raise TypeError("Maps are composed by A @ B; A * p maps points")
        given = np.asarray(points, np.float64)
        if given.ndim not in (1, 2) or given.shape[-1] != 2:
            raise ValueError(
                f"Points are (x, y) or an array (n, 2) of them, not an array of shape {given.shape}"
            )
        mapped: Points = given @ self._matrix[:, :2].T + self._matrix[:, 2]
        return mapped

    def shift(self, dxy: ArrayLike) -> None:
        """Shift what this map gives by `dxy`, in place."""
        self._matrix[:, 2] += _pair(dxy, "dxy")

    def shifted(self, dxy: ArrayLike) -> Affine:
        """Return this map followed by a shift by `dxy`."""
        result = Affine(self)
        result.shift(dxy)
        return result

    def invert(self) -> None:
        """Become the inverse map, in place.

        Raises
        ------
        ValueError
            The map is degenerate: it takes the plane to a line or a point.
        """
        self._matrix = self.inverse()._matrix

    def inverse(self) -> Affine:
        """Return the inverse map; errors as `invert`."""
        linear = self._matrix[:, :2]
        self._check_regular("has no inverse")
        inverse = np.asarray(np.linalg.inv(linear), np.float64)
        return Affine(np.column_stack([inverse, -inverse @ self._matrix[:, 2]]))

    def _check_regular(self, what: str) -> None:
        linear = self._matrix[:, :2]
        scale = float(np.abs(linear).max())
        if abs(float(np.linalg.det(linear))) <= _SINGULAR * scale**2:
            raise ValueError(
                f"A degenerate map {what}: {self!r} takes the plane to a line or a point"
            )

    def translation(self) -> Points:
        """Return where the origin goes, ``(x, y)``."""
        return self._matrix[:, 2].copy()

    def magnification(self) -> float:
        """Return the factor by which lengths grow: the root of that of areas."""
        return float(np.sqrt(abs(np.linalg.det(self._matrix[:, :2]))))

    def angle(self, refine: bool = False) -> float:
        """Return the rotation in radians, -pi to pi.

        Parameters
        ----------
        refine : bool
            False: the mean of the directions that the x axis and the y axis are turned to. True: the rotation nearest to the map in
            the sense of least squares (of its polar decomposition), which counts each axis by its length. Both are the same
            without shear.

        Raises
        ------
        ValueError
            The map mirrors the plane or is degenerate: it has no angle.
        """
        self._check_regular("has no angle")
        (a, b), (c, d) = self._matrix[:, :2]
        if a * d - b * c < 0:
            raise ValueError(f"A map that mirrors the plane has no angle: {self!r}")
        if not refine:
            along_x, along_y = np.hypot(a, c), np.hypot(b, d)
            a, c, b, d = a / along_x, c / along_x, b / along_y, d / along_y
        return float(np.arctan2(c - b, a + d))

    def centerofrotation(self) -> Points:
        """Return the point that stays where it is.

        Raises
        ------
        ValueError
            There is none, or more than one: the map keeps a direction, like a shift.
        """
        rest = np.eye(2) - self._matrix[:, :2]
        if abs(float(np.linalg.det(rest))) <= _SINGULAR:
            raise ValueError(
                f"A map without rotation or scaling has no centre of rotation: {self!r}"
            )
        return np.asarray(np.linalg.solve(rest, self._matrix[:, 2]), np.float64)

    def apply(self, img: ArrayLike, rect: ArrayLike | None = None) -> Image:
        """Transform an image: what it shows at `p`, the result shows at ``A * p``.

        Parameters
        ----------
        img : Image or array_like (rows, columns)
        rect : (x0, y0, w, h), optional
            The part of the plane that the result shows; the default is the image's own, ``(0, 0, W, H)``.

        Returns
        -------
        Image
            Bilinear; 0 where there is no image.
        """
        from soct.geometry.affine_sampling import sample_affine
        from soct.spectral.image import Image, as_plane

        plane = as_plane(img)
        x0, y0, w, h = (0, 0, *plane.shape[::-1]) if rect is None else np.asarray(rect).tolist()
        if w != int(w) or h != int(h) or w < 1 or h < 1:
            raise ValueError(f"rect must be (x0, y0, w, h) of whole pixels w x h, not {rect!r}")
        # From indices of the result to points, back through the map, to indices of the image.
        to_source = self.inverse() @ Affine.translator((x0 + 0.5, y0 + 0.5))
        to_source.shift((-0.5, -0.5))
        values, _ = sample_affine(plane, to_source.matrix, (int(h), int(w)), 0.0)
        return Image.wrap(values)
