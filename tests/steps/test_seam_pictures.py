"""Seams of a large slice are kept with every pixel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage as ndi

from soct.steps.seam_pictures import SEAM_PX, choose_pairs, draw_seams

TILE, STEP, OFF = 400, 340, 6


@dataclass
class Loader:
    """Tiles cut out of one picture; three planes, of which all hold data."""

    tiles: list[Any]
    whole_planes: tuple[int, int] = (0, 3)

    def __call__(self, i: int) -> Any:
        return np.repeat(self.tiles[i][None], 3, axis=0)


@dataclass
class Placed:
    """What `draw_seams` reads of a placement."""

    pairs: Any
    positions_px: Any
    pair_residual_px: Any
    pair_accepted: Any


def scene() -> tuple[Loader, Placed, Any, Any]:
    """Two tiles side by side; the stage is wrong by OFF columns, and only low in the overlap there is texture."""
    rng = np.random.default_rng(0)
    picture = ndi.gaussian_filter(rng.normal(size=(TILE, TILE + STEP)), 2).astype(np.float32)
    picture[:200] *= 0.01
    picture += 1
    tiles = [picture[:, :TILE], picture[:, STEP:]]
    truth = np.array([[0.0, 0.0], [0.0, STEP]])
    placed = Placed(np.array([[0, 1]]), truth, np.zeros(1), np.ones(1, bool))
    return Loader(tiles), placed, truth + np.array([[0, 0], [0, OFF]]), picture


def test_a_seam_is_the_slice_itself_where_the_overlap_shows_most() -> None:
    load, placed, nominal, picture = scene()
    found = draw_seams(load, None, placed, nominal, 0)  # type: ignore[arg-type]
    assert found["seam_pairs"].tolist() == [[0, 1]]
    after = found["seam_after"][0]
    assert after.shape == (SEAM_PX, SEAM_PX)
    left = (STEP + TILE) // 2 - SEAM_PX // 2
    tops = [t for t in range(TILE - 100) if np.allclose(picture[t : t + 100, left : left + SEAM_PX], after[:100], atol=1e-5)]  # fmt: skip
    assert len(tops) == 1
    assert tops[0] >= 120


def test_the_first_tile_stays_and_the_second_moves_by_the_error_of_the_stage() -> None:
    load, placed, nominal, _ = scene()
    found = draw_seams(load, None, placed, nominal, 0)  # type: ignore[arg-type]
    before, after = found["seam_before"][0], found["seam_after"][0]
    known = np.isfinite(before[:100]) & np.isfinite(after[:100])
    half = (TILE - STEP) // 2
    first = slice(0, SEAM_PX // 2 - half - 2)
    np.testing.assert_allclose(before[:100, first], after[:100, first], atol=1e-5)
    second = slice(SEAM_PX // 2 + half + OFF + 2, SEAM_PX)
    moved = np.roll(after, OFF, axis=1)
    np.testing.assert_allclose(before[:100, second], moved[:100, second], atol=1e-5)
    assert known.mean() > 0.95


def test_the_worst_a_median_and_an_arbitrary_trusted_pair_are_kept() -> None:
    residual = np.arange(20.0)
    accepted = np.ones(20, bool)
    accepted[19], residual[3] = False, np.nan
    chosen = choose_pairs(residual, accepted, 5)
    assert chosen[:2] == [18, 17]
    assert chosen[2] in (9, 8)
    assert len(set(chosen)) == 4
    assert not {19, 3} & set(chosen)
    assert choose_pairs(residual[:0], accepted[:0], 1) == []
    assert choose_pairs(residual[:1], accepted[:1], 1) == [0]
