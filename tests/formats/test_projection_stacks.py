"""Stacks of projections: what is read is what was written, in any layout; what is broken is one clear error."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import tifffile

from soct.errors import InputError, UsageError
from soct.formats.filled_arrays import array_suffix, find_array, lay_out
from soct.formats.projection_angles import read_angles, spanned, spread
from soct.formats.projection_stacks import as_sinogram, open_stack

SHAPE = (13, 6, 17)
WHOLE = slice(None)


@pytest.fixture
def stack():
    return np.random.default_rng(0).uniform(1, 2, SHAPE).astype(np.float32)


def exchange(path, stack, **more):
    with h5py.File(path, "w") as file:
        file["exchange/data"] = stack
        for name, values in more.items():
            file[f"exchange/{name}"] = values
    return path


def nxtomo(path, stack, keys, angles):
    with h5py.File(path, "w") as file:
        group = file.create_group("entry/instrument/detector")
        group["data"] = stack
        group["image_key"] = keys
        file["entry/sample/rotation_angle"] = angles
        file["entry/sample/rotation_angle"].attrs["units"] = "degree"
    return path


def every_layout(folder, stack):
    yield exchange(folder / "a.h5", stack)
    np.save(folder / "b.npy", stack)
    yield folder / "b.npy"
    np.save(folder / "f.npy", np.asfortranarray(stack))
    yield folder / "f.npy"
    for name, how in {
        "plain": {}, "deflated": {"compression": "zlib"}, "strips": {"rowsperstrip": 2}, "tiles": {"tile": (16, 16)},
        "big_endian": {"byteorder": ">"}, "imagej": {"imagej": True}, "ome": {"ome": True}, "bigtiff": {"bigtiff": True},
    }.items():  # fmt: skip
        path = folder / f"{name}.tif"
        tifffile.imwrite(path, stack, photometric="minisblack", **how)
        yield path
    pages = folder / "pages"
    pages.mkdir()
    for k, plane in enumerate(stack):
        tifffile.imwrite(pages / f"p{k}.tif", plane)
    yield pages


def test_every_layout_gives_the_same_blocks(tmp_path, stack):
    for path in every_layout(tmp_path, stack):
        opened = open_stack(path)
        assert opened.shape == SHAPE, path
        assert np.array_equal(opened.read(WHOLE, slice(2, 3)), stack[:, 2:3]), path
        assert np.array_equal(opened.read(slice(4, 9), WHOLE), stack[4:9]), path
        assert opened.read(slice(0, 1), WHOLE).dtype == np.float32


def test_files_of_a_folder_are_taken_as_people_count(tmp_path, stack):
    for k, plane in enumerate(stack):
        tifffile.imwrite(tmp_path / f"scan_{k}.tif", plane)
    opened = open_stack(tmp_path)
    assert np.array_equal(opened.read(WHOLE, WHOLE), stack)
    assert "from scan_0.tif to scan_12.tif" in opened.notes[0]


def test_a_sinogram_is_read_without_the_rest_of_an_uncompressed_stack(tmp_path):
    path = tmp_path / "large.npy"
    large = np.lib.format.open_memmap(path, "w+", np.float32, (600, 400, 500))
    large[:, 123] = 7
    del large
    import tracemalloc

    opened = open_stack(path)
    tracemalloc.start()
    row = opened.read(WHOLE, slice(123, 124))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (row == 7).all()
    assert peak < 4 * row.nbytes


def test_data_exchange_has_flats_darks_and_angles(tmp_path, stack):
    angles = np.linspace(0, 180, len(stack))
    path = exchange(
        tmp_path / "a.h5", stack, data_white=stack[:3], data_dark=stack[:2], theta=angles
    )
    opened = open_stack(path)
    assert opened.flats.shape == (3, *SHAPE[1:])
    assert np.array_equal(opened.darks.read(slice(1, 3)), stack[:2, 1:3])
    assert np.array_equal(opened.angles.values, angles)


def test_nxtomo_tells_projections_flats_darks_and_invalid_frames_apart(tmp_path, stack):
    keys = np.array([2, 1, 0, 0, 0, 3, 0, 0, 1, 0, 0, 0, 0])
    opened = open_stack(nxtomo(tmp_path / "a.nxs", stack, keys, np.arange(13.0)))
    assert np.array_equal(opened.read(WHOLE, WHOLE), stack[keys == 0])
    assert np.array_equal(opened.read(slice(2, 5), slice(1, 2)), stack[keys == 0][2:5, 1:2])
    assert np.array_equal(opened.flats.read(WHOLE), stack[keys == 1])
    assert np.array_equal(opened.darks.read(WHOLE), stack[keys == 2])
    assert np.array_equal(opened.angles.values, np.flatnonzero(keys == 0))
    assert opened.angles.unit == "deg"
    assert "left out: 1" in opened.notes[0]


def test_an_unknown_hdf5_lists_its_3d_datasets_and_takes_the_named_one(tmp_path, stack):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["scan/images"] = stack
        file["scan/energy"] = np.zeros(4)
    with pytest.raises(InputError, match=r"scan/images \(13, 6, 17\)"):
        open_stack(path)
    assert open_stack(path, dataset="/scan/images").shape == SHAPE
    with pytest.raises(InputError, match="no such dataset"):
        open_stack(path, dataset="scan/absent")
    with pytest.raises(InputError, match="no stack"):
        open_stack(path, dataset="scan/energy")


def cut(path, part=0.6):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    return path


def test_a_truncated_file_is_named_whatever_its_kind(tmp_path, stack):
    paths = [p for p in every_layout(tmp_path, np.repeat(stack, 8, axis=1)) if p.is_file()]
    paths.append(tmp_path / "pages" / "p7.tif")
    for path in paths:
        target = path.parent if path.parent != tmp_path else cut(path)
        if path.parent != tmp_path:
            cut(path)
        with pytest.raises(InputError) as caught:
            open_stack(target).read(WHOLE, WHOLE)
        assert path.name in caught.value.file, path


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda p: p.with_suffix(".h5").write_bytes(b"no hdf5"), "cannot be read"),
        (lambda p: p.with_suffix(".npy").write_bytes(b"no numpy"), "cannot be read"),
        (lambda p: p.with_suffix(".tif").write_bytes(b"no tiff"), "cannot be read"),
        (lambda p: p.with_suffix(".jpg").write_bytes(b"picture"), "no kind of stack"),
        (lambda p: p.mkdir(), "no projection in this folder"),
        (lambda p: np.save(p.with_suffix(".npy"), np.zeros((1, 8, 8))), "so few"),
        (lambda p: np.save(p.with_suffix(".npy"), np.zeros((5, 8, 8), complex)), "type"),
        (lambda p: np.save(p.with_suffix(".npy"), np.zeros((5, 8, 8, 2))), "no stack"),
        (lambda p: np.save(p.with_suffix(".npy"), np.array([{}]), allow_pickle=True), "cannot be read"),
        (lambda p: tifffile.imwrite(p.with_suffix(".tif"), np.zeros((5, 8, 8, 3), "u1"), photometric="rgb"), "else than"),
    ],
)  # fmt: skip
def test_what_is_no_stack_is_one_clear_error(tmp_path, make, words):
    make(tmp_path / "stack")
    (made,) = tmp_path.iterdir()
    with pytest.raises(InputError, match=words):
        open_stack(made)


def test_a_stack_that_is_not_there_and_flats_of_another_size_are_told(tmp_path, stack):
    with pytest.raises(InputError, match="no such stack"):
        open_stack(tmp_path / "absent.h5")
    path = exchange(tmp_path / "a.h5", stack, data_white=stack[:2, :3])
    with pytest.raises(InputError, match="differ in size"):
        open_stack(path)


def test_files_of_another_size_in_a_folder_are_named(tmp_path, stack):
    for k, plane in enumerate(stack):
        tifffile.imwrite(tmp_path / f"p{k:03}.tif", plane)
    tifffile.imwrite(tmp_path / "p007.tif", stack[0, :, :5])
    with pytest.raises(InputError, match="differ") as caught:
        open_stack(tmp_path)
    assert caught.value.file.endswith("p007.tif")


def test_an_image_is_one_sinogram_whose_axes_must_be_known(tmp_path):
    image = np.arange(30.0).reshape(5, 6)
    np.save(tmp_path / "s.npy", image)
    opened = open_stack(tmp_path / "s.npy")
    by_rows = as_sinogram(opened, "angle-detector")
    assert by_rows.shape == (5, 1, 6)
    assert np.array_equal(by_rows.read(slice(1, 3), WHOLE)[:, 0], image[1:3])
    by_columns = as_sinogram(opened, "auto", angles=6)
    assert by_columns.shape == (6, 1, 5)
    assert np.array_equal(by_columns.read(WHOLE, WHOLE)[:, 0], image.T)
    assert "6 projections and 5 detector pixels" in by_columns.notes[-1]
    for count in (None, 7):
        with pytest.raises(UsageError, match="--sinogram-axes"):
            as_sinogram(opened, "auto", angles=count)


def test_angles_come_from_text_csv_and_npy(tmp_path):
    for name, text in {
        "lines.txt": "# degrees\n0\n1.5\n\n3\n",
        "line.txt": "0 1.5, 3",
        "table.csv": "projection,angle_deg\n0,0\n1,1.5\n2,3\n",
    }.items():
        (tmp_path / name).write_text(text)
        assert np.array_equal(read_angles(tmp_path / name).values, [0, 1.5, 3]), name
    assert read_angles(tmp_path / "table.csv").unit == "deg"
    np.save(tmp_path / "a.npy", np.array([0, 1.5, 3]))
    assert np.array_equal(read_angles(tmp_path / "a.npy").values, [0, 1.5, 3])


@pytest.mark.parametrize("text", ["", "0\nhalf\n", "0\nnan\n", "a,b\n1,2\n", "0 1\n2 3\n"])
def test_what_is_no_list_of_angles_is_an_error(tmp_path, text):
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(InputError):
        read_angles(tmp_path / "a.txt")


def test_a_range_includes_both_ends_and_a_span_leaves_room_for_the_next():
    assert np.array_equal(spread(3, 0, 180, "auto").values, [0, 90, 180])
    assert np.array_equal(spanned(3, 180, "auto").values, [0, 60, 120])


@pytest.mark.parametrize("suffix", [".h5", ".npy", ".tif"])
def test_a_file_filled_in_any_order_has_the_same_bytes_and_is_a_stack(tmp_path, stack, suffix):
    content = []
    for name, order in (("a", range(13)), ("b", reversed(range(13)))):
        path = tmp_path / f"{name}{suffix}"
        beside = {"exchange/theta": (np.arange(13.0), "degrees")}
        lay_out(path, SHAPE, suffix, dataset="exchange/data", attributes={"description": "line integrals"}, beside=beside)  # fmt: skip
        for k in order:
            find_array(path, suffix, "exchange/data").write(k, stack[k : k + 1])
        assert np.array_equal(open_stack(path).read(WHOLE, WHOLE), stack)
        content.append(path.read_bytes())
    assert content[0] == content[1]
    if suffix == ".h5":
        assert np.array_equal(open_stack(path).angles.values, np.arange(13.0))


def test_a_name_says_which_kind_of_array_is_written(tmp_path):
    assert array_suffix(tmp_path / "a.TIF") == ".tif"
    for name in ("a", "a.raw", "a.ome.tif", "a.zarr"):
        with pytest.raises(UsageError):
            array_suffix(tmp_path / name)


def test_a_fingerprint_changes_with_the_file(tmp_path, stack):
    path = exchange(tmp_path / "a.h5", stack)
    before = open_stack(path).fingerprint()
    assert open_stack(path).fingerprint() == before
    exchange(path, stack + 1)
    assert open_stack(path).fingerprint() != before
