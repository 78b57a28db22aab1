"""What `soct slurm` writes, on a real Slurm of one node (``../shared/tools/slurm-one-node.sh``).

Tasks share two processors with whatever else the machine does, so that nothing here depends on time but the
limits that the tests themselves set.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# Of a test: four runs of a small acquisition on a busy machine.
pytestmark = pytest.mark.timeout(3600)
_PATIENCE_S = 1500.0
PART = ("--until", "compensate_attenuation")
"""Where the whole run would only take longer."""
PART_DONE = "partial"
"""What `soct status` says of a run of which all that was asked for is complete."""


def call(*command: str, cwd: Path | None = None, check: bool = True) -> str:
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, check=False, timeout=_PATIENCE_S
    )
    assert done.returncode == 0 or not check, f"{command}: {done.stdout}\n{done.stderr}"
    return done.stdout


def soct(*arguments: str, cwd: Path) -> str:
    program = "from soct.cli.main import main; main()"
    return call(sys.executable, "-c", program, *arguments, cwd=cwd)


@pytest.fixture(scope="session")
def plain(plain_run: Path) -> dict[str, bytes]:
    """What `soct run` makes of the sample."""
    return data_bytes(plain_run)


@pytest.fixture(scope="session")
def too_short(shared: Path, plain_run: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Half of the time that the part takes on this machine, as it is now, with all kernels compiled."""
    source = str(shared / "data" / "soct_sample" / "raw")
    began = time.monotonic()
    folder = tmp_path_factory.mktemp("timed")
    soct("run", source, "run", "--profile", "conservative", "--cpus", "2", *PART, cwd=folder)
    return f"{max(5.0, (time.monotonic() - began) / 2):.0f}s"


def data_bytes(run: Path) -> dict[str, bytes]:
    """Return the files of a run that must not depend on how it was computed."""
    steps = json.loads((run / "run.json").read_text())["units"]
    return {
        path.relative_to(run).as_posix(): path.read_bytes()
        for step in steps
        for path in sorted((run / step).rglob("*"))
        if path.is_file() and "metrics" not in path.parts
    }


def is_part_of(found: dict[str, bytes], whole: dict[str, bytes]) -> bool:
    """Whether a run of some steps made the files that the whole run made, and all of each step."""
    steps = {name.split("/")[0] for name in found}
    return found == {name: data for name, data in whole.items() if name.split("/")[0] in steps}


def units(run: Path) -> int:
    """How many units are finished."""
    steps = json.loads((run / "run.json").read_text())["units"]
    return sum(len(list((run / "state" / step).glob("*.json"))) for step in steps)


class Job:
    """A script, and the run folder that it works on."""

    def __init__(self, folder: Path, source: Path) -> None:
        self.folder = folder
        self.source = source
        self.run = folder / "a run"
        self.script = folder / "job.sbatch"

    def write(self, *options: str, change: Callable[[str], str] = str) -> None:
        arguments = (str(self.source), str(self.run), "--profile", "conservative", *options)
        self.script.write_text(change(soct("slurm", *arguments, cwd=self.folder)))

    def submit(self) -> list[str]:
        """Submit, and return the numbers of the jobs."""
        told = call("bash", str(self.script), cwd=self.folder)
        return re.findall(r"job (\d+),", told)

    def numbers(self) -> list[str]:
        """Return the numbers of all jobs that were submitted."""
        text = (self.run / "slurm" / "jobs.tsv").read_text()
        return [line.split("\t")[2] for line in text.splitlines()]

    def queue(self) -> list[str]:
        """Return the tasks of this run that wait or run."""
        jobs = self.numbers()
        text = call("squeue", "--noheader", "--array", "--format=%F %T")
        return [line.split()[1] for line in text.splitlines() if line.split()[0] in jobs]

    def wait(self, until: Callable[[], bool] | None = None) -> None:
        """Wait until something is so; None: until the queue holds nothing of this run."""
        ends = time.monotonic() + _PATIENCE_S
        while not (until() if until is not None else not self.queue()):
            assert time.monotonic() < ends, f"{self.queue()}\n{self.logs()}"
            time.sleep(1)

    def logs(self) -> str:
        return "\n".join(p.read_text() for p in sorted((self.run / "slurm").glob("*.log")))

    def computed(self) -> list[int]:
        """How many units each process computed, by its own account."""
        return [int(n) for n in re.findall(r": (\d+) units computed", self.logs())]

    def state(self) -> str:
        return str(json.loads(soct("status", str(self.run), "--json", cwd=self.folder))["state"])


@pytest.fixture
def job(slurm: None, shared: Path, tmp_path: Path) -> Iterator[Job]:
    made = Job(tmp_path, shared / "data" / "soct_sample" / "raw")
    yield made
    if made.run.exists():
        call("scancel", *made.numbers(), check=False)


def test_the_job_makes_byte_for_byte_what_a_plain_run_makes(job: Job, plain) -> None:
    job.write("--cpus", "1")
    began = time.monotonic()
    assert len(job.submit()) == 3
    job.wait()
    print(f"{time.monotonic() - began:.0f} s through Slurm")
    assert job.state() == "complete", job.logs()
    assert data_bytes(job.run) == plain
    assert sum(job.computed()) == units(job.run)
    assert list(job.run.glob("*_quality_report.html"))


