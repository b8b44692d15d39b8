"""Payloads over the network on a real libvirtd: who gets them, from when to when.

The guests are network namespaces at the bridge of the network, with MAC addresses as VMs have them.
"""

from __future__ import annotations

import subprocess
import time
import uuid
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.golden.libvirt.plugins.module_utils._hypervisor import networks

from support.fixtures import Site
from support.modules import ModuleFailed, run_module
from support.payload import HOOK, needs_hook, payloads
from support.replay import replay
from support.virsh import definition, virsh
from support.waiting import until

SEED = {"user_data": "#!/bin/sh\necho gldtest-tell-nobody-51c2\n", "meta_data": {"level": "Grüße, 世界"}}


@dataclass(frozen=True)
class Lan:
    """A libvirt network, its bridge, and the address that the hypervisor has in it."""

    name: str
    bridge: str
    address: str

    def host(self, number: int) -> str:
        """Return the address of a guest in it, which DHCP does not give."""
        return f"{self.address.rpartition('.')[0]}.{250 + number}"

    @property
    def listens(self) -> bool:
        """Whether anything listens where payloads are served."""
        return bool(run("ss", "-Hltn", f"src {self.address}:330"))

    @property
    def services(self) -> list[str]:
        """The processes that serve payloads in it."""
        done = subprocess.run(["pgrep", "-f", f"payload-service {self.address}$"], capture_output=True, check=False)
        return done.stdout.decode().split()


@dataclass(frozen=True)
class Guest:
    """A guest: the name of its network namespace. Called with a URL, it returns the status and what it got."""

    name: str

    def __call__(self, url: str) -> tuple[int, str]:
        return fetched(url, "ip", "netns", "exec", self.name)


def run(*words: str) -> str:
    """Run a program, which must succeed, and return what it prints."""
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
    return done.stdout.strip()


@pytest.fixture
def lan(network: str) -> Lan:
    """Return the network of the tests."""
    needs_hook()
    xml = ET.fromstring(virsh("net-dumpxml", network))
    bridge, ip = xml.find("bridge"), xml.find("ip")
    assert bridge is not None
    assert ip is not None
    return Lan(network, bridge.attrib["name"], ip.attrib["address"])


@pytest.fixture
def plug(lan: Lan) -> Iterator[Callable[[int], Guest]]:
    """Return what plugs in a guest: its number is the end of its MAC address and of its IP address."""
    with ExitStack() as unplugged:

        def plugged(number: int) -> Guest:
            key = f"gldtest-{uuid.uuid4().hex[:6]}"
            run("ip", "netns", "add", key)
            unplugged.callback(run, "ip", "netns", "delete", key)
            cable = key.replace("test-", "")
            run("ip", "link", "add", cable, "type", "veth", "peer", "eth0", "address", mac(number), "netns", key)
            run("ip", "link", "set", cable, "master", lan.bridge, "up")
            run("ip", "-n", key, "address", "add", f"{lan.host(number)}/24", "dev", "eth0")
            run("ip", "-n", key, "link", "set", "eth0", "up")
            return Guest(key)

        yield plugged


def fetched(url: str, *inside: str) -> tuple[int, str]:
    """Fetch a URL, and return the status and what came."""
    text = run(*inside, "curl", "-s", "--max-time", "20", "-w", "%{http_code}", url)
    return int(text[-3:]), text[:-3]


def mac(number: int) -> str:
    """Return the MAC address of a guest."""
    return f"52:54:00:6c:64:{number:02x}"


@pytest.fixture
def make(site: Site, template: str, lan: Lan) -> Callable[[int], str]:
    """Return what makes the stopped VM of a number."""

    def made(number: int) -> str:
        name = site.vm(str(number))
        networks = [{"network": lan.name, "mac": mac(number)}]
        run_module("vm", name=name, template=template, storage_pools=[site.storage_pool], networks=networks)
        return name

    return made


def give(vm: str, **options: Any) -> dict[str, Any]:
    """Give a VM a payload over the network."""
    payload: dict[str, Any] = run_module("vm_payload", vm=vm, type="network", cloud_init=SEED, **options)["payload"]
    return payload


