"""`soct report` as it is typed, on a small run of the fake pipeline."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import pytest

from soct.cli.app import run_app
from soct.cli.main import run_guarded
from soct.errors import ExitCode
from tests.pipeline.fake_pipeline import make_input, run_fake


def soct(*arguments: object) -> int:
    words = [str(a) for a in arguments]
    return run_guarded(lambda: run_app(words), words)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    assert run_fake(make_input(folder / "in"), folder / "out").state == "complete"
    return folder / "out"


@pytest.fixture
def run(finished, tmp_path):
    return Path(shutil.copytree(finished, tmp_path / "out"))


def test_without_options_the_page_is_written_into_the_run_folder(run, capsys):
    assert soct("report", run) == ExitCode.OK
    path = Path(capsys.readouterr().out.strip())
    assert path.parent == run
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert (run / "report_data" / "summary.json").exists()


def test_json_is_printed_whole_and_words_go_elsewhere(run, capsys):
    assert soct("report", run, "--format", "html,json") == ExitCode.OK
    told = capsys.readouterr()
    assert json.loads(told.out) == json.loads((run / "report_data/summary.json").read_text())
    assert told.err.strip().endswith("_quality_report.html")


def test_text_has_no_escape_code_where_nobody_sees_colours(run, capsys):
    assert soct("report", run, "--format", "text") == ExitCode.OK
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert max(len(line) for line in out.splitlines()) <= 80


def test_text_has_colours_on_a_terminal(run, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert soct("report", run, "--format", "text") == ExitCode.OK
    assert "\x1b[1mHeadline numbers\x1b[0m" in capsys.readouterr().out


def test_all_forms_go_into_one_folder(run, tmp_path, capsys):
    folder = tmp_path / "to" / "send"
    assert soct("report", run, "--format", "html,zip,text,json", "--out", folder) == ExitCode.OK
    told = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert [path.suffix for path in told] == [".html", ".zip", ".txt", ".json"]
    assert all(path.parent == folder for path in told)
    with zipfile.ZipFile(told[1]) as archive:
        inside = f"{told[0].stem}/{told[0].name}"
        assert archive.read(inside) == told[0].read_bytes()


def test_one_form_goes_into_the_file_that_is_named(run, tmp_path):
    path = tmp_path / "a.zip"
    assert soct("report", run, "--format", "zip", "--out", path) == ExitCode.OK
    first = path.read_bytes()
    assert soct("report", run, "--format", "zip", "--out", path) == ExitCode.OK
    assert path.read_bytes() == first


@pytest.mark.parametrize(
    "options",
    [
        ("--format", "pdf"),
        ("--format", "text,json"),
        ("--format", "zip", "--out", "a.html"),
        ("--format", "html,zip", "--out", "a.zip"),
    ],
)
def test_what_does_not_fit_together_is_a_usage_error(run, options, capsys):
    assert soct("report", run, *options) == ExitCode.USAGE
    assert capsys.readouterr().out == ""


def test_a_file_that_is_no_report_is_not_written_over(run, tmp_path):
    notes = tmp_path / "notes.docx"
    notes.write_text("mine")
    assert soct("report", run, "--format", "text", "--out", notes) == ExitCode.USAGE
    assert notes.read_text() == "mine"


def test_what_is_no_run_folder_is_an_input_error(tmp_path, capsys):
    assert soct("report", tmp_path, "--format", "json") == ExitCode.INPUT
    assert capsys.readouterr().out == ""


def rating(folder: Path, **changes: object) -> str:
    key = json.loads((folder / "report_data/summary.json").read_text())["run"]
    said = {"format": "soct rating 1", "run": key, "rater": "A. Rater", "rating": "accept"}
    return json.dumps({**said, **changes})


def test_a_rating_is_kept_and_shown_and_never_written_over(run, tmp_path, capsys):
    assert soct("report", run) == ExitCode.OK
    file = tmp_path / "rating.json"
    for who, what in (("Ann", "accept"), ("Bob", "reject"), ("Ann", "reject")):
        file.write_text(rating(run, rater=who, rating=what))
        assert soct("report", run, "--ingest-rating", file) == ExitCode.OK
    kept = {p.name: p.read_bytes() for p in (run / "ratings").iterdir()}
    assert len(kept) == 3
    assert soct("report", run, "--ingest-rating", file) == ExitCode.OK
    assert {p.name: p.read_bytes() for p in (run / "ratings").iterdir()} == kept
    page = Path(capsys.readouterr().out.splitlines()[-1]).read_text(encoding="utf-8")
    assert "Ann" in page
    assert "Rated by people" in page
    said = json.loads((run / "report_data/summary.json").read_text())
    assert said["agreement"]["raters"] == 2
    assert len(said["ratings"]) == 3


def test_a_rating_that_does_not_fit_changes_nothing(run, tmp_path, capsys):
    assert soct("report", run) == ExitCode.OK
    before = (run / "report_data/summary.json").read_bytes()
    file = tmp_path / "rating.json"
    for content in ("{", rating(run, rating="fine"), rating(run, run="0" * 16)):
        file.write_text(content)
        assert soct("report", run, "--ingest-rating", file) == ExitCode.INPUT
        assert "file:     " in capsys.readouterr().err
    assert soct("report", run, "--ingest-rating", tmp_path / "absent.json") == ExitCode.INPUT
    assert not (run / "ratings").exists()
    assert (run / "report_data/summary.json").read_bytes() == before


def test_a_redacted_report_stands_apart_and_leaves_the_report_as_it_is(run, tmp_path, capsys):
    assert soct("report", run) == ExitCode.OK
    before = (run / "report_data/summary.json").read_bytes()
    assert soct("report", run, "--redact", "--format", "html,zip") == ExitCode.OK
    paths = [Path(line) for line in capsys.readouterr().out.splitlines()[1:]]
    assert all(path.parent == run / "redacted" for path in paths)
    subject = json.loads(before)["subject"]
    for path in (run / "redacted").rglob("*"):
        assert subject not in path.name
        if path.suffix in (".html", ".json", ".tsv"):
            text = path.read_text(encoding="utf-8")
            assert subject not in text
            assert str(tmp_path) not in text
    assert (run / "report_data/summary.json").read_bytes() == before
    assert soct("report", run, "--redact", "--cohort", tmp_path) == ExitCode.USAGE
