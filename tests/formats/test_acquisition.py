import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from soct.errors import InputError, UserError
from soct.formats.acquisition import fingerprint_slice, open_acquisition
from soct.formats.mosaic_grid import MosaicGridWriter
from soct.formats.tile_info import parse_info
from soct.space import Voxel
from tests.formats.fuzzing import FUZZ
from tests.formats.raw_files import KEYS, samples, write_slice, write_tile


def kinds(acquisition):
    return sorted(problem.kind for problem in acquisition.problems)


@pytest.mark.parametrize(
    "folder",
    [
        "tile_x01_y00_z07",
        "z07/tile_x01_y00_z07",
        "slice_z07/tiles/tile_x1_y0_z7",
        "a/b/c d/e/tile_x1_y0_z0007",
    ],
)
def test_a_tile_is_found_in_every_layout(tmp_path, folder):
    write_tile(tmp_path / folder, samples(0))
    acquisition = open_acquisition(tmp_path)
    (tile,) = acquisition.slices[7].tiles
    assert (tile.slice_id, tile.row, tile.col) == (7, 0, 1)
    assert tile.info.shape == (5, 3, 6)
    assert acquisition.kind == "raw"
    assert acquisition.problems == ()


def test_slices_are_ascending_and_tiles_row_major(tmp_path):
    for slice_id in (10, 9, 11):
        write_slice(tmp_path, slice_id)
    acquisition = open_acquisition(tmp_path)
    assert list(acquisition.slices) == [9, 10, 11]
    assert [(t.row, t.col) for t in acquisition.slices[9].tiles] == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_a_missing_slice_and_a_missing_tile_are_named_and_no_index_shifts(tmp_path):
    write_slice(tmp_path, 1)
    write_slice(tmp_path, 3)
    for file in (tmp_path / "tile_x01_y00_z03").iterdir():
        file.unlink()
    (tmp_path / "tile_x01_y00_z03").rmdir()
    acquisition = open_acquisition(tmp_path)
    assert list(acquisition.slices) == [1, 3]
    missing = {p.kind: p for p in acquisition.problems}
    assert missing["missing_slice"].slice_id == 2
    tile = missing["missing_tile"]
    assert (tile.slice_id, tile.row, tile.col) == (3, 0, 1)
    assert [(t.row, t.col) for t in acquisition.slices[3].tiles] == [(0, 0), (1, 0), (1, 1)]


def test_a_mistyped_index_does_not_list_a_billion_missing_tiles(tmp_path):
    write_slice(tmp_path, 0)
    write_tile(tmp_path / "tile_x999999999_y999999999_z1", samples(0))
    write_tile(tmp_path / "tile_x0_y0_z1", samples(0))
    write_tile(tmp_path / "tile_x0_y0_z900000000", samples(0))
    acquisition = open_acquisition(tmp_path)
    assert kinds(acquisition) == ["implausible_grid", "missing_slice"]


def test_the_first_of_two_equal_indices_counts_and_the_other_is_named(tmp_path):
    write_tile(tmp_path / "a" / "tile_x0_y0_z0", samples(1))
    write_tile(tmp_path / "b" / "tile_x00_y00_z00", samples(2))
    acquisition = open_acquisition(tmp_path)
    assert acquisition.slices[0].tiles[0].folder == tmp_path / "a" / "tile_x0_y0_z0"
    (problem,) = acquisition.problems
    assert (problem.kind, problem.file) == ("duplicate", "b/tile_x00_y00_z00")


@pytest.mark.parametrize(
    ("keys", "kind", "words"),
    [
        ({"nx": 10**12}, "truncated", "bytes"),
        ({"n_repeat": 10**12}, "truncated", "bytes"),
        ({"bottom_z": 10**12}, "truncated", "bytes"),
        ({"nx": 10**30}, "malformed_info", "nx"),
        ({"nx": "many"}, "malformed_info", "nx"),
        ({"nx": "nan"}, "malformed_info", "nx"),
        ({"ny": 2.5}, "malformed_info", "ny"),
        ({"ny": None}, "malformed_info", "ny"),
        ({"width": "inf"}, "malformed_info", "width"),
        ({"height": -1}, "malformed_info", "height"),
        ({"bottom_z": 3}, "malformed_info", "bottom_z"),
        ({"n_extra": -1}, "malformed_info", "n_extra"),
        ({"stage_x_pos_mm": "left"}, "malformed_info", "stage_x_pos_mm"),
        ({"ny": 2}, "wrong_size", "bytes"),
        ({"ny": 4}, "truncated", "bytes"),
    ],
)
def test_a_wrong_header_names_tile_file_expected_and_found(tmp_path, keys, kind, words):
    write_tile(tmp_path / "tile_x0_y0_z0", samples(0))
    write_tile(tmp_path / "tile_x1_y0_z0", samples(0), **keys)
    acquisition = open_acquisition(tmp_path)
    (problem,) = acquisition.problems
    assert problem.kind == kind
    assert (problem.slice_id, problem.row, problem.col) == (0, 0, 1)
    assert problem.file.startswith("tile_x1_y0_z0")
    assert words in problem.expected
    assert problem.found
    assert [t.col for t in acquisition.slices[0].tiles] == [0]


