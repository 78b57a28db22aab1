"""The report as text, as JSON and as a zip says what the page says."""

from __future__ import annotations

import hashlib
import io
import json
import re
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from soct.report.bad_slices import bad_slices
from soct.report.bundle import make_bundle
from soct.report.data_files import DATA_FILES, summarise, summarise_as_json
from soct.report.model import LedgerRow
from soct.report.plain_text import COLUMNS, summarise_as_text, text_lines
from soct.report.rendering import examine
from tests.report.fabricated import complete_run, empty_run, failed_run, running_run

DOCS = Path(__file__).parents[2] / "docs" / "report.md"


@pytest.fixture(params=["complete", "failed", "running", "empty"])
def page(request, tmp_path):
    makers = {"complete": complete_run, "failed": failed_run, "running": running_run}
    maker = makers.get(request.param)
    return examine(maker(tmp_path) if maker else empty_run())


def test_no_line_of_the_text_is_wider_than_eighty_columns_or_can_act(page):
    for line in summarise_as_text(page).splitlines():
        assert len(line) <= COLUMNS
        assert line.isprintable()
        assert line == line.rstrip()


def test_the_text_begins_with_the_verdict_and_names_problem_place_and_setting(tmp_path):
    page = examine(complete_run(tmp_path, slices=12, figures=False))
    text = summarise_as_text(page)
    assert text.startswith("REVIEW  sub-fabricated\n")
    first = re.search(r"  1\. error: (.*)", text)
    assert first is not None
    assert first[1] == "Neighbouring slices do not match; slice 4 (slices 2→4, 3→4)"
    assert "     register_pairwise: {max_rotation_deg: ...}\n       now 5.0; try" in text
    for headline in page.headlines:
        assert re.search(rf"^  {re.escape(headline.label)} ", text, re.M)
    assert text.index("Headline") < text.index("Problems, ranked") < text.index("Slices to look at")


def test_tones_follow_the_severity_and_are_no_part_of_the_text(tmp_path):
    lines = text_lines(examine(failed_run(tmp_path)))
    assert lines[0].tone == "error"
    assert next(x for x in lines if "1. error: register_pairwise failed" in x.text).tone == "error"
    assert not any("\x1b" in line.text for line in lines)


def test_the_bad_slices_are_those_not_used_made_up_or_beyond_a_limit(tmp_path):
    view = complete_run(tmp_path, slices=12, figures=False)
    found = {bad.row.slice_id: bad for bad in bad_slices(view)}
    assert {s: bad.state for s, bad in found.items()} == {4: "used", 6: "missing", 11: "not used"}
    assert found[4].findings[0].metric.status == "error"
    made = replace(view, ledger=(LedgerRow(6, used=False, missing=True, interpolated=True),))
    assert [bad.state for bad in bad_slices(made)] == ["interpolated"]
    clean = complete_run(tmp_path, slices=6, figures=False, faults=False)
    assert bad_slices(clean) == ()
    assert "All 6 slices used, each within its limits." in summarise_as_text(examine(clean))


def test_json_and_text_agree_on_verdict_problems_and_slices(page):
    document = json.loads(summarise_as_json(page))
    text = summarise_as_text(page)
    assert text.startswith(f"{document['verdict']}  {document['subject']}")
    serious = [p for p in document["problems"] if p["severity"] != "info"]
    assert len(re.findall(r"^ +\d+\. (?:error|warning): ", text, re.M)) == len(serious)
    for bad in document["bad_slices"]:
        assert re.search(rf"^ +{bad['slice_id']}  {bad['state']}", text, re.M)


def test_every_key_of_the_json_is_documented(tmp_path):
    said = DOCS.read_text(encoding="utf-8")
    document = summarise(examine(complete_run(tmp_path, slices=8, figures=False)))
    inner = [
        f"{key}[].{name}"
        for key in ("headline", "problems", "bad_slices")
        for name in document[key][0]
    ]
    missing = [key for key in (*document, *inner) if f"`{key}`" not in said]
    assert missing == []


def test_two_zips_of_one_run_have_the_same_bytes_whatever_the_time(page, monkeypatch):
    first = make_bundle(page)
    monkeypatch.setattr(time, "time", lambda: 2e9)
    assert make_bundle(replace(page)) == first


def test_the_zip_holds_the_page_and_its_numbers_below_one_folder(tmp_path):
    page = examine(complete_run(tmp_path, slices=3, image=100))
    with zipfile.ZipFile(io.BytesIO(make_bundle(page))) as archive:
        names = archive.namelist()
        top = "sub-fabricated_quality_report"
        assert set(names) == {
            f"{top}/{top}.html",
            *(f"{top}/report_data/{name}" for name in DATA_FILES),
        }
        assert names == sorted(names)
        assert all(member.date_time[0] == 1980 for member in archive.infolist())
        assert archive.testzip() is None


def test_a_hostile_subject_cannot_leave_the_folder_of_the_zip():
    page = examine(replace(empty_run(), subject="../../etc/\x07passwd"))
    with zipfile.ZipFile(io.BytesIO(make_bundle(page))) as archive:
        for name in archive.namelist():
            assert not name.startswith("/")
            assert ".." not in name.split("/")


def test_the_checksums_are_those_of_the_files(page):
    lines = page.data["SHA256SUMS"].decode().splitlines()
    told = {name: digest for digest, name in (line.split("  ") for line in lines)}
    assert set(told) == set(DATA_FILES) - {"SHA256SUMS"}
    for name, digest in told.items():
        assert hashlib.sha256(page.data[name]).hexdigest() == digest
