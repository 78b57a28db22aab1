"""Two runs beside each other: what was asked differently, and what came out differently.

Everything is read from what both runs saved: parameters with their origin, metrics, decisions, poses and the
hashes of outputs. "This run" is the one that the report is about; differences are this run less the other.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from soct.report.comparison.metrics import (
    HeadlineChange,
    MetricChange,
    TextChange,
    compare_headlines,
    compare_metrics,
    compare_texts,
)
from soct.report.comparison.outputs import (
    StepOutputs,
    VolumeMatch,
    compare_outputs,
    compare_volumes,
)
from soct.report.comparison.parameters import (
    ParameterDifference,
    Sameness,
    compare_input,
    compare_parameters,
    compare_steps,
)
from soct.report.comparison.problems import ProblemDifference, compare_problems
from soct.report.comparison.slices import SliceDifferences, compare_slices

if TYPE_CHECKING:
    from soct.report.reportlet import Page


@dataclass(frozen=True)
class Comparison:
    """Everything in which two runs differ; what is equal is not listed."""

    input: Sameness
    parameters: tuple[ParameterDifference, ...]
    steps: tuple[ParameterDifference, ...]
    """Steps that only one run has, and steps of another version."""
    headlines: tuple[HeadlineChange, ...]
    """All of them, also the equal ones."""
    metrics: tuple[MetricChange, ...]
    texts: tuple[TextChange, ...]
    outputs: tuple[StepOutputs, ...]
    """All steps that both runs have, in pipeline order."""
    volume: VolumeMatch
    slices: SliceDifferences
    problems: tuple[ProblemDifference, ...]

    @property
    def parted_at(self) -> StepOutputs | None:
        """The first step whose outputs differ: what follows differs because of it, or of its own settings."""
        return next((step for step in self.outputs if step.different), None)


def compare(page: Page, other: Page) -> Comparison:
    """Compare a run with another one.

    Parameters
    ----------
    page, other : Page
        See `soct.report.rendering.examine`. Both are judged by the limits of `page`.
    """
    view, against = page.view, other.view
    return Comparison(
        input=compare_input(view, against),
        parameters=compare_parameters(view, against),
        steps=compare_steps(view, against),
        headlines=compare_headlines(view, replace(against, limits=view.limits)),
        metrics=compare_metrics(view, against),
        texts=compare_texts(view, against),
        outputs=compare_outputs(view, against),
        volume=compare_volumes(view, against),
        slices=compare_slices(page, other),
        problems=compare_problems(page.problems, other.problems),
    )
