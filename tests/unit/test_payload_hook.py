"""The hook that deletes the payload of one run, called as libvirt calls it. Of what it has served over the network, see
tests/system."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

HOOK = Path(__file__).parents[2] / "roles" / "hypervisor" / "files" / "payload_hook.py"
PYTHON = ("/usr/bin/python3", "-IS")
"""As in the first line that the role gives it."""
VM = "gldtest-hook"
NAMESPACE = "https://golden.libvirt/vm/1"


def domain(*files: Path, availability: str = "run_once", shown: str = "disk") -> str:
    """Return a live definition with a payload, which is the first of these files."""
    xml = ET.Element("domain", type="qemu")
    ET.SubElement(xml, "name").text = VM
    ours = ET.SubElement(ET.SubElement(xml, "metadata"), f"{{{NAMESPACE}}}vm")
    payload = ET.SubElement(ours, f"{{{NAMESPACE}}}payload", volume=files[0].name, availability=availability)
    devices = ET.SubElement(xml, "devices")
    for file in files:
        if shown == "network":
            payload.attrib |= {"type": "network", "path": str(files[0])}
        elif shown == "fw_cfg":
            ET.SubElement(ET.SubElement(xml, "sysinfo", type="fwcfg"), "entry", name="x", file=str(file))
        else:
            disk = ET.SubElement(devices, "disk", type="file", device="cdrom")
            ET.SubElement(disk, "source", file=str(file), index="1")
    return ET.tostring(xml, encoding="unicode")


def call(xml: str, *words: str, vm: str = VM) -> subprocess.CompletedProcess[str]:
    """Call the hook as libvirt does."""
    words = words or ("release", "end", "-")
    return subprocess.run([*PYTHON, HOOK, vm, *words], input=xml, capture_output=True, text=True, check=False)


@pytest.fixture
def payload(tmp_path: Path) -> Path:
    """Return a volume with a payload."""
    return written(tmp_path / f"{VM}.payload.0123456789ab.iso")


def written(path: Path) -> Path:
    path.write_text("tell nobody")
    return path


def silent(done: subprocess.CompletedProcess[str]) -> bool:
    """Whether the hook has succeeded without a word."""
    return (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("shown", ["disk", "fw_cfg", "network"])
def test_the_payload_of_one_run_goes(payload: Path, shown: str) -> None:
    assert silent(call(domain(payload, shown=shown)))
    assert not payload.exists()


@pytest.mark.parametrize(
    "words",
    [
        ("prepare", "begin", "-"),
        ("start", "begin", "-"),
        ("started", "begin", "-"),
        ("reconnect", "begin", "-"),
        ("stopped", "end", "-"),
        ("release", "begin", "-"),
    ],
)
def test_other_events_change_nothing(payload: Path, words: tuple[str, ...]) -> None:
    assert silent(call(domain(payload), *words))
    assert silent(call("no XML at all", *words))
    assert payload.exists()


def test_a_permanent_payload_stays(payload: Path) -> None:
    assert silent(call(domain(payload, availability="permanent")))
    assert payload.exists()


def test_a_disk_beside_it_stays(payload: Path, tmp_path: Path) -> None:
    other = written(tmp_path / f"{VM}.payload.ffffffffffff.iso")
    assert silent(call(domain(payload, other)))
    assert (payload.exists(), other.exists()) == (False, True)


@pytest.mark.parametrize(
    "name",
    [
        "root.qcow2",
        f"{VM}.root.1.qcow2",
        "another.payload.0123456789ab.iso",
        f"{VM}.payload.0123456789ab.qcow2",
        f"{VM}.payload.0123456789ab.iso.bak",
        f"x{VM}.payload.0123456789ab.iso",
    ],
)
def test_a_file_that_is_no_payload_of_this_vm_stays(tmp_path: Path, name: str) -> None:
    path = written(tmp_path / name)
    assert silent(call(domain(path)))
    assert path.exists()


def test_a_payload_that_no_drive_has_stays(payload: Path, tmp_path: Path) -> None:
    xml = domain(payload).replace(str(tmp_path), "/nowhere")
    assert silent(call(xml))
    assert payload.exists()


def test_a_payload_that_is_gone_already_is_no_problem(payload: Path) -> None:
    payload.unlink()
    assert silent(call(domain(payload)))


def test_a_link_and_a_folder_stay(payload: Path, tmp_path: Path) -> None:
    target = written(tmp_path / "target")
    payload.unlink()
    payload.symlink_to(target)
    done = call(domain(payload))
    assert done.returncode == 0
    assert target.read_text() == "tell nobody"
    payload.unlink()
    payload.mkdir()
    assert call(domain(payload)).returncode == 0
    assert payload.is_dir()


def test_a_file_that_a_qemu_has_open_stays(payload: Path) -> None:
    script = (
        f"import fcntl, sys\nf = open({str(payload)!r})\nfcntl.lockf(f, fcntl.LOCK_SH, 1, 100)\n"
        "print(flush=True)\nsys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as qemu:
        assert qemu.stdout is not None
        qemu.stdout.readline()
        assert silent(call(domain(payload)))
        assert payload.exists()
        assert qemu.stdin is not None
        qemu.stdin.close()
    assert silent(call(domain(payload)))
    assert not payload.exists()


def test_a_problem_is_told_without_the_content(payload: Path) -> None:
    done = call(domain(payload)[:-5])
    assert done.returncode == 0
    assert (
        done.stderr
        == f"the payload of VM {VM!r} for one run could not be deleted: the definition is no well-formed XML\n"
    )
    assert payload.exists()
