"""Values for a profile that an input or a finished run suggests, each with its reason."""

from __future__ import annotations

import contextlib
import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from soct.errors import InputError
from soct.pipeline.folder.records import Record
from soct.pipeline.folder.run_folder import FILE_NAME
from soct.pipeline.folder.status import read_status
from soct.quality.limits import QualityLimits
from soct.quality.robust_limits import RobustLimit, robust_limit

if TYPE_CHECKING:
    from soct.formats.acquisition import Acquisition

_BOUNDED = ("confidence", "ncc", "seam_pearson", "galvo_confidence", "agarose_coverage")
"""Metrics between 0 and 1."""


@dataclass(frozen=True)
class Suggestion:
    """One value of a profile.

    Attributes
    ----------
    path : tuple of str
        Section and key, or ``quality``, metric and ``warning`` or ``error``.
    value : float
    reason : str
        What it rests on, in one line.
    """

    path: tuple[str, ...]
    value: float
    reason: str


def _rounded(value: float, digits: int = 3) -> float:
    return float(f"{value:.{digits}g}")


def _steps(places: Iterable[tuple[int, float]]) -> list[float]:
    """Return the distances of neighbours, per step of their index."""
    known = sorted(places)
    return [abs(b[1] - a[1]) / (b[0] - a[0]) for a, b in itertools.pairwise(known) if b[0] > a[0]]


def _overlaps(acquisition: Acquisition) -> list[float]:
    """Return the overlap of neighbouring tiles by the stage, as a part of their size, of all rows and columns."""
    found = []
    for record in acquisition.slices.values():
        rows: dict[int, list[tuple[int, float]]] = defaultdict(list)
        cols: dict[int, list[tuple[int, float]]] = defaultdict(list)
        for tile in record.tiles:
            x, y, _ = tile.stage_mm
            if x is not None and y is not None:
                rows[tile.row].append((tile.col, 1000 * x))
                cols[tile.col].append((tile.row, 1000 * y))
        if record.tiles:
            info = record.tiles[0].info
            found += [1 - s / info.width_um for places in rows.values() for s in _steps(places)]
            found += [1 - s / info.height_um for places in cols.values() for s in _steps(places)]
    return found


def suggest_from_input(acquisition: Acquisition) -> Iterator[Suggestion]:
    """Yield what the files of an input say of the values that a profile would else assume.

    Parameters
    ----------
    acquisition : Acquisition
    """
    overlaps = _overlaps(acquisition)
    told = acquisition.session.get("overlap_fraction")
    if overlaps:
        value = float(np.median(overlaps))
        reason = f"median of {len(overlaps)} steps of the stage between neighbouring tiles"
        if told is not None:
            reason += f"; the session says {told:g}"
    elif told is not None:
        value, reason = float(told), "the session's overlap_fraction; no stage positions to compare"
    if (overlaps or told is not None) and 0 <= value < 0.9:
        yield Suggestion(("estimate_xy_shifts", "overlap_fraction"), _rounded(value), reason)
    axial = {t.info.axial_resolution_um for r in acquisition.slices.values() for t in r.tiles}
    known = sorted(a for a in axial if a is not None)
    if known:
        reason = "as the tiles say"
        if len(known) > 1:
            reason += (
                f", median of {len(known)} different values from {known[0]:g} to {known[-1]:g}"
            )
        yield Suggestion(
            ("create_mosaic_grid", "axial_resolution_um"),
            _rounded(float(np.median(known)), 6),
            reason,
        )
    yield from _suggest_cut(acquisition)


def _suggest_cut(acquisition: Acquisition) -> Iterator[Suggestion]:
    heights = []
    for i, record in acquisition.slices.items():
        z = [t.stage_mm[2] for t in record.tiles if t.stage_mm[2] is not None]
        if z:
            heights.append((i, float(np.median(z))))
    steps = [s for s in _steps(heights) if s > 0]
    told = acquisition.session.get("slice_thickness_mm")
    path = ("beam_profile_correction", "slicing_interval_mm")
    if steps:
        reason = f"median of {len(steps)} steps of the stage in depth"
        if told is not None:
            reason += f"; the session says {told:g}"
        yield Suggestion(path, _rounded(float(np.median(steps))), reason)
    elif told is not None:
        yield Suggestion(path, _rounded(float(told)), "the session's slice_thickness")


def _values(run_folder: Path) -> Mapping[tuple[str, str], list[float]]:
    """Return the numbers that all units of a run reported, by step and metric."""
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for status in read_status(run_folder).units:
        record = status.record
        for metric in record.result.metrics if isinstance(record, Record) else ():
            value = metric.value
            if isinstance(value, int | float) and not isinstance(value, bool):
                found[status.unit.step, metric.name].append(float(value))
    return found


