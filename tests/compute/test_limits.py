"""A run takes no more of a machine than its control group and its Slurm job grant."""

from __future__ import annotations

from pathlib import Path

import pytest

from soct.compute import threads
from soct.compute.limits import (
    MemoryLimit,
    read_cpu_quota,
    read_memory_limit,
    slurm_cpus,
    slurm_memory,
)
from soct.pipeline import resources

GROUP = "sys/fs/cgroup"


def lay_out(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_without_control_groups_there_is_no_limit(tmp_path):
    assert read_memory_limit(tmp_path) is None
    assert read_cpu_quota(tmp_path) is None


def test_version_two_is_read_in_a_container_that_sees_only_its_own(tmp_path):
    lay_out(
        tmp_path,
        {
            "proc/self/cgroup": "0::/\n",
            f"{GROUP}/memory.max": "2000000000\n",
            f"{GROUP}/memory.current": "900\n",
            f"{GROUP}/memory.stat": "anon 100\ninactive_file 300\n",
            f"{GROUP}/cpu.max": "250000 100000\n",
        },
    )
    assert read_memory_limit(tmp_path) == MemoryLimit(2_000_000_000, 600)
    assert read_cpu_quota(tmp_path) == 2.5


def test_the_tightest_of_nested_groups_counts(tmp_path):
    lay_out(
        tmp_path,
        {
            "proc/self/cgroup": "0::/slurm/job_7/task_0\n",
            f"{GROUP}/slurm/job_7/task_0/memory.max": "max\n",
            f"{GROUP}/slurm/job_7/memory.max": "5000\n",
            f"{GROUP}/slurm/memory.max": "9000\n",
            f"{GROUP}/slurm/job_7/cpu.max": "max 100000\n",
            f"{GROUP}/slurm/cpu.max": "400000 100000\n",
        },
    )
    assert read_memory_limit(tmp_path) == MemoryLimit(5000, 0)
    assert read_cpu_quota(tmp_path) == 4.0


def test_version_one_is_read_and_its_large_number_is_no_limit(tmp_path):
    lay_out(
        tmp_path,
        {
            "proc/self/cgroup": "5:memory:/job\n3:cpu,cpuacct:/job\n0::/\n",
            f"{GROUP}/memory/memory.limit_in_bytes": "9223372036854771712\n",
            f"{GROUP}/memory/job/memory.limit_in_bytes": "7000\n",
            f"{GROUP}/memory/job/memory.usage_in_bytes": "1000\n",
            f"{GROUP}/cpu/job/cpu.cfs_quota_us": "300000\n",
            f"{GROUP}/cpu/job/cpu.cfs_period_us": "100000\n",
            f"{GROUP}/cpu/cpu.cfs_quota_us": "-1\n",
            f"{GROUP}/cpu/cpu.cfs_period_us": "100000\n",
        },
    )
    assert read_memory_limit(tmp_path) == MemoryLimit(7000, 1000)
    assert read_cpu_quota(tmp_path) == 3.0


def test_slurm_grants_count_inside_of_a_job_only():
    job = {"SLURM_JOB_ID": "1", "SLURM_CPUS_PER_TASK": "4", "SLURM_MEM_PER_NODE": "2048"}
    assert (slurm_cpus(job), slurm_memory(job)) == (4, 2048 << 20)
    each = {"SLURM_JOB_ID": "1", "SLURM_CPUS_ON_NODE": "8", "SLURM_MEM_PER_CPU": "100"}
    assert slurm_memory(each) == 800 << 20
    assert slurm_memory({"SLURM_JOB_ID": "1", "SLURM_MEM_PER_NODE": "0"}) is None
    assert slurm_cpus({"SLURM_CPUS_PER_TASK": "4"}) is None


def test_a_run_takes_what_is_granted(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(threads, "affine_cpus", lambda: 64)
    monkeypatch.setattr(threads, "slurm_cpus", lambda: None)
    monkeypatch.setattr(threads, "read_cpu_quota", lambda: 2.9)
    assert threads.available_cpus() == 2
    monkeypatch.setattr(threads, "read_cpu_quota", lambda: 0.5)
    assert threads.available_cpus() == 1
    monkeypatch.setattr(threads, "read_cpu_quota", lambda: None)
    assert threads.available_cpus() == 64
    monkeypatch.setattr(threads, "slurm_cpus", lambda: 4)
    assert threads.available_cpus() == 4
    monkeypatch.setattr(resources, "read_memory_limit", lambda: MemoryLimit(5000, 1000))
    monkeypatch.setattr(resources, "slurm_memory", lambda: 4500)
    assert resources.free_memory() == 4000
