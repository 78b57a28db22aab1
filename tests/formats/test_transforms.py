import math

import numpy as np
import pytest
import SimpleITK
from hypothesis import given
from hypothesis import strategies as st

from soct.errors import InputError, UserError
from soct.formats.transforms import (
    DepthOffsets,
    EulerTransform,
    read_offsets,
    read_transform,
    write_offsets,
    write_transform,
)
from tests.formats.fuzzing import FUZZ

TRANSFORM = EulerTransform(2.5, (0.0, -3.25, 7.5), (0.0, 119.5, 127.5))
_FINITE = st.floats(-1e6, 1e6)


def test_simpleitk_reads_what_soct_writes_with_the_same_meaning(tmp_path):
    write_transform(tmp_path / "t.tfm", TRANSFORM)
    other = SimpleITK.ReadTransform(str(tmp_path / "t.tfm"))
    angle = math.radians(2.5)
    x, y = 10.0, 20.0
    dx, dy = x - 127.5, y - 119.5
    expected = (
        math.cos(angle) * dx - math.sin(angle) * dy + 127.5 + 7.5,
        math.sin(angle) * dx + math.cos(angle) * dy + 119.5 - 3.25,
        0.0,
    )
    np.testing.assert_allclose(other.TransformPoint((x, y, 0.0)), expected, atol=1e-9)


@pytest.mark.parametrize("make", [SimpleITK.Euler3DTransform, SimpleITK.Euler2DTransform])
def test_soct_reads_what_simpleitk_writes(tmp_path, make):
    transform = make()
    if transform.GetDimension() == 3:
        transform.SetRotation(0, 0, math.radians(2.5))
        transform.SetTranslation((7.5, -3.25, 0))
        transform.SetCenter((127.5, 119.5, 0))
    else:
        transform.SetAngle(math.radians(2.5))
        transform.SetTranslation((7.5, -3.25))
        transform.SetCenter((127.5, 119.5))
    SimpleITK.WriteTransform(transform, str(tmp_path / "t.tfm"))
    found = read_transform(tmp_path / "t.tfm")
    assert found.rotation_deg == pytest.approx(2.5)
    assert found.translation_zyx == pytest.approx(TRANSFORM.translation_zyx)
    assert found.centre_zyx == TRANSFORM.centre_zyx


@pytest.mark.parametrize(
    "make",
    [
        lambda: SimpleITK.AffineTransform(3),
        lambda: SimpleITK.TranslationTransform(3),
        lambda: SimpleITK.CompositeTransform([SimpleITK.Euler3DTransform()] * 2),
        lambda: SimpleITK.Euler3DTransform((0, 0, 0), 0.1, 0, 0),
    ],
)
def test_another_type_of_transform_is_an_error_that_names_the_file(tmp_path, make):
    SimpleITK.WriteTransform(make(), str(tmp_path / "t.tfm"))
    with pytest.raises(InputError) as caught:
        read_transform(tmp_path / "t.tfm")
    assert caught.value.file == str(tmp_path / "t.tfm")


@FUZZ
@given(_FINITE, st.tuples(_FINITE, _FINITE, _FINITE), st.tuples(_FINITE, _FINITE, _FINITE))
def test_a_transform_comes_back(tmp_path, angle, translation, centre):
    write_transform(tmp_path / "t.tfm", EulerTransform(angle, translation, centre))
    found = read_transform(tmp_path / "t.tfm")
    assert found.rotation_deg == pytest.approx(angle, rel=1e-12, abs=1e-300)
    assert (found.translation_zyx, found.centre_zyx) == (translation, centre)


def test_offsets_come_back_in_any_layout(tmp_path):
    write_offsets(tmp_path / "o.txt", DepthOffsets(12, -3))
    assert read_offsets(tmp_path / "o.txt") == DepthOffsets(12, -3)
    for text in ("12 -3", "12, -3\n", "1.2e+01\n-3.0\n"):
        (tmp_path / "o.txt").write_text(text)
        assert read_offsets(tmp_path / "o.txt") == DepthOffsets(12, -3)


@pytest.mark.parametrize("text", ["", "1", "1 2 3", "a b", "1.5 2", "nan 1", "inf 1", "1e999 1"])
def test_wrong_offsets_are_input_errors(tmp_path, text):
    (tmp_path / "o.txt").write_text(text)
    with pytest.raises(InputError):
        read_offsets(tmp_path / "o.txt")


@FUZZ
@given(st.binary(max_size=200), st.booleans(), st.integers(0, 250))
def test_random_and_mutated_transforms_give_only_user_errors(tmp_path, data, is_mutation, place):
    file = tmp_path / "t.tfm"
    if is_mutation:
        write_transform(file, TRANSFORM)
        whole = file.read_bytes()
        data = whole[:place] + data[:3] + whole[place + len(data[:2]) :]
    file.write_bytes(data)
    for read in (read_transform, read_offsets):
        try:
            read(file)
        except UserError as error:
            str(error).encode()
