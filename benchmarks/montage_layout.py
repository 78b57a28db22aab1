"""Images of unknown layout: how many are placed, how well and how long it takes, against the known places.

    python benchmarks/montage_layout.py [--images 25 100 300] [--variants easy hard extreme] [--json OUT]

Mosaics come from ``../shared/bench/gen_mosaic.py`` (square grids of 512 x 512, 15 % overlap, shuffled). All pairs are correlated on
copies of 256 x 256 to 128 x 128 pixels (`soct.tools.montage_layout.reduced_side`), groups laid out; then everything as `soct montage` does it from files is not included: reading
and the match at full resolution have their own benchmark (`tile_placement.py`). Wrong: images of the largest group farther than
two reduced pixels from where they belong.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

from tile_placement import load_generator

from soct.geometry.resampling import average_boxes
from soct.mosaic.any_neighbours import all_pairs, common_spectra, correlate_pairs
from soct.mosaic.loose_layout import lay_out
from soct.tools.montage_layout import reduced_side


def measure(generator: Any, variant: str, count: int, seed: int, workers: int) -> dict[str, Any]:
    rows = math.isqrt(count)
    columns = -(-count // rows)
    tiles, _, true, _ = generator.make_mosaic(rows, columns, (512, 512), seed=seed, variant=variant)
    order = np.random.default_rng(seed).permutation(len(tiles))
    true = np.asarray(true, np.float64)[order]
    side = reduced_side(len(order))
    small = np.stack([average_boxes(np.asarray(tiles[i], np.float32), (side, side)) for i in order])
    del tiles
    began = time.perf_counter()
    found = correlate_pairs(
        common_spectra(small, workers=workers), all_pairs(len(small)), workers=workers
    )
    correlated = time.perf_counter()
    layout = lay_out(found, len(small), (side, side))
    done = time.perf_counter()
    largest = layout.group == 0
    error = layout.positions_px[largest] - true[largest] * side / 512
    error -= np.median(error, axis=0)
    wrong = np.hypot(*error.T) > 2.0 * math.sqrt(2)
    return {
        "variant": variant,
        "images": len(small),
        "pairs": len(found.pairs),
        "correlate_s": correlated - began,
        "lay_out_s": done - correlated,
        "placed": int(largest.sum()),
        "wrong": int(wrong.sum()),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", nargs="+", type=int, default=[25, 100, 300])
    parser.add_argument("--variants", nargs="+", default=["easy", "hard", "extreme"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    generator = load_generator()
    if generator is None:
        print("skipped: the mosaic generator is not there")
        return 0
    measure(generator, "easy", 4, 0, options.workers)
    results = []
    print(f"{'variant':9}{'images':>7}{'pairs':>8}{'correlate s':>13}{'lay out s':>11}{'placed':>8}{'wrong':>7}")  # fmt: skip
    for variant in options.variants:
        for count in options.images:
            r = measure(generator, variant, count, options.seed, options.workers)
            print(
                f"{r['variant']:9}{r['images']:7d}{r['pairs']:8d}{r['correlate_s']:13.2f}"
                f"{r['lay_out_s']:11.2f}{r['placed']:8d}{r['wrong']:7d}",
                flush=True,
            )
            results.append(r)
    if options.json:
        options.json.write_text(json.dumps({"results": results}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
