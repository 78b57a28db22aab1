"""One slice with the loss of light over depth taken out, cropped below the interface."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from soct.steps.declaration import (
    Context,
    Input,
    Metric,
    Output,
    Params,
    Result,
    Scope,
    Step,
    parameter,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from soct.formats.ome_zarr import VolumeReader
    from soct.space import FloatArray

HALO_PX = 16


class CompensateAttenuationParams(Params):
    """Parameters of `compensate_attenuation`."""

    method: Literal["overlap", "vermeer", "smith", "liu", "li"] = parameter(
        "overlap",
        "overlap: the run's depth sensitivity, measured on tissue seen at two depths; the others estimate attenuation along each A-line.",
    )
    strength: float | None = parameter(
        None,
        "Share of the estimated attenuation that is compensated (A-line methods); empty: no trend is left in tissue.",
        ge=0,
        le=3,
    )
    lowest_transmission: float = parameter(
        0.05, "Limit on the divisor, so that noise is not amplified without end.", gt=0, le=1
    )
    codec: Literal["none", "zstd"] = parameter("none", "Compression of the slice on disk.")


@dataclass(frozen=True)
class _Surface:
    """What `crop_interface` decided."""

    depth_px: FloatArray
    crop: int
    planes: int
    margin: float
    flatten: bool
    floor: float
    noise: float


def _read_surface(context: Context) -> _Surface:
    import numpy as np

    with np.load(context.mine("crop_interface", "surface")) as saved:
        return _Surface(
            np.asarray(saved["depth_px"], np.float32),
            int(saved["crop_px"]),
            int(saved["planes"]),
            float(saved["margin_px"]),
            bool(saved["flatten"]),
            float(saved["floor"]),
            float(saved["noise"]),
        )


class _Correction:
    """Corrects bands of a stitched slice; the method's choices are made once per slice."""

    def __init__(
        self, context: Context, params: CompensateAttenuationParams, volume: VolumeReader
    ) -> None:
        import numpy as np

        self.params = params
        self.volume = volume
        self.surface = _read_surface(context)
        self.valid = volume.read_valid()
        with np.load(context.run("beam_profile_correction", "profile")) as saved:
            self.log_sensitivity = np.asarray(saved["log_sensitivity"])
            self.axial = np.asarray(saved["axial_sensitivity"], np.float32)
        self.strength = params.strength

    def band(self, y0: int, y1: int) -> FloatArray:
        """Corrected rows ``y0 .. y1`` over the frame's full depth, NaN where there are no data."""
        import numpy as np

        from soct.intensity.attenuation import correct_attenuation
        from soct.intensity.axial_profile import apply_depth_gain

        s = self.surface
        if self.params.method == "overlap":
            out = apply_depth_gain(
                self.volume.read(None, (y0, y1)),
                s.depth_px[y0:y1],
                self.log_sensitivity,
                floor=s.floor,
                max_gain=1.0 / self.params.lowest_transmission,
                skip_px=s.margin,
            )
        else:
            block, optical = self._optical_depth(y0, y1)
            assert self.strength is not None
            out = correct_attenuation(
                block, optical, self.strength, lowest_transmission=self.params.lowest_transmission
            )
            depth = np.arange(out.shape[0], dtype=np.float32)[:, None, None]
            out[depth < s.depth_px[None, y0:y1] + s.margin] = np.nan
        z = np.arange(out.shape[0], dtype=np.int16)[:, None, None]
        out[(z < self.valid[0, None, y0:y1]) | (z >= self.valid[1, None, y0:y1])] = np.nan
        return out

    def _optical_depth(self, y0: int, y1: int) -> tuple[FloatArray, FloatArray]:
        import numpy as np

        from soct.intensity.attenuation import estimate_attenuation

        s = self.surface
        ny = self.volume.shape[1]
        a, b = max(0, y0 - HALO_PX), min(ny, y1 + HALO_PX)
        block: FloatArray = self.volume.read(None, (a, b)) - np.float32(s.floor)
        block /= self.axial[:, None, None]
        assert self.params.method != "overlap"
        found = estimate_attenuation(
            block,
            s.depth_px[a:b],
            self.volume.voxel_um.z,
            method=self.params.method,
            valid=self.valid[:, a:b],
            noise=s.noise,
        )
        return block[:, y0 - a : y1 - a], found.optical_depth[:, y0 - a : y1 - a]

    def choose_strength(self, bands: list[tuple[int, int]]) -> None:
        """Choose the strength that leaves no trend over depth, from every fourth band."""
        from soct.intensity.attenuation import StrengthSums, choose_strength

        if self.params.method == "overlap" or self.strength is not None:
            return
        sums = StrengthSums(self.volume.shape[0])
        for y0, y1 in bands[:: max(1, len(bands) // 4)]:
            block, optical = self._optical_depth(y0, y1)
            sums.add(block, optical, self.surface.depth_px[y0:y1])
        self.strength = choose_strength(sums)


def _signal_to_noise(correction: _Correction, profile: NDArray[np.float64]) -> FloatArray:
    """Mean tissue signal over noise on the planes that are kept."""
    import numpy as np

    s = correction.surface
    at = np.arange(s.planes) + s.crop - float(np.median(s.depth_px))
    signal = np.interp(at, np.arange(len(profile)), profile)
    noise = max(s.noise, 1e-3 * float(np.max(profile, initial=0.0)), 1e-12)
    return (signal / noise).astype(np.float32)


def run(context: Context, params: CompensateAttenuationParams) -> Result:
    """Write the compensated, cropped slice band by band."""
    import numpy as np

    from soct.formats.ome_zarr import band_shards, create_volume, open_volume, plane_chunks
    from soct.geometry.focal_curvature import shift_a_lines
    from soct.intensity.depth_profiles import DepthSums
    from soct.intensity.normalization import IntensityHistogram

    volume = open_volume(
        context.mine("stitch_3d_with_refinement", "slice"), threads=context.threads
    )
    correction = _Correction(context, params, volume)
    s = correction.surface
    nz, ny, nx = volume.shape
    shape = (s.planes, ny, nx)
    chunks = plane_chunks(shape)
    writer = create_volume(
        context.output("slice"),
        shape,
        volume.voxel_um,
        chunks=chunks,
        shards=band_shards(shape, chunks),
        codec=params.codec,
        attributes={"slice_id": context.unit.slices[0], "crop_px": s.crop},
        threads=context.threads,
    )
    rows = writer.shards[1]
    rows *= max(1, int(context.memory_bytes // 8 // max(rows * nz * nx * 4, 1)))
    bands = [(y0, min(y0 + rows, ny)) for y0 in range(0, ny, rows)]
    correction.choose_strength(bands)
    valid = np.zeros((2, ny, nx), np.int16)
    histogram = IntensityHistogram()
    with writer:
        for y0, y1 in bands:
            data = correction.band(y0, y1)
            if s.flatten:
                data = shift_a_lines(data, s.depth_px[y0:y1] - s.crop)
            kept = np.full((s.planes, y1 - y0, nx), np.nan, np.float32)
            part = data[s.crop : s.crop + s.planes]
            kept[: part.shape[0]] = part
            finite = np.isfinite(kept)
            seen = finite.any(axis=0)
            valid[0, y0:y1] = np.where(seen, finite.argmax(axis=0), 0)
            valid[1, y0:y1] = np.where(seen, s.planes - finite[::-1].argmax(axis=0), 0)
            histogram.add(kept)
            np.nan_to_num(kept, copy=False, nan=0.0)
            writer.write((0, y0, 0), kept)
            context.progress(y1 / ny)
        writer.write_valid(valid)
    with np.load(context.mine("crop_interface", "surface")) as saved:
        sums = DepthSums.from_array(saved["tissue_sums"], s.floor)
    np.savez(
        context.output("levels"),
        histogram=histogram.to_array(),
        snr=_signal_to_noise(correction, np.nan_to_num(sums.below_surface().mean)),
    )
    depth_um = (
        float((valid[1] - valid[0])[valid[1] > 0].mean()) * volume.voxel_um.z
        if valid.any()
        else 0.0
    )
    return Result(
        metrics=(
            Metric("depth_used_um", depth_um, "um", "mean depth range with data"),
            Metric(
                "attenuation_strength", correction.strength, "", "strength of the A-line correction"
            ),
        ),
        warnings=() if valid.any() else ("no data lie below the interface: the slice is empty",),
    )


STEP = Step(
    id="compensate_attenuation",
    version=1,
    scope=Scope.SLICE,
    params=CompensateAttenuationParams,
    run=run,
    summary="Take the loss of light over depth out of each slice and crop it.",
    inputs=(
        Input("stitch_3d_with_refinement"),
        Input("crop_interface"),
        Input("beam_profile_correction"),
    ),
    outputs=(
        Output("slice", "slice_z{slice:02d}.ome.zarr"),
        Output("levels", "levels_z{slice:02d}.npz"),
    ),
)
