"""Thorlabs `.oct` files: what is read is what was written, and what is unsafe is refused and named."""

from __future__ import annotations

import stat
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from soct.errors import InputError
from soct.formats.acquisition import fingerprint_slice, open_acquisition
from soct.formats.scan_positions import group_positions, parse_positions
from soct.formats.thorlabs import read_complex, read_header, read_magnitude
from soct.formats.thorlabs_header import MEMBERS, parse_header
from soct.simulate.thorlabs import write_oct
from tests.formats.fuzzing import FUZZ

SIZE = (5, 4, 12)
RANGE = (0.5, 0.4, 0.06)
WHOLE = (0, 750)


def field(seed: int, size: tuple[int, int, int] = SIZE) -> np.ndarray:
    parts = np.random.default_rng(seed).normal(size=(2, *size))
    return (parts[0] + 1j * parts[1]).astype(np.complex64)


def header_text(x: object = 5, y: object = 4, z: object = 12) -> bytes:
    return (
        f'<Ocity><DataFiles><DataFile SizeX="{x}" SizeY="{y}" SizeZ="{z}" RangeX="0.5" RangeY="0.4" '
        f'RangeZ="0.06">data\\Complex.data</DataFile></DataFiles></Ocity>'
    ).encode()


def archive(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as made:
        for name, data in members.items():
            made.writestr(name, data)
    return path


def write_slice(
    folder: Path, cols: int = 3, rows: int = 2, angles: int = 1, step: float = 0.4
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["something else 1 2", "[Positions]"]
    for number in range(rows * cols):
        row, col = divmod(number, cols)
        lines.append(f"{1 + col * step:.4f}\t{7 + row * step:.4f}")
        for angle in range(angles):
            index = number * angles + angle
            write_oct(folder / f"tile_{index + 1}.oct", [field(index), field(100 + index)], RANGE)
    (folder / "places.scan").write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("compress", [False, True])
def test_samples_come_back_turned_to_z_y_x(tmp_path, compress):
    first, second = field(1), field(2)
    file = write_oct(tmp_path / "a.oct", [first, second], RANGE, compress=compress)
    turned = first.transpose(2, 1, 0)
    np.testing.assert_array_equal(read_complex(file, crop=WHOLE), turned)
    np.testing.assert_allclose(read_magnitude(file, crop=(3, 9)), np.abs(turned[3:9]), rtol=1e-6)
    other = read_magnitude(file, polarisation=1, crop=WHOLE)
    np.testing.assert_allclose(other, np.abs(second).transpose(2, 1, 0), rtol=1e-6)
    both = read_magnitude(file, polarisation="both", crop=WHOLE)
    power = np.abs(first) ** 2 + np.abs(second) ** 2
    np.testing.assert_allclose(both, np.sqrt(power).transpose(2, 1, 0), rtol=1e-5)


def test_blocks_of_columns_give_what_one_block_gives(tmp_path, monkeypatch):
    file = write_oct(tmp_path / "a.oct", [field(1)], RANGE)
    whole = read_magnitude(file, crop=WHOLE)
    monkeypatch.setattr("soct.formats.thorlabs._BLOCK_BYTES", 2 * 8 * 4 * 12)
    np.testing.assert_array_equal(read_magnitude(file, crop=WHOLE), whole)


def test_a_scans_stored_for_averaging_are_averaged(tmp_path):
    full = field(3, (10, 4, 12))
    members = {
        "Header.xml": header_text().replace(
            b"<Ocity>", b"<Ocity><IntensityAveraging><AScans>2</AScans></IntensityAveraging>"
        ),
        "data\\Complex.data": full.tobytes(),
    }
    file = archive(tmp_path / "a.oct", members)
    expected = full.reshape(5, 2, 4, 12).mean(axis=1).transpose(2, 1, 0)
    np.testing.assert_allclose(read_complex(file, crop=WHOLE), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../Complex.data", "leaves"),
        ("/etc/evil", "leaves"),
        ("data\\..\\..\\evil", "leaves"),
        ("C:/evil", "leaves"),
    ],
)
def test_names_that_leave_the_archive_are_refused(tmp_path, name, message):
    members = {"Header.xml": header_text(), MEMBERS[0]: field(1).tobytes(), name: b"x"}
    with pytest.raises(InputError, match=message):
        read_header(archive(tmp_path / "a.oct", members))
    assert [p.name for p in tmp_path.iterdir()] == ["a.oct"]


def test_a_symlink_member_is_refused(tmp_path):
    link = zipfile.ZipInfo("data/Complex.data")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.oct", "w") as made:
        made.writestr("Header.xml", header_text())
        made.writestr(link, "/etc/passwd")
    with pytest.raises(InputError, match="symbolic link"):
        read_header(tmp_path / "a.oct")


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path):
    members = {"Header.xml": header_text(2000, 2000, 30), MEMBERS[0]: bytes(80_000_000)}
    file = archive(tmp_path / "a.oct", members, zipfile.ZIP_DEFLATED)
    assert file.stat().st_size < 100_000
    with pytest.raises(InputError, match="bomb"):
        read_magnitude(file, crop=WHOLE)


