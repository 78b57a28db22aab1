"""What soct promises of a whole run, held on a small acquisition with the real steps and the real command."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
import zarr

from soct.errors import ExitCode
from soct.formats.acquisition import open_acquisition
from soct.formats.ome_zarr import open_volume
from soct.pipeline.single_step import SingleStep, inputs_from_run, run_single_step
from soct.simulate.microscope import simulate
from soct.simulate.spec import preset
from soct.steps.registry import STEP_IDS, load_steps
from tests.quick_soct import run_soct

SOCT = [sys.executable, "-c", "from soct.cli.main import main; main()"]
TIMED = {"state", "report_data", "run.json", ".soct.lock", "metrics"}
OWN_FILES = ("align_to_ras",)
"""Steps that read files from outside of the run (an atlas): `tests/steps` holds them to the same promise."""
FAULTS = {"missing_tiles": [[1, 0, 1]], "galvo_return_px": 9}


Once: TypeAlias = Callable[[str, Callable[[Path], None]], Path]


@dataclass(frozen=True)
class Done:
    """A finished run."""

    acquisition: Path
    folder: Path
    out: str

    @property
    def raw(self) -> Path:
        return self.acquisition / "raw"

    @property
    def volume(self) -> Path:
        return self.folder / "stack" / "sample.ome.zarr"


def soct(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return run_soct(*arguments, cwd=Path.cwd(), env=os.environ)


def start(*arguments: str | Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*SOCT, *map(str, arguments)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def checksums(folder: Path) -> dict[str, str]:
    """SHA-256 of every file that a run computed; what holds times is left out."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_file() and not TIMED & set(name.parts) and path.suffix != ".html":
            found[name.as_posix()] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def last_run(folder: Path) -> dict[str, Any]:
    entry: dict[str, Any] = json.loads((folder / "run.json").read_text())["history"][-1]
    return entry


def count_done(folder: Path) -> int:
    return len([p for p in (folder / "state").glob("*/*.json") if p.parent.name != "progress"])


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    """Wait until something is there, or the process is over."""
    end = time.monotonic() + 240
    while not condition() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.005)
    assert process.poll() is None, "the run ended before the test could disturb it"
    assert condition()


