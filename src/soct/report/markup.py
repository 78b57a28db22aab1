"""The few HTML pieces that all reportlets are made of.

Everything is built with `markupsafe.Markup.format`, which escapes each argument: text from outside (names,
messages, paths, tracebacks) can only ever become text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from soct.report.images import Picture
from soct.report.model import MetricValue

EMPTY = Markup("")
STATUS_MARKS = {"ok": "✓", "warning": "!", "error": "✕", "info": "·"}
_STATUS_WORDS = {"ok": "ok", "warning": "warning", "error": "error", "info": "information"}
# Control, format (with the bidirectional overrides), separator, surrogate and private-use characters.
_ACTIVE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u0600-\u0605\u061c\u06dd\u070f\u180e\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\ud800-\udfff\ue000-\uf8ff\ufeff\ufff9-\ufffb\U0001d173-\U0001d17a\U000e0000-\U000e007f]"
)
_PLAIN_UNITS = {"um": "µm", "deg": "°", "%": "%", "": ""}


def join(parts: Iterable[Markup | str]) -> Markup:
    """Concatenate pieces of markup; plain text among them is escaped."""
    return EMPTY.join(parts)


def number(value: MetricValue, unit: str = "", *, digits: int = 3) -> str:
    """Write a value for people: three significant digits, thin spaces, the unit as printed in papers."""
    sign = _PLAIN_UNITS.get(unit, unit)
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    if value != value:
        return "not a number"
    text = _significant(float(value), digits) if isinstance(value, float) else f"{value:,}"
    text = text.replace(",", "\u202f").replace("-", "−")
    return f"{text}{sign}" if sign in ("", "°") else f"{text}\u202f{sign}"


def unit_text(unit: str) -> str:
    """Return a unit as it is printed in papers."""
    return _PLAIN_UNITS.get(unit, unit)


def words(metric: str) -> str:
    """Return a metric's name in words, without its unit: ``tile_residual_p95_um`` as ``tile residual p95``."""
    for suffix in ("_um", "_deg", "_percent", "_px"):
        metric = metric.removesuffix(suffix)
    return metric.replace("_", " ").replace("ncc", "NCC")


def count(amount: int, noun: str) -> str:
    """Return a number with its noun in the right form."""
    return f"{amount:,} {noun}{'' if amount == 1 else 's'}".replace(",", "\u202f")


def _significant(value: float, digits: int) -> str:
    if abs(value) == float("inf"):
        return "infinite"
    if value == 0 or abs(value) < 1e-12:
        return "0"
    if abs(value) >= 1e6 or abs(value) < 1e-4:
        return f"{value:.{digits - 1}e}"
    text = f"{value:.{digits}g}"
    return f"{float(text):,.0f}" if "e" in text or abs(value) >= 1000 else text


def size(count: int | None) -> str:
    """Write a number of bytes for people."""
    if count is None:
        return "–"
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if abs(amount) < 1000:
            return number(amount, unit)
        amount /= 1000
    return number(amount, "TB")


def duration(seconds: float | None) -> str:
    """Write a time span for people."""
    if seconds is None:
        return "–"
    if seconds < 100:
        return number(round(seconds, 1), "s")
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def visible(text: str) -> str:
    """Return text in which control and direction characters are written out, so names can't fool the eye.

    The whole page goes through this once; reportlets need not call it.
    """
    return _ACTIVE.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def pill(status: str, text: str = "") -> Markup:
    """Return a small coloured mark with a symbol, so that colour never speaks alone."""
    return Markup('<span class="pill {}"><span aria-hidden="true">{}</span> {}</span>').format(
        status if status in STATUS_MARKS else "info",
        STATUS_MARKS.get(status, "·"),
        text or _STATUS_WORDS.get(status, status),
    )


@dataclass(frozen=True)
class Cell:
    """A table cell with more than its text."""

    text: str | Markup
    sort: float | None = None
    """What the column is sorted by, where the text would mislead."""
    css: str = ""


@dataclass(frozen=True)
class Row:
    """A table row that can be linked to."""

    cells: Sequence[Cell | Markup | str]
    id: str = ""
    css: str = ""
    tags: tuple[str, ...] = field(default=())


