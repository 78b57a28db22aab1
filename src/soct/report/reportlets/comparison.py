"""Section 10: this run beside another one (`soct report RUN --compare OTHER`)."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from soct.quality.limits import QualityLimits
from soct.report.comparison import Comparison, compare
from soct.report.comparison.metrics import Change, Judgement, MetricChange
from soct.report.comparison.parameters import ParameterDifference
from soct.report.comparison.places import Placed, place_volumes
from soct.report.comparison.planes import Plane, centred, common_grid
from soct.report.images import robust_window
from soct.report.markup import (
    Cell,
    count,
    details,
    facts,
    flicker,
    join,
    note,
    number,
    picture,
    pill,
    table,
    unit_text,
    words,
)
from soct.report.overlays import scale_overlay
from soct.report.reportlet import Page, Reportlet
from soct.report.reportlets.glance import volume_views

_SIDE = 620
_MAX_HEIGHT = 560
_SHOWN_SLICES = 30
_SHOWN_METRICS = 400
_STATUS = {"better": "ok", "worse": "warning"}
_VIEWS = (
    ("In plane (y, x)", "yx"),
    ("Reslice (z, x)", "zx"),
    ("Reslice (z, y)", "zy"),
)


def render(page: Page) -> Markup:
    """Draw what is the same, then settings, numbers, pictures, slices and problems that differ."""
    other = page.other
    if other is None:
        return note("No other run was given.")
    found = compare(page, other)
    parts = [
        _whose(page, other, found),
        page.guarded("Headline numbers", lambda: _headlines(found)),
        Markup("<h3>Pictures</h3>"),
        page.guarded("Pictures", lambda: _pictures(page, other)),
        Markup("<h3>What was asked differently</h3>"),
        _parameters(found.parameters),
        _steps(found.steps),
        Markup("<h3>What came out differently</h3>"),
        page.guarded("Slices", lambda: _slices(found)),
        page.guarded("Metrics", lambda: _metrics(found)),
        _problems(found),
        _outputs(found),
    ]
    return join(parts)


def _whose(page: Page, other: Page, found: Comparison) -> Markup:
    relation = found.input.relation
    status = {"same": "ok", "partly": "info", "unknown": "info"}.get(relation, "warning")
    answers = {"yes": ("ok", "yes"), "no": ("info", "no"), "unknown": ("info", "cannot be told")}
    grade, word = answers[found.volume.answer]
    rows = [
        (name, p.view.run_folder or "–", p.view.subject, p.view.state, p.view.profile,
         p.view.soct_version, p.verdict.grade.value)
        for name, p in (("This run", page), ("Other run", other))
    ]  # fmt: skip
    lines: list[tuple[str, Markup | str]] = [
        ("The same input?", Markup("{} {}").format(pill(status, _RELATIONS[relation]), found.input.text)),
        ("Pixel-identical volumes?", Markup("{} {}").format(pill(grade, word), found.volume.text)),
    ]  # fmt: skip
    if found.parted_at is not None:
        where = f"{found.parted_at.step}, {found.parted_at.first}"
        lines.append(("First output that differs", where))
    return join(
        [
            table(
                ("Which", "Folder", "Subject", "State", "Profile", "soct", "Verdict"),
                rows,
                caption="The two runs",
                sortable=False,
            ),
            facts(lines),
        ]
    )


_RELATIONS = {
    "same": "yes", "partly": "in part", "subject": "no, another acquisition", "different": "no",
    "unknown": "cannot be told",
}  # fmt: skip


def _headlines(found: Comparison) -> Markup:
    if all(h.change.judgement == "same" for h in found.headlines):
        return note("No headline number differs.")
    rows: list[tuple[Cell | Markup | str, ...]] = []
    for headline in found.headlines:
        known, change = headline.known, headline.change
        delta = change.difference
        texts = [
            "–" if h is None else f"{h.text}{f' ({h.detail})' if h.detail else ''}"
            for h in (headline.this, headline.other)
        ]
        rows.append(
            (
                known.label,
                *texts,
                _delta(None if delta is None else known.scale * delta, known.unit, change),
                _judged(change.judgement),
                known.limit,
            )
        )
    return table(
        ("Headline number", "This run", "Other run", "Difference", "This run is", "Limit"),
        rows,
        caption="Headline numbers; difference: this run less the other. Both judged by this run’s limits; alike: "
        "a hundredth of the way from the warning to the error limit, or less",
        numeric=(3,),
        sortable=False,
    )


def _delta(value: float | None, unit: str, change: Change) -> Cell:
    if change.judgement == "same":
        return Cell("0", sort=0.0)
    if value is None:
        return Cell("–")
    return Cell(signed(value, unit), sort=value)


def signed(value: float, unit: str) -> str:
    """Write a difference with its sign, also where it is positive."""
    return f"{'+' if value > 0 else ''}{number(float(value), unit)}"


def _judged(judgement: Judgement) -> Markup:
    if judgement == "":
        return Markup('<span class="hidden">not judged</span><span aria-hidden="true">–</span>')
    return pill(_STATUS.get(judgement, "info"), judgement)


def _parameters(differences: Sequence[ParameterDifference]) -> Markup:
    rows = [
        (
            Markup('<code title="{}">{}</code>').format(d.description, d.key),
            _value(d.this, d.unit),
            _value(d.other, d.unit),
            d.this_origin or "–",
            d.other_origin or "–",
        )
        for d in differences
    ]
    return table(
        ("Parameter", "This run", "Other run", "From (this run)", "From (other run)"),
        rows,
        caption="Parameters and limits of different value, with where each value comes from",
        empty="Both runs were asked for the same: no parameter and no limit differs.",
    )


def _value(value: str, unit: str) -> str:
    if not value:
        return "(empty)"
    return f"{value} {unit_text(unit)}" if unit and value[:1].isdigit() else value


def _steps(differences: Sequence[ParameterDifference]) -> Markup:
    if not differences:
        return Markup("")
    return table(
        ("Step", "This run", "Other run"),
        [(Markup("<code>{}</code>").format(d.key), d.this, d.other) for d in differences],
        caption="Steps that only one run has, or has in another version",
        sortable=False,
    )


def _pictures(page: Page, other: Page) -> Markup:
    for name, owner in (("This run", page), ("The other run", other)):
        if not owner.figures.has("stack"):
            return note(f"{name} has no views of its volume, so there is nothing to compare.")
    mine, its = _views(page), _views(other)
    placed = place_volumes(page, other)
    same = all(a.array.shape == b.array.shape for a, b in zip(mine, its, strict=True))
    if placed is not None:
        mine, its = _laid(mine, placed.this), _laid(its, placed.other)
        told = _told_places(mine, its, placed)
    else:
        offset = _depth_offset(page, other)
        mine, its = _from_top(mine, 0.0), _from_top(its, offset)
        told = "" if same and offset == 0 else _CENTRED
    drawn = [
        _flicker(page, title, axes, this, that)
        for (title, axes), this, that in zip(_VIEWS, mine, its, strict=True)
    ]
    caption = Markup(
        '<p class="question">One brightness window and one scale for both runs, each through the middle of its '
        "own volume. {}</p>"
    ).format(told)
    return join([*drawn, caption])


_CENTRED = (
    "The volumes have other sizes, and a run did not save where its volume lies: they are laid over each other "
    "centre on centre in the plane, and slice on slice in depth; pale grey is outside of one of them."
)


def _told_places(mine: Sequence[Plane], its: Sequence[Plane], placed: Placed) -> str:
    """Say how the volumes were laid over each other, and how far apart the planes that are shown lie."""
    slices = count(placed.common, "slice")
    text = f"Both are drawn where their voxels lie in the space of the slices, matched by the poses of {slices} that both have"
    names = ("in depth", "along y", "along x")
    # The plane lies at the middle depth, which the reslices cover; and so on around.
    apart = [
        abs(_middle(mine[view], axis) - _middle(its[view], axis))
        for view, axis in ((1, 0), (0, 0), (0, 1))
    ]
    far = [f"{number(d, 'um')} {name}" for d, name in zip(apart, names, strict=True) if d >= 1.0]
    if far:
        text += f"; the middles through which they are cut lie {', '.join(far)} apart, so the views may show other tissue there"
    return f"{text}. Pale grey is outside of one of them."


def _middle(plane: Plane, axis: int) -> float:
    return plane.first_um[axis] + 0.5 * plane.array.shape[axis] * plane.pixel_um[axis]


def _views(page: Page) -> list[Plane]:
    step, names = volume_views(page)
    plane, along_y, along_x, voxel = page.figures.arrays(step, "run", *names)
    vz, vy, vx = (float(v) for v in voxel.ravel()[:3])
    return [
        centred(array, pixel)
        for array, pixel in ((plane, (vy, vx)), (along_y, (vz, vx)), (along_x, (vz, vy)))
    ]


def _laid(planes: Sequence[Plane], first_voxel: tuple[float, float, float]) -> list[Plane]:
    """Put the three views where the volume lies."""
    at = dict(zip("zyx", first_voxel, strict=True))
    laid = []
    for plane, (_, axes) in zip(planes, _VIEWS, strict=True):
        down, right = (
            at[axis] - 0.5 * pixel for axis, pixel in zip(axes, plane.pixel_um, strict=True)
        )
        laid.append(Plane(plane.array, plane.pixel_um, (down, right)))
    return laid


def _from_top(planes: Sequence[Plane], first_um: float) -> list[Plane]:
    """Let the reslices begin at a depth; in the plane they stay centred."""
    return [
        Plane(plane.array, plane.pixel_um, (first_um, plane.first_um[1]))
        if axes[0] == "z"
        else plane
        for plane, (_, axes) in zip(planes, _VIEWS, strict=True)
    ]


def _depth_offset(page: Page, other: Page) -> float:
    """Depth at which the other volume begins, where this one begins at 0: by the first slice that both have."""
    starts = [_slice_depths(p) for p in (page, other)]
    common = sorted(starts[0].keys() & starts[1].keys())
    return starts[0][common[0]] - starts[1][common[0]] if common else 0.0


def _slice_depths(page: Page) -> dict[int, float]:
    names = page.figures.names("stack")
    if not {"z_boundaries", "slice_ids", "voxel_um"} <= names:
        return {}
    starts, ids, voxel = page.figures.arrays("stack", "run", "z_boundaries", "slice_ids", "voxel_um")  # fmt: skip
    depth = float(voxel.ravel()[0])
    return {int(s): depth * float(z) for s, z in zip(ids.ravel(), starts.ravel(), strict=True)}


def _flicker(page: Page, title: str, axes: str, this: Plane, other: Plane) -> Markup:
    mine, its, pixel = common_grid(this, other)
    window = robust_window(mine, its)
    drawn = []
    for array, label in ((its, "other run"), (mine, "this run")):
        image = page.images.encode(array, window=window, max_side=_SIDE, pixel_um=pixel)
        overlay = scale_overlay(image, array.shape[1] * pixel[1])
        width = min(_SIDE, round(_MAX_HEIGHT / image.aspect))
        drawn.append(picture(image, f"{title}, {label}", overlay=overlay, width=width))
    return flicker(
        f"compared-{axes}",
        drawn[0],
        drawn[1],
        labels=("other run", "this run"),
        title=f"{title}: the other run against this one",
    )


def _slices(found: Comparison) -> Markup:
    differences = found.slices
    head = note(differences.note) if differences.note else Markup("")
    if not differences.slices:
        return join([head, note("No slice was placed or judged differently.")])
    rows = []
    for d in differences.slices[:_SHOWN_SLICES]:
        shift = d.shift_um or (None, None, None)
        texts = [f"{what}: {this} (other run: {that})" for what, this, that in d.decisions]
        length = d.in_plane_um
        cells = [Cell("–" if v is None else signed(v, ""), sort=v) for v in (*shift[1:], shift[0])]
        rows.append(
            (
                Cell(str(d.slice_id), sort=d.slice_id),
                Cell("–" if length is None else number(length), sort=length),
                *cells,
                Cell("–" if d.rotation_deg is None else signed(d.rotation_deg, ""), sort=d.rotation_deg),
                Markup("<br>").join(texts) or "–",
            )
        )  # fmt: skip
    shown = f"{len(rows)} of {count(len(differences.slices), 'slice')} that differ"
    return join(
        [
            head,
            table(
                ("Slice", "moved (µm)", "Δy (µm)", "Δx (µm)", "Δz (µm)", "turned (°)", "Decided otherwise"),
                rows,
                caption=f"Slices that lie elsewhere or were judged otherwise, the worst first ({shown}). Poses are "
                "compared once what all slices have in common is taken out: that is only another frame.",
                numeric=range(6),
            ),
        ]
    )  # fmt: skip


def _metrics(found: Comparison) -> Markup:
    rows = [_metric_row(m) for m in found.metrics[:_SHOWN_METRICS]]
    worse = sum("worse" in (m.median.judgement, m.worst.judgement) for m in found.metrics)
    drawn = table(
        ("Metric", "Median", "other run", "difference", "Worst", "other run", "difference", "This run is",
         "Differs most at"),
        rows,
        caption="Every metric that differs, by step: median and worst over its units (without a limit, the largest)",
        numeric=range(1, 7),
        empty="No metric differs.",
    )  # fmt: skip
    if found.metrics:
        summary = f"{count(len(found.metrics), 'metric')} of the steps differ, {worse} worse"
        drawn = details(summary, drawn, opened=len(rows) <= 40)
    if not found.texts:
        return drawn
    words_table = table(
        ("Step", "Metric", "This run", "Other run", "At", "Units that differ"),
        [(t.step, words(t.name), t.this, t.other, t.place, f"{t.differing} of {t.units}") for t in found.texts],
        caption="Words and flags that differ, at the first unit",
    )  # fmt: skip
    return join([drawn, words_table])


def _metric_row(metric: MetricChange) -> tuple[Cell | Markup | str, ...]:
    cells = [_pair(change, metric.unit) for change in (metric.median, metric.worst)]
    judged: Judgement = metric.worst.judgement
    if judged not in ("better", "worse"):
        judged = metric.median.judgement or judged
    largest = metric.largest
    where = "other units were measured"
    if largest.difference is not None:
        where = f"{largest.this_place}: {signed(largest.difference, metric.unit)}"
    unit = unit_text(metric.unit or QualityLimits.unit(metric.name))
    name = Markup("{} {}<br><code>{}</code>").format(
        words(metric.name), f"({unit})" if unit else "", metric.step
    )
    return (Cell(name, css="wide"), *cells[0], *cells[1], _judged(judged), where)


def _pair(change: Change, unit: str) -> tuple[Cell, Cell, Cell]:
    texts = [
        Cell(number(v) if v is None else number(float(v)), sort=v)
        for v in (change.this, change.other)
    ]
    delta = change.difference
    text = "–" if delta is None else "0" if change.judgement == "same" else signed(delta, "")
    return texts[0], texts[1], Cell(text, sort=delta)


def _problems(found: Comparison) -> Markup:
    whose = {"this": "this run only", "other": "the other run only", "both": "both, in other places"}  # fmt: skip
    rows = [
        (
            whose[d.who],
            pill(d.problem.severity),
            d.problem.what,
            d.problem.where + (f" (other run: {d.elsewhere})" if d.who == "both" else ""),
            d.problem.evidence,
        )
        for d in found.problems
    ]
    return table(
        ("Who has it", "Severity", "Problem", "Where", "Evidence"),
        rows,
        caption="Problems that the two runs do not share",
        sortable=False,
        empty="Both runs have the same problems, in the same places.",
    )


def _outputs(found: Comparison) -> Markup:
    if not found.outputs:
        return note("No step finished in both runs, so no outputs can be compared.")
    rows = [(o.step, str(o.same), str(o.different), str(o.unknown), o.first or "–") for o in found.outputs]  # fmt: skip
    same = sum(o.same for o in found.outputs)
    total = sum(o.same + o.different + o.unknown for o in found.outputs)
    return details(
        f"Outputs of the same bytes: {same} of {total}",
        table(
            ("Step", "same", "different", "cannot be told", "First that differs"),
            rows,
            caption="By the hashes that were recorded when the outputs were written; of arrays, those of their voxels",
            numeric=(1, 2, 3),
            sortable=False,
        ),
    )


REPORTLET = Reportlet(
    id="comparison",
    order=100,
    title="Comparison",
    question="What is different from the other run, in settings, numbers, pictures and slices?",
    render=render,
    good="only what the changed parameters should change is different, and it is better.",
    bad="a number that is worse without a parameter that explains it: look at the first output that differs, then "
    "at the slices on top of the table.",
    shown=lambda page: page.other is not None,
)
