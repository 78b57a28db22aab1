"""Write a volume in another format, resolution, orientation or data type."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from soct.cli import options

if TYPE_CHECKING:
    from soct.formats.conversion import Wish
    from soct.formats.volume_sink import VolumeSpec

_FROM = "What is read"
_TO = "What is written"


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(word) for word in text.split(","))
    except ValueError:
        raise ValueError(f"{text!r} is not numbers separated by commas") from None


def _window(text: str) -> tuple[float, ...]:
    values = _numbers(text)
    if len(values) != 2:
        raise ValueError(f"{text!r} is not LOW,HIGH")
    return values


def _voxel(text: str) -> tuple[float, ...]:
    values = _numbers(text)
    values = values * 3 if len(values) == 1 else values
    if len(values) != 3 or not all(0 < v < 1e6 for v in values):
        raise ValueError(f"{text!r} is not Z,Y,X, or one size for all")
    return values


def command(
    volume: Annotated[
        Path,
        typer.Argument(
            metavar="IN",
            help="Run folder, OME-Zarr, Zarr array, NIfTI, NRRD, TIFF, raw tile folder or .oct file.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Argument(
            metavar="OUT",
            help="New file; its ending says the format: .ome.zarr, .zarr, .nii, .nii.gz, .nrrd, .tif. "
            "With --layout bids a new folder.",
        ),
    ],
    level: Annotated[
        int | None,
        typer.Option(
            "--level",
            min=0,
            help="Resolution of an OME-Zarr; 0 is the finest.",
            rich_help_panel=_FROM,
        ),
    ] = None,
    source_voxel_um: Annotated[
        Any,
        typer.Option(
            "--source-voxel-um",
            metavar="Z,Y,X",
            parser=options.parsed_by(_voxel),
            help="Voxel size, where IN does not say it.",
            rich_help_panel=_FROM,
        ),
    ] = None,
    voxel_um: Annotated[
        float | None,
        typer.Option(
            "--voxel-um",
            min=1e-3,
            help="Average blocks of voxels, as long as they are not larger than this.",
            rich_help_panel=_TO,
        ),
    ] = None,
    orientation: Annotated[
        str | None,
        typer.Option(
            "--orientation",
            metavar="[FROM:]TO",
            help="Turn the axes: what z, y and x grow towards, such as PIR:SAR. FROM where IN does not say it.",
            rich_help_panel=_TO,
        ),
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(
            "--dtype", metavar="uint8|uint16|float32", help="Type of voxels.", rich_help_panel=_TO
        ),
    ] = None,
    window: Annotated[
        Any,
        typer.Option(
            "--window",
            metavar="LOW,HIGH",
            parser=options.parsed_by(_window),
            help="Values that become the smallest and the largest integer; default: those IN is shown with.",
            rich_help_panel=_TO,
        ),
    ] = None,
    ngff: Annotated[
        str,
        typer.Option("--ngff", metavar="0.4|0.5", help="Version of OME-Zarr.", rich_help_panel=_TO),
    ] = "0.5",
    labels: Annotated[
        bool,
        typer.Option(
            "--labels",
            help="Voxels are numbers of regions: never average them.",
            rich_help_panel=_TO,
        ),
    ] = False,
    layout: Annotated[
        str,
        typer.Option(
            "--layout",
            metavar="file|bids",
            help="bids: OUT becomes a BIDS microscopy derivative that holds the volume.",
            rich_help_panel=_TO,
        ),
    ] = "file",
) -> int:
    """Write a volume in another format, resolution, orientation or data type.

    The volume is streamed, so it may be larger than memory when IN is a Zarr store. OUT is read back and
    compared before it appears under its name, and an existing OUT is never overwritten.
    """
    from soct.cli.terminal import data
    from soct.compute import caches
    from soct.errors import UsageError

    caches.prepare()
    from soct.formats.conversion import Wish, convert
    from soct.pipeline.folder.run_volume import find_volume
    from soct.space import Voxel

    for name, value, allowed in (
        ("--dtype", dtype, (None, "uint8", "uint16", "float32")),
        ("--ngff", ngff, ("0.4", "0.5")),
        ("--layout", layout, ("file", "bids")),
    ):
        if value not in allowed:
            known = ", ".join(str(a) for a in allowed if a)
            raise UsageError(f"{name} is not known", expected=known, found=str(value))
    before, _, after = (orientation or "").rpartition(":")
    wish = Wish(
        level=level,
        target_um=voxel_um,
        source_voxel_um=None if source_voxel_um is None else Voxel(*source_voxel_um),
        source_orientation=before or None,
        orientation=after or None,
        dtype=dtype,
        window=window,
        labels=labels,
    )
    if layout == "bids":
        data(str(_write_bids(volume, out, wish)))
        return 0
    spec = convert(find_volume(volume), out, wish, ngff=ngff)
    _tell(spec, out)
    data(str(out))
    return 0


def _write_bids(volume: Path, out: Path, wish: Wish) -> Path:
    from soct.formats.bids import write_bids
    from soct.formats.conversion import Wish, prepare
    from soct.pipeline.folder.run_folder import read_run
    from soct.pipeline.folder.run_volume import find_volume

    path = find_volume(volume)
    run = read_run(volume) if path != volume else None
    name = path.name.removesuffix(".zarr").removesuffix(".ome")
    subject = run.subject if run is not None else name
    report = volume / f"{subject}_quality_report.html" if run is not None else None
    plain = wish == Wish() and path.is_dir()
    source = None if plain else prepare(path, wish)
    return write_bids(path, out, subject, source=source, report=report)


def _tell(spec: VolumeSpec, out: Path) -> None:
    from soct.cli.terminal import words

    size = " x ".join(str(n) for n in spec.shape)
    voxel = " x ".join(f"{v:g}" for v in spec.voxel_um)
    where = spec.orientation or "orientation not known"
    words(f"(z, y, x) = {size} {spec.dtype}, voxels of {voxel} um, {where}: written and compared")
