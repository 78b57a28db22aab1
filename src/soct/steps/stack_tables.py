"""`z_matches.csv` and `stacking_decisions.csv`: how slices overlap in depth, and what was really applied."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from soct.formats.tables import StackingRow, ZMatchRow
    from soct.steps.declaration import Context


@dataclass(frozen=True)
class StackedSlice:
    """A slice of the volume.

    Attributes
    ----------
    slice_id : int
    depths : (int, int)
        First plane with data, and one past the last.
    interpolation : str
        How it was made; empty for a slice that was imaged.
    """

    slice_id: int
    depths: tuple[int, int]
    interpolation: str = ""


def write_stack_tables(context: Context, slices: Sequence[StackedSlice]) -> None:
    """Write both tables."""
    from soct.formats.documents import read_document
    from soct.formats.tables import StackingRow, ZMatchRow, write_table

    poses = read_document(context.run("estimate_slice_poses", "poses"))
    imaged = [s for s in slices if not s.interpolation]
    matches = [_match(poses, a, b) for a, b in itertools.pairwise(imaged)]
    write_table(context.output("z_matches"), ZMatchRow, matches)
    by_moving = {m.moving_id: m for m in matches}
    rows = []
    before: int | None = None
    for s in slices:
        if s.interpolation:
            rows.append(_made_up(s, before))
            continue
        rows.append(_decision(poses, s.slice_id, before, by_moving.get(s.slice_id)))
        before = s.slice_id
    write_table(context.output("decisions"), StackingRow, rows)


def _match(poses: Mapping[str, Any], fixed: StackedSlice, moving: StackedSlice) -> ZMatchRow:
    """Return how many planes with data two slices share, as stacked and as their pair measured it."""
    from soct.formats.tables import ZMatchRow

    f, m = (poses["slices"][str(s.slice_id)] for s in (fixed, moving))
    pair = next(
        (
            d
            for d in poses["depths"]
            if (d["fixed_id"], d["moving_id"]) == (fixed.slice_id, moving.slice_id)
        ),
        None,
    )
    ends = fixed.depths[1] - moving.depths[0]
    overlap = max(ends - (m["z_px"] - f["z_px"]), 0.0)
    measured = pair["z_step_px"] if pair is not None else None
    return ZMatchRow(
        fixed.slice_id,
        moving.slice_id,
        overlap,
        overlap,
        float(moving.depths[0]),
        correlation=pair["ncc"] if pair is not None else None,
        correlation_fallback_used=measured is None,
        overlap_voxels_measured=max(ends - measured, 0.0) if measured is not None else None,
        moving_z_start_measured=float(moving.depths[0]) if measured is not None else None,
    )


def _decision(
    poses: Mapping[str, Any], slice_id: int, before: int | None, match: ZMatchRow | None
) -> StackingRow:
    from soct.formats.tables import StackingRow

    row = poses["slices"][str(slice_id)]
    by_hand = bool(row["manual"])
    held = row["confidence"] > 0
    source = "manual" if by_hand else "global solve" if held else "stage"
    reason = (
        row["manual"] or row["excluded"] or ("" if held else "no accepted pair holds the slice")
    )
    return StackingRow(
        slice_id,
        before,
        transform_loaded=held or by_hand,
        transform_source=source,
        manual_override=by_hand,
        confidence=row["confidence"],
        overlap_source="" if match is None else _overlap_source(poses, slice_id),
        overlap_voxels=None if match is None else match.overlap_voxels,
        blend_overlap_voxels=None if match is None else match.blend_overlap_voxels,
        correlation=None if match is None else match.correlation,
        applied_dy_px=row["shift_px"][0] - row["stage_px"][1],
        applied_dx_px=row["shift_px"][1] - row["stage_px"][2],
        applied_rotation_deg=row["rotation_deg"],
        reason=reason,
    )


def _overlap_source(poses: Mapping[str, Any], slice_id: int) -> str:
    if any(c["moving_id"] == slice_id for c in poses["corrected_overlaps"]):
        return "neighbours (it stood out)"
    named = {"solve": "global solve", "measured": "measured", "expected": "stage"}
    return named[poses["overlap_source"]]


def _made_up(one: StackedSlice, before: int | None) -> StackingRow:
    from soct.formats.tables import StackingRow

    said = f"made from the slices above and below ({one.interpolation}): no measurement"
    return StackingRow(one.slice_id, before, transform_source="interpolated", reason=said)
