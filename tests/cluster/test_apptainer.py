"""The Apptainer image: built from the definition, used as on a cluster.

``SOCT_IMAGE=soct.sif make test-cluster`` tests an image that is there instead of building one.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

import soct
from tests.cluster.images import (
    BUILD_S,
    base_tree,
    call,
    copy_project,
    differing_files,
    sample_outside,
)

pytestmark = pytest.mark.skipif(
    shutil.which("apptainer") is None, reason="no apptainer on the PATH"
)

STRICT = ("--contain", "--cleanenv", "--no-home", "--net", "--network", "none")
"""Nothing of the machine but what is bound, no home, and no network."""

VARIABLES = {"APPTAINER_SILENT": "1"}


@pytest.fixture(scope="module")
def image(tmp_path_factory, shared) -> Path:
    if given := os.environ.get("SOCT_IMAGE"):
        return Path(given).resolve()
    base = base_tree(shared)
    folder = copy_project(tmp_path_factory.mktemp("build"))
    call(
        [
            *("apptainer", "build", "--build-arg", "BOOTSTRAP=localimage"),
            *("--build-arg", f"BASE={base}", "soct.sif", "containers/Apptainer.def"),
        ],
        cwd=folder,
        timeout=BUILD_S,
    )
    return folder / "soct.sif"


def run_in(
    image: Path, *words: str | Path, options: tuple[str, ...] = (), cwd: Path, code: int = 0
):
    return call(["apptainer", "exec", *options, image, *words], cwd=cwd, code=code)


def test_the_image_passes_its_own_test(image):
    done = call(["apptainer", "test", image], cwd=image.parent)
    assert done.stdout.splitlines()[-1] == "check.sh: ok"


def test_the_image_says_what_it_is(image, tmp_path):
    labels = json.loads(
        call(["apptainer", "inspect", "--json", "--labels", image], cwd=image.parent).stdout
    )["data"]["attributes"]["labels"]
    assert labels["org.opencontainers.image.version"] == soct.__version__
    assert labels["org.opencontainers.image.licenses"] == "BSD-3-Clause"
    told = call(["apptainer", "run-help", image], cwd=image.parent).stdout
    assert "soct run" in told
    ran = call(["apptainer", "run", image, "--version"], cwd=image.parent).stdout
    assert ran.split() == ["soct", soct.__version__]


def test_the_demonstration_works_and_writes_where_it_is_called(image, tmp_path):
    run_in(image, "soct", "demo", cwd=tmp_path, options=("--bind", str(tmp_path)))
    assert (tmp_path / "soct-demo" / "run" / "demo_quality_report.html").is_file()


@pytest.mark.parametrize("uid", [0, 54321])
def test_the_volume_is_that_of_a_run_outside_read_only_without_home_and_network(
    image, shared, tmp_path, outside, uid
):
    raw = shared / "data" / "soct_sample"
    tmp_path.chmod(0o777)
    as_user = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"] if uid else []
    # A base image has setpriv; what a user of a cluster is, root is made here.
    command = [
        *as_user,
        "env",
        "-u",
        "HOME",
        "soct",
        "run",
        "--profile",
        "conservative",
        "--cpus",
        "2",
    ]
    options = (*STRICT, "--bind", f"{raw}:/raw:ro,{tmp_path}:/out", "--pwd", "/out")
    done = run_in(image, *command, "/raw", "/out/run", cwd=image.parent, options=options)
    assert "compiling takes" not in done.stderr
    for folder in ("stack", "normalize", "register_pairwise", "stitch_3d_with_refinement"):
        assert not [
            name
            for name in differing_files(outside / folder, tmp_path / "run" / folder)
            if not name.startswith("metrics/")
        ]


@pytest.fixture(scope="module")
def outside(shared, tmp_path_factory) -> Path:
    return sample_outside(shared, tmp_path_factory.mktemp("outside"))


def test_nothing_is_compiled_and_nothing_is_written_but_the_run(image, tmp_path):
    cache = tmp_path / "cache"
    options = (
        *STRICT,
        "--bind",
        f"{tmp_path}:/out",
        "--pwd",
        "/out",
        "--env",
        "SOCT_CACHE_DIR=/out/cache",
    )
    run_in(
        image,
        "soct",
        "simulate",
        "/out/made",
        "--preset",
        "tiny",
        cwd=image.parent,
        options=options,
    )
    run_in(image, "soct", "run", "/out/made/raw", "/out/run", cwd=image.parent, options=options)
    assert not list(cache.rglob("*.nbc"))
    assert {path.name for path in tmp_path.iterdir()} <= {"made", "run", "cache"}


def test_the_image_cannot_be_written(image, tmp_path):
    for folder in ("/opt/soct", "/opt/soct/share/soct/kernels"):
        done = run_in(image, "touch", f"{folder}/x", cwd=image.parent, options=STRICT, code=1)
        assert "Read-only file system" in done.stderr


def test_packages_of_the_user_do_not_get_into_the_image(image, tmp_path):
    (tmp_path / "numpy.py").write_text("raise SystemExit('the wrong numpy')\n")
    options = ("--bind", str(tmp_path), "--env", f"PYTHONSTARTUP={tmp_path}/numpy.py")
    done = call(
        [
            "apptainer",
            "exec",
            *options,
            image,
            "python",
            "-c",
            "import numpy, sys; print(sys.prefix)",
        ],
        cwd=image.parent,
        environment={"PYTHONPATH": str(tmp_path)},
    )
    assert done.stdout.strip() == "/opt/soct"


def test_without_any_writable_folder_but_the_run_s_a_run_works(image, tmp_path):
    options = (*STRICT, "--no-mount", "tmp", "--bind", f"{tmp_path}:/out", "--pwd", "/out")
    run_in(
        image,
        "soct",
        "simulate",
        "made",
        "--preset",
        "tiny",
        "--slices",
        "2",
        cwd=image.parent,
        options=options,
    )
    run_in(image, "soct", "run", "made/raw", "run", cwd=image.parent, options=options)
    assert (tmp_path / "run" / "stack").is_dir()


def test_the_doctor_knows_the_image_and_what_is_bound(image, tmp_path):
    strict = (*STRICT, "--bind", str(tmp_path))
    told = run_in(image, "soct", "doctor", tmp_path, "--json", options=strict, cwd=tmp_path).stdout
    found = {check["name"]: check for check in json.loads(told)["checks"]}
    assert found["container"]["values"]["folder_bound"] is True
    assert found["container"]["values"]["image"] == str(image)
    assert found["file locks"]["values"] == {"flock": True}
    assert found["cache"]["values"]["shipped_fit"] is True

    locked = (*STRICT, "--bind", f"{tmp_path}:{tmp_path}:ro", "--pwd", "/")
    told = run_in(
        image, "soct", "doctor", tmp_path, "--json", options=locked, cwd=tmp_path, code=8
    ).stdout
    found = {check["name"]: check for check in json.loads(told)["checks"]}
    assert {name for name, check in found.items() if check["status"] == "error"} == {"writing"}
