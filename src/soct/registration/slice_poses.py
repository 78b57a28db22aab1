"""Poses of all slices at once, from every registered pair and the stage.

Unknown for slice k is the transform ``T_k`` from the canvas to the slice's pixels: rotation about the
slice's own centre, and the shift that tells where that centre lands. A pair (k, l) measures
``T_l T_k^-1``; its shift depends on both rotations through the levers, so the problem is solved by
Gauss-Newton on shifts and rotations together, each pair weighted by its covariance. The stage contributes
its steps and, weakly, its positions: they carry slices without a pair, and bound the drift of a long run.
Pairs and steps that contradict the rest lose their weight (Cauchy, its width lowered gradually so that the
start does not decide; Black and Rangarajan, IJCV 19, 1996). Depth is a problem of its own with the same
solver.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from soct.registration.pose_solver import (
    Floats,
    Solution,
    inverse_root,
    solve_depth,
    solve_plane,
)
from soct.registration.transforms import Point, RigidTransform2D, rotation_matrix
from soct.space import Voxel

Gauge = Literal["mean", "middle", "first"]
"""Which slices agree with the stage: all on average, the middle one, or the first one."""

_LOST = 0.1
_SCATTER_ROUNDS = 8
_LEAST_SCATTER_DEG = 0.02


@dataclass(frozen=True)
class StagePosition:
    """Where the stage puts a slice.

    Attributes
    ----------
    slice_id : int
    position : tuple of float
        ``(z, y, x)`` of the slice's first pixel on the canvas, in voxels.
    centre : tuple of float
        The slice's centre of rotation ``(y, x)`` in its own pixels.
    """

    slice_id: int
    position: tuple[float, float, float]
    centre: Point


@dataclass(frozen=True)
class PairMeasurement:
    """What the images say about two slices.

    Attributes
    ----------
    fixed, moving : int
        Slice ids.
    transform : RigidTransform2D or None
        Fixed pixels to moving pixels; None where the images say nothing.
    confidence : float
        0 to 1.
    covariance : (3, 3) array or None
        Of shift ``(y, x)`` in pixels and rotation in degrees; a pixel and 0.1 degree where None.
    z_step : float or None
        Depth of the moving slice's first plane in the fixed slice, in voxels.
    z_sigma : float
        Standard deviation of `z_step`, in voxels.
    """

    fixed: int
    moving: int
    transform: RigidTransform2D | None
    confidence: float = 1.0
    covariance: Floats | None = None
    z_step: float | None = None
    z_sigma: float = 1.0


@dataclass(frozen=True)
class PosePriors:
    """How far the stage and the knife are believed.

    Attributes
    ----------
    step_um : float
        Standard deviation of a stage step between neighbouring slices, in the plane.
    position_um : float
        Of a stage position itself; bounds the drift over the whole run.
    rotation_step_deg, rotation_deg : float
        Of the turn between neighbours, and of a slice's rotation; the latter is where the estimate of the
        rotations' scatter starts.
    z_step_um : float
        Of the stage's step in depth.
    z_position_um : float
        Of a stage depth itself. Where the stage records depth it is good to some micrometres over the whole
        run; where a nominal thickness stands in, errors add up and this must be large.
    pair_floor_um, pair_floor_z_um : float
        Error of a pair that its covariance cannot know: distortion of the cut tissue, tiles that lie a little off
        in their slice. It turns a pair by as much at the edge of the field. Along z, deep planes are noisier than
        shallow ones, which moves the match by a few micrometres the same way in all pairs.
    """

    step_um: float = 50.0
    position_um: float = 1000.0
    rotation_step_deg: float = 0.3
    rotation_deg: float = 1.0
    z_step_um: float = 10.0
    z_position_um: float = 1000.0
    pair_floor_um: float = 1.0
    pair_floor_z_um: float = 3.0


@dataclass(frozen=True)
class SlicePose:
    """Where one slice lies on the canvas.

    Attributes
    ----------
    slice_id : int
    z : float
        Canvas depth of the slice's first plane, in voxels.
    transform : RigidTransform2D
        Canvas points to the slice's pixels, about the slice's centre; its shift is the position ``(y, x)``.
    correction : tuple of float
        ``(z, y, x)``: pose minus stage, in voxels.
    sigma_px, sigma_deg : float
        Predicted error against the nearest neighbour.
    confidence : float
        Of the best pair that holds it, times that pair's weight; 0 where only the stage does.
    """

    slice_id: int
    z: float
    transform: RigidTransform2D
    correction: tuple[float, float, float]
    sigma_px: float
    sigma_deg: float
    confidence: float

    @property
    def rotation_deg(self) -> float:
        """Rotation of the transform in degrees."""
        return self.transform.rotation_deg

    @property
    def position(self) -> tuple[float, float, float]:
        """``(z, y, x)`` in voxels."""
        return (self.z, *self.transform.shift)


@dataclass(frozen=True)
class PairResidual:
    """How a pair fits the solution.

    Attributes
    ----------
    fixed, moving : int
    residual_px : float
        Distance between measured and solved shift; NaN where there is no measurement.
    residual_deg, residual_z : float
        The same for rotation and depth (voxels).
    weight, weight_z : float
        0 to 1: what robust weighting left of it; 0 where it was not used.
    """

    fixed: int
    moving: int
    residual_px: float
    residual_deg: float
    residual_z: float
    weight: float
    weight_z: float


@dataclass(frozen=True)
class SlicePoses:
    """Poses of all slices.

    Attributes
    ----------
    poses : dict of int to SlicePose
        In the order of the slice ids.
    pairs : tuple of PairResidual
        In the order given.
    stage_only : tuple of int
        Slices that no accepted pair holds: stage step plus the interpolated correction of the neighbours.
    groups : tuple of tuple of int
        Slices connected by pairs; two groups are joined by the stage alone.
    """

    poses: dict[int, SlicePose]
    pairs: tuple[PairResidual, ...]
    stage_only: tuple[int, ...]
    groups: tuple[tuple[int, ...], ...] = field(default=())


def _groups(n: int, links: Sequence[tuple[int, int]]) -> list[list[int]]:
    label = list(range(n))
    for i, j in links:
        low, high = sorted((label[i], label[j]))
        label = [low if one == high else one for one in label]
    return [[k for k in range(n) if label[k] == one] for one in sorted(set(label))]


def _references(n: int, gauge: Gauge) -> NDArray[np.int64]:
    """Positions of the slices that agree with the stage."""
    return {"mean": np.arange(n), "middle": np.array([n // 2]), "first": np.array([0])}[gauge]


def _regauge(state: Floats, stage: Floats, centres: Floats, gauge: Gauge) -> Floats:
    """Turn and move the whole canvas so that the slices of the gauge agree with the stage."""
    n = state.shape[0]
    chosen = _references(n, gauge)
    angle = float(state[chosen, 2].mean())
    turn = rotation_matrix(math.degrees(angle))
    out = state.copy()
    out[:, 2] -= angle
    # T'(P) = T(R^-1 P): what lay at P lies at R P.
    landed = (centres + state[:, :2]) @ turn.T
    out[:, :2] = landed - centres
    out[:, :2] -= (out[chosen, :2] - stage[chosen, :2]).mean(axis=0)
    return out


def solve_slice_poses(
    stages: Sequence[StagePosition],
    pairs: Sequence[PairMeasurement],
    voxel_um: Voxel,
    *,
    priors: PosePriors | None = None,
    min_confidence: float = 0.3,
    confidence_weight_translations: bool = True,
    apply_rotation_only: bool = False,
    gauge: Gauge = "mean",
) -> SlicePoses:
    """Solve the poses of all slices from all pairs and the stage.

    Parameters
    ----------
    stages : sequence of StagePosition
        One for each slice; any order.
    pairs : sequence of PairMeasurement
        (k, k+1), (k, k+2) and any other; pairs of unknown slices are an error.
    voxel_um : Voxel
        Of the slices; lateral voxels must be square.
    priors : PosePriors, optional
    min_confidence : float
        Pairs below it are not used.
    confidence_weight_translations : bool
        Multiply a pair's weight by its confidence.
    apply_rotation_only : bool
        Rotations from the images, positions of the slices' centres from the stage.
    gauge : {"mean", "middle", "first"}
        What agrees with the stage: all slices on average, the middle one, or the first one.

    Returns
    -------
    SlicePoses

    Raises
    ------
    ValueError
        For no slices, slices that come twice, pairs of unknown slices, or lateral voxels that aren't square.
    """
    ordered = sorted(stages, key=lambda s: s.slice_id)
    ids = [s.slice_id for s in ordered]
    if not ids or len(set(ids)) != len(ids):
        raise ValueError("`stages` must hold every slice once")
    if abs(voxel_um.y / voxel_um.x - 1.0) > 1e-3:
        raise ValueError(f"a rotation needs square pixels, not {voxel_um.y:g} x {voxel_um.x:g} um")
    where = {one: k for k, one in enumerate(ids)}
    unknown = ({p.fixed for p in pairs} | {p.moving for p in pairs}) - set(ids)
    if unknown:
        raise ValueError(f"pairs of unknown slices {sorted(unknown)}")
    believed = priors or PosePriors()
    pixel = voxel_um.x
    stage = np.array([[*s.position[1:], 0.0] for s in ordered])
    centres = np.array([s.centre for s in ordered])
    used = [
        k
        for k, p in enumerate(pairs)
        if p.transform is not None and p.confidence >= min_confidence and p.fixed != p.moving
    ]
    measured = []
    for k in used:
        pair = pairs[k]
        root = inverse_root(_pair_covariance(pair, believed, pixel))
        if confidence_weight_translations:
            root = root * math.sqrt(max(pair.confidence, 1e-3))
        assert pair.transform is not None
        measured.append((where[pair.fixed], where[pair.moving], pair.transform, root))
    step = np.array([believed.step_um / pixel] * 2 + [math.radians(believed.rotation_step_deg)])
    plane = _solve_with_scatter(stage, centres, measured, step, believed, pixel)
    state = _regauge(plane.state, stage, centres, gauge)
    if apply_rotation_only:
        state[:, :2] = stage[:, :2]
    depth_used = [k for k, p in enumerate(pairs) if p.z_step is not None]
    depth = solve_depth(
        np.array([[s.position[0]] for s in ordered]),
        [
            (
                where[pairs[k].fixed],
                where[pairs[k].moving],
                float(pairs[k].z_step or 0.0),
                math.hypot(pairs[k].z_sigma, believed.pair_floor_z_um / voxel_um.z),
            )
            for k in depth_used
        ],
        believed.z_step_um / voxel_um.z,
        believed.z_position_um / voxel_um.z,
    )
    z = depth.state[:, 0]
    z_stage = np.array([s.position[0] for s in ordered])
    chosen = _references(len(ids), gauge)
    z = z - (z[chosen] - z_stage[chosen]).mean()
    weights = dict(zip(used, plane.weights, strict=True))
    weights_z = dict(zip(depth_used, depth.weights, strict=True))
    held = [0.0] * len(ids)
    for k, weight in weights.items():
        for one in (pairs[k].fixed, pairs[k].moving):
            trust = pairs[k].confidence * float(weight) if weight > _LOST else 0.0
            held[where[one]] = max(held[where[one]], trust)
    sigma = _relative_sigma(plane.covariance, len(ids))
    poses = {}
    for k, at in enumerate(ordered):
        shift = (float(state[k, 0]), float(state[k, 1]))
        centre = (float(centres[k, 0]), float(centres[k, 1]))
        poses[at.slice_id] = SlicePose(
            slice_id=at.slice_id,
            z=float(z[k]),
            transform=RigidTransform2D(math.degrees(state[k, 2]), shift, centre),
            correction=(
                float(z[k] - z_stage[k]),
                float(state[k, 0] - stage[k, 0]),
                float(state[k, 1] - stage[k, 1]),
            ),
            sigma_px=float(sigma[k, 0]),
            sigma_deg=math.degrees(float(sigma[k, 1])),
            confidence=held[k],
        )
    links = [
        (where[pairs[k].fixed], where[pairs[k].moving]) for k, w in weights.items() if w > _LOST
    ]
    return SlicePoses(
        poses=poses,
        pairs=tuple(_residual(k, p, poses, weights, weights_z) for k, p in enumerate(pairs)),
        stage_only=tuple(ids[k] for k in range(len(ids)) if held[k] == 0.0),
        groups=tuple(tuple(ids[k] for k in one) for one in _groups(len(ids), links)),
    )


def _solve_with_scatter(
    stage: Floats,
    centres: Floats,
    measured: Sequence[tuple[int, int, RigidTransform2D, Floats]],
    step: Floats,
    priors: PosePriors,
    pixel_um: float,
) -> Solution:
    """Solve, with the scatter of the rotations about the stage estimated from the solution itself.

    Slices turn about one angle, by a hundredth of a degree or by many degrees; which, the pairs tell. A prior
    as wide as that scatter keeps the errors of the pairs from adding up over a long stack, and pulls at
    nothing where slices really turn (type II maximum likelihood by expectation and maximisation).
    """
    scatter = math.radians(priors.rotation_deg)
    n = len(stage)
    for _ in range(_SCATTER_ROUNDS):
        absolute = np.array([priors.position_um / pixel_um] * 2 + [scatter])
        plane = solve_plane(stage, centres, measured, np.diag(1 / step), np.diag(1 / absolute))
        held = {
            k
            for (i, j, _, _), weight in zip(measured, plane.weights, strict=True)
            if weight > _LOST
            for k in (i, j)
        }
        if len(held) < 3:
            break
        chosen = np.array(sorted(held))
        variance = np.diag(plane.covariance).reshape(n, 3)[chosen, 2]
        before = scatter
        scatter = math.sqrt(float(np.mean(plane.state[chosen, 2] ** 2 + variance)))
        scatter = max(scatter, math.radians(_LEAST_SCATTER_DEG))
        if abs(scatter / before - 1) < 0.05:
            break
    return plane


def _pair_covariance(pair: PairMeasurement, priors: PosePriors, pixel_um: float) -> Floats:
    """Covariance of ``(y, x)`` in pixels and rotation in radians, with the floor added."""
    units = np.array([1.0, 1.0, math.radians(1.0)])
    given = np.diag([1.0, 1.0, 0.01]) if pair.covariance is None else np.asarray(pair.covariance)
    if not np.isfinite(given).all():
        given = np.diag([1.0, 1.0, 0.01])
    given = given.astype(np.float64).copy()
    if given[2, 2] <= 0:
        # A translation model says nothing about the rotation.
        given[2, :] = given[:, 2] = 0.0
        given[2, 2] = priors.rotation_step_deg**2
    shift = priors.pair_floor_um / pixel_um
    reach = max(sum(pair.transform.centre) / 2 if pair.transform else 0.0, 1.0)
    floor = np.array([shift, shift, math.degrees(shift / reach)])
    return (given + np.diag(floor**2)) * units[:, None] * units[None, :]


def _relative_sigma(covariance: Floats, n: int) -> Floats:
    """Predicted error of each slice against its nearest neighbour: pixels (RMS of y, x) and radians."""
    out = np.full((n, 2), np.inf)
    for k in range(n):
        for other in (k - 1, k + 1):
            if not 0 <= other < n:
                continue
            a, b = slice(3 * k, 3 * k + 3), slice(3 * other, 3 * other + 3)
            d = np.diag(covariance[a, a] + covariance[b, b] - covariance[a, b] - covariance[b, a])
            d = np.sqrt(np.maximum(d, 0.0))
            out[k] = np.minimum(out[k], [math.hypot(d[0], d[1]), d[2]])
    return np.where(np.isfinite(out), out, 0.0)


def _residual(
    index: int,
    pair: PairMeasurement,
    poses: dict[int, SlicePose],
    weights: dict[int, float],
    weights_z: dict[int, float],
) -> PairResidual:
    px = deg = z = math.nan
    fixed, moving = poses[pair.fixed], poses[pair.moving]
    if pair.transform is not None:
        solved = relative_transform(fixed.transform, moving.transform, pair.transform.centre)
        px = math.dist(solved.shift, pair.transform.shift)
        deg = solved.rotation_deg - pair.transform.rotation_deg
    if pair.z_step is not None:
        z = moving.z - fixed.z - pair.z_step
    weight, weight_z = float(weights.get(index, 0.0)), float(weights_z.get(index, 0.0))
    return PairResidual(pair.fixed, pair.moving, px, deg, z, weight, weight_z)


def relative_transform(
    fixed: RigidTransform2D, moving: RigidTransform2D, centre: Point
) -> RigidTransform2D:
    """Return the transform from fixed pixels to moving pixels of two posed slices, about `centre`."""
    return moving.compose(fixed.inverse()).about(centre)


def limit_corrections(
    poses: SlicePoses,
    voxel_um: Voxel,
    *,
    accumulate_translations: bool = True,
    stack_max_cumulative_drift_um: float = 0.0,
    stack_smooth_window: int = 0,
    stack_translation_smooth_sigma: float = 0.0,
) -> SlicePoses:
    """Apply the limits that other pipelines need; all are off by default, for the solve replaces them.

    Parameters
    ----------
    poses : SlicePoses
    voxel_um : Voxel
    accumulate_translations : bool
        False: a slice keeps only its own step's correction, not the sum of all before it.
    stack_max_cumulative_drift_um : float
        Longest in-plane correction; 0 for no limit.
    stack_smooth_window : int
        Moving average over that many slices of the corrections and rotations; 0 or 1 for none.
    stack_translation_smooth_sigma : float
        Gaussian over the corrections, in slices; 0 for none.

    Returns
    -------
    SlicePoses
    """
    ordered = list(poses.poses.values())
    move = np.array([p.correction[1:] for p in ordered])
    turn = np.array([p.rotation_deg for p in ordered])
    if not accumulate_translations:
        move = np.diff(move, axis=0, prepend=move[:1])
    if stack_smooth_window > 1:
        move = np.stack([_averaged(c, np.ones(stack_smooth_window)) for c in move.T], axis=1)
        turn = _averaged(turn, np.ones(stack_smooth_window))
    if stack_translation_smooth_sigma > 0:
        reach = math.ceil(3 * stack_translation_smooth_sigma)
        kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / stack_translation_smooth_sigma) ** 2)
        move = np.stack([_averaged(c, kernel) for c in move.T], axis=1)
    if stack_max_cumulative_drift_um > 0:
        length = np.hypot(move[:, 0], move[:, 1]) * voxel_um.x
        factor = np.minimum(1.0, stack_max_cumulative_drift_um / np.maximum(length, 1e-9))
        move = move * factor[:, None]
    out = {}
    for pose, (dy, dx), angle in zip(ordered, move, turn, strict=True):
        y = pose.transform.shift[0] - pose.correction[1] + float(dy)
        x = pose.transform.shift[1] - pose.correction[2] + float(dx)
        out[pose.slice_id] = replace(
            pose,
            transform=replace(pose.transform, rotation_deg=float(angle), shift=(y, x)),
            correction=(pose.correction[0], float(dy), float(dx)),
        )
    return replace(poses, poses=out)


def _averaged(values: Floats, kernel: Floats) -> Floats:
    """Weighted moving average that shortens at the ends."""
    half = (kernel.size - 1) // 2
    n = values.size

    def centred(a: Floats) -> Floats:
        return np.asarray(np.convolve(a, kernel, mode="full")[half : half + n])

    return centred(values) / centred(np.ones(n))
