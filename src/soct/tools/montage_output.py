"""A mosaic written band by band, as TIFF or OME-Zarr, of the type and brightness of its images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from soct.errors import UsageError
from soct.formats.tiles import shown
from soct.mosaic.blending import BlendMethod
from soct.mosaic.rendering import BandPlan, BandRenderer, plan_bands
from soct.space import FloatArray
from soct.tools.montage_images import ImageSet

PREVIEW_SIDE = 1400
_BAND_BYTES = 128 << 20
SUFFIXES = (".tif", ".tiff", ".ome.zarr")

Bands = Iterator[FloatArray]


@dataclass(frozen=True)
class Canvas:
    """What a mosaic is made of.

    Attributes
    ----------
    plan : BandPlan
    band_rows : int
        Rows that are rendered at a time.
    """

    plan: BandPlan
    band_rows: int

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.plan.shape


def suffix_of(path: Path) -> str:
    """Return the ending that says what a mosaic is written as.

    Raises
    ------
    UsageError
        It has none that montage writes.
    """
    name = path.name.lower()
    for suffix in SUFFIXES:
        if name.endswith(suffix) and len(name) > len(suffix):
            return suffix
    raise UsageError(
        "The mosaic's name does not say what it is",
        file=shown(path),
        expected="a name that ends with .tif or .ome.zarr",
        found=path.suffix or "no ending",
    )


def stem_of(path: Path) -> str:
    """Return the name of a mosaic without its ending."""
    return path.name[: -len(suffix_of(path))]


def plan_canvas(positions_px: NDArray[np.float64], shape: tuple[int, int]) -> Canvas:
    """Lay images on a canvas, with bands of bounded memory."""
    plan = plan_bands(positions_px, shape)
    rows = max(1, min(plan.shape[0], _BAND_BYTES // (4 * max(plan.shape[1], 1))))
    return Canvas(plan, rows)


def render_bands(
    canvas: Canvas,
    images: ImageSet,
    blending: BlendMethod,
    progress: Callable[[float], None] | None = None,
) -> Bands:
    """Yield the mosaic from top to bottom, ``(rows, columns)``; NaN where no image is."""
    plan = canvas.plan
    whole = bool(np.array_equal(plan.positions_px, np.rint(plan.positions_px)))
    renderer = BandRenderer(
        plan,
        lambda i: images.read(i)[None],
        blending=blending,
        interpolation="nearest" if whole else "cubic",
    )
    total = plan.shape[0]
    for y in range(0, total, canvas.band_rows):
        stop = min(y + canvas.band_rows, total)
        yield renderer.render(y, stop)[0]
        if progress is not None:
            progress(stop / total)


def as_type(band: FloatArray, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return a band in the type of the images: rounded and clipped, 0 where no image is (NaN in floats)."""
    if dtype.kind == "f":
        return band.astype(dtype, copy=False)
    info = np.iinfo(dtype)
    filled = np.where(np.isfinite(band), band, 0.0)
    return np.clip(np.rint(filled), info.min, info.max).astype(dtype)


@dataclass
class Preview:
    """A small copy of the mosaic, summed up while its bands pass."""

    shape: tuple[int, int]
    longest: int = PREVIEW_SIDE

    def __post_init__(self) -> None:
        self.factor = max(1, -(-max(self.shape) // self.longest))
        rows, columns = (-(-n // self.factor) for n in self.shape)
        self._sum = np.zeros((rows, columns))
        self._count = np.zeros((rows, columns))
        self._at = 0

    def take(self, bands: Bands) -> Bands:
        """Pass bands on."""
        for band in bands:
            known = np.isfinite(band)
            lines = (self._at + np.arange(len(band))) // self.factor
            cuts = np.arange(0, band.shape[1], self.factor)
            sums = np.add.reduceat(np.where(known, band, 0.0), cuts, axis=1, dtype=np.float64)
            np.add.at(self._sum, lines, sums)
            np.add.at(self._count, lines, np.add.reduceat(known, cuts, axis=1, dtype=np.int64))
            self._at += len(band)
            yield band

    @property
    def image(self) -> FloatArray:
        """Means over blocks of pixels; NaN where no image is."""
        with np.errstate(invalid="ignore", divide="ignore"):
            mean: FloatArray = (self._sum / self._count).astype(np.float32)
        return mean


def write_tiff(file: IO[bytes], shape: tuple[int, int], dtype: np.dtype[Any], bands: Bands) -> None:
    """Write a plain TIFF (BigTIFF where it is large), uncompressed, in strips, which every program reads."""
    import tifffile

    with tifffile.TiffWriter(
        file, bigtiff=shape[0] * shape[1] * dtype.itemsize > 4_000_000_000, byteorder="<"
    ) as out:
        out.write(
            (as_type(band, dtype) for band in bands),
            shape=shape,
            dtype=dtype,
            photometric="minisblack",
            rowsperstrip=64,
            software="soct",
            metadata=None,
        )
