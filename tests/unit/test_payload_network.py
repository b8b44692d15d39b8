"""Handing a payload to a VM over its network."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.golden.libvirt.plugins.module_utils._core.errors import InvalidError, NotFoundError
from ansible_collections.golden.libvirt.plugins.module_utils._core.payload.payload import PayloadRequest, seed
from ansible_collections.golden.libvirt.plugins.module_utils._core.payload.payload_files import PayloadFile
from ansible_collections.golden.libvirt.plugins.module_utils._core.payload.vm_payload import (
    plan_no_payload,
    plan_payload,
)
from ansible_collections.golden.libvirt.plugins.module_utils._core.vm.vm_list import Filters, list_vms

from support.fake import FakeHypervisor, FakePool
from unit.test_vm_payload import drives, edit, giving, payloads, set_machine, taking, volume
from unit.world import Task, changes, do, ensuring, plan, publishing, record, refused, restoring, with_template, with_vm

URL = re.compile(r"http://192\.0\.2\.1:330/[0-9a-f]{32}/")


def served(text: str = "one", **wanted: Any) -> Task:
    """Return the task of the module vm_payload with ``type: network``."""
    return giving(text, "network", **wanted)


def stopped() -> FakeHypervisor:
    """Return a hypervisor with the VM ``web-1``, which is down."""
    return with_vm(state="present")


def restart(hv: FakeHypervisor) -> None:
    """Stop the VM and start it again."""
    hv.vms["web-1"].live = hv.vms["web-1"].stored


def serial(hv: FakeHypervisor, *, live: bool = False) -> str:
    """Return the serial number that ``web-1`` shows its guest, or an empty text."""
    vm = hv.vms["web-1"]
    xml = ET.fromstring((vm.live if live else vm.stored) or "<domain/>")
    shown = xml.find("os/smbios[@mode='sysinfo']") is not None
    return (xml.findtext("sysinfo[@type='smbios']/system/entry[@name='serial']") or "") if shown else ""


def with_smbios(hv: FakeHypervisor, mode: str = "sysinfo", **entries: str) -> FakeHypervisor:
    """Give ``web-1`` an SMBIOS of its own, as other tools do."""

    def add(xml: ET.Element) -> None:
        if entries:
            system = ET.SubElement(ET.SubElement(xml, "sysinfo", type="smbios"), "system")
            for name, text in entries.items():
                ET.SubElement(system, "entry", name=name).text = text
        if mode:
            ET.SubElement(xml.find("os"), "smbios", mode=mode)  # type: ignore[arg-type]

    edit(hv, add)
    return hv


# --- a stopped VM ----------------------------------------------------------------------------------------------------


def test_the_guest_is_told_where_its_payload_is() -> None:
    hv = stopped()
    before = hv.state()
    result = do(hv, served())
    assert (result["type"], result["volume"]) == ("network", volume("one", "network"))
    assert URL.fullmatch(result["url"])
    assert serial(hv) == f"ds=nocloud;s={result['url']};dsmode=net"
    stored = hv.pools["default"].volumes[result["volume"]].content
    assert json.loads(stored) == {"user-data": "one", "meta-data": "x: 1"}
    payload = record(hv).payload
    assert payload is not None
    assert (payload.url, payload.path) == (result["url"], f"/pools/default/{result['volume']}")
    assert not changes(hv, served())
    assert list_vms(hv, Filters())[0]["payload"]["disc_changed"] is False
    do(hv, taking())
    assert hv.state() == before


def test_the_url_is_of_the_vm_and_of_the_content() -> None:
    hv = with_template(1)
    hv.pools["fast"] = FakePool("fast")
    urls = set()
    for name in ("web-1", "web-2"):
        do(hv, ensuring(name, template="web"))
        for text, pool in (("a", "default"), ("b", "default"), ("a", "fast")):
            content = seed([PayloadFile("user-data", text.encode())], 10)
            request = PayloadRequest(lambda *_, content=content: content, storage_pool=pool)  # type: ignore[misc]
            urls.add(do(hv, lambda hv, name=name, request=request: plan_payload(hv, name, request))["url"])  # type: ignore[misc]
    assert len(urls) == 6


def test_another_medium_takes_its_place_and_gives_it_back() -> None:
    hv = stopped()
    do(hv, giving(medium="fw_cfg"))
    do(hv, served())
    assert "fwcfg" not in hv.vms["web-1"].stored
    do(hv, giving("cd"))
    assert (serial(hv), drives(hv), payloads(hv)) == ("", {"sda": volume("cd")}, [volume("cd")])
    do(hv, served())
    assert (drives(hv), payloads(hv)) == ({}, [volume("one", "network")])


def test_what_else_is_in_the_smbios_stays() -> None:
    hv = with_smbios(stopped(), manufacturer="ACME")
    before = hv.state()
    do(hv, served())
    assert "ACME" in hv.vms["web-1"].stored
    do(hv, taking())
    assert hv.state() == before


def test_what_a_template_has_left_of_an_smbios_is_used() -> None:
    hv = stopped()
    do(hv, served())
    do(hv, publishing(template="copy", vm="web-1"))
    do(hv, ensuring("copy-1", template="copy"))
    request = PayloadRequest(lambda *_: seed([PayloadFile("user-data", b"x")], 10))
    url = do(hv, lambda hv: plan_payload(hv, "copy-1", request))["url"]
    assert url in hv.vms["copy-1"].stored
    assert url != do(hv, served())["url"]


@pytest.mark.parametrize(
    ("mode", "entries", "said"),
    [
        ("sysinfo", {"serial": "42"}, "has a serial number in its SMBIOS already.*virsh edit web-1"),
        ("host", {}, "an SMBIOS that is that of its host.*mode='sysinfo'"),
        ("", {"manufacturer": "ACME"}, "not that of its element sysinfo"),
        ("emulate", {"manufacturer": "ACME"}, "not that of its element sysinfo"),
    ],
)
def test_an_smbios_of_the_user_is_left_alone(mode: str, entries: dict[str, str], said: str) -> None:
    refused(with_smbios(stopped(), mode, **entries), served(), said)


def test_an_smbios_that_is_emulated_is_shown_instead() -> None:
    hv = with_smbios(stopped(), "emulate")
    do(hv, served())
    assert URL.search(serial(hv))
    do(hv, taking())
    assert serial(hv) == ""


def test_a_machine_without_smbios_is_refused() -> None:
    hv = stopped()
    set_machine(hv, "s390x", "s390-ccw-virtio")
    refused(hv, served(), "architecture 's390x', which has no SMBIOS.*type: cdrom")


# --- the network -----------------------------------------------------------------------------------------------------


def set_cards(*cards: tuple[str, str]) -> Callable[[ET.Element], None]:
    """Return what gives a VM network cards of these types, on these sources."""

    def change(xml: ET.Element) -> None:
        devices = xml.find("devices")
        assert devices is not None
        for card in devices.findall("interface"):
            devices.remove(card)
        for kind, source in cards:
            card = ET.SubElement(devices, "interface", type=kind)
            ET.SubElement(card, "mac", address="52:54:00:00:00:01")
            ET.SubElement(card, "source", {kind: source})

    return change


def test_the_first_network_with_an_address_is_taken() -> None:
    hv = stopped()
    hv.networks |= {"bridged": "", "lab": "198.51.100.1"}
    edit(hv, set_cards(("bridge", "br0"), ("network", "bridged"), ("network", "lab"), ("network", "default")))
    assert do(hv, served())["url"].startswith("http://198.51.100.1:330/")


@pytest.mark.parametrize("cards", [(), (("bridge", "br0"),), (("network", "bridged"),), (("direct", "eth0"),)])
def test_a_vm_that_cannot_reach_the_hypervisor_is_refused(cards: tuple[tuple[str, str], ...]) -> None:
    hv = stopped()
    hv.networks["bridged"] = ""
    edit(hv, set_cards(*cards))
    refused(hv, served(), "no network card on a libvirt network in which the hypervisor has an IPv4 address.*cdrom")


def test_a_network_that_is_not_there_is_refused() -> None:
    hv = stopped()
    edit(hv, set_cards(("network", "none")))
    refused(hv, served(), "no network 'none'", NotFoundError)


def test_a_change_of_the_address_is_told_the_guest() -> None:
    hv = with_vm()
    do(hv, served())
    restart(hv)
    hv.networks["default"] = "192.0.2.99"
    url = do(hv, served())["url"]
    assert url.startswith("http://192.0.2.99:330/")
    assert not changes(hv, served())
    assert serial(hv, live=True) != serial(hv) == f"ds=nocloud;s={url};dsmode=net"
    live = hv.vms["web-1"].live
    assert live is not None
    assert url not in live, "the hook would not find what it has registered"
    restart(hv)
    assert payloads(hv) == [volume("one", "network")]


@pytest.mark.parametrize(("installed", "warns"), [(True, False), (None, False), (False, True)])
@pytest.mark.parametrize("once", [False, True])
def test_a_hypervisor_that_serves_nothing_is_warned_of(installed: bool | None, warns: bool, once: bool) -> None:
    hv = stopped()
    hv.payload_service = installed
    warned = [text for text in plan(hv, served(once=once)).warnings if "golden.libvirt.hypervisor" in text]
    assert bool(warned) == warns


# --- a running VM ----------------------------------------------------------------------------------------------------


def test_a_running_vm_is_told_when_it_is_next_started() -> None:
    hv = with_vm()
    before = hv.vms["web-1"].live
    assert plan(hv, served()).warnings == ("VM 'web-1' runs: its guest sees the payload when it is next started",)
    do(hv, served())
    assert hv.vms["web-1"].live == before
    assert not changes(hv, served())
    restart(hv)
    assert plan(hv, served()).warnings == ()
    assert not changes(hv, served())


def test_a_run_goes_on_with_the_payload_that_it_was_started_with() -> None:
    hv = with_vm()
    do(hv, served("old"))
    restart(hv)
    live = hv.vms["web-1"].live
    for other in (served("new"), giving("cd")):
        do(hv, other)
        assert not changes(hv, other)
        assert hv.vms["web-1"].live == live
        assert volume("old", "network") in payloads(hv), "the guest boots again, and has none"
    restart(hv)
    do(hv, giving("cd"))
    assert payloads(hv) == [volume("cd")]


def test_a_cd_stays_in_a_run_when_the_vm_gets_a_payload_over_the_network() -> None:
    hv = with_vm()
    do(hv, giving("cd"))
    restart(hv)
    do(hv, served())
    assert (drives(hv), drives(hv, live=True)) == ({}, {"sda": volume("cd")})
    assert payloads(hv) == sorted([volume("cd"), volume("one", "network")])
    restart(hv)
    do(hv, served())
    assert payloads(hv) == [volume("one", "network")]


def test_what_is_taken_away_is_served_no_more_at_once() -> None:
    hv = with_vm()
    do(hv, served())
    restart(hv)
    do(hv, taking())
    assert (serial(hv), record(hv).payload, payloads(hv)) == ("", None, [])
    assert not changes(hv, taking())
    do(hv, served())
    assert plan(hv, served()).warnings == (), "the guest was told of it, and finds it again"


def test_one_run_that_becomes_permanent() -> None:
    hv = stopped()
    once = do(hv, served(once=True))
    assert do(hv, served()) == {**once, "availability": "permanent"}
    live = hv.vms["web-1"].live
    assert live is not None
    assert 'availability="permanent"' in live
    assert (serial(hv), payloads(hv)) == (serial(hv, live=True), [volume("one", "network")])
    assert not changes(hv, served())


# --- together with the VM --------------------------------------------------------------------------------------------


def test_a_new_vm_is_told_at_its_first_start() -> None:
    hv = with_template(1)
    request = PayloadRequest(lambda name, uuid: seed([PayloadFile("user-data", f"{name} {uuid}".encode())], 100))
    made = do(hv, ensuring(template="web", payload=request, state="started"))
    assert serial(hv, live=True) == f"ds=nocloud;s={made['payload']['url']};dsmode=net"
    assert not changes(hv, ensuring(payload=request))
    do(hv, ensuring(state="absent"))
    assert (hv.vms, payloads(hv)) == ({}, [])


def test_a_restore_keeps_it() -> None:
    hv = with_vm()
    do(hv, served())
    restart(hv)
    told = serial(hv)
    do(hv, restoring(template_version="2"))
    assert (serial(hv, live=True), payloads(hv)) == (told, [volume("one", "network")])


def test_a_serial_number_that_other_tools_have_changed_is_put_right() -> None:
    hv = stopped()
    told = serial(hv) if do(hv, served()) else ""

    def other(xml: ET.Element) -> None:
        entry = xml.find("sysinfo/system/entry")
        assert entry is not None
        entry.text = "42"

    edit(hv, other)
    assert list_vms(hv, Filters())[0]["payload"]["disc_changed"] is True
    assert "changed the serial number that tells of the payload of VM 'web-1': there is 42" in str(
        plan(hv, served()).warnings
    )
    do(hv, served())
    assert serial(hv) == told
    edit(hv, other)
    do(hv, taking())
    assert serial(hv) == "42", "what others have put there is none of ours any more"


def test_a_file_that_is_too_large_is_refused() -> None:
    with pytest.raises(InvalidError, match="'user-data' has 11 bytes, more than max_file_size"):
        seed([PayloadFile("user-data", b"x" * 11)], 10)


def test_nothing_of_the_content_is_in_the_definition() -> None:
    hv = stopped()
    do(hv, served("tell nobody"))
    assert "tell nobody" not in hv.vms["web-1"].stored
    assert plan_no_payload(hv, "web-1").changed
