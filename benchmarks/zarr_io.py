"""Writing and reading a volume: soct, plain zarr-python, and the bare disk, in the same run.

    python benchmarks/zarr_io.py [--mebibytes 256] [--threads 2] [--folder DIR] [--json FILE]

The data are speckle-like float32. Every variant writes the same shards and chunks with crc32c, is read back
whole, and is compared. The pyramid is that of the final volume, with its validity label.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec

from soct.compute.threads import limited
from soct.formats.mosaic_grid import MosaicGridWriter, open_mosaic_grid
from soct.formats.ome_zarr import PyramidWriter, create_volume, open_volume
from soct.space import Voxel

VOXEL = Voxel(10, 10, 10)


def speckle(mebibytes: int) -> np.ndarray:
    edge = max(64, round((mebibytes * (1 << 20) / 4 / 256) ** 0.5 / 64) * 64)
    rng = np.random.default_rng(0)
    data = rng.standard_exponential((256, edge, edge), dtype=np.float32)
    data *= np.exp(-np.arange(256, dtype=np.float32) / 100)[:, None, None]
    return data


def timed(function: Callable[[], object], name: str = "read") -> dict[str, float]:
    """Return wall and processor seconds; the latter hardly depend on what else the machine does."""
    wall, processor = time.perf_counter(), time.process_time()
    function()
    return {
        f"{name}_s": time.perf_counter() - wall,
        f"{name}_cpu_s": time.process_time() - processor,
    }


def measure_soct(data: np.ndarray, path: Path, codec: str, threads: int) -> dict[str, float]:
    def write() -> None:
        with create_volume(path, data.shape, VOXEL, codec=codec, threads=threads) as writer:
            writer.write((0, 0, 0), data)

    seconds = timed(write, "write")
    reader = open_volume(path, threads=threads)
    seconds |= timed(lambda: np.testing.assert_array_equal(reader.read()[::50], data[::50]))
    seconds |= timed(lambda: reader.read((100, 101)), "plane")
    return seconds


def measure_zarr(
    data: np.ndarray,
    path: Path,
    codec: str,
    shards: tuple[int, ...],
    chunks: tuple[int, ...],
    threads: int,
) -> dict[str, float]:
    zarr.config.set({"threading.max_workers": threads, "async.concurrency": threads})
    compressors = [Crc32cCodec()] if codec == "none" else [ZstdCodec(level=1), Crc32cCodec()]
    group = zarr.create_group(str(path))
    array = group.create_array(
        "0",
        shape=data.shape,
        dtype="float32",
        chunks=chunks,
        shards=shards,
        compressors=compressors,
    )
    seconds = timed(lambda: array.__setitem__(..., data), "write")
    seconds |= timed(lambda: np.testing.assert_array_equal(array[:][::50], data[::50]))
    seconds |= timed(lambda: array[100], "plane")
    return seconds


def measure_disk(data: np.ndarray, path: Path) -> dict[str, float]:
    def write() -> None:
        with path.open("wb") as file:
            data.tofile(file)
            os.fsync(file.fileno())

    return timed(write, "write") | timed(lambda: np.fromfile(path, np.float32))


def measure_pyramid(data: np.ndarray, path: Path, codec: str, threads: int) -> dict[str, float]:
    valid = np.ones(data.shape, bool)

    def write() -> None:
        with PyramidWriter(path, data.shape, VOXEL, codec=codec, threads=threads) as writer:
            for z in range(0, len(data), writer.band_planes):
                band = slice(z, z + writer.band_planes)
                writer.append(data[band], valid[band])

    with limited(threads):
        return timed(write, "write")


def measure_grid(data: np.ndarray, path: Path, threads: int) -> dict[str, float]:
    n = 64
    rows, cols = data.shape[1] // n, data.shape[2] // n
    tiles = {
        (r, c): np.ascontiguousarray(data[:, r * n : r * n + n, c * n : c * n + n])
        for r in range(rows)
        for c in range(cols)
    }

    def write() -> None:
        with MosaicGridWriter(
            path, rows, cols, (len(data), n, n), VOXEL, threads=threads
        ) as writer:
            for key in writer.tile_order():
                writer.write_tile(*key, tiles[key])

    def read() -> None:
        grid = open_mosaic_grid(path, threads=threads)
        for key, tile in tiles.items():
            assert grid.read_tile(*key)[0, 0, 0] == tile[0, 0, 0]

    return timed(write, "write") | timed(read)


def run(mebibytes: int, threads: int, folder: Path, repeats: int) -> list[dict[str, object]]:
    data = speckle(mebibytes)
    small = data[:64, :128, :128]
    measure_pyramid(np.ascontiguousarray(small), folder / "warm.ome.zarr", "none", threads)
    with create_volume(folder / "layout.ome.zarr", data.shape, VOXEL) as writer:
        shards = writer.shards
    chunks = open_volume(folder / "layout.ome.zarr").chunks
    variants: dict[str, Callable[[Path], dict[str, float]]] = {
        "bare file, fsync": lambda p: measure_disk(data, p),
        "soct none": lambda p: measure_soct(data, p, "none", threads),
        "soct zstd": lambda p: measure_soct(data, p, "zstd", threads),
        "zarr-python none": lambda p: measure_zarr(data, p, "none", shards, chunks, threads),
        "zarr-python zstd": lambda p: measure_zarr(data, p, "zstd", shards, chunks, threads),
        "soct pyramid none": lambda p: measure_pyramid(data, p, "none", threads),
        "soct pyramid zstd": lambda p: measure_pyramid(data, p, "zstd", threads),
        "soct mosaic grid": lambda p: measure_grid(data, p, threads),
    }
    results = []
    for name, measure in variants.items():
        best: dict[str, float] = {}
        for number in range(repeats):
            path = folder / f"{number}.ome.zarr"
            for key, value in measure(path).items():
                best[key] = min(best.get(key, np.inf), value)
            path.unlink() if path.is_file() else shutil.rmtree(path)
        gigabytes = data.nbytes / 1e9
        rates = {
            "write_gb_s": gigabytes / best["write_s"],
            "read_gb_s": gigabytes / best["read_s"] if "read_s" in best else None,
            "write_s_per_gb": best["write_s"] / gigabytes,
            "write_cpu_s_per_gb": best["write_cpu_s"] / gigabytes,
            "plane_ms": 1e3 * best["plane_s"] if "plane_s" in best else None,
        }
        results.append({"variant": name, **best, **rates})
    return results


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--mebibytes", type=int, default=256)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where to write (a temporary folder)")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        results = run(options.mebibytes, options.threads, Path(folder), options.repeats)
    columns = ("write_gb_s", "read_gb_s", "plane_ms", "write_s_per_gb", "write_cpu_s_per_gb")
    print(f"{'variant':20s}" + "".join(f"{name:>20s}" for name in columns))
    for row in results:
        texts = ("" if row[name] is None else f"{row[name]:.2f}" for name in columns)
        print(f"{row['variant']:20s}" + "".join(f"{text:>20s}" for text in texts))
    if options.json:
        options.json.write_text(
            json.dumps(
                {
                    "options": {"mebibytes": options.mebibytes, "threads": options.threads},
                    "results": results,
                },
                indent=2,
            )
        )


if __name__ == "__main__":
    main()
