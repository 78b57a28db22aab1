"""Whether a worker elsewhere can work for a run: the same soct, the same input, the same run folder.

The main process leaves a token in the run folder and says what it knows of the input; the worker looks, and
leaves a token of its own for the main process to see.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import soct
from soct.compute import instruction_set
from soct.pipeline.request import Fingerprint
from soct.pipeline.resources import free_memory

if TYPE_CHECKING:
    from soct.formats.acquisition import SliceRecord

LIBRARIES = ("numpy", "scipy", "numba", "scikit-image", "SimpleITK", "zarr")
"""Another version of one of these may change the last bits of a result."""
LAG_S = 10.0
"""How long a file may take to show on another machine when workers are looked at."""


@dataclass(frozen=True)
class Probe:
    """What a worker is to find."""

    folder: Path
    token: str
    """Content, and end of the name, of a hidden file in the run folder."""
    record: SliceRecord
    """A slice of the input."""
    files: Mapping[str, str]
    """The slice's fingerprint."""
    fingerprint: Fingerprint
    gpu: Literal["auto", "off", "require"] = "off"
    code: str = ""
    """Digest of soct's source."""
    libraries: Mapping[str, str] = field(default_factory=dict)
    """``library -> version``, and the instruction set."""

    @property
    def question(self) -> Path:
        """The main process's file."""
        return self.folder / f".question-{self.token}.partial"

    def answer(self, name: str) -> Path:
        """Return a worker's file."""
        return self.folder / f".answer-{self.token}-{name}.partial"


@dataclass(frozen=True)
class Sight:
    """What a worker found."""

    trouble: str
    """Why the worker cannot be used; empty where it can."""
    host: str
    pid: int
    free_bytes: int
    libraries: Mapping[str, str]
    """Those that have another version than in the main process."""


@contextmanager
def posed(probe: Probe) -> Iterator[None]:
    """Leave the question in the run folder within the block, and tidy up answers afterwards."""
    probe.question.write_text(probe.token)
    try:
        yield
    finally:
        for path in probe.folder.glob(f".*-{probe.token}*.partial"):
            path.unlink(missing_ok=True)


def new_token() -> str:
    """Return a token that no other run has."""
    return secrets.token_hex(8)


def look(probe: Probe, name: str) -> Sight:
    """Look at what a worker sees, from within it, and leave the answer under a name."""
    there = library_versions()
    differing = {k: there[k] for k, here in probe.libraries.items() if there.get(k) != here}
    trouble = (
        _code_trouble(probe)
        or _folder_trouble(probe)
        or _input_trouble(probe)
        or _gpu_trouble(probe)
        or _write_answer(probe, name)
    )
    return Sight(trouble, socket.gethostname(), os.getpid(), free_memory(), differing)


def confirm(probe: Probe, name: str) -> str:
    """Return what is wrong with a worker's answer, from within the main process; empty where nothing is."""
    if _wait_for_text(probe.answer(name), probe.token):
        return ""
    return f"what it writes into {probe.folder} does not arrive here"


def _code_trouble(probe: Probe) -> str:
    if code_digest() == probe.code:
        return ""
    return f"its soct {soct.__version__} has other code than the one here, under the same version"


def _folder_trouble(probe: Probe) -> str:
    if _wait_for_text(probe.question, probe.token):
        return ""
    if not probe.folder.is_dir():
        return f"it does not see the run folder {probe.folder}"
    return f"its {probe.folder} is another folder than the one here"


def _input_trouble(probe: Probe) -> str:
    root = probe.record.root
    try:
        found = probe.fingerprint(probe.record)
    except OSError:
        return f"it does not see the input {root}"
    differing = [name for name in probe.files if found.get(name) != probe.files[name]]
    if not differing:
        return ""
    return f"its input {root} has other files than the one here, such as {differing[0]}"


def _gpu_trouble(probe: Probe) -> str:
    if probe.gpu != "require":
        return ""
    from soct.compute.backend import find_gpu

    reason = find_gpu()[1]
    return f"it has no GPU that can be used ({reason})" if reason else ""


def _write_answer(probe: Probe, name: str) -> str:
    try:
        probe.answer(name).write_text(probe.token)
    except OSError as error:
        return f"it cannot write into {probe.folder} ({error.strerror})"
    return ""


def _wait_for_text(path: Path, text: str) -> bool:
    """Wait until a file has a content; a network file system may show it a little late."""
    end = time.monotonic() + LAG_S
    while True:
        try:
            if path.read_text() == text:
                return True
        except OSError:
            if not path.parent.is_dir():
                return False
            # Listing a folder has the system ask the server again.
            list(path.parent.iterdir())
        if time.monotonic() > end:
            return False
        time.sleep(0.1)


@cache
def code_digest() -> str:
    """Return a digest of soct's own source."""
    root = Path(soct.__file__).parent
    sums = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        sums.update(path.relative_to(root).as_posix().encode() + b"\0")
        sums.update(path.read_bytes())
    return sums.hexdigest()


@cache
def library_versions() -> dict[str, str]:
    """Return the versions of the libraries that compute, and what kernels are compiled for."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = ""
    found["instruction set"] = instruction_set.describe()[0]
    return found
