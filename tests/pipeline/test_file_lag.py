"""What another machine wrote is waited for, and only for so long."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

from soct.pipeline.folder.outputs import FileRecord, OutputRecord
from soct.pipeline.workers import file_lag
from soct.pipeline.workers.executors import WorkerLost
from soct.pipeline.workers.worker import Done
from soct.steps.declaration import Result


@pytest.fixture
def task(tmp_path):
    paths = {("read", "grid"): {(1,): tmp_path / "in.txt"}}
    return SimpleNamespace(
        partial=tmp_path, names={"out": "out.txt"}, context=SimpleNamespace(input_paths=paths)
    )


def done(size):
    file = FileRecord(size, 0, "")
    output = OutputRecord("out", "step/out.txt", {"": file}, is_folder=False)
    return Done(Result(), (output,), 1.0, 0, "node7", 1)


def test_outputs_are_waited_for_until_they_have_their_size(task, tmp_path):
    (tmp_path / "out.txt").write_text("12")
    later = threading.Timer(0.3, (tmp_path / "out.txt").write_text, ["1234"])
    later.start()
    file_lag.await_outputs(task, done(4))
    assert (tmp_path / "out.txt").read_text() == "1234"
    later.join()


def test_inputs_are_waited_for(task, tmp_path):
    later = threading.Timer(0.3, (tmp_path / "in.txt").touch)
    later.start()
    file_lag.await_inputs(task)
    assert (tmp_path / "in.txt").exists()
    later.join()


def test_files_that_never_arrive_end_the_wait_with_their_name(task, tmp_path, monkeypatch):
    monkeypatch.setattr(file_lag, "LAG_S", 0.2)
    with pytest.raises(WorkerLost, match=r"out\.txt is missing"):
        file_lag.await_outputs(task, done(4))
    with pytest.raises(WorkerLost, match=r"in\.txt is missing"):
        file_lag.await_inputs(task)
