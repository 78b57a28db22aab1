"""Small drawn mosaics: one textured scene, cut into images at known places."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage as ndi

SHAPE = (96, 120)


def scene(shape: tuple[int, int], seed: int = 0) -> NDArray[np.float32]:
    """Brightness of 400 to 4000 with detail at several scales."""
    rng = np.random.default_rng(seed)
    image = sum(ndi.gaussian_filter(rng.standard_normal(shape), s) * s for s in (1.0, 2.0, 5.0))
    image = image / image.std()
    return (2000 + 500 * np.clip(image, -3, 3)).astype(np.float32)


def grid_places(rows: int, columns: int, overlap: float = 0.2, seed: int = 1) -> NDArray[np.int64]:
    """Whole-pixel places of a grid in raster order, each up to 3 px off."""
    rng = np.random.default_rng(seed)
    pitch = np.array(SHAPE) * (1 - overlap)
    index = np.array([(r, c) for r in range(rows) for c in range(columns)])
    places = np.rint(index * pitch).astype(int) + rng.integers(-3, 4, (len(index), 2))
    return places - places.min(axis=0)


def cut(picture: NDArray[np.float32], places: NDArray[np.int64]) -> list[NDArray[np.uint16]]:
    h, w = SHAPE
    return [np.rint(picture[y : y + h, x : x + w]).astype(np.uint16) for y, x in places]


def draw_mosaic(
    folder: Path, rows: int, columns: int, overlap: float = 0.2, seed: int = 0
) -> NDArray[np.int64]:
    """Write ``tile1.tif`` ... in raster order; return their places (y, x)."""
    folder.mkdir(parents=True, exist_ok=True)
    places = grid_places(rows, columns, overlap, seed + 1)
    picture = scene(tuple(places.max(axis=0) + SHAPE), seed)
    for number, image in enumerate(cut(picture, places), 1):
        tifffile.imwrite(folder / f"tile{number}.tif", image)
    return places


def write_8bit(path: Path, image: NDArray[np.uint16], *, colour: bool = False) -> None:
    grey = np.clip(image // 16, 0, 255).astype(np.uint8)
    Image.fromarray(np.stack([grey] * 3, axis=2) if colour else grey).save(path)
