"""Simulate a small acquisition, reconstruct it, and score the volume against the truth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from soct.cli import options


def command(
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
