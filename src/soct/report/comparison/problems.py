"""Problems that one run has and the other has not."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from soct.report.problems import Problem


@dataclass(frozen=True)
class ProblemDifference:
    """A problem of one run only, or of both in other places."""

    who: Literal["this", "other", "both"]
    problem: Problem
    """Of this run where it has it."""
    elsewhere: str = ""
    """For ``both``: where the other run has it."""


def compare_problems(
    mine: Sequence[Problem], its: Sequence[Problem]
) -> tuple[ProblemDifference, ...]:
    """Return what only this run has, then what only the other has, then what lies in other places."""
    here, there = _by_title(mine), _by_title(its)
    only_here = [ProblemDifference("this", p) for key, p in here.items() if key not in there]
    only_there = [ProblemDifference("other", p) for key, p in there.items() if key not in here]
    moved = [
        ProblemDifference("both", p, there[key].where)
        for key, p in here.items()
        if key in there and p.where != there[key].where
    ]
    return (*only_here, *only_there, *moved)


def _by_title(problems: Sequence[Problem]) -> dict[tuple[str, str], Problem]:
    """Problems by what they say, without counts; several of one title are told apart by their evidence."""
    found: dict[tuple[str, str], Problem] = {}
    titles = [_title(p) for p in problems]
    for problem, title in zip(problems, titles, strict=True):
        detail = re.sub(r"[\d.,\s]+", "#", problem.evidence) if titles.count(title) > 1 else ""
        found.setdefault((title, detail), problem)
    return found


def _title(problem: Problem) -> str:
    return re.sub(r" \(\d+\)$", "", problem.what).removesuffix("s")
