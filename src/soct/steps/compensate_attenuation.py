"""One slice with the loss of light over depth taken out, cropped below the interface."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from soct.formats.npz import write_npz
from soct.steps.declaration import (
    Context,
    Cost,
    Input,
    Metric,
    Need,
    Output,
    Params,
    Result,
    Scope,
    Step,
    parameter,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from soct.formats.acquisition import Acquisition
    from soct.formats.ome_zarr import VolumeReader
    from soct.intensity.agarose_cover import AgaroseCover
    from soct.space import FloatArray
    from soct.steps.blocks import Block

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

        from soct.intensity.agarose_cover import AgaroseCover

        self.params = params
        self.volume = volume
        self.surface = _read_surface(context)
        self.valid = volume.read_valid()
        with np.load(context.run("beam_profile_correction", "profile")) as saved:
            self.log_sensitivity = np.asarray(saved["log_sensitivity"])
            self.axial = np.asarray(saved["axial_sensitivity"], np.float32)
            this = np.flatnonzero(saved["slice_ids"] == context.unit.slices[0])
            self.gain = float(np.exp(saved["log_gain"][this].sum()))
            self.cover: AgaroseCover | None = None
            if saved["covered"][this].any() and saved["cover_decay_per_px"] > 0:
                self.cover = AgaroseCover(
                    np.asarray(saved["log_instrument"]),
                    float(saved["cover_decay_per_px"]),
                    float(saved["cover_level"]),
                    "",
                )
        self.strength = params.strength

    def correct(self, block: Block) -> FloatArray:
        """Corrected block over the frame's full depth, NaN where there are no data."""
        import numpy as np

        from soct.intensity.attenuation import correct_attenuation
        from soct.intensity.axial_profile import apply_depth_gain

        s = self.surface
        here = (block.rows, block.columns)
        if self.params.method == "overlap":
            out = apply_depth_gain(
                self.volume.read(None, block[:2], block[2:]),
                s.depth_px[here],
                self.log_sensitivity,
                floor=s.floor,
                max_gain=1.0 / self.params.lowest_transmission,
                skip_px=s.margin,
            )
            self._uncover(out, block)
        else:
            data, optical = self._optical_depth(block)
            assert self.strength is not None
            out = correct_attenuation(
                data, optical, self.strength, lowest_transmission=self.params.lowest_transmission
            )
            depth = np.arange(out.shape[0], dtype=np.float32)[:, None, None]
            out[depth < s.depth_px[here][None] + s.margin] = np.nan
        z = np.arange(out.shape[0], dtype=np.int16)[:, None, None]
        out[(z < self.valid[0][here][None]) | (z >= self.valid[1][here][None])] = np.nan
        return out

    def _uncover(self, out: FloatArray, block: Block) -> None:
        """Give tissue below agarose back what the agarose did not take."""
        from soct.intensity.agarose_cover import find_tissue_start, uncover

        if self.cover is None:
            return
        s = self.surface
        wider = block.grown(HALO_PX, self.volume.shape)
        start = find_tissue_start(
            self.volume.read(None, wider[:2], wider[2:]),
            s.depth_px[wider.rows, wider.columns],
            self.valid[:, wider.rows, wider.columns],
            self.cover,
            floor=s.floor,
            gain=self.gain,
        )
        inner = block.within(wider)
        uncover(out, s.depth_px[block.rows, block.columns], start[inner], self.cover.decay_per_px)

    def _optical_depth(self, block: Block) -> tuple[FloatArray, FloatArray]:
        import numpy as np

        from soct.intensity.attenuation import estimate_attenuation

        s = self.surface
        wider = block.grown(HALO_PX, self.volume.shape)
        data: FloatArray = self.volume.read(None, wider[:2], wider[2:]) - np.float32(s.floor)
        data /= self.axial[:, None, None]
        assert self.params.method != "overlap"
        found = estimate_attenuation(
            data,
            s.depth_px[wider.rows, wider.columns],
            self.volume.voxel_um.z,
            method=self.params.method,
            valid=self.valid[:, wider.rows, wider.columns],
            noise=s.noise,
        )
        inner = block.within(wider)
        data = data[:, *inner]
        # What a file holds where there are no data is no darkness, which would look like attenuation.
        z = np.arange(data.shape[0], dtype=np.int16)[:, None, None]
        first, stop = self.valid[:, block.rows, block.columns]
        data = np.where((z >= first[None]) & (z < stop[None]), data, np.float32(np.nan))
        return data, found.optical_depth[:, *inner]

    def choose_strength(self, blocks: list[Block]) -> None:
        """Choose the strength that leaves no trend over depth, from blocks spread over the slice."""
        from soct.intensity.attenuation import StrengthSums, choose_strength

        if self.params.method == "overlap" or self.strength is not None:
            return
        sums = StrengthSums(self.volume.shape[0])
        for block in blocks[:: max(1, len(blocks) // 16)]:
            data, optical = self._optical_depth(block)
            sums.add(data, optical, self.surface.depth_px[block.rows, block.columns])
        self.strength = choose_strength(sums)


SMOOTHING = (0.8, 2.0, 2.0)
"""Gaussian widths (z, y, x) of the samples on which the noise of the water was measured."""


def _voxel_snr(snr: FloatArray) -> float | None:
    """Signal-to-noise ratio of single voxels half way down the planes that are kept."""
    import numpy as np

    if not snr.size:
        return None
    # White noise keeps 1 / (2 sqrt(pi) sigma) of its variance along each smoothed axis.
    kept = np.prod(2 * np.sqrt(np.pi) * np.array(SMOOTHING))
    return float(snr[len(snr) // 2] / np.sqrt(kept))


def _signal_to_noise(correction: _Correction, profile: NDArray[np.float64]) -> FloatArray:
    """Mean tissue signal over noise on the planes that are kept."""
    import numpy as np

    s = correction.surface
    at = np.arange(s.planes) + s.crop - float(np.median(s.depth_px))
    signal = np.interp(at, np.arange(len(profile)), profile)
    noise = max(s.noise, 1e-3 * float(np.max(profile, initial=0.0)), 1e-12)
    return (signal / noise).astype(np.float32)


def run(context: Context, params: CompensateAttenuationParams) -> Result:
    """Write the compensated, cropped slice block by block."""
    import numpy as np

    from soct.formats.ome_zarr import band_shards, create_volume, open_volume, plane_chunks
    from soct.geometry.focal_curvature import shift_a_lines
    from soct.intensity.depth_profiles import DepthSums
    from soct.intensity.normalization import IntensityHistogram
    from soct.steps.blocks import cut_blocks

    volume = open_volume(
        context.mine("stitch_3d_with_refinement", "slice"), threads=context.threads
    )
    correction = _Correction(context, params, volume)
    s = correction.surface
    _, ny, nx = volume.shape
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
    blocks = cut_blocks(shape, writer.shards)
    correction.choose_strength(blocks)
    valid = np.zeros((2, ny, nx), np.int16)
    histogram = IntensityHistogram()
    with writer:
        for done, block in enumerate(blocks):
            here = (block.rows, block.columns)
            data = correction.correct(block)
            if s.flatten:
                data = shift_a_lines(data, s.depth_px[here] - s.crop)
            kept = np.full((s.planes, *data.shape[1:]), np.nan, np.float32)
            part = data[s.crop : s.crop + s.planes]
            kept[: part.shape[0]] = part
            finite = np.isfinite(kept)
            seen = finite.any(axis=0)
            valid[0][here] = np.where(seen, finite.argmax(axis=0), 0)
            valid[1][here] = np.where(seen, s.planes - finite[::-1].argmax(axis=0), 0)
            histogram.add(kept)
            kept[~finite] = 0.0
            writer.write((0, block.y0, block.x0), kept)
            context.progress((done + 1) / len(blocks))
        writer.write_valid(valid)
    with np.load(context.mine("crop_interface", "surface")) as saved:
        sums = DepthSums.from_array(saved["tissue_sums"], s.floor)
    snr = _signal_to_noise(correction, np.nan_to_num(sums.below_surface().mean))
    write_npz(context.output("levels"), histogram=histogram.to_array(), snr=snr)
    depth_um = (
        float((valid[1] - valid[0])[valid[1] > 0].mean()) * volume.voxel_um.z
        if valid.any()
        else 0.0
    )
    return Result(
        metrics=(
            Metric("depth_used_um", depth_um, "um", "mean depth range with data"),
            Metric(
                "tissue_snr",
                _voxel_snr(snr),
                "",
                "mean signal of tissue over the noise of a voxel, half way down",
            ),
            Metric(
                "attenuation_strength", correction.strength, "", "strength of the A-line correction"
            ),
        ),
        warnings=() if valid.any() else ("no data lie below the interface: the slice is empty",),
    )


def estimate(acquisition: Acquisition, slices: tuple[int, ...], params: Mapping[str, Any]) -> Need:
    """Size of the outputs, and the memory that the unit cannot do without."""
    from soct.steps.sizes import FLOAT, largest, measure_slices

    return largest(
        [
            Need(
                FLOAT * size.planes_kept(params) * size.plane,
                40 * size.plane + 8 * size.block_bytes(HALO_PX),
            )
            for size in measure_slices(acquisition, slices, params)
        ]
    )


STEP = Step(
    id="compensate_attenuation",
    version=4,
    scope=Scope.SLICE,
    params=CompensateAttenuationParams,
    run=run,
    cost=Cost(mvoxel=0.076, serial=0.5),
    estimate=estimate,
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
