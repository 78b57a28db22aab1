"""Contact sheets are as wide as asked, hold their pictures, and stay small."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from soct.report.sheets import Panel, draw_sheet, encode_sheet, paint


def test_a_sheet_of_noise_stays_below_its_limit_and_keeps_its_size():
    noise = np.random.default_rng(0).normal(size=(300, 300))
    panels = [Panel(paint(noise), f"panel {k}", "a note") for k in range(3)]
    sheet = draw_sheet(panels, columns=3)
    assert sheet.width == 800
    data = encode_sheet(sheet, 150_000)
    assert len(data) < 150_000
    assert Image.open(io.BytesIO(data)).size == sheet.size


def test_no_data_is_not_black():
    painted = paint(np.array([[0.0, 1.0, np.nan]]), window=(0, 1))
    assert painted[0, 0].tolist() == [0, 0, 0]
    assert painted[0, 1].tolist() == [255, 255, 255]
    assert painted[0, 2].min() > 200


def test_long_labels_shrink_instead_of_running_into_their_neighbour():
    panels = [Panel(paint(np.ones((4, 4))), "a very long label " * 8) for _ in range(4)]
    assert draw_sheet(panels, columns=4, width=400).width == 400
