"""``run``, ``plan``, ``status`` and ``report``: the job from raw tiles to a volume."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from soct.cli import options, report_command
from soct.pipeline.profiles.quantities import parse_slices

PANEL_DESCRIPTION = "An acquisition that is not there yet"


def register(app: typer.Typer) -> None:
    """Add the commands of the job."""
    report = report_command.command
    for name, function in (("run", run), ("plan", plan), ("status", status), ("report", report)):
        app.command(name, rich_help_panel=options.JOB)(function)


def run(
    input: options.Input,
    output: options.Output,
    profile: options.Profile = "default",
    sets: options.Sets = None,
    subject: options.Subject = None,
    first: options.FromStep = None,
    until: options.UntilStep = None,
    only: options.OnlyStep = None,
    unit: options.OneUnit = None,
    slices: options.Slices = None,
    site: options.Site = None,
    cpus: options.Cpus = None,
    memory: options.Memory = None,
    gpu: options.Gpu = None,
    max_runtime: options.MaxRuntime = None,
    join: options.Join = False,
    dask: options.Dask = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would run, and stop.")
    ] = False,
    fail_on_quality: Annotated[
        bool, typer.Option("--fail-on-quality", help="Exit with 6 when a metric is in error.")
    ] = False,
) -> int:
    """Make a volume and a report from raw tiles; the same command continues a stopped run."""
    from soct.cli import job_run

    asked = job_run.Asked(
        input=input,
        output=output,
        profile=profile,
        sets=tuple(sets or ()),
        subject=subject,
        first=first,
        until=until,
        only=only,
        unit=unit,
        slices=slices,
        site=site,
        machine={
            "cpus": cpus,
            "memory": memory,
            "gpu": gpu,
            "max_runtime": max_runtime,
            "dask": dask,
        },
        join=join,
    )
    if dry_run:
        from soct.cli import job_plan

        return job_plan.tell_plan(asked, as_json=False)
    return job_run.run_job(asked, fail_on_quality=fail_on_quality)


def plan(
    input: Annotated[
        Path | None,
        typer.Argument(
            metavar="INPUT",
            help="Folder of raw tiles or of mosaic grids, or a YAML file that describes an acquisition.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Argument(metavar="OUTPUT", help="Run folder: what is finished in it is not counted."),
    ] = None,
    profile: options.Profile = "default",
    sets: options.Sets = None,
    subject: options.Subject = None,
    first: options.FromStep = None,
    until: options.UntilStep = None,
    only: options.OnlyStep = None,
    unit: options.OneUnit = None,
    slices: Annotated[
        Any,
        typer.Option(
            "--slices",
            metavar="1,3,5-9",
            parser=options.parsed_by(parse_slices),
            help="Only these slices of the input; without INPUT, how many there will be.",
            rich_help_panel=options.PANEL_SELECTION,
        ),
    ] = None,
    tiles: Annotated[
        str | None,
        typer.Option(
            "--tiles",
            metavar="ROWSxCOLS|N",
            help="Tiles of a slice.",
            rich_help_panel=PANEL_DESCRIPTION,
        ),
    ] = None,
    tile_size: Annotated[
        str | None,
        typer.Option(
            "--tile-size",
            metavar="XxYxZ",
            help="Voxels of a tile, such as 512x512x300.",
            rich_help_panel=PANEL_DESCRIPTION,
        ),
    ] = None,
    raw_size: Annotated[
        str | None,
        typer.Option(
            "--raw-size",
            metavar="SIZE",
            help="Size of all raw data, such as 1TB, in place of --tile-size.",
            rich_help_panel=PANEL_DESCRIPTION,
        ),
    ] = None,
    pixel_um: Annotated[
        float | None,
        typer.Option(
            "--pixel-um",
            metavar="UM",
            help="Lateral sampling; 10 if not told.",
            rich_help_panel=PANEL_DESCRIPTION,
        ),
    ] = None,
    axial_um: Annotated[
        float | None,
        typer.Option(
            "--axial-um",
            metavar="UM",
            help="Sampling in depth; 3.5 if not told.",
            rich_help_panel=PANEL_DESCRIPTION,
        ),
    ] = None,
    site: options.Site = None,
    nodes: Annotated[
        int,
        typer.Option(
            "--nodes",
            metavar="N",
            min=1,
            max=10_000,
            help="Also tell the time on N machines that work together, each with --cpus and --memory.",
            rich_help_panel=options.PANEL_MACHINE,
        ),
    ] = 1,
    cpus: options.Cpus = None,
    memory: options.Memory = None,
    gpu: options.Gpu = None,
    max_runtime: options.MaxRuntime = None,
    as_json: options.Json = False,
) -> int:
    """Say what `soct run` would compute and why, what it takes, and what is wrong with the input.

    Without an acquisition, describe one: `soct plan --slices 60 --tiles 400 --raw-size 1TB --nodes 16`.
    """
    from soct.cli import job_plan

    asked = job_plan.AskedPlan(
        input=input,
        output=output,
        profile=profile,
        sets=tuple(sets or ()),
        subject=subject,
        first=first,
        until=until,
        only=only,
        unit=unit,
        slices=slices,
        site=site,
        machine={"cpus": cpus, "memory": memory, "gpu": gpu, "max_runtime": max_runtime},
        nodes=nodes,
        description={
            "tiles": tiles,
            "tile_size": tile_size,
            "raw_size": raw_size,
            "pixel_um": pixel_um,
            "axial_um": axial_um,
        },
    )
    return job_plan.tell_asked_plan(asked, as_json=as_json)


def status(
    run: options.Run,
    why: Annotated[
        str | None,
        typer.Option("--why", metavar="STEP[:UNIT]", help="Why this step or unit runs (again)."),
    ] = None,
    as_json: options.Json = False,
) -> int:
    """Say how far a run is, what failed, and who works on it; never waits for anybody."""
    from soct.cli import job_status

    return job_status.tell_status(run, why, as_json=as_json)
