"""What commands say while they work."""

from __future__ import annotations

import pytest

from soct.cli.terminal import telling_progress


def test_a_long_computation_says_how_far_it_is_and_a_short_one_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    times = iter((0.0, 1.0, 5.0, 6.0, 8.0, 20.0))
    tell = telling_progress(clock=lambda: next(times))
    for fraction in (0.1, 0.25, 0.3, 0.5, 1.0):
        tell(fraction)
    assert capsys.readouterr().err.splitlines() == [
        "... 25%, about 15 s left",
        "... 50%, about 8 s left",
    ]