def suggest_from_run(run_folder: Path) -> Iterator[Suggestion]:
    """Yield limits and bounds from what a run measured; they fit later runs of the same microscope.

    Raises
    ------
    InputError
        The folder is no run folder.
    """
    values = _values(run_folder)
    for metric in QualityLimits.model_fields:
        same = [v for (_, name), found in values.items() if name == metric for v in found]
        limit = QualityLimits().limit(metric)
        if limit is None:
            continue
        sizes = same if limit.higher_is_better else [abs(v) for v in same]
        robust = robust_limit(sizes, higher_is_better=limit.higher_is_better)
        if robust is not None:
            yield from _as_limits(metric, robust, sizes, higher_is_better=limit.higher_is_better)
    yield from _bounds(values)


def _as_limits(
    metric: str, robust: RobustLimit, values: Sequence[float], *, higher_is_better: bool
) -> Iterator[Suggestion]:
    warning, error = robust.warning, robust.error
    if higher_is_better and metric in _BOUNDED:
        warning, error = max(warning, 0.02), max(error, 0.01)
    elif not higher_is_better and metric in _BOUNDED:
        warning, error = min(warning, 1.0), min(error, 1.0)
    side, sign = ("below", "-") if higher_is_better else ("above", "+")
    outliers = sum(v < warning if higher_is_better else v > warning for v in values)
    basis = f"{robust.count} values, median {robust.median:.3g}, MAD {robust.mad:.2g}"
    reason = f"median {sign} 3 MAD or 1.5 IQR ({basis}); {outliers} lie {side}"
    yield Suggestion(("quality", metric, "warning"), _rounded(warning), reason)
    yield Suggestion(("quality", metric, "error"), _rounded(error), f"median {sign} 6 MAD or 3 IQR")


def _bounds(values: Mapping[tuple[str, str], list[float]]) -> Iterator[Suggestion]:
    """Yield how far slices have to be looked for: three times what was seen, so that nothing is cut off."""
    for metric, key, least, most in (
        ("translation_um", "max_translation_um", 100.0, 5000.0),
        ("rotation_deg", "max_rotation_deg", 1.0, 45.0),
    ):
        sizes = np.abs([v for v in values.get(("register_pairwise", metric), []) if np.isfinite(v)])
        if sizes.size >= 5:
            far = float(np.percentile(sizes, 95))
            yield Suggestion(
                ("register_pairwise", key),
                _rounded(float(np.clip(3 * far, least, most)), 2),
                f"three times the 95th percentile of {sizes.size} pairs ({far:.3g})",
            )
    sizes = np.abs(
        [v for v in values.get(("register_pairwise", "translation_um"), []) if np.isfinite(v)]
    )
    if sizes.size >= 5:
        typical = float(np.sqrt(np.median(sizes**2) / np.log(4)))
        yield Suggestion(
            ("estimate_slice_poses", "stage_step_um"),
            _rounded(float(np.clip(typical, 10.0, 1000.0)), 2),
            f"standard deviation per axis of what {sizes.size} pairs say the stage did not report",
        )


def suggest(path: Path) -> tuple[Suggestion, ...]:
    """Return what an input or a run folder suggests.

    Parameters
    ----------
    path : Path
        An input folder, or a run folder (whose input is looked at too where it is still there).

    Raises
    ------
    InputError
        It is neither.
    """
    from soct.formats.acquisition import open_acquisition

    if not (path / FILE_NAME).is_file():
        return tuple(suggest_from_input(open_acquisition(path)))
    source = Path(read_status(path).document.input)
    found: list[Suggestion] = []
    # The input may be long gone: what the run measured still counts.
    with contextlib.suppress(InputError):
        found += suggest_from_input(open_acquisition(source))
    return (*found, *suggest_from_run(path))


def as_profile(suggestions: Sequence[Suggestion], name: str, base: str) -> str:
    """Return suggestions as a profile in YAML, the reasons as comments.

    Parameters
    ----------
    suggestions : sequence of Suggestion
    name : str
        What they come from.
    base : str
        The profile that is extended.
    """
    lines = [f"# Suggested by {name}", "name: suggested", f"extends: {base}"]
    tree: dict[str, dict[str, list[Suggestion]]] = {}
    for one in suggestions:
        tree.setdefault(one.path[0], {}).setdefault(one.path[1], []).append(one)
    for section, keys in tree.items():
        lines.append(f"{section}:")
        for key, found in keys.items():
            if len(found[0].path) == 2:
                lines += [f"  # {found[0].reason}", f"  {key}: {found[0].value!r}"]
                continue
            lines.append(f"  {key}:")
            for one in found:
                lines += [f"    # {one.reason}", f"    {one.path[2]}: {one.value!r}"]
    return "\n".join(lines) + "\n"
