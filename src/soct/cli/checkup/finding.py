"""One finding of a check-up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Status = Literal["ok", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    """What was looked at, what was found, and what to do about it.

    Attributes
    ----------
    name : str
        What: a stable name, listed in docs/install.md.
    status : {"ok", "warning", "error"}
        ``error``: soct cannot work so. ``warning``: it can, with a drawback.
    found : str
        In words.
    hint : str
        What to do; empty where nothing has to be done.
    values : mapping
        The same in numbers, for programs; sizes in bytes.
    """

    name: str
    status: Status
    found: str
    hint: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
