"""soct: from the raw tiles of a serial-sectioning OCT microscope to one brain volume."""

from __future__ import annotations

__version__ = "0.1.0"
