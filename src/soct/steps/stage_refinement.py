"""Stage steps that cannot be trusted, put right by the images before anything else relies on them.

`register_pairwise` looks for slices near where the stage puts them. A step that the stage misread by more than that
is found here, on depth projections of whole slices, in the plane and without rotation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from soct.space import FloatArray
    from soct.steps.declaration import Context

ROWS = 64
MOST_SHARE = 0.4
"""Of a slice's narrower side: how far a step may be off at most."""
LEAST_CONFIDENCE = 0.3
"""Over millimetres there are more wrong matches to be found than near the stage's position."""


@dataclass(frozen=True)
class StepRefinement:
    """What the images say of the step from `fixed` to `moving`, in pixels beyond the stage's."""

    fixed: int
    moving: int
    shift_px: tuple[float, float]
    ncc: float
    reason: str

    @property
    def accepted(self) -> bool:
        """Whether the step is to be changed."""
        return self.reason == ""


def project_slice(context: Context, slice_id: int) -> FloatArray:
    """Return the mean over the kept depth of a stitched slice; NaN where it lacks half of it."""
    import numpy as np

    from soct.formats.ome_zarr import open_volume

    volume = open_volume(
        context.of_slice("stitch_3d_with_refinement", "slice", slice_id), threads=context.threads
    )
    with np.load(context.of_slice("crop_interface", "surface", slice_id)) as saved:
        first = min(max(int(saved["crop_px"]), 0), volume.shape[0] - 1)
        stop = min(first + max(int(saved["planes"]), 1), volume.shape[0])
    valid = volume.read_valid()
    out = np.full(volume.shape[1:], np.nan, np.float32)
    for y0 in range(0, volume.shape[1], ROWS):
        rows = (y0, min(y0 + ROWS, volume.shape[1]))
        block = volume.read((first, stop), rows)
        z = np.arange(first, stop)[:, None, None]
        good = (valid[0, rows[0] : rows[1]] <= z) & (z < valid[1, rows[0] : rows[1]])
        count = good.sum(axis=0)
        mean = np.where(good, block, 0).sum(axis=0, dtype=np.float32) / np.maximum(count, 1)
        out[rows[0] : rows[1]] = np.where(2 * count >= stop - first, mean, np.nan)
    return out


def refine_steps(
    context: Context,
    steps: Sequence[tuple[int, int]],
    rows: Mapping[str, Mapping[str, Any]],
    *,
    min_correlation: float,
    max_shift_um: float,
    pixel_um: float,
) -> list[StepRefinement]:
    """Measure stage steps anew.

    Parameters
    ----------
    context : Context
    steps : sequence of (int, int)
        Used slices that follow each other.
    rows : mapping
        ``y_px`` and ``x_px`` of every slice, by id as text.
    min_correlation : float
        What the images must correlate to be believed.
    max_shift_um : float
        How far the stage may be wrong.
    pixel_um : float
    """
    import numpy as np

    from soct.registration.slice_pair import register_slice_pair

    found = []
    for fixed, moving in steps:
        a, b = rows[str(fixed)], rows[str(moving)]
        expected = (b["y_px"] - a["y_px"], b["x_px"] - a["x_px"])
        images = project_slice(context, fixed), project_slice(context, moving)
        # Beyond that, slices share so little that anything fits.
        widest = MOST_SHARE * min(*images[0].shape, *images[1].shape)
        result = register_slice_pair(
            *images,
            initial_shift=expected,
            max_translation_px=min(max_shift_um / pixel_um, widest),
            max_rotation_deg=0.0,
            transform="translation",
        )
        reason = "" if result.accepted else result.reason
        if not reason and result.ncc_after < min_correlation:
            reason = f"they correlate {result.ncc_after:.2f}, less than {min_correlation:g}"
        if not reason and result.confidence < LEAST_CONFIDENCE:
            reason = f"their match has a confidence of {result.confidence:.2f} only"
        moved = np.subtract(result.shift, expected) if not reason else np.zeros(2)
        found.append(
            StepRefinement(
                fixed, moving, (float(moved[0]), float(moved[1])), float(result.ncc_after), reason
            )
        )
    return found
