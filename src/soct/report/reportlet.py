"""What a reportlet is: one question about a run, and the part of the page that answers it.

Adding a reportlet is adding one module to `soct.report.reportlets` that defines ``REPORTLET``; its ``order``
says where it stands. A reportlet that raises becomes a red card; the rest of the page is not touched.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, cached_property

from markupsafe import Markup

from soct.quality.verdict import Verdict
from soct.report.cohort import Cohort
from soct.report.data_files import make_data_files
from soct.report.figures import FigureStore
from soct.report.headline import Headline
from soct.report.images import ImageEncoder
from soct.report.markup import error_card
from soct.report.model import RunView
from soct.report.problems import Problem


@dataclass(frozen=True)
class Page:
    """What a reportlet may use."""

    view: RunView
    figures: FigureStore
    headlines: tuple[Headline, ...]
    problems: tuple[Problem, ...]
    verdict: Verdict
    images: ImageEncoder = field(default_factory=ImageEncoder)
    other: Page | None = None
    """The run that this one is compared with, if any."""
    cohort: Cohort | None = None
    """The lab's runs among which this one lies, if any."""

    @cached_property
    def data(self) -> dict[str, bytes]:
        """Every file of ``report_data/``, by name."""
        return make_data_files(self)

    def guarded(self, title: str, draw: Callable[[], Markup]) -> Markup:
        """Draw one figure; if that fails, return a red card that says so in its place."""
        try:
            return draw()
        except Exception as error:  # noqa: BLE001  (whatever a figure does, the page must appear)
            return error_card(f"{title} could not be drawn", describe(error))


@dataclass(frozen=True)
class Reportlet:
    """One section of the report."""

    id: str
    """The section's anchor."""
    order: int
    title: str
    question: str
    """What the section answers, as the reader would ask it."""
    render: Callable[[Page], Markup]
    good: str = ""
    """What it looks like when all is well."""
    bad: str = ""
    """What trouble looks like, and what to do then."""
    inputs: tuple[str, ...] = ()
    """Ids of the steps whose metrics and figures are shown."""
    thresholds: tuple[str, ...] = ()
    """Metrics whose limits are printed below the section."""
    shown: Callable[[Page], bool] = lambda _: True
    """Whether the section belongs on this page at all; what was not asked for leaves no empty section."""


def describe(error: BaseException) -> str:
    """Return an error in one line: its class and message, at most 500 characters."""
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return text if len(text) <= 500 else text[:499] + "…"


@cache
def load_reportlets() -> tuple[Reportlet, ...]:
    """Return every reportlet of `soct.report.reportlets`, in the page's order."""
    package = importlib.import_module("soct.report.reportlets")
    modules = (
        importlib.import_module(f"{package.__name__}.{found.name}")
        for found in pkgutil.iter_modules(package.__path__)
    )
    found = [module.REPORTLET for module in modules if hasattr(module, "REPORTLET")]
    return tuple(sorted(found, key=lambda r: (r.order, r.id)))
