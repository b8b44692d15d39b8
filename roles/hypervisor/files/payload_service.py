"""Serve payloads to the VMs of one private network; argument: the address of the hypervisor in it.

The hook golden-payload starts this, tells it in the folder /run/golden-payload/<address> what is to be served (a file
for each VM, named by the secret part of its URL), and gives it an open file whose lock says that it runs. It ends when
nothing is registered any more.

A guest gets the files of its own VM's payload only: it must know the URL, and ask from a network card of that VM. What
was for one run is served until the guest has all of it. Nothing of the contents is logged. Standard library only.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import stat
import sys
import syslog
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from threading import Lock
from typing import Any

PORT = 330
REGISTERED = "/run/golden-payload"
LOOK_EVERY = 0.5
LARGEST = 64 * 1024 * 1024
AT_ONCE = 8
"""Connections that a guest can have at a time: each takes a thread."""
ASKED = re.compile(r"/([0-9a-f]{32})/(meta-data|user-data|vendor-data|network-config)")
OPTIONAL = ("vendor-data", "network-config")
"""What cloud-init asks for again and again, for ten seconds, when it is told that there is none: it gets it empty."""


class Service(ThreadingTCPServer):
    """The service at one address."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, address: str) -> None:
        self.folder = f"{REGISTERED}/{address}"
        self.connections: Counter[str] = Counter()
        self.counting = Lock()
        super().__init__((address, PORT), Request)

    def service_actions(self) -> None:
        """End when nothing is left to be served; called every now and then."""
        if not self.has_work():
            with self.locked():
                if not self.has_work():
                    # both locks end with the process, so that nobody finds it running who comes too late for it
                    os._exit(0)

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Refuse one connection more of a guest that has many."""
        with self.counting:
            if self.connections[client_address[0]] >= AT_ONCE:
                return False
            self.connections[client_address[0]] += 1
            return True

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer on one connection until it is closed."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self.counting:
                self.connections[client_address[0]] -= 1
                self.connections += Counter()  # without those that are at zero

    def has_work(self) -> bool:
        """Whether anything is registered."""
        return any(not name.startswith(".") for name in os.listdir(self.folder))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Let nobody else change what is registered."""
        with open(f"{self.folder}/.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def registration(self, token: str) -> dict[str, Any] | None:
        """Return what the hook has registered under the secret part of a URL."""
        try:
            with open(f"{self.folder}/{token}") as file:
                found: dict[str, Any] = json.load(file)
                return found
        except FileNotFoundError:
            return None

    def content(self, token: str, name: str, client: str) -> bytes | None:
        """Return what a client gets of a payload; None for one that is not to get it, or that is not there."""
        found = self.registration(token)
        if found is None or not macs_of(client).intersection(found["macs"]):
            return None
        files = read(found["path"]) if found["path"] else None
        if name in OPTIONAL and name not in (files or {}):
            return b""
        return files[name].encode("utf-8") if files is not None and name in files else None

    def sent(self, token: str, name: str) -> None:
        """Take note of what a guest has fetched: what was for one run is not served again once it has all of it."""
        found = self.registration(token)
        if found is None or not found["once"] or not found["path"]:
            return
        files = read(found["path"])  # not under the lock, for which a VM that starts would wait
        with self.locked():
            found = self.registration(token)
            if found is None or files is None:
                return
            fetched = {*found["fetched"], name}
            path = "" if fetched.issuperset(files) else found["path"]
            with open(f"{self.folder}/.new", "w") as new:
                json.dump({**found, "path": path, "fetched": sorted(fetched)}, new)
            os.rename(f"{self.folder}/.new", f"{self.folder}/{token}")


class Request(BaseHTTPRequestHandler):
    """One request of a guest."""

    server: Service
    timeout = 10

    def do_GET(self) -> None:
        """Answer with a file, or say that there is none, whatever the reason."""
        asked = ASKED.fullmatch(self.path)
        content = self.server.content(asked[1], asked[2], self.client_address[0]) if asked else None
        with suppress(OSError):  # the guest has hung up: it asks again
            self.send_response(404 if content is None else 200)
            self.send_header("Content-Type", "text/plain; charset=utf-8")
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            self.wfile.write(content or b"")
            if asked and content is not None:
                self.server.sent(asked[1], asked[2])

    def version_string(self) -> str:
        """Return what guests are told of this program."""
        return "golden-payload"

    def log_message(self, *_what: object) -> None:
        """Log nothing: the URLs are secret."""


def macs_of(client: str) -> set[str]:
    """Return the MAC addresses of the network cards that have an address in the networks of this host."""
    with open("/proc/net/arp", encoding="ascii") as table:
        rows = [row.split() for row in table]
    return {row[3].lower() for row in rows if len(row) > 3 and row[0] == client}


def read(path: str) -> dict[str, str] | None:
    """Return the files of a payload by name; None of one that is not there, or is none."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as volume:
            found = json.loads(volume.read(LARGEST)) if stat.S_ISREG(os.fstat(volume.fileno()).st_mode) else None
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def main(address: str) -> None:
    """Serve until there is nothing left to be served."""
    try:
        service = Service(address)
    except OSError as error:
        syslog.openlog("golden-payload")
        syslog.syslog(syslog.LOG_ERR, f"payloads cannot be served at {address}:{PORT}: {error.strerror}")
        sys.exit(1)
    service.serve_forever(LOOK_EVERY)


if __name__ == "__main__":
    main(sys.argv[1])
