"""Flat field of a textured mosaic: error and time of soct's methods, and of BaSiCPy where it is installed.

The mosaics come from ``gen_mosaic.py`` of the reference benchmarks, which knows the true flat field; without it
the benchmark says so and ends. Run ``python benchmarks/flat_field.py [--json FILE] [--generator FILE]``.

Error: standard deviation of estimate / truth, in percent. 100 tiles of 256^2.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from soct.intensity.illumination import estimate_illumination

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
    if importlib.util.find_spec("basicpy") is not None:
        from basicpy import BaSiC

        def fit_basicpy(tiles: Any, _: Any) -> Any:
            model = BaSiC(get_darkfield=False)
            model.fit(tiles)
            return np.asarray(model.flatfield)

        methods["BaSiCPy"] = fit_basicpy
    return methods


def measure_error(flat: Any, truth: Any) -> float:
    ratio = np.asarray(flat) / truth
    return float(100 * (ratio / ratio.mean()).std())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    shared = Path(os.environ.get("SOCT_SHARED", Path(__file__).parents[2] / "shared"))
    parser.add_argument("--generator", type=Path, default=shared / "bench" / "gen_mosaic.py")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--seeds", type=int, default=2)
    arguments = parser.parse_args()
    generator = load_generator(arguments.generator)
    if generator is None:
        print(f"skipped: there is no mosaic generator at {arguments.generator}")
        return 0
    rows = []
    warm = generator.make_mosaic(3, 3, (256, 256), seed=9)
    estimate_illumination(warm[0], positions_px=warm[1])
    for variant in ("easy", "hard"):
        for seed in range(arguments.seeds):
            tiles, nominal, _, meta = generator.make_mosaic(
                10, 10, (256, 256), seed=seed, variant=variant
            )
            for name, method in list_methods().items():
                start = time.perf_counter()
                flat = method(tiles, nominal)
                seconds = time.perf_counter() - start
                error = measure_error(flat, meta["flat"])
                rows.append(
                    {"variant": variant, "seed": seed, "method": name, "error": error, "s": seconds}
                )
                print(
                    f"{variant:5} {seed:2d}  {name:22} {error:6.2f} %  {seconds:6.2f} s", flush=True
                )
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
