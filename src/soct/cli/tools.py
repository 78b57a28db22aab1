"""``demo``, ``simulate``, ``evaluate`` and ``doctor``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from soct.cli import options


def register(app: typer.Typer) -> None:
    """Add the tools."""
    for name, function in (
        ("demo", demo),
        ("simulate", simulate),
        ("evaluate", evaluate),
        ("doctor", doctor),
    ):
        app.command(name, rich_help_panel=options.TOOLS)(function)


def demo(
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="Folder to make.", show_default=True)
    ] = Path("soct-demo"),
    cpus: options.Cpus = None,
    memory: options.Memory = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Another brain and other faults.")] = 0,
) -> int:
    """Simulate a small acquisition, reconstruct it, and score the volume against the truth."""
    from soct.cli import demonstration

    return demonstration.run_demo(out, {"cpus": cpus, "memory": memory}, seed)


def simulate() -> None:
    """Write a simulated acquisition in the raw format, with its truth."""
    # Only its place in the list: `soct.cli.simulate_command` builds it when it is called.


def evaluate(
    volume: Annotated[Path, typer.Argument(metavar="VOLUME", help="OME-Zarr volume.")],
    acquisition: Annotated[
        Path, typer.Argument(metavar="ACQUISITION", help="Folder that `soct simulate` wrote.")
    ],
    as_json: options.Json = False,
) -> int:
    """Score a volume against the truth of a simulated acquisition."""
    from soct.cli import demonstration

    return demonstration.tell_score(volume, acquisition, as_json=as_json)


def doctor(
    folder: Annotated[
        Path, typer.Option("--folder", metavar="FOLDER", help="Check disk and locks here.")
    ] = Path(),
    as_json: options.Json = False,
) -> int:
    """Check this machine: processors, memory, disk, caches, compiled kernels, GPU, file locks."""
    from soct.cli import doctor as checks

    return checks.tell_health(folder, as_json=as_json)
