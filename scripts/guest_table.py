#!/usr/bin/env python3
"""What guests say of themselves, asked through their guest agents: the demo's witness, with no code of the collection.

guest_table.py VM ...              prints a line for each VM, read from inside of its guest
guest_table.py --leave-file VM     leaves a file of its own on the guest's root
"""

from __future__ import annotations

import base64
import json
import sys
import time
from typing import Any

import libvirt
import libvirt_qemu

COLUMNS = "{:<18} {:<8} {:<6} {:<18} {:<16} {:<18} {}"
FACTS = """
until ip=$(ip -4 -o addr show dev eth0 | awk '{print $4}') && [ "$ip" ]; do usleep 200000; done
cat /etc/golden-version /var/lib/boots
cat /root/file 2>/dev/null || echo -
echo ${ip%/*}
cat /sys/class/net/eth0/address /sys/class/dmi/id/product_uuid
"""


def ask(domain: Any, command: str, **arguments: Any) -> Any:
    """Return the answer of a guest agent, waiting for the guest to come up."""
    question = json.dumps({"execute": command, "arguments": arguments})
    deadline = time.monotonic() + 180
    while True:
        try:
            return json.loads(libvirt_qemu.qemuAgentCommand(domain, question, 10, 0))["return"]
        except libvirt.libvirtError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def run(domain: Any, script: str) -> list[str]:
    """Run a script in a guest and return the lines that it prints."""
    arguments = {"path": "/bin/sh", "arg": ["-c", script], "capture-output": True}
    pid = ask(domain, "guest-exec", **arguments)["pid"]
    while not (done := ask(domain, "guest-exec-status", pid=pid))["exited"]:
        time.sleep(0.05)
    return base64.b64decode(done.get("out-data", "")).decode().splitlines()


def main() -> None:
    """Print the table, or leave a file."""
    libvirt.registerErrorHandler(lambda _context, _error: None, None)
    connection = libvirt.open("qemu:///system")
    names = sys.argv[1:]
    if names[:1] == ["--leave-file"]:
        for name in names[1:]:
            run(connection.lookupByName(name), f"echo the file of {name[-4:]} > /root/file; sync")
        return
    print(COLUMNS.format("VM", "version", "boots", "file on the root", "IP", "MAC", "UUID"))
    for name in names:
        print(COLUMNS.format(name, *run(connection.lookupByName(name), FACTS)))


if __name__ == "__main__":
    main()
