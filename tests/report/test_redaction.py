"""A redacted report holds no path, host, user or subject, in any form, and stays readable."""

from __future__ import annotations

import io
import json
import re
import zipfile
from dataclasses import replace

import pytest

from soct.report.bundle import make_bundle
from soct.report.data_files import summarise_as_json
from soct.report.identity import run_key
from soct.report.model import (
    AcquisitionView,
    DecisionView,
    FailureView,
    InvocationView,
    LedgerRow,
    MetadataView,
    ParameterView,
    RatingView,
    RunView,
    TileProblem,
    UnitView,
)
from soct.report.plain_text import summarise_as_text
from soct.report.redaction import pseudonym, redact
from soct.report.rendering import encode_html, examine
from tests.report.fabricated import complete_run, empty_run, failed_run

FOLDER = "/data/labquux/Mouse Quux 7/raw"
SUBJECT = "sub-Zebedee"
PLANTED = ("quux", "zebedee", "wobble")
TEXTS = (
    f"cannot read {FOLDER}/z03/tile_x00_y01_z03/image_00.bin",
    "labquux/session_wobble/tile_x00_y01_z03/image_00.bin is truncated",
    r"C:\Users\userquux\brain.oct and \\hostquux\share\x.bin",
    "see file:///home/userquux/notes_wobble/a.csv on HOSTQUUX, asked by userquux (Zebedee_v2, SUB-ZEBEDEE)",
    "~userquux/wobble/x.csv",
    "in /srv/wobblequux",
)
TRACE = (
    'Traceback (most recent call last):\n  File "/home/userquux/.venv/lib/python3.11/site-packages/soct/steps/'
    'stack.py", line 3, in run\n  File "/home/userquux/wobble/mine.py", line 9'
)


def planted(view: RunView) -> RunView:
    """Put names wherever a run can hold them."""
    said = " ; ".join(TEXTS)
    failure = FailureView("StepError", said, f"{FOLDER}/z03", said, said, said, TRACE)

    def unit(i: int, found: UnitView) -> UnitView:
        return replace(
            found, warnings=(said,), fallbacks=(said,), reason=said, worker="hostquux:4711",
            decisions=tuple(replace(d, reason=said) for d in found.decisions) or (DecisionView(0, "use", said, said),),
            metrics=tuple(replace(m, value=said) if isinstance(m.value, str) else m for m in found.metrics),
            outputs=tuple(replace(o, path=f"stack/{SUBJECT}.ome.zarr") for o in found.outputs),
            failure=failure if i == 0 else None, state="failed" if i == 0 else found.state,
        )  # fmt: skip

    acquisition = AcquisitionView(
        path=FOLDER,
        slices=tuple(
            replace(s, problems=(TileProblem(
                s.slice_id, 0, 0, "truncated", said, f"session_wobble/tile_x00_y00_z{s.slice_id:02d}/image_00.bin", said, said,
            ),))
            for s in view.acquisition.slices
        ),
        metadata=(MetadataView("operator", "Dr Wobble"), MetadataView("overlap_fraction", "0.2")),
        ignored=("session_wobble/readme.txt", "Thumbs.db"),
        fingerprints=(("0", "ab12"), ("1", "cd34")),
    )  # fmt: skip
    return replace(
        view,
        subject=SUBJECT,
        steps=tuple(replace(s, units=tuple(unit(i, u) for i, u in enumerate(s.units))) for s in view.steps),
        acquisition=acquisition,
        invocations=(InvocationView(
            f"soct run '{FOLDER}' /scratch/userquux/out --profile wobble/mine.yaml --subject {SUBJECT} --set stack.blend_depth_um=60 --cpus 2",
            "2024-03-01T09:00:00+00:00", "2024-03-01T10:00:00+00:00", said, "hostquux", 2, 8 << 30, 20, 0,
        ),),
        ledger=(LedgerRow(0, False, said, "user", columns={"notes": said}), *view.ledger[1:]),
        parameters=(
            ParameterView("align_to_ras.atlas", "/atlases/wobble/allen.nrrd", "", "/home/userquux/wobble/mine.yaml:7"),
            ParameterView("stack.blend_depth_um", "60.0", "um", "wobble/lab.yaml:3"),
        ),
        container="registry.quux.example/soct@sha256:" + "0a" * 32,
        run_folder="Zebedee_wobble_run",
        private=("userquux", "/scratch/userquux/Zebedee_wobble_run"),
        ratings=(RatingView("Ann Wobble", "accept", "k", comment=said), ),
        rating_faults=("Ann-Wobble_1.json: no JSON",),
    )  # fmt: skip


