"""What can be set of the horizontal alignment; checked when made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from soct.tomography.filters import check_cutoff, filter_name
from soct.tomography.reconstruction import Algorithm, SliceSettings

Method = Literal["auto", "likelihood", "reprojection"]


@dataclass(frozen=True)
class HorizontalSettings:
    """How projections are aligned horizontally.

    Attributes
    ----------
    method : {"auto", "likelihood", "reprojection"}
        "auto" takes the likelihood of the bow-tie and then, where noise limits it, re-projection; of a truncated object, re-projection
        alone. The others do one of both.
    maxit : int
        Most iterations, of each method and at each cut-off.
    pixtol : float
        Done once the root mean square change of the shifts is smaller, pixels.
    rtol : float
        Re-projection is also done once the sum of squared residuals falls by less than this share; 0: never for that.
    freqcutoff : float
        Highest detector frequency that counts, as a share of Nyquist's.
    freqcutoff_schedule : sequence of float, optional
        Cut-offs of re-projection that come before `freqcutoff`, low to high. None: 0.08, 0.16 and 0.32 where it starts from shifts
        that may be wrong by pixels (a truncated object), else none. The likelihood weighs its frequencies itself.
    multiresolution : bool
        Begin re-projection on detector pixels binned by `mr_factor`.
    mr_factor : int
    n_coarse_iter : int
        Most iterations on binned pixels.
    circle : bool
        The slice is 0 outside the inscribed circle.
    cliplow, cliphigh : float or None or "auto"
        Limits of the slice's values in re-projection. "auto" clips at 0 below where the object's mass is positive (above where it
        is negative), None not at all.
    filtertype : str
        Of the filtered back-projection, see `soct.tomography.reconstruct_slice`.
    algorithm : {"FBP", "SART"}
    derivatives : bool
        The sinogram is the derivative of line integrals along the detector.
    calc_derivatives : bool
        The derivative is taken of the sinogram first: a background that is constant in each projection has no effect.
    """

    method: Method = "auto"
    maxit: int = 30
    pixtol: float = 1e-3
    rtol: float = 0.0
    freqcutoff: float = 0.6
    freqcutoff_schedule: Sequence[float] | None = None
    multiresolution: bool = False
    mr_factor: int = 2
    n_coarse_iter: int = 10
    circle: bool = True
    cliplow: float | Literal["auto"] | None = "auto"
    cliphigh: float | Literal["auto"] | None = "auto"
    filtertype: str | None = "ram-lak"
    algorithm: Algorithm = "FBP"
    derivatives: bool = False
    calc_derivatives: bool = False

    def __post_init__(self) -> None:
        if self.method not in ("auto", "likelihood", "reprojection"):
            raise ValueError(
                f"method must be auto, likelihood or reprojection, not {self.method!r}"
            )
        for name, least in (("maxit", 0), ("n_coarse_iter", 0), ("mr_factor", 1)):
            value = getattr(self, name)
            if value != int(value) or value < least:
                raise ValueError(
                    f"{name} must be a whole number of at least {least}, not {value!r}"
                )
        for name in ("pixtol", "rtol"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be at least 0, not {getattr(self, name)!r}")
        check_cutoff(self.freqcutoff)
        filter_name(self.filtertype)
        for cutoff in self.freqcutoff_schedule or ():
            check_cutoff(cutoff)
        for name in ("cliplow", "cliphigh"):
            value = getattr(self, name)
            if isinstance(value, str) and value != "auto":
                raise ValueError(f'{name} must be a number, None or "auto", not {value!r}')
        if self.derivatives and self.calc_derivatives:
            raise ValueError(
                "Either the sinogram holds derivatives (derivatives=True) or they are taken of it "
                "(calc_derivatives=True), not both"
            )

    @property
    def of_derivatives(self) -> bool:
        """Whether what is aligned is a derivative, given or computed."""
        return self.derivatives or self.calc_derivatives

    def cutoffs(self, unsure: bool) -> list[float]:
        """Return the cut-offs of re-projection, one after another.

        Parameters
        ----------
        unsure : bool
            Whether it starts from shifts that may be wrong by pixels.
        """
        schedule = self.freqcutoff_schedule
        if schedule is None:
            schedule = (0.08, 0.16, 0.32) if unsure else ()
        return [*(c for c in schedule if c != self.freqcutoff), self.freqcutoff]

    def slices(self, mass: float, freqcutoff: float) -> SliceSettings:
        """Return how slices are reconstructed.

        Parameters
        ----------
        mass : float
            Of the object, as a part of what it were if all had one sign.
        freqcutoff : float
        """
        low = (0.0 if mass > 0.5 else None) if self.cliplow == "auto" else self.cliplow
        high = (0.0 if mass < -0.5 else None) if self.cliphigh == "auto" else self.cliphigh
        return SliceSettings(
            algorithm=self.algorithm,
            filtertype=self.filtertype,
            freqcutoff=freqcutoff,
            derivatives=self.of_derivatives,
            circle=self.circle,
            cliplow=low,
            cliphigh=high,
        )
