"""`soct slurm`: what the script says, and what it does under a Slurm that runs tasks one after the other."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from soct.cli.app import run_app
from soct.cli.main import run_guarded
from soct.errors import ExitCode
from soct.pipeline import runner
from soct.pipeline.slurm.outside import Bind
from tests.cli import fake_slurm
from tests.cli.test_job import on_fake_input
from tests.pipeline.fake_pipeline import STEPS, make_input

Soct = Callable[..., int]

# Notes its arguments, one per line after a count, and ends as the file `ends` says, line by line; then with 0.
FAKE_SOCT = """#!/bin/bash
{ printf '%s\\0' "$@"; printf '\\n'; } >>"$FAKE_SLURM/calls"
printf '%s\\n' "$PWD" >>"$FAKE_SLURM/places"
printf '%s\\n' "$SOCT_CONTINUE" >>"$FAKE_SLURM/continues"
end=0
if [[ -s $FAKE_SLURM/ends ]]; then
  read -r end progress <"$FAKE_SLURM/ends"
  sed -i 1d "$FAKE_SLURM/ends"
  # What every task writes, though it finish nothing.
  sleep 0.05
  mkdir -p "$3"/state/{claims/cut,processes,progress,cut}
  touch "$3"/state/{acquisition,session,claims/cut/z01,processes/1,progress/1,cut/.z01}.json
  if [[ $progress == progress ]]; then
    touch "$3/state/cut/z$RANDOM.json"
  fi
