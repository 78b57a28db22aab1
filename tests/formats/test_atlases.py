"""Atlases are read as BrainGlobe lays them out, and a damaged one is found before it is used."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile

from soct.errors import InputError
from soct.formats.atlas_structures import read_structures
from soct.formats.atlases import (
    find_atlas,
    open_atlas,
    verify_atlas,
    write_checksums,
)
from soct.formats.volume_files import write_volume
from soct.geometry.orientation import OrientedVolume, make_affine

STRUCTURES = [
    {"id": 997, "acronym": "root", "name": "root", "structure_id_path": [997], "rgb_triplet": [255] * 3},
    {"id": 8, "acronym": "grey", "name": "Grey matter", "structure_id_path": [997, 8], "rgb_triplet": [1, 2, 3]},
    {"id": 567, "acronym": "CH", "name": "Cerebrum", "structure_id_path": [997, 8, 567], "rgb_triplet": [1, 2, 3]},
]  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "tiny_mouse_50um_v1.2"
    path.mkdir()
    shape = (6, 7, 8)
    metadata = {
        "name": "tiny_mouse",
        "citation": "none",
        "species": "Mus musculus",
        "symmetric": False,
        "resolution": [50.0, 50.0, 50.0],
        "orientation": "asr",
        "version": "1.2",
        "shape": list(shape),
    }
    (path / "metadata.json").write_text(json.dumps(metadata))
    (path / "structures.json").write_text(json.dumps(STRUCTURES))
    for name, dtype in (
        ("reference", np.uint16),
        ("annotation", np.uint32),
        ("hemispheres", np.uint8),
    ):
        tifffile.imwrite(
            path / f"{name}.tiff",
            np.ones(shape, dtype),
            compression="zlib",
            photometric="minisblack",
        )
    return path


def test_the_letters_of_brainglobe_name_where_axes_start(folder):
    atlas = open_atlas(folder)
    assert atlas.orientation == "PIL"
    assert atlas.voxel_um == pytest.approx((50, 50, 50))
    assert atlas.template.read().data.shape == (6, 7, 8)
    assert atlas.annotation.read(labels=True).data.dtype == np.uint32
    assert [s.acronym for s in atlas.structures] == ["root", "grey", "CH"]
    assert atlas.structures[2].parent == 8
    assert (atlas.name, atlas.version) == ("tiny_mouse", "1.2")


def test_an_atlas_is_found_by_its_name_with_and_without_version(folder, monkeypatch):
    monkeypatch.setenv("SOCT_ATLAS_DIR", str(folder.parent))
    newer = folder.parent / "tiny_mouse_50um_v1.10"
    newer.mkdir()
    (newer / "metadata.json").write_text("{}")
    assert find_atlas("tiny_mouse_50um_v1.2") == folder
    assert find_atlas("tiny_mouse_50um") == newer
    assert find_atlas(str(folder)) == folder
    with pytest.raises(InputError, match="soct atlas fetch absent_atlas"):
        find_atlas("absent_atlas")


def test_a_flipped_bit_is_found_and_named(folder):
    atlas = open_atlas(folder)
    assert "not verified" in verify_atlas(atlas)
    write_checksums(folder)
    assert "5 files agree" in verify_atlas(atlas)
    data = bytearray((folder / "annotation.tiff").read_bytes())
    data[-3] ^= 1
    (folder / "annotation.tiff").write_bytes(data)
    with pytest.raises(InputError, match=r"annotation\.tiff"):
        verify_atlas(atlas)
    with pytest.raises(InputError, match=r"reference\.tiff"):
        verify_atlas(atlas, sha256="0" * 64)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"orientation": "aaa"}, "metadata are broken"),
        ({"resolution": [50, 50]}, "metadata are broken"),
        ({"resolution": [50, 50, float("nan")]}, "metadata are broken"),
        ({"shape": [1, 2, 3]}, "not what its metadata say"),
    ],
)
def test_metadata_that_do_not_fit_are_named(folder, change, message):
    metadata = json.loads((folder / "metadata.json").read_text()) | change
    (folder / "metadata.json").write_text(json.dumps(metadata))
    with pytest.raises(InputError, match=message):
        open_atlas(folder)


def test_a_missing_or_broken_file_is_named(folder):
    (folder / "reference.tiff").write_bytes(b"II*\0nothing")
    with pytest.raises(InputError, match=r"reference\.tiff"):
        open_atlas(folder)
    (folder / "reference.tiff").unlink()
    with pytest.raises(InputError, match=r"reference\.tiff"):
        open_atlas(folder)
    (folder / "metadata.json").write_text("[" * 100_000)
    with pytest.raises(InputError, match=r"metadata\.json"):
        open_atlas(folder)


def test_regions_must_lie_in_the_template(folder):
    tifffile.imwrite(folder / "annotation.tiff", np.ones((6, 7, 20), np.uint32))
    with pytest.raises(InputError, match="does not fit its template"):
        open_atlas(folder)


def test_a_template_file_takes_its_regions_from_other_files(tmp_path):
    data = np.ones((6, 7, 8), np.uint16)
    write_volume(tmp_path / "t.nii.gz", OrientedVolume(data, make_affine("SAR", (50, 50, 50))))
    write_volume(tmp_path / "a.nrrd", OrientedVolume(data, make_affine("SAR", (50, 50, 50))))
    (tmp_path / "s.csv").write_text(
        'id,acronym,name,structure_id_path\n997,root,root,/997/\n8,grey,"Grey, matter",/997/8/\n'
    )
    atlas = open_atlas(
        tmp_path / "t.nii.gz", annotation=tmp_path / "a.nrrd", structures=tmp_path / "s.csv"
    )
    assert atlas.orientation == "SAR"
    assert atlas.structures[1].name == "Grey, matter"
    plain = tmp_path / "t.tiff"
    tifffile.imwrite(plain, data)
    with pytest.raises(InputError, match="template_voxel_um"):
        open_atlas(plain)
    assert open_atlas(plain, voxel_um=(50, 40, 30), orientation="PIR").orientation == "PIR"


@pytest.mark.parametrize(
    "text",
    ["{}", "[{}]", '[{"id": 1, "acronym": "a", "name": "a", "structure_id_path": [1, 2]}]', "[", "nope",
     '[{"id": 1, "acronym": "a", "name": "a", "parent_structure_id": 2},'
     ' {"id": 2, "acronym": "b", "name": "b", "parent_structure_id": 1}]'],
)  # fmt: skip
def test_a_broken_hierarchy_is_refused(tmp_path, text):
    (tmp_path / "structures.json").write_text(text)
    with pytest.raises(InputError, match=r"structures\.json"):
        read_structures(tmp_path / "structures.json")
