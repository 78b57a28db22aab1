"""`soct run --dask` on the sample acquisition: every form of cluster gives the bytes of a plain run."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.timeout(3600)
SOCT = [sys.executable, "-c", "from soct.cli.main import main; main()"]
DASK = [sys.executable, "-m", "dask"]
OPTIONS = ["--profile", "conservative", "--subject", "sample"]


@pytest.fixture(scope="module")
def raw(shared: Path) -> Path:
    return shared / "data" / "soct_sample" / "raw"


@pytest.fixture(scope="module")
def plain(plain_run: Path) -> dict[str, str]:
    """What worker processes of soct's own make of the sample."""
    return digests(plain_run)


def digests(run: Path) -> dict[str, str]:
    """Digest of every file that must not depend on how it was computed."""
    steps = json.loads((run / "run.json").read_text())["units"]
    return {
        path.relative_to(run).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for step in steps
        for path in sorted((run / step).rglob("*"))
        if path.is_file() and "metrics" not in path.parts
    }


def units_and_computed(run: Path) -> tuple[int, int]:
    """How many units there are, and how many the only invocation computed."""
    document = json.loads((run / "run.json").read_text())
    (only,) = document["history"]
    assert only["state"] == "complete"
    return sum(map(len, document["units"].values())), only["computed"]


def start(*command: str | Path, **options: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [str(word) for word in command], stderr=subprocess.PIPE, text=True, **options
    )


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 600
    while not (happened := condition()) and process.poll() is None and time.monotonic() < end:
        time.sleep(0.05)
    assert happened, "the run ended before the test could disturb it"


def test_a_cluster_on_this_machine_loses_a_worker_and_gives_the_same_bytes(raw, plain, tmp_path):
    folder = tmp_path / "run"
    process = start(*SOCT, "run", raw, folder, *OPTIONS, "--dask", "local", "--cpus", "2")
    try:
        wait_for(lambda: len(list(folder.glob("state/*/z*.json"))) >= 6, process)
        wait_for(lambda: kill_one_at_work(process), process)
        _, told = process.communicate(timeout=1800)
    finally:
        process.kill()
    assert process.returncode == 0, told
    assert "is gone" in told
    assert "again on another worker" in told
    units, computed = units_and_computed(folder)
    assert computed == units
    assert digests(folder) == plain


def kill_one_at_work(process: subprocess.Popen[str]) -> bool:
    """Kill the Dask worker of a process that computes a unit; say whether there was one."""
    for child in psutil.Process(process.pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if "child_process" in " ".join(child.cmdline()) and child.cpu_percent(0.3) > 10:
                child.parent().kill()
                return True
    return False


@contextmanager
def cluster_of_a_file(file: Path) -> Iterator[None]:
    """A scheduler and two workers, as people start them."""
    scheduler = ["scheduler", "--scheduler-file", file, "--port", "0"]
    worker = ["worker", "--scheduler-file", file, "--nthreads", "1", "--memory-limit", "3GiB"]
    no_page = ["--dashboard-address", "127.0.0.1:0"]
    quiet = {"stdout": subprocess.DEVNULL}
    started = [start(*DASK, *scheduler, *no_page, **quiet)]
    try:
        wait_for(file.exists, started[0])
        started += [start(*DASK, *worker, *no_page, **quiet) for _ in range(2)]
        yield
    finally:
        for process in reversed(started):
            process.terminate()
        for process in started:
            process.communicate(timeout=60)


def test_a_cluster_of_a_scheduler_file_gives_the_same_bytes(raw, plain, tmp_path):
    with cluster_of_a_file(tmp_path / "scheduler.json"):
        command = ["run", raw, "run", *OPTIONS, "--dask", "scheduler.json"]
        subprocess.run([*SOCT, *command], check=True, capture_output=True, cwd=tmp_path)
    assert digests(tmp_path / "run") == plain


def test_the_tasks_of_a_slurm_job_give_the_same_bytes(slurm, raw, plain, tmp_path):
    script = tmp_path / "job.sh"
    program = f'{sys.executable} -c "from soct.cli.main import main; main()"'
    script.write_text(
        "#!/bin/bash\n#SBATCH --ntasks=2 --cpus-per-task=1 --mem=6G --time=60\n"
        f"srun --kill-on-bad-exit=0 {program} run {raw} run {' '.join(OPTIONS)} --dask slurm\n"
    )
    done = subprocess.run(
        ["sbatch", "--wait", "--output=log", script], cwd=tmp_path, check=False, env={**os.environ}
    )
    assert done.returncode == 0, (tmp_path / "log").read_text()
    assert digests(tmp_path / "run") == plain
    assert not list(tmp_path.glob(".*.dask-*.json"))
