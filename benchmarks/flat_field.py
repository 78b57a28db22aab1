"""Flat field of a textured mosaic: error and time of soct's methods, of BaSiCPy, and of averages.

The mosaics come from ``gen_mosaic.py`` of the reference benchmarks, which knows the true flat field; without it
the benchmark says so and ends. BaSiCPy runs in an environment of its own (``--peer-python PATH``); its time is that of
the fit, without its import. With ``--tiles FOLDER`` the seams of real tiles are compared too, before and after.
Run ``python benchmarks/flat_field.py [--json FILE] [--generator FILE] [--peer-python PATH] [--tiles FOLDER]``.

Error: standard deviation of estimate / truth, in percent. 100 tiles of 256^2.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from skimage import io

from soct.intensity.illumination import correct_illumination, estimate_illumination
from soct.quality.seams import measure_seams

Method = Callable[[Any, Any], Any]


def load_generator(path: Path) -> ModuleType | None:
    """Import the mosaic generator from its file; None where it is absent."""
    spec = importlib.util.spec_from_file_location("gen_mosaic", path)
    if not path.is_file() or spec is None or spec.loader is None:
        return None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def list_methods() -> dict[str, Method]:
    """Name every method that can run here."""
    methods: dict[str, Method] = {
        "soct basic + overlaps": lambda t, p: estimate_illumination(t, positions_px=p).flat,
        "soct basic": lambda t, _: estimate_illumination(t).flat,
        "soct median": lambda t, _: estimate_illumination(t, method="median").flat,
        "soct mean": lambda t, _: estimate_illumination(t, method="mean").flat,
    }
    return methods


PEER = """
import sys, time
import numpy as np
from basicpy import BaSiC
tiles = np.load(sys.argv[1])
model = BaSiC(get_darkfield=False)
start = time.perf_counter()
model.fit(tiles)
np.savez(sys.argv[2], flat=np.asarray(model.flatfield), seconds=time.perf_counter() - start)
"""


def run_peer(python: Path, tiles: Any) -> tuple[Any, float]:
    """Fit BaSiCPy in another environment; return its flat field and the seconds of the fit."""
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder) / "tiles.npy", Path(folder) / "flat.npz"
        np.save(given, tiles.astype(np.float32))
        subprocess.run(
            [str(python), "-c", PEER, str(given), str(made)], check=True, capture_output=True
        )
        with np.load(made) as saved:
            return saved["flat"], float(saved["seconds"])


def measure_tiles(folder: Path) -> list[dict[str, Any]]:
    """Compare the seams of real tiles before and after each method (names and places as in MIST's lists)."""
    text = (folder / "TileConfiguration.txt").read_text()
    listed = re.findall(r"^(\S+\.tif).*\(([\d.-]+), *([\d.-]+)\)", text, re.MULTILINE)
    tiles = np.stack([io.imread(folder / name) for name, _, _ in listed]).astype(np.float32)
    column = np.array([round(float(x) / 460) for _, x, _ in listed])
    row = np.array([round(float(y) / 460) for _, _, y in listed])
    positions = np.stack([461 * row + 8 * column, 461 * column - 8 * row], axis=1).astype(float)
    rows = []
    for name, options in (
        ("soct basic + overlaps", {"positions_px": positions}),
        ("soct median", {"method": "median"}),
        ("soct mean", {"method": "mean"}),
    ):
        start = time.perf_counter()
        found = estimate_illumination(tiles, **options)
        seconds = time.perf_counter() - start
        voting = found.weights > 0
        pair = [
            measure_seams(t[voting], positions[voting], smoothing_px=2)
            for t in (tiles, correct_illumination(tiles, found))
        ]
        rows.append({"method": name, "s": seconds, "before": pair[0].shading, "after": pair[1].shading})  # fmt: skip
        print(
            f"tiles     {name:22} seam step {100 * pair[0].shading:5.2f} -> {100 * pair[1].shading:5.2f} %"
            f"  {seconds:6.2f} s",
            flush=True,
        )
    return rows


def time_best(method: Method, tiles: Any, positions: Any) -> tuple[Any, float, float]:
    """Return a flat field, and the least elapsed and processor time of three (all threads together)."""
    seconds, cpu = [], []
    for _ in range(3):
        start, used = time.perf_counter(), time.process_time()
        flat = method(tiles, positions)
        seconds.append(time.perf_counter() - start)
        cpu.append(time.process_time() - used)
    return flat, min(seconds), min(cpu)


def measure_error(flat: Any, truth: Any) -> float:
    ratio = np.asarray(flat) / truth
    return float(100 * (ratio / ratio.mean()).std())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    shared = Path(os.environ.get("SOCT_SHARED", Path(__file__).parents[2] / "shared"))
    parser.add_argument("--generator", type=Path, default=shared / "bench" / "gen_mosaic.py")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--peer-python", type=Path)
    parser.add_argument("--tiles", type=Path)
    arguments = parser.parse_args()
    generator = load_generator(arguments.generator)
    if generator is None:
        print(f"skipped: there is no mosaic generator at {arguments.generator}")
        return 0
    rows = []
    warm = generator.make_mosaic(3, 3, (256, 256), seed=9)
    estimate_illumination(warm[0], positions_px=warm[1])
    if arguments.peer_python is None or not arguments.peer_python.is_file():
        print("BaSiCPy skipped: no --peer-python with that library")
    for variant in ("easy", "hard"):
        for seed in range(arguments.seeds):
            tiles, nominal, _, meta = generator.make_mosaic(
                10, 10, (256, 256), seed=seed, variant=variant
            )
            runs = {name: time_best(m, tiles, nominal) for name, m in list_methods().items()}
            if arguments.peer_python is not None and arguments.peer_python.is_file():
                runs["BaSiCPy"] = (*run_peer(arguments.peer_python, tiles), float("nan"))
            for name, (flat, seconds, cpu) in runs.items():
                error = measure_error(flat, meta["flat"])
                rows.append(
                    {"variant": variant, "seed": seed, "method": name, "error": error,
                     "s": seconds, "cpu_s": cpu}
                )  # fmt: skip
                print(
                    f"{variant:5} {seed:2d}  {name:22} {error:6.2f} %  {seconds:6.2f} s"
                    f"  {cpu:6.2f} s of processor",
                    flush=True,
                )
    if arguments.tiles is not None:
        rows += measure_tiles(arguments.tiles)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
