"""Ways to horizontal shifts by re-projection: from shifts of greatest likelihood, from those given, and of truncated objects."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from soct.tomography.consistency import Reprojection, Settled, settle
from soct.tomography.gauge import gauge_basis, slow_changes
from soct.tomography.horizontal_settings import HorizontalSettings
from soct.tomography.prepared_sinogram import PreparedSinogram
from soct.tomography.support import Support
from soct.tomography.wide_slice import CUTOFFS, settle_truncated
from soct.tomography.windowed_bow_tie import shifts_through_window

Array = NDArray[Any]
Vector = NDArray[np.float64]
Progress = Callable[[int, int], None]

_HELD_ORDER = 3
"""Changes of a shift as slow as this harmonic are the likelihood's, not re-projection's: those creep."""
HELD_TRUNCATED = 8
_WINDOWED = ((2.0, (0.6,)), (8.0, (0.1, 0.2, 0.6)))
"""Of truncated objects: how far shifts may be expected to go, pixels, and the cut-offs to get there."""
_WINDOWED_ITERATIONS = 10
_BY_NOISE = 4.0
"""Times the standard deviation: a truncated object's shifts that change by less stay as given."""
_GAINED_TRUNCATED = 0.88
"""Share of a truncated object's squared residuals that must not be left where shifts are changed: what lies outside explains some of any change."""
_SHARPENED_PX = 0.005
"""Re-projection's own error is about this: shifts that are told better are left alone."""
_SMOOTHED = 2.0
"""A slice's projections are smoother than those that it was made of: doing the same again takes less out of them (measured: 1.6 to 2.4)."""


