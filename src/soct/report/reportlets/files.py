"""Section 18: the files that the run published."""

from __future__ import annotations

from markupsafe import Markup

from soct.report.data_files import data_files
from soct.report.markup import Cell, Row, details, join, note, size, table
from soct.report.reportlet import Page, Reportlet

_MAX_ROWS = 1500


def render(page: Page) -> Markup:
    """Draw the data files beside the report, then every published output with its checksum."""
    data = table(
        ("File", "What is in it"),
        [
            (Markup("<code>report_data/{}</code>").format(name), what)
            for name, what in data_files(page).items()
        ],
        caption="Numbers of this report",
        sortable=False,
    )
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
                Markup("<code>{}</code>").format(output.checksum[:16]),
            ]
        )
        for unit, output in outputs[:_MAX_ROWS]
    ]
    total = sum(output.bytes for _, output in outputs)
    drawn = table(
        ("Step", "Unit", "Path in the run folder", "Size", "Checksum (start)"),
        rows,
        caption=f"{len(rows)} of {len(outputs)} outputs",
        numeric=(3,),
    )
    return join([data, details(f"Published outputs: {len(outputs)} ({size(total)})", drawn)])


REPORTLET = Reportlet(
    id="files",
    order=160,
    title="Data files",
    question="Where are the numbers and the results?",
    render=render,
)
