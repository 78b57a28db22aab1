"""What ``soct demo`` and ``soct evaluate`` do."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soct.cli import job_run
from soct.cli.terminal import data, data_json, telling_progress, words
from soct.errors import ExitCode
from soct.pipeline.profiles.quantities import format_size

if TYPE_CHECKING:
    from soct.simulate.evaluate import Score

_UNITS = {"xy_p95_um": "um", "z_p95_um": "um", "rot_p95_deg": "deg"}
_MEANING = {
    "ncc": "correlation with the true anatomy (1 is perfect)",
    "xy_p95_um": "95 % of planes lie within this of their true place",
    "rot_p95_deg": "and within this of their true rotation",
    "z_p95_um": "and within this of their true depth",
    "gain_cv": "variation of brightness from plane to plane",
    "coverage": "part of the imaged tissue that is in the volume",
}


def run_demo(out: Path, machine: Mapping[str, Any], seed: int) -> int:
    """Simulate, run, report and score.

    Returns
    -------
    int
        The exit code of the run.
    """
    from soct.compute import caches

    caches.prepare()
    from soct.pipeline.folder.run_folder import telling_of_writes
    from soct.pipeline.folder.run_volume import find_volume
    from soct.simulate.microscope import simulate
    from soct.simulate.spec import preset

    words("Simulating an acquisition: a brain, a microscope and its faults.")
    with telling_of_writes(out):
        made = simulate(
            preset("demo", seed=seed),
            out / "acquisition",
            progress=telling_progress(),
            threads=machine.get("cpus"),
        )
    words(f"{made.slices} slices, {made.tiles} tiles, {format_size(made.raw_bytes)}: {made.raw}")
    asked = job_run.Asked(input=made.raw, output=out / "run", subject="demo", machine=dict(machine))
    code = job_run.run_job(asked, may_vanish=True)
    if code == ExitCode.OK:
        words("", "The volume against the truth, which only a simulation knows:")
        tell_score(find_volume(out / "run"), made.path, as_json=False)
        words("", *_what_next(out))
    return code


def _what_next(out: Path) -> tuple[str, ...]:
    return (
        f"Open {out / 'run' / 'demo_quality_report.html'} in a browser.",
        "Your own data: soct run INPUT OUTPUT",
    )


def tell_score(volume: Path, acquisition: Path, *, as_json: bool) -> int:
    """Print the score of a volume against the truth."""
    from soct.compute import caches

    caches.prepare()
    from soct.simulate.evaluate import evaluate

    score = evaluate(volume, acquisition)
    if as_json:
        data_json(score.as_json())
    else:
        _tell(score)
    return ExitCode.OK


def _tell(score: Score) -> None:
    values = score.as_json()
    for name, meaning in _MEANING.items():
        value = values[name]
        shown = "unknown" if value is None else f"{value:.3g} {_UNITS.get(name, '')}".rstrip()
        data(f"{name:<12} {shown:<12} {meaning}")
