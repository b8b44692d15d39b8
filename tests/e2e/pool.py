"""A pool of guests for tests, the playbooks that are run on it, and what is asked of the guests."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support import virsh
from support.fixtures import Site
from support.modules import run_module
from support.playbooks import Controller, Run, Started


@dataclass(frozen=True)
class Pool:
    """A pool of guests, the playbooks that are run on it, and what is asked of them."""

    site: Site
    controller: Controller
    name: str
    network: str

    def vm(self, number: int) -> str:
        return f"{self.name}-{number}"

    def publish(self, image: Path, **variables: Any) -> Run:
        readable = self.site.folder.parent / image.name
        shutil.copy(image, readable)
        run = self.controller.play(
            "publish",
            publish_uri=self.controller.uris[0],
            publish_template="web",
            publish_storage_pool=self.site.storage_pool,
            publish_source_path=str(readable),
            publish_memory="128MiB",
            publish_graphics="none",
            publish_networks=self.network,
            publish_source_vm="",
            **{"publish_refresh_down": "false", **variables},
        )
        assert run.rc == 0, run.output
        return run

    def make(self, count: int, prestarted: int) -> None:
        run_module(
            "vm_pool",
            uri=self.controller.uris[0],
            vm_pool=self.name,
            template="web",
            count=count,
            prestarted=prestarted,
            storage_pools=[self.site.storage_pool],
        )
        for number in range(1, prestarted + 1):
            virsh.wait_for_guest(self.vm(number))

    def rollout(self, *words: str, playbook: str = "rollout", **variables: Any) -> Run:
        return self.start_rollout(*words, playbook=playbook, **variables).end()

    def start_rollout(self, *words: str, playbook: str = "rollout", **variables: Any) -> Started:
        given = {"rollout_health_timeout": "120", "rollout_serial": "", "rollout_shadow_boot": "false", **variables}
        return self.controller.start_play(playbook, *words, rollout_vm_pool=self.name, **given)

    def identity(self, number: int) -> dict[str, Any]:
        return virsh.identity(self.vm(number))

    def address(self, number: int) -> str:
        """Return the address that DHCP has given to a guest, as the guest itself tells."""
        script = "for i in $(seq 60); do ip -4 -o addr show eth0 | grep . && break; sleep 1; done"
        return virsh.in_guest(self.vm(number), script).split()[3]

    def version(self, number: int) -> str:
        """Return the version that the guest itself tells."""
        return virsh.in_guest(self.vm(number), "cat /etc/golden-version")

    def roots(self) -> list[str]:
        return [Path(virsh.root_path(vm)).name for vm in self.site.vms]
