"""Each task of a Slurm step knows which one it is, what it may use, and where the others are."""

from __future__ import annotations

import json
import threading
from dataclasses import replace

import pytest

from soct.errors import ResourceError, UsageError
from soct.pipeline.workers import dask_slurm
from soct.pipeline.workers.dask_slurm import StepTask, find_task, lead

STEP = {"SLURM_PROCID": "3", "SLURM_JOB_ID": "71", "SLURM_STEP_ID": "0", "SLURM_NODEID": "1"}
MIB = 1 << 20


@pytest.mark.parametrize(
    ("given", "memory"),
    [
        ({"SLURM_MEM_PER_CPU": "2000", "SLURM_CPUS_PER_TASK": "1"}, 2000 * MIB),
        ({"SLURM_MEM_PER_NODE": "9000", "SLURM_STEP_TASKS_PER_NODE": "2(x2),1"}, 4500 * MIB),
        ({"SLURM_MEM_PER_NODE": "9000", "SLURM_STEP_TASKS_PER_NODE": "4,3"}, 3000 * MIB),
    ],
)
def test_a_task_has_its_part_of_the_memory_of_its_node(given, memory):
    task = find_task({**STEP, **given})
    assert (task.rank, task.memory_bytes) == (3, memory)


def test_a_task_that_was_given_the_whole_node_takes_part_of_what_is_free(monkeypatch):
    monkeypatch.setattr(dask_slurm, "free_memory", lambda: 800 * MIB)
    given = {"SLURM_MEM_PER_NODE": "0", "SLURM_STEP_TASKS_PER_NODE": "3(x2)"}
    assert find_task({**STEP, **given}).memory_bytes == 200 * MIB


def test_a_task_uses_the_processors_of_a_task(monkeypatch):
    monkeypatch.setattr(dask_slurm, "available_cpus", lambda: 64)
    assert find_task({**STEP, "SLURM_CPUS_PER_TASK": "8"}).threads == 8
    assert find_task(STEP).threads == 64


def test_outside_of_a_step_the_error_says_how_to_start_it():
    with pytest.raises(UsageError, match="srun"):
        find_task({"SLURM_JOB_ID": "71"})


def test_a_job_that_was_requeued_has_another_scheduler_file(tmp_path):
    first = find_task(STEP).scheduler_file(tmp_path / "run")
    again = find_task({**STEP, "SLURM_RESTART_COUNT": "1"}).scheduler_file(tmp_path / "run")
    assert first.parent == again.parent == tmp_path
    assert first != again
    assert first.name.startswith(".run.dask-71.")


def test_task_0_tells_its_address_while_it_leads_and_takes_the_file_away(tmp_path):
    task = StepTask(0, "71", "0", 1, 1 << 30)
    file = task.scheduler_file(tmp_path / "run")
    with lead(task, tmp_path / "run") as address:
        assert json.loads(file.read_text())["address"] == address
    assert list(tmp_path.iterdir()) == []


def test_a_worker_ends_when_task_0_does(tmp_path, monkeypatch):
    monkeypatch.setattr(dask_slurm.signal, "signal", lambda number, handler: None)
    task = StepTask(0, "71", "0", 1, 1 << 30)
    follower = threading.Thread(
        target=dask_slurm.follow, args=(replace(task, rank=1), tmp_path / "run"), daemon=True
    )
    follower.start()
    with lead(task, tmp_path / "run"):
        follower.join(3)
        assert follower.is_alive()
    follower.join(30)
    assert not follower.is_alive()


def test_a_worker_that_finds_no_task_0_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(dask_slurm.signal, "signal", lambda number, handler: None)
    monkeypatch.setattr(dask_slurm, "JOIN_S", 0.3)
    with pytest.raises(ResourceError, match="Task 0"):
        dask_slurm.follow(StepTask(1, "71", "0", 1, 1 << 30), tmp_path / "run")
