"""The volume comes to lie in the template, with its transform, its regions and a picture; faults show before the work."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import SimpleITK as sitk
from pydantic import ValidationError
from scipy import ndimage
from scipy.spatial.transform import Rotation

from soct.errors import ConfigurationError, InputError
from soct.formats.ngff import image_orientation
from soct.formats.ome_zarr import open_volume
from soct.formats.pyramid import PyramidWriter
from soct.formats.validation import validate_volume
from soct.geometry.orientation import make_affine
from soct.simulate.atlas import make_phantom, write_phantom_atlas
from soct.space import Voxel
from soct.steps.align_to_ras import STEP, AlignToRasParams, check, files, run
from soct.steps.declaration import Context, Unit
from soct.steps.stack import StackParams

VOXEL = 200.0
SCALE = 1.05


@pytest.fixture(scope="module")
def atlas(tmp_path_factory):
    folder = tmp_path_factory.mktemp("atlas") / "ATLAS"
    write_phantom_atlas(folder, VOXEL)
    return folder


@pytest.fixture(scope="module")
def stacked(tmp_path_factory):
    """A stack that shows the template turned and larger, and the true matrix between world coordinates."""
    template, _ = make_phantom(VOXEL)
    linear = Rotation.from_rotvec((9, -7, 8), degrees=True).as_matrix() * SCALE
    shape = [n + 8 for n in template.reoriented("PIR").data.shape]
    affine = make_affine("PIR", (VOXEL,) * 3)
    centre = template.affine @ (*((n - 1) / 2 for n in template.data.shape), 1)
    there = affine @ (*((n - 1) / 2 + 1 for n in shape), 1)
    matrix = np.eye(4)
    matrix[:3, :3] = linear
    matrix[:3, 3] = there[:3] - linear @ centre[:3]
    to_index = np.linalg.inv(template.affine) @ np.linalg.inv(matrix) @ affine
    data = ndimage.affine_transform(
        template.data.astype(np.float32), to_index[:3, :3], to_index[:3, 3], shape, order=1, cval=30
    )
    path = tmp_path_factory.mktemp("stack") / "s.ome.zarr"
    valid = np.ones(shape, bool)
    valid[:, :, :3] = False
    with PyramidWriter(path, shape, Voxel(VOXEL, VOXEL, VOXEL), (200, 400), orientation="PIR") as w:
        w.append(np.maximum(data, 1).astype(np.float32), valid)
    return path, matrix


@pytest.fixture(scope="module")
def made(atlas, stacked, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    paths = {o.name: out / o.template.format(subject="s") for o in STEP.outputs}
    context = Context(
        unit=Unit("align_to_ras"),
        subject="s",
        slice_ids=(0, 1),
        input_paths={("stack", "volume"): {(): stacked[0]}},
        output_paths=paths,
        memory_bytes=64 << 20,
    )
    params = AlignToRasParams(
        enabled=True, template=str(atlas), resolution_um=200, pyramid_levels_um=(200, 400)
    )
    return paths, run(context, params)


def test_the_transform_leads_from_the_template_to_the_volume(made, stacked):
    template, regions = make_phantom(VOXEL)
    transform = sitk.ReadTransform(str(made[0]["transform"]))
    points = np.argwhere(regions > 0)[::151] @ template.affine[:3, :3].T + template.affine[:3, 3]
    lps = points * (-1, -1, 1)
    found = np.array([transform.TransformPoint(p) for p in lps.tolist()]) * (-1, -1, 1)
    true = points @ stacked[1][:3, :3].T + stacked[1][:3, 3]
    assert np.median(np.linalg.norm(found - true, axis=1)) < 0.5 * VOXEL / 1000


def test_the_volume_lies_in_the_template_in_right_anterior_superior_axes(made):
    template, _ = make_phantom(VOXEL)
    path = made[0]["volume"]
    assert image_orientation(path) == "SAR"
    assert not validate_volume(path)
    volume = open_volume(path)
    reference = template.reoriented("SAR")
    assert volume.shape == reference.data.shape
    affine = make_affine("SAR", volume.voxel_um, volume.translation_um)
    assert np.allclose(affine, reference.affine, atol=1e-6)
    data = volume.read()
    inside = (reference.data > 200) & (data > 0)
    assert np.corrcoef(data[inside], reference.data[inside])[0, 1] > 0.9
    assert open_volume(path, 1).voxel_um == Voxel(400, 400, 400)


def test_regions_are_measured_in_the_brain_and_summed(made):
    with made[0]["regions"].open() as file:
        rows = {row["acronym"]: row for row in csv.DictReader(file)}
    _, regions = make_phantom(VOXEL)
    voxel = (VOXEL / 1000) ** 3
    root = float(rows["root"]["volume_mm3"])
    assert root == pytest.approx((regions > 0).sum() * voxel * SCALE**3, rel=0.06)
    parts = sum(float(rows[a]["volume_mm3"]) for a in ("FB", "CB"))
    assert root == pytest.approx(parts, rel=0.01)
    left, right = (float(rows["CTX"][f"volume_{side}_mm3"]) for side in ("left", "right"))
    assert left == pytest.approx(right, rel=0.07)  # the middle plane, of an odd number, is left
    assert float(rows["CC"]["mean_intensity"]) > float(rows["CTX"]["mean_intensity"])
    assert rows["CTX"]["parent"] == "2"
    assert 0.8 < float(rows["root"]["covered_fraction"]) <= 1


def test_the_numbers_say_that_it_fits(made):
    metrics = {m.name: m.value for m in made[1].metrics}
    assert metrics["atlas_dice"] > 0.9
    assert metrics["atlas_edge_um"] <= VOXEL
    assert metrics["atlas_orientation"] == "PIR"
    assert metrics["atlas_scale"] == pytest.approx(SCALE, abs=0.02)
    assert "agree with SHA256SUMS" in metrics["atlas_checksum"]
    assert made[0]["preview"].read_bytes()[:4] == b"\x89PNG"


def test_without_orientation_or_template_it_ends_before_the_work(atlas):
    nothing = {"stack": StackParams()}
    with pytest.raises(ConfigurationError, match="does not know how the brain lies"):
        check(AlignToRasParams(template=str(atlas)), nothing)
    with pytest.raises(ConfigurationError, match="no template"):
        check(AlignToRasParams(orientation="PIR"), nothing)
    with pytest.raises(InputError, match="no such template"):
        check(AlignToRasParams(orientation="PIR", template="absent_atlas_25um"), nothing)
    check(AlignToRasParams(template=str(atlas)), {"stack": StackParams(orientation="pir")})
    for wrong in ("RRS", "left"):
        with pytest.raises(ValidationError, match="three letters"):
            AlignToRasParams(orientation=wrong)
        with pytest.raises(ValidationError, match="three letters"):
            StackParams(orientation=wrong)


def test_a_damaged_template_ends_before_the_work(tmp_path):
    write_phantom_atlas(tmp_path / "A", 400.0)
    params = AlignToRasParams(orientation="PIR", template=str(tmp_path / "A"))
    check(params, {})
    assert {p.name for p in files(params)} >= {"reference.tiff", "annotation.tiff"}
    data = bytearray((tmp_path / "A" / "reference.tiff").read_bytes())
    data[-9] ^= 4
    (tmp_path / "A" / "reference.tiff").write_bytes(data)
    with pytest.raises(InputError, match=r"reference\.tiff"):
        check(params, {})


def test_the_report_shows_outlines_numbers_stages_and_regions(made):
    from dataclasses import replace

    from soct.report.model import StepView, UnitView
    from soct.report.rendering import examine, render_html
    from soct.report.reportlets.atlas import REPORTLET
    from tests.report.fabricated import empty_run, metric

    shown = tuple(metric(m.name, m.value, m.unit) for m in made[1].metrics)
    unit = UnitView("align_to_ras", state="done", metrics=shown)
    view = replace(
        empty_run(),
        steps=(StepView("align_to_ras", units=(unit,)),),
        figures={("align_to_ras", "run"): made[0]["figures"]},
    )
    text = render_html(examine(view), (REPORTLET,))
    assert "could not be drawn" not in text
    for expected in ("Dice", "Coronal cut", "affine", "Cerebellum", "mm³", ">S</text>", "used"):
        assert expected in text
    nothing = render_html(examine(empty_run()), (REPORTLET,))
    assert "align_to_ras is off" in nothing
