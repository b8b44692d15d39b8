"""The role hypervisor on this machine's libvirt: really run, and judged by virsh."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

ROLE = Path(__file__).parents[2] / "roles" / "hypervisor"
PLAYBOOK = "golden.libvirt.hypervisor"
NAME = f"gldtest-hv{os.getpid()}"
SUBNET = "10.213.77.0/24"
DEFINE_ALL = ["Write the definition of", "Load the definition of", "Start", "Autostart"]


def virsh(*command: str) -> str:
    command = ("virsh", "--connect", "qemu:///system", *command)
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def names(kind: str, *options: str) -> list[str]:
    return [line.strip() for line in virsh(f"{kind}-list", "--name", *options).splitlines()]


def libvirt_answers() -> bool:
    return (
        shutil.which("virsh") is not None
        and os.geteuid() == 0
        and not subprocess.call(
            ["virsh", "--connect", "qemu:///system", "uri"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    )


needs_libvirt = pytest.mark.skipif(not libvirt_answers(), reason="needs root and a libvirt that answers")


@dataclass(frozen=True)
class Run:
    ok: bool
    output: str

    @property
    def changed(self) -> list[str]:
        """The names of the tasks that changed something, without the name of the role."""
        tasks = re.split(r"^TASK \[", self.output, flags=re.MULTILINE)[1:]
        return [
            task.split("]")[0].removeprefix("golden.libvirt.hypervisor : ")
            for task in tasks
            if re.search("^changed: ", task, re.MULTILINE)
        ]

    @property
    def text(self) -> str:
        """The output with every run of blanks as one space, to look for sentences."""
        return " ".join(self.output.split())


class Host:
    """This machine as the one host of an inventory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.storage = folder / "images & more"
        self.inventory = folder / "inventory.yml"
        self.settings: dict[str, Any] = {
            "hypervisor_storage_pool": NAME,
            "hypervisor_storage_pool_path": str(self.storage),
            "hypervisor_network": NAME,
            "hypervisor_network_subnet": SUBNET,
        }
        variables = {
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
            "ansible_become": False,
        }
        self.inventory.write_text(json.dumps({"hypervisors": {"hosts": {"hv1": variables}}}))

    def run(self, *options: str, playbook: str | Path = PLAYBOOK, **settings: Any) -> Run:
        """Run a playbook with the settings of the test; its own come on top."""
        command = [
            Path(sys.executable).parent / "ansible-playbook",
            *("-i", self.inventory, "-e", json.dumps(self.settings | settings)),
            *options,
            playbook,
        ]
        environment = os.environ | {"ANSIBLE_NOCOLOR": "1", "ANSIBLE_PIPELINING": "1"}
        done = subprocess.run(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        assert "[WARNING]" not in done.stdout, done.stdout
        assert "[DEPRECATION" not in done.stdout, done.stdout
        return Run(done.returncode == 0, done.stdout)

    def run_tasks(self, *tasks: dict[str, Any], options: tuple[str, ...] = (), **keywords: Any) -> Run:
        """Run tasks in a play of their own with the given keywords."""
        playbook = self.folder / "tasks.yml"
        play = {"name": "Test", "hosts": "hypervisors", "gather_facts": False, "tasks": list(tasks)}
        playbook.write_text(json.dumps([play | keywords]))
        return self.run(*options, playbook=playbook)

    def made(self) -> list[str]:
        """What of this test's names exists."""
        return [
            *(f"pool {name}" for name in names("pool", "--all") if name.startswith(NAME)),
            *(f"net {name}" for name in names("net", "--all") if name.startswith(NAME)),
            *(["directory"] if self.storage.exists() else []),
        ]

    def define(self, kind: str, xml: str) -> None:
        file = self.folder / f"{kind}.xml"
        file.write_text(xml)
        virsh(f"{kind}-define", str(file))


def remove_what_is_left() -> None:
    for kind in ("pool", "net"):
        for name in names(kind, "--all"):
            if name.startswith(NAME):
                if name in names(kind):
                    virsh(f"{kind}-destroy", name)
                virsh(f"{kind}-undefine", name)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    yield Host(tmp_path)
    remove_what_is_left()


def untouched() -> dict[str, Any]:
    """What of the host the role must leave alone."""
    default = "default" in names("net", "--all")
    return {
        "packages": subprocess.check_output(["dpkg-query", "--show"]) if shutil.which("dpkg-query") else b"",
        "qemu.conf": Path("/etc/libvirt/qemu.conf").read_bytes(),
        "network default": default and virsh("net-dumpxml", "--inactive", "default"),
    }


def network_xml(name: str, subnet_prefix: str) -> str:
    return (
        f"<network><name>{name}</name><title>not ours</title><forward mode='nat'/>"
        f"<ip address='{subnet_prefix}.1' netmask='255.255.255.0'/></network>"
    )


@needs_libvirt
def test_first_run_makes_all_and_second_run_nothing(host: Host) -> None:
    before = untouched()

    predicted = host.run("--check", "--diff")
    assert predicted.ok, predicted.output
    assert host.made() == []
    assert f"+  <name>{NAME}</name>" in predicted.output
    assert "+    <path>" in predicted.output
    assert "+      <range start='10.213.77.2' end='10.213.77.254'/>" in predicted.output

    first = host.run()
    assert first.ok, first.output
    assert first.changed == predicted.changed
    assert first.changed == [
        "Create the directory",
        *(f"{step} the {thing}" for thing in ("storage pool", "network") for step in DEFINE_ALL),
    ]
    pool, network = virsh("pool-dumpxml", NAME), virsh("net-dumpxml", NAME)
    assert f"<path>{host.storage}</path>".replace("&", "&amp;") in pool
    assert "<pool type='dir'>" in pool
    assert "<forward mode='nat'>" in network
    assert "<ip address='10.213.77.1' netmask='255.255.255.0'>" in network
    assert "<range start='10.213.77.2' end='10.213.77.254'/>" in network
    for kind in ("pool", "net"):
        assert NAME in names(kind)
        assert NAME in names(kind, "--all", "--autostart")
    assert host.storage.stat().st_mode & 0o777 == 0o711

    for options in ([], ["--check"]):
        again = host.run(*options)
        assert again.ok, again.output
        assert again.changed == []
    assert virsh("pool-dumpxml", NAME) == pool
    assert virsh("net-dumpxml", NAME) == network
    assert untouched() == before


@needs_libvirt
def test_what_exists_stays_as_it_is(host: Host) -> None:
    directory = host.folder / "theirs"
    directory.mkdir(mode=0o750)
    host.define("pool", f"<pool type='dir'><name>{NAME}</name><target><path>{directory}</path></target></pool>")
    host.define("net", network_xml(NAME, "10.213.78"))

    def definitions() -> list[bytes]:  # as libvirt stores them: virsh adds what a running pool measures
        stored = (f"/etc/libvirt/storage/{NAME}.xml", f"/etc/libvirt/qemu/networks/{NAME}.xml")
        return [Path(file).read_bytes() for file in stored]

    before = definitions()
    hands_off = {"hypervisor_storage_pool_autostart": "false", "hypervisor_network_autostart": "false"}
    left = host.run(**hands_off)
    assert left.ok, left.output
    assert left.changed == []
    assert NAME not in names("pool") + names("net")
    assert f"Network '{NAME}' exists with subnet 10.213.78.0/24, not subnet {SUBNET}, and stays as it is." in left.text
    assert f"Storage pool '{NAME}' exists, not at {host.storage}, and stays as it is." in left.text

    started = [
        "Start the storage pool",
        "Autostart the storage pool",
        "Start the network",
        "Autostart the network",
    ]
    assert host.run("--check").changed == started
    assert host.run().changed == started
    assert host.run().changed == []
    for kind in ("pool", "net"):
        assert NAME in names(kind)
        assert NAME in names(kind, "--all", "--autostart")
    assert definitions() == before
    assert directory.stat().st_mode & 0o777 == 0o750
    assert not host.storage.exists()


@needs_libvirt
def test_a_subnet_in_use_is_refused_before_anything_is_made(host: Host) -> None:
    theirs = f"{NAME}-other"
    host.define("net", network_xml(theirs, "10.213.79"))
    virsh("net-start", theirs)
    made = host.made()

    refused = host.run(hypervisor_network_subnet="10.213.79.128/25")
    assert not refused.ok
    assert f"network '{NAME}' cannot have the subnet 10.213.79.128/25" in refused.text
    assert "the host uses 10.213.79.0/24 (virbr" in refused.text
    assert host.made() == made

    # The same for a network that exists, but would only now be started.
    host.define("net", network_xml(NAME, "10.213.79"))
    refused = host.run()
    assert not refused.ok
    assert "cannot have the subnet 10.213.79.0/24" in refused.text
    assert "choose another hypervisor_network" in refused.text
    assert host.made() == [f"net {NAME}", *made]
    assert NAME not in names("net")


@needs_libvirt
def test_bridge_and_survey_strings(host: Host) -> None:
    settings = {
        "hypervisor_hosts": "",
        "hypervisor_extra_packages": "",
        "hypervisor_manage_packages": "true",
        "hypervisor_manage_services": "",
        "hypervisor_manage_storage_pool": "false",
        "hypervisor_network_bridge": "gldtest-br0",
        "hypervisor_network_subnet": "",
        "hypervisor_network_dhcp_start": "",
        "hypervisor_network_autostart": "",
    }
    refused = host.run(**settings)
    assert not refused.ok
    assert "the host has no Linux bridge 'gldtest-br0'" in refused.text
    assert host.made() == []

    subprocess.run(["ip", "link", "add", "gldtest-br0", "type", "bridge"], check=True)
    try:
        made = host.run(**settings)
        assert made.ok, made.output
        assert made.changed == [f"{step} the network" for step in DEFINE_ALL]
        network = virsh("net-dumpxml", NAME)
        assert "<forward mode='bridge'/>" in network
        assert "<bridge name='gldtest-br0'/>" in network
        assert NAME in names("net", "--autostart")
        assert host.run(**settings).changed == []
        virsh("net-destroy", NAME)
    finally:
        subprocess.run(["ip", "link", "delete", "gldtest-br0"], check=True)


@needs_libvirt
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hypervisor_storage_pool": "a/b"}, "names without '/'"),
        ({"hypervisor_network": "-x"}, "do not start with '-'"),
        ({"hypervisor_storage_pool_path": "images"}, "must be an absolute path"),
        ({"hypervisor_network_autostart": "maybe"}, "must be one of: true, false, , got: maybe"),
        ({"hypervisor_network_subnet": "10.213.77.1/24"}, "10.213.77.1/24 has host bits set"),
    ],
)
def test_bad_settings_are_refused(host: Host, settings: dict[str, str], message: str) -> None:
    refused = host.run(**settings)
    assert not refused.ok
    assert message in refused.text
    assert host.made() == []


