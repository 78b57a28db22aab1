"""The tools are tried on the acquisitions of the steps."""

from __future__ import annotations

from tests.steps.conftest import faulty, plain

__all__ = ["faulty", "plain"]
