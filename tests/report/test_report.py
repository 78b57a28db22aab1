"""The page as a whole: what it promises whatever the run."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from markupsafe import Markup

from soct.quality.verdict import Grade
from soct.report.data_files import DATA_FILES, summarise_as_json
from soct.report.model import FailureView, LedgerRow, ParameterView, RunView, StepView, UnitView
from soct.report.plain_text import summarise_as_text
from soct.report.rendering import examine, render_html, render_report, report_name
from soct.report.reportlet import Reportlet, load_reportlets
from tests.report.fabricated import complete_run, empty_run, failed_run, running_run
from tests.report.fabricated_options import run_of_noise

HOSTILE = (
    "\"><script>alert(1)</script><img src=x onerror=alert(1)>'--\u202e\x07 {{7*7}} javascript:"
)


class _Page(HTMLParser):
    """Collects what a browser would act on."""

    VOID = frozenset(("meta", "link", "img", "input", "br", "hr"))

    def __init__(self, text: str) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.ids: list[str] = []
        self.unbalanced: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if "id" in dict(attrs):
            self.ids.append(dict(attrs)["id"])
        if tag not in self.VOID and not (self.get_starttag_text() or "").endswith("/>"):
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if not self.stack or self.stack.pop() != tag:
            self.unbalanced.append(tag)


@pytest.fixture(params=["complete", "failed", "running", "empty", "one slice"])
def view(request, tmp_path) -> RunView:
    if request.param == "empty":
        return empty_run()
    if request.param == "one slice":
        return complete_run(tmp_path, slices=1, side=1, image=120)
    make = {"complete": complete_run, "failed": failed_run, "running": running_run}[request.param]
    return make(tmp_path)


def test_every_state_of_a_run_has_a_whole_report(view):
    text = render_html(examine(view))
    page = _Page(text)
    assert page.unbalanced == []
    assert page.stack == []
    assert "could not be" not in text
    assert len(page.ids) == len(set(page.ids))
    links = {
        a["href"][1:] for t, a in page.tags if t == "a" and (a.get("href") or "").startswith("#")
    }
    assert links <= set(page.ids)


def test_the_page_reaches_for_nothing_outside_itself(view):
    text = render_html(examine(view))
    assert "http:" not in text.replace("http-equiv", "")
    assert "https:" not in text
    for _, attributes in _Page(text).tags:
        for name in ("src", "href", "xlink:href", "action", "srcset", "data"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:"))
    assert "default-src 'none'" in text
    style = text[text.index("<style>") : text.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style


def test_every_image_says_what_it_shows(view):
    for tag, attributes in _Page(render_html(examine(view))).tags:
        if tag == "img":
            assert attributes["alt"]
        if tag == "svg":
            assert attributes.get("aria-label") or attributes.get("aria-hidden")


def test_two_renderings_have_the_same_bytes(view, tmp_path):
    first = render_report(view, tmp_path / "a")
    second = render_report(view, tmp_path / "b")
    assert first.read_bytes() == second.read_bytes()
    for name in DATA_FILES:
        a, b = (tmp_path / folder / "report_data" / name for folder in "ab")
        assert a.read_bytes() == b.read_bytes()


def _hostile(view: RunView) -> RunView:
    bad = HOSTILE
    failure = FailureView(bad, bad, bad, bad, bad, bad, bad)
    steps = []
    for step in view.steps:
        units = tuple(
            replace(
                u, state="failed" if i == 0 else u.state, failure=failure, warnings=(bad,),
                fallbacks=(bad,), reason=bad, backend=bad,
                metrics=tuple(replace(m, name=m.name if i else bad, unit=bad, description=bad) for m in u.metrics),
                decisions=tuple(replace(d, reason=bad, column=bad, value=bad) for d in u.decisions),
                outputs=tuple(replace(o, path=bad, checksum=bad) for o in u.outputs),
            )
            for i, u in enumerate(step.units)
        )  # fmt: skip
        steps.append(replace(step, summary=bad, units=units))
    acquisition = replace(
        view.acquisition,
        path=bad,
        ignored=(bad,),
        fingerprints=((bad, bad),),
        metadata=tuple(replace(m, name=bad, value=bad, source=bad, unit=bad) for m in view.acquisition.metadata),
        slices=tuple(
            replace(s, problems=tuple(replace(p, kind=bad, message=bad, file=bad, expected=bad, found=bad) for p in s.problems))
            for s in view.acquisition.slices
        ),
    )  # fmt: skip
    assert view.volume is not None
    return replace(
        view,
        subject=bad,
        profile=bad,
        soct_version=bad,
        container=bad,
        steps=tuple(steps),
        acquisition=acquisition,
        ledger=tuple(replace(r, reason=bad, decided_by=bad, columns={bad: bad}) for r in view.ledger),
        invocations=tuple(replace(i, command=bad, started=bad, ended=bad, outcome=bad, host=bad) for i in view.invocations),
        parameters=(ParameterView(bad, bad, bad, bad, bad),),
        packages=((bad, bad),),
        volume=replace(view.volume, path=bad, validation=bad, dtype=bad, codec=bad, orientation=bad),
    )  # fmt: skip


def test_hostile_names_are_text_everywhere(tmp_path):
    plain = complete_run(tmp_path, slices=4, side=2, image=100)
    harmless = _Page(render_html(examine(_hostile(plain))))
    scripts = [a for t, a in harmless.tags if t == "script"]
    assert scripts == [{}]
    assert not any(name.startswith("on") for _, a in harmless.tags for name in a)
    assert not any("alert" in (a.get("src") or "") for _, a in harmless.tags)
    assert harmless.unbalanced == []
    text = render_html(examine(_hostile(plain)))
    assert "\u202e" not in text
    assert "\x07" not in text
    assert "{{7*7}}" in text


def test_a_hostile_subject_stays_inside_the_folder(tmp_path):
    view = replace(empty_run(), subject="../../" + HOSTILE + "é" * 300)
    path = render_report(view, tmp_path)
    assert path.parent == tmp_path
    assert path.name.endswith("_quality_report.html")
    assert len(path.name.encode()) <= 255
    assert report_name("...") == "run_quality_report.html"


def test_a_reportlet_that_raises_is_a_red_card_and_the_rest_stays(tmp_path):
    def fail(page):
        raise RuntimeError("<b>boom</b>")

    broken = Reportlet("broken", 15, "Broken", "Does it break?", fail)
    text = render_html(examine(empty_run()), (*load_reportlets(), broken))
    assert "&lt;b&gt;boom&lt;/b&gt;" in text
    assert text.count("card failed") == 1
    assert 'id="glossary"' in text


@pytest.mark.parametrize("damage", ["missing", "truncated", "not a zip", "pickle", "wrong arrays"])
def test_a_broken_figure_is_a_red_card_and_the_rest_stays(tmp_path, damage):
    view = complete_run(tmp_path, slices=3, side=2, image=100)
    path = view.figures["stack", "run"]
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[:500])
    elif damage == "not a zip":
        path.write_bytes(b"no figure at all")
    elif damage == "pickle":
        np.savez(path, ortho_z=np.array([object()]))
    else:
        np.savez(path, ortho_z=np.zeros(3), voxel_um=np.zeros(0))
    text = render_html(examine(view))
    assert "could not be drawn" in text
    assert _Page(text).unbalanced == []
    assert 'id="stitching"' in text
    assert text.count("stage only") > 0 or damage != "wrong arrays"


def test_figures_without_a_single_finite_value_are_drawn(tmp_path):
    view = complete_run(tmp_path, slices=3, side=2, image=100)
    for path in view.figures.values():
        with np.load(path) as archive:
            arrays = {
                k: np.full(v.shape, np.nan) if v.dtype.kind == "f" and k != "voxel_um" else v
                for k, v in archive.items()
            }
        np.savez(path, **arrays)
    assert _Page(render_html(examine(view))).unbalanced == []


@pytest.mark.slow
def test_a_hundred_slices_of_a_hundred_tiles_stay_below_fifteen_megabytes(tmp_path):
    assert render_report(run_of_noise(tmp_path), tmp_path / "out").stat().st_size < 15_000_000


def test_500_slices_without_figures_stay_small(tmp_path):
    view = complete_run(tmp_path, slices=500, side=1, figures=False)
    path = render_report(view, tmp_path / "out")
    assert path.stat().st_size < 6_000_000
    assert "could not be" not in path.read_text(encoding="utf-8")


def test_a_clean_run_passes_and_shows_no_problem(tmp_path):
    page = examine(complete_run(tmp_path, slices=8, faults=False))
    serious = [p for p in page.problems if p.severity != "info" and "warns" not in p.what]
    assert serious == []
    assert page.verdict.grade is Grade.PASS


def test_the_planted_bad_slice_is_the_first_problem(tmp_path):
    page = examine(complete_run(tmp_path, slices=12))
    assert page.problems[0].where.startswith("slice 4 ")
    assert any("register_pairwise.max_rotation_deg" in k for k, _, _ in page.problems[0].settings)


def test_a_failed_unit_comes_before_everything(tmp_path):
    page = examine(failed_run(tmp_path))
    assert page.problems[0].what == "register_pairwise failed"
    assert page.verdict.grade is Grade.FAIL


def test_what_is_copied_into_a_bug_report_names_no_folders(tmp_path):
    text = render_html(examine(failed_run(tmp_path)))
    assert "/home/somebody" not in text
    assert "/data/lab" not in text
    assert "…/x.py" in text


def test_an_excluded_slice_is_never_silent(tmp_path):
    ledger = (
        LedgerRow(0),
        LedgerRow(1, used=False, reason="torn", decided_by="auto_exclude_slices"),
    )
    page = examine(replace(empty_run(), ledger=ledger))
    assert any("Excluded" in p.what and p.where == "slice 1" for p in page.problems)
    assert "torn" in render_html(page)


def test_settings_that_the_profile_lacks_are_not_recommended(tmp_path):
    view = replace(complete_run(tmp_path, slices=8), parameters=())
    assert all(p.settings == () for p in examine(view).problems)


def test_the_numbers_are_written_beside_the_page(tmp_path):
    render_report(complete_run(tmp_path, slices=4, figures=False), tmp_path)
    summary = json.loads((tmp_path / "report_data/summary.json").read_text())
    assert summary["verdict"] in ("PASS", "REVIEW", "FAIL")
    metrics = (tmp_path / "report_data/metrics.tsv").read_text().splitlines()
    assert metrics[0].split("\t")[:4] == ["step", "unit", "metric", "value"]
    assert len({line.count("\t") for line in metrics}) == 1


def test_what_is_not_finite_is_null_in_json():
    unit = UnitView("stack", state="done", metrics=())
    view = replace(empty_run(), steps=(StepView("stack", units=(unit,)),))
    assert json.loads(summarise_as_json(examine(view)))["subject"] == "sub-empty"


def test_the_text_report_holds_no_control_characters(tmp_path):
    view = _hostile(complete_run(tmp_path, slices=4, figures=False))
    text = summarise_as_text(examine(view))
    assert re.search(r"[\x00-\x09\x0b-\x1f\u202a-\u202e]", text) is None


def test_the_script_is_the_one_that_the_policy_allows():
    import base64
    import hashlib

    text = render_html(examine(empty_run()))
    script = text[text.index("<script>") + 8 : text.rindex("</script>")]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"'sha256-{digest}'" in text


def test_markup_pieces_escape_what_they_are_given():
    from soct.report.markup import note, table

    assert "<i>" not in table(["<i>"], [["<i>"]], caption="<i>")
    assert note(Markup("<i>x</i>")).count("<i>") == 1


def test_every_recommended_and_every_quoted_setting_exists():
    from soct.report.advice import ADVICE
    from soct.report.citations import METHODS
    from soct.steps.registry import load_steps

    steps = load_steps()
    quoted = [f"{step}.{name}" for step, m in METHODS.items() for name, _ in m.parameters]
    recommended = [key for advice in ADVICE.values() for key, _ in advice.settings]
    known = {f"{step}.{name}" for step in steps for name in steps[step].params.model_fields}
    assert set(METHODS) <= set(steps)
    assert set(quoted) | set(recommended) <= known


def test_every_limit_has_advice_or_is_counted():
    from soct.quality.limits import QualityLimits
    from soct.report.advice import ADVICE

    assert set(QualityLimits.model_fields) - set(ADVICE) == {"slices_used", "tiles_used"}
