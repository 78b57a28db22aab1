"""Pairs of slices as pictures: checkerboards of the worst ones, and loops of three slices that should close."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from soct.report.charts import Band, Series, chart
from soct.report.examples import choose_examples
from soct.report.images import robust_window
from soct.report.markup import figure, flicker, join, note, number, picture, table
from soct.report.overlays import scale_overlay, square_overlay
from soct.report.reportlet import Page
from soct.report.slice_pictures import POSES, STITCH, Placement, checkerboard, square_size

_SIDE = 440
_LOOPS_LISTED = 8


def draw_checkerboards(page: Page) -> Markup:
    """Draw the three worst neighbours by NCC, the median and a random pair in alternating squares."""
    pairs, ncc = page.figures.arrays(POSES, "run", "pairs", "pair_ncc")
    drawn_slices = set(page.figures.units(STITCH))
    values = {
        (f, m): float(value)
        for (f, m), value in zip(pairs.astype(int).tolist(), ncc.tolist(), strict=True)
        if {f"z{f:02d}", f"z{m:02d}"} <= drawn_slices
    }
    near = {pair: v for pair, v in values.items() if _follow(pair, pairs)}
    named = {f"{f:05d} {m:05d}": (f, m) for f, m in near}
    chosen = choose_examples(
        [(name, near[pair]) for name, pair in named.items()],
        seed=page.view.subject,
        higher_is_better=True,
    )
    if not chosen:
        return note("No checkerboards: no pair of neighbours has a projection of both slices.")
    boards = join(
        page.guarded(
            f"Checkerboard of {named[e.unit]}",
            lambda e=e: _board(page, named[e.unit], e.why, e.value),  # type: ignore[misc]
        )
        for e in chosen
    )
    return Markup(
        "<h3>Pairs in alternating squares, by NCC</h3><p>One slice in every other square, its neighbour in the rest; "
        "both are projections along depth, so fine texture may differ where edges run on.</p>"
        '<div class="row">{}</div>'
    ).format(boards)


def _follow(pair: tuple[int, int], pairs: NDArray[np.int64]) -> bool:
    """Whether no slice of the pairs lies between the two."""
    known = np.unique(pairs)
    return int(((known > pair[0]) & (known < pair[1])).sum()) == 0


def _board(page: Page, pair: tuple[int, int], why: str, ncc: float | None) -> Markup:
    drawn, boards = [], []
    ways: tuple[Placement, ...] = ("stage", "poses")
    for placed_by in ways:
        board, pixel = checkerboard(page.figures, pair, placed_by)
        boards.append(board)
    window = robust_window(*boards)
    for board, label in zip(boards, ("stage positions only", "final"), strict=True):
        encoded = page.images.encode(board, window=window, max_side=_SIDE)
        lines = square_overlay(encoded, board.shape, square_size(board.shape))
        overlay = scale_overlay(encoded, board.shape[1] * pixel, lines, shown=_SIDE)
        alt = f"Slices {pair[0]} and {pair[1]} in alternating squares, {label}"
        drawn.append(picture(encoded, alt, overlay=overlay, width=_SIDE))
    key = f"board-{pair[0]}-{pair[1]}"
    title = f"{why.capitalize()}: {pair[0]} → {pair[1]}, NCC {number(ncc)}"
    return figure(flicker(key, drawn[0], drawn[1], labels=("stage only", "final"), title=title))


@dataclass(frozen=True)
class Loop:
    """Three slices whose pairs were all measured: the long pair against the two short ones."""

    slices: tuple[int, int, int]
    shift_um: float
    """Distance by which the shifts of n → n+1 → n+2 miss that of n → n+2."""
    rotation_deg: float


def close_loops(
    pairs: NDArray[np.int64], shift_um: NDArray[np.float64], rotation_deg: NDArray[np.float64]
) -> list[Loop]:
    """Return every loop of three slices.

    Parameters
    ----------
    pairs : int ndarray (m, 2)
    shift_um : ndarray (m, 2)
        Measured ``(y, x)`` shift beyond the stage's. The stage's own steps close every loop, so they drop out.
    rotation_deg : ndarray (m,)
    """
    measured = {
        (int(f), int(m)): (shift_um[k], float(rotation_deg[k]))
        for k, (f, m) in enumerate(pairs.tolist())
        if np.isfinite(shift_um[k]).all() and np.isfinite(rotation_deg[k])
    }
    loops = []
    for (first, last), (direct, turn) in sorted(measured.items()):
        for middle in range(first + 1, last):
            if (first, middle) not in measured or (middle, last) not in measured:
                continue
            one, one_turn = measured[first, middle]
            two, two_turn = measured[middle, last]
            gap = np.asarray(direct) - one - two
            loops.append(
                Loop((first, middle, last), float(np.hypot(*gap)), turn - one_turn - two_turn)
            )
    return loops


def draw_loops(page: Page) -> Markup:
    """Draw by how much the shift from n to n+2 differs from the two steps between."""
    pairs, shift, turn, confidence = page.figures.arrays(
        POSES, "run", "pairs", "pair_shift_um", "pair_rotation_deg", "pair_confidence"
    )
    sure = np.ravel(confidence) > 0
    loops = close_loops(pairs[sure].reshape(-1, 2), shift[sure].reshape(-1, 2), turn[sure])
    if not loops:
        return note("Loop closure: not measured; no pair skips a slice whose neighbours were measured too.")  # fmt: skip
    limit = page.view.limits.slice_residual_p95_um.warning
    middle = [loop.slices[1] for loop in loops]
    drawn = chart(
        [Series("loop", middle, [loop.shift_um for loop in loops], 0, "points")],
        title="By how much n → n+1 → n+2 misses n → n+2",
        x_label="slice in the middle",
        y_label="gap (µm)",
        limits=(Band(limit, "limit of residuals"),),
        include_zero=True,
        height=170,
    )
    caption = (
        "Loops of three slices: the shift measured from n to n+2, against the two steps between, all three "
        "measured apart. A gap says that one of the three pairs is wrong, whatever their NCC."
    )
    return Markup("<h3>Do the pairs agree with each other?</h3>{}{}").format(
        figure(drawn, caption), _worst(loops)
    )


def _worst(loops: Sequence[Loop]) -> Markup:
    ranked = sorted(loops, key=lambda loop: (-loop.shift_um, loop.slices))[:_LOOPS_LISTED]
    return table(
        ("Slices", "gap (µm)", "gap (°)"),
        [
            (
                " → ".join(map(str, loop.slices)),
                number(loop.shift_um),
                number(loop.rotation_deg),
            )
            for loop in ranked
        ],
        caption=f"The {len(ranked)} loops that close worst, of {len(loops)}",
        numeric=(1, 2),
    )
