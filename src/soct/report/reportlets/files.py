"""Section 18: the files that the run published."""

from __future__ import annotations

import hashlib

from markupsafe import Markup

from soct.report.data_files import describe_data_file
from soct.report.markup import Cell, Row, details, join, note, size, table
from soct.report.reportlet import Page, Reportlet

_MAX_ROWS = 1500


def render(page: Page) -> Markup:
    """Draw the data files beside the report, then every published output with its checksum."""
    data = _numbers(page)
    outputs = [(unit, output) for unit in page.view.units() for output in unit.outputs]
    if not outputs:
        return join([data, note("Nothing is published yet.")])
    rows = [
        Row(
            [
                unit.step,
                unit.name,
                Markup("<code>{}</code>").format(output.path),
                Cell(size(output.bytes), sort=float(output.bytes)),
                Markup("<code>{}</code>").format(output.checksum),
            ]
        )
        for unit, output in outputs[:_MAX_ROWS]
    ]
    total = sum(output.bytes for _, output in outputs)
    drawn = table(
        ("Step", "Unit", "Path in the run folder", "Size", "Checksum"),
        rows,
        caption=f"{len(rows)} of {len(outputs)} outputs",
        numeric=(3,),
    )
    return join([data, details(f"Published outputs: {len(outputs)} ({size(total)})", drawn)])


def _numbers(page: Page) -> Markup:
    rows = [
        (
            Markup("<code>report_data/{}</code>").format(name),
            describe_data_file(name),
            Cell(size(len(content)), sort=float(len(content))),
            Markup("<code>{}</code>").format(hashlib.sha256(content).hexdigest()),
        )
        for name, content in page.data.items()
    ]
    return table(
        ("File", "What is in it", "Size", "SHA-256"),
        rows,
        caption="Numbers of this report. To check: sha256sum -c SHA256SUMS in that folder.",
        sortable=False,
        numeric=(2,),
    )


REPORTLET = Reportlet(
    id="files",
    order=160,
    title="Data files",
    question="Where are the numbers and the results?",
    render=render,
)
