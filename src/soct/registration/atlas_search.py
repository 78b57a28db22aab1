"""Where a brain lies against a template, from nothing: every orientation, every tilt, every shift.

Turning a brain by 180 degrees about any axis gives a local optimum in which a descent stays for ever. So the
start of the descent is searched: all turns on a grid of 30 degrees (or those near a known orientation), each
with all shifts, scored by mutual information of coarse classes, then the best ones improved one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from soct.geometry.orientation import Matrix, OrientedVolume, direction_matrix
from soct.registration.brain_mask import BoolArray, find_brain
from soct.registration.mutual_information import classify, score_poses, search_poses
from soct.space import FloatArray

CLASSES = 8
_LENGTHS = 22.0
"""The longest extent of a template's brain in voxels of the coarsest search: 600 um for a mouse."""
_MASK_UM = 150.0
_COARSE_POINTS = 1200
_POINTS = 2500
_FINE_POINTS = 8000
_CANDIDATES = 12
_FINALISTS = 3
_SEED = 20_240_229


@dataclass(frozen=True)
class Scene:
    """A volume made ready: intensities, where there are data, where there is brain.

    Attributes
    ----------
    volume : OrientedVolume
        Intensities float32.
    valid, brain : ndarray of bool, shape (Z, Y, X)
        Where there are data, and where there is brain.
    """

    volume: OrientedVolume
    valid: BoolArray
    brain: BoolArray

    def coarser(self, voxel_um: float) -> Scene:
        """Return the scene with voxels of about this size, by block means of the valid voxels."""
        factors = [
            max(1, min(round(voxel_um / v), n))
            for v, n in zip(self.volume.voxel_um, self.valid.shape, strict=True)
        ]
        if factors == [1, 1, 1]:
            return self
        weight = _block_mean(self.valid.astype(np.float32), factors)
        data = _block_mean(np.where(self.valid, self.volume.data, 0), factors)
        brain = _block_mean(self.brain.astype(np.float32), factors)
        affine = self.volume.affine.copy()
        affine[:3, 3] += affine[:3, :3] @ [(f - 1) / 2 for f in factors]
        affine[:3, :3] *= factors
        means: FloatArray = (data / np.maximum(weight, 1e-6)).astype(np.float32)
        return Scene(OrientedVolume(means, affine), weight >= 0.5, brain >= 0.5)

    def centre(self) -> NDArray[np.float64]:
        """Return the centre of the brain in world coordinates (mm)."""
        inside = np.argwhere(self.brain if self.brain.any() else self.valid)
        index = inside.mean(axis=0) if len(inside) else np.asarray(self.brain.shape) / 2
        return self.volume.affine[:3, :3] @ index + self.volume.affine[:3, 3]


