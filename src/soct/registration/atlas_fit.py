"""A brain fitted to a template: rigid, then affine, then B-spline, each kept only where it is better.

The start comes from an exhaustive search (`soct.registration.atlas_search`); SimpleITK descends from there,
coarse to fine. What a stage found is scored anew on the same points as what it began with, and refused with a
reason where the score is not higher, where it needs an implausible size or folds space, or where the two
volumes have drifted apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from soct.geometry.orientation import LPS_FROM_RAS, Matrix, OrientedVolume, orientation_of
from soct.registration.atlas_search import Scene, Start, find_start, rotation_angle
from soct.registration.brain_mask import BoolArray
from soct.space import FloatArray

Model = Literal["rigid", "affine", "bspline"]
MetricName = Literal["mutual_information", "correlation"]

_BINS = 48
_SAMPLES = 40_000
"""Points of one evaluation of the metric; more of them changed results by less than a tenth of a voxel."""
_SEED = 987_654
# ITK adds up the parts of a metric as its threads finish, which changes the last bits: one thread for all.
_ITK_THREADS = 1
_SMALLEST_SCALE, _LARGEST_SCALE = 0.7, 1.4
_LEAST_OVERLAP = 0.7


@dataclass(frozen=True)
class Stage:
    """One stage of the fit.

    Attributes
    ----------
    name : str
        ``start``, ``rigid``, ``affine`` or ``bspline``.
    score : float
        What the metric is at its end: mutual information in nats per point, or the correlation.
    accepted : bool
        Whether its result is used.
    reason : str
        Why not; empty where it is.
    """

    name: str
    score: float
    accepted: bool
    reason: str = ""


@dataclass(frozen=True)
class AtlasFit:
    """Where a template's points lie in a brain.

    Attributes
    ----------
    transform : SimpleITK.Transform
        From points of the template to points of the volume, in ITK's coordinates (mm; left, posterior, superior).
    matrix : ndarray, shape (4, 4)
        Its linear part, between world coordinates (right, anterior, superior; mm).
    model : str
        ``rigid``, ``affine`` or ``bspline``: the last stage that was accepted.
    orientation : str
        The code, nearest to the axes, that the moving volume has by this fit.
    start : Start
        Where the fit began.
    stages : tuple of Stage
        What each stage found.
    """

    transform: Any
    matrix: Matrix
    model: Model
    orientation: str
    start: Start
    stages: tuple[Stage, ...]

    @property
    def stages_score(self) -> float:
        """The metric of the last stage that was accepted."""
        return next(stage.score for stage in reversed(self.stages) if stage.accepted)

    @property
    def rotation_deg(self) -> float:
        """How far the brain is tilted against the template."""
        u, _, vt = np.linalg.svd(self.matrix[:3, :3])
        return rotation_angle(u @ vt)

    @property
    def scale(self) -> float:
        """Size of the brain over that of the template, the mean over the axes."""
        return float(abs(np.linalg.det(self.matrix[:3, :3])) ** (1 / 3))


def in_other_frame(fit: AtlasFit, turn: NDArray[np.float64]) -> AtlasFit:
    """Return a fit to the same volume whose world coordinates are turned.

    Parameters
    ----------
    fit : AtlasFit
        As it is.
    turn : ndarray, shape (3, 3)
        From the volume's old world coordinates to its new ones.
    """
    turned = np.eye(4)
    turned[:3, :3] = turn
    matrix = turned @ fit.matrix
    if isinstance(fit.transform, sitk.CompositeTransform):
        spline = fit.transform.GetNthTransform(1)
        transform = _Warped(_affine(matrix), spline).composite()
    else:
        transform = _published(_affine(matrix), fit.model)
    return replace(fit, matrix=matrix, transform=transform)


def fit_atlas(
    fixed: Scene,
    moving: Scene,
    *,
    model: Model = "affine",
    metric: MetricName = "mutual_information",
    orientations: Sequence[str] | None = None,
    max_rotation_deg: float = 45.0,
    bspline_mm: float = 1.5,
    progress: Callable[[float], None] = lambda fraction: None,
) -> AtlasFit:
    """Fit a brain to a template.

    Parameters
    ----------
    fixed, moving : Scene
        Template and brain, of the voxels to work with (about 50 um).
    model : {"rigid", "affine", "bspline"}
        The last stage.
    metric : {"mutual_information", "correlation"}
        Correlation for volumes of the same kind of contrast.
    orientations : sequence of str, optional
        Codes to try for the moving volume; None: the one of its affine.
    max_rotation_deg : float
        How far the brain may be turned from an orientation.
    bspline_mm : float
        Distance of the control points.
    progress : callable
        Told the fraction done.
    """
    start = find_start(
        fixed.coarser(100.0),
        moving.coarser(100.0),
        orientations=orientations,
        max_rotation_deg=max_rotation_deg,
    )
    progress(0.3)
    worker = _Fitter(fixed, moving, metric)
    current: Any = _affine(start.matrix)
    stages = [Stage("start", worker.score(current), True)]
    reached: Model = "rigid"
    for number, name in enumerate(("rigid", "affine", "bspline")[: 1 + _order(model)]):
        found = (
            worker.bspline(current, bspline_mm)
            if name == "bspline"
            else worker.linear(current, name, is_last=name == model)
        )
        stage = worker.judge(name, found, current, stages[-1].score)
        if stage.accepted:
            current, reached = found, name  # type: ignore[assignment]
            stages.append(stage)
        else:
            stages.append(stage)
            if name != "rigid":
                break
        progress(0.3 + 0.7 * (number + 1) / (1 + _order(model)))
    linear = current if not isinstance(current, _Warped) else current.linear
    matrix = matrix_of(linear)
    code = orientation_of(np.linalg.inv(matrix) @ moving.volume.affine)
    transform = current.composite() if isinstance(current, _Warped) else _published(linear, reached)
    return AtlasFit(transform, matrix, reached, code, start, tuple(stages))


def _order(model: str) -> int:
    return ("rigid", "affine", "bspline").index(model)


def matrix_of(transform: Any) -> Matrix:
    """Return an ITK linear transform as a matrix between world coordinates (right, anterior, superior)."""
    lps = np.eye(4)
    origin = np.array(transform.TransformPoint((0.0, 0.0, 0.0)))
    for axis in range(3):
        unit = [0.0] * 3
        unit[axis] = 1.0
        lps[:3, axis] = np.array(transform.TransformPoint(unit)) - origin
    lps[:3, 3] = origin
    return LPS_FROM_RAS @ lps @ LPS_FROM_RAS


def _affine(matrix: Matrix, centre: Sequence[float] = (0.0, 0.0, 0.0)) -> Any:
    """Return a matrix between world coordinates as an ITK transform about a centre (ITK's coordinates)."""
    lps = LPS_FROM_RAS @ matrix @ LPS_FROM_RAS
    transform = sitk.AffineTransform(3)
    transform.SetMatrix([float(v) for v in lps[:3, :3].ravel()])
    c = np.asarray(centre, float)
    transform.SetCenter([float(v) for v in c])
    transform.SetTranslation([float(v) for v in lps[:3, 3] + lps[:3, :3] @ c - c])
    return transform


def _published(linear: Any, model: str) -> Any:
    """Return a rigid result as Euler angles, an affine one as a matrix."""
    if model == "affine":
        return sitk.AffineTransform(linear)
    lps = LPS_FROM_RAS @ matrix_of(linear) @ LPS_FROM_RAS
    u, _, vt = np.linalg.svd(lps[:3, :3])
    euler = sitk.Euler3DTransform()
    euler.SetMatrix([float(v) for v in (u @ vt).ravel()], 1e-6)
    euler.SetTranslation([float(v) for v in lps[:3, 3]])
    return euler


def itk_image(volume: OrientedVolume) -> Any:
    """Return a volume as an ITK image in its place."""
    lps = LPS_FROM_RAS @ volume.affine
    linear = lps[:3, 2::-1]
    spacing = np.linalg.norm(linear, axis=0)
    data = volume.data.astype(np.uint8) if volume.data.dtype == np.bool_ else volume.data
    image = sitk.GetImageFromArray(np.ascontiguousarray(data))
    image.SetSpacing([float(v) for v in spacing])
    image.SetOrigin([float(v) for v in lps[:3, 3]])
    image.SetDirection([float(v) for v in (linear / spacing).ravel()])
    return image


def clip_intensities(scene: Scene) -> FloatArray:
    """Return intensities between what 0.5 % of the brain's voxels are below and above, as 0 to 1."""
    data = np.asarray(scene.volume.data, np.float32)
    seen = scene.valid & np.isfinite(data)
    brain = data[scene.brain & seen]
    if brain.size == 0:
        brain = data[seen]
    if brain.size == 0:
        return np.zeros(data.shape, np.float32)
    low = float(np.percentile(data[seen], 0.5))
    high = float(np.percentile(brain, 99.5))
    clipped = np.clip((np.where(seen, data, low) - low) / max(high - low, 1e-12), 0, 1)
    return clipped.astype(np.float32)


@dataclass(frozen=True)
class _Warped:
    """A B-spline before a linear transform."""

    linear: Any
    spline: Any

    def composite(self) -> Any:
        both = sitk.CompositeTransform(3)
        both.AddTransform(self.linear)
        both.AddTransform(self.spline)
        return both


class _Fitter:
    """Runs and judges the stages on one pair of scenes."""

    def __init__(self, fixed: Scene, moving: Scene, metric: MetricName) -> None:
        from scipy import ndimage

        self._metric = metric
        voxel = fixed.volume.voxel_um
        small = fixed.coarser(200.0)
        grown = ndimage.binary_dilation(
            small.brain, iterations=max(1, round(500 / min(small.volume.voxel_um)))
        )
        self.fixed = itk_image(OrientedVolume(clip_intensities(fixed), fixed.volume.affine))
        self.moving = itk_image(OrientedVolume(clip_intensities(moving), moving.volume.affine))
        coarse_mask = itk_image(OrientedVolume(grown, small.volume.affine))
        self.fixed_mask = sitk.And(
            sitk.Resample(coarse_mask, self.fixed, sitk.Transform(), sitk.sitkNearestNeighbor, 0),
            itk_image(OrientedVolume(fixed.valid, fixed.volume.affine)),
        )
        self.moving_mask = itk_image(OrientedVolume(moving.valid, moving.volume.affine))
        self.centre = [float(v) for v in (LPS_FROM_RAS @ np.append(fixed.centre(), 1))[:3]]
        self._voxel_mm = float(np.mean(voxel)) / 1000
        self._fixed_scene, self._moving_scene = fixed, moving
        self._judge = _Judge(fixed, moving, metric)

    def score(self, transform: Any) -> float:
        """Return the metric of a transform, on points that are the same for all."""
        return self._judge.score(transform)[0]

    def judge(self, name: str, found: Any, before: Any, best: float) -> Stage:
        """Say whether a stage's result may be used."""
        if isinstance(found, str):
            return Stage(name, best, False, found)
        score, overlap = self._judge.score(found)
        _, overlap_before = self._judge.score(before)
        linear = found.linear if isinstance(found, _Warped) else found
        scales = np.linalg.svd(matrix_of(linear)[:3, :3], compute_uv=False)
        if not np.isfinite(score):
            return Stage(name, score, False, "the metric is not a number")
        if score < best - 1e-6:
            return Stage(name, score, False, f"the metric fell from {best:.4f} to {score:.4f}")
        if overlap < _LEAST_OVERLAP * overlap_before:
            reason = f"the overlap fell from {100 * overlap_before:.2g} to {100 * overlap:.2g} %"
            return Stage(name, score, False, reason)
        if scales.min() < _SMALLEST_SCALE or scales.max() > _LARGEST_SCALE:
            reason = f"it scales by {scales.min():.2f} to {scales.max():.2f}"
            return Stage(name, score, False, reason)
        if isinstance(found, _Warped):
            least = self._least_jacobian(found.spline)
            if least <= 0.05:
                return Stage(name, score, False, f"it folds space (Jacobian {least:.2f})")
        return Stage(name, score, True)

    def linear(self, start: Any, name: str, *, is_last: bool) -> Any:
        """Refine a linear transform, to the finest level where no stage follows; return why ITK fails."""
        step: Any = sitk.Euler3DTransform() if name == "rigid" else sitk.AffineTransform(3)
        step.SetCenter(self.centre)
        levels = slice(None) if is_last or name == "affine" else slice(2)
        method = self._method([4, 2, 1][levels], [2.0, 1.0, 0.0][levels])
        method.SetOptimizerAsRegularStepGradientDescent(
            learningRate=4 * self._voxel_mm,
            minStep=5e-3 * self._voxel_mm,
            numberOfIterations=50,
            relaxationFactor=0.5,
            gradientMagnitudeTolerance=1e-8,
        )
        method.SetOptimizerScalesFromPhysicalShift()
        method.SetMovingInitialTransform(start)
        method.SetInitialTransform(step, inPlace=True)
        error = self._execute(method)
        if error:
            return error
        return _affine(matrix_of(start) @ matrix_of(step), self.centre)

    def bspline(self, start: Any, spacing_mm: float) -> Any:
        """Refine by control points over the template's box; return the reason where ITK fails."""
        size = [n * s for n, s in zip(self.fixed.GetSize(), self.fixed.GetSpacing(), strict=True)]
        mesh = [max(1, round(length / spacing_mm)) for length in size]
        spline = sitk.BSplineTransformInitializer(self.fixed, mesh, 3)
        method = self._method([4, 2], [2.0, 1.0])
        method.SetOptimizerAsLBFGSB(
            gradientConvergenceTolerance=1e-6,
            numberOfIterations=40,
            maximumNumberOfCorrections=5,
            maximumNumberOfFunctionEvaluations=200,
        )
        method.SetMovingInitialTransform(start)
        method.SetInitialTransform(spline, inPlace=True)
        error = self._execute(method)
        return error or _Warped(start, spline)

    def _method(self, shrink: list[int], smooth: list[float]) -> Any:
        method = sitk.ImageRegistrationMethod()
        if self._metric == "correlation":
            method.SetMetricAsCorrelation()
        else:
            method.SetMetricAsMattesMutualInformation(_BINS)
        method.SetMetricFixedMask(self.fixed_mask)
        method.SetMetricMovingMask(self.moving_mask)
        method.SetMetricSamplingStrategy(method.RANDOM)
        voxels = int(np.prod(self.fixed.GetSize()))
        shares = [min(1.0, _SAMPLES * f**3 / voxels) for f in shrink]
        method.SetMetricSamplingPercentagePerLevel(shares, _SEED)
        method.SetShrinkFactorsPerLevel(shrink)
        method.SetSmoothingSigmasPerLevel([s * self._voxel_mm for s in smooth])
        method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
        method.SetInterpolator(sitk.sitkLinear)
        return method

    def _execute(self, method: Any) -> str:
        before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
        shown = sitk.ProcessObject.GetGlobalWarningDisplay()
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(_ITK_THREADS)
        sitk.ProcessObject.SetGlobalWarningDisplay(False)
        method.SetNumberOfThreads(_ITK_THREADS)
        method.SetNumberOfWorkUnits(_ITK_THREADS)
        try:
            method.Execute(self.fixed, self.moving)
        except RuntimeError as error:
            said = " ".join(str(error).split()).rpartition("): ")[2] or "no reason given"
            return f"ITK stopped: {said[:160]}"
        finally:
            sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)
            sitk.ProcessObject.SetGlobalWarningDisplay(shown)
        return ""

    def _least_jacobian(self, spline: Any) -> float:
        factors = [max(1, round(0.3 / s)) for s in self.fixed.GetSpacing()]
        grid = sitk.Shrink(self.fixed, factors)
        field = sitk.TransformToDisplacementField(
            spline,
            sitk.sitkVectorFloat64,
            grid.GetSize(),
            grid.GetOrigin(),
            grid.GetSpacing(),
            grid.GetDirection(),
        )
        jacobian = sitk.GetArrayViewFromImage(sitk.DisplacementFieldJacobianDeterminant(field))
        mask = sitk.GetArrayViewFromImage(sitk.Shrink(self.fixed_mask, factors)) > 0
        return float(jacobian[mask].min()) if mask.any() else 1.0


