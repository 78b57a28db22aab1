"""Durations, sizes and slice lists as people write them, parsed strictly."""

from __future__ import annotations

import math
import re

_SECONDS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "min": 60.0, "s": 1.0}
_DURATION = re.compile(
    r"(?:(\d+(?:\.\d+)?)d)?(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m(?:in)?)?(?:(\d+(?:\.\d+)?)s)?"
)
_CLOCK = re.compile(r"(\d{1,4}):([0-5]\d):([0-5]\d)")
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([kKMGT]?)(i?)B?")
_POWER = {"": 0, "k": 1, "M": 2, "G": 3, "T": 4}
_SPAN = re.compile(r"(\d{1,6})(?:-(\d{1,6}))?")
_ADDRESS = re.compile(r"(?:tcp|tls|ws|wss|ucx)://[^\s/]+:\d{1,5}")
_LONGEST_S = 365 * 86400.0
_LARGEST_BYTES = 1 << 60
MAX_SLICES = 10_000


def parse_duration(text: str) -> float:
    """Return seconds.

    Parameters
    ----------
    text : str
        ``90m``, ``2h``, ``1h30m``, ``1d12h``, ``45s``, or ``hh:mm:ss``.

    Raises
    ------
    ValueError
        If it is anything else, zero, or more than a year.
    """
    stripped = text.strip()[:40]
    if clock := _CLOCK.fullmatch(stripped):
        hours, minutes, seconds = (int(part) for part in clock.groups())
        total = hours * 3600.0 + minutes * 60 + seconds
    elif stripped and (match := _DURATION.fullmatch(stripped)):
        parts = zip(match.groups(), ("d", "h", "m", "s"), strict=True)
        total = math.fsum(float(number) * _SECONDS[unit] for number, unit in parts if number)
    else:
        raise ValueError(f"{text!r} is not a duration such as 90m, 2h, 1h30m or 45s")
    if not 0 < total <= _LONGEST_S:
        raise ValueError(f"{text!r} is not between 1 second and 365 days")
    return total


def parse_size(text: str) -> int:
    """Return bytes.

    Parameters
    ----------
    text : str
        ``8GB``, ``512MiB``, ``1.5G``, ``2000000``; with ``i`` a power of 1024, without a power of 1000.

    Raises
    ------
    ValueError
        If it is anything else, or less than 1 byte or more than 2^60.
    """
    match = _SIZE.fullmatch(text.strip()[:40])
    if match is None:
        raise ValueError(f"{text!r} is not a size such as 8GB or 512MiB")
    number, prefix, binary = match.groups()
    power = _POWER["k" if prefix == "K" else prefix]
    total = float(number) * (1024 if binary else 1000) ** power
    if (binary and not prefix) or not 1 <= total <= _LARGEST_BYTES:
        raise ValueError(f"{text!r} is not a size such as 8GB or 512MiB")
    return int(total)


def parse_dask(text: str) -> str:
    """Return where Dask workers are: ``local``, ``slurm``, ``off``, an address or a scheduler file.

    Parameters
    ----------
    text : str
        One of these words, ``tcp://HOST:PORT`` (or ``tls``, ``ws``, ``wss``, ``ucx``), or a path that ends in ``.json``.

    Raises
    ------
    ValueError
        If it is anything else.
    """
    stripped = text.strip()
    is_file = stripped.endswith(".json") and "://" not in stripped
    if stripped in ("local", "slurm", "off") or _ADDRESS.fullmatch(stripped) or is_file:
        return stripped
    raise ValueError(
        f"{text!r} is not tcp://HOST:PORT, a scheduler file FILE.json, local, slurm or off"
    )


def parse_slices(text: str) -> tuple[int, ...]:
    """Return slice numbers, ascending.

    Parameters
    ----------
    text : str
        ``1,3,5-9``: numbers and closed ranges between commas, in any order, none twice.

    Raises
    ------
    ValueError
        If it is anything else, a range runs backwards, or there are more than `MAX_SLICES`.
    """
    slices: list[int] = []
    for part in text.split(","):
        match = _SPAN.fullmatch(part.strip())
        if match is None:
            raise ValueError(f"{text!r} is not a list of slices such as 1,3,5-9")
        first = int(match[1])
        last = int(match[2]) if match[2] else first
        if last < first:
            raise ValueError(f"the range {part.strip()!r} runs backwards")
        if last - first + len(slices) >= MAX_SLICES:
            raise ValueError(f"more than {MAX_SLICES} slices")
        slices.extend(range(first, last + 1))
    if len(set(slices)) != len(slices):
        raise ValueError(f"{text!r} names a slice twice")
    return tuple(sorted(slices))


def parse_unit(text: str) -> tuple[int, ...]:
    """Return the slices of one unit.

    Parameters
    ----------
    text : str
        ``run`` for the unit of a whole run, ``3`` or ``z03`` for a slice, ``3,4`` or ``z03_z04`` for a pair.

    Raises
    ------
    ValueError
        If it is anything else.
    """
    stripped = text.strip()
    if stripped == "run":
        return ()
    parts = re.split(r"[,_]", stripped)
    if len(parts) > 2 or not all(re.fullmatch(r"z?\d{1,6}", part) for part in parts):
        raise ValueError(f"{text!r} is not a unit such as run, 3 or 3,4")
    slices = tuple(int(part.removeprefix("z")) for part in parts)
    if len(slices) == 2 and slices[0] == slices[1]:
        raise ValueError(f"{text!r} pairs a slice with itself")
    return slices


def format_duration(seconds: float) -> str:
    """Return ``1h02m``, ``3m20s``, ``12.3s``."""
    if seconds < 59.95:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"


def format_size(size: float) -> str:
    """Return ``1.5 GB``: powers of 1000, two to three digits."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(size) < 999.5:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 99.95 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
