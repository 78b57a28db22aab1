"""The report sees what the records say, at any moment of a run."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from soct.errors import InputError
from soct.pipeline.request import Selection
from soct.pipeline.summary import build_view
from soct.pipeline.volume_view import view_volume
from soct.report.model import OutputView, StepView, UnitView
from tests.pipeline.fake_pipeline import N_UNITS, make_input, run_fake


@pytest.fixture
def source(tmp_path):
    return make_input(tmp_path / "in")


def test_a_finished_run_is_shown_complete_with_all_its_units(source, tmp_path):
    run_fake(source, tmp_path / "out")
    view = build_view(tmp_path / "out")
    assert (view.state, view.subject) == ("complete", "sub-01")
    assert {u.state for u in view.units()} == {"done"}
    assert len(list(view.units())) == N_UNITS
    assert view.step("register").units[0].number("ncc") == pytest.approx(0.51)
    assert all(u.started_s >= 0 for u in view.units())
    assert [(i.outcome, i.computed) for i in view.invocations] == [("complete", N_UNITS)]


def test_a_slice_that_was_never_acquired_is_in_the_ledger(source, tmp_path):
    run_fake(source, tmp_path / "out")
    view = build_view(tmp_path / "out")
    assert [(r.slice_id, r.missing) for r in view.ledger] == [
        (1, False),
        (2, False),
        (3, True),
        (4, False),
        (5, False),
    ]
    assert view.acquisition.missing_slices == (3,)


def test_what_an_earlier_invocation_computed_is_shown_as_reused(source, tmp_path):
    run_fake(source, tmp_path / "out", selection=Selection(last="read"))
    time.sleep(1.1)  # times of invocations are whole seconds
    run_fake(source, tmp_path / "out")
    view = build_view(tmp_path / "out")
    assert {u.state for u in view.units("read")} == {"reused"}
    assert {u.state for u in view.units("stack")} == {"done"}


def test_a_partial_run_is_not_shown_as_complete(source, tmp_path):
    run_fake(source, tmp_path / "out", selection=Selection(last="read"))
    view = build_view(tmp_path / "out")
    assert view.state == "partial"
    assert {u.state for u in view.units("stack")} == {"pending"}


def test_a_failure_is_shown_with_its_traceback_and_what_it_blocks(source, tmp_path):
    run_fake(source, tmp_path / "out", {"read.fail_slice": 2})
    view = build_view(tmp_path / "out")
    assert view.state == "failed"
    (failed,) = [u for u in view.units() if u.state == "failed"]
    assert "ZeroDivisionError" in failed.failure.traceback
    (stack,) = view.units("stack")
    assert stack.state == "blocked"
    assert "failed or is blocked" in stack.reason


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(InputError, match="not a run folder"):
        build_view(tmp_path)


def steps_with_volume(path: str) -> tuple[StepView, ...]:
    unit = UnitView("stack", state="done", outputs=(OutputView("volume", path, 10),))
    return (StepView("stack", units=(unit,)),)


def test_levels_and_codecs_of_the_volume_come_from_its_metadata(tmp_path):
    store = tmp_path / "stack/a.ome.zarr"
    (store / "0").mkdir(parents=True)
    scale = [{"type": "scale", "scale": [10.0, 10.0, 10.0]}]
    levels = [{"path": "0", "coordinateTransformations": scale}]
    attributes = {"ome": {"multiscales": [{"datasets": levels}]}}
    (store / "zarr.json").write_text(json.dumps({"attributes": attributes}))
    inner = {"codecs": [{"name": "bytes"}, {"name": "crc32c"}]}
    codecs = [{"name": "sharding_indexed", "configuration": inner}]
    array = {"shape": [5, 6, 7], "data_type": "float32", "codecs": codecs}
    (store / "0/zarr.json").write_text(json.dumps(array))
    volume = view_volume(tmp_path, steps_with_volume("stack/a.ome.zarr"))
    assert volume.levels[0].shape == (5, 6, 7)
    assert volume.levels[0].voxel_um == (10.0, 10.0, 10.0)
    assert volume.codec == "bytes, crc32c"


def test_a_volume_without_readable_metadata_is_still_named(tmp_path):
    assert view_volume(tmp_path, steps_with_volume("stack/a.ome.zarr")).bytes == 10
    assert view_volume(Path(tmp_path), ()) is None
