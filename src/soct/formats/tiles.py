"""What is known of an acquisition without reading its samples: tiles, slices, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

BYTES_PER_SAMPLE = 4
_BAND_BYTES = 256 << 20
"""What may wait in memory until its shards are complete, when tiles come in row-major order."""

StagePosition = tuple[float | None, float | None, float | None]


def shown(path: Path | str) -> str:
    r"""Return a path as text that any terminal, log or page can hold: no control characters, valid UTF-8."""
    text = str(path).encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in the input that cannot be used as it is.

    Attributes
    ----------
    kind : str
        ``missing_slice``, ``missing_tile``, ``duplicate``, ``truncated``, ``wrong_size``, ``no_data``,
        ``missing_info``, ``malformed_info``, ``malformed_oct``, ``malformed_scan``, ``inconsistent``, ``too_large``, ``symlink``, ``unreadable``,
        ``implausible_grid``, ``no_usable_tile`` or ``mixed_input``.
    message : str
        One sentence.
    file : str
        The file or folder, relative to the input, in printable form.
    slice_id, row, col : int or None
        Where, as far as it is known.
    expected, found : str
        What should be there, and what is.
    """

    kind: str
    message: str
    file: str = ""
    slice_id: int | None = None
    row: int | None = None
    col: int | None = None
    expected: str = ""
    found: str = ""


@dataclass(frozen=True, slots=True)
class TileInfo:
    """The content of one `info.txt`.

    Attributes
    ----------
    nx, ny : int
        A-lines kept per B-scan, and B-scans.
    n_extra : int
        A-lines recorded while the galvo returns.
    n_repeat : int
        Consecutive frames of the same B-scan.
    width_um, height_um : float
        Field of view along x and y.
    top_z, bottom_z : int
        First and last kept depth sample.
    focus_z : float or None
        Depth sample of the focus.
    axial_resolution_um : float or None
        Depth between samples, where the file tells it.
    extra : dict
        All other keys, as text.
    """

    nx: int
    ny: int
    n_extra: int
    n_repeat: int
    width_um: float
    height_um: float
    top_z: int
    bottom_z: int
    focus_z: float | None = None
    axial_resolution_um: float | None = None
    extra: Mapping[str, str] = field(default_factory=dict)

    @property
    def n_z(self) -> int:
        """Depth samples per A-line."""
        return self.bottom_z - self.top_z + 1

    @property
    def frame_bytes(self) -> int:
        """Size of one frame in a ``.bin`` file."""
        return BYTES_PER_SAMPLE * self.n_z * (self.nx + self.n_extra)

    @property
    def n_frames(self) -> int:
        """Frames that all ``.bin`` files hold together."""
        return self.ny * self.n_repeat

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape ``(z, y, x)`` as read, with the return A-lines still inside."""
        return (self.n_z, self.ny, self.nx + self.n_extra)

    @property
    def pixel_um(self) -> tuple[float, float]:
        """Lateral pixel size ``(y, x)`` in micrometres."""
        return (self.height_um / self.ny, self.width_um / self.nx)


@dataclass(frozen=True, slots=True)
class TileRecord:
    """One usable raw tile.

    Attributes
    ----------
    slice_id, row, col : int
        Index of the slice, and ``tile_y``, ``tile_x``.
    folder : Path
        Absolute; the first `.oct` file where there is no folder.
    files : tuple of Path
        The ``image_*.bin`` files in the order of their frames, or one ``.oct`` file per angle.
    info : TileInfo
        What `info.txt`, or the header of the `.oct` file, says.
    stage_mm : tuple
        Stage position ``(x, y, z)``, None where it was not recorded.
    data_type : {"oct", "psoct"}
        Raw spectral-domain tile, or Thorlabs polarisation-sensitive `.oct` files.
    angles : tuple of int
        The angle of each `.oct` file.
    """

    slice_id: int
    row: int
    col: int
    folder: Path
    files: tuple[Path, ...]
    info: TileInfo
    stage_mm: StagePosition = (None, None, None)
    data_type: Literal["oct", "psoct"] = "oct"
    angles: tuple[int, ...] = ()

    @property
    def n_bytes(self) -> int:
        """Size of the samples on disk; of one polarisation where there are two."""
        n = self.info.frame_bytes * self.info.n_frames
        return n if self.data_type == "oct" else 2 * n * len(self.files)


@dataclass(frozen=True, slots=True)
class SliceRecord:
    """One slice: its usable tiles in row-major order, or its mosaic grid, and what is wrong with it.

    A slice whose every tile is unusable is still here, with no tiles and problems that say why.
    """

    slice_id: int
    tiles: tuple[TileRecord, ...] = ()
    problems: tuple[Problem, ...] = ()
    grid: Path | None = None
    root: Path = Path()

    @property
    def n_bytes(self) -> int:
        """Size of the samples of all usable raw tiles."""
        return sum(tile.n_bytes for tile in self.tiles)


@dataclass(frozen=True, slots=True)
class Acquisition:
    """Everything that a folder of raw tiles or mosaic grids holds.

    Attributes
    ----------
    root : Path
        The input folder, absolute, symbolic links resolved.
    kind : {"raw", "grid"}
        Raw tiles or mosaic grids.
    slices : dict
        By slice id, ascending. Ids are those of the input and never shift.
    problems : tuple of Problem
        All of them: those of the slices, and those of no slice.
    ignored : tuple of Path
        Entries that are none of the input's business, relative to `root` (at most `MAX_IGNORED`).
    session : dict
        ``slice_thickness_mm``, ``overlap_fraction``, ``tile_size_um``, ``tile_n_samples``, ``z_min``, ``z_max``
        where known; ``state`` (`state.json`) and ``slices`` (`metadata.json` by slice id) as they are.
    tables : dict
        Paths of ``shifts_xy.csv`` and ``slice_config.csv`` where the input folder brings them.
    """

    root: Path
    kind: Literal["raw", "grid"]
    slices: Mapping[int, SliceRecord]
    problems: tuple[Problem, ...] = ()
    ignored: tuple[Path, ...] = ()
    session: Mapping[str, Any] = field(default_factory=dict)
    tables: Mapping[str, Path] = field(default_factory=dict)


def shard_tiles(rows: int, cols: int, tile_bytes: int, sharding_factor: int = 4) -> tuple[int, int]:
    """Choose how many tiles ``(rows, columns)`` share a file.

    At most ``sharding_factor`` squared, and few enough rows that a band of unfinished shards stays small.
    """
    high = max(1, min(sharding_factor, rows, _BAND_BYTES // (cols * tile_bytes)))
    wide = max(1, min(sharding_factor, cols, _BAND_BYTES // (high * tile_bytes)))
    return high, wide
