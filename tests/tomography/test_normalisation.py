"""Counts become line integrals; what had to be replaced is counted."""

from __future__ import annotations

import numpy as np
import pytest

from soct.tomography.normalisation import (
    finite_values,
    line_integrals,
    looks_like_counts,
    make_fields,
)

SHAPE = (5, 4, 40)


@pytest.fixture
def truth():
    return np.random.default_rng(0).uniform(0, 2, SHAPE).astype(np.float32)


@pytest.fixture
def frames():
    rng = np.random.default_rng(1)
    flat = rng.uniform(8000, 12000, (1, *SHAPE[1:])).astype(np.float32)
    dark = rng.uniform(90, 110, (1, *SHAPE[1:])).astype(np.float32)
    return np.repeat(flat, 5, 0), np.repeat(dark, 5, 0)


def test_counts_with_flats_and_darks_become_the_line_integrals_that_made_them(truth, frames):
    flats, darks = frames
    flats[2] = 60000
    counts = darks[0] + (flats[0] - darks[0]) * np.exp(-truth)
    found = line_integrals(counts, make_fields(flats, darks))
    assert found.values.dtype == np.float32
    assert np.abs(found.values - truth).max() < 1e-4
    for counted in (found.not_positive, found.not_finite, found.lost):
        assert not counted.any()


def test_dead_pixels_and_impossible_values_are_counted_and_take_their_neighbours_value(frames):
    flats, darks = frames
    truth = np.tile(np.linspace(0, 2, SHAPE[2], dtype=np.float32), (*SHAPE[:2], 1))
    counts = darks[0] + (flats[0] - darks[0]) * np.exp(-truth)
    flats[:, 1, 7] = darks[:, 1, 7]
    counts[2, 0, 20] = darks[0, 0, 20] - 5
    counts[3, 3, 30] = np.nan
    fields = make_fields(flats, darks)
    found = line_integrals(counts, fields)
    assert np.abs(found.values - truth).max() < 1e-4
    assert np.argwhere(fields.dead).tolist() == [[1, 7]]
    assert np.argwhere(found.not_positive).tolist() == [[2, 0]]
    assert np.argwhere(found.not_finite).tolist() == [[3, 3]]
    part = line_integrals(counts[:, 1:3], fields.of_rows(slice(1, 3)))
    assert np.array_equal(part.values, found.values[:, 1:3])


def test_transmissions_need_no_fields(truth):
    assert np.abs(line_integrals(np.exp(-truth), None).values - truth).max() < 1e-5


def test_a_line_without_any_good_value_is_named(truth):
    truth[3, 2] = np.nan
    assert np.argwhere(finite_values(truth).lost).tolist() == [[3, 2]]


def test_counts_are_told_from_line_integrals_by_their_background():
    object_ = np.zeros(SHAPE, np.float32)
    object_[..., 10:30] = 1
    assert looks_like_counts(1000 * np.exp(-object_))
    assert not looks_like_counts(object_)
    assert not looks_like_counts(object_ + 0.1)
