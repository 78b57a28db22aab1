"""Checking an OME-Zarr image: against the NGFF specification, and against soct's stricter promises."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from soct.errors import InputError
from soct.formats.ngff import Image, parse_image, read_group
from soct.formats.shards import check_stored
from soct.formats.tiles import shown
from soct.formats.zarr_array import ZarrArray, open_array

_COLOUR = re.compile(r"[0-9A-Fa-f]{6}", re.ASCII)
# Units of length that UDUNITS knows and that microscopy uses.
_UNITS = {"angstrom", "nanometer", "micrometer", "millimeter", "centimeter", "meter"}


@dataclass(frozen=True, slots=True)
class Finding:
    """A promise that an image breaks."""

    file: str
    message: str
    expected: str = ""
    found: str = ""


def _specification(path: Path) -> Iterator[Finding]:
    import zarr
    from ome_zarr_models import open_ome_zarr

    try:
        open_ome_zarr(zarr.open_group(str(path), mode="r"), version="0.5")
    except Exception as error:  # noqa: BLE001 - whatever the reader stumbles over is a finding
        reason = shown(str(error).strip() or type(error).__name__)[:500]
        yield Finding(shown(path), "Not valid OME-Zarr", "OME-NGFF 0.5", reason)


def _units(path: Path, scales: dict[str, Any]) -> Iterator[Finding]:
    for axis in scales["axes"]:
        unit = axis.get("unit")
        if axis.get("type") == "space" and unit not in _UNITS:
            yield Finding(
                shown(path),
                f"Axis {axis.get('name')} has no valid unit",
                "a UDUNITS name such as micrometer",
                shown(repr(unit)),
            )


def _colours(path: Path, ome: dict[str, Any]) -> Iterator[Finding]:
    for channel in ome.get("omero", {}).get("channels", []):
        colour = str(channel.get("color", ""))
        if not _COLOUR.fullmatch(colour):
            yield Finding(
                shown(path), "A channel has a wrong colour", "6 hexadecimal digits", shown(colour)
            )
        window = channel.get("window", {})
        values = [window.get(key) for key in ("min", "start", "end", "max")]
        if None in values or values != sorted(values):
            yield Finding(
                shown(path), "A window is not in order", "min <= start <= end <= max", str(values)
            )


def _translations(path: Path, image: Image) -> Iterator[Finding]:
    base = image.levels[0]
    for level in image.levels[1:]:
        pairs = zip(
            level.translation_um,
            base.translation_um,
            level.voxel_um,
            base.voxel_um,
            strict=True,
        )
        for t, t0, v, v0 in pairs:
            expected = t0 + (v - v0) / 2
            if abs(t - expected) > 1e-3 * v0:
                yield Finding(
                    shown(path / level.path),
                    "A level is not half a voxel apart from the base level",
                    f"translation {expected:g} um",
                    f"{t:g} um",
                )


def _arrays(path: Path, image: Image) -> Iterator[Finding]:
    arrays: list[ZarrArray] = []
    for level in image.levels:
        try:
            array = open_array(path / level.path)
            if image.stored is not None:
                check_stored(array, image.stored.get(level.path, ""))
        except InputError as error:
            yield Finding(
                error.file or shown(path), error.message, error.expected or "", error.found or ""
            )
            continue
        arrays.append(array)
    kinds = sorted({array.layout.dtype for array in arrays})
    if len(kinds) > 1:
        yield Finding(shown(path), "Levels differ in data type", "one data type", ", ".join(kinds))
    for level, array in zip(image.levels, arrays, strict=False):
        ratios = (v / v0 for v, v0 in zip(level.voxel_um, image.levels[0].voxel_um, strict=True))
        fits = all(
            abs(n * r - n0) < r + 1e-6 * n0
            for n, n0, r in zip(array.shape[-3:], arrays[0].shape[-3:], ratios, strict=True)
        )
        if not fits:
            yield Finding(
                shown(path / level.path),
                "A level has another extent than the base level",
                f"about {arrays[0].shape} divided by its factors",
                str(array.shape),
            )


def _label_folders(path: Path) -> Iterator[Path]:
    if not (path / "labels" / "zarr.json").exists():
        return
    labels = read_group(path / "labels").get("ome", {}).get("labels", [])
    for name in labels if isinstance(labels, list) else []:
        if isinstance(name, str) and name not in {"", ".", ".."} and "/" not in name:
            yield path / "labels" / name


def _check_image(path: Path) -> Iterator[Finding]:
    yield from _specification(path)
    try:
        image = parse_image(path)
        ome = read_group(path)["ome"]
        if image.says_unit:
            yield from _units(path, ome["multiscales"][0])
        yield from _colours(path, ome)
        yield from _translations(path, image)
        yield from _arrays(path, image)
    except InputError as error:
        yield Finding(
            error.file or shown(path), error.message, error.expected or "", error.found or ""
        )
    except (KeyError, TypeError, AttributeError) as error:
        yield Finding(
            shown(path), "Metadata are not of version 0.5", "OME-NGFF 0.5", shown(repr(error))
        )


def validate_volume(path: Path, *, samples: bool = False) -> tuple[Finding, ...]:
    """Check an image and its labels.

    The specification (``ome-zarr-models validate``), UDUNITS unit names, colours of six hexadecimal digits,
    half-pixel translations, one data type over all levels, extents that agree, and no shard lost.

    Parameters
    ----------
    path : Path
        The folder ``*.ome.zarr``.
    samples : bool
        Also read every voxel, which tests all checksums.

    Returns
    -------
    tuple of Finding
        Empty where all is well.
    """
    path = Path(path)
    findings = list(_check_image(path))
    try:
        for folder in _label_folders(path):
            findings += _check_image(folder)
    except (InputError, AttributeError) as error:
        findings.append(Finding(shown(path / "labels"), shown(str(error))))
    if samples and not findings:
        findings += _damage(path)
    return tuple(findings)


def _damage(path: Path) -> Iterator[Finding]:
    folders = [path, *_label_folders(path)]
    arrays = [f / level.path for f in folders for level in parse_image(f).levels]
    stored = parse_image(path).stored or {}
    arrays += [path / name for name in stored if path / name not in arrays]
    for folder in arrays:
        array = open_array(folder)
        for start in range(0, array.shape[0], array.layout.shards[0]):
            stop = min(start + array.layout.shards[0], array.shape[0])
            try:
                array.read([(start, stop), *((0, n) for n in array.shape[1:])])
            except InputError as error:
                yield Finding(error.file or "", error.message, found=error.found or "")
