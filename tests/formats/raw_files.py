"""Small raw acquisitions on disk, with known samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np

KEYS: dict[str, object] = {
    "nx": 4,
    "ny": 3,
    "n_extra": 2,
    "n_repeat": 1,
    "width": 100,
    "height": 75,
    "top_z": 10,
    "bottom_z": 14,
    "focus_z": 12,
}


def samples(seed: int, **keys: object) -> np.ndarray:
    """Frames as on disk: (frame, A-line, depth)."""
    k = {**KEYS, **keys}
    shape = (k["ny"] * k["n_repeat"], k["nx"] + k["n_extra"], k["bottom_z"] - k["top_z"] + 1)
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


def write_tile(folder: Path, frames: np.ndarray, n_files: int = 1, **keys: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    pairs = {k: v for k, v in {**KEYS, **keys}.items() if v is not None}
    text = "Scan info\n" + "".join(f"{key}: {value}\n" for key, value in pairs.items())
    (folder / "info.txt").write_text(text)
    for number, part in enumerate(np.array_split(frames, n_files)):
        part.astype("<f4").tofile(folder / f"image_{number:05d}.bin")
    return folder


def write_slice(root: Path, slice_id: int, rows: int = 2, cols: int = 2) -> None:
    for row in range(rows):
        for col in range(cols):
            seed = slice_id * 100 + row * 10 + col
            write_tile(root / f"tile_x{col:02d}_y{row:02d}_z{slice_id:02d}", samples(seed))
