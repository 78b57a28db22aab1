"""The report sees what the records say, at any moment of a run."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import pytest

from soct.errors import InputError
from soct.formats.acquisition import Acquisition, SliceRecord
from soct.formats.tiles import TileInfo, TileRecord
from soct.pipeline.folder.findings import write_findings
from soct.pipeline.folder.outputs import FileRecord, OutputRecord
from soct.pipeline.folder.records import Record, RecordStore
from soct.pipeline.folder.run_folder import read_run, write_run
from soct.pipeline.folder.run_volume import find_volume, newest_output
from soct.pipeline.folder.status import read_status
from soct.pipeline.folder.summary import build_view
from soct.pipeline.folder.volume_view import view_volume
from soct.pipeline.keys import Key
from soct.pipeline.request import Selection
from soct.steps.declaration import Result, Unit
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


def test_what_the_tiles_say_of_the_acquisition_is_shown_with_its_source(source, tmp_path):
    run_fake(source, tmp_path / "out")
    info = TileInfo(80, 70, 12, 1, 800.0, 770.0, 0, 91, axial_resolution_um=3.5)
    tile = TileRecord(1, 2, 3, source, (), info)
    acquisition = Acquisition(source, "raw", {1: SliceRecord(1, root=source, tiles=(tile,))})
    write_findings(tmp_path / "out", acquisition)
    facts = {m.name: m for m in build_view(tmp_path / "out").acquisition.metadata}
    assert facts["B-scans"].source == "info.txt of tile (2, 3) of slice 1"
    assert (facts["pixel, y"].value, facts["pixel, y"].unit) == ("11", "um")
    assert facts["depth per sample"].value == "3.5"
    assert "depth sample of the focus" not in facts


def test_a_limit_that_the_profile_sets_is_shown_with_its_origin(source, tmp_path):
    run_fake(source, tmp_path / "out")
    document = read_run(tmp_path / "out")
    origins = {"quality.ncc.warning": "file lab.yaml:9", "read": "file lab.yaml:3"}
    write_run(tmp_path / "out", replace(document, profile={**document.profile, "origins": origins}))
    view = build_view(tmp_path / "out")
    assert view.limit_origin("ncc", "warning") == "file lab.yaml:9"
    assert view.limit_origin("ncc", "error") == view.limit_origin("filled", "error") == "default"


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


def record_of_volume(step: str, path: str, ended: str = "2026-01-01T00:00:00Z") -> Record:
    return Record(
        unit=Unit(step),
        key=Key("", {}),
        outputs=(OutputRecord("volume", path, {"zarr.json": FileRecord(10, 0, "")}, True),),
        result=Result(),
        reasons=(),
        started=ended,
        ended=ended,
        seconds=1.0,
        peak_memory_bytes=1,
        threads=1,
        host="",
        pid=1,
        soct_version="",
    )


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
    record = record_of_volume("stack", "stack/a.ome.zarr")
    volume = view_volume(tmp_path, record, record.outputs[0])
    assert volume.levels[0].shape == (5, 6, 7)
    assert volume.levels[0].voxel_um == (10.0, 10.0, 10.0)
    assert volume.codec == "bytes, crc32c"


def test_a_volume_without_readable_metadata_is_still_named(tmp_path):
    record = record_of_volume("stack", "stack/a.ome.zarr")
    assert view_volume(tmp_path, record, record.outputs[0]).bytes == 10


def test_the_newest_volume_that_belongs_to_the_stack_is_the_one_that_is_named(source, tmp_path):
    out = tmp_path / "out"
    run_fake(source, out)
    document = read_run(out)
    store = RecordStore(out)
    path = "correct_bias_field/a.ome.zarr"
    (out / path).mkdir(parents=True)
    (stack,) = (u.record for u in read_status(out).units if u.unit.step == "stack")
    on = replace(document, steps={**document.steps, "correct_bias_field": 2})

    def named(ended: str, run=on) -> str:
        store.write(record_of_volume("correct_bias_field", path, ended))
        write_run(out, run)
        found = newest_output(out, run)
        assert find_volume(out) == out / found[1].path
        assert build_view(out).volume.path == found[1].path
        return found[0].unit.step

    assert named("2999-01-01T00:00:00Z") == "correct_bias_field"
    assert named("2999-01-01T00:00:00Z", document) == "stack"  # switched off since
    assert named("2000-01-01T00:00:00Z") == "stack"  # of an older stack
    assert stack.ended > "2000"
