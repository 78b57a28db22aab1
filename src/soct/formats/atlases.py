"""Brain atlases: a template to align to, the regions drawn in it, and their names.

An atlas is a folder in the layout of BrainGlobe's atlas API (version 1 and 2), or a template file by itself.
A folder that `soct atlas fetch` made holds ``SHA256SUMS``, so that a damaged file is found before hours of
work; `sha256sum -c SHA256SUMS` checks the same.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from soct.compute.caches import cache_folder
from soct.errors import InputError
from soct.formats.atlas_structures import Structure, read_json, read_structures, read_text
from soct.formats.tiles import shown
from soct.formats.volume_files import SUFFIXES, VolumeHeader, read_header, read_volume
from soct.geometry.orientation import OrientedVolume, Shape, opposite_orientation
from soct.space import Voxel

METADATA_NAME = "metadata.json"
STRUCTURES_NAME = "structures.json"
TEMPLATE_NAME = "reference.tiff"
ANNOTATION_NAME = "annotation.tiff"
HEMISPHERES_NAME = "hemispheres.tiff"
CHECKSUMS_NAME = "SHA256SUMS"
LEFT, RIGHT = 1, 2
"""Values of a hemispheres volume."""

_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class VolumeSource:
    """A volume file with what must be said of it that it doesn't say itself."""

    path: Path
    voxel_um: Voxel | None = None
    orientation: str | None = None

    def header(self) -> VolumeHeader:
        """Read what the file says; see `soct.formats.volume_files.read_header`."""
        return read_header(self.path, voxel_um=self.voxel_um, orientation=self.orientation)

    def read(self, factors: Sequence[int] = (1, 1, 1), *, labels: bool = False) -> OrientedVolume:
        """Read the voxels; see `soct.formats.volume_files.read_volume`."""
        return read_volume(
            self.path,
            voxel_um=self.voxel_um,
            orientation=self.orientation,
            factors=factors,
            labels=labels,
        )