fi
exit "$end"
"""


SIF = b"#!/usr/bin/env run-singularity\n\0SIF_MAGIC\x0001\0"


@dataclass
class Cluster:
    """The folder of a fake Slurm and what went on in it."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def jobs(self) -> list[dict]:
        return [json.loads(p.read_text()) for p in sorted(self.folder.glob("job-*.json"))]

    @property
    def calls(self) -> list[list[str]]:
        """Arguments of every start of soct."""
        path = self.folder / "calls"
        text = path.read_text() if path.exists() else ""
        return [call.split("\0") for call in text.split("\0\n") if call]

    def say(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)

    def start(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """A fake Slurm and a fake soct on the PATH."""
    state = tmp_path / "fake slurm"
    programs = fake_slurm.install(state / "bin")
    (programs / "soct").write_text(FAKE_SOCT)
    (programs / "soct").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_SLURM", str(state))
    for name in [name for name in os.environ if name.startswith("SLURM_")]:
        monkeypatch.delenv(name)
    return Cluster(state)


@pytest.fixture
def soct(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Soct:
    """Call the command line in this process, with a small pipeline of text files."""
    monkeypatch.chdir(tmp_path)
    for module in ("soct.pipeline.profiles.profile", "soct.pipeline.asked_run"):
        monkeypatch.setattr(f"{module}.load_steps", lambda: STEPS)
    monkeypatch.setattr(runner, "plan", on_fake_input(runner.plan))

    def call(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["soct", *arguments])
        return run_guarded(lambda: run_app(list(arguments)), list(arguments))

    return call


@pytest.fixture
def source(tmp_path: Path) -> str:
    return str(make_input(tmp_path / "in", (1, 2, 4, 5)))


@pytest.fixture
def write(soct: Soct, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., Path]:
    """Write the script of a run, as the shell's ``>`` does."""

    def written(*arguments: str) -> Path:
        capsys.readouterr()
        assert soct("slurm", *arguments) == ExitCode.OK
        path = tmp_path / "job.sbatch"
        path.write_text(capsys.readouterr().out)
        return path

    return written


def table_of(script: Path) -> list[list[str]]:
    lines = script.read_text().splitlines()
    start = lines.index("phases=(")
    return [shlex.split(line)[0].split() for line in lines[start + 1 : lines.index(")", start)]]


def site(tmp_path: Path, *lines: str) -> str:
    path = tmp_path / "site file.yaml"
    path.write_text("name: here\nslurm:\n" + "".join(f"  {line}\n" for line in lines))
    return f"--site={path}"


def test_the_phases_are_slices_pairs_and_the_whole_run(write, source, cluster) -> None:
    script = write(source, "out", "--cpus", "1", "--memory", "3GiB")
    assert table_of(script) == [
        ["slices", "cut", "1-4", "1", "3072M", "00:30:00", "-"],
        ["pairs", "register", "1-5", "1", "3072M", "00:30:00", "-"],
        ["whole", "-", "1-1", "1", "3072M", "00:30:00", "-"],
    ]


def test_a_script_is_good_bash(write, source, cluster, tmp_path) -> None:
    script = write(source, "out 'x", site(tmp_path, "before: [module load apptainer]", "gpus: 1"))
    assert subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not on this machine")
    done = subprocess.run(["shellcheck", str(script)], capture_output=True, text=True, check=False)
    assert not done.stdout


def test_every_phase_is_an_array_that_waits_for_the_one_before(write, source, cluster) -> None:
    script = write(source, "out", "--cpus", "2", "--tasks", "3")
    done = cluster.start("bash", str(script))
    assert done.returncode == 0, done.stderr
    assert [job["arguments"][0] for job in cluster.jobs] == ["slices", "pairs", "whole"]
    options = [job["options"] for job in cluster.jobs]
    assert [o.get("dependency") for o in options] == [None, "afterany:100", "afterany:101"]
    assert [o["array"] for o in options] == ["1-2", "1-3", "1-1"]
    assert {o["cpus-per-task"] for o in options} == {"2"}
    assert [len(job["tasks"]) for job in cluster.jobs] == [2, 3, 1]
    assert "submitted slices     job 100" in done.stdout
    assert "soct status" in done.stdout


def test_the_same_file_given_to_sbatch_submits_the_same_phases(write, source, cluster) -> None:
    script = write(source, "out", "--cpus", "2")
    done = cluster.start("sbatch", str(script))
    assert done.returncode == 0, done.stderr
    launcher, *phases = cluster.jobs
    assert launcher["arguments"] == []
    assert launcher["options"]["cpus-per-task"] == "1"
    assert [job["arguments"][0] for job in phases] == ["slices", "pairs", "whole"]


def test_a_task_runs_soct_with_what_was_asked_and_what_the_job_has(write, source, cluster) -> None:
    arguments = ["--set", "cut.amount=3", "--slices", "1,2,4", "--subject", "S 1", "--from", "read"]
    script = write(source, "out", "--cpus", "2", "--memory", "4000MiB", *arguments)
    assert cluster.start("bash", str(script)).returncode == 0
    first, *_, last = cluster.calls
    run = str(Path("out").absolute())
    assert first[:3] == ["run", source, run]
    options = [word for word in first if word.startswith("--")]
    for wanted in ("--profile=default", "--set=cut.amount=3", "--slices=1,2,4", "--subject=S 1"):
        assert wanted in options
    assert "--from=read" in options
    assert first[first.index("--until") + 1] == "cut"
    assert first[first.index("--cpus") + 1] == "2"
    assert first[first.index("--memory") + 1] == "3600MiB"
    assert first[-1] == "--join"
    assert "--until" not in last


def test_one_step_is_one_phase(write, source, cluster) -> None:
    script = write(source, "out", "--only", "read", "--unit", "2")
    assert [row[:3] for row in table_of(script)] == [["slices", "-", "1-1"]]
    assert "--only=read --unit=2)" in script.read_text()


def test_the_last_phase_ends_where_it_was_asked_to(write, source, cluster) -> None:
    script = write(source, "out", "--until", "register")
    assert [row[:2] for row in table_of(script)] == [["slices", "cut"], ["pairs", "register"]]


@pytest.mark.parametrize(
    "name", ["it's $(touch hit)", '-x "ünï" ;&', "line\nfeed %j\\x"], ids=["quotes", "dash", "feed"]
)
def test_paths_arrive_as_they_are(write, cluster, tmp_path, name) -> None:
    source = make_input(tmp_path / name / "in")
    script = write(str(source), str(tmp_path / name / "out"))
    done = cluster.start("bash", str(script))
    assert done.returncode == 0, done.stderr
    assert cluster.calls[0][1:3] == [str(source), str(tmp_path / name / "out")]
    assert (tmp_path / name / "out" / "slurm" / "slices-100_1.log").exists()
    assert not list(tmp_path.rglob("hit"))


def test_tasks_work_where_the_command_was_typed(write, source, cluster, tmp_path) -> None:
    script = write(source, "out")
    assert cluster.start("bash", str(script)).returncode == 0
    assert set((cluster.folder / "places").read_text().splitlines()) == {str(tmp_path)}


def test_a_task_tells_soct_that_the_script_continues_its_work(
    write, source, cluster, tmp_path
) -> None:
    script = write(source, "out").rename(tmp_path / "my job.sbatch")
    assert cluster.start("bash", script.name).returncode == 0
    (told,) = set((cluster.folder / "continues").read_text().splitlines())
    assert shlex.split(told) == ["bash", str(script)]


def test_a_task_that_is_stopped_names_the_script_and_not_its_own_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from soct.cli.job_run import how_to_continue

    assert how_to_continue("SIGTERM", "soct run in out --join")[1] == "  soct run in out --join"
    monkeypatch.setenv("SOCT_CONTINUE", "bash job.sbatch")
    first, second = how_to_continue("SIGTERM", "soct run in out --join")
    assert "the batch script, submitted again, continues" in first
    assert second == "  bash job.sbatch"


def test_a_task_that_ran_out_of_time_goes_back_into_the_queue(write, source, cluster) -> None:
    script = write(source, "out", "--cpus", "4")
    cluster.say("ends", "75 progress\n75 progress\n0\n")
    assert cluster.start("bash", str(script)).returncode == 0
    assert cluster.jobs[0]["tasks"] == [75, 75, 0]
    assert cluster.jobs[1]["tasks"] == [0, 0]
    assert "goes back into the queue" in Path("out/slurm/slices-100_1.log").read_text()
    assert not list(Path("out/slurm").glob(".started*"))


def test_a_task_that_finished_nothing_is_not_started_for_ever(write, source, cluster) -> None:
    script = write(source, "out", "--cpus", "4")
    cluster.say("ends", "75 progress\n75\n75\n")
    assert cluster.start("bash", str(script)).returncode == 0
    assert cluster.jobs[0]["tasks"] == [75, 75]
    told = Path("out/slurm/slices-100_1.log").read_text()
    assert "the time limit is too short for the longest unit" in told


def test_a_task_that_noted_only_that_it_was_there_does_not_go_back_into_the_queue(
    write, source, cluster
) -> None:
    script = write(source, "out", "--cpus", "4")
    cluster.say("ends", "75\n")
    assert cluster.start("bash", str(script)).returncode == 0
    assert cluster.jobs[0]["tasks"] == [75]
    assert Path("out/state/acquisition.json").exists()
    assert "goes back into the queue" not in Path("out/slurm/slices-100_1.log").read_text()


def test_without_requeue_a_task_says_how_to_continue(write, source, cluster, tmp_path) -> None:
    script = write(source, "out", "--cpus", "4", site(tmp_path, "requeue: false"))
    cluster.say("ends", "75 progress\n")
    assert cluster.start("bash", str(script)).returncode == 0
    assert cluster.jobs[0]["tasks"] == [75]
    assert "no-requeue" in cluster.jobs[0]["options"]
    assert "submit the script again" in Path("out/slurm/slices-100_1.log").read_text()


def test_a_task_that_slurm_takes_back_is_not_told_that_it_was_refused(
    write, source, cluster
) -> None:
    # Slurm ends scontrol, too, as part of the task.
    cluster.say("ends", "75 progress\n")
    assert cluster.start("bash", str(write(source, "out", "--cpus", "4"))).returncode == 0
    assert cluster.jobs[0]["tasks"] == [75, 0]
    assert "Slurm does not let it" not in Path("out/slurm/slices-100_1.log").read_text()


def test_a_cluster_that_refuses_to_requeue_is_told_of(write, source, cluster) -> None:
    script = write(source, "out", "--cpus", "4")
    cluster.say("ends", "75 progress\n")
    cluster.say("no-requeue", "")
    assert cluster.start("bash", str(script)).returncode == 0
    assert cluster.jobs[0]["tasks"] == [75]
    told = Path("out/slurm/slices-100_1.log").read_text()
    assert "Slurm does not let it" in told
    assert "submit the script again" in told


@pytest.mark.parametrize("code", [5])
def test_a_task_that_failed_ends_with_the_code_of_soct(write, source, cluster, code) -> None:
    script = write(source, "out", "--cpus", "4")
    cluster.say("ends", f"{code}\n")
    assert cluster.start("bash", str(script)).returncode == 0
    assert [job["tasks"] for job in cluster.jobs] == [[code], [0, 0], [0]]


def test_without_sbatch_the_script_says_where_it_belongs(write, source, cluster) -> None:
    script = write(source, "out")
    (cluster.folder / "bin" / "sbatch").unlink()
    for name in ("sbatch",):
        if shutil.which(name):
            cluster.environment["PATH"] = f"{cluster.folder}/bin:/nowhere"
    done = cluster.start("/bin/bash", str(script))
    assert done.returncode == 2
    assert "there is no sbatch here" in done.stderr


def test_a_run_folder_that_a_node_does_not_see_is_told_of(write, source, cluster) -> None:
    script = write(source, "out")
    done = cluster.start("bash", str(script), "slices")
    assert done.returncode == ExitCode.INPUT
    assert "a file system that all nodes share" in done.stderr
    assert not cluster.calls


def test_the_site_decides_where_jobs_go(write, source, cluster, tmp_path) -> None:
    option = site(
        tmp_path,
        "partition: long",
        "account: lab",
        "qos: low",
        "time: 90m",
        "cpus: 2",
        "memory: 6GiB",
        "tasks: 2",
        "at_once: 1",
        "sbatch: ['#SBATCH --constraint=avx2', '--mail-type=END']",
        "before: ['export FROM_SITE=yes', 'touch before-ran']",
    )
    script = write(source, "out", option)
    directives = fake_slurm.read_directives(script.read_text())
    for wanted in ("partition=long", "account=lab", "qos=low", "constraint=avx2", "mail-type=END"):
        assert f"--{wanted}" in directives
    assert table_of(script)[0][2:6] == ["1-2%1", "2", "6144M", "01:30:00"]
    assert cluster.start("bash", str(script)).returncode == 0
    assert Path("before-ran").exists()


def test_what_was_typed_wins_over_the_site(write, source, cluster, tmp_path) -> None:
    option = site(tmp_path, "cpus: 8", "memory: 64GiB", "time: 12h", "tasks: 9")
    typed = ["--cpus", "1", "--memory", "2GiB", "--max-runtime", "58m", "--tasks", "2"]
    script = write(source, "out", option, *typed)
    assert table_of(script)[0][2:6] == ["1-2", "1", "2048M", "01:00:00"]
    assert "--max-runtime=3480s" in script.read_text()


def test_jobs_are_no_larger_than_the_nodes(write, source, cluster) -> None:
    cluster.say("sinfo", "debug|1|800|5:00\nmain*|2|1500|20:00\nmain*|2+|1400|20:00\n")
    assert table_of(write(source, "out"))[0][2:6] == ["1-2", "2", "1500M", "00:20:00"]


def test_what_no_node_has_is_asked_for_when_the_site_says_so_and_told(
    soct, source, cluster, capsys, tmp_path
) -> None:
    cluster.say("sinfo", "big|64|2000000|infinite\nmain*|2|19284|1:00:00\n")
    sizes = ("cpus: 64", "memory: 900GB", "time: 2h")
    assert soct("slurm", source, "out", site(tmp_path, *sizes)) == ExitCode.OK
    told = capsys.readouterr()
    assert "64    858306M  02:00:00" in told.out
    place = "the default partition main"
    assert f"no node of {place} has 64 cpus; the largest has 2. Tasks of slices, " in told.err
    assert "has 838.2 GiB of memory; the largest has 18.8 GiB" in told.err
    assert f"a job in {place} may take 01:00:00, and 02:00:00 is asked for" in told.err
    assert soct("slurm", source, "out", site(tmp_path, *sizes, "partition: big")) == ExitCode.OK
    assert "note: no node" not in capsys.readouterr().err


def test_a_partition_that_slurm_does_not_have_is_an_error_that_names_those_it_has(
    soct, source, cluster, capsys, tmp_path
) -> None:
    cluster.say("sinfo", "big|64|2000000|infinite\nmain*|2|19284|1:00:00\n")
    for key in ("partition", "gpu_partition"):
        option = site(tmp_path, f"{key}: nosuch")
        assert soct("slurm", source, "out", option) == ExitCode.CONFIGURATION
        told = capsys.readouterr()
        assert not told.out
        assert "Slurm has no partition 'nosuch'" in told.err
        assert "one of: big, main" in told.err
    elsewhere = site(tmp_path, "partition: nosuch", "sbatch: [--clusters=other]")
    assert soct("slurm", source, "out", elsewhere) == ExitCode.OK
    assert "jobs go to another cluster" in capsys.readouterr().err


def test_where_sinfo_cannot_be_asked_it_is_told_that_sizes_are_not_checked(
    soct, source, cluster, capsys
) -> None:
    assert soct("slurm", source, "out") == ExitCode.OK
    assert "could not be checked against the nodes" in capsys.readouterr().err
    cluster.say("sinfo", "main*|2|19284|1:00:00\n")
    assert soct("slurm", source, "out") == ExitCode.OK
    assert "could not be checked" not in capsys.readouterr().err


def test_settings_of_the_environment_reach_the_nodes(
    write, source, cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOCT_SET__cut__amount", "4")
    assert "export SOCT_SET__cut__amount=4\n" in write(source, "out").read_text()


def test_a_container_sees_input_run_folder_and_named_files(
    write, source, cluster, tmp_path
) -> None:
    image = tmp_path / "soct image.sif"
    image.write_bytes(SIF)
    option = site(tmp_path, f"container: {image}", "binds: [/scratch]")
    script = write(source, "out", option)
    apptainer = cluster.folder / "bin" / "apptainer"
    apptainer.write_text(
        '#!/bin/bash\nwhile [[ $1 != soct ]]; do printf "%s\\n" "$1"; shift; done\n"$@"\n'
    )
    apptainer.chmod(0o755)
    assert cluster.start("bash", str(script)).returncode == 0
    told = Path("out/slurm/slices-100_1.log").read_text().splitlines()
    assert told[0] == "exec"
    assert told[-1] == str(image)
    binds = told[2:-1:2]
    assert f"{source}:{source}:ro" in binds
    assert str(tmp_path / "out") in binds
    assert "/scratch" in binds
    assert any("site file.yaml" in bind for bind in binds)
    assert cluster.calls


def test_a_container_sees_the_files_of_parameters_unless_their_step_is_switched_off(
    write, source, cluster, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    atlas = tmp_path / "atlas.nrrd"
    atlas.touch()

    def files(params) -> tuple[Path, ...]:
        assert params.enabled
        return (atlas,)

    steps = {**STEPS, "cut": replace(STEPS["cut"], files=files)}
    for module in ("soct.pipeline.profiles.profile", "soct.pipeline.asked_run"):
        monkeypatch.setattr(f"{module}.load_steps", lambda: steps)
    option = site(tmp_path, "container: docker://lab/soct")
    assert f"--bind {atlas}:{atlas}:ro" in write(source, "out", option).read_text()
    off = write(source, "out", option, "--set", "cut.enabled=false").read_text()
    assert str(atlas) not in off


def test_written_inside_a_container_the_jobs_use_it(
    write, source, cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APPTAINER_CONTAINER", "/images/soct.sif")
    monkeypatch.setenv("APPTAINER_BIND", "/data")
    text = write(source, "out").read_text()
    assert "soct_command=(apptainer exec --bind /data --bind" in text
    assert "/images/soct.sif soct)" in text


def test_binds_that_cannot_be_written_to_here_are_read_only_in_the_jobs(
    write, source, cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APPTAINER_CONTAINER", "/images/soct.sif")
    # Apptainer leaves the folders in the variable, and drops ":ro".
    monkeypatch.setenv("APPTAINER_BIND", "/sealed,/data")
    monkeypatch.setattr("soct.pipeline.slurm.outside.is_read_only", lambda path: path == "/sealed")
    text = write(source, "out").read_text()
    assert "apptainer exec --bind /sealed:/sealed:ro --bind /data --bind" in text


def test_a_folder_bound_under_another_name_is_given_to_the_jobs_from_where_it_lies(
    write, source, cluster, capsys, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside, site_file = tmp_path / "outside", site(tmp_path, "tasks: 1")
    shutil.move(source, outside / "in")
    (tmp_path / "B").symlink_to(outside)  # as the container shows it
    monkeypatch.setenv("APPTAINER_CONTAINER", "/images/soct.sif")
    monkeypatch.setenv("APPTAINER_BIND", f"{outside}:{tmp_path}/B")
    monkeypatch.chdir(tmp_path / "B")
    monkeypatch.setattr(Path, "cwd", lambda: tmp_path / "B")
    script = write(f"{tmp_path}/B/in", f"{tmp_path}/B/out", site_file)
    told = next(x for x in script.read_text().splitlines() if x.startswith("soct_command="))
    assert f"--bind {outside}:{tmp_path}/B --bind" in told
    assert f"--bind {outside}/in:{tmp_path}/B/in:ro" in told
    assert f"--bind {outside}/out:{tmp_path}/B/out" in told
    assert f"--pwd {tmp_path}/B " in told
    assert f"\nrun={outside}/out\n" in script.read_text()
    assert f"\nhere={outside}\n" in script.read_text()
    assert f"arguments=({tmp_path}/B/in {tmp_path}/B/out " in script.read_text()
    # The script is started where the folder has its own name only.
    (tmp_path / "B").unlink()
    assert cluster.start("bash", str(script)).returncode == 0
    assert (outside / "out/slurm/jobs.tsv").exists()


def test_no_place_is_bound_twice(
    write, source, cluster, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APPTAINER_CONTAINER", "/images/soct.sif")
    monkeypatch.setenv("APPTAINER_BIND", f"{source},{tmp_path}/out,{tmp_path}")
    text = write(source, "out").read_text()
    told = next(line for line in text.splitlines() if line.startswith("soct_command="))
    assert re.findall(r"--bind (\S+)", told) == [
        str(tmp_path),
        f"{source}:{source}:ro",
        f"{tmp_path}/out",
    ]


def test_a_bind_of_unknown_source_is_an_error_that_the_site_file_mends(
    soct, source, cluster, capsys, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unknown = [Bind(Path("/B"), None, shows="/raw of the file system x (lustre)")]
    monkeypatch.setattr("soct.pipeline.slurm.outside.look_outside", lambda variable: unknown)
    monkeypatch.setenv("APPTAINER_CONTAINER", "/images/soct.sif")
    assert soct("slurm", source, "out") == ExitCode.CONFIGURATION
    told = capsys.readouterr()
    assert not told.out
    assert "slurm.binds: [SOURCE:/B]" in told.err
    assert soct("slurm", source, "out", site(tmp_path, "binds: ['/lab/raw:/B']")) == ExitCode.OK
    told = capsys.readouterr()
    assert "apptainer exec --bind /lab/raw:/B --bind" in told.out
    assert "cannot be seen" not in told.err


def test_a_bind_that_may_have_another_name_outside_is_told(
    write, soct, source, cluster, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    supposed = [Bind(Path("/data"), Path("/data"), guessed=True)]
    monkeypatch.setattr("soct.pipeline.slurm.outside.look_outside", lambda variable: supposed)
    monkeypatch.setenv("APPTAINER_CONTAINER", "/images/soct.sif")
    assert soct("slurm", source, "out") == ExitCode.OK
    told = capsys.readouterr()
    assert "apptainer exec --bind /data --bind" in told.out
    assert "note: /data: the jobs bind what has this name" in told.err


def test_a_file_that_is_no_image_is_told_when_the_script_is_written(
    soct, source, cluster, capsys, tmp_path
) -> None:
    option = site(tmp_path, f"container: '{tmp_path}/site file.yaml'")
    assert soct("slurm", source, "out", option) == ExitCode.CONFIGURATION
    told = capsys.readouterr()
    assert not told.out
    assert "This is no container image" in told.err
    assert "site file.yaml" in told.err


def test_a_bind_that_does_not_exist_here_is_told(soct, source, cluster, capsys, tmp_path) -> None:
    binds = f"binds: [/nosuchbind, '/nosuch/too:/x:ro', {tmp_path}]"
    option = site(tmp_path, "container: docker://lab/soct", binds)
    assert soct("slurm", source, "out", option) == ExitCode.OK
    assert "on this machine: /nosuchbind, /nosuch/too;" in capsys.readouterr().err


def test_gpus_are_asked_for_where_steps_use_them(
    write, source, cluster, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = {**STEPS, "stack": replace(STEPS["stack"], uses_gpu=True)}
    for module in ("soct.pipeline.profiles.profile", "soct.pipeline.asked_run"):
        monkeypatch.setattr(f"{module}.load_steps", lambda: steps)
    option = site(tmp_path, "gpus: a100:1", "gpu_partition: gpu")
    script = write(source, "out", option)
    assert [row[-1] for row in table_of(script)] == ["-", "-", "a100:1"]
    assert cluster.start("bash", str(script)).returncode == 0
    assert cluster.jobs[-1]["options"]["gres"] == "gpu:a100:1"
    assert cluster.jobs[-1]["options"]["partition"] == "gpu"
    assert "gres" not in cluster.jobs[0]["options"]
    uses = [call[call.index("--gpu") + 1] for call in cluster.calls]
    assert uses[0] == "off"
    assert uses[-1] == "auto"
    assert [row[-1] for row in table_of(write(source, "out", option, "--gpu", "off"))] == ["-"] * 3
    script = write(source, "out", "--gpu", "require")
    assert [row[-1] for row in table_of(script)] == ["-", "-", "1"]


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("IN", "IN/out"), ExitCode.INPUT, "The run folder lies inside the input"),
        (("IN", "out", "--profile", "nope"), ExitCode.CONFIGURATION, "no profile named 'nope'"),
        (("IN", "out", "--set", "cut.amuont=3"), ExitCode.CONFIGURATION, "did you mean amount?"),
        (("IN", "out", "--only", "nope"), ExitCode.USAGE, "nope"),
        (("IN", "out", "--memory", "600MiB"), ExitCode.RESOURCES, "too small for the phase"),
    ],
)
def test_what_soct_run_would_refuse_is_refused_before_anything_is_written(
    soct, source, cluster, capsys, arguments, code, told
) -> None:
    given = [word.replace("IN", source) for word in arguments]
    assert soct("slurm", *given) == code
    captured = capsys.readouterr()
    assert not captured.out
    assert told in captured.err
    assert not Path("out").exists()


def test_an_acquisition_that_is_not_there_is_told_before_anything_is_written(
    cluster, capsys, tmp_path
) -> None:
    arguments = ["slurm", str(tmp_path / "nowhere"), str(tmp_path / "out")]
    assert run_guarded(lambda: run_app(arguments), arguments) == ExitCode.INPUT
    captured = capsys.readouterr()
    assert not captured.out
    assert "nowhere" in captured.err


def test_an_image_that_is_not_there_is_told_when_the_script_is_written(
    soct, source, cluster, capsys, tmp_path
) -> None:
    option = site(tmp_path, "container: /nowhere/soct.sif")
    assert soct("slurm", source, "out", option) == ExitCode.CONFIGURATION
    told = capsys.readouterr()
    assert "There is no such container image" in told.err
    assert "/nowhere/soct.sif" in told.err
    assert not told.out
    assert soct("slurm", source, "out", site(tmp_path, "container: docker://lab/soct")) == 0


def test_a_time_that_is_too_short_for_a_unit_is_told_when_the_script_is_written(
    soct, source, cluster, capsys, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from soct.steps.declaration import Cost

    steps = {**STEPS, "stack": replace(STEPS["stack"], cost=Cost(unit=7200.0))}
    for module in ("soct.pipeline.profiles.profile", "soct.pipeline.asked_run"):
        monkeypatch.setattr(f"{module}.load_steps", lambda: steps)
    assert soct("slurm", source, "out", site(tmp_path, "time: 1h")) == ExitCode.CONFIGURATION
    told = capsys.readouterr()
    assert "too short for the longest unit of the phase 'whole'" in told.err
    assert not told.out
    assert soct("slurm", source, "out", site(tmp_path, "time: 3h")) == ExitCode.OK
    assert "is estimated to take" in capsys.readouterr().err


def test_status_says_what_slurm_does_for_a_run(write, soct, source, cluster, capsys) -> None:
    script = write(source, "out")
    assert cluster.start("bash", str(script)).returncode == 0
    capsys.readouterr()
    cluster.say(
        "squeue",
        "100|RUNNING|None\n101|PENDING|(Dependency)\n101|PENDING|(Dependency)\n7|RUNNING|\n",
    )
    assert soct("status", "out") == ExitCode.OK
    assert capsys.readouterr().out.splitlines() == [
        "submitted: nothing has begun in out",
        "  Slurm job 100, tasks of slices: 1 running",
        "  Slurm job 101, tasks of pairs: 2 waiting (Dependency)",
    ]
    assert soct("status", "out", "--json") == ExitCode.OK
    document = json.loads(capsys.readouterr().out)
    assert document["slurm"]["phases"][1]["waiting"] == 2
    (cluster.folder / "squeue").unlink()
    assert soct("status", "out") == ExitCode.OK
    assert "cannot be asked from this machine" in capsys.readouterr().out


def noted(folder: Path, *rows: str) -> Path:
    """Note jobs as a script does when it submits them; return the folder of the logs."""
    logs = folder / "slurm"
    logs.mkdir(parents=True, exist_ok=True)
    lines = [f"2030-01-01T00:00:00+00:00\t{row}\n".replace(" ", "\t") for row in rows]
    (logs / "jobs.tsv").write_text("".join(lines))
    return logs


def test_tasks_that_all_ended_before_soct_began_are_a_failure_with_the_end_of_a_log(
    soct, cluster, capsys, tmp_path
) -> None:
    logs = noted(tmp_path / "out", "slices 1 1-9", "whole 2 1-1", "slices 3 1-4%2", "whole 4 1-1")
    cluster.say("squeue", "7|RUNNING|\n")
    assert soct("status", "out") == ExitCode.OK
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "failed: 5 tasks ended without beginning; see out/slurm/*.log"
    assert "There is no log" in told[1]
    (logs / "slices-3_1.log").write_text("older\n")
    os.utime(logs / "slices-3_1.log", (1, 1))
    (logs / "whole-4_1.log").write_bytes(b"1\n2\n\n\x1b[31mFATAL: could not open image\xff\n3\n")
    assert soct("status", "out") == ExitCode.OK
    assert capsys.readouterr().out.splitlines()[1:] == [
        "  The newest log, out/slurm/whole-4_1.log, ends with:",
        "    2",
        "    \\x1b[31mFATAL: could not open image\ufffd",
        "    3",
        "  Mend that, then submit the script again.",
    ]
    assert soct("status", "out", "--json") == ExitCode.OK
    document = json.loads(capsys.readouterr().out)
    assert (document["state"], document["slurm"]["tasks"]) == ("failed", 5)
    assert document["slurm"]["log"]["lines"][2] == "3"
    cluster.say("squeue", "4|PENDING|Dependency\n")
    assert soct("status", "out", "--json") == ExitCode.OK
    assert json.loads(capsys.readouterr().out)["state"] == "submitted"


def test_between_two_phases_a_run_is_partial_and_its_rest_is_for_slurm(
    soct, source, cluster, capsys, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(runner, "run", on_fake_input(runner.run))
    monkeypatch.setattr("soct.cli.job_status.render", lambda folder, **_: folder / "report.html")
    assert soct("run", source, "out", "--join", "--until", "register") == ExitCode.OK
    noted(tmp_path / "out", "pairs 1 1-4", "whole 2 1-1")

    def told() -> tuple[str, str]:
        capsys.readouterr()
        assert soct("status", "out") == ExitCode.OK
        text = capsys.readouterr().out
        assert soct("status", "out", "--json") == ExitCode.OK
        return json.loads(capsys.readouterr().out)["state"], text

    cluster.say("squeue", "2|PENDING|Resources\n")
    state, text = told()
    assert state == "partial"
    assert "1 unit is left, in 1 step, for Slurm" in text
    cluster.say("squeue", "2|RUNNING|None\n")
    assert told()[0] == "running"
    cluster.say("squeue", "")
    state, text = told()
    assert state == "partial"
    assert "its script, submitted again, continues" in text