def table(
    headers: Sequence[str],
    rows: Sequence[Row | Sequence[Cell | Markup | str]],
    *,
    caption: str,
    numeric: Sequence[int] = (),
    sortable: bool = True,
    empty: str = "None.",
) -> Markup:
    """Return a table with a caption; its columns can be sorted where JavaScript runs."""
    if not rows:
        return Markup('<p class="none">{}</p>').format(empty)
    head = join(
        Markup('<th scope="col"{}>{}</th>').format(
            Markup(' class="num"') if i in numeric else EMPTY, title
        )
        for i, title in enumerate(headers)
    )
    body = join(_row(row if isinstance(row, Row) else Row(row), numeric) for row in rows)
    return Markup(
        '<div class="scroll" tabindex="0" role="region" aria-label="{}"><table{}><caption><span>{}</span></caption>'
        "<thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>"
    ).format(caption, Markup(' class="sortable"') if sortable else EMPTY, caption, head, body)


def _row(row: Row, numeric: Sequence[int]) -> Markup:
    cells = []
    for i, cell in enumerate(row.cells):
        full = cell if isinstance(cell, Cell) else Cell(cell)
        css = " ".join(filter(None, ("num" if i in numeric else "", full.css)))
        sort = EMPTY if full.sort is None else Markup(' data-sort="{}"').format(f"{full.sort:.9g}")
        cells.append(
            Markup("<td{}{}>{}</td>").format(
                Markup(' class="{}"').format(css) if css else EMPTY, sort, full.text
            )
        )
    return Markup("<tr{}{}>{}</tr>").format(
        Markup(' id="{}"').format(row.id) if row.id else EMPTY,
        Markup(' class="{}"').format(row.css) if row.css else EMPTY,
        join(cells),
    )


def facts(pairs: Iterable[tuple[str, Markup | str]]) -> Markup:
    """Return a list of terms with their values."""
    return Markup('<dl class="facts">{}</dl>').format(
        join(Markup("<div><dt>{}</dt><dd>{}</dd></div>").format(k, v) for k, v in pairs)
    )


def details(summary: Markup | str, body: Markup, *, opened: bool = False, css: str = "") -> Markup:
    """Return a part that is folded until asked for (it is printed unfolded)."""
    return Markup('<details class="{}"{}><summary>{}</summary>{}</details>').format(
        css, Markup(" open") if opened else EMPTY, summary, body
    )


def picture(
    image: Picture, alt: str, *, overlay: Markup = EMPTY, css: str = "", width: int | None = None
) -> Markup:
    """Return an image in its physical shape, with an optional SVG drawn over it."""
    shown = width or image.width
    return Markup(
        '<div class="picture {}" style="max-width:{}px"><img src="{}" alt="{}" width="{}" height="{}" style="aspect-ratio:{}">{}</div>'
    ).format(
        css, shown, image.uri, alt, shown, max(1, round(shown * image.aspect)), f"{1 / image.aspect:.4f}", overlay,
    )  # fmt: skip


def figure(body: Markup, caption: Markup | str = "", *, css: str = "") -> Markup:
    """Return a figure with its caption."""
    note = Markup("<figcaption>{}</figcaption>").format(caption) if caption else EMPTY
    return Markup('<figure class="{}">{}{}</figure>').format(css, body, note)


def flicker(
    key: str,
    before: Markup,
    after: Markup,
    *,
    labels: tuple[str, str],
    title: str,
) -> Markup:
    """Return two pictures in one place, switched by radio buttons and CSS alone; side by side on paper.

    Parameters
    ----------
    key : str
        Unique on the page.
    before, after : Markup
        Two pictures of one size.
    labels : (str, str)
        What the two are.
    title : str
        Names the group of buttons.
    """
    buttons = join(
        Markup(
            '<input type="radio" name="{0}" id="{0}-{1}" class="f-{1}"{2}><label for="{0}-{1}">{3}</label>'
        ).format(key, kind, Markup(" checked") if kind == "after" else EMPTY, text)
        for kind, text in zip(("before", "after", "both"), (*labels, "flicker"), strict=True)
    )
    return Markup(
        '<fieldset class="flicker"><legend>{}</legend>{}<div class="stage">'
        '<div class="before"><span class="tag">{}</span>{}</div>'
        '<div class="after"><span class="tag">{}</span>{}</div></div></fieldset>'
    ).format(title, buttons, labels[0], before, labels[1], after)


def error_card(title: str, message: str) -> Markup:
    """Return the red card that stands where something could not be shown."""
    return Markup(
        '<div class="card failed" role="alert"><strong>{}</strong><p>{}</p></div>'
    ).format(title, message)


def note(text: Markup | str) -> Markup:
    """Return a quiet paragraph that says why something is not here."""
    return Markup('<p class="none">{}</p>').format(text)


def code(text: str) -> Markup:
    """Return a copyable block."""
    return Markup('<pre tabindex="0"><code>{}</code></pre>').format(text)
