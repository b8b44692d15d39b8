"""Check the network that is wanted against the host. Standard library only; runs on the host.

Argument: JSON with `bridge`, `subnet`, `dhcp_start`, `dhcp_end` (what is wanted; "" where open) and `xml` (the
network that is there, or ""). Prints JSON: `error`, or `address`, `netmask`, `dhcp_start`, `dhcp_end` of a new
network, `wanted` and `found` in words, and `in_use`: what of the host overlaps the network.
"""

from __future__ import annotations

import json
import subprocess
import sys
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path
from xml.etree import ElementTree


def ip(*command: str) -> list[dict]:
    """The answer of ip, from iproute2."""
    try:
        return json.loads(subprocess.check_output(("ip", "-json", "-4", *command)) or "[]")
    except FileNotFoundError:
        raise ValueError("the command ip (package iproute2 or iproute) is needed to see what the host uses") from None


def host_subnets() -> dict[IPv4Network, str]:
    """The subnets of all interfaces and routes of the host, with their device."""
    subnets = {}
    for route in ip("route", "show", "table", "all"):
        # The table `local` repeats the interfaces; half of the Internet or more is a default route.
        if route.get("type") in ("local", "broadcast", "multicast") or route["dst"] == "default":
            continue
        subnet = IPv4Network(route["dst"])
        if subnet.prefixlen > 1:
            subnets[subnet] = route.get("dev", route.get("type", "a route"))
    for interface in ip("address", "show"):
        for address in interface.get("addr_info", []):
            subnet = IPv4Interface(f"{address['local']}/{address['prefixlen']}").network
            subnets[subnet] = interface["ifname"]
    return subnets


def existing_network(xml: str) -> tuple[list[IPv4Network], str]:
    """The IPv4 subnets of a libvirt network, and what it is in words."""
    network = ElementTree.fromstring(xml)
    subnets = [
        IPv4Interface(f"{entry.get('address')}/{entry.get('netmask') or entry.get('prefix')}").network
        for entry in network.iterfind("ip")
        if entry.get("family", "ipv4") == "ipv4"
    ]
    if subnets:
        return subnets, f"subnet {', '.join(map(str, subnets))}"
    bridge = network.find("bridge")
    return [], "no subnet" if bridge is None else f"bridge {bridge.get('name')}"


def new_network(subnet: str, start: str, end: str) -> dict[str, str]:
    """The addresses of a new NAT network."""
    network = IPv4Network(subnet)
    if network.num_addresses < 4:
        raise ValueError(f"{network} has no room for guests")
    first, last = IPv4Address(start or network[2]), IPv4Address(end or network[-2])
    if not network[1] < first <= last < network[-1]:
        raise ValueError(f"DHCP cannot give {first} to {last}: guests of {network} have {network[2]} to {network[-2]}")
    return {
        "address": str(network[1]),
        "netmask": str(network.netmask),
        "dhcp_start": str(first),
        "dhcp_end": str(last),
    }


def check(bridge: str, subnet: str, dhcp_start: str, dhcp_end: str, xml: str) -> dict[str, object]:
    answer: dict[str, object] = {"wanted": f"bridge {bridge}" if bridge else f"subnet {subnet}", "found": ""}
    if not bridge:
        answer.update(new_network(subnet, dhcp_start, dhcp_end))
    if xml:
        subnets, answer["found"] = existing_network(xml)
    elif bridge:
        if not Path("/sys/class/net", bridge, "bridge").is_dir():
            raise ValueError(f"the host has no Linux bridge {bridge!r}; make it first, the role does not")
        subnets = []
    else:
        subnets = [IPv4Network(subnet)]
    answer["in_use"] = [f"{used} ({by})" for used, by in host_subnets().items() if any(map(used.overlaps, subnets))]
    return answer


try:
    print(json.dumps(check(**json.loads(sys.argv[1]))))
except ValueError as error:
    print(json.dumps({"error": str(error)}))