ROLE_TASK = {"ansible.builtin.import_role": {"name": "golden.libvirt.hypervisor"}}
GATHER = {"ansible.builtin.setup": {"gather_subset": ["min"]}}


def only(folder: Path, *programs: str) -> dict[str, str]:
    """An environment in which of all programs only these are there: a host that lacks the others."""
    folder.mkdir()
    for program in programs:
        (folder / program).symlink_to(shutil.which(program) or pytest.skip(f"no {program}"))
    return {"PATH": str(folder)}


@needs_libvirt
def test_a_dry_run_on_a_bare_host_predicts_all(host: Host, tmp_path: Path) -> None:
    bare = host.run_tasks(ROLE_TASK, options=("--check", "--diff"), environment=only(tmp_path / "bin", "ip"))
    assert bare.ok, bare.output
    assert any(task.startswith("Install the missing packages") for task in bare.changed)
    assert bare.changed[1:] == [
        "Create the directory",
        *(f"{step} the {thing}" for thing in ("storage pool", "network") for step in DEFINE_ALL),
    ]


@needs_libvirt
@pytest.mark.skipif(Path("/run/systemd/system").exists(), reason="the role would start libvirt")
@pytest.mark.skipif(shutil.which("dpkg-query") is None, reason="needs the packages of Debian")
def test_without_libvirt_the_role_stops(host: Host, tmp_path: Path) -> None:
    stopped = host.run_tasks(ROLE_TASK, environment=only(tmp_path / "bin", "ip", "dpkg-query"))
    assert not stopped.ok
    assert "systemd does not run here, so starting libvirt now and with the host is left to you." in stopped.text
    assert "libvirt does not answer at qemu:///system" in stopped.text
    assert "Start its daemons" in stopped.text
    assert stopped.changed == []
    assert host.made() == []


