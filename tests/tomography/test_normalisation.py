"""Counts become line integrals; what had to be replaced is counted."""

from __future__ import annotations

import numpy as np
import pytest

from soct.tomography.normalisation import (
    Repairs,
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
    repairs = Repairs()
    found = line_integrals(counts, make_fields(flats, darks), repairs)
    assert found.dtype == np.float32
    assert np.abs(found - truth).max() < 1e-4
    assert repairs.sentences() == []


def test_dead_pixels_and_impossible_values_are_counted_and_take_their_neighbours_value(frames):
    flats, darks = frames
    truth = np.tile(np.linspace(0, 2, SHAPE[2], dtype=np.float32), (*SHAPE[:2], 1))
    counts = darks[0] + (flats[0] - darks[0]) * np.exp(-truth)
    flats[:, 1, 7] = darks[:, 1, 7]
    counts[2, 0, 20] = darks[0, 0, 20] - 5
    counts[3, 3, 30] = np.nan
    repairs = Repairs()
    found = line_integrals(counts, make_fields(flats, darks), repairs)
    assert np.abs(found - truth).max() < 1e-4
    assert (repairs.dead, repairs.not_positive, repairs.not_finite) == (5, 1, 1)
    told = " ".join(repairs.sentences())
    assert "5 of 800" in told
    assert "dead" in told
    assert "zero or less" in told


def test_transmissions_need_no_fields(truth):
    assert np.abs(line_integrals(np.exp(-truth), None, Repairs()) - truth).max() < 1e-5


def test_a_line_without_any_good_value_names_its_projection(truth):
    truth[3, 2] = np.nan
    repairs = Repairs()
    finite_values(truth, repairs, first=100)
    assert repairs.lost == {103}


def test_line_integrals_taken_for_transmissions_are_too_much_to_repair(truth):
    repairs = Repairs()
    line_integrals(truth - 0.5, None, repairs)
    assert repairs.is_too_much


def test_counts_are_told_from_line_integrals_by_their_background():
    object_ = np.zeros(SHAPE, np.float32)
    object_[..., 10:30] = 1
    assert looks_like_counts(1000 * np.exp(-object_))
    assert not looks_like_counts(object_)
    assert not looks_like_counts(object_ + 0.1)
