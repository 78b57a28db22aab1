"""Options that several commands share, and the parsers of their values."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from soct.pipeline.profiles.quantities import (
    parse_dask,
    parse_duration,
    parse_size,
    parse_slices,
    parse_unit,
)

PANEL_SCIENCE = "Science"
PANEL_SELECTION = "Selection"
PANEL_MACHINE = "Machine"

JOB = "The job"
STEPS = "Steps"
TOOLS = "Tools"


def parsed_by(parse: Callable[[str], Any]) -> Callable[[Any], Any]:
    """Return a parser whose complaint is a usage error (exit code 2)."""

    def parser(text: Any) -> Any:
        if not isinstance(text, str):
            return text
        try:
            return parse(text)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None

    return parser


def one_of(*choices: str) -> Callable[[Any], Any]:
    """Return a parser that takes these words only."""

    def check(text: str) -> str:
        if text not in choices:
            raise ValueError(f"{text!r} is not one of {', '.join(choices)}")
        return text

    return parsed_by(check)


def _gpu(text: str) -> str:
    if text not in ("auto", "off", "require"):
        raise ValueError(f"{text!r} is not one of auto, off, require")
    return text


# Typer takes the result type of a custom parser from its annotation, and these hold tuples or numbers.
Profile = Annotated[
    str,
    typer.Option(
        "--profile",
        metavar="NAME|FILE",
        help="A shipped profile (see `soct profiles list`) or a YAML file.",
        rich_help_panel=PANEL_SCIENCE,
    ),
]
Site = Annotated[
    str | None,
    typer.Option(
        "--site",
        metavar="NAME|FILE",
        help="Machine settings: a shipped site or a YAML file.",
        rich_help_panel=PANEL_MACHINE,
    ),
]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="STEP.KEY=VALUE",
        help="Change one value of the profile; may be repeated. Below it in rank: the "
        "environment, SOCT_SET__step__key=value.",
        rich_help_panel=PANEL_SCIENCE,
    ),
]
FromStep = Annotated[
    str | None,
    typer.Option("--from", metavar="STEP", help="Start here.", rich_help_panel=PANEL_SELECTION),
]
UntilStep = Annotated[
    str | None,
    typer.Option("--until", metavar="STEP", help="Stop after.", rich_help_panel=PANEL_SELECTION),
]
OnlyStep = Annotated[
    str | None,
    typer.Option(
        "--only", metavar="STEP", help="Run this step alone.", rich_help_panel=PANEL_SELECTION
    ),
]
OneUnit = Annotated[
    Any,
    typer.Option(
        "--unit",
        metavar="N[,M]",
        parser=parsed_by(parse_unit),
        help="With --only: one slice, one pair, or `run`.",
        rich_help_panel=PANEL_SELECTION,
    ),
]
Slices = Annotated[
    Any,
    typer.Option(
        "--slices",
        metavar="1,3,5-9",
        parser=parsed_by(parse_slices),
        help="Only these slices of the input.",
        rich_help_panel=PANEL_SELECTION,
    ),
]
Cpus = Annotated[
    int | None,
    typer.Option(
        "--cpus",
        metavar="N",
        min=1,
        max=4096,
        help="Processors to use.",
        rich_help_panel=PANEL_MACHINE,
    ),
]
Memory = Annotated[
    Any,
    typer.Option(
        "--memory",
        metavar="SIZE",
        parser=parsed_by(parse_size),
        help="Peak memory over all processes, such as 8GB.",
        rich_help_panel=PANEL_MACHINE,
    ),
]
Gpu = Annotated[
    Any,
    typer.Option(
        "--gpu",
        metavar="auto|off|require",
        parser=parsed_by(_gpu),
        help="Render slices and stack, and fit bias fields, on a GPU: where there is one, never, or not without.",
        rich_help_panel=PANEL_MACHINE,
    ),
]
MaxRuntime = Annotated[
    Any,
    typer.Option(
        "--max-runtime",
        metavar="TIME",
        parser=parsed_by(parse_duration),
        help="Stop cleanly before this time is over, such as 2h or 1h30m (exit code 75).",
        rich_help_panel=PANEL_MACHINE,
    ),
]
Dask = Annotated[
    Any,
    typer.Option(
        "--dask",
        metavar="ADDRESS|FILE|local|slurm|off",
        parser=parsed_by(parse_dask),
        help="Compute on Dask workers: tcp://HOST:PORT, a scheduler file, a cluster on this machine, "
        "or the tasks of a Slurm job (docs/dask.md).",
        rich_help_panel=PANEL_MACHINE,
    ),
]
Join = Annotated[
    bool,
    typer.Option(
        "--join",
        help="Work on the run folder together with other processes that have this option, here or on "
        "other machines; each takes what nobody else has.",
        rich_help_panel=PANEL_MACHINE,
    ),
]
GridAxes = Annotated[
    str,
    typer.Option(
        "--grid-axes",
        metavar="auto|yx|xy",
        parser=one_of("auto", "yx", "xy"),
        help="Order of the lateral axes of a grid; auto: xy unless soct wrote it.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Input = Annotated[
    Path, typer.Argument(metavar="INPUT", help="Folder of raw tiles or of mosaic grids.")
]
Output = Annotated[
    Path, typer.Argument(metavar="OUTPUT", help="Run folder: made, or continued where it was.")
]
Run = Annotated[Path, typer.Argument(metavar="RUN", help="Run folder.")]
Subject = Annotated[
    str | None,
    typer.Option(
        "--subject",
        metavar="NAME",
        help="Name of the specimen and of the volume; short for --set subject=NAME.",
        rich_help_panel=PANEL_SCIENCE,
    ),
]
