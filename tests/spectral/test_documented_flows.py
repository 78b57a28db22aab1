"""The scripts of docs/spectral.md run as they are written, and give the scene back."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage as ndi

from soct.spectral import Affine, Image

PAGE = Path(__file__).resolve().parents[2] / "docs" / "spectral.md"
SCRIPTS = [
    (section.partition("\n")[0], script)
    for section in PAGE.read_text("utf-8").split("\n## ")[1:]
    for script in re.findall(r"```python\n(.*?)```", section, re.DOTALL)
]


@pytest.fixture(scope="module")
def scene():
    rng = np.random.default_rng(0)
    noise = sum(
        s * ndi.gaussian_filter(rng.standard_normal((900, 1500)), s) for s in (1.5, 3.0, 8.0)
    )
    return (0.5 + 0.1 * noise / noise.std()).astype(np.float32)


def window(scene, x, y, w, h):
    """Cut at a sub-pixel position, with a spline that is far better than what is tested."""
    x0, y0 = max(int(x) - 20, 0), max(int(y) - 20, 0)
    scene, x, y = scene[y0 : y0 + h + 50, x0 : x0 + w + 50], x - x0, y - y0
    grid = np.mgrid[:h, :w] + np.array([y, x])[:, None, None]
    return ndi.map_coordinates(scene, grid, order=5).astype(np.float32)


@pytest.fixture(scope="module")
def images(scene, tmp_path_factory):
    folder = tmp_path_factory.mktemp("flows")
    left, right = window(scene, 20, 30, 760, 800), window(scene, 620.4, 32.7, 760, 800)
    # Its own point (x, y) is the scene's (620 + x', 33 + y'), turned and scaled about the middle.
    yy, xx = np.mgrid[:800, :760] + 0.5
    points = TURN * np.stack([xx.ravel(), yy.ravel()], axis=1) + (620.4, 32.7) - 0.5
    turned = ndi.map_coordinates(scene, points[:, ::-1].T.reshape(2, 800, 760), order=5)
    Image(turned).save(folder / "turned.tif")
    for z in ("", "_0", "_1", "_2"):
        Image(left).save(folder / f"left{z}.tif")
        Image(right).save(folder / f"right{z}.tif")
    for r in range(2):
        for c in range(3):
            tile = window(scene, 10 + 340.3 * c, 15 + 340.8 * r, 400, 400)
            Image(tile).save(folder / f"tile_{r}_{c}.tif")
    return folder


@pytest.fixture
def folder(images, monkeypatch):
    monkeypatch.chdir(images)
    return images


TURN = Affine.scaler(1.004, (380, 400)) @ Affine.rotator(0.006, (380, 400))

# Results; where their first pixel lies in the scene, and a place at a seam.
RESULTS = {
    "Two images": {"both.tif": ((20, 30), (600, 300))},
    "Two images, one turned or scaled": {},
    "A grid, rigid and then affine": {
        "grid_rigid.tif": ((10, 15), (300, 300)),
        "grid_affine.tif": ((10, 15), (300, 300)),
    },
    "Wrong matches and weak tiles": {},
    "A stack of planes": {f"plane_{z}.tif": ((20, 30), (600, 300)) for z in range(3)},
    "Pictures larger than memory": {},
}


def run(title, script):
    names: dict = {}
    exec(compile(script, f"docs/spectral.md: {title}", "exec"), names)
    return names


def test_every_script_of_the_page_is_run():
    assert list(dict.fromkeys(title for title, _ in SCRIPTS)) == list(RESULTS)


@pytest.mark.parametrize("title", RESULTS)
def test_the_scripts_of_a_section_give_the_scene_back(title, scene, folder):
    for script in (script for of, script in SCRIPTS if of == title):
        run(title, script)
    for name, ((x, y), seam) in RESULTS[title].items():
        picture = np.asarray(Image(folder / name))
        # Around the seam. The frame of a placement is free by a fraction of a pixel.
        at, w, h = seam, 160, 160
        part = picture[at[1] : at[1] + h, at[0] : at[0] + w]
        best = max(
            np.corrcoef(part.ravel(), window(scene, x + at[0] + dx, y + at[1] + dy, w, h).ravel())[
                0, 1
            ]
            for dx in (-0.5, 0, 0.5)
            for dy in (-0.5, 0, 0.5)
        )
        assert best > 0.98, name


def test_windows_cut_at_the_points_of_the_page_show_the_same(folder):
    title, script = SCRIPTS[1]
    names = run(title, script)
    np.testing.assert_allclose(names["p_left"] - names["p_right"], (600.4, 2.7), atol=0.002)
    difference = names["window_left"].rmsdelta(names["window_right"])
    assert difference < 0.1 * names["window_left"].std()


def test_the_affine_flow_of_the_page_finds_the_turn_and_shows_one_scene(scene, folder):
    names = run(*next(s for s in SCRIPTS if "turned" in s[0]))
    points = np.array([(40.0, 60.0), (140.0, 400.0), (60.0, 740.0)])
    truth = TURN.shifted((600.4, 2.7)) * points
    np.testing.assert_allclose(names["between"] * points, truth, atol=0.1)
    x, y = np.add(names["renderer"].pmin, (20, 30))
    picture = np.asarray(Image("both_affine.tif"))[300:460, 600:760]
    expected = window(scene, x + 600, y + 300, 160, 160)
    assert np.corrcoef(picture.ravel(), expected.ravel())[0, 1] > 0.98
