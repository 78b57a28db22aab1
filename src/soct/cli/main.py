"""The entry point: one boundary where errors become messages and exit codes."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import NoReturn

from soct.cli.terminal import (
    SCRIPT_VARIABLE,
    open_missing_streams,
    respect_environment,
    silence,
    words,
    words_of_error,
)
from soct.compute import instruction_set
from soct.errors import ExitCode, UserError

_SECOND_CHANCE_S = 0.02


class Terminated(BaseException):
    """SIGTERM arrived. Not an `Exception`, so that no step takes it for a failure of its own."""


class OutOfTime(Terminated):
    """SIGUSR1 arrived: a batch system says that the end of the job is near."""


def _on_sigusr1(number: int, frame: FrameType | None) -> NoReturn:
    raise OutOfTime


def _on_sigterm(number: int, frame: FrameType | None) -> NoReturn:
    raise Terminated


def _on_lost_signal(lost: sys.UnraisableHookArgs) -> None:
    """Raise again, a moment later, what a signal raised where nothing could be raised: in a callback of the compiler."""
    kind = lost.exc_type
    if not issubclass(kind, (Terminated, KeyboardInterrupt)):
        sys.__unraisablehook__(lost)
        return

    def again(number: int, frame: FrameType | None) -> NoReturn:
        raise kind

    signal.signal(signal.SIGALRM, again)
    signal.setitimer(signal.ITIMER_REAL, _SECOND_CHANCE_S)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and end the process with an exit code of `soct.errors.ExitCode`."""
    signal.signal(signal.SIGTERM, _on_sigterm)
    signal.signal(signal.SIGUSR1, _on_sigusr1)
    sys.unraisablehook = _on_lost_signal
    open_missing_streams()
    respect_environment()
    # Threads that wait for others sleep, as in workers: spinning takes the processor from those that they wait for.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Before anything imports numpy, in this process and in all that it starts.
    instruction_set.fix()
    given = list(sys.argv[1:] if arguments is None else arguments)
    sys.exit(int(run_guarded(lambda: _run_app(given), given)))


def _run_app(arguments: list[str]) -> int:
    from soct.cli.app import run_app

    return run_app(arguments)


def run_guarded(work: Callable[[], int], arguments: list[str]) -> int:
    """Call `work` and turn whatever it raises into words on stderr and an exit code.

    Parameters
    ----------
    work : callable
        Returns the exit code of a command that ended by itself.
    arguments : list of str
        For the crash file.
    """
    try:
        code = work()
        sys.stdout.flush()
    except UserError as error:
        words(*words_of_error(error))
        return error.exit_code
    except KeyboardInterrupt:
        words("interrupted")
        return ExitCode.INTERRUPTED
    except OutOfTime:
        what = "batch script, submitted again," if SCRIPT_VARIABLE in os.environ else "same command"
        words(f"stopped by SIGUSR1; the {what} continues")
        return ExitCode.TIME_LIMIT
    except Terminated:
        words("terminated")
        return ExitCode.TERMINATED
    except (BrokenPipeError, SystemExit) as error:
        return _without_reader(error)
    except Exception as error:  # noqa: BLE001 - the one boundary
        return _crash(error, arguments)
    return code


def _without_reader(error: BaseException) -> int:
    """End quietly when nobody reads stdout any more; typer turns that into ``sys.exit(1)`` by itself."""
    if isinstance(error, SystemExit) and not isinstance(error.__context__, BrokenPipeError):
        raise error
    silence(sys.__stdout__ or sys.stdout)
    return ExitCode.OK


def _crash(error: Exception, arguments: list[str]) -> int:
    from soct.cli.crash import redact, write_crash_file

    path = write_crash_file(error, arguments)
    words(
        f"internal error: {type(error).__name__}: {redact(str(error))}",
        f"  crash file: {path}" if path else "  no folder can be written to: no crash file",
        "  This is a bug in soct. Please report it with that file.",
    )
    return ExitCode.INTERNAL
