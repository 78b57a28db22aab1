"""What array metadata may say before a compiled library reads them.

tensorstore ends the whole process on some malformed metadata, which no exception handler can prevent. So only
codecs, keys and values that are known to be sound reach it. A ValueError says what is not.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

_V2_DTYPE = re.compile(r"[<>|][fiu][1248]", re.ASCII)
_CNAMES = {"lz4", "lz4hc", "blosclz", "zstd", "snappy", "zlib"}
_MOST_AXES = 8

Check = Callable[[Any], bool]


def _integer(low: int, high: int) -> Check:
    return lambda v: isinstance(v, int) and not isinstance(v, bool) and low <= v <= high


def _one_of(*values: object) -> Check:
    return lambda v: isinstance(v, str) and v in values


def _is_shape(value: object) -> bool:
    is_length = _integer(1, 2**31 - 1)
    return isinstance(value, list) and 0 < len(value) <= _MOST_AXES and all(map(is_length, value))


def _is_order(value: object) -> bool:
    is_axis = _integer(0, _MOST_AXES - 1)
    return (
        isinstance(value, list)
        and 0 < len(value) <= _MOST_AXES
        and all(map(is_axis, value))
        and sorted(value) == list(range(len(value)))
    )


def _is_bool(value: object) -> bool:
    return isinstance(value, bool)


# Keys of each codec's configuration, and those it must have.
_CODECS: dict[str, tuple[dict[str, Check], set[str]]] = {
    "bytes": ({"endian": _one_of("little", "big")}, set()),
    "crc32c": ({}, set()),
    "gzip": ({"level": _integer(0, 9)}, {"level"}),
    "zstd": ({"level": _integer(-100, 22), "checksum": _is_bool}, {"level"}),
    "blosc": (
        {
            "cname": _one_of(*_CNAMES),
            "clevel": _integer(0, 9),
            "shuffle": _one_of("noshuffle", "shuffle", "bitshuffle"),
            "typesize": _integer(1, 255),
            "blocksize": _integer(0, 2**30),
        },
        {"cname", "clevel", "shuffle"},
    ),
    "transpose": ({"order": _is_order}, {"order"}),
}
_V2_COMPRESSORS: dict[str, dict[str, Check]] = {
    "zlib": {"level": _integer(0, 9)},
    "gzip": {"level": _integer(0, 9)},
    "bz2": {"level": _integer(1, 9)},
    "zstd": {"level": _integer(-100, 22), "checksum": _is_bool},
    "blosc": {
        "cname": _one_of(*_CNAMES),
        "clevel": _integer(0, 9),
        "shuffle": _integer(-1, 2),
        "blocksize": _integer(0, 2**30),
        "typesize": _integer(1, 255),
    },
}


def _check_keys(
    content: Mapping[str, Any], allowed: Mapping[str, Check], required: set[str], what: str
) -> None:
    for key, value in content.items():
        if key not in allowed or not allowed[key](value):
            raise ValueError(f"{what} with {key!r:.40} = {value!r:.60}")
    if missing := required - content.keys():
        raise ValueError(f"{what} without {', '.join(sorted(missing))}")


def _check_codec(codec: Mapping[str, Any]) -> str:
    name = codec["name"]
    configuration = codec.get("configuration", {})
    if codec.keys() - {"name", "configuration"} or not isinstance(configuration, dict):
        raise ValueError(f"codec {codec!r:.60}")
    if name == "sharding_indexed":
        allowed: dict[str, Check] = {
            "chunk_shape": _is_shape,
            "codecs": lambda v: isinstance(v, list),
            "index_codecs": lambda v: isinstance(v, list),
            "index_location": _one_of("start", "end"),
        }
        _check_keys(configuration, allowed, {"chunk_shape", "codecs", "index_codecs"}, str(name))
        _check_chain(configuration["codecs"])
        index = [_check_codec(inner) for inner in configuration["index_codecs"]]
        if index not in (["bytes"], ["bytes", "crc32c"]):
            raise ValueError(f"index codecs {index}")
    elif isinstance(name, str) and name in _CODECS:
        allowed, required = _CODECS[name]
        _check_keys(configuration, allowed, required, name)
    else:
        raise ValueError(f"codec {name!r:.60}")
    return str(name)


def _check_chain(codecs: list[Mapping[str, Any]]) -> None:
    """Check one pass over an array: perhaps transposed, then to bytes, then compressed."""
    names = [_check_codec(codec) for codec in codecs]
    rest = names[1:] if names[:1] == ["transpose"] else names
    compressors = set(rest[1:])
    if (
        rest[:1] != ["bytes"]
        or len(rest) > 4
        or compressors & {"bytes", "transpose", "sharding_indexed"}
    ):
        raise ValueError(f"codecs {names}")


def _is_fill_value(value: object) -> bool:
    if isinstance(value, str):
        return value in {"NaN", "Infinity", "-Infinity"}
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and abs(value) < 2**53 and math.isfinite(value)  # type: ignore[arg-type]


def _is_names(value: object) -> bool:
    return value is None or (
        isinstance(value, list) and all(v is None or isinstance(v, str) for v in value)
    )


def check_v3(content: Mapping[str, Any]) -> None:
    """Check the content of a `zarr.json` of an array.

    Raises
    ------
    ValueError, KeyError, TypeError
        Something in it is unknown, missing or out of range.
    """
    allowed: dict[str, Check] = {
        "zarr_format": _integer(3, 3),
        "node_type": _one_of("array"),
        "shape": _is_shape,
        "data_type": lambda v: isinstance(v, str),
        "chunk_grid": lambda v: isinstance(v, dict),
        "chunk_key_encoding": lambda v: isinstance(v, dict),
        "fill_value": _is_fill_value,
        "codecs": lambda v: isinstance(v, list),
        "attributes": lambda v: isinstance(v, dict),
        "dimension_names": _is_names,
        "storage_transformers": lambda v: v == [] and isinstance(v, list),
    }
    required = set(allowed) - {"attributes", "dimension_names", "storage_transformers"}
    _check_keys(content, allowed, required, "array")
    grid, encoding = content["chunk_grid"], content["chunk_key_encoding"]
    _check_keys(grid, {"name": _one_of("regular"), "configuration": _is_dict}, set(), "grid")
    _check_keys(grid["configuration"], {"chunk_shape": _is_shape}, {"chunk_shape"}, "grid")
    _check_keys(
        encoding, {"name": _one_of("default", "v2"), "configuration": _is_dict}, {"name"}, "keys"
    )
    _check_keys(encoding.get("configuration", {}), {"separator": _one_of("/", ".")}, set(), "keys")
    codecs = content["codecs"]
    names = [_check_codec(codec) for codec in codecs]
    if names != ["sharding_indexed"]:
        _check_chain(codecs)
    names_of_axes = content.get("dimension_names") or content["shape"]
    if len(names_of_axes) != len(content["shape"]):
        raise ValueError("as many dimension names as axes")
    _check_text(content)


def _is_dict(value: object) -> bool:
    return isinstance(value, dict)


def _check_text(content: Mapping[str, Any]) -> None:
    # A lone surrogate passes Python's JSON reader, but is no text.
    json.dumps(content, ensure_ascii=False).encode()


def check_v2(content: Mapping[str, Any]) -> None:
    """Check the content of a `.zarray`.

    Raises
    ------
    ValueError, KeyError, TypeError
        Something in it is unknown, missing or out of range.
    """
    allowed: dict[str, Check] = {
        "zarr_format": _integer(2, 2),
        "shape": _is_shape,
        "chunks": _is_shape,
        "dtype": lambda v: isinstance(v, str) and _V2_DTYPE.fullmatch(v) is not None,
        "compressor": lambda v: v is None or isinstance(v, dict),
        "fill_value": lambda v: v is None or _is_fill_value(v),
        "filters": lambda v: v is None or (isinstance(v, list) and not v),
        "order": _one_of("C", "F"),
        "dimension_separator": _one_of("/", "."),
    }
    _check_keys(content, allowed, set(allowed) - {"dimension_separator", "filters"}, "array")
    compressor = content["compressor"]
    if compressor is not None:
        kind = compressor["id"]
        if not isinstance(kind, str) or kind not in _V2_COMPRESSORS:
            raise ValueError(f"compressor {kind!r:.40}")
        rest = {key: value for key, value in compressor.items() if key != "id"}
        _check_keys(rest, _V2_COMPRESSORS[kind], set(), kind)
    _check_text(content)
