"""``run.json``: to which input a run folder belongs, with what it was made, and who ran what in it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from soct import __version__
from soct.compute.containers import find_unbound, hint_to_bind_writable
from soct.errors import InputError
from soct.formats.atomic import write_bytes
from soct.pipeline.folder.records import STATE_FORMAT, check_format

FILE_NAME = "run.json"
LOCK_NAME = ".soct.lock"
"""Made first of all, before anything of a run."""
HISTORY_LENGTH = 200
SLURM_FOLDER = "slurm"
"""Logs and numbers of batch jobs; it is there before the first of them starts."""


@dataclass(frozen=True)
class Invocation:
    """One call of `soct run` on a folder."""

    started: str
    command: str
    host: str
    user: str
    pid: int
    slurm_job: str
    soct_version: str
    cpus: int
    workers: int
    memory_bytes: int
    where: str = ""
    """Where the workers are, if not on this host."""
    ended: str = ""
    state: str = "running"
    """``running``, ``complete``, ``failed`` or ``stopped``; one that was killed stays ``running``."""
    reason: str = ""
    exit_code: int | None = None
    computed: int = 0
    reused: int = 0
    failed: int = 0
    seconds: float = 0.0
    peak_memory_bytes: int = 0


@dataclass(frozen=True)
class RunDocument:
    """The content of ``run.json``."""

    input: str
    subject: str
    profile: Mapping[str, Any]
    params: Mapping[str, Any]
    """Every parameter of every step, as it was in the last invocation."""
    steps: Mapping[str, int]
    """Steps that are switched on, in pipeline order, with their versions."""
    summaries: Mapping[str, str]
    """What every step does, in one sentence."""
    scopes: Mapping[str, str]
    inputs: Mapping[str, list[str]]
    """``step -> steps that it reads``."""
    units: Mapping[str, list[str]]
    """Names of all units of every step."""
    slices: Mapping[str, str]
    """Slice -> digest of its raw files' fingerprint: recognises an input that was moved."""
    assess_digest: str
    problems: tuple[Mapping[str, Any], ...] = ()
    """What was wrong with the input."""
    raw_bytes: int = 0
    history: tuple[Invocation, ...] = field(default_factory=tuple)
    soct_version: str = __version__

    def ended_as(self, invocation: Invocation) -> RunDocument:
        """Return the document with its last invocation replaced."""
        return replace(self, history=(*self.history[:-1], invocation))

    def with_ended(self, begun: Invocation, ended: Invocation) -> RunDocument:
        """Return the document with an invocation that ended; it is then the last of those that did."""
        others = tuple(entry for entry in self.history if entry != begun)
        return replace(self, history=(*others, ended))


def read_run(folder: Path) -> RunDocument | None:
    """Return what ``run.json`` says, or None where there is none that can be read.

    Raises
    ------
    NewerStateError
        A newer soct wrote it.
    """
    path = folder / FILE_NAME
    try:
        document = json.loads(path.read_bytes())
        check_format(document, path)
        del document["format"]
        history = tuple(Invocation(**entry) for entry in document.pop("history"))
        problems = tuple(document.pop("problems"))
        return RunDocument(**document, history=history, problems=problems)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def write_run(folder: Path, document: RunDocument) -> None:
    """Publish ``run.json`` in one step."""
    kept = replace(document, history=document.history[-HISTORY_LENGTH:])
    content = {"format": STATE_FORMAT, **asdict(kept)}
    write_bytes(folder / FILE_NAME, json.dumps(content, indent=1).encode())


def check_place(folder: Path, source: Path, step_names: tuple[str, ...]) -> None:
    """Raise InputError where a run folder would mix with its input or with somebody else's files.

    Parameters
    ----------
    folder : Path
        The run folder, which may be absent.
    source : Path
        The input.
    step_names : tuple of str
        Folders that a run makes.
    """
    output, root = folder.resolve(), source.resolve()
    if output == root or output.is_relative_to(root):
        raise InputError(
            "The run folder lies inside the input",
            file=folder,
            expected=f"a folder outside {source}",
            hint="The input is never written to; choose another run folder.",
        )
    if root.is_relative_to(output) and root.relative_to(output).parts[0] in (*step_names, "state"):
        raise InputError(
            "The input lies inside a folder that the run writes to", file=source, found=str(folder)
        )
    if folder.exists() and not folder.is_dir():
        raise InputError(
            "The run folder is a file",
            file=folder,
            expected="a new folder, or one with run.json",
            hint="Choose another run folder.",
        )
    if not folder.exists() or any((folder / name).exists() for name in (FILE_NAME, LOCK_NAME)):
        return
    others = sorted(path.name for path in folder.iterdir() if not _is_harmless(path.name))
    if others:
        shown = ", ".join(others[:5]) + (f" and {len(others) - 5} more" if len(others) > 5 else "")
        raise InputError(
            "The folder is not empty and not a run folder",
            file=folder,
            expected="a new or empty folder, or one with run.json",
            found=shown,
            hint=f"Choose a new folder, such as {folder / 'run'}.",
        )


def _is_harmless(name: str) -> bool:
    """Whether a file may lie in a folder that becomes a run folder: hidden ones, and what a batch system leaves."""
    return name == SLURM_FOLDER or name.startswith(".") or name.endswith((".log", ".out", ".err"))


def check_kept(folder: Path, *, may_vanish: bool = False) -> str:
    """Return what to say of a run folder that may go with the container; empty where it stays.

    Parameters
    ----------
    folder : Path
        The run folder, which may be absent.
    may_vanish : bool
        Whether it may lie where it surely is lost: for a look.

    Raises
    ------
    InputError
        It surely vanishes with the container, and all results with it.
    """
    unbound = find_unbound(folder)
    if unbound is None:
        return ""
    container = unbound.container
    if unbound.certain and not may_vanish:
        raise InputError(
            f"The run folder would vanish with the container ({container.kind})",
            file=folder,
            expected="a folder of the host that is bound into the container",
            found="one that the container holds in memory",
            hint=f"Start it with {container.how_to_bind}, and choose a run folder in there.",
        )
    surely = "vanishes" if unbound.certain else "may vanish"
    return (
        f"{folder} is the container's own ({container.kind}) and {surely} with it: "
        f"keep results in a folder that is bound ({container.how_to_bind})"
    )


@contextmanager
def telling_of_writes(folder: Path) -> Iterator[None]:
    """Raise InputError in place of the system's own error where a folder cannot be made or written to."""
    try:
        yield
    except OSError as error:
        raise InputError(
            "The output folder cannot be written to",
            file=folder,
            found=error.strerror or str(error),
            hint=hint_to_bind_writable(folder)
            or "Choose a folder that you may write to, on a disk with room.",
        ) from None


def check_same_input(
    folder: Path, source: Path, before: RunDocument, slices: Mapping[str, str]
) -> None:
    """Raise InputError where a run folder was made from another input than the one given.

    The same path is the same input, whatever has become of its files; an input elsewhere is the same when any
    of its slices is.
    """
    if Path(before.input) == source.resolve():
        return
    if any(before.slices.get(name) == digest for name, digest in slices.items()):
        return
    raise InputError(
        "The run folder belongs to another input",
        file=folder,
        expected=before.input,
        found=str(source.resolve()),
        hint="Choose another run folder for this input.",
    )
