"""The same playbooks against a hypervisor behind SSH, from a controller that has nothing but a URI."""

from __future__ import annotations

from pathlib import Path

from support.fixtures import Site
from support.playbooks import Controller
from support.ssh import ssh_uri

from .pool import Pool


def test_publish_rollout_and_rollback_over_ssh(
    site: Site, network: str, guest_v1: Path, guest_v2: Path, tmp_path: Path
) -> None:
    keys, folder = tmp_path / "keys", tmp_path / "controller"
    keys.mkdir()
    folder.mkdir()
    with ssh_uri(keys) as uri:
        pool = Pool(site, Controller(folder, (uri,)), site.vm("desk"), network)
        pool.publish(guest_v1, publish_create_base="true")
        pool.make(count=2, prestarted=2)
        before = [pool.identity(number) for number in (1, 2)], [pool.address(number) for number in (1, 2)]
        pool.publish(guest_v2)
        done = pool.rollout(rollout_serial="1")
        assert done.rc == 0, done.output
        assert [pool.version(number) for number in (1, 2)] == ["2", "2"]
        assert ([pool.identity(number) for number in (1, 2)], [pool.address(number) for number in (1, 2)]) == before
        back = pool.rollout(playbook="rollback", rollback_lifecycle="candidate")
        assert back.rc == 0, back.output
        assert [pool.version(number) for number in (1, 2)] == ["1", "1"]
