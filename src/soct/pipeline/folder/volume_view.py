"""The final volume as its metadata describe it, for the report; no voxel is read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from soct.pipeline.folder.outputs import OutputRecord
from soct.pipeline.folder.records import Record
from soct.report.model import VolumeLevel, VolumeView


def view_volume(folder: Path, record: Record, output: OutputRecord) -> VolumeView:
    """Return what the report says of a volume; where its metadata cannot be read, its place and size."""
    passed = any(m.name == "ngff_valid" and m.value is True for m in record.result.metrics)
    try:
        return _view(folder / output.path, output, passed=passed)
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError):
        return VolumeView(output.path, bytes=output.size)


def _view(store: Path, output: OutputRecord, *, passed: bool) -> VolumeView:
    attributes = json.loads((store / "zarr.json").read_bytes())["attributes"]
    datasets = attributes["ome"]["multiscales"][0]["datasets"]
    arrays = [json.loads((store / d["path"] / "zarr.json").read_bytes()) for d in datasets]
    own = attributes.get("soct", {})
    return VolumeView(
        path=output.path,
        levels=tuple(_level(d, a) for d, a in zip(datasets, arrays, strict=True)),
        dtype=str(arrays[0]["data_type"]),
        codec=", ".join(_codecs(arrays[0]["codecs"])),
        bytes=output.size,
        validation="passed" if passed else "",
        orientation=str(own.get("orientation", "")),
        interpolated_planes=tuple(
            (int(first), int(last)) for first, last in own.get("interpolated_planes", ())
        ),
    )


def _level(dataset: Mapping[str, Any], array: Mapping[str, Any]) -> VolumeLevel:
    scale = next(t["scale"] for t in dataset["coordinateTransformations"] if t["type"] == "scale")
    z, y, x = array["shape"][-3:]
    return VolumeLevel(dataset["path"], (z, y, x), (scale[-3], scale[-2], scale[-1]))


def _codecs(codecs: list[Mapping[str, Any]]) -> list[str]:
    """Return the names of the codecs that hold data; inside shards, those of the chunks."""
    names = []
    for codec in codecs:
        inner = codec.get("configuration", {}).get("codecs")
        names += _codecs(inner) if inner else [str(codec["name"])]
    return names
