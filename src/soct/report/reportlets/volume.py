"""Section 8: the volume itself: size, levels, validity, how to open it."""

from __future__ import annotations

import numpy as np
from markupsafe import Markup

from soct.report.charts import Series, chart
from soct.report.markup import (
    EMPTY,
    code,
    facts,
    figure,
    join,
    note,
    number,
    pill,
    size,
    table,
    )  # fmt: skip
from soct.report.model import VolumeView
from soct.report.reportlet import Page, Reportlet

_STACK = "stack"


def render(page: Page) -> Markup:
    """Draw the facts, the levels, the share of data per plane and the commands to open it."""
    volume = page.view.volume
    parts = [] if volume is None else [_facts(volume), _levels(volume)]
    if page.figures.has(_STACK):
        parts.append(page.guarded("Share of data per plane", lambda: _validity(page)))
    if volume is not None:
        parts.append(_commands(volume))
    return join(parts) if any(parts) else note("The volume is not written yet.")


def _facts(volume: VolumeView) -> Markup:
    made = ", ".join(f"{a}–{b}" for a, b in volume.interpolated_planes) or "none"
    validation = volume.validation if volume.validation else "did not run"
    valid = volume.validation.strip().lower() in ("ok", "valid", "passed")
    return facts(
        [
            ("File", Markup("<code>{}</code>").format(volume.path)),
            ("Size on disk", size(volume.bytes)),
            ("Samples", volume.dtype),
            ("Compression", volume.codec or "–"),
            ("Orientation (z, y, x)", volume.orientation or "as acquired"),
            ("OME-NGFF check", pill("ok", validation) if valid else validation),
            ("Interpolated planes", made),
        ]
    )


def _levels(volume: VolumeView) -> Markup:
    rows = [
        (
            level.path,
            " × ".join(number(n) for n in level.shape),
            " × ".join(number(v, digits=4) for v in level.voxel_um),
            " × ".join(
                number(n * v / 1000) for n, v in zip(level.shape, level.voxel_um, strict=True)
            ),
        )
        for level in volume.levels
    ]
    return table(
        ("Level", "Voxels (z × y × x)", "Voxel (µm)", "Extent (mm)"),
        rows,
        caption="Resolution levels",
        sortable=False,
        empty="The levels were not recorded.",
    )


def _validity(page: Page) -> Markup:
    if "plane_valid_fraction" not in page.figures.names(_STACK):
        return EMPTY
    share = page.figures.array(_STACK, "run", "plane_valid_fraction").ravel()
    drawn = chart(
        [Series("data", np.arange(share.size), 100 * share)],
        title="Share of every plane that holds data",
        x_label="plane",
        y_label="data (%)",
        include_zero=True,
        height=150,
    )
    return figure(drawn, "Share of each plane that holds data. A notch is a missing slice or a hole.")  # fmt: skip


def _commands(volume: VolumeView) -> Markup:
    path = volume.path.replace("'", "'\\''")
    lines = (
        f"soct view '{path}' --napari\nnapari --plugin napari-ome-zarr '{path}'\nsoct view '{path}'"
    )
    said = (
        "In the run folder. The first two open napari (extra viewer); the last serves the volume to this machine "
        "alone and prints the address that shows it in neuroglancer."
    )
    return join([Markup("<h3>To open it</h3>"), code(lines), Markup("<p>{}</p>").format(said)])


REPORTLET = Reportlet(
    id="volume",
    order=80,
    title="Volume",
    question="What is in the file, and where does it hold no data?",
    render=render,
    good="data in nearly all of each plane between the first and the last slice.",
    bad="a notch in the share of data: no measurement lies behind the grey values there.",
    inputs=(_STACK,),
    thresholds=("filled",),
)