def test_a_header_that_grows_when_unpacked_is_refused(tmp_path):
    members = {"Header.xml": b" " * (5 << 20), MEMBERS[0]: b""}
    with pytest.raises(InputError, match="more than"):
        read_header(archive(tmp_path / "a.oct", members, zipfile.ZIP_DEFLATED))


@pytest.mark.parametrize("size", [10**12, 10**7, 0, -3, "nan", ""])
def test_implausible_sizes_are_refused_and_never_allocated(tmp_path, size):
    members = {"Header.xml": header_text(z=size), MEMBERS[0]: field(1).tobytes()}
    with pytest.raises(InputError):
        read_magnitude(archive(tmp_path / "a.oct", members), crop=WHOLE)


def test_entities_are_refused(tmp_path):
    bomb = b'<!DOCTYPE a [<!ENTITY x "xxxxxxxx"><!ENTITY y "&x;&x;">]><Ocity>&y;</Ocity>'
    for data in (
        bomb,
        ('<?xml version="1.0" encoding="utf-16"?>' + bomb.decode()).encode("utf-16"),
    ):
        with pytest.raises(InputError, match="does not describe"):
            parse_header(data, Path("a.oct"))


def test_truncated_samples_are_named_with_both_sizes(tmp_path):
    members = {"Header.xml": header_text(), MEMBERS[0]: field(1).tobytes()[:-8]}
    with pytest.raises(InputError) as caught:
        read_header(archive(tmp_path / "a.oct", members))
    assert MEMBERS[0] in (caught.value.file or "")
    assert "1920" in (caught.value.expected or "")
    assert "1912" in (caught.value.found or "")


def test_a_flipped_bit_in_the_samples_is_an_error(tmp_path):
    file = write_oct(tmp_path / "a.oct", [field(1)], RANGE)
    data = bytearray(file.read_bytes())
    at = data.find(field(1).tobytes()[:64])
    data[at + 5] ^= 16
    file.write_bytes(data)
    with pytest.raises(InputError, match="damaged"):
        read_magnitude(file, crop=WHOLE)


def test_a_central_directory_that_lies_about_a_size_is_found(tmp_path):
    file = write_oct(tmp_path / "a.oct", [field(1)], RANGE)
    data = bytearray(file.read_bytes())
    at = data.rfind(b"PK\x01\x02")
    data[at + 24 : at + 28] = struct.pack("<I", 10**9)
    file.write_bytes(data)
    with pytest.raises(InputError):
        read_magnitude(file, crop=WHOLE)


@FUZZ
@given(data=st.binary(max_size=400))
def test_random_bytes_are_an_input_error(tmp_path, data):
    file = tmp_path / "a.oct"
    file.write_bytes(data)
    with pytest.raises(InputError) as caught:
        read_header(file)
    assert "a.oct" in (caught.value.file or "")


@FUZZ
@given(at=st.integers(0, 10_000), value=st.integers(0, 255), cut=st.integers(0, 200))
def test_a_damaged_file_is_an_input_error_or_reads_whole(tmp_path, at, value, cut):
    file = write_oct(tmp_path / "a.oct", [field(1)], RANGE, compress=True)
    data = bytearray(file.read_bytes())
    data[at % len(data)] = value
    file.write_bytes(data[: len(data) - (cut if cut < 100 else 0)])
    try:
        read = read_magnitude(file, crop=WHOLE)
    except InputError:
        return
    assert read.nbytes <= 4 * 5 * 4 * 12


@FUZZ
@given(data=st.one_of(st.binary(max_size=300), st.text(max_size=200).map(str.encode)))
def test_any_bytes_for_a_header_or_scan_are_an_input_error_or_positions(data):
    with pytest.raises(InputError):
        parse_header(data, Path("a.oct"))
    try:
        parse_positions(b"Positions\n" + data, Path("a.scan"))
    except InputError:
        return


def test_positions_become_the_grid_and_the_stage(tmp_path):
    write_slice(tmp_path / "slice_z07")
    acquisition = open_acquisition(tmp_path)
    assert acquisition.problems == ()
    (record,) = acquisition.slices.values()
    assert record.slice_id == 7
    assert [(t.row, t.col) for t in record.tiles] == [(r, c) for r in range(2) for c in range(3)]
    last = record.tiles[-1]
    assert last.stage_mm == (1.8, 7.4, None)
    assert last.info.pixel_um == (100.0, 100.0)
    assert last.info.axial_resolution_um == pytest.approx(5.0)
    assert last.info.shape == (12, 4, 5)
    assert list(fingerprint_slice(record)) == [f"slice_z07/tile_{i}.oct" for i in range(1, 7)]


