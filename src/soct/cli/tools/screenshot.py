"""Write a picture of a volume: three orthogonal planes to one scale."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from soct.cli import options


def _numbers(count: int, kind: type) -> Any:
    def parse(text: str) -> tuple[Any, ...]:
        try:
            values = tuple(kind(word) for word in text.split(","))
        except ValueError:
            values = ()
        if len(values) != count:
            raise ValueError(f"{text!r} is not {count} numbers separated by commas")
        return values

    return options.parsed_by(parse)


def command(
    volume: Annotated[Path, typer.Argument(metavar="VOLUME|RUN", help="Volume or run folder.")],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="FILE", help="New PNG; default: beside you, named as VOLUME."
        ),
    ] = None,
    at: Annotated[
        Any,
        typer.Option(
            "--at",
            metavar="Z,Y,X",
            parser=_numbers(3, int),
            help="Planes to show, in voxels of the finest level; default: the middle.",
        ),
    ] = None,
    window: Annotated[
        Any,
        typer.Option(
            "--window",
            metavar="LOW,HIGH",
            parser=_numbers(2, float),
            help="Values shown black and white; default: what the volume says.",
        ),
    ] = None,
    size: Annotated[
        int,
        typer.Option("--size", metavar="PX", min=100, max=8000, help="Pixels of the longest side."),
    ] = 1100,
) -> int:
    """Write a picture of a volume: three orthogonal planes to one scale.

    It shows a scale bar, the letters of the orientation, where slices begin, which planes were interpolated
    (blue) and where slices were left out (red).
    """
    from soct.cli.terminal import data
    from soct.errors import UsageError
    from soct.formats.conversion import new_place
    from soct.formats.images import write_png
    from soct.pipeline.folder.run_volume import find_volume
    from soct.report.screenshot import draw_views, take_views

    if window is not None and not window[0] < window[1]:
        raise UsageError("A window needs a smaller and a larger value", found=f"{window}")
    path = find_volume(volume)
    name = path.resolve().name.removesuffix(".zarr").removesuffix(".ome")
    target = out or Path(f"{name}_screenshot.png")
    if target.suffix.lower() != ".png":
        raise UsageError(
            "Pictures are written as PNG", file=target, expected="a name ending in .png"
        )
    views = take_views(path, at=at, window=window, longest_px=size)
    picture = draw_views(views, name, longest_px=size)
    with new_place(target) as place:
        write_png(place, picture)
    data(str(target))
    return 0