def simulate_and_run(root: Path) -> None:
    made = simulate(preset("tiny", seed=1, faults=FAULTS), root / "acquisition", threads=1)
    ended = subprocess.run(
        [*SOCT, "run", made.raw, root / "run", "--cpus", "1"],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert ended.returncode == ExitCode.OK, ended.stderr
    (root / "out.txt").write_text(ended.stdout)


@pytest.fixture(scope="session")
def done(once: Once) -> Done:
    """Three slices of 2 x 2 tiles, one tile missing, made into a volume by one worker."""
    root = once("promises", simulate_and_run)
    return Done(root / "acquisition", root / "run", (root / "out.txt").read_text())


@pytest.fixture(scope="session")
def expected(done: Done) -> dict[str, str]:
    return checksums(done.folder)


@pytest.fixture
def copied(done: Done, tmp_path: Path) -> Done:
    """The same, to be changed."""
    shutil.copytree(done.folder, tmp_path / "copied")
    return replace(done, folder=tmp_path / "copied")


def test_a_run_prints_its_volume_and_its_report(done: Done) -> None:
    told = dict(line.split(": ", 1) for line in done.out.splitlines())
    assert Path(told["volume"]).samefile(done.volume)
    assert Path(told["report"]).is_file()


OPTIONAL = [
    name
    for name, step in load_steps().items()
    if "enabled" in step.params.model_fields and not step.params.model_fields["enabled"].default
]


@pytest.fixture(scope="session")
def everything(done: Done, once: Once) -> Done:
    """The run with every optional step switched on, those that need files of their own apart."""
    switches = [
        a for name in OPTIONAL if name not in OWN_FILES for a in ("--set", f"{name}.enabled=true")
    ]

    def run_on(root: Path) -> None:
        shutil.copytree(done.folder, root / "run")
        ended = soct("run", done.raw, root / "run", "--cpus", "2", *switches)
        assert ended.returncode == ExitCode.OK, ended.stderr

    return replace(done, folder=once("everything", run_on) / "run")


@pytest.mark.parametrize("step_id", [name for name in STEP_IDS if name not in OWN_FILES])
def test_a_step_by_itself_writes_the_bytes_of_the_pipeline(
    done: Done, request: pytest.FixtureRequest, tmp_path: Path, step_id: str
) -> None:
    if step_id in OPTIONAL:
        done = request.getfixturevalue("everything")
    steps = load_steps()
    step = steps[step_id]
    params = json.loads((done.folder / "run.json").read_text())["params"][step_id]
    request = SingleStep(
        step,
        step.params(**params),
        inputs_from_run(step, steps, done.folder),
        tmp_path / step_id,
        acquisition=open_acquisition(done.raw) if step.reads_raw else None,
    )
    results = list(run_single_step(request))
    assert results
    written = checksums(tmp_path / step_id)
    assert written == checksums(done.folder / step_id)


def test_a_subcommand_writes_the_bytes_of_the_pipeline(done: Done, tmp_path: Path) -> None:
    ended = soct("register-pairwise", "--from-run", done.folder, "--out", tmp_path / "pairs")
    assert ended.returncode == ExitCode.OK, ended.stderr
    assert checksums(tmp_path / "pairs") == checksums(done.folder / "register_pairwise")


@pytest.mark.slow
@pytest.mark.parametrize("cpus", [2, 4])
def test_any_number_of_workers_writes_the_same_bytes(
    done: Done, expected: dict[str, str], tmp_path: Path, cpus: int
) -> None:
    ended = soct("run", done.raw, tmp_path / "run", "--cpus", str(cpus))
    assert ended.returncode == ExitCode.OK, ended.stderr
    assert last_run(tmp_path / "run")["workers"] == cpus
    assert checksums(tmp_path / "run") == expected


def test_the_second_of_two_equal_runs_computes_and_writes_nothing(copied: Done) -> None:
    folder = copied.folder

    def times() -> dict[str, int]:
        return {name: (folder / name).stat().st_mtime_ns for name in checksums(folder)}

    before = times()
    ended = soct("run", copied.raw, folder, "--cpus", "2")
    assert ended.returncode == ExitCode.OK, ended.stderr
    assert last_run(folder)["computed"] == 0
    assert times() == before


def test_a_changed_parameter_reruns_its_step_and_the_consumers_and_status_says_why(
    done: Done, expected: dict[str, str], tmp_path: Path
) -> None:
    """On a copy of the folder: results do not depend on where they lie."""
    folder = tmp_path / "elsewhere"
    shutil.copytree(done.folder, folder)
    changed = ("--set", "register_pairwise.max_rotation_deg=4")
    ended = soct("run", done.raw, folder, "--cpus", "1", *changed)
    assert ended.returncode == ExitCode.OK, ended.stderr
    slices = last_run(folder)
    pairs = len(list((folder / "state" / "register_pairwise").glob("*.json")))
    # The pairs, and poses, brightness, gaps and volume of the run.
    assert slices["computed"] == pairs + 4
    why = soct("status", folder, "--why", "register_pairwise").stdout.splitlines()
    assert len(why) == pairs
    assert all("max_rotation_deg: " in line and "-> 4.0" in line for line in why)
    assert (
        "upstream register_pairwise changed"
        in soct("status", folder, "--why", "estimate_slice_poses").stdout
    )
    assert (
        "upstream estimate_slice_poses changed" in soct("status", folder, "--why", "stack").stdout
    )
    assert (
        "upstream register_pairwise changed" in soct("status", folder, "--why", "normalize").stdout
    )
    assert "never computed" in soct("status", folder, "--why", "compensate_attenuation").stdout
    # Back again: the first result, to the byte.
    assert soct("run", done.raw, folder, "--cpus", "1").returncode == ExitCode.OK
    assert checksums(folder) == expected


@pytest.mark.slow
def test_a_run_killed_twice_ends_with_the_bytes_of_an_undisturbed_one(
    done: Done, expected: dict[str, str], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    for after, group in ((4, False), (12, True)):
        process = start("run", done.raw, folder, "--cpus", "2")
        wait_for(lambda after=after: count_done(folder) >= after, process)
        if group:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
        process.wait()
        assert not (folder / "stack" / "sample.ome.zarr").exists()
    ended = soct("run", done.raw, folder, "--cpus", "2")
    assert ended.returncode == ExitCode.OK, ended.stderr
    assert last_run(folder)["reused"] >= 12
    assert checksums(folder) == expected
    assert not [p for p in folder.rglob("*") if ".partial" in p.name]


@pytest.mark.slow
def test_a_busy_folder_is_refused_and_sigterm_ends_the_run_in_order(
    done: Done, expected: dict[str, str], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    process = start("run", done.raw, folder, "--cpus", "1")
    try:
        wait_for(lambda: count_done(folder) >= 1, process)
        # Frozen, so that it cannot end before the second has been refused.
        process.send_signal(signal.SIGSTOP)
        second = soct("run", done.raw, folder, "--cpus", "1")
        assert second.returncode == ExitCode.LOCKED
        assert str(process.pid) in second.stderr
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGCONT)
        assert process.wait(timeout=240) == ExitCode.TERMINATED
    finally:
        process.kill()
        process.wait()
    assert last_run(folder)["state"] == "stopped"
    assert list(folder.glob("*_quality_report.html"))
    assert soct("run", done.raw, folder, "--cpus", "1").returncode == ExitCode.OK
    assert checksums(folder) == expected


@pytest.mark.slow
def test_a_run_out_of_time_stops_with_75_and_goes_on_when_asked_again(
    done: Done, expected: dict[str, str], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    ended = soct("run", done.raw, folder, "--cpus", "1", "--max-runtime", "1s")
    assert ended.returncode == ExitCode.TIME_LIMIT, ended.stderr
    assert count_done(folder) < count_done(done.folder)
    assert soct("run", done.raw, folder, "--cpus", "1").returncode == ExitCode.OK
    assert checksums(folder) == expected


def test_the_volume_passes_the_ngff_models(done: Done) -> None:
    from ome_zarr_models import open_ome_zarr

    group = open_ome_zarr(zarr.open_group(str(done.volume), mode="r"), version="0.5")
    assert type(group).__name__ == "Image"


def test_the_volume_opens_in_the_ome_zarr_reader(done: Done) -> None:
    from ome_zarr.io import parse_url
    from ome_zarr.reader import Reader

    location = parse_url(str(done.volume))
    assert location is not None
    node = next(iter(Reader(location)()))
    own = open_volume(done.volume)
    assert node.data[0].shape == own.shape
    np.testing.assert_array_equal(np.asarray(node.data[0]), own.read())


def test_the_volume_opens_in_zarr_alone(done: Done) -> None:
    group = zarr.open_group(str(done.volume), mode="r")
    (scales,) = group.attrs["ome"]["multiscales"]
    assert [axis["name"] for axis in scales["axes"]] == ["z", "y", "x"]
    own = open_volume(done.volume)
    np.testing.assert_array_equal(group[scales["datasets"][0]["path"]][...], own.read())
    scale = scales["datasets"][0]["coordinateTransformations"][0]["scale"]
    assert scale == pytest.approx(list(own.voxel_um))


def test_the_report_is_one_offline_file_that_names_the_missing_tile(done: Done) -> None:
    (path,) = done.folder.glob("*_quality_report.html")
    text = path.read_text(encoding="utf-8")
    assert "http:" not in text.replace("http-equiv", "")
    assert "https:" not in text
    assert 'src="/' not in text
    assert "tile_x01_y00_z01" in text
    assert text.rstrip().endswith("</html>")
    assert path.stat().st_size < 15e6


def test_the_report_is_written_again_from_what_is_saved(copied: Done) -> None:
    (path,) = copied.folder.glob("*_quality_report.html")
    path.unlink()
    ended = soct("report", copied.folder)
    assert ended.returncode == ExitCode.OK, ended.stderr
    assert path.is_file()


def test_an_excluded_slice_and_its_reason_are_in_the_ledger_of_the_run(
    done: Done, tmp_path: Path
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(done.folder, folder)
    ended = soct(
        "run", done.raw, folder, "--cpus", "1", "--set", "generate_slice_config.exclude=[1]"
    )
    assert ended.returncode == ExitCode.OK, ended.stderr
    ledger = (folder / "slice_config_final.csv").read_text()
    (row,) = [line for line in ledger.splitlines() if line.startswith(("01,", "1,"))]
    assert "named in generate_slice_config.exclude" in row
    (report,) = folder.glob("*_quality_report.html")
    assert "named in generate_slice_config.exclude" in report.read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.data
def test_the_reference_acquisition_is_reconstructed_as_well_as_promised(
    shared: Path, tmp_path: Path
) -> None:
    sample = shared / "data" / "soct_sample"
    score = shared / "acceptance" / "score.py"
    if not sample.is_dir() or not score.is_file():
        pytest.skip("the reference acquisition or its score is not on this machine")
    ended = soct("run", sample / "raw", tmp_path / "run", "--cpus", "2")
    assert ended.returncode == ExitCode.OK, ended.stderr
    volume = tmp_path / "run" / "stack" / "sample.ome.zarr"
    scored = subprocess.run(
        [sys.executable, str(score), str(volume), str(sample)],
        capture_output=True,
        text=True,
        check=True,
        timeout=240,
    )
    found = json.loads(scored.stdout)
    assert found["ncc"] >= 0.80
    assert found["xy_p95_um"] <= 8
    assert found["rot_p95_deg"] <= 0.06
    assert found["z_p95_um"] <= 20
    assert found["gain_cv"] <= 0.10
    assert found["coverage"] >= 0.48
