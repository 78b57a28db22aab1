"""Fixtures that more than one room uses."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from soct.compute import caches, threads

# Before any test imports numpy: what tests compute themselves must equal what the commands that they start do.
# And all of them keep compiled kernels in one place, so that each is compiled once.
caches.prepare()
# As in workers, where steps run: linear algebra has one thread, and threads that wait for others sleep. Test processes
# side by side have more threads than the machine has processors, and one that spins takes the time of those that it
# waits for, tenfold.
for name, value in threads.worker_environment(1).items():
    if name != "NUMBA_NUM_THREADS":
        os.environ.setdefault(name, value)


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], None]], Path]:
    """Give a folder that is made once for all test processes of a call: `once(name, make)`.

    Whoever asks first makes it; whoever asks meanwhile waits. Nobody may change what is in it.
    """
    own = tmp_path_factory.getbasetemp()
    root = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "once"
    root.mkdir(exist_ok=True)

    def get(name: str, make: Callable[[Path], None]) -> Path:
        folder, finished = root / name, root / f"{name}.finished"
        with (root / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not finished.exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                make(folder)
                finished.touch()
        return folder

    return get


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference data and benchmarks beside the checkout; tests skip where it is absent."""
    folder = Path(os.environ.get("SOCT_SHARED", Path(__file__).parents[2] / "shared")).resolve()
    if not (folder / "data").is_dir():
        pytest.skip("reference data (../shared or $SOCT_SHARED) are not on this machine")
    return folder
