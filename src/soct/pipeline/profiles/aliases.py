"""Names that users of linumpy or of older profiles know, accepted with a note that says the replacement.

Limits there are in pixels of the working resolution; here they are in micrometres, so that they keep their
meaning when the resolution changes. A pixel value is multiplied by ``resample_mosaic_grid.resolution_um``
(10 um where the native resolution is kept, linumpy's default).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from soct.pipeline.profiles.layers import Path, Setting

_RESOLUTION: Path = ("resample_mosaic_grid", "resolution_um")
_LINUMPY_RESOLUTION_UM = 10.0


@dataclass(frozen=True)
class Alias:
    """An older name of a key: ``step.old`` is ``step.new``, and so is what lies below it."""

    step: str
    old: str
    new: str
    in_pixels: bool = False


ALIASES: tuple[Alias, ...] = (
    Alias("resample_mosaic_grid", "resolution", "resolution_um"),
    Alias("crop_interface", "out_depth", "out_depth_um"),
    Alias("crop_interface", "crop_interface_out_depth", "out_depth_um"),
    Alias("stitch_3d_with_refinement", "max_tile_shift_px", "max_tile_shift_um", True),
    Alias("stitch_3d_with_refinement", "stitch_overlap_fraction", "overlap_fraction"),
    Alias("register_pairwise", "max_translation_px", "max_translation_um", True),
    Alias("register_pairwise", "registration_max_translation", "max_translation_um", True),
    Alias("register_pairwise", "registration_max_rotation", "max_rotation_deg"),
    Alias("register_pairwise", "registration_transform", "transform"),
    Alias("register_pairwise", "registration_allowed_drifting_mm", "allowed_drifting_mm"),
    Alias("quality", "coverage", "filled"),
)


@dataclass(frozen=True)
class Translated:
    """Settings under the names of soct, and a sentence for each that came under another."""

    settings: tuple[Setting, ...]
    notes: tuple[str, ...]


def translate(
    settings: Iterable[Setting],
    known: Mapping[str, Iterable[str]],
    aliases: Iterable[Alias] = ALIASES,
) -> Translated:
    """Rename older keys and convert their pixels.

    Parameters
    ----------
    settings : iterable of Setting
        In the order of the layers.
    known : mapping
        Section (step id or ``quality``) to the keys that it has; an alias is used only where its target exists and
        the old name is not itself a key.
    aliases : iterable of Alias
        The table to use.

    Returns
    -------
    Translated
        Settings in the same order.
    """
    given = list(settings)
    usable = {
        (alias.step, alias.old): alias
        for alias in aliases
        if alias.new in known.get(alias.step, ()) and alias.old not in known[alias.step]
    }
    pixel_um = _pixel_um(given)
    renamed: list[Setting] = []
    notes: list[str] = []
    for setting in given:
        alias = usable.get((setting.path[0], setting.path[1])) if len(setting.path) > 1 else None
        if alias is None:
            renamed.append(setting)
            continue
        value = _converted(setting.value, pixel_um) if alias.in_pixels else setting.value
        new = replace(setting, path=(alias.step, alias.new, *setting.path[2:]), value=value)
        renamed.append(new)
        notes.append(_note(setting, new, alias, pixel_um))
    return Translated(tuple(renamed), tuple(notes))


def _pixel_um(settings: Iterable[Setting]) -> float:
    found = _LINUMPY_RESOLUTION_UM
    for setting in settings:
        value = setting.value
        if setting.path == _RESOLUTION and _is_number(value) and value > 0:
            found = float(value)
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _converted(value: Any, pixel_um: float) -> Any:
    return value * pixel_um if _is_number(value) else value


def _note(old: Setting, new: Setting, alias: Alias, pixel_um: float) -> str:
    text = f"{old.origin.source}:{old.origin.line}: " if old.origin.line else ""
    text += f"{old.key} is {new.key} in soct"
    if alias.in_pixels:
        text += f"; {old.value} px at {pixel_um:g} um are taken as {new.value} um"
    return text
