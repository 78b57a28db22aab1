"""One run: plan, compute what is missing, publish, and end in a way that the same command continues."""

from __future__ import annotations

from soct.pipeline.events import Listener, ignore
from soct.pipeline.request import RunOutcome, RunRequest


def run(request: RunRequest, listener: Listener = ignore) -> RunOutcome:
    """Bring a run folder up to date.

    Parameters
    ----------
    request : RunRequest
        Input, run folder, parameters, selection and resources.
    listener : callable
        Called with every `soct.pipeline.events` event, in order, from this thread.

    Returns
    -------
    RunOutcome
        Also when units failed or the run was stopped: the exit code is in it.

    Raises
    ------
    InputError
        The input cannot be read, the run folder lies inside it, or belongs to another input.
    ConfigurationError
        A step that is needed is switched off.
    LockedError
        Another process works in the run folder.
    ResourceError
        There is not enough disk or memory; nothing was started.
    NewerStateError
        The folder was written by a newer soct; nothing was touched.
    UsageError
        The selection names a step, slice or unit that is not there.
    """
    raise NotImplementedError
