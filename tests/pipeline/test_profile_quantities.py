from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soct.pipeline.profiles.quantities import (
    format_duration,
    format_size,
    parse_duration,
    parse_size,
    parse_slices,
    parse_unit,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("2h", 7200), ("90m", 5400), ("1h30m", 5400), ("1.5h", 5400), ("45s", 45), ("1d", 86400),
     ("23:59:59", 86399), ("10min", 600)],
)  # fmt: skip
def test_durations_are_read_as_people_write_them(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    ["", "2", "2 hours", "h", "-2h", "2x", "0s", "m30", "30m1h", "1h1h", "400d", "1e3s", "2h\n3m"],
)
def test_anything_else_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="not"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [("8GB", 8 * 10**9), ("8G", 8 * 10**9), ("512MiB", 512 << 20), ("1.5k", 1500), ("2000000", 2000000),
     ("1 TB", 10**12), ("4kB", 4000)],
)  # fmt: skip
def test_sizes_are_read_as_people_write_them(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "GB", "-8GB", "8X", "8iB", "0", "8 G B", "nan", "9" * 30, "1e9"]
)
def test_anything_else_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="not a size"):
        parse_size(text)


def test_slices_are_numbers_and_closed_ranges() -> None:
    assert parse_slices("1,3,5-9") == (1, 3, 5, 6, 7, 8, 9)
    assert parse_slices(" 4 , 2") == (2, 4)


@pytest.mark.parametrize(
    "text", ["", "a", "3-1", "1,1", "1-3,2", "1,,2", "-3", "1-", "0-999999", "1;2"]
)
def test_anything_else_is_no_list_of_slices(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a list|backwards|twice|more than"):
        parse_slices(text)


@given(st.sets(st.integers(0, 9999), min_size=1, max_size=50))
def test_any_set_of_slices_can_be_written(slices: set[int]) -> None:
    assert parse_slices(",".join(map(str, slices))) == tuple(sorted(slices))


def test_a_unit_is_a_slice_a_pair_or_the_run() -> None:
    assert parse_unit("run") == ()
    assert parse_unit("3") == parse_unit("z03") == (3,)
    assert parse_unit("3,4") == parse_unit("z03_z04") == (3, 4)


@pytest.mark.parametrize("text", ["", "a", "3,3", "1,2,3", "z", "-1"])
def test_anything_else_is_no_unit(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a unit|with itself"):
        parse_unit(text)


def test_durations_and_sizes_are_short() -> None:
    assert [format_duration(s) for s in (0.04, 59.9, 60, 200, 3725)] == [
        "0.0s", "59.9s", "1m00s", "3m20s", "1h02m",
    ]  # fmt: skip
    assert [format_size(b) for b in (0, 999, 1500, 99.97e6, 8e9, 3e12)] == [
        "0 B", "999 B", "1.5 kB", "100 MB", "8.0 GB", "3.0 TB",
    ]  # fmt: skip