def test_angles_are_interleaved_in_the_order_of_the_numbers(tmp_path):
    write_slice(tmp_path / "z01", cols=3, rows=4, angles=2)
    (record,) = open_acquisition(tmp_path).slices.values()
    assert len(record.tiles) == 12
    names = [[f.name for f in tile.files] for tile in record.tiles]
    assert names == [[f"tile_{2 * k + 1}.oct", f"tile_{2 * k + 2}.oct"] for k in range(12)]
    assert record.tiles[0].angles == (0, 1)


def test_a_missing_file_shifts_no_other(tmp_path):
    write_slice(tmp_path / "z01", angles=2)
    (tmp_path / "z01" / "tile_5.oct").unlink()
    (tmp_path / "z01" / "tile_9.oct").unlink()
    (tmp_path / "z01" / "tile_10.oct").unlink()
    (record,) = open_acquisition(tmp_path).slices.values()
    assert [(t.row, t.col, t.angles) for t in record.tiles] == [
        (0, 0, (0, 1)),
        (0, 1, (0, 1)),
        (0, 2, (1,)),
        (1, 0, (0, 1)),
        (1, 2, (0, 1)),
    ]
    missing = [(p.kind, p.row, p.col) for p in record.problems]
    assert missing == [("missing_tile", None, None)] + 2 * [("missing_tile", 1, 1)]


def test_a_damaged_file_is_named_and_the_others_go_on(tmp_path):
    write_slice(tmp_path / "z01")
    file = tmp_path / "z01" / "tile_2.oct"
    file.write_bytes(file.read_bytes()[:-300])
    (record,) = open_acquisition(tmp_path).slices.values()
    assert len(record.tiles) == 5
    (problem,) = record.problems
    assert (problem.kind, problem.file) == ("malformed_oct", "z01/tile_2.oct")


def test_slices_are_told_by_folders_or_by_names(tmp_path):
    write_slice(tmp_path / "a" / "z03", cols=1, rows=1)
    write_slice(tmp_path / "a" / "slice_4" / "deep", cols=1, rows=1)
    write_slice(tmp_path / "b", cols=1, rows=1)
    (tmp_path / "b" / "tile_1.oct").rename(tmp_path / "b" / "mouse_z12_0001.oct")
    assert list(open_acquisition(tmp_path).slices) == [3, 4, 12]


def test_a_folder_without_positions_says_what_is_missing(tmp_path):
    write_slice(tmp_path / "z01")
    (tmp_path / "z01" / "places.scan").unlink()
    with pytest.raises(InputError, match=r"\.scan"):
        open_acquisition(tmp_path)


def test_files_that_fit_no_number_of_angles_are_a_problem(tmp_path):
    write_slice(tmp_path / "z01")
    (tmp_path / "z01" / "tile_2.oct").rename(tmp_path / "z01" / "odd.oct")
    (tmp_path / "z01" / "tile_3.oct").unlink()
    with pytest.raises(InputError, match="do not fit"):
        open_acquisition(tmp_path)


def test_a_link_out_of_the_input_is_not_followed(tmp_path):
    inside = tmp_path / "in"
    write_slice(inside / "z01")
    outside = tmp_path / "secret.oct"
    (inside / "z01" / "tile_2.oct").rename(outside)
    (inside / "z01" / "tile_2.oct").symlink_to(outside)
    acquisition = open_acquisition(inside)
    assert "symlink" in {p.kind for p in acquisition.problems}
    assert len(acquisition.slices[1].tiles) == 5


def test_positions_that_jitter_stay_in_their_row():
    values = (0.0, 0.41, 0.8, 0.005, 0.395, 0.803)
    assert group_positions(values, 0.1) == (0, 1, 2, 0, 1, 2)


@pytest.mark.parametrize("text", ["", "no marker\n1 2", "Positions\n", "Positions\n1 2\n3 x\n"])
def test_a_scan_without_positions_is_refused(text):
    with pytest.raises(InputError, match=r"\.scan"):
        parse_positions(text.encode(), Path("a.scan"))


def test_the_list_of_positions_ends_where_another_section_begins():
    data = b"[Area]\n9 9\n[Scan positions]\n\n1.5, -2\n3;4;0.1\n[End]\n7 7\n"
    assert parse_positions(data, Path("a.scan")) == ((1.5, -2.0), (3.0, 4.0))
