"""Section 17: what each metric means, and where its limits come from."""

from __future__ import annotations

from markupsafe import Markup

from soct.quality.limits import QualityLimits
from soct.report.markup import EMPTY, Cell, details, join, number, table, unit_text
from soct.report.reportlet import Page, Reportlet

_TERMS = (
    ("A-line, B-scan", "One depth profile; the row of depth profiles that one sweep of the galvo records."),
    ("Tile", "What the microscope images without moving the stage. A slice is a mosaic of tiles that overlap."),
    ("Seam", "Where two tiles overlap."),
    ("NCC", "Normalised cross-correlation: 1 for equal images up to gain and offset, 0 for unrelated ones."),
    ("p95", "95th percentile: 95 of 100 values are smaller."),
    ("Stage only, motor only", "Placed where the microscope said it was, without looking at the images."),
    ("Ledger", "The table of decisions about slices: who excluded or corrected what, and why."),
    ("PASS, REVIEW, FAIL", "FAIL: a unit failed, a headline number is beyond its error limit, or more than a tenth of the values of one metric are. REVIEW: the run is not complete, a headline number is beyond its warning limit, any other value is beyond its error limit, or more than a tenth are beyond the warning limit. PASS otherwise."),
)  # fmt: skip


def render(page: Page) -> Markup:
    """Draw the table of limits with their origin, then the terms."""
    limits = page.view.limits
    rows = []
    for name in sorted(QualityLimits.model_fields):
        limit = limits.limit(name)
        if limit is None:
            continue
        origins = dict.fromkeys(page.view.limit_origin(name, p) for p in ("warning", "error"))
        unit = QualityLimits.unit(name)
        sign = "≥" if limit.higher_is_better else "≤"
        rows.append(
            (
                Cell(Markup("<code>{}</code>").format(name), css="whole"),
                QualityLimits.description(name),
                Cell(f"{sign} {number(limit.warning, unit)}", css="whole"),
                Cell(f"{sign} {number(limit.error, unit)}", css="whole"),
                "; ".join(origins),
            )
        )
    terms = join(Markup("<div><dt>{}</dt><dd>{}</dd></div>").format(t, d) for t, d in _TERMS)
    return join(
        [
            table(
                ("Metric", "Definition", "Good", "Not an error", "Limit set by"),
                rows,
                caption="Metrics with limits (profile section “quality”)",
            ),
            _others(page),
            Markup('<dl class="facts" style="grid-template-columns:1fr">{}</dl>').format(terms),
        ]
    )


def _others(page: Page) -> Markup:
    """Return the metrics of this run that have no limit, as their steps describe them."""
    found: dict[tuple[str, str], tuple[str, str]] = {}
    for unit in page.view.units():
        for metric in unit.metrics:
            if page.view.limits.limit(metric.name) is None:
                found.setdefault((metric.name, unit.step), (metric.description, metric.unit))
    if not found:
        return EMPTY
    rows = [
        (Cell(Markup("<code>{}</code>").format(name), css="whole"), step, text, unit_text(unit))
        for (name, step), (text, unit) in sorted(found.items())
    ]
    drawn = table(
        ("Metric", "Step", "Definition", "Unit"),
        rows,
        caption="Metrics of this run that are not judged",
    )
    return details(f"{len(rows)} metrics without a limit", drawn)


REPORTLET = Reportlet(
    id="glossary",
    order=150,
    title="Glossary",
    question="What does each number mean, and who set its limit?",
    render=render,
)