@dataclass(frozen=True)
class ReprojectionSearch:
    """One sinogram whose projections are compared with those of its slice.

    Attributes
    ----------
    prepared : PreparedSinogram
    angles : ndarray (n,)
        Radians.
    axis : float
        Detector coordinate of the rotation axis.
    start : ndarray (n,)
        Shifts given, pixels.
    chosen : HorizontalSettings
    progress : callable, optional
    """

    prepared: PreparedSinogram
    angles: Vector
    axis: float
    start: Vector
    chosen: HorizontalSettings
    progress: Progress | None

    def sharpen(self, shifts: Vector, deviations: Vector, support: Support) -> tuple[Settled, str]:
        """Re-projection of all but the slowest changes, where the likelihood is limited by noise."""
        wanted = (
            self.chosen.method == "auto"
            and float(np.sqrt(np.mean(deviations**2))) > _SHARPENED_PX
            and len(self.angles) > 4 * _HELD_ORDER
        )
        slow = slow_changes(self.angles, _HELD_ORDER)
        mask = support.mask(len(self.prepared.sinogram))
        settled = None
        for cutoff in self.chosen.cutoffs(unsure=False) if wanted else [self.chosen.freqcutoff]:
            settled = settle(
                self._reprojection(cutoff, False, mask),
                shifts if settled is None else settled.shifts,
                lambda change: change - slow @ (slow.T @ change),
                self.chosen.maxit if wanted else 0,
                self.chosen.pixtol,
                self.chosen.rtol,
                self.progress,
            )
        assert settled is not None
        return settled, "likelihood and reprojection" if wanted else "likelihood"

    def search(self, truncated: bool) -> Settled:
        """From the shifts given, low frequencies first; of a truncated object the best of several ways."""
        if truncated and not self.chosen.of_derivatives:
            return self._with_wide_slice()
        held = (
            slow_changes(self.angles, HELD_TRUNCATED)
            if truncated
            else np.linalg.qr(gauge_basis(self.angles, constant=False))[0]
        )

        def free(change: Vector) -> Vector:
            return np.asarray(change - held @ (held.T @ change))

        begin = self.start
        if self.chosen.multiresolution and self.chosen.mr_factor > 1:
            begin = self._coarse(truncated, free)
        cutoffs = self.chosen.cutoffs(unsure=True)
        before = self._reprojection(cutoffs[-1], truncated).compare(self.start)
        found = [self._through(cutoffs, begin, truncated, free)]
        if truncated:
            found += [
                self._through(cutoffs[-1:], start, True, free) for start in self._windowed(free)
            ]
        best = min(found, key=lambda settled: float((settled.after.residuals**2).sum()))
        return self._unless_by_noise(replace(best, before=before), truncated)

    def _with_wide_slice(self) -> Settled:
        """Line integrals of a truncated object."""
        negative = self.prepared.mass < -0.5
        slices = self.chosen.slices(self.prepared.mass, self.chosen.freqcutoff)
        held = np.linalg.qr(gauge_basis(self.angles))[0]
        settled = settle_truncated(
            -self.prepared.sinogram if negative else self.prepared.sinogram,
            self.angles,
            self.axis,
            self.start,
            lambda change: change - held @ (held.T @ change),
            freqcutoff=self.chosen.freqcutoff,
            positive=(slices.cliphigh if negative else slices.cliplow) == 0.0,
            maxit=self.chosen.maxit,
            pixtol=self.chosen.pixtol,
            progress=self.progress,
        )
        return self._unless_by_noise(settled, True)

    def _unless_by_noise(self, found: Settled, truncated: bool) -> Settled:
        """Shifts stay as given where others fit no better, or where noise alone explains the change."""
        before, after = found.before, found.after
        gained = _GAINED_TRUNCATED if truncated else 1.0
        worse = gained * float((before.residuals**2).sum()) <= float((after.residuals**2).sum())
        moved = float(np.sqrt(np.mean((found.shifts - self.start) ** 2)))
        by_noise = _BY_NOISE * float(np.sqrt(np.mean(after.deviations**2)))
        if worse or (truncated and moved < by_noise):
            return Settled(self.start, found.iterations, 0.0, before, before)
        return found

    def _through(
        self,
        cutoffs: list[float],
        shifts: Vector,
        truncated: bool,
        free: Callable[[Vector], Vector],
    ) -> Settled:
        """Settle at one cut-off after another."""
        done = 0
        settled: Settled | None = None
        for cutoff in cutoffs:
            settled = settle(
                self._reprojection(cutoff, truncated),
                shifts,
                free,
                self.chosen.maxit,
                self.chosen.pixtol,
                self.chosen.rtol,
                self.progress,
            )
            shifts, done = settled.shifts, done + settled.iterations
        assert settled is not None
        return Settled(shifts, done, settled.step, settled.before, settled.after)

    def _windowed(self, free: Callable[[Vector], Vector]) -> list[Vector]:
        """Return starts for a truncated object: the likelihood through a window, of small shifts and of large ones."""
        starts = []
        for expected, cutoffs in _WINDOWED:
            shifts = self.start
            for cutoff in cutoffs:
                found = shifts_through_window(
                    self.prepared.sinogram,
                    self.angles,
                    self.axis,
                    shifts,
                    derivatives=self.chosen.of_derivatives,
                    expected_px=expected,
                    freqcutoff=min(cutoff, self.chosen.freqcutoff),
                    maxit=_WINDOWED_ITERATIONS,
                )
                shifts = self.start + free(found - self.start)
            starts.append(shifts)
        return starts

    def _coarse(self, truncated: bool, free: Callable[[Vector], Vector]) -> Vector:
        """Shifts from binned detector pixels."""
        factor = self.chosen.mr_factor
        rows = len(self.prepared.sinogram) // factor
        if rows < 16:
            return self.start
        binned = self.prepared.sinogram[: rows * factor].reshape(rows, factor, -1).mean(axis=1)
        axis = (self.axis - 0.5 * (factor - 1)) / factor
        reprojection = Reprojection(
            binned * (factor if self.chosen.of_derivatives else 1),
            self.angles,
            axis,
            self.chosen.slices(self.prepared.mass, self.chosen.freqcutoff),
            truncated,
        )
        settled = settle(
            reprojection,
            self.start / factor,
            free,
            self.chosen.n_coarse_iter,
            self.chosen.pixtol,
            self.chosen.rtol,
            self.progress,
        )
        return settled.shifts * factor

    def _reprojection(
        self, cutoff: float, truncated: bool, mask: NDArray[np.bool_] | None = None
    ) -> Reprojection:
        return Reprojection(
            self.prepared.sinogram,
            self.angles,
            self.axis,
            self.chosen.slices(self.prepared.mass, cutoff),
            truncated,
            mask,
        )

    def residuals(self, shifts: Vector, truncated: bool) -> Vector:
        """Root mean square difference of each projection to that of the slice that these shifts give."""
        return self._reprojection(self.chosen.freqcutoff, truncated).compare(shifts).residuals

    def expected(self, settled: Settled, noise: float, truncated: bool) -> Vector:
        """Residuals of aligned projections, from those of the slice found when it is treated as they were."""
        if truncated and not self.chosen.of_derivatives:
            # A slice fitted by least squares leaves noise alone, of which the low-pass lets so much through.
            passed = min(self.chosen.freqcutoff, CUTOFFS[-1])
            return np.full(len(self.angles), noise * np.sqrt(passed))
        again = Reprojection(
            settled.after.synthetic,
            self.angles,
            self.axis,
            self.chosen.slices(self.prepared.mass, self.chosen.freqcutoff),
            truncated,
        )
        lost = _SMOOTHED * again.compare(settled.shifts).residuals
        return np.asarray(np.hypot(lost, noise))
