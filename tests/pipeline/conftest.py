"""What the tests of the pipeline share: no waiting for a disk that others use too."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True, scope="session")
def no_flush():
    """Make `os.fsync` do nothing within this process."""
    patch = pytest.MonkeyPatch()
    patch.setattr(os, "fsync", lambda descriptor: None)
    yield
    patch.undo()
