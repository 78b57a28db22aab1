"""An image brings compiled kernels; what else is compiled goes to the user's folder, if there is one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from soct.compute import caches

pytestmark = pytest.mark.slow

_MODULE = """
from numba import njit

@njit(cache=True)
def twice(x):
    return 2 * x
"""

_SCRIPT = """
import sys
sys.prefix = sys.argv[1]
from soct.compute import caches
caches.prepare()
import kernels
for text in sys.argv[2:]:
    assert kernels.twice(eval(text)) == 2 * eval(text)
stats = kernels.twice.stats
print(sum(stats.cache_hits.values()), sum(stats.cache_misses.values()))
"""


class Image:
    """A folder that looks to soct like the image that it runs in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.prefix = folder / "image"
        self.kernels = self.prefix / "share" / "soct" / "kernels"
        self.kernels.mkdir(parents=True)
        (folder / "kernels.py").write_text(_MODULE)
        (folder / "ask.py").write_text(_SCRIPT)

    def run(self, *values: str, **variables: str) -> tuple[int, int]:
        """Call a kernel with values; return how many forms of it were found and how many were compiled."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith("NUMBA_CACHE")}
        done = subprocess.run(
            [sys.executable, self.folder / "ask.py", self.prefix, *values],
            env=kept | variables,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        found, compiled = done.stdout.split()
        return int(found), int(compiled)

    def finish(self, name: str = "first") -> None:
        """Say that the kernels are complete, as the image's build does."""
        (self.kernels / "BUILD").write_text(f"{name} {caches.describe().level}\n")


@pytest.fixture
def image(tmp_path: Path) -> Image:
    made = Image(tmp_path)
    assert made.run("1", NUMBA_CACHE_DIR=str(made.kernels)) == (0, 1)
    made.finish()
    return made


def test_a_kernel_of_the_image_is_not_compiled_and_nothing_is_written(image, tmp_path):
    before = sorted(image.kernels.rglob("*"))
    assert image.run("1", SOCT_CACHE_DIR=str(tmp_path / "mine")) == (1, 0)
    assert not list((tmp_path / "mine").rglob("*.nb?"))
    assert sorted(image.kernels.rglob("*")) == before


def test_a_form_that_the_image_lacks_is_compiled_once_for_the_user(image, tmp_path):
    mine = {"SOCT_CACHE_DIR": str(tmp_path / "mine")}
    assert image.run("1", "1.5", **mine) == (1, 1)
    assert image.run("1", "1.5", **mine) == (2, 0)


def test_two_images_do_not_take_each_others_kernels(image, tmp_path):
    mine = {"SOCT_CACHE_DIR": str(tmp_path / "mine")}
    image.run("1.5", **mine)
    (tmp_path / "kernels.py").write_text(_MODULE.replace("2 * x", "x + x"))
    image.finish("second")
    image.run("1.5", **mine)
    (tmp_path / "kernels.py").write_text(_MODULE)
    image.finish("first")
    assert image.run("1.5", **mine) == (1, 0)


_NOWHERE = {
    "SOCT_CACHE_DIR": "/dev/null/none",
    "XDG_CACHE_HOME": "/dev/null/none",
    "HOME": "/dev/null/none",
}


def test_where_nothing_can_be_written_kernels_are_still_found_and_compiled(image):
    # A folder for temporary files is always found (the working folder, at last): what is there is a file.
    taken = image.folder / f"soct-cache-{os.getuid()}"
    taken.touch()
    assert image.run("1", "1.5", **_NOWHERE, TMPDIR=str(image.folder)) == (1, 1)


def test_where_nothing_can_be_written_and_no_image_helps_kernels_compile(tmp_path):
    image = Image(tmp_path)
    (tmp_path / f"soct-cache-{os.getuid()}").touch()
    assert image.run("1", **_NOWHERE, TMPDIR=str(tmp_path)) == (0, 1)


def test_an_image_for_another_instruction_set_holds_no_kernels_for_this_machine(
    tmp_path, monkeypatch
):
    image = Image(tmp_path)
    (image.kernels / "mosaic").mkdir()
    (image.kernels / "mosaic" / "rendering.nbi").touch()
    image.finish()
    monkeypatch.setattr(caches.sys, "prefix", str(image.prefix))
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "none"))
    assert caches.holds_kernels()
    (image.kernels / "BUILD").write_text("first another-level\n")
    assert not caches.holds_kernels()
    state = caches.describe()
    assert state.shipped == image.kernels
    assert not state.shipped_fit