@pytest.mark.parametrize("size", [0, 1, 100, 120 * 2 + 1])
def test_a_truncated_file_is_named_with_its_sizes(tmp_path, size):
    write_tile(tmp_path / "tile_x0_y0_z0", samples(0))
    bad = write_tile(tmp_path / "tile_x0_y1_z0", samples(0), n_files=2)
    os.truncate(bad / "image_00001.bin", size)
    (problem,) = open_acquisition(tmp_path).problems
    assert problem.kind == "truncated"
    assert problem.file == "tile_x0_y1_z0/image_00001.bin"
    assert problem.found == f"{size} bytes"
    assert "120" in problem.expected


def test_a_tile_of_another_shape_is_left_out(tmp_path):
    write_slice(tmp_path, 0)
    write_tile(tmp_path / "tile_x02_y00_z00", samples(0, nx=5), nx=5)
    write_tile(tmp_path / "tile_x02_y01_z00", samples(0))
    acquisition = open_acquisition(tmp_path)
    assert kinds(acquisition) == ["inconsistent"]
    assert len(acquisition.slices[0].tiles) == 5


def test_a_slice_without_a_usable_tile_keeps_its_place(tmp_path):
    write_slice(tmp_path, 0)
    (tmp_path / "tile_x0_y0_z1").mkdir()
    write_slice(tmp_path, 2)
    acquisition = open_acquisition(tmp_path)
    assert list(acquisition.slices) == [0, 1, 2]
    assert acquisition.slices[1].tiles == ()
    assert [p.kind for p in acquisition.slices[1].problems] == ["missing_info", "no_usable_tile"]


def test_links_that_leave_loop_or_point_nowhere_are_refused(tmp_path):
    inside, outside = tmp_path / "in", tmp_path / "out"
    write_slice(inside, 0)
    secret = write_tile(outside / "tile_x0_y0_z9", samples(0))
    (inside / "elsewhere").symlink_to(outside)
    (inside / "loop").symlink_to(inside)
    (inside / "tile_x0_y0_z1").symlink_to(secret)
    (inside / "nowhere").symlink_to("nowhere")
    stolen = write_tile(inside / "tile_x00_y02_z00", samples(0))
    (stolen / "image_00000.bin").unlink()
    (stolen / "image_00000.bin").symlink_to(secret / "image_00000.bin")
    acquisition = open_acquisition(inside)
    assert list(acquisition.slices) == [0]
    refused = {p.file for p in acquisition.problems if p.kind == "symlink"}
    assert refused == {
        "elsewhere",
        "loop",
        "nowhere",
        "tile_x0_y0_z1",
        "tile_x00_y02_z00/image_00000.bin",
    }


def test_an_input_reached_through_a_link_is_fine(tmp_path):
    write_slice(tmp_path / "data", 0)
    (tmp_path / "link").symlink_to(tmp_path / "data")
    assert open_acquisition(tmp_path / "link").root == tmp_path / "data"


def test_a_pipe_in_the_place_of_a_file_does_not_hang(tmp_path):
    write_slice(tmp_path, 0)
    tile = write_tile(tmp_path / "tile_x02_y00_z00", samples(0))
    (tile / "info.txt").unlink()
    os.mkfifo(tile / "info.txt")
    assert "unreadable" in kinds(open_acquisition(tmp_path))


def test_nothing_usable_is_an_error_that_says_what_was_expected(tmp_path):
    with pytest.raises(InputError, match=r"tile_x<int>_y<int>_z<int>"):
        open_acquisition(tmp_path)
    with pytest.raises(InputError, match="cannot be opened"):
        open_acquisition(tmp_path / "absent")
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="not a folder"):
        open_acquisition(tmp_path / "file")
    (tmp_path / "tile_x0_y0_z0").mkdir()
    with pytest.raises(InputError, match=r"no info\.txt"):
        open_acquisition(tmp_path)


def test_other_entries_are_ignored_and_listed(tmp_path):
    write_slice(tmp_path, 0)
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "tile_x1_y1_zz").mkdir()
    (tmp_path / "tile_x1_y1_zz" / "f").write_text("x")
    acquisition = open_acquisition(tmp_path)
    assert [str(p) for p in acquisition.ignored] == ["notes.txt", "tile_x1_y1_zz/f"]


@pytest.mark.parametrize(
    "name", ["a b", "-dash", "new\nline", "quote'\"", "æøå", "n" * 255, "\udcff"]
)
def test_any_folder_name_is_handled_and_shown_printable(tmp_path, name):
    write_tile(tmp_path / name / "tile_x0_y0_z0", samples(0), nx="x")
    write_tile(tmp_path / name / "tile_x1_y0_z0", samples(0))
    acquisition = open_acquisition(tmp_path)
    (problem,) = acquisition.problems
    assert problem.file.isprintable()
    problem.file.encode()
    assert len(fingerprint_slice(acquisition.slices[0])) == 2