@dataclass(frozen=True)
class Atlas:
    """An atlas on this machine.

    Attributes
    ----------
    name, version : str
        What it calls itself; the file's name where it is a file.
    path : Path
        Its folder or file.
    template, annotation, hemispheres : VolumeSource
        Files; the last two None where there are none.
    structures : tuple of Structure
        Names of the regions, parents before their parts.
    header : VolumeHeader
        Of the template, with voxel size and orientation.
    citation : str
        What to cite.
    """

    name: str
    version: str
    path: Path
    template: VolumeSource
    header: VolumeHeader
    annotation: VolumeSource | None = None
    hemispheres: VolumeSource | None = None
    structures: tuple[Structure, ...] = ()
    citation: str = ""
    notes: tuple[str, ...] = field(default=())

    @property
    def voxel_um(self) -> Voxel:
        """Of the template."""
        voxel = self.header.voxel_um
        assert voxel is not None, "checked when the atlas was opened"
        return voxel

    @property
    def shape(self) -> Shape:
        """Of the template."""
        return self.header.shape

    @property
    def orientation(self) -> str:
        """What the template's axes grow towards."""
        code = self.header.orientation
        assert code is not None, "checked when the atlas was opened"
        return code

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file whose content an alignment depends on."""
        sources = (self.template, self.annotation, self.hemispheres)
        found = [source.path for source in sources if source is not None]
        if self.path.is_dir():
            found += [self.path / METADATA_NAME, self.path / STRUCTURES_NAME]
        return tuple(path for path in found if path.exists())


def atlas_folders() -> tuple[Path, ...]:
    """Return the folders that are searched for atlases by name: soct's own, then BrainGlobe's."""
    own = cache_folder()
    named = os.environ.get("SOCT_ATLAS_DIR")
    places = [Path(named)] if named else []
    places += [own / "atlases"] if own is not None else []
    with suppress(RuntimeError):
        places.append(Path.home() / ".brainglobe")
    return tuple(places)


def list_atlases(folders: Sequence[Path] | None = None) -> tuple[Path, ...]:
    """Return every atlas folder in the searched folders, by name."""
    found = []
    for folder in folders if folders is not None else atlas_folders():
        try:
            found += [p.parent for p in sorted(folder.glob(f"*/{METADATA_NAME}"))]
        except OSError:
            continue
    return tuple(found)


def find_atlas(value: str) -> Path:
    """Return the file or folder that a profile's ``template`` means.

    Parameters
    ----------
    value : str
        A volume file, an atlas folder, or the name of an atlas that was fetched (``allen_mouse_25um``, or with
        its version ``allen_mouse_25um_v1.2``; the newest without).

    Raises
    ------
    InputError
        There is nothing of that name.
    """
    path = Path(value).expanduser()
    if path.exists():
        return path
    known = list_atlases()
    named = [p for p in known if p.name == value or p.name.rpartition("_v")[0] == value]
    if named:
        return max(named, key=lambda p: _version(p.name))
    hint = (
        "Give a NIfTI, NRRD or TIFF file, or an atlas folder."
        if len(Path(value).parts) > 1 or value.lower().endswith(SUFFIXES)
        else f"`soct atlas fetch {shown(value)}` downloads one; `soct atlas list` shows what is here."
    )
    raise InputError(
        "There is no such template",
        file=shown(value),
        expected="a file, a folder, or one of the atlases here: "
        + (", ".join(p.name for p in known) or "none was fetched"),
        hint=hint,
    )


def _version(name: str) -> tuple[int, ...]:
    _, _, text = name.rpartition("_v")
    return tuple(int(part) for part in text.replace("_", ".").split(".") if part.isdigit())


def open_atlas(
    path: Path,
    *,
    voxel_um: Sequence[float] | None = None,
    orientation: str | None = None,
    annotation: Path | None = None,
    structures: Path | None = None,
) -> Atlas:
    """Open an atlas folder, or a template file; only small files and headers are read.

    Parameters
    ----------
    path : Path
        As `find_atlas` returns it.
    voxel_um, orientation : optional
        Of the template, instead of what it says.
    annotation, structures : Path, optional
        For a template file: the volume of region numbers, and the table (CSV) or list (JSON) of their names.

    Raises
    ------
    InputError
        Something is missing, broken, or doesn't fit together; the file is named.
    """
    voxel = Voxel(*voxel_um) if voxel_um is not None else None
    if path.is_dir():
        atlas = _open_folder(path)
    else:
        template = VolumeSource(path, voxel, orientation)
        atlas = Atlas(path.name, "", path, template, _complete_header(template))
    if annotation is not None:
        own = read_header(annotation)
        said = own.says_voxel and own.says_orientation
        source = (
            VolumeSource(annotation)
            if said
            else VolumeSource(annotation, atlas.voxel_um, atlas.orientation)
        )
        atlas = replace(atlas, annotation=source)
    if structures is not None:
        atlas = replace(atlas, structures=read_structures(structures))
    _check_fit(atlas)
    return atlas


def _complete_header(template: VolumeSource) -> VolumeHeader:
    header = template.header()
    for what, value, name in (
        ("voxel size", header.voxel_um, "template_voxel_um"),
        ("orientation", header.orientation, "template_orientation"),
    ):
        if value is None:
            raise InputError(
                f"The template does not say its {what}",
                file=shown(template.path),
                expected="a NIfTI or NRRD file that says it, an atlas folder, or the value in the profile",
                hint=f"Set align_to_ras.{name}.",
            )
    return header


def _open_folder(folder: Path) -> Atlas:
    metadata = read_json(folder / METADATA_NAME)
    try:
        if not isinstance(metadata, Mapping):
            raise TypeError("not an object")
        name, version = str(metadata["name"]), str(metadata["version"])
        z, y, x = (float(v) for v in metadata["resolution"])
        shape = tuple(int(n) for n in metadata["shape"])
        # BrainGlobe's letters name the side at which an axis starts.
        orientation = opposite_orientation(str(metadata["orientation"]))
        if not (np.isfinite((z, y, x)).all() and min(z, y, x) > 0) or len(shape) != 3:
            raise ValueError(f"resolution {(z, y, x)}, shape {shape}")
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise InputError(
            "An atlas's metadata are broken",
            file=shown(folder / METADATA_NAME),
            expected="name, version, resolution (um), orientation (such as asr) and shape",
            found=shown(f"{type(error).__name__}: {error}")[:200],
        ) from error
    voxel = Voxel(z, y, x)
    sources = [
        VolumeSource(folder / file, voxel, orientation)
        for file in (TEMPLATE_NAME, ANNOTATION_NAME, HEMISPHERES_NAME)
    ]
    header = sources[0].header()
    if header.shape != shape:
        raise InputError(
            "An atlas's template is not what its metadata say",
            file=shown(sources[0].path),
            expected=f"shape {shape}",
            found=f"shape {header.shape}",
        )
    annotation, hemispheres = (s if s.path.exists() else None for s in sources[1:])
    table = folder / STRUCTURES_NAME
    return Atlas(
        name,
        version,
        folder,
        sources[0],
        header,
        annotation,
        hemispheres,
        read_structures(table) if table.exists() else (),
        str(metadata.get("citation", "")),
    )


def _check_fit(atlas: Atlas) -> None:
    """Refuse volumes of regions that don't lie in the template's box."""
    for source in (atlas.annotation, atlas.hemispheres):
        if source is None:
            continue
        header = source.header()
        if header.dtype.kind not in "ui":
            raise InputError(
                "A volume of regions holds no whole numbers",
                file=shown(source.path),
                expected="an integer type",
                found=str(header.dtype),
            )
        extents = [
            np.abs(h.affine[:3, :3]) @ np.asarray(h.shape, float) for h in (atlas.header, header)
        ]
        voxel = np.asarray(atlas.voxel_um).max() / 1000
        if np.abs(extents[0] - extents[1]).max() > 2 * voxel:
            raise InputError(
                "A volume of regions does not fit its template",
                file=shown(source.path),
                expected=f"{_millimetres(extents[0])}, as the template",
                found=_millimetres(extents[1]),
            )


def _millimetres(extent: np.ndarray[Any, Any]) -> str:
    return " x ".join(f"{v:.2f}" for v in extent) + " mm"


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file.

    Raises
    ------
    InputError
        It cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(_BLOCK_BYTES):
                digest.update(block)
    except OSError as error:
        raise InputError(
            "A file of an atlas cannot be read", file=shown(path), found=error.strerror
        ) from error
    return digest.hexdigest()


def write_checksums(folder: Path) -> None:
    """Write ``SHA256SUMS`` of all files of a folder but meshes, which nothing here reads."""
    from soct.formats.atomic import write_text

    files = sorted(
        p.relative_to(folder)
        for p in folder.rglob("*")
        if p.is_file() and p.name != CHECKSUMS_NAME and p.parent.name != "meshes"
    )
    lines = [f"{sha256_of(folder / name)}  {name.as_posix()}\n" for name in files]
    write_text(folder / CHECKSUMS_NAME, "".join(lines))


def verify_atlas(atlas: Atlas, sha256: str = "") -> str:
    """Check an atlas's files against their checksums, and say what was checked.

    Parameters
    ----------
    atlas : Atlas
        The atlas.
    sha256 : str
        What the template file should have; empty to rely on the folder's own ``SHA256SUMS``.

    Raises
    ------
    InputError
        A file is not what it was.
    """
    if sha256:
        _check_digest(atlas.template.path, sha256.strip().lower())
        return "the template has the checksum that the profile gives"
    sums = atlas.path / CHECKSUMS_NAME
    if not atlas.path.is_dir() or not sums.exists():
        return "not verified: there are no checksums to compare with"
    wanted = {}
    for line in read_text(sums).splitlines():
        digest, _, name = line.partition("  ")
        wanted[name.strip().removeprefix("*")] = digest.strip().lower()
    checked = 0
    for path in atlas.files:
        name = path.relative_to(atlas.path).as_posix() if path.is_relative_to(atlas.path) else ""
        if name in wanted:
            _check_digest(path, wanted[name])
            checked += 1
    return f"{checked} files agree with {CHECKSUMS_NAME}"


def _check_digest(path: Path, wanted: str) -> None:
    found = sha256_of(path)
    if found != wanted:
        raise InputError(
            "A file of the atlas is not what its checksum says",
            file=shown(path),
            expected=f"sha256 {wanted[:16]}...",
            found=f"sha256 {found[:16]}...",
            hint="It is damaged or was changed: fetch the atlas again, or correct the checksum.",
        )
