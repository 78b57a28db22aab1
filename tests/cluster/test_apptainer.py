"""The Apptainer image, used as on a cluster."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

import soct
from tests.cluster.images import call, differing_results

STRICT = "--contain --cleanenv --no-home --net --network none"
"""Nothing of the machine but what is bound, no home, and no network."""


@pytest.fixture(scope="module")
def image(sif) -> Path:
    return sif


def execute(
    image: Path, options: str, command: str, *, code: int = 0, **environment: str
) -> subprocess.CompletedProcess[str]:
    words = ["apptainer", "exec", *shlex.split(options), str(image), *shlex.split(command)]
    return call(words, cwd=image.parent, code=code, environment=environment)


def test_the_image_passes_its_own_test(image):
    done = call(["apptainer", "test", image], cwd=image.parent)
    assert done.stdout.splitlines()[-1] == "check.sh: ok"


def test_the_image_says_what_it_is(image):
    told = call(["apptainer", "inspect", "--json", "--labels", image], cwd=image.parent).stdout
    labels = json.loads(told)["data"]["attributes"]["labels"]
    assert labels["org.opencontainers.image.version"] == soct.__version__
    assert labels["org.opencontainers.image.licenses"] == "BSD-3-Clause"
    assert "soct run" in call(["apptainer", "run-help", image], cwd=image.parent).stdout
    ran = call(["apptainer", "run", image, "--version"], cwd=image.parent).stdout
    assert ran.split() == ["soct", soct.__version__]


def test_the_demonstration_works_and_writes_where_it_is_called(image, tmp_path):
    execute(image, f"--bind {tmp_path}:/work --cwd /work", "soct demo out")
    assert (tmp_path / "out" / "run" / "demo_quality_report.html").is_file()


def test_the_volume_is_that_of_a_run_outside_read_only_without_home_and_network_for_any_user(
    image, shared, tmp_path, plain_run
):
    shutil.copytree(shared / "data" / "soct_sample", tmp_path / "raw")
    out = tmp_path / "out"
    out.mkdir()
    out.chmod(0o777)
    # What a user of a cluster is, root is made here: somebody whom the image does not know.
    options = f"{STRICT} --add-caps CAP_SETUID,CAP_SETGID --bind {tmp_path}/raw:/raw:ro,{out}:/out"
    somebody = "setpriv --reuid=54321 --regid=54321 --clear-groups env -u HOME"
    run = "soct run --profile conservative --cpus 2 /raw /out/run"
    done = execute(image, f"{options} --cwd /out", f"{somebody} {run}")
    assert "compiling takes" not in done.stderr
    assert (out / "run").stat().st_uid == 54321
    assert not differing_results(plain_run, out / "run")


def test_nothing_is_compiled_and_nothing_is_written_but_the_run(image, tmp_path):
    options = f"{STRICT} --bind {tmp_path}:/out --cwd /out --env SOCT_CACHE_DIR=/out/cache"
    execute(image, options, "soct simulate made --preset tiny")
    execute(image, options, "soct run made/raw run")
    assert not list((tmp_path / "cache").rglob("*.nb?"))
    assert {path.name for path in tmp_path.iterdir()} == {"made", "run", "cache"}


def test_the_image_cannot_be_written(image):
    for folder in ("/opt/soct", "/opt/soct/share/soct/kernels"):
        done = execute(image, f"{STRICT} --cwd /", f"touch {folder}/x", code=1)
        assert "Read-only file system" in done.stderr


def test_packages_of_the_user_do_not_get_into_the_image(image, tmp_path):
    (tmp_path / "numpy.py").write_text("raise SystemExit('the wrong numpy')\n")
    program = "import numpy, sys; print(sys.prefix)"
    command = f"/opt/soct/bin/python -c '{program}'"
    done = execute(image, f"--bind {tmp_path} --cwd /", command, PYTHONPATH=str(tmp_path))
    assert done.stdout.strip() == "/opt/soct"


def test_a_run_works_where_only_its_folder_can_be_written(image, tmp_path):
    options = f"{STRICT} --no-mount tmp --bind {tmp_path}:/out --cwd /out"
    execute(image, options, "soct simulate made --preset tiny --slices 2")
    execute(image, options, "soct run made/raw run")
    assert (tmp_path / "run" / "stack").is_dir()


def test_the_doctor_knows_the_image_and_what_is_bound(image, tmp_path):
    options = f"{STRICT} --bind {tmp_path} --cwd /"
    told = execute(image, options, f"soct doctor {tmp_path} --json").stdout
    found = {check["name"]: check for check in json.loads(told)["checks"]}
    assert found["container"]["values"]["folder_bound"] is True
    assert found["container"]["values"]["image"] == str(image)
    assert found["file locks"]["values"] == {"flock": True}
    assert found["cache"]["values"]["shipped_fit"] is True

    options = f"{STRICT} --bind {tmp_path}:{tmp_path}:ro --cwd /"
    told = execute(image, options, f"soct doctor {tmp_path} --json", code=8).stdout
    found = {check["name"]: check for check in json.loads(told)["checks"]}
    assert {name for name, check in found.items() if check["status"] == "error"} == {"writing"}
