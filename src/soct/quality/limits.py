"""The table of quality limits: from which value on a metric is a warning, and from which an error.

Every verdict in soct (a metric's status, the colours of the report, PASS / REVIEW / FAIL) comes from this
one table. It is the ``quality`` section of a profile, so each limit is shown with its origin. Lengths are in
micrometres and angles in degrees, so a limit means the same at every resolution.

Sources: the limits that S-OCT laboratories use today, given for 10 um pixels and turned into micrometres;
the headline limits that have no such history say in their description what they rest on.
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Status(StrEnum):
    """What a metric's value means for the person who reads it."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"
    INFO = "info"

    @property
    def rank(self) -> int:
        """0 for info, 1 ok, 2 warning, 3 error: the greater, the worse."""
        return ("info", "ok", "warning", "error").index(self.value)


class Limit(BaseModel):
    """Where a metric turns into a warning and into an error.

    A metric that grows with quality (`higher_is_better`) is judged by falling below the limits, any other by
    its magnitude rising above them, so that signed shifts and rotations need no second entry.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    warning: float = Field(description="From this value on, the metric is a warning.")
    error: float = Field(description="From this value on, the metric is an error.")
    higher_is_better: bool = Field(
        False, description="True when values below the limits are the bad ones."
    )

    @model_validator(mode="after")
    def _error_lies_beyond_warning(self) -> Limit:
        ordered = (
            self.error <= self.warning if self.higher_is_better else self.error >= self.warning
        )
        if not ordered:
            side = "below" if self.higher_is_better else "above"
            msg = f"the error limit ({self.error:g}) must lie {side} the warning limit ({self.warning:g})"
            raise ValueError(msg)
        return self

    def status(self, value: float) -> Status:
        """Judge a value. A value that equals a limit is still within it; NaN is a warning."""
        if math.isnan(value):
            return Status.WARNING
        excess = -value if self.higher_is_better else abs(value)
        sign = -1.0 if self.higher_is_better else 1.0
        if excess > sign * self.error:
            return Status.ERROR
        if excess > sign * self.warning:
            return Status.WARNING
        return Status.OK

    def severity(self, value: float) -> float:
        """Return how far a value lies beyond the limits: 0 at the warning limit, 1 at the error limit.

        Below 0 is within the limits. The scale makes metrics of different units comparable, so problems can
        be ranked; it is capped to [-1, 10]. NaN gives 0.
        """
        if math.isnan(value):
            return 0.0
        size = value if self.higher_is_better else abs(value)
        span = self.error - self.warning
        if span == 0.0:
            span = (-1.0 if self.higher_is_better else 1.0) * max(abs(self.error), 1e-12)
        return max(-1.0, min(10.0, (size - self.warning) / span))

    def __str__(self) -> str:
        sign = "≥" if self.higher_is_better else "≤"
        return f"{sign} {self.warning:g}"


def _low(warning: float, error: float, unit: str, description: str) -> Any:
    return _limit(warning, error, unit, description, higher_is_better=False)


def _high(warning: float, error: float, unit: str, description: str) -> Any:
    return _limit(warning, error, unit, description, higher_is_better=True)


def _limit(
    warning: float, error: float, unit: str, description: str, *, higher_is_better: bool
) -> Any:
    return Field(
        Limit(warning=warning, error=error, higher_is_better=higher_is_better),
        description=description,
        json_schema_extra={"unit": unit, "higher_is_better": higher_is_better},
    )


class QualityLimits(BaseModel):
    """Limits by metric name. A profile may give a part of one (``ncc: {warning: 0.8}``): the rest stays."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    # One slice against the next.
    translation_um: Limit = _low(
        300, 500, "um", "Shift of a slice against the one before, beyond what the stage reported."
    )
    rotation_deg: Limit = _low(1, 2, "deg", "Rotation of a slice against the one before.")
    ncc: Limit = _high(0.7, 0.5, "", "Normalised cross-correlation of two slices once aligned.")
    confidence: Limit = _high(
        0.4, 0.3, "", "Calibrated probability that a measured transform is right."
    )
    z_offset_std_um: Limit = _low(
        100, 250, "um", "Spread of the depth at which neighbouring slices match."
    )
    z_offset_range_um: Limit = _low(
        150, 300, "um", "Range of the depth at which neighbouring slices match."
    )
    # Tiles within one slice.
    tile_residual_rms_um: Limit = _low(
        50, 150, "um", "Disagreement between a slice's tile pairs and their placement, RMS."
    )
    seam_l1: Limit = _low(
        0.12, 0.25, "", "Mean absolute difference of two tiles in their overlap, over their mean."
    )
    seam_pearson: Limit = _high(0.7, 0.5, "", "Correlation of two tiles in their overlap.")
    galvo_confidence: Limit = _high(
        0.6, 0.3, "", "Confidence in where the galvo return lies in the A-line axis."
    )
    # Intensity.
    saturated_percent: Limit = _low(
        0.1,
        1,
        "%",
        "Samples clipped at the detector's ceiling, in the slice's worst tile: beyond 0.1 % the brightest "
        "fibres are flat.",
    )
    agarose_coverage: Limit = _high(
        0.05, 0.01, "", "Share of a slice that is agarose, the reference for the axial profile."
    )
    background_std: Limit = _low(
        0.1, 0.25, "", "Relative unevenness of the background after the flat field."
    )
    contrast_kept: Limit = _high(
        0.75,
        0.5,
        "",
        "Contrast of tissue within planes after the bias field over before: far below 1, anatomy went too.",
    )
    interface_tilt_deg: Limit = _low(
        2, 8, "deg", "Tilt of the cut surface against the scan: its deep end loses depth."
    )
    tissue_snr: Limit = _high(
        3, 0.5, "", "Mean signal of tissue over the noise of a voxel, half way down what is kept."
    )
    slice_step: Limit = _low(
        0.12,
        0.3,
        "",
        "Greatest brightness step between neighbouring slices, in tissue that both show, after normalisation.",
    )
    # Headline numbers of the whole run.
    slices_used: Limit = _high(
        0.98, 0.8, "", "Slices stacked from their own image, over slices acquired."
    )
    tiles_used: Limit = _high(0.995, 0.9, "", "Tiles read, over tiles that the plan expects.")
    tile_residual_p95_um: Limit = _low(
        25, 75, "um", "95th percentile over tile pairs: beyond 25 um fibres look doubled at 10 um."
    )
    seam_step_percent: Limit = _low(
        5, 15, "%", "Brightness step across seams; the eye sees a step of about 5 % in noise."
    )
    slice_shift_p95_um: Limit = _low(
        300, 500, "um", "95th percentile of the slice-to-slice shift that the stage did not report."
    )
    slice_residual_p95_um: Limit = _low(
        50, 150, "um", "95th percentile of what slice pairs disagree with the solved poses."
    )
    cumulative_drift_um: Limit = _low(
        1000, 3000, "um", "Farthest that the solved poses move away from the stage."
    )
    cumulative_rotation_deg: Limit = _low(
        5, 15, "deg", "Largest rotation of a slice against the middle one."
    )
    banding_index: Limit = _low(
        0.03,
        0.08,
        "",
        "Typical brightness step where slices meet: in tissue that both show, or of the planes beyond other planes.",
    )
    filled: Limit = _high(
        0.98, 0.9, "", "Share of the brain's footprint, first to last plane, that holds data."
    )
    # The fit to an atlas: a whole brain agrees with a template to 0.9 and better once it is affine.
    atlas_dice: Limit = _high(
        0.9, 0.8, "", "Overlap of the brain with the template's, where there are data."
    )
    atlas_edge_um: Limit = _low(
        150, 400, "um", "Median distance from the surface of the brain to that of the template."
    )
    atlas_orientation_margin: Limit = _high(
        1.3, 1.1, "", "Score of the orientation that was found over the next best one."
    )

    @model_validator(mode="before")
    @classmethod
    def _complete_partial_limits(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        return {name: cls._completed(name, value) for name, value in values.items()}

    @classmethod
    def _completed(cls, name: str, value: Any) -> Any:
        field = cls.model_fields.get(name)
        if field is None or not isinstance(value, dict):
            return value
        return field.default.model_dump() | value

    def limit(self, metric: str) -> Limit | None:
        """Return the limit of a metric, or None when the table has none for it."""
        return getattr(self, metric) if metric in type(self).model_fields else None

    @classmethod
    def unit(cls, metric: str) -> str:
        """Return the unit of a limited metric (empty for ratios and unknown metrics)."""
        field = cls.model_fields.get(metric)
        extra = field.json_schema_extra if field is not None else None
        return str(extra.get("unit", "")) if isinstance(extra, dict) else ""

    @classmethod
    def description(cls, metric: str) -> str:
        """Return the definition of a limited metric in one sentence."""
        field = cls.model_fields.get(metric)
        return (field.description or "") if field is not None else ""


def metric_status(name: str, value: object, limits: QualityLimits) -> Status:
    """Judge one metric of one unit.

    Parameters
    ----------
    name : str
        The metric's name, as its step reports it.
    value : object
        A number; anything else (None, text, a flag) is information and never judged.
    limits : QualityLimits
        The table of the profile.

    Returns
    -------
    Status
        ``info`` for what has no limit or is not a number, else ok, warning or error.
    """
    limit = limits.limit(name)
    if limit is None or isinstance(value, bool) or not isinstance(value, int | float):
        return Status.INFO
    return limit.status(float(value))
