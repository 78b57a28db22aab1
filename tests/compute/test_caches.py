"""Where compiled kernels are kept."""

from __future__ import annotations

from pathlib import Path

import pytest

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
