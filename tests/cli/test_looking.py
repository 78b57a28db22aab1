"""`soct screenshot` and `soct view`, as they are typed."""

from __future__ import annotations

import sys
import threading
import types
import urllib.request
from importlib.machinery import ModuleSpec

import numpy as np
import pytest
from PIL import Image

from soct.cli.app import run_app
from soct.cli.main import run_guarded
from soct.errors import ExitCode
from soct.formats import store_server
from soct.formats.ome_zarr import PyramidWriter
from soct.space import Voxel


@pytest.fixture
def volume(tmp_path):
    path = tmp_path / "brain.ome.zarr"
    data = np.random.default_rng(0).uniform(1, 2, (6, 8, 10)).astype(np.float32)
    with PyramidWriter(path, data.shape, Voxel(25, 25, 25), (50,)) as writer:
        writer.append(data, np.ones(data.shape, bool))
    return path


def soct(*arguments: object) -> int:
    words = [str(a) for a in arguments]
    return run_guarded(lambda: run_app(words), words)


def test_a_screenshot_is_a_png_and_is_never_written_over(volume, tmp_path, capsys):
    out = tmp_path / "a.png"
    options = ["--out", out, "--at", "1,2,3", "--window", "1,2", "--size", 200]
    assert soct("screenshot", volume, *options) == ExitCode.OK
    assert capsys.readouterr().out.strip() == str(out)
    with Image.open(out) as picture:
        assert picture.mode == "RGB"
    before = out.read_bytes()
    assert soct("screenshot", volume, *options) == ExitCode.USAGE
    assert out.read_bytes() == before
    for wrong in (["--at", "1,2"], ["--at", "9,9,99"], ["--window", "2,1"], ["--out", "a.jpg"]):
        assert soct("screenshot", volume, *wrong) == ExitCode.USAGE


def test_view_prints_a_link_and_says_when_napari_is_absent(volume, capsys, monkeypatch):
    monkeypatch.setattr(store_server, "has_napari", lambda: False)
    assert soct("view", volume, "--print-only") == ExitCode.OK
    told = capsys.readouterr()
    assert told.out.startswith(store_server.VIEWER)
    assert "not installed" in told.err
    assert soct("view", volume, "--napari") == ExitCode.USAGE
    assert "soct[viewer]" in capsys.readouterr().err


def test_view_serves_the_volume_until_it_is_stopped(volume, monkeypatch, capsys):
    seen = []

    class Watched(store_server.StoreServer):
        def serve_forever(self, poll_interval: float = 0.5) -> None:
            thread = threading.Thread(target=super().serve_forever, args=(0.05,))
            thread.start()
            with urllib.request.urlopen(f"{self.url}/zarr.json", timeout=120) as answer:
                seen.append(answer.read())
            self.shutdown()
            thread.join()

    monkeypatch.setattr(store_server, "StoreServer", Watched)
    assert soct("view", volume) == ExitCode.OK
    assert seen == [(volume / "zarr.json").read_bytes()]
    assert "Serving" in capsys.readouterr().err


def test_napari_gets_every_level_in_micrometres(volume, monkeypatch):
    shown = {}

    class Viewer:
        scale_bar = types.SimpleNamespace(visible=False, unit=None)

        def __init__(self, title: str) -> None:
            shown["title"] = title

        def add_image(self, levels, **said):
            shown.update(said, shapes=[level.shape for level in levels])

    fake = types.ModuleType("napari")
    fake.__spec__ = ModuleSpec("napari", None)
    fake.Viewer = Viewer  # type: ignore[attr-defined]
    fake.run = lambda: shown.setdefault("ran", True)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "napari", fake)
    assert soct("view", volume, "--napari") == ExitCode.OK
    assert shown["ran"]
    assert shown["shapes"] == [(6, 8, 10), (3, 4, 5)]
    assert tuple(shown["scale"]) == (25, 25, 25)


@pytest.mark.parametrize("tool", ["view", "screenshot"])
def test_what_is_no_volume_is_an_input_error(tool, tmp_path, capsys):
    assert soct(tool, tmp_path) == ExitCode.INPUT
    assert "error: " in capsys.readouterr().err