def everything(view: RunView) -> dict[str, str]:
    """Every form of a report as text, by name; file names of the zip included."""
    page = examine(view)
    forms = {
        "html": encode_html(page).decode(),
        "text": summarise_as_text(page),
        "json": summarise_as_json(page),
    }
    with zipfile.ZipFile(io.BytesIO(make_bundle(page))) as archive:
        for name in archive.namelist():
            forms[f"zip {name}"] = name + archive.read(name).decode()
    return forms


@pytest.mark.parametrize("make", [complete_run, failed_run])
def test_no_planted_name_is_left_in_any_form(tmp_path, make):
    view = planted(make(tmp_path))
    before = everything(view)
    for name in PLANTED:
        assert any(name in text.lower() for text in before.values())
    for form, text in everything(redact(view)).items():
        readable = re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]*", "", text)
        for name in (*PLANTED, "/data/", "/home/", "/scratch", "c:\\", "\\\\"):
            found = readable.lower().find(name)
            assert found < 0, (form, readable[max(0, found - 60) : found + 60])


def test_what_is_left_can_still_be_read(tmp_path):
    text = everything(redact(planted(complete_run(tmp_path))))["html"]
    assert "…/tile_x00_y01_z03/image_00.bin is truncated" in text
    assert "soct run INPUT OUTPUT --profile (removed) --subject (removed) --set stack.blend_depth_um=60 --cpus 2" in text  # fmt: skip
    assert "…/mine.yaml:7" in text
    assert "…/soct/steps/stack.py" in text
    assert "host-1" in text
    assert "overlap fraction" in text or "overlap_fraction" in text
    assert f"stack/{pseudonym(planted(empty_run()))}.ome.zarr" in text
    assert "Names and folders were taken out" in text


def test_numbers_problems_and_key_stay_as_they_are(tmp_path):
    view = complete_run(tmp_path)
    before, after = examine(view), examine(redact(view))
    assert after.verdict == before.verdict
    assert [(p.what, p.where, p.rank) for p in after.problems] == [
        (p.what, p.where, p.rank) for p in before.problems
    ]
    assert [h.text for h in after.headlines] == [h.text for h in before.headlines]
    assert run_key(redact(planted(view))) == run_key(planted(view))


def test_soct_s_own_words_are_no_names(tmp_path):
    view = replace(
        complete_run(tmp_path),
        subject="sample",
        acquisition=AcquisitionView(path="/data/raw/stack"),
    )
    redacted = redact(view)
    assert redacted.steps == redact(replace(view, subject="sub-x")).steps
    assert any(row.reason == "no raw data" for row in redacted.ledger)
    assert redacted.subject != "sample"


def test_the_pseudonym_follows_the_raw_data_and_not_the_name():
    def view(subject: str, value: str) -> RunView:
        prints = (("0", value),)
        return replace(
            empty_run(), subject=subject, acquisition=AcquisitionView(fingerprints=prints)
        )

    assert pseudonym(view("a", "1")) == pseudonym(view("b", "1"))
    assert pseudonym(view("a", "1")) != pseudonym(view("a", "2"))
    assert redact(view("a", "1")).subject.startswith("subject-")


def test_names_of_the_other_run_are_taken_out_too():
    other = replace(planted(empty_run()), subject="sub-Florence")
    view = replace(
        empty_run(), rating_faults=(), ledger=(LedgerRow(0, reason="like sub-Florence"),)
    )
    assert "Florence" not in json.dumps(redact(view, also=(other,)).ledger[0].reason)
