"""The numbers of a montage as lines and as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from soct.tools.montage import Montage

REASONS = {
    "": "",
    "no data": "one of the images holds no data in the overlap",
    "no tissue": "the overlap shows nothing",
    "ambiguous": "several shifts fit equally well",
    "unsupported": "one pair alone said so, against the layout",
    "disagrees": "it disagrees with the other pairs",
}
"""Why a match was not used, in words."""


@dataclass(frozen=True)
class PairLine:
    """One match of two images."""

    first: str
    second: str
    dx_px: float
    dy_px: float
    snr: float
    confidence: float
    residual_px: float
    accepted: bool
    reason: str


def pair_table(made: Montage) -> list[PairLine]:
    """Return all matches, in the order of the images."""
    p, names = made.placement, made.images.names
    return [
        PairLine(
            names[int(i)],
            names[int(j)],
            float(p.pair_offset_px[k, 1]),
            float(p.pair_offset_px[k, 0]),
            float(p.pair_snr[k]),
            float(p.pair_confidence[k]),
            float(p.pair_residual_px[k]),
            bool(p.pair_accepted[k]),
            p.pair_reason[k],
        )
        for k, (i, j) in enumerate(p.pairs)
    ]


def _text(value: float, digits: int) -> str:
    return "-" if not np.isfinite(value) else f"{value:.{digits}f}"


def pair_lines(made: Montage) -> list[str]:
    """Return the table of matches, as lines of equal columns."""
    rows = pair_table(made)
    wide = max([len(n) for r in rows for n in (r.first, r.second)], default=5)
    head = f"{'first':<{wide}}  {'second':<{wide}}  {'dx px':>10} {'dy px':>10} {'SNR':>7} {'conf.':>6} {'resid.':>7}  used"
    lines = [head]
    for r in rows:
        used = "yes" if r.accepted else f"no: {REASONS.get(r.reason, r.reason)}"
        lines.append(
            f"{r.first:<{wide}}  {r.second:<{wide}}  {_text(r.dx_px, 3):>10} {_text(r.dy_px, 3):>10} "
            f"{_text(r.snr, 1):>7} {_text(r.confidence, 2):>6} {_text(r.residual_px, 3):>7}  {used}"
        )
    return lines


def _number(value: float) -> float | None:
    return round(float(value), 6) if np.isfinite(value) else None


def as_json_object(made: Montage, files: list[str]) -> dict[str, Any]:
    """Return everything that was found, for programs."""
    p = made.placement
    return {
        "images": len(made.images),
        "image_size_px": [made.images.shape[1], made.images.shape[0]],
        "dtype": str(made.images.dtype),
        "layout": made.layout.kind,
        "model": made.options.model,
        "rms_residual_px": _number(p.rms_residual_px),
        "model_rms_residual_px": None if made.maps is None else _number(made.maps.rms_px),
        "notes": list(made.notes),
        "warnings": list(made.warnings),
        "tiles": [
            {
                "name": name,
                "x_px": _number(x),
                "y_px": _number(y),
                "confidence": _number(p.confidence[i]),
                "sigma_px": _number(p.sigma_px[i]),
                "measured": bool(p.measured[i]),
                "group": int(made.group[i]),
                "matrix": [[_number(v) for v in row] for row in made.matrices[i]],
            }
            for i, (name, (y, x)) in enumerate(
                zip(made.images.names, made.positions_px, strict=True)
            )
        ],
        "pairs": [
            {k: _number(v) if isinstance(v, float) else v for k, v in vars(row).items()}
            for row in pair_table(made)
        ],
        "files": files,
    }
