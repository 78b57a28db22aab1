"""Where every slice and tile of a simulated acquisition really lies, and what the stage says.

The canvas is the camera's view of the first mosaic: pixel (0, 0) is the first pixel of its first tile as
told to the stage. A pixel ``p`` (y, x) of slice ``s`` shows the tissue at
``centre + R(rotation) (p - centre) + drift``, with the rotation positive from +x towards +y.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from soct.simulate.faults import Glitch
from soct.simulate.spec import AcquisitionSpec

Floats = NDArray[np.float64]
STAGE_ORIGIN_MM = (13.0, 8.0)


@dataclass(frozen=True)
class SlicePose:
    """The truth of one slice."""

    slice_id: int
    z_um: float
    """Depth of the cut plane in the block, at the centre of the field; 0 for the first slice."""
    stage_z_mm: float
    drift_px: tuple[float, float]
    rotation_deg: float
    roi_px: tuple[float, float]
    gain: float
    glitch_mm: tuple[float, float]
    surface_sample: float
    first_index: tuple[int, int]
    """Row and column, in the first mosaic's count, of this slice's first tile: 0 or below."""
    grid: tuple[int, int]


@dataclass(frozen=True)
class TilePose:
    """The truth of one tile."""

    slice_id: int
    row: int
    col: int
    nominal_px: tuple[float, float]
    position_px: tuple[float, float]
    stage_mm: tuple[float, float]
    """Stage position along (y, x), as recorded."""
    blank: bool = False
    truncated: bool = False
    missing: bool = False

    @property
    def name(self) -> str:
        """Name of the tile's folder."""
        return f"tile_x{self.col:02d}_y{self.row:02d}_z{self.slice_id:02d}"


@dataclass(frozen=True)
class Poses:
    """All slices that were imaged and all their tiles, missing ones included."""

    slices: dict[int, SlicePose]
    tiles: tuple[TilePose, ...]
    centre_px: tuple[float, float]
    """What slices rotate about."""
    imaged: tuple[TilePose, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "imaged", tuple(t for t in self.tiles if not t.missing))


def draw_poses(spec: AcquisitionSpec) -> Poses:
    """Draw the poses of an acquisition; the same spec gives the same poses."""
    centre = tuple((n - 1) / 2 for n in spec.field_px)
    slices = _draw_slices(spec)
    tiles = [t for s in slices.values() for t in _draw_tiles(spec, s, (centre[0], centre[1]))]
    return Poses(slices, _mark(spec, tiles), (centre[0], centre[1]))


def _glitches(spec: AcquisitionSpec, rng: np.random.Generator) -> dict[int, Glitch]:
    f = spec.faults
    glitches = {g.slice_id: g for g in f.glitches}
    # Neighbours of a glitch would make its return ambiguous, and the first and last slice have none.
    free = [i for i in range(1, spec.slices - 1) if not {i - 1, i, i + 1} & set(glitches)]
    for _ in range(f.glitch_count):
        if not free:
            break
        i = int(rng.choice(free))
        size, angle = rng.uniform(1, 4), rng.uniform(0, 2 * np.pi)
        glitches[i] = Glitch(slice_id=i, y_mm=size * np.sin(angle), x_mm=size * np.cos(angle))
        free = [j for j in free if abs(j - i) > 1]
    return glitches


