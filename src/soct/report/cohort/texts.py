"""What is said of a run's place, in words; and the rows of ``cohort.tsv``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from soct.report.cohort import Cohort, Placed
from soct.report.cohort.places import SMALLEST, Place, Spread
from soct.report.markup import count, number

TOO_FEW = f"Nothing can be said about places: that takes at least {SMALLEST} finished runs, and there {{}}."
HEADER = (
    "rank", "path", "subject", "state", "verdict", "profile", "metric", "value", "status", "robust_z",
    "threshold", "stands_out", "place", "of", "note",
)  # fmt: skip


def too_few(cohort: Cohort) -> str:
    """Say that there are too few runs."""
    known = cohort.finished
    return TOO_FEW.format(f"{'is' if known == 1 else 'are'} {known or 'none'}")


def how_far(place: Place, spread: Spread) -> str:
    """Say how far a number lies from the others: ``2 900 µm, 41 deviations worse than the median 180 µm``."""
    side = "worse" if place.z > 0 else "better"
    median = "–" if spread.median is None else number(spread.scale * spread.median, spread.unit)
    if place.z == 0:
        return f"{place.text}, the median"
    far = number(float(abs(place.z)), digits=2)
    return f"{place.text}, {far} robust deviations {side} than the median {median}"


def standing_out(run: Placed, cohort: Cohort) -> str:
    """Say by which number a run stands out most, and name the others; empty where it does not."""
    if not run.outliers:
        return ""
    first, *rest = run.outliers
    spread = cohort.spread(first.name)
    assert spread is not None
    text = f"{first.label}: {how_far(first, spread)}"
    return text + (f"; also {', '.join(p.label for p in rest)}" if rest else "")


def overview(cohort: Cohort) -> str:
    """Return one sentence on how many runs there are, in which state and with which verdict."""
    states = Counter(run.member.state for run in cohort.runs)
    grades = Counter(run.member.grade.value for run in cohort.runs)
    parts = [f"{states[s]} {s}" for s in ("complete", "partial", "failed", "running") if states[s]]
    verdicts = [f"{grades[g]} {g}" for g in ("PASS", "REVIEW", "FAIL") if grades[g]]
    subjects = Counter(run.member.subject for run in cohort.runs)
    text = f"{count(len(cohort.runs), 'run')} of {count(len(subjects), 'subject')}: "
    text += f"{', '.join(parts)}; {', '.join(verdicts)}." if parts else "none can be read."
    several = sorted(s for s, n in subjects.items() if n > 1)
    if several:
        named = ", ".join(several[:6]) + (" and more" if len(several) > 6 else "")
        text += f" Counted more than once, as there are several runs: {named}."
    if cohort.unreadable:
        text += f" {count(len(cohort.unreadable), 'run')} cannot be read."
    return text


def cohort_rows(cohort: Cohort) -> Iterator[Sequence[object]]:
    """Yield one row per run and headline number, and one per run that cannot be read."""
    for rank, run in enumerate(cohort.runs, 1):
        m = run.member
        head = (rank, m.path, m.subject, m.state, m.grade.value, m.profile)
        for h in m.headlines:
            place, spread = run.place(h.id), cohort.spread(h.id)
            limit = None if spread is None else spread.threshold
            if place is None:
                yield *head, h.id, h.value, h.status.value, None, limit, "", None, None, ""
                continue
            side = "worse" if place.is_outlier else "better" if place.is_better_than_all else ""
            yield (
                *head, h.id, h.value, h.status.value, place.z, limit, side, place.rank, place.count, "",
            )  # fmt: skip
    for lost in cohort.unreadable:
        yield None, lost.path, "", "unreadable", "", "", "", None, "", None, None, "", None, None, lost.reason  # fmt: skip
