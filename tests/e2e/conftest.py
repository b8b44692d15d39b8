"""What the tests with real guests begin with: a template whose versions boot, and a pool."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from support.fixtures import Site
from support.modules import run_module
from support.playbooks import Controller
from support.tasks import tasks  # noqa: F401 - fixtures are found by being imported here

from .pool import Pool


class Template:
    """The template tiny of a test's own storage pool; its guests tell their version."""

    name = "tiny"

    def __init__(self, site: Site, network: str) -> None:
        self.site = site
        self.network = network

    def publish(self, image: Path, firmware: str = "bios", **options: Any) -> int:
        """Publish a version from an image and return its number."""
        done = run_module(
            "template_version",
            template=self.name,
            storage_pool=self.site.storage_pool,
            create_base=True,
            source={"path": str(image)},
            hardware={
                "memory": "192MiB" if firmware == "efi" else "128MiB",
                "graphics": "none",
                "firmware": firmware,
                "networks": [{"network": self.network}],
            },
            **options,
        )
        number: int = done["template_version"]["version"]
        return number

    def make_vm(self, name: str, **options: Any) -> str:
        """Make and start a VM of the latest version, and return its name."""
        run_module(
            "vm",
            name=self.site.vm(name),
            template=self.name,
            storage_pools=[self.site.storage_pool],
            **{"state": "started", **options},
        )
        return self.site.vm(name)


@pytest.fixture
def tiny(site: Site, network: str) -> Template:
    """Return a template without versions yet."""
    return Template(site, network)


@pytest.fixture
def pool(site: Site, network: str, tmp_path: Path) -> Pool:
    """Return a pool that is not made yet."""
    return Pool(site, Controller(tmp_path), site.vm("desk"), network)
