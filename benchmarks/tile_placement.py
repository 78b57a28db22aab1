"""Tile placement on mosaics with known positions: soct against phase correlation and least squares.

    python benchmarks/tile_placement.py [--seeds 0 1] [--variants easy hard extreme] [--repeat 3] [--json OUT]
        [--rows 20 --tile 256] [--peer ashlar=ENV/bin/python ...]

The mosaics come from ``../shared/bench/gen_mosaic.py``: 6 x 6 tiles of 512 x 512, 15 % overlap, start error 4.8 px. One peer
is scikit-image's `phase_cross_correlation` on the nominal overlaps with an unweighted least squares, in the same run;
others (ashlar_s2, m2stitch, mvs, itkmontage) run once per mosaic in an environment of their own, which has them.
Errors are RMS over all tiles after the mean offset, in pixels; times are the best of `--repeat`, compiled (of other
environments: what `stitch_peers.py` measures for the registration alone). The last table is over all seeds.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from soct.mosaic.strips import find_neighbours
from soct.mosaic.tile_placement import TileOptions, place_tiles

GENERATOR = Path(__file__).resolve().parents[2] / "shared" / "bench" / "gen_mosaic.py"
LIMITS = {"easy": 0.02, "hard": 0.02, "extreme": 0.15}


def load_generator() -> ModuleType | None:
    if not GENERATOR.exists():
        return None
    spec = importlib.util.spec_from_file_location("gen_mosaic", GENERATOR)
    if spec is None or spec.loader is None:
        return None
    module = importlib.util.module_from_spec(spec)
    write, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        spec.loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = write
    return module


def place_with_skimage(
    tiles: NDArray[Any], nominal: NDArray[np.float64], shape: tuple[int, int]
) -> NDArray[np.float64]:
    """Phase correlation of nominal overlaps, then least squares: what a careful script does."""
    from skimage.registration import phase_cross_correlation

    pairs = find_neighbours(nominal, shape)
    offsets = np.empty((len(pairs), 2))
    for k, (i, j) in enumerate(pairs):
        step = np.rint(nominal[j] - nominal[i]).astype(int)
        h, w = shape[0] - abs(step[0]), shape[1] - abs(step[1])
        a0, b0 = np.maximum(step, 0), np.maximum(-step, 0)
        first = np.log(tiles[i][a0[0] : a0[0] + h, a0[1] : a0[1] + w] + 1.0)
        second = np.log(tiles[j][b0[0] : b0[0] + h, b0[1] : b0[1] + w] + 1.0)
        window = np.outer(np.hanning(h + 2)[1:-1], np.hanning(w + 2)[1:-1])
        first, second = (window * (a - a.mean()) for a in (first, second))
        shift, _, _ = phase_cross_correlation(first, second, upsample_factor=20, normalization=None)
        offsets[k] = step + shift
    n = len(nominal)
    matrix = np.zeros((len(pairs) + 1, n))
    rows = np.arange(len(pairs))
    matrix[rows, pairs[:, 1]] = 1.0
    matrix[rows, pairs[:, 0]] = -1.0
    matrix[-1] = 1.0 / n
    target = np.vstack([offsets, nominal.mean(axis=0)])
    return np.linalg.lstsq(matrix, target, rcond=None)[0]


def best_time(call: Callable[[], Any], repeat: int) -> tuple[Any, float]:
    times, result = [], None
    for _ in range(repeat):
        start = time.perf_counter()
        result = call()
        times.append(time.perf_counter() - start)
    return result, min(times)


def run_peer(method: str, python: str, mosaic: Path) -> dict[str, Any]:
    """Run one stitcher in its own environment; its error is told, never hidden."""
    script = GENERATOR.with_name("stitch_peers.py")
    done = subprocess.run(
        [python, "-B", str(script), method, str(mosaic)],
        capture_output=True,
        text=True,
        check=False,
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
    )
    for line in done.stdout.splitlines():
        if line.startswith("RESULT "):
            found: dict[str, Any] = json.loads(line.removeprefix("RESULT "))
            if "rms_px" in found:
                return found
    lines = (done.stderr or done.stdout).strip().splitlines()
    print(f"{'':22}{method} failed: {lines[-1] if lines else 'it printed nothing'}", flush=True)
    return {"reg_s": float("nan"), "rms_px": float("nan"), "max_px": float("nan")}


def summarise(results: list[dict[str, Any]]) -> None:
    """Print median and worst over the seeds."""
    print(
        f"\n{'variant':9}{'method':32}{'seeds':>6}{'s, median':>11}{'rms px, median':>16}{'worst':>9}"
    )
    rows = dict.fromkeys((r["variant"], r["method"]) for r in results)
    for variant, method in rows:
        these = [r for r in results if (r["variant"], r["method"]) == (variant, method)]
        seconds, rms = ([r[key] for r in these] for key in ("seconds", "rms_px"))
        good = [value for value in rms if np.isfinite(value)]
        print(
            f"{variant:9}{method:32}{len(good):3d}/{len(these):<3d}{np.nanmedian(seconds):10.3f}"
            f"{np.median(good) if good else np.nan:16.4f}{max(good) if good else np.nan:9.4f}"
        )


def measure(
    generator: ModuleType,
    variant: str,
    seed: int,
    rows: int,
    tile: int,
    repeat: int,
    workers: int,
    peers: dict[str, str],
) -> list[dict[str, Any]]:
    tiles, nominal, true, meta = generator.make_mosaic(
        rows, rows, (tile, tile), seed=seed, variant=variant
    )
    shape = (tile, tile)

    def load(i: int) -> Any:
        return tiles[i]

    coarse = TileOptions(refine=None)
    place_tiles(load, nominal, shape, workers=workers)
    runs: dict[str, Callable[[], Any]] = {
        "soct": lambda: place_tiles(load, nominal, shape, workers=workers).positions_px,
        "soct, not refined": lambda: (
            place_tiles(load, nominal, shape, coarse, workers=workers).positions_px
        ),
        "scikit-image + least squares": lambda: place_with_skimage(tiles, nominal, shape),
    }
    out = []
    for name, call in runs.items():
        positions, seconds = best_time(call, repeat)
        error = generator.position_error(positions, true)
        out.append(
            {
                "variant": variant,
                "seed": seed,
                "tiles": rows * rows,
                "tile_px": tile,
                "method": name,
                "seconds": seconds,
                "rms_px": error["rms_px"],
                "max_px": error["max_px"],
                "limit_px": LIMITS[variant],
            }
        )
    with tempfile.TemporaryDirectory() as scratch:
        mosaic = Path(scratch) / "mosaic.npz"
        if peers:
            np.savez(mosaic, tiles=tiles, nominal=nominal, true=true, **meta)
        for method, python in peers.items():
            found = run_peer(method, python, mosaic)
            peer = {"method": method, "seconds": found["reg_s"]}
            out.append(out[0] | peer | {key: found[key] for key in ("rms_px", "max_px")})
    return out


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--variants", nargs="+", default=list(LIMITS), choices=list(LIMITS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--rows", type=int, default=6)
    parser.add_argument("--tile", type=int, default=512)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--peer", nargs="*", default=[], metavar="METHOD=PYTHON")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    generator = load_generator()
    if generator is None:
        print(f"skipped: the mosaic generator is not there ({GENERATOR.name})")
        return 0
    results: list[dict[str, Any]] = []
    print(f"{'variant':9}{'seed':>5}{'tiles':>6}  {'method':30}{'s':>8}{'rms px':>9}{'max px':>9}")
    for variant in options.variants:
        for seed in options.seeds:
            lines = measure(
                generator,
                variant,
                seed,
                options.rows,
                options.tile,
                options.repeat,
                options.workers,
                dict(peer.split("=", 1) for peer in options.peer),
            )
            for r in lines:
                print(
                    f"{r['variant']:9}{r['seed']:5d}{r['tiles']:6d}  {r['method']:30}"
                    f"{r['seconds']:8.3f}{r['rms_px']:9.4f}{r['max_px']:9.3f}",
                    flush=True,
                )
            results += lines
    summarise(results)
    if options.json:
        options.json.write_text(json.dumps({"results": results}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