def _draw_slices(spec: AcquisitionSpec) -> dict[int, SlicePose]:
    f, n = spec.faults, spec.slices
    rng = np.random.default_rng([spec.seed, 2])
    cut = np.maximum(spec.thickness_um + f.cut_jitter_um * rng.standard_normal(n), spec.axial_um)
    steps = f.slice_drift_um / spec.pixel_um * rng.standard_normal((n, 2))
    steps += np.array(f.slice_drift_steady_um) / spec.pixel_um
    rotation = f.slice_rotation_deg * rng.standard_normal(n)
    rotation += f.slice_rotation_drift_deg * np.arange(n)
    roi = np.round(rng.uniform(-f.roi_move_px, f.roi_move_px, (n, 2)))
    gain = np.exp(f.gain_drift * rng.standard_normal(n))
    surface = spec.surface_sample + f.surface_jitter_um / spec.axial_um * rng.standard_normal(n)
    glitches = _glitches(spec, rng)
    # A generator of its own: what else is drawn does not depend on this fault.
    turned = np.random.default_rng([spec.seed, 8]).uniform(-1, 1, n)
    rotation = rotation + f.slice_rotation_range_deg * turned
    # The first slice defines the frame.
    cut[0] = rotation[0] = 0.0
    steps[0] = roi[0] = 0.0
    depth, drift = np.cumsum(cut), np.cumsum(steps, axis=0)
    slices = {}
    for i in range(n):
        if i in f.missing_slices:
            continue
        low, high = np.zeros(2, int), np.zeros(2, int)
        for g in f.growth:
            if i >= g.slice_id:
                (low if g.side == "low" else high)[0 if g.axis == "y" else 1] += g.tiles
        z = depth[i] if f.cut_jitter_seen else i * spec.thickness_um
        error = glitches.get(i)
        slices[i] = SlicePose(
            i,
            float(depth[i]),
            float(z) / 1000,
            (float(drift[i, 0]), float(drift[i, 1])),
            float(rotation[i]),
            (float(roi[i, 0]), float(roi[i, 1])),
            float(gain[i]),
            (error.y_mm, error.x_mm) if error else (0.0, 0.0),
            float(np.clip(surface[i], 0, spec.n_z - 2)),
            (-int(low[0]), -int(low[1])),
            (spec.rows + int(low[0] + high[0]), spec.cols + int(low[1] + high[1])),
        )
    return slices


def _draw_tiles(
    spec: AcquisitionSpec, pose: SlicePose, centre: tuple[float, float]
) -> list[TilePose]:
    f = spec.faults
    angle = np.deg2rad(f.stage_rotation_deg)
    turn = f.stage_scale * np.array(
        [[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]
    )
    tiles = []
    for row in range(pose.grid[0]):
        for col in range(pose.grid[1]):
            rng = np.random.default_rng([spec.seed, 3, pose.slice_id, row, col])
            index = np.array([row + pose.first_index[0], col + pose.first_index[1]])
            nominal = np.asarray(pose.roi_px) + index * np.asarray(spec.pitch_px)
            middle = np.asarray(centre) - (np.asarray(spec.tile_px) - 1) / 2
            true = middle + turn @ (nominal - middle)
            if row or col:  # the first tile stands where the stage says: an anchor for the canvas
                true = true + f.tile_jitter_px * rng.standard_normal(2)
            stage = np.asarray(STAGE_ORIGIN_MM) + np.asarray(f.stage_direction) * (
                nominal * spec.pixel_um / 1000 + np.asarray(pose.glitch_mm)
            )
            tiles.append(
                TilePose(
                    pose.slice_id,
                    row,
                    col,
                    (float(nominal[0]), float(nominal[1])),
                    (float(true[0]), float(true[1])),
                    (float(stage[0]), float(stage[1])),
                )
            )
    return tiles


def _mark(spec: AcquisitionSpec, tiles: list[TilePose]) -> tuple[TilePose, ...]:
    """Draw which tiles are missing, blank or truncated: three disjoint sets."""
    f = spec.faults
    order = np.random.default_rng([spec.seed, 4]).permutation(len(tiles))
    given = {k for k, t in enumerate(tiles) if (t.slice_id, t.row, t.col) in f.missing_tiles}
    rest = [int(k) for k in order if int(k) not in given]
    sizes = [
        round(part * len(tiles))
        for part in (f.missing_fraction, f.blank_fraction, f.truncated_fraction)
    ]
    stops = np.cumsum([0, *sizes])
    missing, blank, truncated = (set(rest[a:b]) for a, b in itertools.pairwise(stops))
    return tuple(
        TilePose(
            t.slice_id, t.row, t.col, t.nominal_px, t.position_px, t.stage_mm,
            k in blank, k in truncated, k in missing or k in given,
        )
        for k, t in enumerate(tiles)
    )  # fmt: skip


def locate_tissue(poses: Poses, slice_id: int, y_px: Floats, x_px: Floats) -> tuple[Floats, Floats]:
    """Return the tissue position (canvas pixels of the first slice) that canvas pixels of a slice show."""
    s = poses.slices[slice_id]
    cos, sin = np.cos(np.deg2rad(s.rotation_deg)), np.sin(np.deg2rad(s.rotation_deg))
    y, x = y_px - poses.centre_px[0], x_px - poses.centre_px[1]
    return (
        cos * y + sin * x + poses.centre_px[0] + s.drift_px[0],
        cos * x - sin * y + poses.centre_px[1] + s.drift_px[1],
    )
