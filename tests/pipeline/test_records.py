"""What a run folder remembers survives, and what is not as it was left is not trusted."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from soct.errors import LockedError, NewerStateError
from soct.pipeline.folder.records import RecordStore
from soct.pipeline.folder.status import verify
from soct.pipeline.folder.summary import build_view
from soct.steps.declaration import Metric, Unit
from tests.pipeline.fake_pipeline import data_bytes, make_input, run_fake


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Return an input and the run folder of an undisturbed run; copy before changing anything."""
    folder = tmp_path_factory.mktemp("finished")
    source = make_input(folder / "in")
    assert run_fake(source, folder / "out", cpus=1).state == "complete"
    return source, folder / "out"


@pytest.fixture
def copy(finished, tmp_path):
    """Return the input and a private copy of the finished run, with its times kept."""
    import shutil

    source, folder = finished
    shutil.copytree(folder, tmp_path / "out")
    return source, tmp_path / "out"


def damage_and_resume(copy, damage):
    source, folder = copy
    before = data_bytes(folder)
    damage(folder)
    seen = []
    outcome = run_fake(source, folder, listener=seen.append)
    assert outcome.state == "complete"
    assert data_bytes(folder) == before
    return outcome, " ".join(getattr(e, "text", "") for e in seen)


def test_a_record_is_read_as_it_was_written(copy):
    store = RecordStore(copy[1])
    record = store.read(Unit("read", (1,)))
    store.write(record)
    again = store.read(Unit("read", (1,)))
    assert again.outputs == record.outputs
    assert again.key == record.key
    assert again.reasons == ("it was never computed",)
    assert again.result.decisions == record.result.decisions


def test_the_tile_of_a_metric_and_what_is_told_elsewhere_are_read_as_written(copy):
    store = RecordStore(copy[1])
    record = store.read(Unit("read", (1,)))
    metrics = (Metric("plain", 1.0), Metric("saturated_percent", 2.5, "%", "", (3, 4)))
    result = replace(record.result, metrics=metrics, notices=("Slice 2 is missing",))
    store.write(replace(record, result=result))
    assert store.read(Unit("read", (1,))).result == result
    (unit,) = [u for u in build_view(copy[1]).units("read") if u.slices == (1,)]
    assert [m.tile for m in unit.metrics] == [None, (3, 4)]
    # The report shows missing slices by themselves; a notice is for whoever watches the run.
    assert "Slice 2 is missing" not in unit.warnings


def test_the_places_of_a_number_survive(copy):
    store = RecordStore(copy[1])
    record = store.read(Unit("read", (1,)))
    placed = (Metric("step", 0.5, places=((1, 2), (3,))), Metric("other", 1))
    store.write(replace(record, result=replace(record.result, metrics=placed)))
    assert store.read(Unit("read", (1,))).result.metrics == placed


def test_a_record_names_every_file_with_its_size_and_checksum(copy):
    record = RecordStore(copy[1]).read(Unit("read", (1,)))
    (output,) = record.outputs
    assert sorted(output.files) == ["c/0", "c/1", "c/2", "zarr.json"]
    assert len(output.sha256) == 64
    assert output.size == sum(f.size for f in output.files.values()) > 0


@pytest.mark.parametrize(
    "content",
    [b"", b"\n", b"{", b"null", b"[]", b"3", b"\xff\xfe\x00", b'{"a": 1}', b"[" * 5000],
)
def test_a_record_that_is_none_means_that_the_unit_is_redone_with_a_warning(copy, content):
    outcome, said = damage_and_resume(
        copy, lambda folder: (folder / "state/cut/z02.json").write_bytes(content)
    )
    assert outcome.computed == (Unit("cut", (2,)),)
    assert "cut:z02 is computed again: its record" in said


def test_a_truncated_record_is_not_trusted_at_any_length(copy):
    path = copy[1] / "state/cut/z02.json"
    whole = path.read_bytes()
    for length in range(0, len(whole) - 2, 37):
        path.write_bytes(whole[:length])
        assert hasattr(RecordStore(copy[1]).read(Unit("cut", (2,))), "reason"), length