def hook(vm: str, xml: str, event: str) -> None:
    """Call the hook as libvirt does."""
    run_hook = [str(HOOK), vm, event, "end" if event == "release" else "begin", "-"]
    done = subprocess.run(run_hook, input=xml, capture_output=True, text=True, check=False, timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# --- served ----------------------------------------------------------------------------------------------------------


def test_only_the_vm_gets_its_payload(lan: Lan, make: Callable[[int], str], plug: Callable[[int], Guest]) -> None:
    vm = make(1)
    url = replay("vm_payload", vm=vm, type="network", cloud_init=SEED)["payload"]["url"]
    assert url.startswith(f"http://{lan.address}:330/")
    guest, other = plug(1), plug(2)
    assert not lan.listens
    virsh("start", vm)
    for _ in range(2):
        assert guest(f"{url}user-data") == (200, SEED["user_data"])
        status, meta = guest(f"{url}meta-data")
        assert (status, "Grüße, 世界" in meta, f'"local-hostname": "{vm}"' in meta) == (200, True, True)
        assert guest(f"{url}vendor-data") == guest(f"{url}network-config") == (200, "")
    for asked in ("", "../user-data", "user-data/", "x", "%2e%2e/x", "user-data?x"):
        assert guest(url + asked) == (404, ""), asked
    wrong = f"http://{lan.address}:330/{'0' * 32}/"
    assert guest(f"{wrong}user-data") == guest(f"http://{lan.address}:330/.lock/user-data") == (404, "")
    assert other(f"{url}user-data") == fetched(f"{url}user-data") == (404, "")
    virsh("destroy", vm)
    until(lambda: not lan.listens)
    assert lan.services == []


def test_it_is_bound_to_the_private_network(lan: Lan, make: Callable[[int], str]) -> None:
    vm = make(1)
    give(vm)
    virsh("start", vm)
    until(lambda: lan.listens)
    sockets = [line.split()[3] for line in run("ss", "-Hltn", "sport = :330").splitlines()]
    assert f"{lan.address}:330" in sockets
    assert not {"0.0.0.0:330", "*:330", "[::]:330"}.intersection(sockets)


def test_one_run_fetches_it_once(
    site: Site, lan: Lan, make: Callable[[int], str], plug: Callable[[int], Guest]
) -> None:
    vm, guest = make(1), plug(1)
    before = virsh("dumpxml", vm, "--inactive")
    url = give(vm, availability="run_once")["url"]
    until(lambda: lan.listens)
    assert virsh("dumpxml", vm, "--inactive") == before
    assert [guest(f"{url}meta-data")[0] for _ in range(2)] == [200, 200]
    assert guest(f"{url}user-data") == (200, SEED["user_data"])
    assert [guest(url + name)[0] for name in ("user-data", "meta-data")] == [404, 404]
    assert guest(f"{url}vendor-data") == (200, ""), "cloud-init would wait ten seconds"
    hook(vm, virsh("dumpxml", vm), "reconnect")
    assert guest(f"{url}user-data")[0] == 404
    virsh("destroy", vm)
    until(lambda: not lan.listens and payloads(site) == [])
    assert give(vm, availability="run_once")["url"] == url
    until(lambda: lan.listens)
    assert guest(f"{url}user-data") == (200, SEED["user_data"])


def test_what_is_taken_away_is_gone_at_once(
    site: Site, make: Callable[[int], str], plug: Callable[[int], Guest], lan: Lan
) -> None:
    vm, guest = make(1), plug(1)
    url = give(vm)["url"]
    virsh("start", vm)
    assert guest(f"{url}user-data")[0] == 200
    replay("vm_payload", vm=vm, state="absent")
    assert guest(f"{url}user-data") == (404, "")
    assert payloads(site) == []
    assert definition(vm).find("sysinfo") is None
    virsh("destroy", vm)
    until(lambda: not lan.listens)


def test_two_vms_share_the_service_and_nothing_else(
    lan: Lan, make: Callable[[int], str], plug: Callable[[int], Guest]
) -> None:
    vms, guests = [make(1), make(2)], [plug(1), plug(2)]
    urls = [give(vm)["url"] for vm in vms]
    for vm in vms:
        virsh("start", vm)
    until(lambda: lan.listens)
    assert len(lan.services) == 1
    assert [[guest(f"{url}user-data")[0] for url in urls] for guest in guests] == [[200, 404], [404, 200]]
    virsh("destroy", vms[0])
    until(lambda: guests[0](f"{urls[0]}user-data")[0] == 404)
    assert [guest(f"{urls[1]}user-data")[0] for guest in guests] == [404, 200]


def test_a_service_that_died_comes_back_with_libvirt(
    lan: Lan, make: Callable[[int], str], plug: Callable[[int], Guest]
) -> None:
    vm, guest = make(1), plug(1)
    url = give(vm)["url"]
    virsh("start", vm)
    assert guest(f"{url}user-data")[0] == 200
    run("kill", "-9", *lan.services)
    until(lambda: not lan.listens)
    hook(vm, virsh("dumpxml", vm), "reconnect")
    until(lambda: lan.listens)
    assert guest(f"{url}user-data")[0] == 200


HOLD = """
import socket, sys
held = [socket.create_connection((sys.argv[1], 330), 10) for _ in range(40)]
print(flush=True)
sys.stdin.read()
"""


def test_a_guest_that_holds_connections_keeps_nobody_else_out(
    lan: Lan, make: Callable[[int], str], plug: Callable[[int], Guest]
) -> None:
    vm, guest, hostile = make(1), plug(1), plug(2)
    url = give(vm)["url"]
    virsh("start", vm)
    assert hostile(f"{url}user-data")[0] == 404
    inside = ["ip", "netns", "exec", hostile.name, "/usr/bin/python3", "-c", HOLD, lan.address]
    with subprocess.Popen(inside, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        assert guest(f"{url}user-data")[0] == 200
        (service,) = lan.services
        assert len(list(Path("/proc", service, "task").iterdir())) <= 10
        assert holder.stdin is not None
        holder.stdin.close()
    until(lambda: hostile(f"{url}user-data")[0] == 404)


# --- at once ---------------------------------------------------------------------------------------------------------


def crafted(lan: Lan, number: int) -> str:
    """Return the definition of a VM with a payload over the network, as libvirt hands it to the hook."""
    url, name = f"http://{lan.address}:330/{number:032x}/", f"gldtest-{number}.payload.0123456789ab.seed"
    return (
        "<domain type='qemu'><metadata><golden:vm xmlns:golden='https://golden.libvirt/vm/1'><golden:payload "
        f"type='network' availability='permanent' volume='{name}' path='/nowhere/{name}' url='{url}'/></golden:vm>"
        f"</metadata><sysinfo type='smbios'><system><entry name='serial'>ds=nocloud;s={url};dsmode=net</entry></system>"
        f"</sysinfo><devices><interface type='network'><mac address='{mac(number)}'/></interface></devices></domain>"
    )


def test_of_many_that_start_at_once_one_starts_the_service(lan: Lan) -> None:
    numbers = range(1, 13)
    calls = [
        subprocess.Popen([HOOK, f"gldtest-{number}", "start", "begin", "-"], stdin=subprocess.PIPE, text=True)
        for number in numbers
    ]
    for number, call in zip(numbers, calls):
        call.communicate(crafted(lan, number), timeout=60)
    assert {call.returncode for call in calls} == {0}
    until(lambda: lan.listens)
    assert len(lan.services) == 1
    for number in numbers:
        assert lan.listens
        hook(f"gldtest-{number}", crafted(lan, number), "release")
    until(lambda: not lan.listens)


def test_a_vm_that_starts_while_the_service_ends_is_served(lan: Lan) -> None:
    xml = crafted(lan, 1)
    for pause in (0.0, 0.3, 0.4, 0.45, 0.5, 0.55, 0.6, 0.7):
        hook("gldtest-1", xml, "start")
        until(lambda: lan.listens)
        hook("gldtest-1", xml, "release")
        time.sleep(pause)
        hook("gldtest-1", xml, "start")
        until(lambda: lan.listens)
        time.sleep(0.8)
        assert len(lan.services) == 1, f"ended {pause} s after the last VM, although another one came"
    hook("gldtest-1", xml, "release")
    until(lambda: not lan.listens)


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("http://../", "http://{address}:330/"),
        ("/../../../../etc/passwd/", "/{token}/"),
        ("path='/etc/shadow'", "path='/nowhere/{name}'"),
        ("path='/nowhere/other.payload.0123456789ab.seed'", "path='/nowhere/{name}'"),
    ],
)
def test_a_definition_that_leads_elsewhere_is_not_served(lan: Lan, wrong: str, right: str) -> None:
    name = "gldtest-1.payload.0123456789ab.seed"
    there = right.format(address=lan.address, token=f"{1:032x}", name=name)
    xml = crafted(lan, 1)
    assert there in xml
    hook("gldtest-1", xml.replace(there, wrong), "start")
    assert lan.services == []
    assert not lan.listens
    assert not Path("/run/golden-payload", lan.address, f"{1:032x}").exists()


# --- refused ---------------------------------------------------------------------------------------------------------


def test_a_vm_without_a_network_is_refused(site: Site, template: str) -> None:
    name = site.vm("a")
    run_module("vm", name=name, template=template, storage_pools=[site.storage_pool])
    with pytest.raises(ModuleFailed, match="no network card on a libvirt network"):
        give(name)
    assert payloads(site) == []


def test_a_module_on_a_hypervisor_that_serves_nothing_warns(
    make: Callable[[int], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    vm = make(1)
    options: dict[str, Any] = {"vm": vm, "type": "network", "cloud_init": SEED}
    assert "warnings" not in run_module("vm_payload", **options)
    monkeypatch.setattr(networks, "_SERVING", (str(HOOK), "/nonexistent"))
    (warning,) = run_module("vm_payload", **options)["warnings"]
    assert f"nothing serves the payload of VM '{vm}' over the network on this hypervisor" in str(warning)
