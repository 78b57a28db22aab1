"""The figures of single sections: what each shows of a run, and what it says where it can't."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from soct.report.evidence import find_evidence
from soct.report.figures import FigureStore
from soct.report.model import MetricView, ParameterView, RunView, StepView, UnitView
from soct.report.pair_figures import close_loops
from soct.report.problems import Problem
from soct.report.rendering import examine, render_html
from soct.report.reportlet import load_reportlets
from soct.report.reportlets.methods import compose_methods, methods_as_latex
from soct.report.seams import choose_seams, rank_seams
from soct.report.slice_pictures import (
    checkerboard,
    cut,
    cut_seam,
    picture_seam,
    stitched_slice,
)
from soct.report.spectrum import depth_spectrum
from tests.report.fabricated import complete_run


def _section(view: RunView, name: str) -> str:
    return render_html(examine(view), tuple(r for r in load_reportlets() if r.id == name))


def _changed(view: RunView, step: str, unit: str, **arrays: np.ndarray | None) -> None:
    """Replace arrays of a figure file, or take them out (None)."""
    path = view.figures[step, unit]
    with np.load(path) as archive:
        kept = dict(archive)
    kept.update(arrays)  # type: ignore[arg-type]
    np.savez(path, **{k: v for k, v in kept.items() if v is not None})


# Banding.


def test_a_saw_tooth_has_its_peak_at_one_repeat_per_slice():
    planes = np.arange(400)
    found = depth_spectrum(50 * np.exp(-0.01 * (planes % 20)), np.arange(0, 400, 20))
    assert found is not None
    near = (found.repeats_per_slice > 0.5) & (found.repeats_per_slice < 1.5)
    peak = found.repeats_per_slice[near][np.argmax(found.amplitude_percent[near])]
    assert peak == pytest.approx(1.0, abs=0.03)
    assert found.planes_per_slice == 20


def test_the_amplitude_of_a_wave_is_its_height_in_percent():
    planes = np.arange(600)
    wave = 80 * np.exp(0.03 * np.sin(2 * np.pi * planes / 25))
    found = depth_spectrum(wave, np.arange(0, 600, 25))
    assert found is not None
    assert found.at_slice_percent == pytest.approx(3.0, rel=0.05)


def test_a_slow_change_of_anatomy_is_not_seen_at_the_slice_interval():
    planes = np.arange(600)
    found = depth_spectrum(50 + 20 * np.sin(planes / 90), np.arange(0, 600, 20))
    assert found is not None
    assert found.at_slice_percent < 0.2


def test_without_three_slices_there_is_no_spectrum():
    assert depth_spectrum(np.ones(40), [0, 20]) is None
    assert depth_spectrum(np.full(400, np.nan), np.arange(0, 400, 20)) is None


def test_a_banding_index_that_was_not_measured_is_not_shown_as_a_number(tmp_path):
    view = complete_run(tmp_path, slices=4)
    steps = tuple(
        replace(s, units=tuple(replace(u, metrics=tuple(
            replace(m, value=None) if m.name == "banding_index" else m for m in u.metrics)) for u in s.units))
        for s in view.steps
    )  # fmt: skip
    page = examine(replace(view, steps=steps))
    (headline,) = [h for h in page.headlines if h.id == "banding_index"]
    assert (headline.value, headline.text) == (None, "not measured")
    assert headline.detail == "too few slices or planes to tell"


def test_a_banding_index_of_zero_says_what_zero_means(tmp_path):
    view = complete_run(tmp_path, slices=4, figures=False)
    stack = next(s for s in view.steps if s.id == "stack")
    unit = replace(stack.units[0], metrics=(MetricView("banding_index", 0.0, "", "", "ok"),))
    view = replace(view, steps=(replace(stack, units=(unit,)),))
    (headline,) = [h for h in examine(view).headlines if h.id == "banding_index"]
    assert "anatomy" in headline.detail


def test_gains_at_their_limit_are_named(tmp_path):
    view = complete_run(tmp_path, slices=5)
    ids = np.load(view.figures["normalize", "run"])["slice_ids"]
    assert f"1: slice {ids[1]}" in _section(view, "between-slices")


def test_a_run_without_percentiles_says_so_and_shows_its_medians(tmp_path):
    view = complete_run(tmp_path, slices=5)
    _changed(view, "normalize", "run", extremes_before=None, extremes_after=None, limited=None)
    text = _section(view, "between-slices")
    assert "did not save P1 and P99" in text
    assert "could not be drawn" not in text
    assert "Brightness of tissue in every slice before normalisation" in text


def test_a_section_with_nothing_to_show_stands_back_and_no_other_does(tmp_path):
    text = render_html(examine(complete_run(tmp_path, slices=3, side=2, faults=False)))
    idle = set(re.findall(r'<a href="#([a-z-]+)" class="idle"', text))
    assert {"atlas", "diagnostics", "errors", "previews"} <= idle
    # Nobody has rated the run, but the form is there.
    assert not {"rating", "verdict", "problems", "stitching", "intensity"} & idle
    assert idle == set(re.findall(r'<section id="([a-z-]+)"[^>]* class="idle"', text))


# Seams.


def test_a_seam_saved_with_every_pixel_is_shown_instead_of_a_cut_of_the_small_picture(tmp_path):
    view = complete_run(tmp_path, slices=3, side=3, faults=False)
    figures = FigureStore(view.figures)
    unit = figures.units("stitch_3d_with_refinement")[1]
    seams = rank_seams(figures, [unit])
    wanted = [s for s in seams if s.accepted][-2]
    ramp = np.tile(np.linspace(0, 1, 240, dtype=np.float32), (240, 1))
    _changed(
        view,
        "stitch_3d_with_refinement",
        unit,
        seam_pairs=np.array([[wanted.a, wanted.b]]),
        seam_before=1 - ramp[None],
        seam_after=ramp[None],
    )
    stitched = stitched_slice(figures, unit)
    shown = picture_seam(figures, stitched, unit, wanted.a, wanted.b)
    np.testing.assert_array_equal(shown.after, ramp)
    assert shown.sharp
    assert shown.pixel_um == 25.0
    # The median and the random example give way to it, the worst ones do not.
    chosen = choose_seams(rank_seams(figures, [unit]), "x")
    assert [s.key for s, why in chosen if why == "median"] == [wanted.key]
    assert [s.residual_um for s, _ in chosen[:3]] == sorted((s.residual_um for s in seams if s.accepted), reverse=True)[:3]  # fmt: skip


def test_the_seams_shown_are_the_worst_trusted_ones_of_the_run(tmp_path):
    view = complete_run(tmp_path, slices=6, faults=False)
    _changed(view, "stitch_3d_with_refinement", "z03", pair_residual_px=np.full(24, 0.1))
    residual = np.full(24, 0.1)
    residual[[5, 7]] = 8.0, 30.0
    accepted = np.ones(24, bool)
    accepted[7] = False
    _changed(view, "stitch_3d_with_refinement", "z04", pair_residual_px=residual, pair_accepted=accepted)  # fmt: skip
    store = FigureStore(view.figures)
    seams = rank_seams(store, store.units("stitch_3d_with_refinement"))
    shown = choose_seams(seams, "seed")
    assert shown[0][0].unit == "z04"
    assert shown[0][0].residual_um == pytest.approx(8.0 * 25)
    assert all(seam.accepted for seam, _ in shown)
    assert [why for _, why in shown] == ["worst", "second worst", "third worst", "median", "random"]


def test_rejected_pairs_are_listed_with_their_reason_in_words(tmp_path):
    text = _section(complete_run(tmp_path, slices=12), "stitching")
    assert "it disagrees with the other pairs" in text
    assert 'stroke-dasharray="4 4"' in text


def test_rejected_pairs_of_an_older_run_say_that_the_reason_is_not_known(tmp_path):
    view = complete_run(tmp_path, slices=12)
    for (step, unit), _ in list(view.figures.items()):
        if step == "stitch_3d_with_refinement":
            _changed(view, step, unit, pair_reason=None)
    text = _section(view, "stitching")
    assert "this run did not save why" in text
    assert "could not be drawn" not in text


def test_the_seam_lies_in_the_middle_of_its_picture(tmp_path):
    view = complete_run(tmp_path, slices=2, side=2, faults=False)
    image = np.zeros((180, 180), np.float32)
    image[:, 85:95] = 1.0
    _changed(view, "stitch_3d_with_refinement", "z00", before=image, after=image,
             positions_px=np.array([[0.0, 0], [0, 80], [80, 0], [80, 80]]),
             nominal_px=np.array([[0.0, 0], [0, 80], [80, 0], [80, 80]]))  # fmt: skip
    _, after = cut_seam(stitched_slice(FigureStore(view.figures), "z00"), 0, 1)
    assert after.shape == (90, 90)
    bright = np.flatnonzero(np.nanmax(after, axis=0) > 0)
    assert (bright[0] + bright[-1]) / 2 == pytest.approx(44.5, abs=1)


def test_what_lies_outside_of_a_picture_is_no_data():
    part = cut(np.ones((4, 4), np.float32), (-2, 2, 3, 6))
    assert part.shape == (4, 3)
    assert np.isfinite(part).sum() == 2


# Pairs.


def _pair_run(tmp_path, shift_um: tuple[float, float], turn_deg: float = 0.0) -> FigureStore:
    """Two slices of one picture; the second is turned and moved, and its pose says so."""
    from soct.registration.transforms import RigidTransform2D

    view = complete_run(tmp_path, slices=2, side=2, faults=False)
    y, x = np.mgrid[:180, :180]

    def scene(points: np.ndarray) -> np.ndarray:
        return 50 + 20 * np.sin(points[..., 0] / 9) * np.cos(points[..., 1] / 7)

    centre = (89.5, 89.5)
    pose = RigidTransform2D(turn_deg, (shift_um[0] / 25, shift_um[1] / 25), centre)
    grid = np.stack([y, x], -1).astype(float)
    places = np.array([[0.0, 0], [0, 80], [80, 0], [80, 80]])
    for unit, image in (("z00", scene(grid)), ("z01", scene(pose.inverse().apply(grid)))):
        _changed(view, "stitch_3d_with_refinement", unit, before=image, after=image, positions_px=places,
                 nominal_px=places)  # fmt: skip
    _changed(view, "estimate_slice_poses", "run", stage_um=np.array([[0.0, 0, 0], [200, 0, 0]]),
             pose_um=np.array([[0.0, 0, 0], [200, *shift_um]]), rotation_deg=np.array([0.0, turn_deg]))  # fmt: skip
    return FigureStore(view.figures)


@pytest.mark.parametrize("turn", [0.0, 6.0])
def test_a_checkerboard_of_rightly_placed_slices_is_the_picture_itself(tmp_path, turn):
    store = _pair_run(tmp_path, (200.0, -150.0), turn)
    right, pixel = checkerboard(store, (0, 1), "poses")
    wrong, _ = checkerboard(store, (0, 1), "stage")
    truth = store.array("stitch_3d_with_refinement", "z00", "after")
    inner = np.s_[30:150, 30:150]
    assert pixel == 25.0
    off = {
        name: np.nanmax(np.abs(board * np.median(truth) - truth)[inner]) / np.ptp(truth)
        for name, board in (("right", right), ("wrong", wrong))
    }
    assert off["right"] < 0.05
    assert off["wrong"] > 0.3


def test_loops_close_where_the_pairs_agree_and_show_the_one_that_does_not():
    pairs = np.array([[0, 1], [1, 2], [2, 3], [0, 2], [1, 3]])
    shift = np.array([[3.0, 4], [1, 1], [2, -1], [4, 5], [3, 40]])
    turn = np.array([0.1, 0.2, 0.0, 0.3, 0.2])
    loops = close_loops(pairs, shift, turn)
    assert [loop.slices for loop in loops] == [(0, 1, 2), (1, 2, 3)]
    assert loops[0].shift_um == pytest.approx(0.0)
    assert loops[0].rotation_deg == pytest.approx(0.0)
    assert loops[1].shift_um == pytest.approx(40.0)


def test_a_run_without_pairs_that_skip_a_slice_says_that_loops_were_not_measured(tmp_path):
    view = complete_run(tmp_path, slices=2, faults=False)
    assert "Loop closure: not measured" in _section(view, "alignment")


# Evidence of problems.


def _problem(**more: object) -> Problem:
    return Problem("warning", 0.5, "what", "where", **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("problem", "caption"),
    [
        (_problem(units=((4,),), tiles=((4, 0, 0),)), "slice 4, tile (0, 0) outlined"),
        (_problem(step="register_pairwise", metric="ncc", units=((3, 4),)), "slices 3 and 4 in alternating"),
        (_problem(step="stitch_3d_with_refinement", metric="seam_l1", units=((4,),)), "worst seam: z04"),
        (_problem(step="stack", metric="banding_index", units=((),)), "depth downwards"),
        (_problem(units=((6,),)), "depth of slice 6"),
        (_problem(step="fix_illumination", metric="background_std", units=((),)), "after the flat field"),
        (_problem(step="create_mosaic_grid", metric="galvo_confidence", units=((2,),)), "slice 2"),
    ],
)  # fmt: skip
def test_a_problem_is_shown_where_it_is(tmp_path, problem, caption):
    page = examine(complete_run(tmp_path, slices=12))
    found = find_evidence(page, problem)
    assert found is not None
    assert caption in found.caption
    assert "alt=" in found.drawing


def test_a_problem_without_saved_figures_is_told_without_a_picture(tmp_path):
    view = complete_run(tmp_path, slices=12, figures=False)
    text = _section(view, "problems")
    assert '<figure class="evidence">' not in text
    assert "Neighbouring slices do not match" in text


def test_the_cards_link_to_the_pair_and_to_the_slice(tmp_path):
    view = complete_run(tmp_path, slices=12)
    text = render_html(examine(view))
    for target in ("pair-3-4", "stitch-z04", "slice-6"):
        assert f'href="#{target}"' in text
        assert f'id="{target}"' in text


def test_a_warning_over_the_whole_run_is_placed_where_it_says(tmp_path):
    view = complete_run(tmp_path, slices=12, figures=False)
    unit = UnitView("detect_rehoming_events", state="done", warnings=(
        "slice 2: the stage reported a glitch", "stage steps to slices [3, 5] are not reliable",
        "the step is 200 um in slice 9999",
    ))  # fmt: skip
    view = replace(view, steps=(StepView("detect_rehoming_events", units=(unit,)),))
    found = [p for p in examine(view).problems if p.step == "detect_rehoming_events"]
    assert {p.where for p in found} == {"slice 2", "slices 3, 5", "whole run"}


# Acquisition and performance.


def test_cut_thickness_is_told_by_the_overlaps_and_by_the_stage(tmp_path):
    view = complete_run(tmp_path, slices=6, faults=False)
    ids = np.arange(6)
    pose = np.stack([200.0 * ids, 0 * ids, 0 * ids], 1)
    pose[4:, 0] += 190.0
    _changed(view, "estimate_slice_poses", "run", pose_um=pose)
    assert "slice 4 with 390 µm" in _section(view, "acquisition")


def test_peak_memory_is_drawn_against_the_budget(tmp_path):
    view = complete_run(tmp_path, slices=3, figures=False)
    assert "the budget of 8.59" in _section(view, "performance")
    assert "budget 1\u202fGB" in _section(replace(view, memory_budget_bytes=10**9), "performance")
    assert "no budget was recorded" in _section(
        replace(view, memory_budget_bytes=None), "performance"
    )


# What the text says.


def test_the_galvo_decision_is_drawn_over_the_profile_of_the_least_sure_slice(tmp_path):
    view = complete_run(tmp_path, slices=3, figures=False)
    grids = next(s for s in view.steps if s.id == "create_mosaic_grid")
    least = min(grids.units, key=lambda u: u.number("galvo_confidence") or 0.0).name
    path = tmp_path / "galvo.npz"
    np.savez(path, profile=np.ones(92, np.float32), shift=np.int64(63), confidence=np.float64(0.9))
    text = _section(replace(view, figures={("create_mosaic_grid", least): path}), "intensity")
    assert f"Mean brightness of every A-line of the frames of {least}" in text
    assert "rolled by 63 A-lines" in text
    assert "saved no profile" in _section(view, "intensity")


def test_the_glossary_defines_every_metric_of_the_run(tmp_path):
    view = complete_run(tmp_path, slices=3)
    text = _section(view, "glossary")
    for unit in view.units():
        for found in unit.metrics:
            assert f"<code>{found.name}</code>" in text


def test_the_volume_can_be_opened_in_napari_and_in_neuroglancer(tmp_path):
    text = _section(complete_run(tmp_path, slices=3), "volume")
    assert "soct view" in text
    assert "neuroglancer" in text


def test_the_methods_are_given_as_latex_with_keys_that_the_bibliography_holds(tmp_path):
    view = complete_run(tmp_path, slices=3, figures=False)
    view = replace(view, profile="50%_fast")
    text = methods_as_latex(view)
    keys = {key for found in re.findall(r"~\\cite{([^}]*)}", text) for key in found.split(",")}
    assert keys
    assert keys == set(compose_methods(view)[1])
    assert r"``50\%\_fast''" in text
    assert not re.search(r"\[\d|µ|°|\u202f", text)


def test_a_setting_that_is_empty_is_left_out_of_the_methods(tmp_path):
    view = complete_run(tmp_path, slices=3, figures=False)
    empty = ParameterView("register_pairwise.max_rotation_deg", "", "deg", "default", "")
    text, _ = compose_methods(replace(view, parameters=(empty,)))
    assert "rotation at most" not in text
