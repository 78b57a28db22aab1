"""Promises of the galvo return's detection."""

from __future__ import annotations

import numpy as np
import pytest

from soct.errors import InputError
from soct.geometry.galvo import (
    apply_galvo_shift,
    choose_central_tiles,
    detect_dark_run,
    detect_galvo_return,
    roll_columns,
)
from soct.space import FloatArray

NX, N_EXTRA = 80, 12


def _anatomy(seed: int, rows: int = 60) -> FloatArray:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:rows, :NX]
    image = 200 + 120 * np.sin(x / rng.uniform(6, 14) + y / rng.uniform(8, 30) + rng.uniform(0, 6))
    # One bright tissue edge, somewhere else in every tile.
    image += 150 * (x + 0.2 * y > rng.uniform(20, 70))
    return (image * rng.gamma(30, 1 / 30, image.shape)).astype(np.float32)


def _frames(tile: FloatArray, position: int, contrast: float) -> FloatArray:
    """A raw frame: the kept columns cyclically around a mirrored, fast and dimmer return."""
    mirrored = tile[:, ::-1][:, np.linspace(0, NX - 1, N_EXTRA).astype(int)]
    joined = np.concatenate([tile, contrast * mirrored], axis=1)
    return np.roll(joined, position - NX, axis=1)


@pytest.mark.parametrize("position", [0, 17, 45, 79, 80, 85, 91])
@pytest.mark.parametrize("contrast", [0.35, 0.8, 1.9])
def test_the_return_is_found_wherever_it_lies_in_the_frame(position: int, contrast: float) -> None:
    tiles = [_anatomy(s) for s in range(5)]
    decision = detect_galvo_return([_frames(t, position, contrast) for t in tiles], N_EXTRA)
    assert decision.position == position
    assert decision.confidence > 0.6
    for tile in tiles:
        restored = apply_galvo_shift(_frames(tile, position, contrast), decision)
        np.testing.assert_array_equal(restored, tile)


def test_one_decision_holds_for_whole_tiles_with_depth() -> None:
    tile = _anatomy(3)
    decision = detect_galvo_return([_frames(_anatomy(s), 30, 0.4) for s in range(5)], N_EXTRA)
    volume = np.stack([_frames(tile, 30, 0.4), _frames(tile, 30, 0.4) * 0.5])
    np.testing.assert_array_equal(apply_galvo_shift(volume, decision)[1], tile * 0.5)


def test_without_return_lines_frames_stay_as_they_are() -> None:
    decision = detect_galvo_return([_anatomy(0)], 0)
    assert (decision.shift, decision.position) == (0, None)
    np.testing.assert_array_equal(apply_galvo_shift(_anatomy(0), decision), _anatomy(0))


def test_a_band_that_cannot_be_seen_is_taken_to_be_at_the_frames_end_and_says_so() -> None:
    rng = np.random.default_rng(5)
    noise = [rng.gamma(4, 1, (60, NX + N_EXTRA)).astype(np.float32) for _ in range(5)]
    decision = detect_galvo_return(noise, N_EXTRA)
    assert decision.position is None
    assert decision.shift == 0
    assert "last 12 columns" in decision.reason
    assert apply_galvo_shift(noise[0], decision).shape == (60, NX)


@pytest.mark.parametrize("fill", [0.0, 7.0, np.nan, np.inf])
def test_tiles_without_signal_decide_nothing(fill: float) -> None:
    blank = np.full((60, NX + N_EXTRA), fill, np.float32)
    decision = detect_galvo_return([blank, blank], N_EXTRA)
    assert decision.position is None
    assert decision.confidence == 0


def test_blank_tiles_do_not_outvote_tiles_that_show_the_band() -> None:
    blank = np.zeros((60, NX + N_EXTRA), np.float32)
    shown = [_frames(_anatomy(s), 33, 0.4) for s in range(2)]
    assert detect_galvo_return([blank, *shown, blank, blank], N_EXTRA).position == 33


def test_a_tile_narrower_than_its_return_is_refused() -> None:
    with pytest.raises(InputError, match="not wider"):
        detect_galvo_return([np.ones((4, 8), np.float32)], 8)


def test_the_central_tiles_are_chosen() -> None:
    index = [(r, c) for r in range(5) for c in range(5)]
    assert {index[i] for i in choose_central_tiles(index)} == {
        (2, 2),
        (1, 2),
        (2, 1),
        (2, 3),
        (3, 2),
    }


def test_a_dark_run_in_an_assembled_mosaic_is_found_and_rolled_to_the_end() -> None:
    profile = np.full(100, 10.0)
    profile[40:52] = 3
    profile[45:47] = 9  # a gap of two columns does not split it
    profile[70:74] = 5
    run = detect_dark_run(profile)
    assert run is not None
    assert (run.start, run.width) == (40, 12)
    rolled = roll_columns(profile[None], run.shift)
    assert (rolled[0, -12:] <= 9).all()
    np.testing.assert_array_equal(roll_columns(rolled, run.shift, undo=True)[0], profile)


def test_a_wide_dark_run_is_background_and_not_the_return() -> None:
    profile = np.full(100, 10.0)
    profile[30:60] = 1
    assert detect_dark_run(profile) is None
    assert detect_dark_run(np.zeros(100)) is None
