"""What ``soct status`` does, and the report of a run folder. Neither locks nor waits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from soct.cli.terminal import data, data_json
from soct.errors import ExitCode
from soct.pipeline.profiles.quantities import format_duration, format_size

if TYPE_CHECKING:
    from soct.pipeline.folder.status import ProcessStatus, RunStatus, StepStatus
    from soct.pipeline.slurm.jobs import SlurmView


def tell_status(folder: Path, question: str | None, *, as_json: bool) -> int:
    """Print how far a run is, or why units ran."""
    from soct.pipeline.folder.run_folder import FILE_NAME
    from soct.pipeline.folder.status import read_status, why
    from soct.pipeline.slurm.jobs import look_at_jobs

    if question is not None:
        answers = why(folder, question)
        if as_json:
            data_json([{"unit": str(unit), "reasons": list(texts)} for unit, texts in answers])
        for unit, texts in () if as_json else answers:
            data(f"{unit}: {'; '.join(texts)}")
        return ExitCode.OK
    jobs = look_at_jobs(folder)
    if jobs is not None and not (folder / FILE_NAME).exists():
        return _tell_before_start(folder, jobs, as_json=as_json)
    status = _with_tasks(read_status(folder), jobs)
    if as_json:
        data_json({**status.as_document(), "slurm": None if jobs is None else jobs.as_document()})
    else:
        _tell(status)
        _tell_rest(status, jobs)
        _tell_jobs(jobs, is_complete=not status.left)
    return ExitCode.OK


def _with_tasks(status: RunStatus, jobs: SlurmView | None) -> RunStatus:
    """Return the status as Slurm knows it: a phase whose task runs has begun, also before the task has joined."""
    if jobs is not None and jobs.is_running and status.state == "partial":
        return replace(status, state="running")
    return status


def _tell(status: RunStatus) -> None:
    data(f"{status.state}: {status.document.subject} in {status.folder}")
    where = "" if status.last is None else status.last.where
    for process in status.processes:
        _tell_process(process, where, alone=len(status.processes) == 1)
    width = max((len(step.step) for step in status.steps), default=0)
    for step in status.steps:
        data(f"  {step.step:<{width}}  {_progress(step)}")
    for unit in status.units:
        if unit.fraction is not None:
            data(f"  {unit.unit} is at {unit.fraction:.0%}")
    for failure in status.failures:
        data(f"  FAILED {failure.unit}: {failure.message}")


def _tell_rest(status: RunStatus, jobs: SlurmView | None) -> None:
    """Say that a part was asked for, what is left, and what computes it."""
    if status.command_for_rest is None:
        return
    left = status.left
    number = sum(left.values())
    units = "1 unit is" if number == 1 else f"{number} units are"
    steps = "1 step" if len(left) == 1 else f"{len(left)} steps"
    told = f"  A part of the run is complete; {units} left, in {steps}"
    if jobs is not None and not jobs.is_over:
        data(f"{told}, for Slurm")
    elif jobs is not None:
        data(f"{told}.")
    else:
        data(f"{told}. To continue:", f"    {status.command_for_rest}")


def _tell_process(process: ProcessStatus, where: str, *, alone: bool) -> None:
    progress = process.progress
    memory = format_size(progress.resident_bytes if progress else 0)
    if alone:
        data(f"held by {process.holder}, {memory} of memory")
        if where:
            data(f"computed by {where}")
        return
    data(f"{process.holder}")
    at_work = (
        [f"{u.step}:{u.unit} ({u.fraction:.0%})" for u in progress.running] if progress else []
    )
    computed = progress.computed if progress else 0
    data(f"    {', '.join(at_work) or 'waiting'}; {computed} units so far, {memory} of memory")


def _tell_before_start(folder: Path, jobs: SlurmView, *, as_json: bool) -> int:
    """Print what Slurm does, or did, for a run of which no task has begun."""
    from soct.pipeline.folder.run_folder import SLURM_FOLDER

    state = "failed" if jobs.is_over else "submitted"
    if as_json:
        data_json({"folder": str(folder), "state": state, "slurm": jobs.as_document()})
    elif jobs.is_over:
        tasks = "1 task" if jobs.tasks == 1 else f"{jobs.tasks} tasks"
        data(f"failed: {tasks} ended without beginning; see {folder}/{SLURM_FOLDER}/*.log")
        _tell_log(jobs)
        data("  Mend that, then submit the script again.")
    else:
        data(f"submitted: nothing has begun in {folder}")
        _tell_jobs(jobs, is_complete=False)
    return ExitCode.OK


def _tell_jobs(jobs: SlurmView | None, *, is_complete: bool) -> None:
    """Print what Slurm does for the run."""
    if jobs is None:
        return
    if jobs.phases is None:
        data(f"  Slurm: last submitted {jobs.last_submitted}; it cannot be asked from this machine")
    for phase in jobs.phases or ():
        parts = [f"{phase.running} running"] if phase.running else []
        why = f" ({', '.join(phase.reasons)})" if phase.reasons else ""
        parts += [f"{phase.waiting} waiting{why}"] if phase.waiting else []
        data(f"  Slurm job {phase.job}, tasks of {phase.phase}: {', '.join(parts)}")
    if jobs.is_over and not is_complete:
        data("  Slurm: no job of this run is in the queue; its script, submitted again, continues")
        _tell_log(jobs)


def _tell_log(jobs: SlurmView) -> None:
    """Print how the newest log of the tasks ends."""
    if jobs.log is None:
        data("  There is no log: the tasks were cancelled, or Slurm could not start them.")
        return
    data(f"  The newest log, {jobs.log.path}, ends with:")
    for line in jobs.log.lines or ("(nothing)",):
        data(f"    {line}")


def _progress(step: StepStatus) -> str:
    waiting = step.done == 0 and not (step.running or step.failed or step.blocked)
    counts = [f"{step.done:>4} of {step.units:<4} {'waiting' if waiting else 'done'}"]
    others = (
        ("running", step.running),
        ("failed", step.failed),
        ("blocked", step.blocked),
        ("outdated", step.outdated),
    )
    counts += [f"{number} {name}" for name, number in others if number]
    if step.done:
        peak = format_size(step.peak_memory_bytes)
        counts.append(f"{format_duration(step.seconds)}, peak {peak}")
    return ", ".join(counts)


def render(folder: Path) -> Path:
    """Write the report of a run folder from what is saved there.

    Raises
    ------
    InputError
        It is no run folder.
    """
    from soct.pipeline.folder.run_folder import telling_of_writes
    from soct.pipeline.folder.summary import build_view
    from soct.report.rendering import render_report

    view = build_view(folder)
    with telling_of_writes(folder):
        return render_report(view, folder)
