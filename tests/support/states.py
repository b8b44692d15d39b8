"""The whole state of a test's storage pool and VMs: looked at, kept, and put back.

It is read from libvirt and from the files, without our own code.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import operator
import re
import shutil
import stat
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import libvirt

from .fixtures import Site
from .virsh import NAMESPACE

State = dict[str, Any]
_IDENTITY = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|(?:[0-9a-f]{2}:){5}[0-9a-f]{2}")
_ROOT = re.compile(r"\.root\.[0-9]+\.")
_VERSION = re.compile(r"\.v([0-9]+)\.")


@contextmanager
def connected() -> Iterator[libvirt.virConnect]:
    """Yield a connection of the test's own."""
    # As the modules do it: there is one handler in a process, and one in Python loses what a signal raises.
    libvirt.registerErrorHandler(operator.is_, None)
    conn = libvirt.open("qemu:///system")
    try:
        yield conn
    finally:
        conn.close()


@dataclass(frozen=True)
class Kept:
    """A state that can be put back; ``folder`` has the files."""

    site: Site
    folder: Path
    definitions: dict[str, str]
    running: tuple[str, ...]
    autostart: tuple[str, ...]
    identities: frozenset[str]

    def put_back(self) -> None:
        """Make everything as it was."""
        with connected() as conn:
            for domain in _domains(conn, self.site):
                with contextlib.suppress(libvirt.libvirtError):  # it is down, or goes down just now
                    domain.destroy()
                if domain.isPersistent():
                    domain.undefineFlags(
                        libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
                        | libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
                        | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
                    )
            forget_claims(conn)
            _copy(self.folder, self.site.folder)
            conn.storagePoolLookupByName(self.site.storage_pool).refresh()
            for name, xml in self.definitions.items():
                domain = conn.defineXML(xml)
                domain.setAutostart(name in self.autostart)
                if name in self.running:
                    domain.create()

    def look(self) -> State:
        """Return all that there is now, to be compared.

        Left out are what is random in what was made since, the numbers of root volumes, and how often a VM did not
        come up. Versions have the numbers that they had if no version had been deleted.
        """
        with connected() as conn:
            listed = conn.storagePoolLookupByName(self.site.storage_pool).listVolumes()
            state: State = {domain.name(): self._domain(domain) for domain in _domains(conn, self.site)}
        files = sorted(path.name for path in self.site.folder.iterdir())
        assert sorted(listed) == files, "libvirt and the file system do not agree about the volumes"
        numbers = _numbers(self.site.folder)
        state["volumes"] = sorted(
            self._file(self.site.folder / name, numbers)
            for name in files
            if (found := _VERSION.search(name)) is None or found[1] in numbers
        )
        return state

    def _domain(self, domain: libvirt.virDomain) -> State:
        xml = ET.fromstring(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE))
        for element in xml.iter(f"{NAMESPACE}vm"):
            element.attrib.pop("generation")
            element.attrib.pop("failed_starts", None)
        for element in xml.iter(f"{NAMESPACE}lease"):
            element.attrib.pop("since")
        live = ET.fromstring(domain.XMLDesc()) if domain.isActive() else ET.Element("none")
        return {
            "definition": self._plain(ET.canonicalize(ET.tostring(xml), strip_text=True)),
            "state": domain.state()[0],
            "live disks": [
                (disk.find("target").attrib["dev"], self._plain(_source(disk)))
                for disk in live.iterfind("devices/disk")
            ],
            "persistent": domain.isPersistent(),
            "autostart": domain.isPersistent() and domain.autostart(),
            "managed save": domain.isPersistent() and domain.hasManagedSaveImage(),
        }

    def _plain(self, text: str) -> str:
        """Return a text without what is random in it."""
        text = _IDENTITY.sub(lambda found: found[0] if found[0] in self.identities else "new", text)
        return _ROOT.sub(".root.N.", text)

    def _file(self, path: Path, numbers: dict[str, str]) -> tuple[str, str, str]:
        """Return the name, the mode and the digest of a file."""
        content = path.read_bytes()
        with contextlib.suppress(ValueError):
            manifest = json.loads(content) if path.suffix == ".json" else {}
            if manifest:
                manifest.pop("created")
                manifest["version"] = numbers[str(manifest["version"])]
                content = _renumbered(self._plain(json.dumps(manifest, sort_keys=True)), numbers).encode()
        name = _renumbered(_ROOT.sub(".root.N.", path.name), numbers)
        return name, oct(stat.S_IMODE(path.stat().st_mode)), hashlib.sha256(content).hexdigest()


def _numbers(folder: Path) -> dict[str, str]:
    """Return the numbers of the versions that are not deleted, and the number that each had if none had been."""
    alive = []
    for path in folder.glob("*.json"):
        try:
            deleted = json.loads(path.read_bytes())["status"] == "deleted"
        except ValueError:
            deleted = False
        found = _VERSION.search(path.name)
        if found is not None and not deleted:
            alive.append(int(found[1]))
    return {str(number): str(place) for place, number in enumerate(sorted(alive), start=1)}


def _renumbered(text: str, numbers: dict[str, str]) -> str:
    return _VERSION.sub(lambda found: f".v{numbers.get(found[1], found[1])}.", text)


def keep(site: Site) -> Kept:
    """Keep the present state of a site."""
    folder = site.folder.parent / "kept"
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir()
    _copy(site.folder, folder)
    with connected() as conn:
        domains = _domains(conn, site)
        definitions = {
            domain.name(): domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE)
            for domain in domains
        }
        return Kept(
            site,
            folder,
            definitions,
            tuple(domain.name() for domain in domains if domain.isActive()),
            tuple(domain.name() for domain in domains if domain.autostart()),
            frozenset(found for xml in definitions.values() for found in _IDENTITY.findall(xml)),
        )


def assert_starts(site: Site) -> None:
    """Every VM of a site runs, or QEMU runs when it is started: all that lies below its disks is there."""
    with connected() as conn:
        for domain in _domains(conn, site):
            if not domain.isActive():
                domain.create()
                domain.destroy()


def forget_claims(conn: libvirt.virConnect) -> None:
    """Forget what tasks that were killed have claimed."""
    for secret in conn.listAllSecrets(libvirt.VIR_CONNECT_LIST_SECRETS_EPHEMERAL):
        with contextlib.suppress(libvirt.libvirtError):
            secret.undefine()


def _domains(conn: libvirt.virConnect, site: Site) -> list[libvirt.virDomain]:
    return [domain for domain in conn.listAllDomains() if domain.name().startswith(site.prefix)]


def _source(disk: ET.Element) -> str:
    source = disk.find("source")
    return "" if source is None else source.get("file", "").rpartition("/")[2]


def _copy(source: Path, target: Path) -> None:
    """Make a folder equal to another one."""
    for path in target.iterdir():
        path.unlink()
    subprocess.run(["cp", "-a", "--sparse=always", f"{source}/.", f"{target}/"], check=True)
