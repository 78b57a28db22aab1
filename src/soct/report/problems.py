"""What is wrong with a run, the worst first.

Problems come from failed units, from the input, from metrics beyond their limits, from warnings, from
decisions about slices and from fallbacks. Equal findings in several slices are one problem with many places.
The rank is one number: 1 is a metric at its error limit, 0.4 at its warning limit (see `Limit.severity`).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from soct.report.advice import ADVICE, REFUSALS, Advice
from soct.report.headline import Headline, is_superseded, place, place_of
from soct.report.markup import number, words
from soct.report.model import (
    AcquisitionView,
    MetricView,
    ParameterView,
    RunView,
    StatusName,
    UnitView,
)

_FAILED, _MISSING_SLICE, _BAD_TILE, _EXCLUDED = 20.0, 1.2, 0.9, 0.6
_BEYOND, _CORRECTED, _WARNING, _FALLBACK = 0.4, 0.35, 0.3, 0.0
"""A metric at its warning limit comes before what was corrected, which has a name and a place; a warning of a step
may speak of the same, less plainly."""
_PLACES_SHOWN = 12
_TEXTS_SHOWN = 6


@dataclass(frozen=True)
class Problem:
    """One finding, in the words of the person who reads it."""

    severity: StatusName
    rank: float
    what: str
    where: str
    """The worst place first."""
    evidence: str = ""
    meaning: str = ""
    """What it looks like in the volume, and the usual cause."""
    action: str = ""
    """What soct did about it."""
    settings: tuple[tuple[str, str, str], ...] = ()
    """``(step.parameter, value now, what to try)``."""
    anchor: str = ""
    step: str = ""
    """The step that found it; empty for what the input or the ledger shows."""
    metric: str = ""
    """The metric beyond its limit, if that is what it is about."""
    units: tuple[tuple[int, ...], ...] = ()
    """Slices of the units concerned, the worst first: ``(3,)``, a pair ``(3, 4)``, or ``()`` for the run."""
    tiles: tuple[tuple[int, int, int], ...] = ()
    """``(slice, row, column)`` of tiles concerned."""
    todo: str = ""
    """What the person must do, where a failure says it."""


def find_problems(view: RunView, headlines: Sequence[Headline]) -> tuple[Problem, ...]:
    """Return every problem of a run, ranked. Empty for a clean run."""
    found = [
        *_failures(view),
        *_input_problems(view.acquisition),
        *_missing_slices(view),
        *_with_warnings(_metrics(view), _warnings(view)),
        *_counted_headlines(view, headlines),
        *_exclusions(view),
        *_corrections(view),
        *_fallbacks(view),
    ]
    found.sort(key=lambda p: (-p.rank, p.what, p.where))
    return tuple(_one_per_cause(found))


def _one_per_cause(problems: Iterable[Problem]) -> list[Problem]:
    """Let numbers of several steps that are beyond their limits at one place, with one remedy, be one problem."""
    told: list[Problem] = []
    for problem in problems:
        for k, worse in enumerate(told):
            if _have_one_cause(worse, problem):
                also = f"{problem.what}: {problem.evidence}"
                told[k] = replace(worse, evidence=f"{worse.evidence}. {also}")
                break
        else:
            told.append(problem)
    return told


def _have_one_cause(first: Problem, second: Problem) -> bool:
    if not (first.metric and second.metric) or first.step == second.step:
        return False
    slices, others = ({i for unit in p.units for i in unit} for p in (first, second))
    lines, other_lines = ({key for key, _, _ in p.settings} for p in (first, second))
    return bool(slices) and slices == others and not lines.isdisjoint(other_lines)


def _with_warnings(metrics: Iterable[Problem], warnings: Iterable[Problem]) -> list[Problem]:
    """Put what a step says of the very units whose metric is beyond its limit with that metric: one finding."""
    found, alone = list(metrics), []
    for said in warnings:
        for k, of in enumerate(found):
            if said.units and of.step == said.step and set(of.units) == set(said.units):
                found[k] = replace(of, evidence=f"{of.evidence}; {said.evidence}")
                break
        else:
            alone.append(said)
    return found + alone


def _failures(view: RunView) -> Iterable[Problem]:
    for unit in view.units():
        if unit.state != "failed":
            continue
        failure = unit.failure
        message = failure.message if failure else "no message was recorded"
        yield Problem(
            "error", _FAILED, f"{unit.step} failed", place(unit), message,
            "What depends on it did not run; everything else did.",
            "The unit was stopped and its outputs were dropped.",
            todo=failure.hint if failure else "", anchor="errors", step=unit.step, units=(unit.slices,),
        )  # fmt: skip


def _input_problems(acquisition: AcquisitionView) -> Iterable[Problem]:
    groups: dict[str, list[tuple[str, str]]] = defaultdict(list)
    tiles: dict[str, list[tuple[int, int, int]]] = defaultdict(list)
    slices: dict[str, list[tuple[int, ...]]] = defaultdict(list)
    for record in acquisition.slices:
        for tile in record.problems:
            where = f"slice {tile.slice_id}"
            if tile.row is not None and tile.col is not None:
                where += f" tile ({tile.row}, {tile.col})"
                tiles[tile.kind].append((tile.slice_id, tile.row, tile.col))
            slices[tile.kind].append((tile.slice_id,))
            facts = (("", tile.message), ("expected ", tile.expected), ("found ", tile.found))
            seen = ", ".join(name + value for name, value in facts if value)
            groups[tile.kind].append((where, f"{tile.file}: {seen}" if tile.file else seen))
    for kind in sorted(groups):
        places = groups[kind]
        yield Problem(
            "warning", _BAD_TILE, f"{_tile_kind(kind)} ({len(places)})",
            _shorten([where for where, _ in places]), places[0][1],
            "A hole in the slice where no neighbouring tile overlaps.",
            "The place is marked as no data; nothing was made up.",
            anchor="acquisition", units=tuple(dict.fromkeys(slices[kind])), tiles=tuple(tiles[kind]),
        )  # fmt: skip


def _tile_kind(kind: str) -> str:
    text = kind.replace("_", " ").capitalize()
    return text if "tile" in text.lower() or "slice" in text.lower() else f"{text} tile"


def _missing_slices(view: RunView) -> Iterable[Problem]:
    made = {r.slice_id for r in view.ledger if r.interpolated}
    missing = sorted(
        set(view.acquisition.missing_slices) | {r.slice_id for r in view.ledger if r.missing}
    )
    # Interpolated ones are told as that.
    missing = [s for s in missing if s not in made]
    if missing:
        yield Problem(
            "error" if len(missing) > 1 else "warning", _MISSING_SLICE,
            f"Missing slice{'s' if len(missing) > 1 else ''}",
            _shorten([f"slice {s}" for s in missing]),
            "No raw data were found for an id between the first and the last slice.",
            "A gap in depth, as wide as a cut; the neighbours are aligned across it.",
            "The gap was left open.",
            _settings(view, (("interpolate_missing_slice.enabled", "true"),)),
            "ledger", units=tuple((s,) for s in missing),
        )  # fmt: skip


def _metrics(view: RunView) -> Iterable[Problem]:
    groups: dict[tuple[str, str, str], list[tuple[float, UnitView, MetricView]]] = defaultdict(list)
    judged: dict[tuple[str, str], int] = defaultdict(int)
    for unit in view.units():
        if not unit.finished:
            continue
        for metric in unit.metrics:
            if metric.status == "info" or is_superseded(unit, metric.name):
                continue
            judged[unit.step, metric.name] += 1
            if metric.status in ("warning", "error"):
                key = (unit.step, metric.name, _refusal(unit))
                groups[key].append((_severity(view, metric), unit, metric))
    for group in groups.values():
        group.sort(key=lambda item: (-item[0], item[1].slices))
    for step in dict.fromkeys(step for step, _, _ in groups):
        found = [(name, group) for (of, name, _), group in groups.items() if of == step]
        for findings in _same_places(found):
            yield _finding(view, step, findings, judged)


def _refusal(unit: UnitView) -> str:
    """Return how the reason begins for which a pair was refused, where there is advice for it; else nothing."""
    found = next((m.value for m in unit.metrics if m.name == "registration"), None)
    return next((start for start in REFUSALS if str(found).startswith(start)), "")


_Finding: TypeAlias = tuple[str, list[tuple[float, UnitView, MetricView]]]
_DERIVED = ("confidence", "seam_l1", "tile_residual_rms_um")
"""Metrics that say again what a sharper one says; they never give a problem its title beside that one."""


def _same_places(found: list[_Finding]) -> list[list[_Finding]]:
    """Put metrics of one step that are bad in the same units together: they have one cause."""
    merged: dict[frozenset[tuple[int, ...]], list[_Finding]] = {}
    for name, group in found:
        merged.setdefault(frozenset(unit.slices for _, unit, _ in group), []).append((name, group))
    for findings in merged.values():
        findings.sort(key=lambda f: (f[0] in _DERIVED, -f[1][0][0], f[0]))
    return list(merged.values())


def _finding(
    view: RunView, step: str, findings: list[_Finding], judged: Mapping[tuple[str, str], int]
) -> Problem:
    name, group = findings[0]
    worst = group[0][2]
    refusal = REFUSALS.get(_refusal(group[0][1]))
    advice = refusal or ADVICE.get(name, _plain(worst))
    worst_severity = max(items[0][0] for _, items in findings)
    rank = max(worst_severity, _BEYOND + (1 - _BEYOND) * worst_severity)
    severity: StatusName = (
        "error" if any(items[0][2].status == "error" for _, items in findings) else "warning"
    )
    settings = list(refusal.settings) if refusal else []
    settings += [pair for metric, _ in findings for pair in _advice(metric)]
    units = [unit.slices for _, unit, _ in group]
    tiles = [_tile_text(metric) for _, _, metric in group]
    if units == [()] and worst.places:
        # A number of the whole run that knows where it comes from.
        units, tiles = list(worst.places), [""] * len(worst.places)
    return Problem(
        severity,
        rank,
        advice.title,
        _units_text([place_of(s) + t for s, t in zip(units, tiles, strict=True)], units),
        "; ".join(
            _evidence(view, metric, items, judged[step, metric]) for metric, items in findings
        ),
        f"{advice.symptom} {advice.cause}".strip(),
        advice.action,
        _settings(view, tuple(dict.fromkeys(settings))),
        _METRIC_ANCHORS.get(name, _anchor(step)),
        step,
        name,
        tuple(units),
        tuple(
            (unit.slices[0], *metric.tile)
            for _, unit, metric in group
            if metric.tile is not None and len(unit.slices) == 1
        ),
    )


def _advice(metric: str) -> tuple[tuple[str, str], ...]:
    return ADVICE[metric].settings if metric in ADVICE else ()


def _evidence(
    view: RunView, name: str, group: list[tuple[float, UnitView, MetricView]], total: int
) -> str:
    _, unit, worst = group[0]
    limit = view.limits.limit(name)
    where = f" at {place(unit)}" if len(group) > 1 else ""
    text = f"{words(name)} {number(worst.value, worst.unit)}{where}"
    if limit is not None:
        sign = "≥" if limit.higher_is_better else "≤"
        text += f" (good {sign} {number(limit.warning, worst.unit)}, error beyond {number(limit.error, worst.unit)}"
        text += f"; {len(group)} of {total} beyond)" if total > 1 else ")"
    return text


def _tile_text(metric: MetricView) -> str:
    return "" if metric.tile is None else f" tile ({metric.tile[0]}, {metric.tile[1]})"


def _units_text(places: list[str], units: list[tuple[int, ...]]) -> str:
    """Name the places; when all pairs share one slice, that slice is the likely culprit and comes first."""
    text = _shorten(places)
    pairs = [set(slices) for slices in units if len(slices) == 2]
    if len(pairs) == len(units) > 1:
        shared = set.intersection(*pairs)
        if len(shared) == 1:
            return f"slice {shared.pop()} ({text})"
    return text


def _counted_headlines(view: RunView, headlines: Sequence[Headline]) -> Iterable[Problem]:
    """Slices and tiles are counted, not measured by a step; their causes are listed one by one."""
    for headline in headlines:
        if headline.id == "tiles_used" and headline.status in ("warning", "error"):
            if any(s.problems for s in view.acquisition.slices):
                continue
            yield Problem(
                headline.status.value, _BAD_TILE, "Tiles are missing",
                _shorten([f"slice {s.slice_id}" for s in view.acquisition.slices if len(s.found) < s.expected]),
                headline.text, "Holes in the slices.", "The places are marked as no data.",
                anchor="acquisition",
                units=tuple((s.slice_id,) for s in view.acquisition.slices if len(s.found) < s.expected),
            )  # fmt: skip


def _warnings(view: RunView) -> Iterable[Problem]:
    groups: dict[tuple[str, str], list[tuple[UnitView, str]]] = defaultdict(list)
    for unit in view.units():
        for text in unit.warnings:
            groups[unit.step, re.sub(r"\d+(\.\d+)?", "#", text)].append((unit, text))
    for (step, _), group in sorted(groups.items()):
        texts = list(dict.fromkeys(text for _, text in group))
        evidence = "; ".join(texts[:_TEXTS_SHOWN])
        if len(texts) > _TEXTS_SHOWN:
            evidence += f"; and {len(texts) - _TEXTS_SHOWN} more"
        units = tuple(dict.fromkeys(u.slices for u, _ in group))
        where = _shorten([place(u) for u, _ in group])
        if units == ((),) and (named := _named_slices(view, texts)):
            units = tuple((s,) for s in named)
            where = _shorten([f"slice {s}" for s in named])
        yield Problem(
            "warning", _WARNING, f"{step} warns", where, evidence,
            anchor=_anchor(step), step=step, units=units,
        )  # fmt: skip


_NAMED_SLICES = re.compile(r"\bslices? (\d+\b|\[\d+(?:, \d+)*\])", re.IGNORECASE)


def _named_slices(view: RunView, texts: Sequence[str]) -> list[int]:
    """Return the slices that the warnings of a step over the whole run speak of."""
    known = {row.slice_id for row in view.ledger}
    found = [
        int(number)
        for text in texts
        for match in _NAMED_SLICES.findall(text)
        for number in re.findall(r"\d+", match)
    ]
    return [s for s in dict.fromkeys(found) if s in known]


def _exclusions(view: RunView) -> Iterable[Problem]:
    groups: dict[tuple[str, str], list[int]] = defaultdict(list)
    made = {row.slice_id for row in view.ledger if row.interpolated}
    for row in view.ledger:
        if not row.used and not row.missing:
            groups[row.reason or "no reason was recorded", row.decided_by].append(row.slice_id)
    for (reason, by), slices in sorted(groups.items()):
        yield Problem(
            "info" if by == "user" else "warning", _EXCLUDED,
            f"Excluded slice{'s' if len(slices) > 1 else ''}", _shorten([f"slice {s}" for s in slices]),
            reason + (f" (decided by {by})" if by else ""),
            "The depth range is filled by the neighbours as far as they reach.",
            "The slice was not stacked from its image"
            + (", but made from its neighbours." if made.issuperset(slices) else "."),
            anchor="ledger", units=tuple((s,) for s in slices),
        )  # fmt: skip


def _corrections(view: RunView) -> Iterable[Problem]:
    groups: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    excluded = {row.slice_id for row in view.ledger if not row.used}
    for unit in view.units():
        for decision in unit.decisions:
            if decision.slice_id in excluded and decision.column in ("use", "auto_excluded"):
                continue
            if decision.column in _CORRECTIONS:
                reason = re.sub(r"\d+(\.\d+)?", "#", decision.reason)
                groups[unit.step, decision.column, reason].append(decision.slice_id)
    reasons = {
        (u.step, d.column, re.sub(r"\d+(\.\d+)?", "#", d.reason), d.slice_id): d.reason
        for u in view.units()
        for d in u.decisions
    }
    for (step, column, reason), slices in sorted(groups.items()):
        title, meaning, advice = _CORRECTIONS[column]
        yield Problem(
            "info", _CORRECTED, title, _shorten([f"slice {s}" for s in sorted(slices)]),
            reasons[step, column, reason, slices[0]], meaning, f"Corrected by {step}.",
            _settings(view, [(key.format(step=step), text) for key, text in advice]), anchor="ledger", step=step, units=tuple((s,) for s in sorted(slices)),
        )  # fmt: skip


_CORRECTIONS: dict[str, tuple[str, str, tuple[tuple[str, str], ...]]] = {
    "rehomed": (
        "Stage glitch corrected",
        "Uncorrected, the slice would jump to the side and back.",
        (
            (
                "detect_rehoming_events.rehoming_max_shift_mm",
                "a value above the length of the step, if the block really moved",
            ),
        ),
    ),
    "rehoming_reliable": (
        "Stage step not trusted",
        "The slice's place rests on the images alone.",
        (("register_pairwise.max_translation_um", "a larger bound, if the slice is not found"),),
    ),
    "interpolated": (
        "Interpolated slice",
        "These planes are made from the neighbours: no measurement.",
        (("interpolate_missing_slice.enabled", "false, to leave the gap open"),),
    ),
    "auto_excluded": (
        "Slice kept out of the registration",
        "It lies where the stage puts it, and holds no other slice in place.",
        (("{step}.enabled", "false, to use every slice"),),
    ),
}


def _fallbacks(view: RunView) -> Iterable[Problem]:
    groups: dict[tuple[str, str], list[UnitView]] = defaultdict(list)
    for unit in view.units():
        for text in unit.fallbacks:
            groups[unit.step, text].append(unit)
    for (step, text), units in sorted(groups.items(), key=lambda item: item[0]):
        yield Problem(
            "info", _FALLBACK, f"{step} ran otherwise than asked",
            _shorten([place(u) for u in units]), text, anchor="performance",
        )  # fmt: skip


def _severity(view: RunView, metric: MetricView) -> float:
    limit = view.limits.limit(metric.name)
    if limit is None or isinstance(metric.value, str | bool) or metric.value is None:
        return 1.0 if metric.status == "error" else 0.0
    return limit.severity(float(metric.value))


def _settings(
    view: RunView, settings: Sequence[tuple[str, str]]
) -> tuple[tuple[str, str, str], ...]:
    """Return the lines to change, those first that somebody set: they are the likelier cause."""
    known = {p.key: p for p in view.parameters}
    lines: dict[str, tuple[str, str, str]] = {}
    for key, advice in settings:
        if key in known:
            lines.setdefault(key, (key, _now(known[key]), advice))
    found = sorted(lines.values(), key=lambda line: known[line[0]].origin == "default")
    return tuple(found[:3])


def _now(parameter: ParameterView) -> str:
    value = parameter.value or "empty"
    if parameter.default is None or parameter.default == parameter.value:
        return value
    return f"{value} (default {parameter.default or 'empty'})"


def _plain(metric: MetricView) -> Advice:
    return Advice(words(metric.name).capitalize(), metric.description, "", "")


def _shorten(places: Sequence[str]) -> str:
    unique = list(dict.fromkeys(places))
    shown = unique[:_PLACES_SHOWN]
    prefix = shown[0].split(" ")[0] if shown else ""
    if len(shown) > 1 and all(p.startswith(f"{prefix} ") and p.count(" ") == 1 for p in shown):
        plural = prefix if prefix.endswith("s") else f"{prefix}s"
        text = f"{plural} " + ", ".join(p.split(" ", 1)[1] for p in shown)
    else:
        text = ", ".join(shown)
    rest = len(unique) - len(shown)
    return f"{text} and {rest} more" if rest > 0 else text


_METRIC_ANCHORS = {"banding_index": "between-slices"}
_ANCHORS = {
    "create_mosaic_grid": "intensity",
    "stitch_3d_with_refinement": "stitching",
    "fix_illumination": "intensity",
    "beam_profile_correction": "intensity",
    "crop_interface": "intensity",
    "compensate_attenuation": "intensity",
    "normalize": "between-slices",
    "normalize_z_intensity": "between-slices",
    "correct_bias_field": "intensity",
    "interpolate_missing_slice": "interpolation",
    "align_to_ras": "atlas",
    "generate_slice_config": "ledger",
    "detect_rehoming_events": "acquisition",
    "estimate_xy_shifts": "acquisition",
    "analyze_shifts": "acquisition",
    "resample_mosaic_grid": "acquisition",
    "stack": "volume",
}


def _anchor(step: str) -> str:
    return _ANCHORS.get(step, "alignment")