def test_session_metadata_is_read_and_wrong_values_are_named(tmp_path):
    write_tile(tmp_path / "slice_z00" / "tiles" / "tile_x0_y0_z0", samples(0))
    (tmp_path / "state.json").write_text(json.dumps({"overlap_fraction": 0.2, "who": "x"}))
    (tmp_path / "slice_z00" / "metadata.json").write_text(
        json.dumps({"slice_thickness": 0.2, "overlap_fraction": 7, "tile_size_um": [2000, 2000]})
    )
    acquisition = open_acquisition(tmp_path)
    assert acquisition.session["overlap_fraction"] == 0.2
    assert acquisition.session["slice_thickness_mm"] == 0.2
    assert acquisition.session["tile_size_um"] == [2000, 2000]
    assert acquisition.session["state"]["who"] == "x"
    assert acquisition.session["slices"][0]["slice_thickness"] == 0.2
    (problem,) = acquisition.problems
    assert problem.file == "slice_z00/metadata.json"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[1]",
        b"{",
        b"[" * 100_000,
        b'{"overlap_fraction": 1e999}',
        b"\xff\xfe{}",
        b'{"z_min": 1' + b"0" * 5000 + b"}",
        b'{"z_min": 1' + b"0" * 400 + b"}",
    ],
)
def test_malformed_session_metadata_is_a_problem(tmp_path, content):
    write_slice(tmp_path, 0)
    (tmp_path / "state.json").write_bytes(content)
    assert kinds(open_acquisition(tmp_path)) == ["unreadable"]


def test_mosaic_grids_are_an_input(tmp_path):
    for slice_id in (0, 2):
        path = tmp_path / f"mosaic_grid_3d_z{slice_id:02d}.ome.zarr"
        with MosaicGridWriter(path, 1, 1, (4, 4, 4), Voxel(10, 25, 25)) as writer:
            writer.write_tile(0, 0, np.ones((4, 4, 4), np.float32))
    (tmp_path / "shifts_xy.csv").write_text("")
    acquisition = open_acquisition(tmp_path)
    assert acquisition.kind == "grid"
    assert acquisition.slices[2].grid == tmp_path / "mosaic_grid_3d_z02.ome.zarr"
    assert kinds(acquisition) == ["missing_slice"]
    assert list(acquisition.tables) == ["shifts_xy.csv"]


def test_a_fingerprint_changes_with_a_file_and_not_with_a_reading(tmp_path):
    write_slice(tmp_path, 0)
    record = open_acquisition(tmp_path).slices[0]
    before = fingerprint_slice(record)
    assert before == fingerprint_slice(open_acquisition(tmp_path).slices[0])
    assert json.loads(json.dumps(before)) == before
    file = record.tiles[1].files[0]
    os.utime(file, ns=(1, 1))
    after = fingerprint_slice(record)
    assert {k for k in before if before[k] != after[k]} == {str(file.relative_to(tmp_path))}


def test_unknown_keys_are_kept_and_the_axial_key_may_have_any_of_its_names():
    text = (
        "title\n"
        + "".join(f"{k}: {v}\n" for k, v in KEYS.items())
        + "Colour: red\nz_resolution: 3.5\n"
    )
    parsed = parse_info(text.encode(), Path("info.txt"))
    assert parsed.unknown_keys == ("colour",)
    assert parsed.info.axial_resolution_um == 3.5
    assert parsed.stage_mm == (None, None, None)


@FUZZ
@given(st.binary(max_size=400))
def test_random_bytes_in_info_give_only_user_errors(data):
    try:
        parse_info(data, Path("info.txt"))
    except UserError as error:
        str(error).encode()


_VALUES = st.one_of(
    st.text(max_size=12),
    st.integers(),
    st.floats(),
    st.sampled_from(["", "1e400", "0x10", "²", "1_0"]),
)


@FUZZ
@given(st.dictionaries(st.sampled_from([*KEYS, "stage_x_pos_mm", "dz"]), _VALUES))
def test_mutated_values_in_info_give_only_user_errors(changed):
    text = "title\n" + "".join(f"{k}: {v}\n" for k, v in {**KEYS, **changed}.items())
    try:
        info = parse_info(text.encode("utf-8", "surrogatepass"), Path("info.txt")).info
    except UserError:
        return
    assert info.frame_bytes > 0
    assert info.n_frames > 0


@pytest.mark.slow
def test_thousands_of_tiles_are_scanned_in_seconds(tmp_path):
    tile = write_tile(tmp_path / "tile_x0_y0_z0", samples(0))
    names = {file.name: file for file in tile.iterdir()}
    for number in range(1, 3000):
        folder = tmp_path / f"tile_x{number % 50}_y{number // 50}_z0"
        folder.mkdir()
        for name, file in names.items():
            os.link(file, folder / name)
    # Processor time, because the wall clock measures what else the machine does.
    start = time.process_time()
    acquisition = open_acquisition(tmp_path)
    assert len(acquisition.slices[0].tiles) == 3000
    assert time.process_time() - start < 3
