"""Fusing tiles into a volume on disk, and its pyramid: soct, and multiview-stitcher from an environment of its own.

    python benchmarks/fusion.py [--threads 2] [--repeat 3] [--folder DIR] [--peer-python PYTHON] [--json OUT]

16 tiles of 128 x 256 x 256 float32 at sub-pixel positions (15 % overlap, about 0.43 GB out) are fused with linear
interpolation and feathered seams, as the peer does, and written uncompressed as zarr v3. Extra memory is the
high-water mark of the process above the tiles themselves, in slabs (bands of one shard's rows of the output).
The same volume is then written with its pyramid (five levels), whose means are compared with numpy's.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from soct.compute.threads import limited
from soct.formats.ome_zarr import create_volume, open_volume
from soct.formats.pyramid import PyramidWriter
from soct.mosaic.rendering import BandRenderer, plan_bands
from soct.space import Voxel

VOXEL = Voxel(10.0, 10.0, 10.0)
SHAPE = (128, 256, 256)
GRID = 4

PEER = """
import json, sys, time
import dask, numpy as np, zarr
from multiview_stitcher import fusion, spatial_image_utils as si_utils
tiles = np.load(sys.argv[1], mmap_mode="r")
at = np.load(sys.argv[2])
sims = [
    si_utils.get_sim_from_array(
        np.asarray(t)[None, None], dims=["t", "c", "z", "y", "x"],
        scale={"z": 1.0, "y": 1.0, "x": 1.0},
        translation={"z": 0.0, "y": float(p[0]), "x": float(p[1])},
        transform_key="stage",
    )
    for t, p in zip(tiles, at)
]
start = time.perf_counter()
fused = fusion.fuse(sims, transform_key="stage", output_chunksize={"z": 128, "y": 256, "x": 256})
with dask.config.set(scheduler="threads", num_workers=int(sys.argv[4])):
    fused.data.squeeze().rechunk((128, 256, 256)).to_zarr(sys.argv[3])
print(json.dumps({"seconds": time.perf_counter() - start, "shape": fused.shape[-3:]}))
"""


def make_tiles(seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Tiles of noise with a sub-pixel place each."""
    rng = np.random.default_rng(seed)
    tiles = rng.random((GRID * GRID, *SHAPE), dtype=np.float32) + np.float32(0.5)
    step = 0.85 * SHAPE[1]
    at = np.array([(r * step, c * step) for r in range(GRID) for c in range(GRID)])
    return tiles, at + rng.uniform(0.0, 1.0, at.shape)


class PeakMemory:
    """Highest resident memory of this process while the block runs, sampled every 2 ms."""

    def __enter__(self) -> PeakMemory:
        self._process = psutil.Process()
        self.before = self.peak = self._process.memory_info().rss
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._stop.wait(0.002):
            self.peak = max(self.peak, self._process.memory_info().rss)

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()


def fuse(
    tiles: NDArray[np.float32], at: NDArray[np.float64], path: Path | None, threads: int
) -> dict[str, float]:
    """Fuse into a volume on disk, band by band; into memory that is thrown away without a path."""
    plan = plan_bands(at, SHAPE[1:])
    shape = (SHAPE[0], *plan.shape)
    renderer = BandRenderer(plan, tiles.__getitem__, blending="feather", interpolation="linear")
    rows = 128
    writer = None
    with limited(threads), PeakMemory() as memory:
        wall, processor = time.perf_counter(), time.process_time()
        if path is not None:
            writer = create_volume(path, shape, VOXEL, threads=threads)
            rows = writer.shards[1]
            writer.__enter__()
        for y0 in range(0, shape[1], rows):
            band = renderer.render(y0, min(y0 + rows, shape[1]))
            if writer is not None:
                np.nan_to_num(band, copy=False)
                writer.write((0, y0, 0), band)
            del band  # or two bands are held while the next is rendered
        if writer is not None:
            writer.write_valid(
                np.stack([np.zeros(plan.shape, np.int16), np.full(plan.shape, SHAPE[0], np.int16)])
            )
            writer.__exit__(None, None, None)
        seconds = time.perf_counter() - wall
        spent = time.process_time() - processor
    size = 4.0 * np.prod(shape)
    slab = 4.0 * shape[0] * rows * shape[2]
    return {
        "seconds": seconds,
        "cpu_s": spent,
        "gb": size / 1e9,
        "gb_per_s": size / 1e9 / seconds,
        "extra_slabs": (memory.peak - memory.before) / slab,
        "rows": float(rows),
    }


