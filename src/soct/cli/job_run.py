"""What ``soct run`` and ``soct plan`` do."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soct.cli.terminal import SCRIPT_VARIABLE, data, words
from soct.errors import ExitCode, InputError, QualityError
from soct.pipeline.profiles.quantities import format_size

if TYPE_CHECKING:
    from soct.pipeline.profiles.profile import Profile
    from soct.pipeline.request import RunOutcome, RunRequest

_MOST_LISTED = 20


@dataclass(frozen=True, kw_only=True)
class Choices:
    """The options that ``run``, ``plan`` and ``slurm`` share, parsed: what is wanted, and of which machine."""

    profile: str = "default"
    sets: tuple[str, ...] = ()
    subject: str | None = None
    first: str | None = None
    until: str | None = None
    only: str | None = None
    unit: tuple[int, ...] | None = None
    slices: tuple[int, ...] | None = None
    site: str | None = None
    machine: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Asked(Choices):
    """The options of ``run``, parsed."""

    input: Path
    output: Path
    join: bool = False


def load(asked: Asked) -> Profile:
    """Return the profile with all layers, and tell of keys that came under older names."""
    from soct.pipeline.profiles.profile import load_profile

    sets = [*asked.sets, *([f"subject={asked.subject}"] if asked.subject is not None else [])]
    profile = load_profile(asked.profile, asked.site, sets, site_options=asked.machine)
    for note in profile.notes:
        words(f"note: {note}")
    return profile


def prepare(asked: Asked, profile: Profile) -> RunRequest:
    """Return the request, with caches and temporary files where the site wants them."""
    from soct.cli.dask_step import choose_dask
    from soct.compute import caches
    from soct.pipeline.asked_run import request_run
    from soct.pipeline.request import Selection
    from soct.pipeline.resources import check_gpu

    machine = asked.machine or {}
    dask = choose_dask(profile.site.dask, machine.get("dask"), join=asked.join)
    if dask is None:
        check_gpu(profile.site.gpu)
    if profile.site.cache is not None:
        os.environ["SOCT_CACHE_DIR"] = str(profile.site.cache)
    if profile.site.scratch is not None:
        os.environ["TMPDIR"] = str(profile.site.scratch)
    caches.prepare()
    request = request_run(
        profile,
        asked.input,
        asked.output,
        selection=Selection(asked.first, asked.until, asked.only, asked.unit, asked.slices),
        command=shlex.join(["soct", *sys.argv[1:]]),
    )
    return replace(request, join=asked.join, resources=replace(request.resources, dask=dask))


def run_job(asked: Asked, *, fail_on_quality: bool = False, may_vanish: bool = False) -> int:
    """Run, write the report, say how it went.

    Parameters
    ----------
    asked : Asked
    fail_on_quality : bool
        Whether a metric in error is an error.
    may_vanish : bool
        Whether the run folder may lie where it goes with the container: it is told, and no error.

    Returns
    -------
    int
        The exit code of the run.

    Raises
    ------
    QualityError
        A metric is in error, and `fail_on_quality` is set.
    InputError
        The results would vanish with the container.
    """
    from soct.cli.dask_step import dask_step
    from soct.cli.progress import follow
    from soct.pipeline.folder.run_folder import check_kept
    from soct.pipeline.planning.run_estimate import compiling_seconds
    from soct.pipeline.runner import run

    profile = load(asked)
    at_risk = check_kept(asked.output, may_vanish=may_vanish)
    request = prepare(asked, profile)
    reports: list[Path | None] = []
    if asked.join:
        # Those who come later must know that the report is being written, until it is there.
        write = partial(_add_report, reports, asked.output)
        request = replace(request, write_report=write)
    with dask_step(request, profile.site) as place:
        if place is None:
            return ExitCode.OK
        if at_risk:
            words(f"warning: {at_risk}")
        if compiling_seconds():
            words(
                "note: first run after an install: compiling takes a minute or two, this once, "
                "on top of the time that is told"
            )
        _start_workers(place)
        with follow(profile.site.log_level) as listener:
            outcome = run(place, listener)
    if not asked.join:
        _add_report(reports, asked.output)
    report = reports[0] if reports else None
    _tell_outcome(outcome, request.command)
    if not outcome.reports:
        words("The report is there already, or written by another process of this run.")
    if at_risk:
        # Again: what was said before the run is far up by now.
        words(f"warning: {at_risk}")
    tell_results(asked.output, report)
    if outcome.exit_code == ExitCode.OK and fail_on_quality and outcome.worst_status == "error":
        raise QualityError(
            "A metric is in error.", file=report, hint="The report lists it under Problems."
        )
    return outcome.exit_code


def _add_report(reports: list[Path | None], folder: Path) -> None:
    reports.append(make_report(folder))


def _start_workers(request: RunRequest) -> None:
    """Let the worker processes import while this one plans."""
    from soct.compute.threads import worker_environment
    from soct.pipeline.workers.executors import prepare_workers

    resources = request.resources
    if resources.executor is None:
        prepare_workers(worker_environment(resources.cpus), resources.preload)


def make_report(folder: Path) -> Path | None:
    """Write the report. A report that cannot be written is told, and never hides how the run went."""
    from soct.cli.job_status import render

    try:
        return render(folder)
    except Exception as error:  # noqa: BLE001 - the run's own outcome must be told
        from soct.cli.crash import redact, write_crash_file

        path = write_crash_file(error, sys.argv[1:])
        words(f"The report could not be written: {redact(str(error))}", f"  crash file: {path}")
        return None


def tell_results(folder: Path, report: Path | None) -> None:
    """Print where the volume (the newest one that is finished) and the report are."""
    from soct.pipeline.folder.run_volume import find_volume

    with suppress(InputError):
        data(f"volume: {find_volume(folder)}")
    if report is not None:
        data(f"report: {report}")


def _tell_outcome(outcome: RunOutcome, command: str) -> None:
    from soct.pipeline.profiles.quantities import format_duration

    for failure in outcome.failures[:_MOST_LISTED]:
        words(f"failed: {failure.unit}: {failure.message}")
        for label in ("file", "expected", "found", "hint"):
            if text := getattr(failure, label):
                words(f"  {('to do' if label == 'hint' else label) + ':':<10}{text}")
        if not failure.mendable:
            words("  This is a bug in soct; the report holds its traceback.")
    if len(outcome.failures) > _MOST_LISTED:
        words(f"... and {len(outcome.failures) - _MOST_LISTED} more failures, in the report")
    if outcome.blocked:
        words(f"{len(outcome.blocked)} units could not run because of that")
    elsewhere = f"{outcome.elsewhere} by other processes, " if outcome.elsewhere else ""
    peak = outcome.peak_memory_bytes
    memory = f", peak memory {format_size(peak)}" if peak else ""
    words(
        f"{outcome.state}: {len(outcome.computed)} units computed, {outcome.reused} reused, "
        f"{elsewhere}"
        f"{format_duration(outcome.seconds)}{memory}"
    )
    if outcome.state == "stopped":
        words(*how_to_continue(outcome.reason, command))


def how_to_continue(reason: str | None, command: str) -> tuple[str, str]:
    """Return what to type: within a batch job not the command of one task, but the script that submitted it."""
    script = os.environ.get(SCRIPT_VARIABLE)
    if script:
        return f"stopped by {reason}; the batch script, submitted again, continues:", f"  {script}"
    return f"stopped by {reason}; the same command continues:", f"  {command}"