def test_the_file_may_be_given_to_sbatch(job: Job) -> None:
    job.write("--cpus", "1", "--until", "create_mosaic_grid")
    call("sbatch", str(job.script), cwd=job.folder)
    job.wait(lambda: (job.run / "slurm" / "jobs.tsv").exists())
    job.wait()
    assert job.state() == PART_DONE, job.logs()


def test_after_scancel_the_next_submission_continues(job: Job, plain) -> None:
    job.write("--cpus", "1")
    first = job.submit()
    job.wait(lambda: len(list((job.run / "state").glob("resample_mosaic_grid/*.json"))) >= 2)
    began = time.monotonic()
    call("scancel", *first)
    job.wait()
    assert time.monotonic() - began < 60
    assert "leaked" not in job.logs()
    assert 6 <= units(job.run) < 37
    assert job.state() == "stopped"
    job.submit()
    job.wait()
    assert job.state() == "complete", job.logs()
    assert data_bytes(job.run) == plain
    # What the first ones had finished was not computed again.
    assert sum(job.computed()) == units(job.run)


def test_16_tasks_that_start_together_compute_every_unit_once(job: Job, plain) -> None:
    call("scontrol", "update", "PartitionName=main", "OverSubscribe=FORCE:16")
    try:
        job.write("--cpus", "1", *PART, change=lambda text: re.sub(r"1-4(?= )", "1-16", text))
        job.submit()
        job.wait(lambda: job.queue().count("RUNNING") == 16)
        job.wait()
    finally:
        call("scontrol", "update", "PartitionName=main", "OverSubscribe=NO")
    assert len(list((job.run / "slurm").glob("slices-*_*.log"))) == 16
    assert job.state() == PART_DONE, job.logs()
    assert sum(job.computed()) == units(job.run)
    assert len([n for n in job.computed() if n]) > 1
    assert is_part_of(data_bytes(job.run), plain)


def test_a_job_shorter_than_the_work_ends_with_75_and_the_next_continues(
    job: Job, plain, too_short: str
) -> None:
    site = job.folder / "site.yaml"
    site.write_text("slurm:\n  requeue: false\n")
    job.write("--cpus", "2", "--tasks", "1", "--max-runtime", too_short, *PART, "--site", str(site))
    for _ in range(40):
        job.submit()
        job.wait()
        if job.state() == PART_DONE:
            break
    assert "out of time; submit the script again" in job.logs()
    assert job.state() == PART_DONE, job.logs()
    assert is_part_of(data_bytes(job.run), plain)
    assert sum(job.computed()) == units(job.run)


def test_a_job_shorter_than_the_work_goes_back_into_the_queue(
    job: Job, plain, too_short: str
) -> None:
    job.write("--cpus", "2", "--tasks", "1", "--max-runtime", too_short, *PART)
    for _ in range(40):
        job.submit()
        job.wait()
        # On a busy machine half of the time may not do for one unit: then a task does not go back.
        if job.state() == PART_DONE:
            break
    assert "goes back into the queue" in job.logs()
    assert "Slurm does not let it" not in job.logs()
    assert job.state() == PART_DONE, job.logs()
    assert is_part_of(data_bytes(job.run), plain)


def test_tasks_work_in_a_container_and_stop_there_when_they_are_told_to(
    job: Job, plain, sif: Path
) -> None:
    # Where the container surely can be given it.
    job.source = Path(shutil.copytree(job.source, job.folder / "raw: tiles, all"))
    site = job.folder / "site.yaml"
    site.write_text(f"slurm:\n  container: {sif}\n")
    job.write("--cpus", "1", "--site", str(site))
    first = job.submit()
    job.wait(lambda: len(list((job.run / "state").glob("create_mosaic_grid/*.json"))) >= 1)
    call("scancel", *first)
    job.wait()
    assert "stopped by SIGTERM" in job.logs()
    assert "leaked" not in job.logs()
    assert job.state() == "stopped"
    job.submit()
    job.wait()
    assert job.state() == "complete", job.logs()
    assert sum(job.computed()) == units(job.run)
    assert data_bytes(job.run) == plain


def test_a_script_that_the_image_wrote_gives_jobs_its_binds_from_where_they_lie(
    job: Job, plain, sif: Path
) -> None:
    outside = job.folder / "outside"
    shutil.copytree(job.source, outside / "raw")
    job.run = outside / "run"
    bound = ("--bind", f"{outside}/raw:/raw:ro", "--bind", f"{outside}:/data")
    options = ("--profile", "conservative", "--cpus", "1", *PART)
    job.script.write_text(
        call(
            *("apptainer", "exec", *bound, "--cwd", "/data", str(sif)),
            *("soct", "slurm", "/raw", "/data/run", *options),
            cwd=job.folder,
        )
    )
    assert f"--bind {outside}:/data --bind {outside}/raw:/raw:ro " in job.script.read_text()
    job.submit()
    job.wait()
    assert "WARNING" not in job.logs()
    assert job.state() == PART_DONE, job.logs()
    assert is_part_of(data_bytes(job.run), plain)
