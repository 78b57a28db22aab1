"""The double wedge of a sinogram: which axis makes its angular spectrum that of an object.

About its axis, an object within radius R has a sinogram whose spectrum ``(n, w)`` (harmonic of the angle, frequency along the
detector) is empty for ``|n| > R |w|`` (Edholm et al. 1986). Vo et al. (Opt. Express 22, 2014) complete half a turn by its mirror
image about a candidate axis and take the energy in the empty part as its cost. Here the same cost is written without the
completion: that the projection from behind is the mirror image means that the transform along the detector, turned by the
candidate axis, has a real part of even harmonics and an imaginary part of odd ones. What no such harmonics within
the wedge can express is the energy outside of it, for even and uneven angles, half turns, whole turns and parts of one. For every
frequency it is ``a + Re(b exp(2 i w d))``, `d` the axis: a trigonometric polynomial, known for all axes at once,
with derivatives.

What is the same at all angles (a pixel that always reads too much) is a constant in the imaginary part, where an object has
none. How much the cost minds it is one more term, so that rings count only as far as there are none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

FloatVector = NDArray[np.float64]

# Harmonics that a wedge may hold: more angles than that make the search slower, not truer.
_MOST_HARMONICS = 300
# A harmonic outside of the wedge is weaker than this part of the strongest.
_TAIL = 1e-3


@dataclass(frozen=True)
class Terms:
    """The cost of one sinogram, frequency by frequency: ``mean + Re(turning * exp(2 i w d))``.

    Attributes
    ----------
    omega : ndarray (w,)
        Radians per pixel.
    mean : ndarray (w,)
    turning : complex ndarray (w,)
        Both without the constant of the imaginary part.
    freedom : ndarray (w,)
        Real numbers that the wedge leaves unexplained at each frequency; 0 where it leaves none.
    constant : complex ndarray (w,)
        The data along the constant; the imaginary part, turned, is what rings explain.
    power : ndarray (w,)
        Energy at each frequency.
    """

    omega: FloatVector
    mean: FloatVector
    turning: NDArray[np.complex128]
    freedom: FloatVector
    constant: NDArray[np.complex128]
    power: FloatVector

    def with_constant(
        self, share: FloatVector | float
    ) -> tuple[FloatVector, NDArray[np.complex128]]:
        """Return mean and turning of the cost that minds the constant by a share (0 to 1)."""
        squared = self.constant**2
        mean = self.mean + 0.5 * share * np.abs(self.constant) ** 2
        return mean, self.turning - 0.5 * share * squared


class Wedge:
    """Harmonics of given angles, orthogonal to each other, lowest first.

    Parameters
    ----------
    angles : ndarray (n,)
        Radians.
    """

    def __init__(self, angles: FloatVector) -> None:
        self.count = len(angles)
        self.highest = min(self.count, _MOST_HARMONICS)
        self.even, self.even_order = self._basis(angles, 0)
        self.odd, self.odd_order = self._basis(angles, 1)
        # The constant is no odd harmonic: what of it they cannot express is found along the way.
        self.of_one = self.odd.T @ np.ones(self.count)
        self._last: tuple[tuple[float, ...], NDArray[np.int64]] = ((), np.zeros(0, np.int64))

    def _basis(self, angles: FloatVector, parity: int) -> tuple[FloatVector, NDArray[np.int64]]:
        columns = [] if parity else [np.ones_like(angles)]
        order = [] if parity else [0]
        for n in range(2 - parity, self.highest + 1, 2):
            columns += [np.cos(n * angles), np.sin(n * angles)]
            order += [n, n]
        keep = min(len(columns), self.count - 1)
        basis, _ = np.linalg.qr(np.array(columns[:keep]).T)
        return basis, np.array(order[:keep])

    def usable(self, radius: float) -> float:
        """Return the highest frequency, radians per pixel, at which something lies outside of the wedge."""
        return max(self.highest - 2, 1) / max(radius, 1.0)

    def terms(
        self, spectrum: NDArray[np.complex128], omega: FloatVector, radius: float, blur: float = 0.0
    ) -> Terms:
        """Measure what lies outside of the wedge.

        Parameters
        ----------
        spectrum : complex ndarray (w, n)
            Transform of the projections along the detector, about the middle from which axes are counted.
        omega : ndarray (w,)
            Radians per pixel.
        radius : float
            Of the object about its axis, pixels.
        blur : float
            By so many radians per pixel the wedge is wider, where a window has blurred frequencies.
        """
        order = self._edge(omega, radius, blur)
        re, im = np.ascontiguousarray(spectrum.real), np.ascontiguousarray(spectrum.imag)
        inside = [np.searchsorted(o, order, "right") for o in (self.even_order, self.odd_order)]
        e_rr, e_ri, e_ii = _outside(re, im, re @ self.even, im @ self.even, inside[0])
        odd = re @ self.odd, im @ self.odd
        o_rr, o_ri, o_ii = _outside(re, im, *odd, inside[1])
        # The constant is left out of the odd part here, and told beside it.
        constant, size = self._along_constant(spectrum, odd[0] + 1j * odd[1], inside[1])
        o_rr, o_ii = o_rr - constant.real**2, o_ii - constant.imag**2
        o_ri = o_ri - constant.real * constant.imag
        freedom = 2.0 * self.count - inside[0] - inside[1] - (size > 0)
        room = min(self.even.shape[1], self.odd.shape[1])
        is_known = (order < self.highest - 1) & (np.maximum(*inside) < room)
        return Terms(
            omega,
            np.where(is_known, 0.5 * (e_rr + e_ii + o_rr + o_ii), 0.0),
            np.where(is_known, 0.5 * (e_rr - e_ii - o_rr + o_ii) + 1j * (e_ri - o_ri), 0.0),
            np.where(is_known, freedom, 0.0),
            np.where(is_known, constant, 0.0),
            (re * re + im * im).sum(axis=1),
        )

    def _edge(self, omega: FloatVector, radius: float, blur: float) -> NDArray[np.int64]:
        """Return the edge of the wedge; all bands of rows ask for the same one after the other."""
        key = (radius, blur, len(omega), float(omega[0]))
        if key != self._last[0]:
            self._last = (key, edge_of_wedge(radius * (omega + blur)))
        return self._last[1]

    def _along_constant(
        self, spectrum: NDArray[Any], found: NDArray[Any], inside: NDArray[np.int64]
    ) -> tuple[NDArray[np.complex128], FloatVector]:
        rows = np.arange(len(spectrum))
        size = self.count - _running((self.of_one**2)[None])[0][inside]
        rest = spectrum.sum(axis=1) - _running(found * self.of_one)[rows, inside]
        # Over a whole turn nothing of it is odd; over a part of one, low harmonics express nearly all of it.
        is_there = size > 1e-6 * self.count
        return (
            np.where(is_there, rest / np.sqrt(np.where(is_there, size, 1.0)), 0.0),
            np.where(is_there, size, 0.0),
        )


def edge_of_wedge(argument: FloatVector) -> NDArray[np.int64]:
    """Return the order above which no Bessel function of an argument exceeds a thousandth."""
    order = np.floor(argument).astype(np.int64)
    rising = np.ones(len(order), bool)
    while rising.any():
        rising = np.abs(special.jv(order + 1, argument)) > _TAIL
        rising |= order < argument
        order += rising
    return order


def _running(values: NDArray[Any]) -> NDArray[Any]:
    """Return the sums of the first 0, 1, 2, ... values of each row."""
    return np.concatenate([np.zeros((len(values), 1)), np.cumsum(values, axis=1)], axis=1)


def _outside(
    re: FloatVector, im: FloatVector, in_re: FloatVector, in_im: FloatVector, inside: Any
) -> tuple[FloatVector, FloatVector, FloatVector]:
    """Return sums of squares and products of real and imaginary part, without the first `inside` harmonics."""
    rows = np.arange(len(re))

    def rest(u: Any, v: Any, x: Any, y: Any) -> FloatVector:
        left: FloatVector = np.einsum("ij,ij->i", u, v) - _running(x * y)[rows, inside]
        return left

    return (
        np.maximum(rest(re, re, in_re, in_re), 0.0),
        rest(re, im, in_re, in_im),
        np.maximum(rest(im, im, in_im, in_im), 0.0),
    )