@needs_libvirt
@pytest.mark.skipif(shutil.which("rpm") is not None, reason="needs a host that is not of the RHEL family")
def test_rhel_branch(host: Host) -> None:
    """The branch logic only: facts of RHEL 9 on this host, which has none of its packages, in check mode."""
    facts = {"ansible_os_family": "RedHat", "ansible_distribution_major_version": "9", "cacheable": True}
    show = {"ansible.builtin.debug": {"msg": "missing {{ __hypervisor_missing_packages | join(' ') }}"}}
    run = host.run_tasks(GATHER, {"ansible.builtin.set_fact": facts}, ROLE_TASK, show, options=("--check",))
    assert run.ok, run.output
    assert run.changed[0] == "Install the missing packages with dnf"
    assert (
        "missing dnsmasq iproute libvirt-client libvirt-daemon-kvm python3-libvirt qemu-img qemu-kvm edk2-" in run.text
    )

    facts["ansible_distribution_major_version"] = "8"
    run = host.run_tasks(GATHER, {"ansible.builtin.set_fact": facts}, ROLE_TASK)
    assert not run.ok
    assert "is not supported" in run.text


def units(name: str, active: str, enabled: str) -> dict[str, str]:
    """What `systemctl show --property=Id,ActiveState,UnitFileState` says of a daemon."""
    states = f"ActiveState={active}\nUnitFileState={enabled}"
    return {"stdout": f"Id={name}.service\n{states}\n\nId={name}.socket\n{states}"}


