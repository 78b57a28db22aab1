"""Slice-to-slice transforms as SimpleITK's text format, and the depth offsets beside them.

Only a rotation about z with a translation is written and read: ``Euler3DTransform`` with the angles about x and
y zero, or ``Euler2DTransform``. Any other transform is an error, never silently the identity.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from soct.errors import InputError
from soct.formats.atomic import write_text
from soct.formats.tiles import shown

MAX_TRANSFORM_BYTES = 1 << 20
_HEADER = "#Insight Transform File V1.0"
_NAMES = {"Euler3DTransform_double_3_3": 3, "Euler2DTransform_double_2_2": 2}


@dataclass(frozen=True)
class EulerTransform:
    """A rotation about z and a translation, from fixed (output) to moving (input) points, in pixels.

    Attributes
    ----------
    rotation_deg : float
        Positive from +x towards +y.
    translation_zyx : tuple of float
        In array order.
    centre_zyx : tuple of float
        The point that the rotation leaves in place.
    """

    rotation_deg: float
    translation_zyx: tuple[float, float, float]
    centre_zyx: tuple[float, float, float] = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class DepthOffsets:
    """Planes of two slices that show the same tissue: `offsets.txt`."""

    fixed_z: int
    moving_z: int


def write_transform(path: Path, transform: EulerTransform) -> None:
    """Write a transform as an ``Euler3DTransform`` that SimpleITK reads."""
    z, y, x = transform.translation_zyx
    values = (0.0, 0.0, math.radians(transform.rotation_deg), x, y, z)
    # The last fixed parameter is ITK's flag for the order of rotations, ZXY here.
    fixed = (*reversed(transform.centre_zyx), 0.0)
    lines = [
        _HEADER,
        "#Transform 0",
        "Transform: Euler3DTransform_double_3_3",
        "Parameters: " + " ".join(repr(float(v)) for v in values),
        "FixedParameters: " + " ".join(repr(float(v)) for v in fixed),
    ]
    if not all(math.isfinite(v) for v in (*values, *fixed)):
        raise ValueError(f"a transform that is not finite: {transform}")
    write_text(Path(path), "\n".join(lines) + "\n")


def _malformed(path: Path, expected: str, found: str) -> InputError:
    return InputError(
        "A transform cannot be used", file=shown(path), expected=expected, found=shown(found)[:200]
    )


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_TRANSFORM_BYTES + 1)
        if len(data) > MAX_TRANSFORM_BYTES:
            raise ValueError(f"more than {MAX_TRANSFORM_BYTES} bytes")
        return data.decode("utf-8")
    except (OSError, ValueError) as error:
        found = getattr(error, "strerror", None) or str(error)
        raise _malformed(path, "a readable text file", found) from error


def _numbers(path: Path, fields: dict[str, str], key: str, minimum: int) -> list[float]:
    expected = f"{key} with at least {minimum} numbers"
    try:
        values = [float(v) for v in fields[key].split()]
    except (KeyError, ValueError) as error:
        raise _malformed(path, expected, fields.get(key, f"no {key}")) from error
    if len(values) < minimum or not all(math.isfinite(v) for v in values):
        raise _malformed(path, expected, fields[key])
    return values


def read_transform(path: Path) -> EulerTransform:
    """Read a transform that soct, SimpleITK or a person wrote.

    Raises
    ------
    InputError
        The file is broken, holds several transforms, or one that is not a rotation about z and a translation.
    """
    path = Path(path)
    lines = _read_text(path).splitlines()
    if not lines or lines[0].strip() != _HEADER:
        raise _malformed(path, _HEADER, lines[0] if lines else "an empty file")
    pairs = [line.partition(":") for line in lines if line.strip() and not line.startswith("#")]
    fields = {key.strip(): value.strip() for key, _, value in pairs}
    kind = fields.get("Transform", "no transform")
    if len(fields) != len(pairs) or kind not in _NAMES:
        found = kind if kind not in _NAMES else "several transforms"
        raise _malformed(path, f"one of {', '.join(_NAMES)}", found)
    if _NAMES[kind] == 2:
        angle, x, y = _numbers(path, fields, "Parameters", 3)[:3]
        centre_x, centre_y = _numbers(path, fields, "FixedParameters", 2)[:2]
        return EulerTransform(math.degrees(angle), (0.0, y, x), (0.0, centre_y, centre_x))
    about_x, about_y, angle, x, y, z = _numbers(path, fields, "Parameters", 6)[:6]
    if max(abs(about_x), abs(about_y)) > 1e-9:
        raise _malformed(path, "no rotation about x or y", f"{about_x} and {about_y} rad")
    cx, cy, cz = _numbers(path, fields, "FixedParameters", 3)[:3]
    return EulerTransform(math.degrees(angle), (z, y, x), (cz, cy, cx))


def write_offsets(path: Path, offsets: DepthOffsets) -> None:
    """Write `offsets.txt`: the fixed plane, then the moving plane, one per line."""
    write_text(Path(path), f"{offsets.fixed_z}\n{offsets.moving_z}\n")


def read_offsets(path: Path) -> DepthOffsets:
    """Read `offsets.txt`: two whole numbers, separated by space, comma or line.

    Raises
    ------
    InputError
        The file holds something else.
    """
    path = Path(path)
    text = _read_text(path)
    expected = "two whole numbers, fixed_z and moving_z"
    try:
        values = [float(word) for word in text.replace(",", " ").split()]
        if len(values) != 2 or not all(v == int(v) and abs(v) < 2**31 for v in values):
            raise ValueError(text)
    except (ValueError, OverflowError) as error:
        raise _malformed(path, expected, text[:80]) from error
    return DepthOffsets(int(values[0]), int(values[1]))
