"""Apparent stretch of the tiles: how far apart neighbours were found, over how far apart the stage says they are.

A ratio that is the same everywhere is a wrong pixel size (or a wrong overlap, where no stage position was recorded): the report says which value would make it 1. A ratio that changes along rows or columns is heat, or a scan that does
not keep its width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from soct.formats.npz import write_npz
from soct.steps.declaration import (
    Context,
    Input,
    Metric,
    Output,
    Params,
    Result,
    Scope,
    Step,
    finite,
    parameter,
)

if TYPE_CHECKING:
    from soct.mosaic.stage_geometry import PooledGeometry
    from soct.mosaic.tile_dilation import PitchRatio, Trend
    from soct.steps.tile_layouts import TileLayout

AXES = ("y", "x")
LEAST_DILATION = 0.0005


class AnalyzeTileDilationParams(Params):
    """Parameters of `analyze_tile_dilation`."""

    enabled: bool = parameter(
        False, "Compare measured with expected tile distances (profile diagnostic)."
    )


def run(context: Context, params: AnalyzeTileDilationParams) -> Result:
    """Measure every slice, pool the slices, and say what would mend it."""
    import numpy as np

    from soct.formats.documents import write_document
    from soct.mosaic.stage_geometry import measure_stage_geometry, pool_slices
    from soct.mosaic.tile_dilation import fit_trends, measure_pitch_ratios
    from soct.steps.tile_layouts import read_layouts

    layouts = read_layouts(context)
    fits = [measure_stage_geometry(la.nominal_px, la.positions_px, la.used) for la in layouts]
    scale = np.array([g.scale for g in fits]).reshape(-1, 2)
    error = np.array([g.scale_error for g in fits]).reshape(-1, 2)
    pooled = [pool_slices(scale[:, k] - 1.0, error[:, k]) for k in (0, 1)]
    ratios: list[PitchRatio] = []
    for la in layouts:
        ratios.extend(measure_pitch_ratios(la.index, la.nominal_px, la.positions_px, la.used))
    trends = fit_trends(tuple(ratios))
    advice = suggest(layouts, pooled)
    verdict = describe(pooled, trends, advice)
    write_npz(
        context.output("figures"),
        slice_ids=np.array([la.slice_id for la in layouts], np.int64),
        scale=scale,
        scale_error=error,
        **_maps(ratios),
    )
    write_document(
        context.output("report"),
        {
            "verdict": verdict,
            "suggestion": advice,
            "dilation": {a: finite(p.mean) for a, p in zip(AXES, pooled, strict=True)},
            "dilation_error": {a: finite(p.error) for a, p in zip(AXES, pooled, strict=True)},
            "trends": [
                {
                    "axis": t.axis,
                    "along": t.along,
                    "per_tile": finite(t.slope),
                    "error": finite(t.error),
                    "significant": t.is_significant,
                }
                for t in trends
            ],
            "slices": {
                str(la.slice_id): {"scale_y": finite(s[0]), "scale_x": finite(s[1])}
                for la, s in zip(layouts, scale, strict=True)
            },
        },
    )
    metrics = [
        Metric(
            f"tile_dilation_{axis}_percent",
            finite(100 * p.mean),
            "%",
            f"measured over expected distance of tiles along {axis}, less 1",
        )
        for axis, p in zip(AXES, pooled, strict=True)
    ]
    return Result(
        metrics=(
            *metrics,
            Metric("tile_dilation_uneven", any(t.is_significant for t in trends), "",
                   "whether it changes along rows or columns"),
            Metric("tile_dilation_verdict", verdict, "", "what it means"),
        )
    )  # fmt: skip


def _maps(ratios: list[PitchRatio]) -> dict[str, Any]:
    """Mean ratio at every place of the grid, over the slices: what depends on row or column shows here."""
    import numpy as np

    maps = {}
    rows = 1 + max((r.row for r in ratios), default=0)
    cols = 1 + max((r.col for r in ratios), default=0)
    for axis in AXES:
        total, count = np.zeros((rows, cols)), np.zeros((rows, cols))
        for r in ratios:
            if r.axis == axis:
                total[r.row, r.col] += r.ratio
                count[r.row, r.col] += 1
        maps[f"ratio_{axis}"] = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return maps


def suggest(layouts: list[TileLayout], pooled: list[PooledGeometry]) -> str:
    """Return the line that would mend a common dilation; empty where there is none to speak of."""
    import numpy as np

    matters = [p.is_significant and abs(p.mean) >= LEAST_DILATION for p in pooled]
    if not any(matters) or not layouts:
        return ""
    known = [p.mean if np.isfinite(p.mean) else 0.0 for p in pooled]
    first = layouts[0]
    if first.from_stage:
        y, x = (u / (1 + m) for u, m in zip(first.pixel_um, known, strict=True))
        return (
            f"if the stage is right, a working pixel is {y:.3f} µm along y and {x:.3f} µm along x (the data say "
            f"{first.pixel_um[0]:.3f} and {first.pixel_um[1]:.3f}): correct the field of view in info.txt by the same factor"
        )
    overlaps = [
        1 - (1 + m) * float(np.median(steps)) / side
        for m, side, steps in zip(known, first.tile_px, _steps(first), strict=True)
        if len(steps)
    ]
    return f"stitch_3d_with_refinement.overlap_fraction: {float(np.mean(overlaps)):.3f}"


def _steps(layout: TileLayout) -> tuple[Any, Any]:
    """Return the expected distances of neighbouring rows and of neighbouring columns."""
    import numpy as np

    found = []
    for axis in (0, 1):
        index = layout.index[:, axis]
        at = {int(i): float(np.median(layout.nominal_px[index == i, axis])) for i in set(index)}
        found.append(np.array([at[i + 1] - at[i] for i in at if i + 1 in at]))
    return found[0], found[1]


def describe(pooled: list[PooledGeometry], trends: tuple[Trend, ...], advice: str) -> str:
    """Say in one or two sentences what was found."""
    known = [(a, p) for a, p in zip(AXES, pooled, strict=True) if p.n]
    if not known:
        return "No slice has enough measured tiles to tell their scale."
    parts = [f"{100 * p.mean:+.2f} ± {100 * p.error:.2f} % along {a}" for a, p in known]
    if any(p.is_significant and abs(p.mean) >= LEAST_DILATION for _, p in known):
        text = f"Tiles lie farther apart than expected by {' and '.join(parts)}"
    else:
        text = f"Tiles lie as far apart as expected ({' and '.join(parts)})"
    uneven = [
        f"distances along {t.axis} change by {100 * t.slope:+.3f} % per {t.along}"
        for t in trends
        if t.is_significant and abs(t.slope) >= 0.1 * LEAST_DILATION
    ]
    text += f", but {', '.join(uneven)}" if uneven else ", the same at every row and column"
    return f"{text}. {advice[:1].upper()}{advice[1:]}." if advice else f"{text}."


STEP = Step(
    id="analyze_tile_dilation",
    version=1,
    scope=Scope.RUN,
    params=AnalyzeTileDilationParams,
    run=run,
    summary="Diagnosis: apparent stretch of the tiles, and the pixel size that would mend it.",
    inputs=(Input("stitch_3d_with_refinement"), Input("estimate_xy_shifts")),
    outputs=(
        Output("report", "tile_dilation.json"),
        Output("figures", "figures.npz", optional=True),
    ),
)
