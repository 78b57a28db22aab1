"""Slices aligned by hand: out of a run, changed, and in again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from soct.errors import InputError
from soct.formats.tables import StackingRow, read_table
from soct.formats.transforms import read_transform, write_offsets, write_transform
from soct.steps.manual_transforms import read_manual_joints
from soct.tools.manual_package import PackageInputs, write_package
from tests.steps.chain import Chain, Made


def exported(made: Made, folder: Path) -> Path:
    chain = made.chain
    inputs = PackageInputs(
        chain.document("estimate_slice_poses", "poses"),
        {s[0]: r.outputs["slice"] for s, r in chain.run("compensate_attenuation").items()},
        {(s[0], s[1]): r.outputs["pair"] for s, r in chain.run("register_pairwise").items()},
    )
    write_package(inputs, folder, "brain")
    return folder / "transforms"


def with_transforms(made: Made, folder: Path, transforms: Path, **more: Any) -> Chain:
    sets = {"estimate_slice_poses": {"manual_transforms_dir": str(transforms), **more}}
    chain = Chain(made.simulation.raw, folder, sets)
    later = ("estimate_slice_poses", "stack", "interpolate_missing_slice")
    made.chain.run("estimate_slice_poses")
    chain.done |= {n: d for n, d in made.chain.done.items() if n not in later}
    return chain


def nudge(folder: Path, y: float, x: float, degrees: float = 0.0) -> None:
    """Move where the moving slice lands on the fixed one."""
    from dataclasses import replace

    from soct.registration.transforms import rigid_from_euler

    old = read_transform(folder / "transform.tfm")
    rigid = rigid_from_euler(
        np.radians(old.rotation_deg), old.translation_zyx[1:], old.centre_zyx[1:]
    )
    new = replace(
        rigid,
        shift=(rigid.shift[0] + y, rigid.shift[1] + x),
        rotation_deg=rigid.rotation_deg + degrees,
    )
    _, (ty, tx), (cy, cx) = new.euler_parameters()
    write_transform(
        folder / "transform.tfm",
        replace(
            old,
            rotation_deg=new.rotation_deg,
            translation_zyx=(0.0, ty, tx),
            centre_zyx=(0.0, cy, cx),
        ),
    )


def poses(chain: Chain) -> dict[str, Any]:
    rows: dict[str, Any] = chain.document("estimate_slice_poses", "poses")["slices"]
    return rows


def test_a_nudged_slice_moves_by_exactly_that(plain: Made, tmp_path: Path) -> None:
    transforms = exported(plain, tmp_path / "package")
    nudge(transforms / "slice_z02", 3.0, -5.0)
    before, after = (
        poses(plain.chain),
        poses(with_transforms(plain, tmp_path / "steps", transforms)),
    )
    for i, far in (("0", (0, 0)), ("1", (0, 0)), ("2", (3.0, -5.0))):
        moved = np.subtract(after[i]["shift_px"], before[i]["shift_px"])
        # The shift is told in the fixed slice's pixels, which lie turned by its rotation on the canvas.
        assert moved == pytest.approx(far, abs=0.03)
        assert np.hypot(*moved) == pytest.approx(np.hypot(*far), abs=1e-6)
        assert after[i]["rotation_deg"] == pytest.approx(before[i]["rotation_deg"], abs=1e-9)
        assert after[i]["z_px"] == pytest.approx(before[i]["z_px"], abs=1e-9)


def test_the_tables_say_what_was_by_hand(plain: Made, tmp_path: Path) -> None:
    transforms = exported(plain, tmp_path / "package")
    nudge(transforms / "slice_z02", 3.0, -5.0, 0.5)
    write_offsets(transforms / "slice_z02/offsets.txt", _deeper(plain, 4))
    chain = with_transforms(plain, tmp_path / "steps", transforms)
    rows = {r.slice_id: r for r in read_table(chain.path("stack", "decisions"), StackingRow)}
    assert [rows[i].transform_source for i in (0, 1, 2)] == ["global solve", "manual", "manual"]
    assert [rows[i].manual_override for i in (0, 1, 2)] == [False, True, True]
    assert "+0.500 degrees, +4 planes" in rows[2].reason
    assert rows[1].overlap_voxels is not None
    assert rows[2].overlap_voxels == pytest.approx(rows[1].overlap_voxels - 4, abs=2)
    decided = chain.run("estimate_slice_poses")[()].result.decisions
    assert [(d.slice_id, d.column) for d in decided] == [
        (1, "manual_override"),
        (2, "manual_override"),
    ]


def _deeper(made: Made, planes: int) -> Any:
    from soct.formats.transforms import DepthOffsets

    rows = poses(made.chain)
    return DepthOffsets(round(rows["2"]["z_px"] - rows["1"]["z_px"]) + planes, 0)


def test_the_images_put_a_rough_transform_right(plain: Made, tmp_path: Path) -> None:
    transforms = exported(plain, tmp_path / "package")
    nudge(transforms / "slice_z02", 2.0, 1.5, 1.0)
    chain = with_transforms(plain, tmp_path / "steps", transforms, refine_manual_transforms=True)
    before, after = poses(plain.chain)["2"], poses(chain)["2"]
    assert after["shift_px"] == pytest.approx(before["shift_px"], abs=0.3)
    assert after["rotation_deg"] == pytest.approx(before["rotation_deg"], abs=0.2)


def test_beyond_their_bounds_the_images_change_nothing(plain: Made, tmp_path: Path) -> None:
    transforms = exported(plain, tmp_path / "package")
    nudge(transforms / "slice_z02", 8.0, 0.0)
    chain = with_transforms(
        plain,
        tmp_path / "steps",
        transforms,
        refine_manual_transforms=True,
        refine_max_translation_um=50.0,
    )
    before, after = poses(plain.chain)["2"], poses(chain)["2"]
    # Slice 1 was refined too, by a fraction of a pixel.
    assert np.subtract(after["shift_px"], before["shift_px"]) == pytest.approx((8, 0), abs=0.5)
    assert "the manual transform of slice 2 stays as it is" in chain.warnings(
        "estimate_slice_poses"
    )


def test_the_package_holds_images_sections_and_what_the_numbers_mean(
    plain: Made, tmp_path: Path
) -> None:
    import tifffile

    folder = exported(plain, tmp_path / "package").parent
    said = json.loads((folder / "metadata.json").read_text())
    assert [p["moving_id"] for p in said["pairs"]] == [1, 2]
    nz, ny, nx = said["slices"]["1"]["shape"]
    for name, shape in (("aips", (ny, nx)), ("aips_xz", (nz, nx)), ("aips_yz", (nz, ny))):
        image = tifffile.imread(folder / name / "slice_z01.tif")
        assert image.shape == shape
        assert image.std() > 0
        assert (folder / name / "slice_z01.png").is_file()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda f: (f / "slice_z02").rename(f / "slice_z07"), "belongs to no slice"),
        (lambda f: (f / "slice_z02").rename(f / "slice_z00"), "belongs to no slice"),
        (
            lambda f: (f / "slice_z02/pair.json").write_text('{"fixed_id": 0}'),
            "against another slice",
        ),
        (
            lambda f: (f / "slice_z02/transform.tfm").write_text(
                "#Insight Transform File V1.0\n#Transform 0\nTransform: AffineTransform_double_2_2\n"
                "Parameters: 1 0 0 1 0 0\nFixedParameters: 0 0\n"
            ),
            "cannot be used",
        ),
        (
            lambda f: [(f / f"slice_z0{i}/transform.tfm").unlink() for i in (1, 2)],
            "no manual transform",
        ),
    ],
    ids=["no such slice", "first slice", "other fixed slice", "another type", "empty"],
)
def test_what_cannot_be_meant_is_an_error(
    plain: Made, tmp_path: Path, change: Any, told: str
) -> None:
    transforms = exported(plain, tmp_path / "package")
    change(transforms)
    with pytest.raises(InputError, match=told):
        read_manual_joints(transforms, [0, 1, 2])
