"""Tile placement on real microscope tiles: a mosaic whose truth is exact, and a brain section half of it blank.

    python benchmarks/real_tiles.py [--shared ../shared] [--json OUT]

``tiles_mist_exact``: 25 phase-contrast tiles with about 6 % overlap, cut from one image, so that whole-pixel positions
are exact (NIST). ``tiles_brain_wsi``: 63 tiles of a stained mouse-brain section with strong shading; where there is
tissue the offsets between neighbours were measured by brute force, elsewhere the grid vectors of the stage hold.
The folders say in SOURCE.txt where they come from.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from skimage import io

from soct.mosaic.placement import Placement
from soct.mosaic.tile_placement import place_tiles

TISSUE_NCC = 0.7
LISTED = re.compile(r"^(\S+\.tif).*\(([\d.-]+), *([\d.-]+)\)", re.MULTILINE)


@dataclass(frozen=True)
class RealMosaic:
    """Tiles, where the stage says they are, and where they are; all ``(y, x)`` pixels."""

    names: list[str]
    tiles: NDArray[np.float32]
    nominal_px: NDArray[np.float64]
    true_px: NDArray[np.float64]


def read_exact(folder: Path, overlap: float = 0.06) -> RealMosaic:
    """Tiles of the exact mosaic; the stage is the regular grid of the stated overlap."""
    truth = json.loads((folder / "derived_exact_truth.json").read_text())
    names = sorted(truth)
    tiles = np.stack([io.imread(folder / name) for name in names]).astype(np.float32)
    step = np.array(tiles.shape[1:]) * (1.0 - overlap)
    index = np.array([(truth[n]["row"], truth[n]["col"]) for n in names], np.float64)
    true = np.array([(truth[n]["y"], truth[n]["x"]) for n in names], np.float64)
    return RealMosaic(names, tiles, np.rint(index * step), true)


def read_brain(folder: Path) -> RealMosaic:
    """Tiles of the brain section; the stage steps 460 px, the camera is turned by a degree against it."""
    listed = LISTED.findall((folder / "TileConfiguration.txt").read_text())
    names = [name for name, _, _ in listed]
    tiles = np.stack([io.imread(folder / name) for name in names]).astype(np.float32)
    nominal = np.array([(float(y), float(x)) for _, x, y in listed])
    row, column = np.rint(nominal / 460.0).T
    true = np.stack([461 * row + 8 * column, 461 * column - 8 * row], axis=1)
    return RealMosaic(names, tiles, nominal, true)


def place(mosaic: RealMosaic, workers: int = 2) -> tuple[Placement, float]:
    """Place a mosaic; also the seconds it took, without compiling."""
    shape = (mosaic.tiles.shape[1], mosaic.tiles.shape[2])
    best = np.inf
    for _ in range(2):
        start = time.perf_counter()
        found = place_tiles(mosaic.tiles.__getitem__, mosaic.nominal_px, shape, workers=workers)
        best = min(best, time.perf_counter() - start)
    return found, best


def measure_exact(mosaic: RealMosaic, placement: Placement) -> dict[str, float]:
    """How many tiles are exact in whole pixels, relative to the first one's mean offset."""
    error = placement.positions_px - mosaic.true_px
    error = error - np.median(error, axis=0)
    return {
        "tiles": float(len(error)),
        "exact": float(np.count_nonzero((np.rint(error) == 0).all(axis=1))),
        "rms_px": float(np.sqrt((error**2).sum(axis=1).mean())),
        "max_px": float(np.hypot(*error.T).max()),
    }


def measure_brain(mosaic: RealMosaic, placement: Placement, folder: Path) -> dict[str, float]:
    """Greatest error of an offset between neighbours: where there is tissue, and where there is none."""
    index = {name: i for i, name in enumerate(mosaic.names)}
    vector = {"h": np.array([8.0, 461.0]), "v": np.array([461.0, -8.0])}
    tissue, blank = [], []
    for pair in json.loads((folder / "derived_pairwise_reference.json").read_text()):
        i, j = index[pair["a"]], index[pair["b"]]
        offset = placement.positions_px[j] - placement.positions_px[i]
        error = np.abs(offset - vector[pair["kind"]]).max()
        (tissue if pair["ncc"] > TISSUE_NCC else blank).append(float(error))
    return {
        "tissue_pairs": float(len(tissue)),
        "tissue_max_px": max(tissue),
        "tissue_within_1px": float(np.mean(np.array(tissue) <= 1.0)),
        "tissue_median_px": float(np.median(tissue)),
        "blank_pairs": float(len(blank)),
        "blank_max_px": max(blank),
        "tiles_measured": float(placement.measured.sum()),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    shared = Path(__file__).resolve().parents[2] / "shared"
    parser.add_argument("--shared", type=Path, default=shared)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    results: dict[str, dict[str, float]] = {}
    for name in ("tiles_mist_exact", "tiles_brain_wsi"):
        folder = options.shared / "data" / name
        if not folder.is_dir():
            print(f"{name}: skipped, the tiles are not on this machine")
            continue
        exact = name == "tiles_mist_exact"
        mosaic = read_exact(folder) if exact else read_brain(folder)
        placement, seconds = place(mosaic)
        result = (
            measure_exact(mosaic, placement) if exact else measure_brain(mosaic, placement, folder)
        )
        result["seconds"] = seconds
        results[name] = result
        print(name + ": " + ", ".join(f"{key} {value:.4g}" for key, value in result.items()))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
