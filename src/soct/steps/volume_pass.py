"""One pass over the finished volume: read in bands of whole chunks, written as another with the same levels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from soct.errors import StepError
from soct.steps.declaration import Need

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path
    from typing import Any

    from soct.formats.acquisition import Acquisition
    from soct.formats.ome_zarr import VolumeReader
    from soct.space import FloatArray
    from soct.steps.declaration import Context

_WRITERS_OWN = ("kind", "stored", "orientation", "format")


def slice_boundaries(context: Context) -> list[float]:
    """Return the first planes of the slices, empty where the stack does not tell them."""
    import numpy as np

    if not context.has("stack", "figures"):
        return []
    with np.load(context.run("stack", "figures")) as saved:
        return [float(b) for b in saved["z_boundaries"]]


def bands(volume: VolumeReader, memory_bytes: int) -> Iterator[tuple[int, int]]:
    """Yield ranges of planes: whole chunks, as many as fit a sixth of the memory."""
    nz, ny, nx = volume.shape
    height = volume.chunks[0] * max(1, memory_bytes // 6 // (4 * ny * nx * volume.chunks[0]))
    for z0 in range(0, nz, height):
        yield z0, min(z0 + height, nz)


def rewrite_volume(
    context: Context,
    source: VolumeReader,
    change: Callable[[int, FloatArray], FloatArray],
    *,
    codec: Any = "zstd",
    watch: Callable[[int, FloatArray, FloatArray], None] | None = None,
    progress: tuple[float, float] = (0.0, 1.0),
) -> None:
    """Write output ``volume``: the source with every band of planes changed, and all its levels.

    Parameters
    ----------
    context : Context
    source : VolumeReader
        Voxels without data are 0, and stay so.
    change : callable
        ``(first plane, planes) -> planes``.
    codec : str
        Compression.
    watch : callable, optional
        ``(first plane, before, after)`` of every band, for figures.
    progress : tuple of float
        What the unit reports when the pass begins and ends.
    """
    import numpy as np

    from soct.formats.ngff import parse_image
    from soct.formats.ome_zarr import PyramidWriter
    from soct.formats.validation import validate_volume

    levels = parse_image(source.path).levels
    target: Path = context.output("volume")
    attributes = {k: v for k, v in source.attributes.items() if k not in _WRITERS_OWN}
    base = levels[0].voxel_um
    factors = [
        tuple(round(v / b) for v, b in zip(level.voxel_um, base, strict=True)) for level in levels
    ]
    begin, end = progress
    with PyramidWriter(
        target,
        source.shape,
        source.voxel_um,
        attributes=attributes,
        orientation=source.attributes.get("orientation"),
        codec=codec,
        translation_um=source.translation_um,
        threads=context.threads,
        factors=[(f[0], f[1], f[2]) for f in factors],
    ) as writer:
        for z0, z1 in bands(source, context.memory_bytes):
            planes = source.read((z0, z1)).astype(np.float32, copy=False)
            valid = planes > 0
            changed = change(z0, planes)
            writer.append(changed, valid)
            if watch is not None:
                watch(z0, planes, np.where(valid, changed, np.float32(0)))
            context.progress(begin + (end - begin) * z1 / source.shape[0])
    findings = validate_volume(target)
    if findings:
        raise StepError(
            "the volume does not pass validation", file=target, found="; ".join(map(str, findings))
        )


class Views:
    """The middle plane and reslices of a volume before and after, and the brightness of every plane."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        import numpy as np

        nz, ny, nx = shape
        self.at = (nz // 2, ny // 2, nx // 2)
        self.images = {
            name: [np.zeros((ny, nx), np.float32), np.zeros((nz, nx), np.float32)]
            for name in ("before", "after")
        }
        self.ortho_x = np.zeros((nz, ny), np.float32)
        self.brightness = {name: np.full(nz, np.nan) for name in self.images}

    def add(self, z0: int, before: FloatArray, after: FloatArray) -> None:
        """Take a band of planes."""
        import numpy as np

        for name, planes in (("before", before), ("after", after)):
            middle, reslice = self.images[name]
            if z0 <= self.at[0] < z0 + len(planes):
                middle[:] = planes[self.at[0] - z0]
            reslice[z0 : z0 + len(planes)] = planes[:, self.at[1]]
            if name == "after":
                self.ortho_x[z0 : z0 + len(planes)] = planes[:, :, self.at[2]]
            for i, plane in enumerate(planes):
                step = max(1, int(np.sqrt(plane.size / 250_000)))
                seen = plane[::step, ::step]
                seen = seen[seen > 0]
                if seen.size:
                    self.brightness[name][z0 + i] = np.median(seen)

    def arrays(self) -> dict[str, Any]:
        """Return everything under the names of the report."""
        return {
            "before": self.images["before"][0],
            "after": self.images["after"][0],
            "reslice_before": self.images["before"][1],
            "reslice_after": self.images["after"][1],
            "reslice_x_after": self.ortho_x,
            "plane_before": self.brightness["before"],
            "plane_after": self.brightness["after"],
        }


def estimate_pass(
    acquisition: Acquisition, slices: tuple[int, ...], params: Mapping[str, Any]
) -> Need:
    """Size of a volume as large as the stack, and the memory to stream it."""
    from soct.steps.stack import estimate

    stack = estimate(acquisition, slices, params)
    return Need(stack.disk_bytes, stack.memory_bytes + (256 << 20))
