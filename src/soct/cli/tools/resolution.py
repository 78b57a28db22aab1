"""Measure the resolution of a reconstructed volume, in plane and along z, from two volumes or one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from soct.cli import options

if TYPE_CHECKING:
    from soct.tools.resolution import VolumeResolution


def _voxel(text: str) -> tuple[float, ...]:
    sizes = tuple(float(part) for part in text.split(","))
    if len(sizes) not in (1, 3) or not all(0 < size < 1e6 for size in sizes):
        raise ValueError(f"{text!r} is not a voxel size: one length in um, or Z,Y,X")
    return sizes * 3 if len(sizes) == 1 else sizes


def command(
    volume: Annotated[
        Path,
        typer.Argument(metavar="VOLUME", help="Run folder, OME-Zarr, NIfTI, NRRD or TIFF."),
    ],
    other: Annotated[
        Path | None,
        typer.Option(
            "--other",
            metavar="VOLUME2",
            help="A second volume of the specimen, voxel on voxel, with noise of its own.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="OUT.html", help="A page with the curves."),
    ] = None,
    level: Annotated[
        int, typer.Option("--level", min=0, metavar="N", help="Resolution of an OME-Zarr.")
    ] = 0,
    voxel_um: Annotated[
        Any,
        typer.Option(
            "--voxel-um",
            metavar="Z,Y,X",
            parser=options.parsed_by(_voxel),
            help="Size of the voxels, instead of what the file says.",
        ),
    ] = None,
    blocks: Annotated[
        int, typer.Option("--blocks", min=1, max=200, help="Blocks of tissue, at most.")
    ] = 12,
    as_json: options.Json = False,
) -> int:
    """Measure the resolution of a reconstructed volume, in plane and along z, from two volumes or one.

    Two volumes are compared by the correlation of their Fourier shells; nothing is assumed but that their noise is independent.

    Of one volume the noise is found in its own spectrum, and the number says where a second, equally noisy volume would cease to
    agree. That asks for noise that is not alike in neighbouring voxels, or for regions without structure beside the
    tissue. Interpolation makes neighbours alike: then the number flatters, and soct says so.

    The numbers tell what the volume shows, not what the optics could: pixels, averaging, misaligned slices and noise all count.
    """
    from soct.cli.terminal import telling_progress, words
    from soct.pipeline.folder.run_volume import find_volume
    from soct.space import Voxel
    from soct.tools.montage_output import check_new
    from soct.tools.resolution import measure_resolution

    if out is not None:
        check_new(out, "The page")
    tell = telling_progress()
    words("reading blocks ...")
    found = measure_resolution(
        find_volume(volume),
        None if other is None else find_volume(other),
        level=level,
        voxel_um=None if voxel_um is None else Voxel(*voxel_um),
        blocks=blocks,
        progress=lambda done, total: tell(done / total),
    )
    if out is not None:
        from soct.tools.resolution_report import write_resolution_report

        write_resolution_report(found, out)
    _print(found, out, as_json)
    return 0


def _print(found: VolumeResolution, out: Path | None, as_json: bool) -> None:
    from soct.cli.terminal import data, data_console, data_json, words
    from soct.tools.resolution_report import as_json_object, table_rows

    if as_json:
        data_json({**as_json_object(found), "page": None if out is None else str(out)})
        return
    from rich.table import Table

    drawn = Table(box=None, pad_edge=False)
    headers, rows = table_rows(found)
    for k, header in enumerate(headers):
        drawn.add_column(header, justify="right" if k else "left")
    for row in rows:
        drawn.add_row(*row)
    data_console().print(drawn)
    for notice in found.notices:
        words(f"note: {notice}")
    if out is not None:
        data(str(out))
