"""What goes wrong in a real microscope, every fault a parameter with its size."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


def _fault(
    default: Any,
    description: str,
    unit: str | None = None,
    *,
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    lt: float | None = None,
) -> Any:
    extra: dict[str, Any] = {} if unit is None else {"unit": unit}
    limits = {"ge": ge, "gt": gt, "le": le, "lt": lt}
    given: dict[str, Any] = {name: limit for name, limit in limits.items() if limit is not None}
    return Field(default, description=description, json_schema_extra=extra, **given)


class Growth(BaseModel):
    """A mosaic that gets more tiles from one slice on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    slice_id: int = _fault(..., "First slice with the larger mosaic.", ge=0)
    axis: Literal["y", "x"] = _fault("x", "Axis along which it grows.")
    side: Literal["low", "high"] = _fault("high", "Side on which the tiles are added.")
    tiles: int = _fault(1, "Rows or columns added.", ge=1, le=20)


class Glitch(BaseModel):
    """A slice whose stage position was recorded wrong; the tissue was imaged where it should be."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    slice_id: int = _fault(..., "Slice with the wrong reading.", ge=0)
    y_mm: float = _fault(0.0, "Error of the reading along y.", "mm")
    x_mm: float = _fault(0.0, "Error of the reading along x.", "mm")


class Faults(BaseModel):
    """Everything by which a simulated acquisition differs from a perfect one.

    ``Faults.none()`` is the perfect microscope; the defaults are a microscope in daily use.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    # Where tiles and slices lie
    tile_jitter_px: float = _fault(
        0.8, "Standard deviation of a tile's position error that the stage does not see.", "px",
        ge=0, le=50,
    )  # fmt: skip
    stage_scale: float = _fault(
        1.0, "Distance seen by the camera per distance reported by the stage.", gt=0.8, lt=1.25
    )
    stage_rotation_deg: float = _fault(
        0.0, "Rotation of the stage axes against the camera.", "deg", ge=-10, le=10
    )
    stage_direction: tuple[Literal[-1, 1], Literal[-1, 1]] = _fault(
        (1, 1), "Whether stage y and x grow with the tile index (1) or against it (-1)."
    )
    roi_move_px: float = _fault(
        6.0, "Largest move of the mosaic between slices, which the stage reports.", "px", ge=0
    )
    slice_drift_um: float = _fault(
        40.0, "Standard deviation per slice and axis of a drift that the stage does not see.", "um",
        ge=0,
    )  # fmt: skip
    slice_drift_steady_um: tuple[float, float] = _fault(
        (0.0, 0.0), "Steady part of that drift, per slice along y and x.", "um"
    )
    slice_rotation_deg: float = _fault(
        0.1, "Standard deviation of each slice's rotation, which the stage does not see.", "deg",
        ge=0, le=45,
    )  # fmt: skip
    slice_rotation_drift_deg: float = _fault(
        0.0,
        "Steady rotation of the field on the tissue from slice to slice, positive from +x towards +y, which the "
        "stage does not see; in the images the tissue turns the other way.",
        "deg",
        ge=-5,
        le=5,
    )
    slice_rotation_range_deg: float = _fault(
        0.0, "Largest further rotation of a slice, drawn evenly in either direction.", "deg",
        ge=0, le=45,
    )  # fmt: skip
    cut_jitter_um: float = _fault(4.0, "Standard deviation of the cut thickness.", "um", ge=0)
    cut_jitter_seen: bool = _fault(True, "Whether stage z tells the true cut thickness.")
    glitches: tuple[Glitch, ...] = _fault((), "Encoder glitches at given slices.")
    glitch_count: int = _fault(0, "Further glitches of 1 to 4 mm at random slices.", ge=0)
    growth: tuple[Growth, ...] = _fault((), "Mosaics that get more tiles.")

    # The light
    galvo_return_px: int | None = _fault(
        None, "A-line at which the return band starts; None leaves it at the end of the frame.", "px",
        ge=0,
    )  # fmt: skip
    galvo_return_level: float = _fault(
        0.35, "Brightness of the return band (its fringes wash out).", ge=0, le=2
    )
    vignetting: float = _fault(0.25, "Loss of light in the corners of a tile.", ge=0, lt=1)
    focal_curvature_samples: float = _fault(
        1.0, "How much deeper tissue appears in the corners than in the centre of a tile.",
        "samples", ge=-50, le=50,
    )  # fmt: skip
    focus_sample: float = _fault(25.0, "Depth sample of the focus.", "samples")
    rayleigh_um: float | None = _fault(
        500.0, "Rayleigh length of the confocal gate; None for no axial profile.", "um", gt=0
    )
    attenuation_per_mm: float = _fault(
        1.3, "Mean attenuation coefficient of tissue.", "1/mm", ge=0, le=50
    )
    attenuation_contrast: float = _fault(
        0.3, "Part of the attenuation that follows the brightness of the tissue.", ge=0, le=1
    )
    speckle_looks: float | None = _fault(
        3.0, "Looks of the speckle: its contrast is 1 / sqrt(looks); None for none.", gt=0
    )
    speckle_common: float = _fault(
        0.3, "Part of the speckle variance that overlapping tiles share.", ge=0, le=1
    )
    noise_floor: float = _fault(
        0.006, "Mean of the detector noise, where bright tissue is about 1.", ge=0
    )
    gain_drift: float = _fault(
        0.12, "Standard deviation of the logarithm of each slice's gain.", ge=0, le=2
    )

    # The surface
    surface_tilt_deg: tuple[float, float] = _fault(
        (0.1, -0.1),
        "Tilt of the cut plane along y and x: positive is deeper at the far end.",
        "deg",
    )
    surface_jitter_um: float = _fault(
        4.0, "Standard deviation of the surface depth from slice to slice.", "um", ge=0
    )

    # What is missing, and how it is stored
    blank_fraction: float = _fault(0.0, "Part of the tiles that show only noise.", ge=0, le=1)
    missing_tiles: tuple[tuple[int, int, int], ...] = _fault(
        (), "Tiles without a folder: (slice, row, column)."
    )
    missing_fraction: float = _fault(0.0, "Further tiles without a folder.", ge=0, le=1)
    missing_slices: tuple[int, ...] = _fault((), "Slices that were cut but not imaged.")
    truncated_fraction: float = _fault(
        0.0, "Part of the tiles whose last file ends early.", ge=0, le=1
    )
    n_repeat: int = _fault(1, "How often each B-scan is taken.", ge=1, le=64)
    files_per_tile: int = _fault(1, "Number of .bin files per tile.", ge=1, le=1000)
    stage_xy_absent: bool = _fault(False, "Whether stage x and y are left out of info.txt.")
    stage_z_absent: bool = _fault(False, "Whether stage z is left out of info.txt.")
    axial_absent: bool = _fault(False, "Whether the axial sampling is left out of info.txt.")
    layout: Literal["flat", "z", "slice_z"] = _fault(
        "flat", "Tiles below raw/, below raw/z##/ or below raw/slice_z##/tiles/."
    )
    session_metadata: bool = _fault(
        False, "Whether state.json and slice_z##/metadata.json are written."
    )

    @classmethod
    def none(cls, **changes: Any) -> Faults:
        """Return a perfect microscope, but for `changes`."""
        perfect: dict[str, Any] = {
            "tile_jitter_px": 0.0,
            "roi_move_px": 0.0,
            "slice_drift_um": 0.0,
            "slice_rotation_deg": 0.0,
            "cut_jitter_um": 0.0,
            "vignetting": 0.0,
            "focal_curvature_samples": 0.0,
            "rayleigh_um": None,
            "attenuation_per_mm": 0.0,
            "speckle_looks": None,
            "noise_floor": 0.0,
            "gain_drift": 0.0,
            "surface_tilt_deg": (0.0, 0.0),
            "surface_jitter_um": 0.0,
        }
        return cls(**(perfect | changes))
