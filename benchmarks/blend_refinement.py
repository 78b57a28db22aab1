"""Does taking out what shift is left where slices blend help? One row per limit, on finished runs.

    python benchmarks/blend_refinement.py ACQUISITION RUN [ACQUISITION RUN ...] [--limits 0 50 100]

ACQUISITION is a folder that `soct simulate` wrote, RUN what `soct run` made of its raw tiles. The run is only read:
its slices are stacked anew with each ``stack.max_blend_refinement_um``, and each volume is scored.

- ``ncc``, ``xy_um``, ``cover``: as `soct evaluate`
- ``applied_um``: the longest shift that was taken out
- ``left``: overlaps whose shift was not believed
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from soct.pipeline.single_step import SingleStep, inputs_from_run, run_single_step
from soct.simulate.evaluate import evaluate
from soct.steps.registry import load_step, load_steps


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--limits", nargs="+", type=float, default=[0.0, 50.0, 100.0])
    asked = parser.parse_args()
    step = load_step("stack")
    print(f"{'limit_um':>9}" + "".join(f"{c:>12}" for c in ("ncc", "xy_um", "applied_um", "left")))
    for limit in asked.limits:
        rows = []
        for acquisition, run in zip(asked.folders[::2], asked.folders[1::2], strict=True):
            with tempfile.TemporaryDirectory() as folder:
                (done,) = run_single_step(
                    SingleStep(
                        step,
                        step.params(max_blend_refinement_um=limit),
                        inputs_from_run(step, load_steps(), run),
                        Path(folder),
                    )
                )
                score = evaluate(done.outputs["volume"], acquisition)
                said = {m.name: m.value for m in done.result.metrics}
                rows.append(
                    (
                        score.ncc,
                        score.xy_p95_um,
                        float(said["blend_refinement_um"] or 0.0),  # type: ignore[arg-type]
                        float(len(done.result.fallbacks)),
                    )
                )
        print(f"{limit:9g}" + "".join(f"{v:12.4g}" for v in np.mean(rows, axis=0)), flush=True)


if __name__ == "__main__":
    main()
