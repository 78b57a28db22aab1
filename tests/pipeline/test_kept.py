"""Results that would go with a container are refused, or told of; never lost in silence."""

from __future__ import annotations

from pathlib import Path

import pytest

from soct.compute.containers import Container, Unbound
from soct.errors import ExitCode, InputError
from soct.pipeline.folder import run_folder
from soct.pipeline.folder.run_folder import check_kept, telling_of_writes

INSIDE = Container("Apptainer", "/images/soct.sif")


def test_a_run_folder_that_surely_vanishes_is_refused_and_a_look_is_allowed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(run_folder, "find_unbound", lambda folder: Unbound(INSIDE, certain=True))
    with pytest.raises(InputError, match="vanish with the container") as refused:
        check_kept(Path("/tmp/out"))
    assert refused.value.exit_code == ExitCode.INPUT
    assert "--bind FOLDER" in str(refused.value.hint)
    assert "vanishes with it" in check_kept(Path("/tmp/out"), may_vanish=True)


def test_a_run_folder_that_may_vanish_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_folder, "find_unbound", lambda folder: Unbound(INSIDE, certain=False))
    assert "may vanish with it" in check_kept(Path("/out"))
    monkeypatch.setattr(run_folder, "find_unbound", lambda folder: None)
    assert check_kept(Path("/out")) == ""


def test_a_folder_that_is_not_bound_is_told_how_to_bind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_folder, "hint_to_bind_writable", lambda folder: "bind it")
    with pytest.raises(InputError) as refused, telling_of_writes(Path("/out")):
        raise OSError(30, "Read-only file system")
    assert refused.value.hint == "bind it"
