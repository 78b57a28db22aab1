"""The section ``slurm`` of a site file is checked like all others: line, what is wrong, what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from soct.errors import ConfigurationError
from soct.pipeline.sites.site_file import load_site


def load(tmp_path: Path, *lines: str, **environment: str):
    path = tmp_path / "site.yaml"
    path.write_text("slurm:\n" + "".join(f"  {line}\n" for line in lines))
    return load_site(path, environment).slurm


def test_values_are_read_with_their_units(tmp_path) -> None:
    slurm = load(tmp_path, "time: 1h30m", "memory: 4GiB", "gpus: 2", "sbatch: [-C avx2]")
    assert slurm.time == 5400
    assert slurm.memory == 4 << 30
    assert slurm.gpus == "2"
    assert slurm.sbatch == ("-C avx2",)
    assert load_site(None, {}).slurm.requeue


def test_the_environment_changes_one_key_of_it(tmp_path) -> None:
    slurm = load(tmp_path, "partition: long", "tasks: 4", SOCT_SITE__slurm__partition="short")
    assert (slurm.partition, slurm.tasks) == ("short", 4)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("partiton: x", "did you mean partition?"),
        ("partition: 'a b; rm -rf /'", "partition"),
        ("time: 1m", "at least 2 minutes"),
        ("time: soon", "duration"),
        ("memory: 1MB", "512MiB"),
        ("tasks: 0", "from 1 to 10000"),
        ("gpus: 0", "gpus"),
        ("requeue: yes", "did you mean true?"),
        ("sbatch: [--array=1-4]", "the key for it: tasks and at_once"),
        ("sbatch: [constraint=avx2]", "an option of sbatch"),
        ("binds: [data]", "an absolute path"),
        ('before: ["a\\nb"]', "one line"),
    ],
)
def test_mistakes_are_told_with_line_and_what_is_allowed(tmp_path, line, told) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, "account: lab", line)
    assert told in str(caught.value)
    assert "site.yaml:3" in str(caught.value)
