"""A worker that cannot work for a run is told from one that can, before it gets a unit."""

from __future__ import annotations

from dataclasses import replace

import pytest

from soct.pipeline.workers import worker_probe
from soct.pipeline.workers.worker_probe import (
    Probe,
    code_digest,
    confirm,
    library_versions,
    look,
    posed,
)
from tests.pipeline.fake_pipeline import fingerprint, make_input, open_fake


@pytest.fixture
def probe(tmp_path, monkeypatch):
    monkeypatch.setattr(worker_probe, "LAG_S", 0.2)
    record = open_fake(make_input(tmp_path / "in")).slices[1]
    (tmp_path / "run").mkdir()
    return Probe(
        folder=tmp_path / "run",
        token="abc",
        record=record,
        files=fingerprint(record),
        fingerprint=fingerprint,
        code=code_digest(),
        libraries=library_versions(),
    )


def test_a_worker_that_sees_the_same_is_good_and_nothing_stays_behind(probe):
    with posed(probe):
        sight = look(probe, "w1")
        assert (sight.trouble, sight.libraries) == ("", {})
        assert confirm(probe, "w1") == ""
    assert list(probe.folder.iterdir()) == []


def test_a_worker_without_the_run_folder_is_refused(probe, tmp_path):
    elsewhere = replace(probe, folder=tmp_path / "nowhere")
    with posed(probe):
        assert look(elsewhere, "w1").trouble == f"it does not see the run folder {elsewhere.folder}"


def test_a_worker_with_another_folder_of_that_name_is_refused(probe):
    assert "is another folder than the one here" in look(probe, "w1").trouble


def test_a_worker_with_another_input_of_that_name_is_refused(probe):
    with posed(probe):
        assert "such as raw_01.txt" in look(replace(probe, files={"raw_01.txt": "x"}), "w").trouble
        (probe.record.root / "raw_01.txt").unlink()
        assert "does not see the input" in look(probe, "w").trouble


def test_a_worker_whose_writing_does_not_arrive_is_refused(probe):
    with posed(probe):
        assert "does not arrive here" in confirm(probe, "w1")


def test_other_code_under_the_same_version_is_refused_and_other_libraries_are_told(probe):
    with posed(probe):
        assert "other code" in look(replace(probe, code="x"), "w1").trouble
        libraries = {**probe.libraries, "numba": "0.1"}
        sight = look(replace(probe, libraries=libraries), "w1")
    assert sight.trouble == ""
    assert set(sight.libraries) == {"numba"}
