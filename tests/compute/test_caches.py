"""Where compiled kernels are kept."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import soct
from soct.compute import caches


def test_a_cache_is_empty_until_a_kernel_was_compiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOCT_CACHE_DIR", str(tmp_path))
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    assert caches.prepare() == tmp_path
    assert not caches.holds_kernels()
    (tmp_path / "numba" / "mosaic").mkdir(parents=True)
    assert not caches.holds_kernels()
    (tmp_path / "numba" / "mosaic" / "rendering.nbi").touch()
    assert caches.holds_kernels()


def test_a_folder_that_cannot_be_written_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SOCT_CACHE_DIR", str(tmp_path / "file"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert caches.cache_folder() == tmp_path / "xdg" / "soct"


def test_modules_by_which_compiled_kernels_are_known_have_kernels():
    # Where one loses its kernels, every run would say for ever that it is the first.
    source = Path(soct.__file__).parent
    texts = {path: path.read_text(encoding="utf-8") for path in source.rglob("*.py")}
    asked = {
        *re.findall(r'_KERNELS_OF_RUNS = "(\w+)"', "".join(texts.values())),
        *re.findall(r'tell_first_run\("(\w+)"\)', "".join(texts.values())),
    }
    assert len(asked) == 2
    for name in asked:
        assert [
            p
            for p, text in texts.items()
            if p.stem == name and re.search(r"@njit\(.*cache=True", text)
        ], name