def test_empty_values_and_daemon_kinds(tmp_path: Path) -> None:
    """The settings and conclusions alone: nothing of the host is looked at."""
    host = Host(tmp_path)
    defaults: dict[str, Any] = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text())
    host.settings = dict.fromkeys(defaults, "")
    settings = {"ansible.builtin.import_role": {"name": "golden.libvirt.hypervisor", "tasks_from": "settings.yml"}}
    wanted = {name.removeprefix("hypervisor_"): value for name, value in defaults.items()}
    tasks: list[dict[str, Any]] = [settings, {"ansible.builtin.assert": {"that": f"__hypervisor == {wanted}"}}]

    off, on, there = ("inactive", ""), ("active", "disabled"), ("inactive", "enabled")
    for family, libvirtd, virtqemud, kind in [
        ("Debian", off, off, "monolithic"),
        ("RedHat", off, off, "modular"),
        ("RedHat", there, off, "monolithic"),
        ("RedHat", on, off, "monolithic"),
        ("Debian", off, there, "modular"),
    ]:
        results = [units("libvirtd", *libvirtd), units("virtqemud", *virtqemud)]
        of_family = yaml.safe_load((ROLE / "vars" / f"{family}.yml").read_text())["__hypervisor_family_daemons"]
        facts = {"__hypervisor_units": {"results": results}, "__hypervisor_family_daemons": of_family}
        tasks.append({"ansible.builtin.set_fact": facts})
        tasks.append({"ansible.builtin.assert": {"that": f"__hypervisor_daemon_kind == '{kind}'"}})
    run = host.run_tasks(*tasks)
    assert run.ok, run.output


def test_defaults_are_documented() -> None:
    options = yaml.safe_load((ROLE / "meta" / "argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
    defaults = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text())
    readme = (ROLE / "README.md").read_text()

    def as_documented(value: Any) -> Any:
        return str(value).lower() if isinstance(value, bool) else value

    assert {name: option["default"] for name, option in options.items()} == {
        name: as_documented(value) for name, value in defaults.items()
    }
    for name in options:
        assert f"`{name}`" in readme


def check_network(**question: str) -> dict[str, Any]:
    """Ask the role's program, which runs on the host."""
    base = {"bridge": "", "subnet": SUBNET, "dhcp_start": "", "dhcp_end": "", "xml": ""}
    command = [sys.executable, str(ROLE / "files" / "network.py"), json.dumps(base | question)]
    answer: dict[str, Any] = json.loads(subprocess.check_output(command))
    return answer


@pytest.mark.parametrize(
    ("question", "error"),
    [
        ({"subnet": "10.213.77.0/31"}, "10.213.77.0/31 has no room for guests"),
        ({"subnet": "2001:db8::/64"}, "Expected 4 octets in '2001:db8::'"),
        ({"dhcp_start": "10.213.78.5"}, "DHCP cannot give 10.213.78.5 to 10.213.77.254"),
        (
            {"dhcp_start": "10.213.77.9", "dhcp_end": "10.213.77.8"},
            "DHCP cannot give 10.213.77.9 to 10.213.77.8",
        ),
        ({"dhcp_start": "10.213.77.1"}, "guests of 10.213.77.0/24 have 10.213.77.2 to 10.213.77.254"),
        ({"bridge": "lo"}, "the host has no Linux bridge 'lo'"),
    ],
)
def test_impossible_networks(question: dict[str, str], error: str) -> None:
    assert error in check_network(**question)["error"]


def test_what_a_network_is() -> None:
    answer = check_network(dhcp_start="10.213.77.100", dhcp_end="10.213.77.199")
    assert (answer["address"], answer["netmask"]) == ("10.213.77.1", "255.255.255.0")
    assert (answer["dhcp_start"], answer["dhcp_end"]) == ("10.213.77.100", "10.213.77.199")
    assert (answer["in_use"], answer["wanted"], answer["found"]) == ([], f"subnet {SUBNET}", "")

    bridged = "<network><forward mode='bridge'/><bridge name='br0'/></network>"
    assert check_network(xml=bridged)["found"] == "bridge br0"
    assert check_network(xml="<network><forward mode='hostdev'/></network>")["found"] == "no subnet"
    ipv6 = "<ip family='ipv6' address='fd00::1' prefix='64'/>"
    answer = check_network(xml=f"<network><ip address='127.1.1.1' prefix='24'/>{ipv6}</network>")
    assert (answer["found"], answer["in_use"]) == ("subnet 127.1.1.0/24", ["127.0.0.0/8 (lo)"])
