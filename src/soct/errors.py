"""Errors that a user can act on, and the exit codes they end with.

A `SoctError` that reaches the command line is printed without a traceback, because the person reading
it can mend the cause. Any other exception is a bug in soct and leaves a crash file.
"""

from __future__ import annotations

from enum import IntEnum
from pathlib import Path


class ExitCode(IntEnum):
    """How a `soct` process ends; `soct --help` lists these."""

    OK = 0
    INTERNAL = 1
    USAGE = 2
    CONFIGURATION = 3
    INPUT = 4
    STEP_FAILED = 5
    QUALITY = 6
    LOCKED = 7
    RESOURCES = 8
    NEWER_STATE = 9
    TIME_LIMIT = 75
    INTERRUPTED = 130
    TERMINATED = 143


class SoctError(Exception):
    """Base of every error that soct raises on purpose."""

    exit_code: ExitCode = ExitCode.INTERNAL


class UserError(SoctError):
    """Something that the user can mend.

    Parameters
    ----------
    message : str
        What is wrong, in one sentence.
    file : Path or str, optional
        The file or folder that it is about.
    expected, found : str, optional
        What soct expected there, and what it found.
    hint : str, optional
        What to do about it.
    """

    exit_code = ExitCode.USAGE

    def __init__(
        self,
        message: str,
        *,
        file: Path | str | None = None,
        expected: str | None = None,
        found: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.file = None if file is None else str(file)
        self.expected = expected
        self.found = found
        self.hint = hint

    def __reduce__(self) -> tuple[object, ...]:
        """Errors travel from worker processes to the main one with all their parts."""
        return (
            _rebuild,
            (type(self), self.message, self.file, self.expected, self.found, self.hint),
        )

    def __str__(self) -> str:
        parts = [self.message]
        if self.file is not None:
            parts.append(f"  file:     {self.file}")
        if self.expected is not None:
            parts.append(f"  expected: {self.expected}")
        if self.found is not None:
            parts.append(f"  found:    {self.found}")
        if self.hint is not None:
            parts.append(f"  to do:    {self.hint}")
        return "\n".join(parts)


def _rebuild(
    kind: type[UserError],
    message: str,
    file: str | None,
    expected: str | None,
    found: str | None,
    hint: str | None,
) -> UserError:
    return kind(message, file=file, expected=expected, found=found, hint=hint)


class UsageError(UserError):
    """The command line asks for something that cannot be done."""

    exit_code = ExitCode.USAGE


class ConfigurationError(UserError):
    """A profile, site file or setting is invalid."""

    exit_code = ExitCode.CONFIGURATION


class InputError(UserError):
    """Input data are missing or malformed."""

    exit_code = ExitCode.INPUT


class StepError(UserError):
    """A step could not do its work."""

    exit_code = ExitCode.STEP_FAILED


class QualityError(UserError):
    """The run finished, but a quality gate failed."""

    exit_code = ExitCode.QUALITY


class LockedError(UserError):
    """Another process works in the run folder."""

    exit_code = ExitCode.LOCKED


class ResourceError(UserError):
    """There is not enough disk, memory or GPU memory."""

    exit_code = ExitCode.RESOURCES


class NewerStateError(UserError):
    """The run folder was written by a newer soct."""

    exit_code = ExitCode.NEWER_STATE
