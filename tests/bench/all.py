#!/usr/bin/env python3
"""All figures, as a Markdown table: what docs/performance.md has.

    scripts/own-libvirt.sh .cache/venv/bin/python tests/bench/all.py [NAME ...]

The exit code tells whether all limits hold. The benchmarks run one after the other, each as a process of its own.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

from measure import HEAD

BENCHMARKS = ("restore", "publish", "listing", "payload", "pool", "rollout")


def main() -> int:
    """Measure and print."""
    qemu = subprocess.run(["qemu-img", "--version"], check=True, capture_output=True, text=True).stdout.split()[2]
    libvirt = subprocess.run(["virsh", "--version"], check=True, capture_output=True, text=True).stdout.strip()
    print(
        f"{datetime.now(timezone.utc):%Y-%m-%d}: libvirt {libvirt}, QEMU {qemu}, Python {platform.python_version()}, "
        f"ansible-core {version('ansible-core')}, {os.cpu_count()} cores, "
        f"load {os.getloadavg()[0]:.1f} at the beginning\n"
    )
    print(HEAD, flush=True)
    codes = [
        subprocess.run([sys.executable, Path(__file__).with_name(f"{name}.py")], check=False).returncode
        for name in sys.argv[1:] or BENCHMARKS
    ]
    print(f"\nload {os.getloadavg()[0]:.1f} at the end")
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
