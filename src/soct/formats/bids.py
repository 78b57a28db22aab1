"""A volume as a BIDS microscopy derivative: a data set of one subject and one sample."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from soct import __version__
from soct.errors import ResourceError, UsageError
from soct.formats.atomic import link_tree
from soct.formats.conversion import new_place, write_volume
from soct.formats.ngff import image_orientation, parse_image
from soct.formats.tiles import shown
from soct.formats.validation import validate_volume
from soct.formats.volume_source import VolumeSource, open_source

BIDS_VERSION = "1.10.0"
SAMPLE = "01"


def subject_label(subject: str) -> str:
    """Return the part of a subject's name that BIDS allows: letters and digits.

    Raises
    ------
    UsageError
        Nothing is left.
    """
    label = re.sub(r"[^A-Za-z0-9]", "", re.sub(r"^sub-", "", subject))
    if not label:
        raise UsageError(
            "The subject's name holds no letter and no digit, which BIDS needs",
            found=shown(subject),
        )
    return label


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _write_table(path: Path, rows: list[tuple[str, ...]]) -> None:
    path.write_text("".join("\t".join(row) + "\n" for row in rows), encoding="utf-8")


def _describe_dataset(root: Path, label: str, source: str) -> None:
    generated = {"Name": "soct", "Version": __version__}
    _write_json(
        root / "dataset_description.json",
        {
            "Name": f"Optical coherence tomography of sub-{label}",
            "BIDSVersion": BIDS_VERSION,
            "DatasetType": "derivative",
            "GeneratedBy": [generated],
            "SourceDatasets": [{"URL": f"file:{source}"}],
        },
    )
    _write_table(root / "participants.tsv", [("participant_id",), (f"sub-{label}",)])
    _write_table(
        root / "samples.tsv",
        [
            ("sample_id", "participant_id", "sample_type"),
            (f"sample-{SAMPLE}", f"sub-{label}", "tissue"),
        ],
    )
    text = f"The volume of sub-{label}, reconstructed by soct {__version__} from the tiles of a serial-sectioning OCT microscope.\n"
    (root / "README").write_text(text, encoding="utf-8")


def _describe_image(file: Path, store: Path) -> None:
    voxel = parse_image(store).levels[0].voxel_um
    content: dict[str, Any] = {
        "PixelSize": [voxel.x, voxel.y, voxel.z],
        "PixelSizeUnits": "um",
        "SliceThickness": voxel.z,
        "SampleEnvironment": "ex vivo",
    }
    if (code := image_orientation(store)) is not None:
        content["Orientation"] = code
    _write_json(file, content)


def _take_volume(volume: Path, source: VolumeSource | None, store: Path) -> None:
    """Put the volume in its place: as it is where nothing is to be changed."""
    if source is not None:
        write_volume(source, store)
        return
    link_tree(volume, store)
    findings = validate_volume(store, samples=True)
    if findings:
        raise ResourceError(
            "The volume is damaged; nothing was published",
            file=findings[0].file,
            found=f"{findings[0].message} {findings[0].found}",
        )


def write_bids(
    volume: Path,
    out: Path,
    subject: str,
    *,
    source: VolumeSource | None = None,
    report: Path | None = None,
) -> Path:
    """Write a data set with one volume.

    Parameters
    ----------
    volume : Path
        The OME-Zarr volume.
    out : Path
        The folder to make.
    subject : str
        Name of the specimen.
    source : VolumeSource, optional
        The volume as it shall be written, where not as it is.
    report : Path, optional
        The report of its run.

    Returns
    -------
    Path
        The volume in the data set.

    Raises
    ------
    UsageError
        `out` exists.
    """
    label = subject_label(subject)
    name = f"sub-{label}_sample-{SAMPLE}_OCT"
    if source is None:
        open_source(volume)
    with new_place(out) as root:
        folder = root / f"sub-{label}" / "micr"
        folder.mkdir(parents=True)
        store = folder / f"{name}.ome.zarr"
        _take_volume(volume, source, store)
        _describe_image(folder / f"{name}.json", store)
        _describe_dataset(root, label, shown(volume.resolve()))
        if report is not None and report.is_file():
            (root / f"sub-{label}.html").write_bytes(report.read_bytes())
    return out / f"sub-{label}" / "micr" / f"{name}.ome.zarr"
