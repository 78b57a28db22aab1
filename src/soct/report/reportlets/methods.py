"""Section 14: the methods text, written from the steps that ran with the values that they had."""

from __future__ import annotations

import re

from markupsafe import Markup

from soct.report.citations import CITATIONS, METHODS
from soct.report.markup import code, details, join, note, number, unit_text
from soct.report.model import RunView
from soct.report.reportlet import Page, Reportlet


def render(page: Page) -> Markup:
    """Draw the text, the references and their BibTeX."""
    text, cited = compose_methods(page.view)
    if not text:
        return note("No step has finished yet.")
    references = join(
        Markup("<li>{}. <code>doi:{}</code></li>").format(CITATIONS[key].text, CITATIONS[key].doi)
        for key in cited
    )
    return join(
        [
            join(Markup("<p>{}</p>").format(paragraph) for paragraph in text.split("\n")),
            Markup("<h3>References</h3><ol>{}</ol>").format(references),
            details("LaTeX", code(methods_as_latex(page.view))),
            details("BibTeX", code("\n\n".join(CITATIONS[key].bibtex(key) for key in cited))),
        ]
    )


def compose_methods(view: RunView) -> tuple[str, tuple[str, ...]]:
    """Return the methods text and the citation keys in the order in which they are cited.

    Only steps of which a unit finished are described, with the parameters of this run's profile.
    """
    ran = {s.id for s in view.steps if any(u.finished for u in s.units)}
    cited: list[str] = []
    sentences = []
    for step, method in METHODS.items():
        if step not in ran:
            continue
        marks = []
        for key in method.cites:
            if key not in cited:
                cited.append(key)
            marks.append(str(cited.index(key) + 1))
        values = [
            f"{label} {number_of(p.value)}{f' {unit_text(p.unit)}' if p.unit else ''}"
            for key, label in method.parameters
            if (p := view.parameter(f"{step}.{key}")) is not None and p.value.strip()
        ]
        sentence = method.sentence
        if values:
            sentence = f"{sentence} ({', '.join(values)})"
        if marks:
            sentence = f"{sentence} [{', '.join(marks)}]"
        sentences.append(f"{sentence}.")
    if not sentences:
        return "", ()
    version = f" version {view.soct_version}" if view.soct_version else ""
    opening = f"Data were reconstructed with soct{version}, profile “{view.profile}”."
    used = [row for row in view.ledger if row.used and not row.missing]
    if view.ledger:
        acquired = sum(not row.missing for row in view.ledger)
        opening += f" Of {acquired} acquired slices {len(used)} were used."
    return f"{opening}\n{' '.join(sentences)}", tuple(cited)


_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{",
    "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "µ": r"\textmu{}",
    "°": r"\textdegree{}", "“": "``", "”": "''", "’": "'", "–": "--", "−": "$-$", "×": r"$\times$",
    "\u202f": r"\,",
}  # fmt: skip
_MARKS = re.compile(r" \[(\d+(?:, \d+)*)\]")


def methods_as_latex(view: RunView) -> str:
    """Return the methods text for a LaTeX document, with the keys of the BibTeX entries."""
    text, cited = compose_methods(view)
    parts = _MARKS.split(text)
    # Text and the numbers of citations take turns.
    written = [
        "".join(_LATEX.get(letter, letter) for letter in part)
        if k % 2 == 0
        else "~\\cite{" + ",".join(cited[int(n) - 1] for n in part.split(", ")) + "}"
        for k, part in enumerate(parts)
    ]
    return "".join(written).replace("\n", "\n\n")


def number_of(value: str) -> str:
    """Write a parameter's text as a number where it is one."""
    try:
        return number(float(value), digits=4)
    except ValueError:
        return value


REPORTLET = Reportlet(
    id="methods",
    order=130,
    title="Methods and citations",
    question="What can be written in a paper about how this volume was made?",
    render=render,
)
