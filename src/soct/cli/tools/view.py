"""Look at a volume in napari, or in neuroglancer through a server on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from soct.formats.ngff import Image


def command(
    volume: Annotated[Path, typer.Argument(metavar="VOLUME|RUN", help="OME-Zarr or run folder.")],
    napari: Annotated[
        bool, typer.Option("--napari", help="Start napari (extra `viewer`).")
    ] = False,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Port of the server; 0: any free one.")
    ] = 0,
    print_only: Annotated[
        bool, typer.Option("--print-only", help="Print what would be started, and end.")
    ] = False,
) -> int:
    """Look at a volume in napari, or in neuroglancer through a server on this machine.

    Without --napari the volume is served on 127.0.0.1 until Ctrl-C: read-only, that folder alone, and readable
    only by the page whose address is printed. That page comes from the network; the data stay on this machine.
    """
    import shlex

    from soct.cli.terminal import data, words
    from soct.errors import UsageError
    from soct.formats.ngff import image_window, parse_image
    from soct.formats.store_server import StoreServer, has_napari, neuroglancer_link
    from soct.pipeline.folder.run_volume import find_volume

    path = find_volume(volume)
    image = parse_image(path)
    start_napari = shlex.join(["soct", "view", str(path), "--napari"])
    if napari and not has_napari():
        raise UsageError(
            "napari is not installed",
            expected="the extra `viewer`",
            hint="pip install 'soct[viewer]', or leave out --napari to look with neuroglancer.",
        )
    if napari and not print_only:
        _show_in_napari(path, image, image_window(path))
        return 0
    if has_napari():
        data(start_napari)
    else:
        words("napari: not installed (pip install 'soct[viewer]')")
    try:
        server = StoreServer(path, port)
    except OSError as error:
        raise UsageError(f"Port {port} cannot be opened", found=error.strerror) from None
    with server:
        version = 3 if image.version == "0.5" else 2
        data(neuroglancer_link(server.url, version, image_window(path), path.name))
        if print_only:
            words("With --print-only nothing is served: leave it out to open this address.")
            return 0
        words("Serving until Ctrl-C ...")
        server.serve_forever(poll_interval=0.2)
    return 0


def _show_in_napari(path: Path, image: Image, window: tuple[float, float] | None) -> None:
    """Open all levels in napari, in micrometres, and wait until its window is closed."""
    import napari
    import zarr

    viewer = napari.Viewer(title=path.name)
    viewer.add_image(
        [zarr.open_array(path / level.path, mode="r") for level in image.levels],
        multiscale=True,
        name=path.name,
        scale=image.levels[0].voxel_um,
        translate=image.levels[0].translation_um,
        contrast_limits=window,
    )
    viewer.scale_bar.visible = True
    viewer.scale_bar.unit = "um"
    napari.run()
