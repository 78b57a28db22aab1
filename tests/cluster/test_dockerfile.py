"""The Docker image, built from the Dockerfile by buildah, without a daemon and without a registry.

``SOCT_OCI_IMAGE=NAME make test-cluster`` tests an image that buildah has already.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

import soct
from tests.cluster.images import (
    BUILD_S,
    base_tree,
    call,
    copy_project,
    differing_results,
)

pytestmark = pytest.mark.skipif(shutil.which("buildah") is None, reason="no buildah on the PATH")

ISOLATION = ("--isolation", "chroot")
"""Works where no namespaces can be made: in a container, in a virtual machine of CI."""


@pytest.fixture(scope="module")
def image(tmp_path_factory, shared) -> Iterator[str]:
    if given := os.environ.get("SOCT_OCI_IMAGE"):
        yield given
        return
    name = f"localhost/soct-test-{uuid.uuid4().hex[:8]}"
    base = f"{name}-base"
    scratch = call(["buildah", "from", "scratch"]).stdout.strip()
    call(["buildah", "add", "--quiet", scratch, base_tree(shared), "/"])
    call(["buildah", "commit", "--quiet", "--rm", scratch, base])
    folder = copy_project(tmp_path_factory.mktemp("build"))
    try:
        call(
            [
                *("buildah", "build", *ISOLATION, "--layers=false", "--build-arg", f"BASE={base}"),
                *("-f", "containers/Dockerfile", "-t", name, "."),
            ],
            cwd=folder,
            timeout=BUILD_S,
        )
        yield name
    finally:
        for one in (name, base):
            call(["buildah", "rmi", "--force", one])


@pytest.fixture(scope="module")
def container(image) -> Iterator[str]:
    name = call(["buildah", "from", image]).stdout.strip()
    yield name
    call(["buildah", "rm", name])


def run_in(container: str, *words: str, user: str = "54321:54321", volume: str = "") -> str:
    mounts = ("--volume", volume) if volume else ()
    command = ["buildah", "run", *ISOLATION, "--user", user, *mounts, container, "--", *words]
    return call(command).stdout


def test_the_image_runs_soct_as_somebody_who_is_not_root(image):
    about = json.loads(call(["buildah", "inspect", "--type", "image", image]).stdout)["OCIv1"]
    assert about["config"]["Entrypoint"] == ["soct"]
    assert about["config"]["User"] == "1000:1000"
    assert about["config"]["Labels"]["org.opencontainers.image.version"] == soct.__version__


def test_the_image_passes_its_own_test_as_any_user(container):
    assert run_in(container, "/opt/soct/share/soct/check.sh").splitlines()[-1] == "check.sh: ok"


def test_the_volume_is_that_of_a_run_outside(container, shared, tmp_path: Path, plain_run):
    raw = shared / "data" / "soct_sample"
    mine = tmp_path / "mine"
    mine.mkdir()
    mine.chmod(0o777)
    shutil.copytree(raw, mine / "raw")
    words = ("soct", "run", "--profile", "conservative", "--cpus", "2", "/data/raw", "/data/run")
    run_in(container, *words, volume=f"{mine}:/data")
    assert not differing_results(plain_run, mine / "run")
