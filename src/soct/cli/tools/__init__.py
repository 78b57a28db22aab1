"""The commands beside the pipeline, one module each.

A new tool is one module in this folder and one line in `TOOLS`. A tool named ``atlas fetch`` belongs to the
group ``atlas`` and lives in ``atlas_fetch.py``. The module's docstring begins with the sentence that
``soct --help`` shows (it is read without importing the module), and the module defines either ``command``,
a function annotated as typer wants it, whose docstring is its help, or ``build()``, which returns the command.
Heavy imports belong inside the function.
"""

from __future__ import annotations

TOOLS: tuple[str, ...] = (
    "demo",
    "simulate",
    "evaluate",
    "sweep-illumination",
    "slurm",
    "doctor",
    "convert",
    "fix-galvo-shift",
    "screenshot",
    "view",
    "quick-stitch",
    "quick-stack",
    "montage",
    "segment",
    "suggest-params",
    "verify",
    "clean",
    "compute-attenuation",
    "estimate-psf",
    "resolution",
    "export-manual-align",
    "atlas fetch",
    "atlas list",
    "atlas check",
    "atlas phantom",
    "tomo align",
    "tomo rotation-axis",
    "tomo reconstruct",
    "tomo simulate",
)

GROUPS: dict[str, str] = {
    "atlas": "Brain atlases to align to.",
    "tomo": "Align and reconstruct tomographic projections.",
}
"""What each group of tools is for, by its name."""
