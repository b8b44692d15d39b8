#!/usr/bin/env python3
"""What making the medium of a payload costs, beside genisoimage (a CD) and mkfs.vfat with mcopy (a floppy).

    .cache/venv/bin/python tests/bench/payload.py

The references run as processes, as one would from a playbook; ours runs in the process of the module.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from ansible_collections.golden.libvirt.plugins.module_utils._core.payload.payload_files import (
    CDROM,
    FLOPPY,
    PayloadFile,
)
from ansible_collections.golden.libvirt.plugins.module_utils._media.image import build_image
from measure import Figure, duration, in_turn, ratio, show

LIMIT = 2.0
CASES = ((CDROM, 3), (CDROM, 50), (FLOPPY, 3), (FLOPPY, 50))
GENISOIMAGE = ("genisoimage", "-quiet", "-joliet", "-rock", "-volid", "cidata", "-output")


def figures() -> Iterator[Figure]:
    """Measure media with few and with many files."""
    for medium, count in CASES:
        files = [PayloadFile(f"file-{number}.txt", b"x" * 4000) for number in range(count)]
        with tempfile.TemporaryDirectory() as folder:
            content, image = Path(folder) / "content", Path(folder) / "image"
            content.mkdir()
            for file in files:
                (content / file.name).write_bytes(file.content)

            def make(content: Path = content, image: Path = image, medium: str = medium) -> None:
                if medium == CDROM:
                    subprocess.run([*GENISOIMAGE, image, content], check=True)
                    return
                image.unlink(missing_ok=True)
                subprocess.run(["mkfs.vfat", "-C", image, "1440"], check=True, stdout=subprocess.DEVNULL)
                subprocess.run(["mcopy", "-i", image, *content.iterdir(), "::"], check=True)

            def build(files: list[PayloadFile] = files, image: Path = image, medium: str = medium) -> None:
                image.write_bytes(build_image(files, medium, "cidata", 16384))

            times = in_turn(15, build, make)
        program = "genisoimage" if medium == CDROM else "mkfs.vfat and mcopy"
        what, beside = f"{medium} with {count} files", f"{program}, {duration(times[1])}"
        yield Figure(what, duration(times[0]), beside, ratio(*times), LIMIT)


def main() -> int:
    """Measure and print."""
    return show(figures())


if __name__ == "__main__":
    sys.exit(main())
