"""Section 15: what exactly was run, on what, with which values."""

from __future__ import annotations

from markupsafe import Markup

from soct.report.identity import run_key
from soct.report.markup import EMPTY, details, facts, join, size, table, unit_text
from soct.report.model import RunView
from soct.report.reportlet import Page, Reportlet
from soct.report.research_crate import METADATA

_MAX_FINGERPRINTS = 1000


def render(page: Page) -> Markup:
    """Draw the run's history, the resolved profile, inputs and packages."""
    view = page.view
    return join(
        [
            _redaction(view),
            _identity(view),
            _history(view),
            _profile(view),
            _steps(view),
            _inputs(view),
            _packages(view),
            _crate(view),
        ]
    )


def _redaction(view: RunView) -> Markup:
    if not view.redacted:
        return EMPTY
    return Markup(
        "<p><strong>Names and folders were taken out of this report.</strong> The subject goes by a name that "
        "follows from its raw data; <code>…/</code> stands where folders stood before a file’s name, "
        "<code>(removed)</code> for a whole path or a name, <code>host-1</code>, <code>rater-1</code> for "
        "computers and people. The numbers are untouched.</p>"
    )


def _crate(view: RunView) -> Markup:
    return Markup(
        "<p>For an archive: <code>report_data/{}</code> describes this run as an RO-Crate 1.1 (Process Run Crate): "
        "soct {} made its outputs from the raw data named above. Licence of the data: unknown; the run does not "
        "say it.</p>"
    ).format(METADATA, view.soct_version or "of unknown version")


def _identity(view: RunView) -> Markup:
    pairs = [
        ("Subject", view.subject),
        ("Profile", view.profile),
        ("soct", view.soct_version or "–"),
        ("Key of the run", run_key(view)),
        ("Input", view.acquisition.path or "–"),
        ("Container", view.container or "none"),
    ]
    return facts(pairs)


def _history(view: RunView) -> Markup:
    rows = [
        (
            str(i),
            run.started[:19].replace("T", " "),
            run.ended[:19].replace("T", " ") or "–",
            run.outcome,
            run.host,
            "–" if run.cpus is None else str(run.cpus),
            size(run.memory_bytes),
            f"{run.computed} / {run.reused}",
            Markup("<code>{}</code>").format(run.command),
        )
        for i, run in enumerate(view.invocations, 1)
    ]
    return table(
        ("#", "Started", "Ended", "Outcome", "Host", "CPUs", "Memory", "Computed / reused", "Command"),
        rows,
        caption="Run history",
        sortable=False,
        empty="No run history was recorded.",
    )  # fmt: skip


def _profile(view: RunView) -> Markup:
    if not view.parameters:
        return Markup("")
    rows = [
        (
            Markup("<code>{}</code>").format(p.key),
            p.value,
            unit_text(p.unit),
            Markup("<strong>{}</strong>").format(p.origin) if p.origin != "default" else p.origin,
            p.description,
        )
        for p in view.parameters
    ]
    changed = sum(p.origin != "default" for p in view.parameters)
    drawn = table(
        ("Setting", "Value", "Unit", "Set by", "What it does"), rows, caption="Resolved profile"
    )
    return details(f"Resolved profile: {len(rows)} settings, {changed} changed", drawn)


def _steps(view: RunView) -> Markup:
    rows = [
        (
            Markup("<code>{}</code>").format(s.id),
            str(s.version),
            s.scope,
            str(len(s.units)),
            s.summary,
        )
        for s in view.steps
    ]
    if not rows:
        return Markup("")
    drawn = table(
        ("Step", "Version", "Per", "Units", "What it does"),
        rows,
        caption="Steps of this run in order",
        sortable=False,
    )
    return details(f"Steps: {len(rows)}", drawn)


def _inputs(view: RunView) -> Markup:
    prints = view.acquisition.fingerprints
    if not prints:
        return Markup("")
    rows = [
        (name, Markup("<code>{}</code>").format(value))
        for name, value in prints[:_MAX_FINGERPRINTS]
    ]
    drawn = table(("Input", "Fingerprint"), rows, caption="Inputs as they were read")
    return details(f"Input fingerprints: {len(prints)}", drawn)


def _packages(view: RunView) -> Markup:
    if not view.packages:
        return Markup("")
    drawn = table(
        ("Package", "Version"),
        [(name, version) for name, version in view.packages],
        caption="Packages the results depend on",
        sortable=False,
    )
    return details(f"Package versions: {len(view.packages)}", drawn)


REPORTLET = Reportlet(
    id="provenance",
    order=140,
    title="Provenance",
    question="Could somebody repeat this exactly?",
    render=render,
)