def make_scene(volume: OrientedVolume, valid: BoolArray | None = None) -> Scene:
    """Find the brain in a volume; on coarse voxels, for its outline needs no fine ones.

    Parameters
    ----------
    volume : OrientedVolume
        Intensities.
    valid : ndarray of bool, optional
        Where there are data; None: everywhere.
    """
    data = np.asarray(volume.data, np.float32)
    valid = np.ones(data.shape, bool) if valid is None else valid
    whole = Scene(OrientedVolume(data, volume.affine), valid, valid)
    coarse = whole.coarser(_MASK_UM)
    brain = find_brain(coarse.volume.data, coarse.volume.voxel_um, coarse.valid)
    if brain.shape != data.shape:
        factors = [
            round(a / b) for a, b in zip(coarse.volume.voxel_um, volume.voxel_um, strict=True)
        ]
        brain = brain[
            np.ix_(*(np.arange(n) // f for n, f in zip(data.shape, factors, strict=True)))
        ]
    return Scene(whole.volume, valid, brain & valid)


def _block_mean(data: FloatArray, factors: Sequence[int]) -> FloatArray:
    """Block means; the last blocks are filled up with zeros, for a thin rim is not worth its own voxel."""
    pads = [(0, -n % f) for n, f in zip(data.shape, factors, strict=True)]
    padded = np.pad(data, pads)
    shape = [v for n, f in zip(padded.shape, factors, strict=True) for v in (n // f, f)]
    means: FloatArray = padded.reshape(shape).mean(axis=(1, 3, 5), dtype=np.float32)
    return means


@dataclass(frozen=True)
class Start:
    """A rigid pose from which a descent can begin.

    Attributes
    ----------
    matrix : ndarray, shape (4, 4)
        From world coordinates of the template to those of the volume (mm).
    information : float
        Its score, nats per point of the template.
    runner_up : float
        The best score among poses that differ by more than 45 degrees; 0 where none was tried.
    """

    matrix: Matrix
    information: float
    runner_up: float


def find_start(
    fixed: Scene,
    moving: Scene,
    *,
    orientations: Sequence[str] | None = None,
    max_rotation_deg: float = 45.0,
) -> Start:
    """Search the pose of a brain against a template.

    Parameters
    ----------
    fixed, moving : Scene
        Template and brain, of about 100 um voxels or coarser.
    orientations : sequence of str, optional
        Codes that the moving volume may really have, instead of the one of its affine. None: as its affine.
    max_rotation_deg : float
        How far the brain may be turned away from such an orientation.

    Returns
    -------
    Start
        The best pose; its matrix is a rotation and a shift, also where it turns to another orientation.
    """
    own = direction_matrix(moving.volume.orientation)
    turns = [
        direction_matrix(code) @ own.T for code in (orientations or [moving.volume.orientation])
    ]
    rotations = _rotations([t.T for t in turns], max_rotation_deg)
    unit = _unit_um(fixed)
    poses, scores = _coarse(fixed.coarser(unit), moving.coarser(unit), rotations, unit)
    chosen = _distinct(poses, scores, _CANDIDATES, 20.0)
    mid = _Scorer(fixed.coarser(unit / 1.5), moving.coarser(unit / 1.5), _POINTS, unit)
    length = unit / 1000
    improved = [mid.improve(poses[i], (12.0, length), (1.5, length / 12)) for i in chosen]
    improved.sort(key=lambda pair: -pair[1])
    fine = _Scorer(fixed.coarser(unit / 3), moving.coarser(unit / 3), _FINE_POINTS, unit)
    kept = _distinct([m for m, _ in improved], np.array([s for _, s in improved]), _FINALISTS, 20.0)
    final = [fine.improve(improved[i][0], (4.0, length / 3), (0.3, length / 30)) for i in kept]
    best, information = max(final, key=lambda pair: pair[1])
    others = [s for m, s in final if rotation_angle(m[:3, :3] @ best[:3, :3].T) > 45]
    return Start(best, information, max(others, default=0.0))


def _unit_um(fixed: Scene) -> float:
    """Return the voxel size of the coarsest search."""
    where = np.argwhere(fixed.brain if fixed.brain.any() else fixed.valid)
    extent = (np.ptp(where, axis=0) + 1) * fixed.volume.voxel_um
    return float(extent.max() / _LENGTHS)


def rotation_angle(matrix: Matrix) -> float:
    """Return by how many degrees a rotation matrix turns."""
    return float(np.degrees(np.arccos(np.clip((np.trace(matrix) - 1) / 2, -1, 1))))


def _rotations(turns: Sequence[Matrix], limit_deg: float) -> list[Matrix]:
    """Return turns, each with the rotations around it: on a grid of 30 degrees for many, of 20 for one."""
    from scipy.spatial.transform import Rotation

    if len(turns) > 1:
        steps = [0.0] if limit_deg < 15 else [-30.0, 0.0, 30.0]
    else:
        reach = min(limit_deg, 60.0)
        count = max(1, round(reach / 20))
        steps = [float(v) for v in np.linspace(-reach, reach, 2 * count + 1)]
    local = [Rotation.from_rotvec(v, degrees=True).as_matrix() for v in product(steps, repeat=3)]
    return [r @ turn for turn in turns for r in local]


def _coarse(
    fixed: Scene, moving: Scene, rotations: Sequence[Matrix], unit_um: float
) -> tuple[list[Matrix], NDArray[np.float64]]:
    """Return the best shift of every rotation, the brains' centres being the start."""
    points, classes = _sample(fixed, _COARSE_POINTS, unit_um)
    bins = classify(moving.volume.data, moving.brain, moving.valid, CLASSES)
    to_index = np.linalg.inv(moving.volume.affine)
    a, b = fixed.centre(), moving.centre()
    starts = []
    for rotation in rotations:
        matrix = np.eye(4)
        matrix[:3, :3] = rotation
        matrix[:3, 3] = b - rotation @ a
        starts.append(matrix)
    # A part of a brain has its centre elsewhere: shifts reach over a third of the larger of both.
    reach = np.ceil(np.asarray(moving.brain.shape) * 0.3).astype(int)
    shifts = np.array(list(product(*(range(-r, r + 1, 2) for r in reach))), np.int64)
    matrices = np.array([(to_index @ m)[:3] for m in starts])
    scores = search_poses(points, classes, matrices, shifts, bins.data, CLASSES, CLASSES)
    best = scores.argmax(axis=1)
    poses = []
    for matrix, index in zip(starts, best, strict=True):
        moved = matrix.copy()
        moved[:3, 3] += moving.volume.affine[:3, :3] @ shifts[index]
        poses.append(moved)
    return poses, scores.max(axis=1)


def _sample(
    scene: Scene, count: int, unit_um: float
) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """Return points of the template's brain and of a shell around it, with their classes."""
    from scipy import ndimage

    grown = ndimage.binary_dilation(
        scene.brain, iterations=max(1, round(1.3 * unit_um / min(scene.volume.voxel_um)))
    )
    bins = classify(scene.volume.data, scene.brain, scene.valid, CLASSES)
    where = np.argwhere(grown & scene.valid)
    if len(where) > count:
        rng = np.random.default_rng(_SEED)
        where = where[np.sort(rng.choice(len(where), count, replace=False))]
    points = where @ scene.volume.affine[:3, :3].T + scene.volume.affine[:3, 3]
    return np.ascontiguousarray(points, np.float64), bins.data[tuple(where.T)]


def _distinct(
    poses: Sequence[Matrix], scores: NDArray[np.float64], count: int, apart_deg: float
) -> list[int]:
    """Return the indices of the best poses of which no two are alike."""
    kept: list[int] = []
    for i in np.argsort(-scores, kind="stable"):
        if all(rotation_angle(poses[i][:3, :3] @ poses[j][:3, :3].T) > apart_deg for j in kept):
            kept.append(int(i))
        if len(kept) == count:
            break
    return kept


class _Scorer:
    """Scores and improves poses of one moving scene against one fixed one."""

    def __init__(self, fixed: Scene, moving: Scene, points: int, unit_um: float) -> None:
        self.points, self.classes = _sample(fixed, points, unit_um)
        self.to_index = np.linalg.inv(moving.volume.affine)
        self.centre = fixed.centre()
        bins = classify(moving.volume.data, moving.brain, moving.valid, CLASSES)
        self.moving = np.where(bins.data == 255, 0, bins.data).astype(np.float32)
        self.valid = moving.valid.astype(np.uint8)

    def score(self, poses: Sequence[Matrix]) -> NDArray[np.float64]:
        matrices = np.array([(self.to_index @ m)[:3] for m in poses])
        return score_poses(
            self.points, self.classes, matrices, self.moving, self.valid, CLASSES, CLASSES
        )[:, 0]

    def improve(
        self, pose: Matrix, start: tuple[float, float], stop: tuple[float, float]
    ) -> tuple[Matrix, float]:
        """Turn and shift a pose while that helps, in steps (degrees, mm) that become smaller."""
        angle, length = start
        score = float(self.score([pose])[0])
        while angle > stop[0] or length > stop[1]:
            tried = [_moved(pose, self.centre, step) for step in _steps(angle, length)]
            scores = self.score(tried)
            best = int(scores.argmax())
            if scores[best] > score + 1e-9:
                pose, score = tried[best], float(scores[best])
            else:
                angle, length = angle / 2, length / 2
        return pose, score


def _steps(angle: float, length: float) -> list[NDArray[np.float64]]:
    """Return steps along each of the six axes, and turns that move with a shift."""
    found = []
    for axis in range(6):
        for sign in (-1, 1):
            step = np.zeros(6)
            step[axis] = sign * (angle if axis < 3 else length)
            found.append(step)
    for turn, shift in product(range(3), range(3, 6)):
        if shift - 3 != turn:
            for a, b in product((-1, 1), (-1, 1)):
                step = np.zeros(6)
                step[turn], step[shift] = a * angle, b * length
                found.append(step)
    return found


def _moved(pose: Matrix, centre: NDArray[np.float64], step: NDArray[np.float64]) -> Matrix:
    """Turn a pose about the template's centre and shift it."""
    from scipy.spatial.transform import Rotation

    turn = Rotation.from_rotvec(step[:3], degrees=True).as_matrix()
    here = pose[:3, :3] @ centre + pose[:3, 3]
    moved = np.eye(4)
    moved[:3, :3] = turn @ pose[:3, :3]
    moved[:3, 3] = here + step[3:] - moved[:3, :3] @ centre
    return moved
