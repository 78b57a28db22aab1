"""Every kind of page in a real browser: without error, without network, without script, on paper, by keyboard.

The tests need Chromium or a relative of it (``SOCT_BROWSER`` names one that is not on the PATH). The check of
accessibility is axe-core's, whose script the package axe-core-python carries; ``SOCT_AXE`` names another copy.
"""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest

from soct.report.rendering import render_report
from tests.report.browser import A4_PX, Browser, Tab, find_browser, start_browser
from tests.report.fabricated_options import run_of_noise
from tests.report.pages import NAMES, write_one

pytestmark = pytest.mark.skipif(
    find_browser() is None, reason="no Chromium on the PATH, and SOCT_BROWSER names none"
)
UNFOLD = "document.querySelectorAll('details').forEach(d => { d.open = true; })"
# Of rows and of drawn shapes that differ by nothing but words and numbers one is kept: axe-core takes its time.
THIN_OUT = r"""
for (const part of document.querySelectorAll('tbody, svg')) {
  const known = new Set();
  for (const one of [...part.children]) {
    const kind = part.tagName === 'TBODY' ? one.outerHTML.replace(/>[^<]+</g, '><').replace(/ (id|href|data-sort)="[^"]*"/g, '')
      : one.tagName + one.getAttribute('class') + one.getAttribute('fill');
    if (known.has(kind)) one.remove();
    known.add(kind);
  }
}
"""
# Text and pictures that cannot be seen, but for words kept for screen readers and the hidden half of a flicker.
UNSEEN = """
[...document.querySelectorAll('main *')].filter(e => {
  const speaks = e.tagName === 'IMG' || [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim());
  if (!speaks || e.closest('.hidden, .flicker .before, button[hidden], svg title, option')) return false;
  const box = e.getBoundingClientRect();
  const blank = e.tagName === 'IMG' && !(e.complete && e.naturalWidth > 0);
  return blank || !(box.width > 0 && box.height > 0) || !e.checkVisibility({visibilityProperty: true, opacityProperty: true});
}).map(e => e.outerHTML.slice(0, 160))
"""
# What a chart draws too pale on white: words below a contrast of 4.5, lines and points below 3 (WCAG 1.4.3, 1.4.11).
PALE = """
[...document.querySelectorAll('.chart :is(text, .line, .dot, .limit)')].map(e => {
  const style = getComputedStyle(e), lined = e.matches('.line, .limit') && e.tagName !== 'text';
  const part = (lined ? style.stroke : style.fill).match(/[0-9.]+/g).slice(0, 3).map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  const contrast = 1.05 / (0.2126 * part[0] + 0.7152 * part[1] + 0.0722 * part[2] + 0.05);
  return contrast < (e.tagName === 'text' ? 4.5 : 3) ? contrast.toFixed(1) + ' ' + e.outerHTML.slice(0, 120) : '';
}).filter(Boolean)
"""
# What reaches beyond the edge of the paper or the window and lies in nothing that scrolls.
BEYOND = """
[...document.querySelectorAll('main *')].filter(e => {
  if (e.closest('.hidden') || e.getBoundingClientRect().right <= innerWidth + 1) return false;
  for (let p = e.parentElement; p; p = p.parentElement) if (getComputedStyle(p).overflowX !== 'visible') return false;
  return true;
}).map(e => e.outerHTML.slice(0, 160))
"""
# What scrolls and cannot be scrolled by keyboard.
STUCK = """
[...document.querySelectorAll('main *')].filter(e => e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).overflowX === 'auto'
  && !(e.hasAttribute('tabindex') || e.querySelector('a[href]'))).map(e => e.outerHTML.slice(0, 160))
"""
# One mark for each place where Tab should stop: a group of radio buttons is one.
STOPS = """
(() => { const groups = new Set(); let n = 0;
for (const e of document.querySelectorAll('a[href], button, input, textarea, select, summary, [tabindex="0"]')) {
  if (!e.checkVisibility() || e.hidden) continue;
  // A cell of the heat map is passed over where its row is in a table that the keyboard scrolls.
  if (e.tabIndex < 0 && document.querySelector(e.getAttribute('href')).closest('.scroll[tabindex="0"]')) continue;
  const key = e.type === 'radio' ? 'radio ' + e.name : 'stop ' + n++;
  groups.add(key); e.dataset.stop = key;
}
return [...groups]; })()
"""
FOCUS = """
(() => { const e = document.activeElement;
if (!e || e === document.body || e === document.documentElement) return null;
const drawn = x => x && getComputedStyle(x).outlineStyle !== 'none' && parseFloat(getComputedStyle(x).outlineWidth) >= 1;
const box = e.getBoundingClientRect(), seen = box.bottom > 0 && box.top < innerHeight;
return [e.dataset.stop || e.outerHTML.slice(0, 160), seen && (drawn(e) || (e.type === 'radio' && drawn(e.nextElementSibling)))]; })()
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = find_browser()
    assert program is not None
    with start_browser(program, tmp_path_factory.mktemp("profile")) as running:
        yield running


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    return {name: write_one(name, folder / name) for name in NAMES}


@pytest.fixture(scope="module")
def axe() -> str | None:
    named = os.environ.get("SOCT_AXE")
    found = importlib.util.find_spec("axe_core_python")
    if named is None and (found is None or found.origin is None):
        return None
    path = Path(named) if named else Path(found.origin).with_name("axe.min.js")  # type: ignore[union-attr, arg-type]
    return path.read_text(encoding="utf-8")


@pytest.fixture(
    params=[
        pytest.param(n, marks=pytest.mark.slow) if n in ("failed", "running") else n for n in NAMES
    ]
)
def seen(request, browser, pages, axe) -> Seen:
    return _look(browser, pages[request.param], axe)


def findings(tab: Tab, axe: str) -> list[str]:
    """Return what axe-core objects to, anything from minor to critical."""
    tab.evaluate(axe + "; 0")
    found = tab.evaluate(
        "axe.run(document, {resultTypes: ['violations']}).then(r => [r.passes.length, r.violations.map("
        "v => v.impact + ', ' + v.id + ': ' + v.nodes.slice(0, 3).map(n => n.html.slice(0, 160)).join(' | '))])"
    )
    assert found[0] > 10
    return list(found[1])


def planted(folder: Path, body: str) -> Path:
    path = folder / "planted.html"
    path.write_text(f"<!doctype html><html lang=en><title>t</title><main><h1>t</h1>{body}</main>")
    return path


def test_the_checks_find_what_is_planted(browser, axe, tmp_path):
    body = (
        '<img src="data:image/gif;base64,R0lGODlhAQABAAAAACw=" width=9><p style="color:#bbb">pale</p>'
        '<div style="width:3000px">wide</div><p style="visibility:hidden">gone</p><button style="outline:0">b</button>'
        "<script>fetch('http://example.invalid/x'); console.error('told'); missing()</script>"
    )
    with browser.open(planted(tmp_path, body), requests=True) as tab:
        if axe is not None:
            found = {text.split(":")[0] for text in findings(tab, axe)}
            assert found >= {"critical, image-alt", "serious, color-contrast"}
        told = " ".join(tab.errors())
        assert "told" in told
        assert "missing" in told
        assert tab.requests() == ["http://example.invalid/x"]
        assert any("wide" in text for text in tab.evaluate(BEYOND))
        assert any("gone" in text for text in tab.evaluate(UNSEEN))
        tab.press("Tab", 9)
        assert tab.evaluate(FOCUS)[1] is False


@dataclass
class Seen:
    """What was observed of a page, opened once with script and once without."""

    errors: list[str]
    requests: list[str]
    sections: int
    beyond: dict[str, list[str]] = field(default_factory=dict)
    unseen: dict[str, list[str]] = field(default_factory=dict)
    pale: list[str] = field(default_factory=list)
    axe: list[str] | None = None
    """None where axe-core is not installed."""


@cache
def _look(browser: Browser, path: Path, axe: str | None) -> Seen:
    with browser.open(path, requests=True) as tab:
        seen = Seen(
            tab.errors(),
            tab.requests(),
            tab.evaluate("document.querySelectorAll('section').length"),
        )
        tab.evaluate(UNFOLD)
        for width in (400, 1280):
            tab.resize(width)
            tab.evaluate(
                "new Promise(requestAnimationFrame).then(() => new Promise(requestAnimationFrame))"
            )
            seen.beyond[f"{width} px"] = tab.evaluate(BEYOND) + tab.evaluate(STUCK)
        seen.pale = tab.evaluate(PALE)
        seen.errors += tab.errors()
        if axe is not None:
            tab.evaluate(THIN_OUT)
            seen.axe = findings(tab, axe)
    with browser.open(path, script=False, width=A4_PX, media="print") as tab:
        assert tab.evaluate("document.querySelectorAll('th button').length") == 0
        # The buttons of a flicker are not printed; each picture has its name in its corner.
        seen.unseen["paper"] = [e for e in tab.evaluate(UNSEEN) if not e.startswith("<label for=")]
        both = "[...document.querySelectorAll('.flicker .before')].every(e => e.checkVisibility({visibilityProperty: true}))"
        seen.unseen["paper"] += [] if tab.evaluate(both) else ["the first picture of a flicker"]
        seen.beyond["paper"] = tab.evaluate(BEYOND)
        tab.command("Emulation.setEmulatedMedia", media="screen")
        tab.resize(1280)
        tab.evaluate(UNFOLD)
        seen.unseen["screen"] = tab.evaluate(UNSEEN)
    return seen


def test_a_page_opens_without_an_error_or_a_request(seen):
    assert seen.errors == []
    assert seen.requests == []
    assert seen.sections > 2


def test_axe_finds_nothing_to_object_to(seen):
    if seen.axe is None:
        pytest.skip("axe-core-python is not installed (it is one of the dev dependencies)")
    assert seen.axe == []


def test_charts_are_drawn_in_colours_that_can_be_seen(seen):
    assert seen.pale == []


def test_without_script_all_text_and_all_pictures_are_there(seen):
    assert seen.unseen["screen"] == []


def test_no_page_scrolls_sideways_and_what_does_is_reached_by_keyboard(seen):
    assert (seen.beyond["400 px"], seen.beyond["1280 px"]) == ([], [])


def test_on_paper_nothing_is_folded_hidden_or_cut_off(seen):
    assert seen.unseen["paper"] == []
    assert seen.beyond["paper"] == []


def test_without_script_parts_unfold_and_pictures_flicker(browser, pages):
    with browser.open(pages["complete"], script=False) as tab:
        tab.click("summary")
        assert tab.evaluate("document.querySelector('details').open")
        stage = "document.querySelector('.flicker .stage')"

        def shown(part: str, of: str = "visibility") -> str:
            return tab.evaluate(f"getComputedStyle({stage}.querySelector('.{part}')).{of}")

        assert (shown("before"), shown("after")) == ("hidden", "visible")
        tab.click(".flicker .f-before + label")
        assert (shown("before"), shown("after")) == ("visible", "hidden")
        tab.click(".flicker .f-both + label")
        assert shown("after", "animationName") == "blink"


@pytest.mark.parametrize(("name", "script"), [("complete", False), ("cohort", True)])
def test_a_printed_report_holds_every_heading_and_caption(browser, pages, name, script):
    pdfium = pytest.importorskip(
        "pypdfium2", reason="pypdfium2 is not installed (a dev dependency)"
    )
    with browser.open(pages[name], script=script) as tab:
        printed = pdfium.PdfDocument(tab.print_pdf())
        wanted = tab.evaluate(
            "[...document.querySelectorAll('h1, h2, h3, summary, legend, caption, figcaption, th, td')].map(e => e.textContent)"
        )
    held = _letters(" ".join(sheet.get_textpage().get_text_range() for sheet in printed))
    assert [text for text in wanted if _letters(text) not in held] == []


def _letters(text: str) -> str:
    """Return what is left of a text whatever the way its lines were broken."""
    return "".join(c for c in text if c.isascii() and c.isalnum())


@pytest.mark.parametrize("name", ["complete", "cohort"])
def test_everything_can_be_reached_by_keyboard_and_shows_that_it_is(browser, pages, name):
    with browser.open(pages[name]) as tab:
        tab.evaluate(UNFOLD + "; " + THIN_OUT)
        stops = set(tab.evaluate(STOPS))
        reached: set[str] = set()
        for _ in range(2 * len(stops)):
            tab.press("Tab", 9)
            focus = tab.evaluate(FOCUS)
            if focus is None or focus[0] in reached:
                break
            assert focus[1], f"no visible focus: {focus[0]}"
            reached.add(focus[0])
        assert stops - reached == set()


@pytest.mark.slow
def test_a_hundred_slices_of_a_hundred_tiles_open_within_two_seconds(browser, tmp_path):
    path = render_report(run_of_noise(tmp_path), tmp_path / "out")
    assert path.stat().st_size < 15_000_000
    taken = []
    for _ in range(3):
        with browser.open(path, requests=True) as tab:
            # Of the page's process, because the wall clock measures what else the machine does.
            taken.append(tab.processor_seconds())
            assert tab.errors() == []
            assert tab.requests() == []
    assert min(taken) < 2, json.dumps(taken)
