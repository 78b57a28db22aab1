"""Draw docs/images/report-*.png: pieces of the report of a simulated brain whose stage lost its count once.

Run ``make report-images``: it simulates the acquisition, reconstructs it, opens the report in Chromium (``chromium``,
``chromium-browser`` or ``google-chrome``) and cuts the pieces out. ``python docs/report_images.py RUN`` draws from a
run that is there.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

FOLDER = Path(__file__).parent / "images"
LIMIT = 300_000
"""Bytes of a picture."""
SOCT = (sys.executable, "-c", "from soct.cli.main import main; main()")
# The encoder of the stage slips at slice 2, by less than what detect_rehoming_events takes for a glitch.
SIMULATION = (
    "--preset", "demo", "--seed", "4", "--slices", "7", "--speckle-looks", "10", "--missing-tiles", "[[4, 0, 2]]",
    "--slice-drift-um", "60", "--gain-drift", "0.15", "--focal-curvature-samples", "3",
    "--glitches", '[{"slice_id": 2, "y_mm": 0.30, "x_mm": -0.24}]',
)  # fmt: skip
WIDTH, HEIGHT = 1120, 6000
_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_EDGE = 14


@dataclass(frozen=True)
class Piece:
    """One picture: which sections of the page it shows, and how much of them."""

    name: str
    sections: tuple[str, ...]
    hidden: str = ""
    """CSS selector of what is left out."""
    height: int = 1500
    both: str = ""
    """Key of a flicker whose two pictures are shown below each other."""


PIECES = (
    Piece("report-top", ("verdict", "glance"), ".guide, .ortho + .question", 1100),
    Piece("report-problems", ("problems",), "", 1100),
    Piece("report-ledger", ("ledger",), ".guide", 1100),
    Piece("report-flicker", ("alignment",), "section > :not(fieldset:first-of-type)", 700, "reslice-y"),
)  # fmt: skip


def browser() -> str:
    """Return the path of a Chromium."""
    found = next((path for name in _BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        sys.exit(f"no browser was found; install one of: {', '.join(_BROWSERS)}")
    return found


def make_run(folder: Path) -> Path:
    """Simulate the acquisition and reconstruct it."""
    run = folder / "run"
    subprocess.run([*SOCT, "simulate", str(folder / "acquisition"), *SIMULATION], check=True)
    subprocess.run([*SOCT, "run", str(folder / "acquisition/raw"), str(run)], check=False)
    return run


def shoot(page: str, folder: Path) -> Image.Image:
    """Return what a page looks like in the browser, cut to its content."""
    source, target = folder / "page.html", folder / "page.png"
    source.write_text(page, encoding="utf-8")
    subprocess.run(
        [browser(), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
         f"--window-size={WIDTH},{HEIGHT}", f"--screenshot={target}", source.as_uri()],
        check=True, capture_output=True,
    )  # fmt: skip
    with Image.open(target) as opened:
        image = opened.convert("RGB")
    inked = np.flatnonzero((np.asarray(image) != 255).any(axis=(1, 2)))
    if inked.size == 0:
        sys.exit("the page is empty in the browser")
    top, bottom = max(0, int(inked[0]) - _EDGE), min(image.height, int(inked[-1]) + _EDGE)
    return image.crop((0, top, WIDTH, bottom))


def only(page: str, piece: Piece) -> str:
    """Return the page with nothing but some sections of it."""
    others = "".join(f":not(#{name})" for name in piece.sections)
    style = (
        "nav, header, footer, .skip, .filter { display: none !important } body { display: block !important } "
        f"section{others} {{ display: none !important }} section {{ border: 0 !important }} "
        "main { margin: 0 auto !important; padding: 1rem 1.5rem !important } "
    )
    if piece.hidden:
        style += f"{piece.hidden} {{ display: none !important }}"
    return page.replace("</head>", f"<style>{style}</style></head>", 1)


def switched(page: str, key: str, to: str) -> str:
    """Return the page with a flicker that stands on one of its pictures."""
    page = re.sub(rf'(id="{key}-\w+" class="f-\w+") checked', r"\1", page)
    return re.sub(rf'(id="{key}-{to}" class="f-{to}")', r"\1 checked", page)


def draw(page: str, piece: Piece, folder: Path) -> Image.Image:
    """Return one picture."""
    shown = only(page, piece)
    if piece.both:
        states = [shoot(switched(shown, piece.both, to), folder) for to in ("before", "after")]
        return join(states)
    image = shoot(shown, folder)
    return image.crop((0, 0, image.width, min(image.height, piece.height)))


def join(images: Sequence[Image.Image]) -> Image.Image:
    """Put pictures below each other."""
    out = Image.new("RGB", (WIDTH, sum(image.height for image in images)), "white")
    y = 0
    for image in images:
        out.paste(image, (0, y))
        y += image.height
    return out


def save(image: Image.Image, path: Path) -> None:
    """Write a picture with as many colours as its size allows."""
    for colours in (256, 128, 64, 32):
        image.quantize(colours, dither=Image.Dither.NONE).save(path, optimize=True)
        if path.stat().st_size <= LIMIT:
            print(f"{path.name}: {image.width} x {image.height}, {path.stat().st_size} bytes")
            return
    sys.exit(f"{path.name} is larger than {LIMIT} bytes")


def main() -> int:
    """Draw every picture."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("run", nargs="?", type=Path, help="a finished run; default: simulate one")
    given = parser.parse_args().run
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        run = make_run(folder) if given is None else given
        (report,) = run.glob("*_quality_report.html")
        page = report.read_text(encoding="utf-8")
        for piece in PIECES:
            save(draw(page, piece, folder), FOLDER / f"{piece.name}.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
