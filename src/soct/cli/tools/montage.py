"""Lay plain images (TIFF, PNG, JPEG) as one mosaic: by grid, positions file or the images alone."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from soct.cli import options

if TYPE_CHECKING:
    from collections.abc import Callable

    from soct.tools.montage import Montage

_LAYOUT = "How the images lie"
_MATCH = "How they are matched"
_OUT = "What is written"
_GRID = re.compile(r"(\d{1,4})x(\d{1,4})")


def _grid(text: str) -> tuple[int, int]:
    found = _GRID.fullmatch(text.strip().lower())
    if found is None or not int(found[1]) or not int(found[2]):
        raise ValueError(f"{text!r} is not ROWSxCOLUMNS, such as 5x4")
    return int(found[1]), int(found[2])


def command(
    images: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGES...",
            help="Images, a folder of them, or patterns such as 'folder/*.tif'.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="OUT",
            help="Mosaic to make: .tif, .ome.tif or .ome.zarr; a report OUT.html beside it.",
            rich_help_panel=_OUT,
        ),
    ] = None,
    grid: Annotated[
        Any,
        typer.Option(
            "--grid",
            metavar="RxC",
            parser=options.parsed_by(_grid),
            help="Rows and columns of a grid, in natural order of the names.",
            rich_help_panel=_LAYOUT,
        ),
    ] = None,
    order: Annotated[
        str,
        typer.Option(
            "--order",
            metavar="ORDER",
            parser=options.one_of("auto", "rows", "snake-rows", "columns", "snake-columns"),
            help="Of a grid: rows, snake-rows, columns, snake-columns; auto: the one whose neighbours match.",
            rich_help_panel=_LAYOUT,
        ),
    ] = "auto",
    start: Annotated[
        str,
        typer.Option(
            "--start",
            metavar="CORNER",
            parser=options.one_of("auto", "top-left", "top-right", "bottom-left", "bottom-right"),
            help="Of the first image of a grid: top-left, top-right, bottom-left, bottom-right; auto: measured.",
            rich_help_panel=_LAYOUT,
        ),
    ] = "auto",
    overlap: Annotated[
        float | None,
        typer.Option(
            "--overlap",
            min=0.0,
            max=0.9,
            help="Part that neighbours in a grid share; measured if not given.",
            rich_help_panel=_LAYOUT,
        ),
    ] = None,
    positions: Annotated[
        Path | None,
        typer.Option(
            "--positions",
            metavar="FILE",
            help="CSV name,x_px,y_px: the top-left corner of each image, roughly.",
            rich_help_panel=_LAYOUT,
        ),
    ] = None,
    model: Annotated[
        str,
        typer.Option(
            "--model",
            metavar="rigid|similarity|affine",
            parser=options.one_of("rigid", "similarity", "affine"),
            help="What each image may do: move; turn and scale; shear, too.",
            rich_help_panel=_MATCH,
        ),
    ] = "rigid",
    search_px: Annotated[
        float | None,
        typer.Option(
            "--search-px",
            min=1.0,
            help="Greatest error of an expected offset of neighbours.",
            rich_help_panel=_MATCH,
        ),
    ] = None,
    no_match: Annotated[
        bool,
        typer.Option(
            "--no-match",
            help="Render the positions of --positions as they are.",
            rich_help_panel=_MATCH,
        ),
    ] = False,
    whole_pixels: Annotated[
        bool,
        typer.Option(
            "--whole-pixels",
            help="Round positions: no pixel is interpolated.",
            rich_help_panel=_OUT,
        ),
    ] = False,
    blend: Annotated[
        float,
        typer.Option(
            "--blend",
            min=0.0,
            max=10000.0,
            metavar="PX",
            help="Width over which an image fades into its neighbours; 0: none.",
            rich_help_panel=_OUT,
        ),
    ] = 10.0,
    pixel_um: Annotated[
        float | None,
        typer.Option(
            "--pixel-um", min=1e-4, max=1e6, help="Pixel size to write.", rich_help_panel=_OUT
        ),
    ] = None,
    save_positions: Annotated[
        Path | None,
        typer.Option(
            "--save-positions",
            metavar="FILE",
            help="CSV of where each image lies in the mosaic, with its confidence.",
            rich_help_panel=_OUT,
        ),
    ] = None,
    pairs: Annotated[
        bool,
        typer.Option("--pairs", help="Print every match with its SNR.", rich_help_panel=_OUT),
    ] = False,
    no_report: Annotated[
        bool, typer.Option("--no-report", help="Write no report.", rich_help_panel=_OUT)
    ] = False,
    as_json: options.Json = False,
) -> int:
    """Lay plain images (TIFF, PNG, JPEG) as one mosaic: by grid, positions file or the images alone.

    The mosaic has the type and the brightness of the images: nothing is stretched. Colours become grey (the mean of the
    channels). Without --grid and --positions all pairs of images are compared to find which are neighbours; what
    nothing joins is laid out apart, and named.
    """
    from soct.cli.terminal import tell_first_run, words
    from soct.compute import caches
    from soct.compute.threads import available_cpus
    from soct.errors import UsageError

    caches.prepare()
    from soct.tools.montage import MontageOptions, describe, make_montage
    from soct.tools.montage_images import open_images

    if grid is not None and positions is not None:
        raise UsageError("--grid and --positions both say where images lie", expected="one of them")
    if no_match and (positions is None or pairs):
        raise UsageError("--no-match renders a positions file as it is", expected="--positions FILE, without --pairs")  # fmt: skip
    if model != "rigid" and (no_match or whole_pixels):
        raise UsageError(
            f"--model {model} needs matches, and turned images are interpolated",
            expected=f"--model {model} without --no-match and --whole-pixels",
        )
    if out is None and not pairs and save_positions is None:
        raise UsageError(
            "Nothing is asked for", expected="-o OUT, --save-positions FILE or --pairs"
        )
    report = _check_outputs(out, save_positions, no_report)
    found = open_images(images)
    h, w = found.shape
    grey = ", colours as their mean" if any(i.colours > 1 for i in found.images) else ""
    words(f"{len(found)} images of {w} x {h} pixels, {found.dtype}{grey}")
    tell_first_run()
    made = make_montage(
        found,
        MontageOptions(
            grid=grid,
            order=None if order == "auto" else order,  # type: ignore[arg-type]
            corner=None if start == "auto" else start,  # type: ignore[arg-type]
            overlap=overlap,
            positions=positions,
            search_px=search_px,
            match=not no_match,
            whole_pixels=whole_pixels,
            model=model,  # type: ignore[arg-type]
            threads=available_cpus(),
        ),
        tell=words,
        progress=_progress,
    )
    words(*describe(made))
    if save_positions is not None:
        from soct.tools.montage_images import write_positions

        write_positions(save_positions, found.names, made.positions_px, made.placement.confidence)
    if out is not None:
        _write(made, out, report, blend, pixel_um)
    _print(made, [out, report, save_positions], pairs, as_json)
    return 0


def _progress(stage: str) -> Callable[[float], None]:
    from soct.cli.terminal import telling_progress, words

    words(f"{stage} ...")
    return telling_progress()


def _check_outputs(out: Path | None, save_positions: Path | None, no_report: bool) -> Path | None:
    """Refuse outputs that cannot be, before anything is computed; return where the report goes."""
    from soct.tools.montage_output import check_new, stem_of

    report = None
    if out is not None:
        report = None if no_report else out.with_name(f"{stem_of(out)}.html")
        check_new(out, "The mosaic")
    if report is not None:
        check_new(report, "The report")
    if save_positions is not None:
        check_new(save_positions, "The positions file")
    return report


def _write(
    made: Montage, out: Path, report: Path | None, blend: float, pixel_um: float | None
) -> None:
    from soct.tools.montage_output import copies_for, draw_preview, write_mosaic

    copies = copies_for(made.images, made.matrices)
    write_mosaic(
        out,
        made.images,
        made.matrices,
        copies,
        blend=blend,
        pixel_um=pixel_um,
        progress=_progress("rendering"),
    )
    if report is not None:
        from soct.tools.montage_report import write_montage_report

        write_montage_report(made, draw_preview(copies, made.matrices, blend), out, report, blend)


def _print(made: Montage, files: list[Path | None], pairs: bool, as_json: bool) -> None:
    from soct.cli.terminal import data, data_json
    from soct.tools.montage_tables import as_json_object, pair_lines

    if as_json:
        data_json(as_json_object(made, [str(f) for f in files if f is not None]))
        return
    if pairs:
        data(*pair_lines(made))
    data(*(str(f) for f in files if f is not None))