class _Judge:
    """Scores any transform on fixed points, apart from the optimiser's own samples."""

    def __init__(
        self, fixed: Scene, moving: Scene, metric: MetricName, voxel_um: float = 100.0
    ) -> None:
        from scipy import ndimage

        self._metric = metric
        coarse = fixed.coarser(voxel_um)
        grown = ndimage.binary_dilation(
            coarse.brain, iterations=max(1, round(300 / min(coarse.volume.voxel_um)))
        )
        where = np.argwhere(grown & coarse.valid)
        step = max(1, len(where) // 60_000)
        where = where[::step]
        self._points: NDArray[np.float64] = (
            where @ coarse.volume.affine[:3, :3].T + coarse.volume.affine[:3, 3]
        )
        self._values = clip_intensities(coarse)[tuple(where.T)]
        small = moving.coarser(voxel_um)
        self._moving = clip_intensities(small)
        self._valid: BoolArray = small.valid
        self._to_index = np.linalg.inv(small.volume.affine)

    def score(self, transform: Any) -> tuple[float, float]:
        """Return the metric and the share of the points that fall on data."""
        from scipy import ndimage

        if isinstance(transform, _Warped):
            lps = self._points * (-1, -1, 1)
            there = np.array([transform.spline.TransformPoint(p) for p in lps.tolist()]) * (
                -1,
                -1,
                1,
            )
            matrix = matrix_of(transform.linear)
        else:
            there, matrix = self._points, matrix_of(transform)
        index = self._to_index @ matrix
        coordinates = index[:3, :3] @ there.T + index[:3, 3:]
        nearest = np.rint(coordinates).astype(int)
        limits = np.array(self._moving.shape)[:, None]
        inside = np.asarray(((nearest >= 0) & (nearest < limits)).all(axis=0), bool)
        inside[inside] = self._valid[tuple(nearest[:, inside])]
        overlap = float(inside.mean()) if inside.size else 0.0
        if inside.sum() < 100:
            return 0.0, overlap
        moved = ndimage.map_coordinates(
            self._moving, coordinates[:, inside], order=1, mode="nearest"
        )
        fixed = self._values[inside]
        if self._metric == "correlation":
            if min(moved.std(), fixed.std()) <= 1e-9:
                return 0.0, overlap
            return float(np.corrcoef(moved, fixed)[0, 1]) * overlap, overlap
        return _mutual_information(fixed, moved) * overlap, overlap


def _mutual_information(a: NDArray[np.floating[Any]], b: NDArray[np.floating[Any]]) -> float:
    """Mutual information of two samples of values in 0 .. 1, in nats, less what chance gives."""
    joint, _, _ = np.histogram2d(a, b, bins=32, range=((0, 1), (0, 1)))
    total = joint.sum()
    rows, columns = joint.sum(axis=1, keepdims=True), joint.sum(axis=0, keepdims=True)
    filled = joint > 0
    found = (joint * np.log(np.where(filled, joint * total / (rows * columns + 1e-300), 1)))[
        filled
    ].sum()
    chance = 0.5 * ((rows > 0).sum() - 1) * ((columns > 0).sum() - 1)
    return float((found - chance) / total)