def test_a_record_of_another_unit_is_not_trusted(copy):
    outcome, said = damage_and_resume(
        copy,
        lambda folder: (folder / "state/cut/z02.json").write_bytes(
            (folder / "state/cut/z01.json").read_bytes()
        ),
    )
    assert outcome.computed == (Unit("cut", (2,)),)
    assert "its record belongs to cut:z01" in said


def test_a_record_that_somebody_edited_is_not_trusted(copy):
    def edit(folder):
        path = folder / "state/cut/z02.json"
        path.write_text(path.read_text().replace('"bytes": ', '"bytes": 1'))

    outcome, said = damage_and_resume(copy, edit)
    assert outcome.computed == (Unit("cut", (2,)),)
    assert "changed by something else" in said


@pytest.mark.parametrize("name", ["state/cut/z02.json", "run.json"])
def test_state_of_a_newer_soct_ends_with_nothing_touched(copy, name):
    source, folder = copy
    path = folder / name
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, "format": 99}))
    before = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.rglob("*") if p.is_file()}
    with pytest.raises(NewerStateError) as caught:
        run_fake(source, folder)
    assert caught.value.exit_code == 9
    after = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.rglob("*") if p.is_file()}
    del before[folder / ".soct.lock"], after[folder / ".soct.lock"]
    assert after == before


def delete_chunk(folder):
    (folder / "read/grid_z02.zarr/c/1").unlink()


def truncate_shard(folder):
    path = folder / "read/grid_z02.zarr/c/1"
    path.write_bytes(path.read_bytes()[:-1])


def flip_a_bit(folder):
    path = folder / "read/grid_z02.zarr/c/1"
    content = bytearray(path.read_bytes())
    content[100] ^= 4
    path.write_bytes(content)


def delete_everything(folder):
    import shutil

    shutil.rmtree(folder / "read/grid_z02.zarr")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (delete_chunk, "is missing"),
        (delete_everything, "is missing"),
        (truncate_shard, "bytes instead of"),
        (flip_a_bit, "other content"),
    ],
)
def test_a_damaged_output_is_found_and_only_its_unit_redone(copy, damage, reason):
    outcome, said = damage_and_resume(copy, damage)
    assert outcome.computed == (Unit("read", (2,)),)
    assert reason in said
    record = RecordStore(copy[1]).read(Unit("read", (2,)))
    assert reason in record.reasons[0]


def test_a_bit_that_flipped_by_itself_is_found_by_verify(copy):
    import os

    source, folder = copy
    path = folder / "read/grid_z02.zarr/c/1"
    times = path.stat()
    flip_a_bit(folder)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert run_fake(source, folder).computed == ()
    (found,) = verify(folder)
    assert found.unit == Unit("read", (2,))
    assert "other content" in found.reason
    verify(folder, forget=True)
    assert run_fake(source, folder).computed == (Unit("read", (2,)),)
    assert verify(folder) == ()


def test_touched_files_with_the_same_content_are_not_redone(copy):
    source, folder = copy
    for path in folder.rglob("*"):
        path.touch()
    assert run_fake(source, folder).computed == ()


def test_what_killed_runs_left_is_swept(copy):
    source, folder = copy
    orphan = folder / "read" / ".partial.z01.host.1.abc"
    orphan.mkdir()
    (orphan / "x").write_text("x")
    (folder / "state/read/.z01.json.abc.partial").write_text("x")
    (folder / "read/metrics").mkdir(exist_ok=True)
    (folder / "read/metrics/.z01.json.abc.partial").write_text("x")
    run_fake(source, folder)
    assert not orphan.exists()
    assert not [p for p in folder.rglob("*") if "partial" in p.name]


def test_a_second_run_in_one_folder_is_refused_and_names_the_holder(copy):
    from soct.pipeline.together.lock import hold

    source, folder = copy
    with hold(folder, "soct run --first"), pytest.raises(LockedError, match="soct run --first"):
        run_fake(source, folder)
    assert LockedError.exit_code == 7
    assert run_fake(source, folder).state == "complete"
