"""Every kind of page that soct writes, of made-up runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from soct.report.cohort import make_cohort, make_member
from soct.report.cohort.page import write_cohort
from soct.report.model import RatingView
from soct.report.rendering import examine, render_html, render_report
from soct.report.reportlet import Reportlet, load_reportlets
from tests.report.fabricated import complete_run, empty_run, failed_run, metric, running_run
from tests.report.fabricated_options import run_with_everything
from tests.report.test_comparison import with_metric

NAMES = ("complete", "failed", "running", "empty", "compare", "cohort")


def write_one(name: str, folder: Path) -> Path:
    """Write the page of one kind; its figures lie beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    if name == "cohort":
        return _cohort(folder)
    if name == "failed":
        return _failed(folder)
    if name == "compare":
        (folder / "other").mkdir()
        return _compared(folder)
    view = {
        "complete": lambda: replace(
            run_with_everything(folder, 6, 3, image=120), ratings=(_rating(),)
        ),
        "running": lambda: running_run(folder),
        "empty": empty_run,
    }[name]()
    return render_report(view, folder)


def _rating() -> RatingView:
    return RatingView(
        "AB", "conditional", "0" * 12, ("banding",), "usable but for slice 4", computed="REVIEW"
    )


def _failed(folder: Path) -> Path:
    def fail(page: object) -> None:
        raise RuntimeError("this section cannot be made")

    broken = Reportlet("broken", 15, "Broken", "Does it break?", fail)  # type: ignore[arg-type]
    view = failed_run(folder)
    next(iter(view.figures.values())).write_bytes(b"no figure at all")
    path = folder / "failed_quality_report.html"
    path.write_text(render_html(examine(view), (*load_reportlets(), broken)), encoding="utf-8")
    return path


def _compared(folder: Path) -> Path:
    """Write what a comparison adds to the report; the rest is on the other pages."""
    view = complete_run(folder, slices=6, side=3, image=120)
    other = complete_run(folder / "other", slices=6, side=3, image=120, seed=1)
    changed = replace(other.parameters[0], value="8.0", origin="--set")
    other = replace(other, subject="sub-other", parameters=(changed, *other.parameters[1:]))
    chosen = tuple(r for r in load_reportlets() if r.id in ("verdict", "problems", "comparison"))
    path = folder / "compared_quality_report.html"
    path.write_text(render_html(examine(view, other), chosen), encoding="utf-8")
    return path


def _cohort(folder: Path) -> Path:
    view = complete_run(folder, slices=6, side=2, faults=False, figures=False)
    members = []
    for i, drift in enumerate((150.0, 160.0, 170.0, 140.0, 2900.0)):
        run = with_metric(
            replace(view, subject=f"sub-{i:02d}"), "estimate_slice_poses", "run", metric("cumulative_drift_um", drift, "um"),
        )  # fmt: skip
        members.append(make_member(run, f"lab/sub-{i:02d}", f"lab/sub-{i:02d}/report.html"))
    return write_cohort(make_cohort(members), folder / "cohort_report.html")
