"""The Python modules of libvirt, where they are installed; modules and documentation load without them, too."""

from __future__ import annotations

import importlib
import traceback
from typing import Any

LIBVIRT_IMPORT_ERROR: str | None = None
"""Why libvirt cannot be imported, or None when it can."""

libvirt: Any = None
libvirt_qemu: Any = None
try:
    libvirt = importlib.import_module("libvirt")
    libvirt_qemu = importlib.import_module("libvirt_qemu")
except ImportError:
    LIBVIRT_IMPORT_ERROR = traceback.format_exc()
