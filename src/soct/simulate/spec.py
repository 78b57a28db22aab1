"""What to simulate: the size of an acquisition, its brain and its faults; and presets."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from soct.errors import UsageError
from soct.simulate.faults import Faults

Preset = Literal["demo", "tiny", "large"]


def _size(default: Any, description: str, unit: str | None = None, **limits: Any) -> Any:
    extra: dict[str, Any] = {} if unit is None else {"unit": unit}
    return Field(default, description=description, json_schema_extra=extra, **limits)


class BrainSpec(BaseModel):
    """Size and character of the procedural brain."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    radius_um: tuple[float, float, float] = Field(
        (5000.0, 3600.0, 4300.0), description="Half axes of the brain along (z, y, x), um (> 0)."
    )
    centre_um: tuple[float, float, float] = Field(
        (0.0, 0.0, 0.0), description="Centre of the brain along (z, y, x), um."
    )
    tilt_deg: float = Field(
        0.0,
        ge=-90,
        le=90,
        description="Turn of the brain about x against the cutting plane: an oblique cut.",
    )
    texture: float = Field(
        1.0, ge=0, le=3, description="Strength of the tissue texture, relative to the usual one."
    )
    vessels: float = Field(
        1.0, ge=0, le=1, description="Darkness of vessels: 0 has none, 1 the usual contrast."
    )
    seed: int = Field(0, ge=0, description="Seed of the texture and the outline.")


class AcquisitionSpec(BaseModel):
    """A simulated acquisition: the same spec gives the same bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str = _size("demo", "A word for the kind of acquisition, kept in the truth.")
    seed: int = _size(0, "Seed of everything that is drawn at random.", ge=0)
    slices: int = _size(5, "Number of cuts.", ge=1, le=10000)
    rows: int = _size(3, "Rows of tiles (y).", ge=1, le=1000)
    cols: int = _size(3, "Columns of tiles (x).", ge=1, le=1000)
    tile_px: tuple[int, int] = _size((80, 80), "B-scans and A-lines of a tile (y, x).", "px")
    n_z: int = _size(56, "Depth samples that are kept.", "samples", ge=4, le=4096)
    pixel_um: float = _size(25.0, "Lateral sampling.", "um", gt=0, le=1000)
    axial_um: float = _size(10.0, "Axial sampling in tissue.", "um", gt=0, le=1000)
    overlap: float = _size(0.2, "Part of a tile that its neighbour images too.", ge=0, lt=0.9)
    thickness_um: float = _size(200.0, "Set thickness of a cut.", "um", gt=0)
    surface_sample: float = _size(12.5, "Depth sample of the cut surface.", "samples", ge=0)
    n_extra: int = _size(12, "A-lines recorded while the galvo returns; 0 for none.", "px", ge=0)
    top_z: int = _size(100, "First kept depth sample, as in info.txt.", "samples", ge=0)
    brain: BrainSpec | None = _size(
        None, "The brain; None for one that fills the imaged field but for its corners."
    )
    brain_tilt_deg: float = _size(
        0.0, "Turn of that brain about x: an oblique cut.", "deg", ge=-90, le=90
    )
    interpolated: bool = _size(
        False,
        "Whether the brain is rendered once, at the truth's voxels, and imaged by interpolation: much "
        "faster for fine sampling, without texture finer than those voxels.",
    )
    truth_voxels: int = _size(
        32_000_000, "Largest truth volume: a larger one is written with coarser voxels.", ge=1000
    )
    faults: Faults = Field(default_factory=Faults, description="What goes wrong.")

    @model_validator(mode="after")
    def _check(self) -> AcquisitionSpec:
        if min(self.tile_px) < 8:
            raise ValueError("tile_px: a tile needs at least 8 pixels along y and x")
        if self.surface_sample >= self.n_z - 1:
            raise ValueError("surface_sample: the surface lies below the last depth sample")
        band = self.faults.galvo_return_px
        if band is not None and band > self.tile_px[1]:
            raise ValueError("galvo_return_px: the return band starts outside of the frame")
        return self

    @property
    def pitch_px(self) -> tuple[float, float]:
        """Distance between neighbouring tiles along (y, x), as the stage is told."""
        return tuple(round(n * (1 - self.overlap)) for n in self.tile_px)  # type: ignore[return-value]

    @property
    def field_px(self) -> tuple[float, float]:
        """Extent of the first mosaic along (y, x)."""
        p, n = self.pitch_px, self.tile_px
        return p[0] * (self.rows - 1) + n[0], p[1] * (self.cols - 1) + n[1]


_PRESETS: dict[str, dict[str, Any]] = {
    "demo": {"faults": {"galvo_return_px": 17, "files_per_tile": 2}},
    "tiny": {
        "slices": 3,
        "rows": 2,
        "cols": 2,
        "tile_px": (44, 44),
        "n_z": 40,
        "n_extra": 6,
        "overlap": 0.25,
        "surface_sample": 8.5,
        "faults": {"galvo_return_px": 9},
    },
    "large": {
        "slices": 8,
        "rows": 8,
        "cols": 8,
        "tile_px": (200, 200),
        "n_z": 100,
        "pixel_um": 10.0,
        "axial_um": 5.0,
        "n_extra": 24,
        "surface_sample": 25.0,
        "interpolated": True,
        "truth_voxels": 16_000_000,
        "faults": {"focus_sample": 50.0, "galvo_return_px": 40},
    },
}


def preset(
    name: Preset, *, faults: dict[str, Any] | None = None, **changes: Any
) -> AcquisitionSpec:
    """Return a ready-made acquisition, with some of its values changed.

    Parameters
    ----------
    name : {"demo", "tiny", "large"}
        ``demo``: 5 slices of 3 x 3 tiles, some 75 MB, seconds. ``tiny``: for tests, some 4 MB. ``large``: for
        measurements of memory and time; set ``slices``, ``rows`` and ``cols``.
    faults : dict, optional
        Values of `Faults` to change.
    **changes
        Values of `AcquisitionSpec` to change.

    Raises
    ------
    UsageError
        There is no such preset.
    """
    if name not in _PRESETS:
        raise UsageError(
            f"there is no acquisition called {name!r}", expected=", ".join(sorted(_PRESETS))
        )
    values = {"name": name, **_PRESETS[name], **changes}
    values["faults"] = _PRESETS[name]["faults"] | (faults or {})
    return AcquisitionSpec.model_validate(values)