def measure_pyramid(source: Path, path: Path, threads: int) -> dict[str, float]:
    """Write the volume with its pyramid, and compare the means of one level with numpy's."""
    volume = open_volume(source, threads=threads)
    data = volume.read()
    valid = data > 0
    with limited(threads):
        wall, processor = time.perf_counter(), time.process_time()
        with PyramidWriter(path, data.shape, VOXEL, (20, 40, 80, 160), threads=threads) as writer:
            for z in range(0, len(data), 32):
                writer.append(data[z : z + 32], valid[z : z + 32])
        seconds, spent = time.perf_counter() - wall, time.process_time() - processor
    n, h, w = (size // 4 * 4 for size in data.shape)
    blocks = data[:n, :h, :w].reshape(n // 4, 4, h // 4, 4, w // 4, 4)
    number = (blocks > 0).sum(axis=(1, 3, 5))
    expected = blocks.sum(axis=(1, 3, 5), dtype=np.float64) / np.maximum(number, 1)
    found = open_volume(path, level=2, threads=threads).read()[: n // 4, : h // 4, : w // 4]
    return {
        "seconds": seconds,
        "cpu_s": spent,
        "s_per_gb": seconds / (data.nbytes / 1e9),
        "greatest_error": float(np.abs(found - expected).max()),
    }


def run_peer(
    python: Path, tiles: NDArray[np.float32], at: NDArray[np.float64], folder: Path, jobs: int
) -> dict[str, Any]:
    """Fuse with multiview-stitcher in its own environment."""
    np.save(folder / "tiles.npy", tiles)
    np.save(folder / "at.npy", at)
    script = folder / "peer.py"
    script.write_text(textwrap.dedent(PEER))
    out = folder / "peer.zarr"
    command = [python, script, folder / "tiles.npy", folder / "at.npy", out, str(jobs)]
    done = subprocess.run(
        [str(c) for c in command], capture_output=True, text=True, timeout=1800, check=False
    )
    if done.returncode:
        return {"skipped": (done.stderr.strip().splitlines() or ["no message"])[-1]}
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--peer-python", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        tiles, at = make_tiles()
        fuse(tiles, at, None, options.threads)  # compiles
        processor = time.process_time()
        np.copyto(np.empty_like(tiles), tiles)
        copied = time.process_time() - processor
        results["yardstick"] = {"cpu_s": copied}
        print(f"yardstick: copying the {tiles.nbytes / 1e9:.2f} GB of tiles takes {copied:.2f} s")
        for label, path in (("in memory", None), ("to disk", folder / "fused.ome.zarr")):
            runs = []
            for _ in range(options.repeat):
                if path is not None:
                    shutil.rmtree(path, ignore_errors=True)
                runs.append(fuse(tiles, at, path, options.threads))
            best = min(runs, key=lambda r: r["seconds"])
            best["extra_slabs"] = max(r["extra_slabs"] for r in runs)
            results[f"fusion {label}"] = best
            print(
                f"soct, {label:10}{best['gb']:.2f} GB in {best['seconds']:.2f} s "
                f"({best['cpu_s']:.2f} s of processors): {best['gb_per_s']:.2f} GB/s, "
                f"{best['extra_slabs']:.1f} slabs of {best['rows']:.0f} rows beside the tiles",
                flush=True,
            )
        pyramids = []
        for _ in range(options.repeat):
            shutil.rmtree(folder / "pyramid.ome.zarr", ignore_errors=True)
            pyramids.append(
                measure_pyramid(
                    folder / "fused.ome.zarr", folder / "pyramid.ome.zarr", options.threads
                )
            )
        best = min(pyramids, key=lambda r: r["seconds"])
        results["pyramid"] = best
        print(
            f"pyramid, five levels: {best['seconds']:.2f} s ({best['cpu_s']:.2f} s of processors), "
            f"{best['s_per_gb']:.1f} s/GB, greatest error of a mean {best['greatest_error']:.1e}"
        )
        if options.peer_python is None or not options.peer_python.exists():
            print("multiview-stitcher: skipped, no --peer-python with it")
        else:
            peer = run_peer(options.peer_python, tiles, at, folder, options.threads)
            results["multiview-stitcher"] = peer
            if "skipped" in peer:
                print(f"multiview-stitcher: skipped, {peer['skipped']}")
            else:
                ratio = peer["seconds"] / results["fusion to disk"]["seconds"]
                print(f"multiview-stitcher: {peer['seconds']:.1f} s, {ratio:.0f} times as long")
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
