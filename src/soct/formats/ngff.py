"""OME-NGFF metadata: written as version 0.5, read as 0.4 and 0.5.

Translations refer to voxel centres: the centre of the first voxel of the base level lies at the base
translation, and a level of voxels `f` times larger starts ``(f - 1) / 2`` base voxels later.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from soct.errors import InputError
from soct.formats.tiles import shown
from soct.formats.zarr_array import read_metadata
from soct.space import Voxel

NAMESPACE = "soct"
ORIGIN = Voxel(0.0, 0.0, 0.0)
FORMAT = 1
_UM_PER_UNIT = {
    "nanometer": 1e-3,
    "micrometer": 1.0,
    "millimeter": 1e3,
    "centimeter": 1e4,
    "meter": 1e6,
}
# Direction in which an axis grows, by the letter of the side it grows towards (NGFF RFC 4 wording).
_ORIENTATIONS = {
    "R": "left-to-right",
    "L": "right-to-left",
    "A": "posterior-to-anterior",
    "P": "anterior-to-posterior",
    "S": "inferior-to-superior",
    "I": "superior-to-inferior",
}


@dataclass(frozen=True)
class Level:
    """One resolution of an image: where it is, and the size and place of its voxels in micrometres."""

    path: str
    voxel_um: Voxel
    translation_um: Voxel = ORIGIN


@dataclass(frozen=True)
class Image:
    """The metadata of a multiscale image."""

    levels: tuple[Level, ...]
    version: str
    attributes: Mapping[str, Any] = field(default_factory=dict)
    """What soct keeps under its own key."""
    stored: Mapping[str, str] | None = None
    """Which shards have a file, by array, where soct wrote the image; see `soct.formats.shards`."""

    @property
    def says_unit(self) -> bool:
        """Whether voxels have a size; those of pictures that soct was told none of have not."""
        return self.attributes.get("pixel_um", True) is not None


def orientation_names(code: str) -> tuple[str, str, str]:
    """Translate a code such as ``"SAR"`` (what z, y and x grow towards) into NGFF's words.

    Raises
    ------
    ValueError
        The code does not name one letter of each of R/L, A/P and S/I.
    """
    pairs = [{"R", "L"}, {"A", "P"}, {"S", "I"}]
    if len(code) != 3 or any(len(pair & set(code)) != 1 for pair in pairs):
        raise ValueError(f"orientation {code!r} needs one of R/L, one of A/P and one of S/I")
    z, y, x = (_ORIENTATIONS[letter] for letter in code)
    return z, y, x


def multiscales(
    name: str, levels: Sequence[Level], orientation: str | None = None
) -> dict[str, Any]:
    """Build the ``multiscales`` entry of a ``(z, y, x)`` image."""
    axes: list[dict[str, Any]] = [
        {"name": axis, "type": "space", "unit": "micrometer"} for axis in "zyx"
    ]
    if orientation is not None:
        for axis, value in zip(axes, orientation_names(orientation), strict=True):
            axis["orientation"] = {"type": "anatomical", "value": value}
    datasets = [
        {
            "path": level.path,
            "coordinateTransformations": [
                {"type": "scale", "scale": [float(v) for v in level.voxel_um]},
                {"type": "translation", "translation": [float(v) for v in level.translation_um]},
            ],
        }
        for level in levels
    ]
    method = {"type": "mean", "metadata": {"description": "Exact block means of the valid voxels"}}
    return {"name": name, "axes": axes, "datasets": datasets, **(method if len(levels) > 1 else {})}


def group_metadata(
    ome: Mapping[str, Any] | None, attributes: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Build the `zarr.json` of a group with OME metadata and soct's own."""
    content: dict[str, Any] = {}
    if ome is not None:
        content["ome"] = {"version": "0.5", **ome}
    if attributes is not None:
        content[NAMESPACE] = {"format": FORMAT, **attributes}
    return {"zarr_format": 3, "node_type": "group", "attributes": content}


def read_group(folder: Path) -> dict[str, Any]:
    """Return the attributes of a Zarr group, version 2 or 3.

    Raises
    ------
    InputError
        There is no group, or its metadata are broken.
    """
    file = folder / "zarr.json"
    if file.exists():
        attributes = read_metadata(file).get("attributes", {})
    elif (folder / ".zgroup").exists() or (folder / ".zattrs").exists():
        file = folder / ".zattrs"
        attributes = read_metadata(file)
    else:
        raise InputError(
            "There is no complete OME-Zarr image",
            file=shown(folder),
            expected="a folder with zarr.json (or .zattrs)",
            found="a folder without" if folder.is_dir() else "no such folder",
            hint="soct writes zarr.json last: without it the image was never finished.",
        )
    if not isinstance(attributes, dict):
        raise _malformed(file, "attributes are not an object")
    return attributes


