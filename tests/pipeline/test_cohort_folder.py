"""All runs below a folder are found in whatever state, and one that is broken costs nothing but itself."""

from __future__ import annotations

import json
import shutil

import pytest

from soct.errors import InputError
from soct.pipeline.folder.cohort_folder import find_runs, read_cohort
from tests.pipeline.fake_pipeline import make_input, run_fake


@pytest.fixture
def lab(tmp_path):
    source = make_input(tmp_path / "in", (1, 2))
    run_fake(source, tmp_path / "lab" / "a" / "default")
    for name in ("b", "2024/c", "2024/d"):
        shutil.copytree(tmp_path / "lab/a/default", tmp_path / "lab" / name)
    return tmp_path / "lab"


def test_runs_are_found_at_any_depth_and_not_inside_of_runs(lab):
    shutil.copytree(lab / "2024" / "c", lab / "b" / "stack" / "copy")
    (lab / "raw" / "state").mkdir(parents=True)
    (lab / "raw" / "state" / "notes.txt").touch()
    found = sorted(str(path.relative_to(lab)) for path in find_runs(lab))
    assert found == ["2024/c", "2024/d", "a/default", "b"]


def test_links_to_runs_are_followed_and_counted_once(lab, tmp_path):
    (tmp_path / "picked").mkdir()
    for name in ("one", "two"):
        (tmp_path / "picked" / name).symlink_to(lab / "b")
    (tmp_path / "picked" / "loop").symlink_to(tmp_path / "picked")
    cohort = read_cohort(tmp_path / "picked", tmp_path)
    assert [run.member.path for run in cohort.runs] == ["one"]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [("absent", "run.json is missing"), ("torn", "run.json cannot be read"),
     ("newer", "newer"), ("foreign", "run.json cannot be read")],
)  # fmt: skip
def test_a_run_that_cannot_be_read_is_listed_with_the_reason(lab, damage, reason):
    path = lab / "2024" / "c" / "run.json"
    if damage == "absent":
        path.unlink()
    elif damage == "torn":
        path.write_bytes(path.read_bytes()[:200])
    elif damage == "newer":
        path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 99}))
    else:
        path.write_text("[1, 2]")
    cohort = read_cohort(lab, lab)
    assert len(cohort.runs) == 3
    [lost] = cohort.unreadable
    assert lost.path == "2024/c"
    assert reason in lost.reason


def test_reports_are_named_relative_to_the_page(lab, tmp_path):
    (lab / "b" / "sub-01_quality_report.html").touch()
    (tmp_path / "pages").mkdir()
    cohort = read_cohort(lab, tmp_path / "pages")
    reports = {run.member.path: run.member.report for run in cohort.runs}
    assert reports["b"] == "../lab/b/sub-01_quality_report.html"
    assert reports["2024/d"] == ""


def test_a_run_outside_of_the_folder_is_placed_among_its_runs(lab, tmp_path):
    shutil.copytree(lab / "b", tmp_path / "new")
    cohort = read_cohort(lab, tmp_path / "new", also=tmp_path / "new")
    assert cohort.own_run is not None
    assert cohort.own_run.member.path == "../new"
    assert len(cohort.runs) == 5
    assert read_cohort(lab, lab, also=lab / "b").own == "b"
    assert len(read_cohort(lab, lab, also=lab / "b").runs) == 4


def test_a_folder_without_runs_is_said_in_one_error(tmp_path):
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "empty", tmp_path / "absent"):
        with pytest.raises(InputError) as told:
            read_cohort(folder, tmp_path)
        assert str(folder) in str(told.value)
