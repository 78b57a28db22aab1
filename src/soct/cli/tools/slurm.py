"""Print a batch script for Slurm that makes what `soct run` would make, as arrays of jobs."""

from __future__ import annotations

from typing import Annotated

import typer

from soct.cli import options


def command(
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
    tasks: Annotated[
        int | None,
        typer.Option(
            "--tasks",
            metavar="N",
            min=1,
            max=10_000,
            help="Tasks of a phase at most (site file: slurm.tasks).",
            rich_help_panel=options.PANEL_MACHINE,
        ),
    ] = None,
    fail_on_quality: Annotated[
        bool, typer.Option("--fail-on-quality", help="Exit with 6 when a metric is in error.")
    ] = False,
) -> int:
    """Print a batch script for Slurm that makes what `soct run` would make, as arrays of jobs.

    `soct slurm INPUT OUTPUT > job.sbatch` takes the arguments of `soct run`.

    `bash job.sbatch` or `sbatch job.sbatch` submits it, `soct status OUTPUT` follows it.

    Here --cpus, --memory and --max-runtime are what each task of a job gets.
    """
    from soct.cli import job_run, job_slurm

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
    return job_slurm.print_script(asked, tasks=tasks, fail_on_quality=fail_on_quality)