def _malformed(file: Path, found: str) -> InputError:
    return InputError(
        "OME-Zarr metadata are broken",
        file=shown(file),
        expected="OME-NGFF 0.4 or 0.5 multiscales with axes z, y, x in a unit of length",
        found=shown(found)[:200],
    )


def _spatial(axes: list[dict[str, Any]]) -> tuple[tuple[int, int, int], tuple[float, ...]]:
    names = [str(axis["name"]) for axis in axes]
    where = (names.index("z"), names.index("y"), names.index("x"))
    units = tuple(_UM_PER_UNIT[axes[i].get("unit", "micrometer")] for i in where)
    if where != (len(names) - 3, len(names) - 2, len(names) - 1):
        raise ValueError(f"axes {names}")
    return where, units


def _vectors(
    transforms: Sequence[Mapping[str, Any]], where: tuple[int, ...], units: tuple[float, ...]
) -> tuple[Voxel, Voxel]:
    scale, translation = [1.0] * 3, [0.0] * 3
    for transform in transforms:
        kind = transform["type"]
        if kind not in {"scale", "translation", "identity"}:
            raise ValueError(f"transformation {kind}")
        if kind == "identity":
            continue
        values = [float(transform[kind][i]) for i in where]
        if not all(math.isfinite(v) and abs(v) < 1e12 for v in values):
            raise ValueError(f"{kind} {values}")
        if kind == "scale":
            scale = [a * b for a, b in zip(scale, values, strict=True)]
            translation = [a * b for a, b in zip(translation, values, strict=True)]
        else:
            translation = [a + b for a, b in zip(translation, values, strict=True)]
    if min(scale) <= 0:
        raise ValueError(f"scale {scale}")
    return (
        Voxel(*(s * u for s, u in zip(scale, units, strict=True))),
        Voxel(*(t * u for t, u in zip(translation, units, strict=True))),
    )


def _is_inside(path: str) -> bool:
    return (
        bool(path)
        and not Path(path).is_absolute()
        and ".." not in Path(path).parts
        and "\0" not in path
    )


def parse_image(folder: Path) -> Image:
    """Read the metadata of an OME-Zarr image, version 0.4 or 0.5.

    Raises
    ------
    InputError
        There is no image, it is broken, or a level would lie outside of its folder.
    """
    attributes = read_group(folder)
    try:
        ome = attributes.get("ome", attributes)
        scales = ome["multiscales"][0]
        version = str(ome.get("version") or scales.get("version") or "0.4")
        where, units = _spatial(scales["axes"])
        overall = scales.get("coordinateTransformations", [])
        levels = []
        for dataset in scales["datasets"]:
            path = str(dataset["path"])
            if not _is_inside(path):
                raise ValueError(f"level path {path}")
            transforms = [*dataset["coordinateTransformations"], *overall]
            levels.append(Level(path, *_vectors(transforms, where, units)))
        own = attributes.get(NAMESPACE, {})
        if not levels or not isinstance(own, dict):
            raise ValueError("no levels")
        stored = own.get("stored")
        if stored is not None:
            stored = {str(key): str(value) for key, value in stored.items()}
    except (KeyError, IndexError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise _malformed(folder, f"{type(error).__name__}: {error}") from error
    return Image(tuple(levels), version, own, stored)


def image_orientation(folder: Path) -> str | None:
    """Return what z, y and x of an image grow towards, None where it does not say it.

    Raises
    ------
    InputError
        There is no image.
    """
    attributes = read_group(folder)
    letters = {name: letter for letter, name in _ORIENTATIONS.items()}
    try:
        own = attributes.get(NAMESPACE, {}).get("orientation")
        axes = attributes.get("ome", attributes)["multiscales"][0]["axes"][-3:]
        told = [axis.get("orientation", {}).get("value") for axis in axes]
        code = own if isinstance(own, str) else "".join(letters[value] for value in told)
        orientation_names(code)
    except (KeyError, IndexError, TypeError, AttributeError, ValueError):
        return None
    return code


def image_window(folder: Path) -> tuple[float, float] | None:
    """Return the values that an image is to be shown with, black and white, where it says them."""
    attributes = read_group(folder)
    try:
        channel = attributes.get("ome", attributes)["omero"]["channels"][0]["window"]
        start, end = float(channel["start"]), float(channel["end"])
    except (KeyError, IndexError, TypeError, AttributeError, ValueError):
        return None
    return (start, end) if math.isfinite(start) and math.isfinite(end) and start < end else None
