"""What is left of a shift between two slices is taken out where they blend.

The poses are one rigid motion per slice. Where two slices overlap in depth, the planes of both are projected on the
canvas and what shift is left between them is measured. The lower slice's planes move by it within the overlap, and by
less and less below. A longer shift than allowed is not believed.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING

from soct.steps.stack_renderer import StackCanvas, StackRenderer, StackSlice

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from soct.space import FloatArray
    from soct.steps.declaration import Context
    from soct.steps.stack import StackParams

_PLANES = 8


def refine_blends(
    context: Context, params: StackParams, slices: list[StackSlice], canvas: StackCanvas
) -> tuple[list[StackSlice], float, list[str]]:
    """Measure and apply what shift is left in each overlap.

    Returns
    -------
    slices : list of StackSlice
    longest : float
        Longest shift that was applied, in um.
    told : list of str
        Overlaps that stay as they are, and why.
    """
    import numpy as np

    if params.max_blend_refinement_um <= 0:
        return slices, 0.0, []
    pixel = canvas.voxel_um.x
    limit = params.max_blend_refinement_um / pixel
    fade = max(1, round(params.blend_depth_um / canvas.voxel_um.z))
    out = {s.slice_id: s for s in slices}
    longest, told = 0.0, []
    imaged = [s for s in slices if not s.interpolation]
    for above, below in itertools.pairwise(imaged):
        names = f"slices {above.slice_id} and {below.slice_id}"
        planes = _overlap(above, below)
        if planes is None:
            continue
        shift, reason = _measure(context, params, canvas, (above, below), planes, limit)
        if reason:
            told.append(f"{names} are blended as they lie: {reason}")
            continue
        drift = _drift(below, planes, shift, fade)
        out[below.slice_id] = dataclasses.replace(
            below, placement=dataclasses.replace(below.placement, drift=drift)
        )
        longest = max(longest, float(np.hypot(*shift)) * pixel)
    return [out[s.slice_id] for s in slices], longest, told


def _overlap(above: StackSlice, below: StackSlice) -> tuple[int, int] | None:
    """Return the canvas planes that both slices reach; None where there are fewer than two."""
    import math

    first = math.ceil(below.placement.z_px + below.depths[0])
    stop = math.floor(above.placement.z_px + above.depths[1] - 1) + 1
    return (first, stop) if stop - first >= 2 else None


def _measure(
    context: Context,
    params: StackParams,
    canvas: StackCanvas,
    pair: tuple[StackSlice, StackSlice],
    planes: tuple[int, int],
    limit: float,
) -> tuple[tuple[float, float], str]:
    from soct.registration.slice_pair import register_slice_pair

    (fixed, fixed_valid), (moving, moving_valid) = (
        _project(StackRenderer(context, params, [s], canvas), planes) for s in pair
    )
    found = register_slice_pair(
        fixed,
        moving,
        fixed_valid=fixed_valid,
        moving_valid=moving_valid,
        max_translation_px=limit,
        max_rotation_deg=0.0,
        transform="translation",
    )
    return found.shift, "" if found.accepted else found.reason


def _project(
    renderer: StackRenderer, planes: tuple[int, int]
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Return the mean over canvas planes of one slice, and where half of them hold data."""
    import numpy as np

    total = np.zeros(renderer.canvas.shape[1:], np.float32)
    count = np.zeros_like(total)
    for z0 in range(*planes, _PLANES):
        values, valid = renderer.planes(z0, min(z0 + _PLANES, planes[1]))
        total += np.where(valid, values, 0).sum(axis=0)
        count += valid.sum(axis=0)
    mean = np.divide(total, count, out=np.zeros_like(total), where=count > 0)
    return mean, count > (planes[1] - planes[0]) / 2


def _drift(
    below: StackSlice, planes: tuple[int, int], shift: tuple[float, float], fade: int
) -> NDArray[np.float64]:
    """Return the shift of every plane: whole within the overlap, fading out below it."""
    import numpy as np

    k = np.arange(below.placement.shape[0])
    end = planes[1] - below.placement.z_px
    share = np.clip(1.0 - (k - end) / fade, 0.0, 1.0)
    # What the moving slice shows at p - shift belongs to p.
    return np.asarray(share[:, None] * np.array(shift, np.float64)[None])
