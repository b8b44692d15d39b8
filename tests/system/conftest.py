"""What the tests of VMs begin with: a template of two versions, and what begins tasks in processes of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.fixtures import Site, make_disk
from support.modules import run_module
from support.tasks import tasks  # noqa: F401 - fixtures are found by being imported here

HARDWARE = {"memory": "64MiB", "networks": [], "graphics": "none"}


@pytest.fixture
def template(site: Site, empty_disk: Path, tmp_path: Path) -> str:
    """Yield a template with two versions, without an operating system; the second is larger."""
    for path in (empty_disk, make_disk(tmp_path / "second.qcow2", "96M", mark="second")):
        run_module(
            "template_version",
            template="web",
            storage_pool=site.storage_pool,
            create_base=True,
            source={"path": str(path)},
            hardware=HARDWARE,
        )
    return "web"
