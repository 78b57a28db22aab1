"""Arrays by name, with bytes that depend on nothing else."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from soct.formats.npz import write_npz


def test_numpy_reads_what_was_written(tmp_path):
    given = {"a": np.arange(6).reshape(2, 3), "b": np.float32(2.5), "c": [True, False], "d": [1.0]}
    write_npz(tmp_path / "x.npz", **given)
    with np.load(tmp_path / "x.npz") as read:
        assert list(read) == list(given)
        for name, array in given.items():
            np.testing.assert_array_equal(read[name], array, strict=False)
            assert read[name].dtype == np.asarray(array).dtype


def test_fortran_order_and_empty_arrays_come_back(tmp_path):
    turned = np.asfortranarray(np.arange(12.0).reshape(3, 4))
    write_npz(tmp_path / "x.npz", turned=turned, none=np.empty((0, 2)))
    with np.load(tmp_path / "x.npz") as read:
        np.testing.assert_array_equal(read["turned"], turned)
        assert read["none"].shape == (0, 2)


def test_the_bytes_are_those_of_a_plain_archive(tmp_path):
    write_npz(tmp_path / "x.npz", a=np.arange(3, dtype="<i8"))
    content = (tmp_path / "x.npz").read_bytes()
    # No header of the long form (its version would be 4.5), no date.
    assert content[:10] == b"PK\x03\x04\x14\x00\x00\x00\x00\x00"
    assert hashlib.sha256(content).hexdigest().startswith("2acc146760e6948e")


def test_objects_are_refused(tmp_path):
    with pytest.raises(ValueError, match="Object arrays"):
        write_npz(tmp_path / "x.npz", a=np.array([{}], dtype=object))
