import pytest
from hypothesis import given
from hypothesis import strategies as st

from soct.errors import InputError, UserError
from soct.formats.tables import (
    CleanShiftRow,
    ShiftRow,
    SliceConfigRow,
    StackingRow,
    StagePositionRow,
    TilePositionRow,
    ZMatchRow,
    read_table,
    write_table,
)
from tests.formats.fuzzing import FUZZ

ROW_TYPES = [
    ShiftRow,
    CleanShiftRow,
    SliceConfigRow,
    StagePositionRow,
    TilePositionRow,
    ZMatchRow,
    StackingRow,
]
SHIFTS = "fixed_id,moving_id,x_shift,y_shift,x_shift_mm,y_shift_mm\n"


@pytest.mark.parametrize("text", ["true", "1", "yes", "y", "t", "True", "YES", " t "])
def test_true_has_many_names(tmp_path, text):
    (tmp_path / "t.csv").write_text(f"slice_id,use,auto_excluded\n0,no,{text}\n")
    (row,) = read_table(tmp_path / "t.csv", SliceConfigRow)
    assert (row.use, row.auto_excluded, row.is_stacked) == (False, True, False)


@pytest.mark.parametrize("text", ["0", "0.0", "00", " 0 "])
def test_ids_may_come_as_floats(tmp_path, text):
    (tmp_path / "t.csv").write_text(f"slice_id\n{text}\n")
    assert read_table(tmp_path / "t.csv", SliceConfigRow)[0].slice_id == 0


def test_missing_columns_take_defaults_and_unknown_ones_are_kept(tmp_path):
    (tmp_path / "t.csv").write_text('operator,slice_id,notes\nA,3,"a, b"\n', encoding="utf-8-sig")
    rows = read_table(tmp_path / "t.csv", SliceConfigRow)
    assert rows == (SliceConfigRow(3, notes="a, b", extra={"operator": "A"}),)
    assert rows[0].use
    write_table(tmp_path / "u.csv", SliceConfigRow, rows)
    assert read_table(tmp_path / "u.csv", SliceConfigRow) == (
        SliceConfigRow(3, notes="a, b", extra={"operator": "A"}),
    )


@pytest.mark.parametrize(
    ("content", "line", "found"),
    [
        (SHIFTS + "0,1,a,0,0,0\n", 2, "'a'"),
        (SHIFTS + "0,1,1,0,0,0\n\n0.5,1,1,0,0,0\n", 4, "'0.5'"),
        (SHIFTS + "0,1,nan,0,0,0\n", 2, "'nan'"),
        (SHIFTS + "0,1,1e999,0,0,0\n", 2, "'1e999'"),
        (SHIFTS + "0,1,1,0,0\n", 2, "5 cells"),
        (SHIFTS + "0,1,1,0,0,\n", 2, "''"),
        ("fixed_id,x_shift\n", 1, "no moving_id"),
        ("", 1, "no fixed_id"),
        (SHIFTS.replace("y_shift,", "x_shift,"), 1, "x_shift twice"),
        (SHIFTS + '0,1,"1\n', None, "unexpected end"),
    ],
)
def test_errors_name_file_and_line(tmp_path, content, line, found):
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(InputError) as caught:
        read_table(tmp_path / "t.csv", ShiftRow)
    if line is not None:
        assert caught.value.file == f"{tmp_path / 't.csv'}:{line}"
    assert found in caught.value.found


def test_an_absent_table_and_one_that_is_not_text_are_input_errors(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        read_table(tmp_path / "t.csv", ShiftRow)
    for data in (b"\xff\xfe", b"a\0b", b"slice_id\n" + b'"' + b"x" * 200_000 + b'"\n'):
        (tmp_path / "t.csv").write_bytes(data)
        with pytest.raises(InputError):
            read_table(tmp_path / "t.csv", SliceConfigRow)


_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0\ufeff"), max_size=20)
_FLOAT = st.floats(allow_nan=False, allow_infinity=False)


@FUZZ
@given(
    st.lists(
        st.builds(
            StackingRow,
            slice_id=st.integers(0, 10**9),
            fixed_id=st.none() | st.integers(0, 10**9),
            transform_loaded=st.booleans(),
            confidence=st.none() | _FLOAT,
            applied_dy_px=_FLOAT,
            reason=_TEXT.filter(lambda t: t == "" or t.strip()),
        ),
        max_size=5,
    )
)
def test_what_is_written_is_read(tmp_path, rows):
    write_table(tmp_path / "t.csv", StackingRow, rows)
    assert read_table(tmp_path / "t.csv", StackingRow) == tuple(rows)


@FUZZ
@given(st.binary(max_size=300), st.sampled_from(ROW_TYPES))
def test_random_bytes_give_only_user_errors(tmp_path, data, row_type):
    (tmp_path / "t.csv").write_bytes(data)
    try:
        read_table(tmp_path / "t.csv", row_type)
    except UserError as error:
        str(error).encode()


@FUZZ
@given(
    st.sampled_from(ROW_TYPES),
    st.lists(
        st.lists(_TEXT | st.sampled_from(["0", "1.0", "t", '"', ","]), max_size=8), max_size=4
    ),
)
def test_random_cells_under_a_real_header_give_only_user_errors(tmp_path, row_type, cells):
    write_table(tmp_path / "t.csv", row_type, ())
    with (tmp_path / "t.csv").open("a", encoding="utf-8", newline="") as file:
        file.writelines(",".join(row) + "\n" for row in cells)
    try:
        read_table(tmp_path / "t.csv", row_type)
    except UserError as error:
        str(error).encode()
