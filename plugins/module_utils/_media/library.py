"""The libraries that write media, where they are installed; modules and documentation load without them, too."""

from __future__ import annotations

import importlib
import traceback
from typing import Any

PYCDLIB_IMPORT_ERROR: str | None = None
"""Why pycdlib cannot be imported, or None when it can."""

PYFATFS_IMPORT_ERROR: str | None = None
"""Why pyfatfs cannot be imported, or None when it can."""

pycdlib: Any = None
try:
    pycdlib = importlib.import_module("pycdlib")
except ImportError:
    PYCDLIB_IMPORT_ERROR = traceback.format_exc()

pyfatfs_fat: Any = None
pyfatfs_entry: Any = None
pyfatfs_short_name: Any = None
try:
    # these parts alone: the others need a part of setuptools that new versions no longer have
    pyfatfs_fat = importlib.import_module("pyfatfs.PyFat")
    pyfatfs_entry = importlib.import_module("pyfatfs.FATDirectoryEntry")
    pyfatfs_short_name = importlib.import_module("pyfatfs.EightDotThree")
except ImportError:
    PYFATFS_IMPORT_ERROR = traceback.format_exc()
