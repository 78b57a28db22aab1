"""Every test of this folder is a `cluster` test, slow, and may take half an hour: no mark can be forgotten.

``SOCT_IMAGE=soct.sif make test-cluster`` tests an image that is there instead of building one.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.images import BUILD_S, base_tree, call, copy_project

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # The Docker image takes longest to build: all else is told before.
    items.sort(key=lambda item: item.path == _HERE / "test_dockerfile.py")
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker(pytest.mark.cluster)
            item.add_marker(pytest.mark.slow)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(1800))


@pytest.fixture(scope="session")
def sif(tmp_path_factory: pytest.TempPathFactory, shared: Path) -> Path:
    """The Apptainer image: the one that is named, or else built from the definition, once for all tests."""
    if shutil.which("apptainer") is None:
        pytest.skip("no apptainer on the PATH")
    if given := os.environ.get("SOCT_IMAGE"):
        return Path(given).resolve(strict=True)
    folder = copy_project(tmp_path_factory.mktemp("build"))
    arguments = f"--build-arg BOOTSTRAP=localimage --build-arg BASE={base_tree(shared)}"
    command = f"apptainer build {arguments} soct.sif containers/Apptainer.def"
    call(shlex.split(command), cwd=folder, timeout=BUILD_S)
    return folder / "soct.sif"


@pytest.fixture(scope="session")
def slurm(shared: Path) -> None:
    """A Slurm that takes jobs."""
    starter = shared / "tools" / "slurm-one-node.sh"
    if shutil.which("sinfo"):
        asked = subprocess.run(
            ["sinfo", "--noheader"], capture_output=True, text=True, timeout=60, check=False
        )
        if "main" in asked.stdout:
            return
    if not starter.exists() or os.getuid() != 0:
        pytest.skip("there is no Slurm, and none can be started")
    call([starter, "start"])


@pytest.fixture(scope="session")
def plain_run(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder that `soct run` makes of the sample on this machine, without image and cluster."""
    folder = tmp_path_factory.mktemp("plain") / "run"
    raw = shared / "data" / "soct_sample" / "raw"
    # This very soct, whichever may be on the PATH.
    soct = [sys.executable, "-c", "from soct.cli.main import main; main()"]
    call([*soct, "run", "--profile", "conservative", raw, folder])
    return folder
