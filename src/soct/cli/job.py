"""``run``, ``plan``, ``status`` and ``report``: the job from raw tiles to a volume."""

from __future__ import annotations

from typing import Annotated

import typer

from soct.cli import options, report_command


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
        machine={"cpus": cpus, "memory": memory, "gpu": gpu, "max_runtime": max_runtime},
        join=join,
    )
    if dry_run:
        return job_run.tell_plan(asked, as_json=False)
    return job_run.run_job(asked, fail_on_quality=fail_on_quality)


def plan(
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
    as_json: options.Json = False,
) -> int:
    """Say what `soct run` would compute and why, what it costs, and what is wrong with the input."""
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
        machine={"cpus": cpus, "memory": memory, "gpu": gpu, "max_runtime": max_runtime},
    )
    return job_run.tell_plan(asked, as_json=as_json)


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
