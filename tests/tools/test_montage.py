"""`soct montage`: what it finds, writes and refuses."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from scipy import ndimage as ndi

from soct.cli.app import run_app
from soct.cli.main import run_guarded
from soct.errors import ExitCode, InputError, UsageError
from soct.formats.plain_images import find_images, read_plain_header, read_plain_image
from soct.tools.montage import MontageOptions, make_montage
from soct.tools.montage_images import open_images
from soct.tools.montage_layout import CORNERS, ORDERS, grid_index
from tests.tools.drawn_mosaics import SHAPE, cut, draw_mosaic, scene, write_8bit


@pytest.fixture(scope="module")
def grid_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("grid")
    return folder, draw_mosaic(folder, 3, 4)


def error_of(found, true):
    error = found - true
    return float(np.abs(error - np.median(error, axis=0)).max())


def montage(folder, **options):
    return make_montage(open_images([folder]), MontageOptions(**options))


def soct(*arguments):
    words = ["montage", *map(str, arguments)]
    return run_guarded(lambda: run_app(words), words)


# -- What is found


def test_a_grid_of_which_only_its_size_is_known_is_placed_exactly(grid_folder):
    folder, true = grid_folder
    made = montage(folder, grid=(3, 4))
    assert error_of(made.positions_px, true) < 0.05
    assert made.placement.measured.all()
    assert any("rows from the top-left" in note for note in made.notes)
    assert made.warnings == ()


@pytest.mark.parametrize(
    ("order", "corner"), [*zip(ORDERS, CORNERS, strict=True), ("columns", "top-left")]
)
def test_order_and_corner_of_a_grid_are_told_by_the_images(tmp_path, grid_folder, order, corner):
    folder, true = grid_folder
    index = grid_index(3, 4, order, corner)
    for number, (row, column) in enumerate(index):
        (tmp_path / f"{number:02d}.tif").symlink_to(folder / f"tile{4 * row + column + 1}.tif")
    made = montage(tmp_path, grid=(3, 4))
    assert any(f"order {order} from the {corner}" in note for note in made.notes)
    assert error_of(made.positions_px, true[index @ [4, 1]]) < 0.05


def test_images_of_an_unknown_layout_are_placed_exactly(grid_folder):
    folder, true = grid_folder
    made = montage(folder)
    assert error_of(made.positions_px, true) < 0.05
    assert np.all(made.group == 0)


def test_groups_that_nothing_joins_are_named_and_laid_out_apart(tmp_path):
    draw_mosaic(tmp_path, 2, 2)
    other = scene((200, 260), seed=9)
    for name, image in zip("ab", cut(other, np.array([(0, 0), (0, 95)])), strict=True):
        tifffile.imwrite(tmp_path / f"other_{name}.tif", image)
    tifffile.imwrite(tmp_path / "stray.tif", np.rint(scene(SHAPE, seed=20)).astype(np.uint16))
    made = montage(tmp_path)
    assert sorted(np.bincount(made.group)) == [1, 2, 4]
    text = "\n".join(made.warnings)
    assert "other_a.tif, other_b.tif" in text
    assert "stray.tif" in text
    for i in range(7):
        for j in range(i):
            if made.group[i] != made.group[j]:
                apart = np.abs(made.positions_px[i] - made.positions_px[j]) - SHAPE
                assert apart.max() >= 15, "a clear gap"


def test_a_positions_file_may_be_wrong_by_some_pixels(tmp_path, grid_folder):
    folder, true = grid_folder
    rough = true + np.random.default_rng(3).uniform(-4, 4, true.shape)
    table = tmp_path / "rough.csv"
    lines = [f"tile{k + 1}.tif,{x:.2f},{y:.2f}" for k, (y, x) in enumerate(rough)]
    table.write_text("\n".join(["name,x_px,y_px", *lines]))
    assert error_of(montage(folder, positions=table).positions_px, true) < 0.05
    images = [int("".join(c for c in n if c.isdigit())) - 1 for n in open_images([folder]).names]
    given = montage(folder, positions=table, match=False)
    assert error_of(given.positions_px, rough[images]) < 0.01


def test_a_blank_image_is_named_and_lies_on_the_grid(tmp_path):
    true = draw_mosaic(tmp_path, 3, 4)
    tifffile.imwrite(tmp_path / "tile6.tif", np.full(SHAPE, 1000, np.uint16))
    made = montage(tmp_path, grid=(3, 4))
    assert any("tile6.tif" in warning for warning in made.warnings)
    error = made.positions_px - true
    error -= np.median(error, axis=0)
    assert np.abs(np.delete(error, 5, axis=0)).max() < 0.05
    assert np.abs(error[5]).max() < 8


def test_an_image_that_is_turned_is_named_with_the_way_out(tmp_path):
    draw_mosaic(tmp_path, 3, 3)
    straight = montage(tmp_path, grid=(3, 3))
    middle = tmp_path / "tile5.tif"
    turned = ndi.rotate(tifffile.imread(middle), 1.5, reshape=False, order=3, mode="nearest")
    tifffile.imwrite(middle, turned)
    assert straight.warnings == ()
    (told,) = montage(tmp_path, grid=(3, 3)).warnings
    assert "tile5.tif" in told
    assert "--model similarity" in told


def test_a_grid_given_the_wrong_way_round_is_doubted(tmp_path, grid_folder):
    folder, _ = grid_folder
    try:
        notes = montage(folder, grid=(4, 3)).notes
    except InputError:
        return
    assert any("is a grid of 4x3 right?" in note for note in notes)


@pytest.mark.parametrize(
    ("model", "shear", "most_px", "share"),
    [("similarity", 0.0, 0.1, 0.1), ("affine", 0.02, 0.8, 0.65)],
)
def test_images_that_are_turned_and_sheared_get_maps_that_undo_it(
    tmp_path, model, shear, most_px, share
):
    picture = scene((420, 520), 4)
    places = np.array([(r * 140 + 10, c * 190 + 10) for r in range(2) for c in range(2)])
    rng = np.random.default_rng(0)
    truth = {}
    for k, (y, x) in enumerate(places):
        turn, scale = np.radians(rng.uniform(-0.7, 0.7)), 1 + rng.uniform(-0.004, 0.004)
        c, s = scale * np.cos(turn), scale * np.sin(turn)
        linear = np.array([[c, -s], [s, c]]) + shear * rng.uniform(-0.3, 0.3, (2, 2))
        middle = np.array([120.0, 90.0])
        truth[k] = np.column_stack([linear, middle + np.array([x, y]) - linear @ middle])
        yy, xx = np.mgrid[:180, :240] + 0.5
        at = truth[k] @ np.stack([xx.ravel(), yy.ravel(), np.ones(xx.size)])
        image = ndi.map_coordinates(picture, [at[1] - 0.5, at[0] - 0.5], order=3)
        tifffile.imwrite(tmp_path / f"{k}.tif", image.reshape(180, 240).astype(np.float32))
    made = montage(tmp_path, grid=(2, 2), model=model)
    assert made.maps is not None
    assert made.maps.rms_px < 0.25 * made.maps.rigid_rms_px
    # One map of the whole is free; what is left are errors of images to each other.
    corners = np.array([(0, 0, 1), (240, 0, 1), (0, 180, 1), (240, 180, 1)], float)
    got = np.concatenate([corners @ made.matrices[k].T for k in range(4)])
    true = np.concatenate([corners @ truth[k].T for k in range(4)])
    full = np.column_stack([got, np.ones(len(got))])
    error = full @ np.linalg.lstsq(full, true, rcond=None)[0] - true
    rigid = np.concatenate([corners[:, :2] + p[::-1] for p in made.placement.positions_px])
    full = np.column_stack([rigid, np.ones(len(rigid))])
    before = full @ np.linalg.lstsq(full, true, rcond=None)[0] - true
    left = np.sqrt((error**2).sum(1).mean())
    # In a grid of 2 x 2 only two sides of an image say how it is sheared.
    assert left < most_px
    assert left < share * np.sqrt((before**2).sum(1).mean())


# -- What is written


def test_the_mosaic_has_the_brightness_and_type_of_its_images(tmp_path, grid_folder):
    folder, true = grid_folder
    out = tmp_path / "out.tif"
    assert soct(folder, "-o", out, "--grid", "3x4", "--save-positions", tmp_path / "p.csv", "--whole-pixels") == ExitCode.OK  # fmt: skip
    mosaic = tifffile.imread(out)
    assert mosaic.dtype == np.uint16
    assert mosaic.shape == tuple(true.max(axis=0) + SHAPE)
    for k, (y, x) in enumerate(true, 1):
        image = tifffile.imread(folder / f"tile{k}.tif")
        here = mosaic[y : y + SHAPE[0], x : x + SHAPE[1]]
        assert np.abs(here.astype(int) - image).max() <= 1
    rows = list(csv.DictReader((tmp_path / "p.csv").read_text().splitlines()))
    assert [r["name"] for r in rows] == [f"tile{k}.tif" for k in range(1, 13)]
    assert all(float(r["confidence"]) > 0.5 for r in rows)
    saved = np.array([(float(r["y_px"]), float(r["x_px"])) for r in rows])
    assert np.abs(saved - true).max() < 1e-6


def test_saved_positions_give_the_same_mosaic_again(tmp_path, grid_folder):
    folder, _ = grid_folder
    soct(folder, "-o", tmp_path / "a.tif", "--save-positions", tmp_path / "p.csv", "--no-report")
    assert soct(folder, "-o", tmp_path / "b.tif", "--positions", tmp_path / "p.csv", "--no-match", "--no-report") == ExitCode.OK  # fmt: skip
    first, second = (tifffile.imread(tmp_path / n).astype(int) for n in ("a.tif", "b.tif"))
    assert first.shape == second.shape
    assert np.abs(first - second).max() <= 2


def test_a_mosaic_becomes_an_ome_zarr(tmp_path, grid_folder):
    import zarr

    folder, true = grid_folder
    out = tmp_path / "out.ome.zarr"
    assert (
        soct(folder, "-o", out, "--grid", "3x4", "--no-report", "--pixel-um", "0.5") == ExitCode.OK
    )
    level = zarr.open(out / "0", mode="r")
    assert level.dtype == np.uint16
    assert level.shape[-2:] == tuple(true.max(axis=0) + SHAPE)


def test_the_report_is_one_inert_page_and_the_same_every_time(tmp_path, grid_folder):
    folder, _ = grid_folder
    pages = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        assert soct(folder, "-o", tmp_path / name / "out.tif", "--grid", "3x4") == ExitCode.OK
        pages.append((tmp_path / name / "out.html").read_bytes())
    assert pages[0] == pages[1]
    page = pages[0].decode()
    assert "default-src 'none'" in page
    assert "card failed" not in page
    assert "http:" not in page.replace("http://www.w3.org", "")
    for anchor in ("mosaic", "residuals", "seams", "pairs", "tiles", "method"):
        assert f'<section id="{anchor}"' in page
    assert "tile12.tif" in page


def test_pairs_are_a_table_and_json(grid_folder, capsys):
    folder, true = grid_folder
    assert soct(folder, "--grid", "3x4", "--pairs") == ExitCode.OK
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("tile")]
    assert len(lines) == 17
    assert soct(folder, "--grid", "3x4", "--pairs", "--json") == ExitCode.OK
    found = json.loads(capsys.readouterr().out)
    assert {p["first"] for p in found["pairs"]} <= {t["name"] for t in found["tiles"]}
    first = next(p for p in found["pairs"] if (p["first"], p["second"]) == ("tile1.tif", "tile2.tif"))  # fmt: skip
    dy, dx = true[1] - true[0]
    assert abs(first["dx_px"] - dx) < 0.05
    assert abs(first["dy_px"] - dy) < 0.05
    assert first["snr"] > 3


# -- What is read


def test_names_are_sorted_as_people_count(tmp_path):
    for name in ("t10.tif", "t2.tif", "T1.tif", "notes.txt", ".hidden.tif"):
        (tmp_path / name).write_bytes(b"")
    found = [p.name for p in find_images([tmp_path])]
    assert found == ["T1.tif", "t2.tif", "t10.tif"]
    assert [p.name for p in find_images([tmp_path / "t*.tif"])] == ["t2.tif", "t10.tif"]


def test_every_kind_of_image_is_read_as_it_is(tmp_path):
    image = cut(scene((120, 140)), np.array([(0, 0)]))[0]
    grey = np.clip(image // 16, 0, 255).astype(np.uint8)
    write_8bit(tmp_path / "a.png", image)
    write_8bit(tmp_path / "b.png", image, colour=True)
    write_8bit(tmp_path / "c.tif", image)
    Image.fromarray(image).save(tmp_path / "d.png")
    tifffile.imwrite(tmp_path / "e.tif", image.astype(np.float32) / 7)
    write_8bit(tmp_path / "f.jpg", image)
    for name, dtype, wanted, tolerance in (
        ("a.png", "uint8", grey, 0), ("b.png", "uint8", grey, 1e-3), ("c.tif", "uint8", grey, 0),
        ("d.png", "uint16", image, 0), ("e.tif", "float32", image / np.float32(7), 1e-3), ("f.jpg", "uint8", grey, 40),
    ):  # fmt: skip
        header = read_plain_header(tmp_path / name)
        assert (header.shape, header.dtype.name) == (SHAPE, dtype), name
        assert np.abs(read_plain_image(header) - wanted).max() <= tolerance, name


# -- What is refused


def refused(call, *words):
    with pytest.raises((InputError, UsageError)) as caught:
        call()
    text = str(caught.value)
    assert all(word in text for word in words), text


def test_one_image_alone_is_no_montage(tmp_path):
    write_8bit(tmp_path / "only.png", np.full(SHAPE, 9, np.uint16))
    refused(lambda: open_images([tmp_path]), "only.png", "two images or more", "to do")


def test_images_of_unequal_size_or_type_are_named(tmp_path):
    draw_mosaic(tmp_path, 1, 2)
    tifffile.imwrite(tmp_path / "big.tif", np.zeros((200, 300), np.uint16))
    refused(lambda: open_images([tmp_path]), "big.tif", "300 x 200", "120 x 96")
    tifffile.imwrite(tmp_path / "big.tif", np.zeros(SHAPE, np.uint8))
    refused(lambda: open_images([tmp_path]), "big.tif", "uint8", "uint16")


@pytest.mark.parametrize("suffix", [".tif", ".png", ".jpg"])
def test_a_truncated_or_broken_image_is_named(tmp_path, suffix):
    path = tmp_path / f"cut{suffix}"
    image = cut(scene((120, 140)), np.array([(0, 0)]))[0]
    write_8bit(path, image)
    header = read_plain_header(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    refused(lambda: read_plain_image(header), path.name, "to do")
    path.write_bytes(b"not an image at all")
    refused(lambda: read_plain_header(path), path.name, "to do")


def test_a_stack_is_refused_with_the_number_of_its_planes(tmp_path):
    tifffile.imwrite(tmp_path / "stack.tif", np.zeros((5, *SHAPE), np.uint16))
    refused(lambda: read_plain_header(tmp_path / "stack.tif"), "stack.tif", "5 planes")


def test_images_that_share_nothing_are_refused(tmp_path):
    for k in range(4):
        tifffile.imwrite(tmp_path / f"{k}.tif", np.rint(scene(SHAPE, seed=k)).astype(np.uint16))
    for options in ({}, {"grid": (2, 2)}, {"grid": (2, 2), "order": "rows", "corner": "top-left", "overlap": 0.2}):  # fmt: skip
        refused(lambda options=options: montage(tmp_path, **options), "could be matched", "to do")


def test_a_grid_that_does_not_fit_is_refused(grid_folder):
    folder, _ = grid_folder
    refused(lambda: montage(folder, grid=(3, 5)), "15 images", "12 images")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda lines: lines[:-1], ("lacks images", "tile12.tif")),
        (lambda lines: [*lines, "ghost.tif,1,2"], ("not there", "ghost.tif")),
        (lambda lines: [*lines, lines[-1]], ("twice", "tile12.tif")),
        (lambda lines: [*lines[:-1], "tile12.tif,one,2"], (":13", "x_px")),
        (lambda lines: ["name,x", *lines[1:]], (":1", "x_px")),
    ],
)
def test_a_wrong_positions_file_is_told_with_its_line_or_names(tmp_path, grid_folder, change, words):  # fmt: skip
    folder, true = grid_folder
    lines = ["name,x_px,y_px", *(f"tile{k + 1}.tif,{x},{y}" for k, (y, x) in enumerate(true))]
    table = tmp_path / "p.csv"
    table.write_text("\n".join(change(lines)) + "\n")
    refused(lambda: montage(folder, positions=table), "p.csv", *words)


def test_outputs_that_exist_or_cannot_be_are_refused_before_anything_is_read(tmp_path, capsys):
    (tmp_path / "there.tif").write_bytes(b"")
    (tmp_path / "other.html").write_bytes(b"")
    for name, word in (("there.tif", "exists"), ("other.tif", "exists"), ("x.xyz", ".ome.zarr"), ("no/x.tif", "folder")):  # fmt: skip
        assert soct("nowhere", "-o", tmp_path / name) == ExitCode.USAGE
        assert word in capsys.readouterr().err


@pytest.mark.data
def test_real_tiles_are_exact_in_whole_pixels_by_grid_and_by_nothing(shared: Path) -> None:
    folder = shared / "data" / "tiles_mist_exact"
    if not folder.is_dir():
        pytest.skip("the real tiles are not on this machine")
    truth = json.loads((folder / "derived_exact_truth.json").read_text())
    images = open_images([folder / "ImageName*.tif"])
    true = np.array([(truth[n]["y"], truth[n]["x"]) for n in images.names])
    for options in (MontageOptions(grid=(5, 5)), MontageOptions()):
        made = make_montage(images, options)
        assert error_of(made.positions_px, true) < 0.1
        assert made.placement.measured.all()


@pytest.mark.data
def test_a_half_blank_section_is_not_bent_by_chance_matches(shared: Path) -> None:
    folder = shared / "data" / "tiles_brain_wsi"
    if not folder.is_dir():
        pytest.skip("the real tiles are not on this machine")
    images = open_images([folder / f"C3-BrainSection00{k}.tif" for k in range(10, 28)])
    made = make_montage(images, MontageOptions(grid=(2, 9), model="similarity"))
    assert any("snake-rows from the top-left" in note for note in made.notes)
    for i, matrix in made.matrices.items():
        assert np.abs(matrix[:, :2] - np.eye(2)).max() <= 0.05, i
    pitch = made.positions_px[9:][::-1] - made.positions_px[:9]
    assert np.abs(pitch - (461, -8)).max() < 12
