"""A libvirtd of the tests' own that asks polkit about everything, and a user of it who is not root."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .fixtures import make_disk
from .modules import ModuleFailed, Result
from .private_libvirtd import PrivateLibvirtd, private_libvirtd
from .virsh import PREFIX

SUPPORT = Path(__file__).resolve().parent
USER = "nobody"
POOL = f"{PREFIX}pool"
RULES = """polkit.addRule(function(action, subject) {
    if (action.id.indexOf("org.libvirt.") !== 0 || subject.user !== "@USER@")
        return polkit.Result.NOT_HANDLED;
    var name = action.lookup("domain_name") || action.lookup("vol_name") || action.lookup("pool_name");
    var denied = polkit.spawn(["cat", "@DENIED@"]).split("\\n");
    var no = denied.some(function(line) {
        var words = line.split(" ");
        if (words[0] !== action.id) return false;
        if (words[1] === "unless") return words[2] !== action.lookup("domain_uuid");
        return words.length === 1 || words[1] === name;
    });
    return no ? polkit.Result.NO : polkit.Result.YES;
});
"""


class Guarded(PrivateLibvirtd):
    """The daemon; root is allowed everything."""

    @contextmanager
    def denying(self, *actions: str) -> Iterator[None]:
        """Deny the user these actions, without their ``org.libvirt.``: ``action`` for all objects, ``action name`` for
        one, ``action unless uuid`` for all VMs but one."""
        self._deny(actions)
        try:
            yield
        finally:
            self._deny(())

    def _deny(self, actions: tuple[str, ...]) -> None:
        (self.folder / "denied").write_text("".join(f"org.libvirt.{action}\n" for action in actions))

    def run_module(self, module: str, /, *, check: bool = False, **options: object) -> Result:
        """Run a module as the user, at ``qemu:///system`` as the user sees it; a failed one raises ModuleFailed."""
        job = {"pid": self.pid, "user": USER, "module": module, "check": check, "options": options}
        command = [sys.executable, str(SUPPORT / "as_user.py"), json.dumps(job)]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        result: Result = json.loads(done.stdout)
        if result.get("failed"):
            raise ModuleFailed(result)
        return result

    def state(self) -> dict[str, str]:
        """Return all that there is, to be compared: definitions, and the bytes of the volumes."""
        domains = self.virsh("list", "--all", "--name").split()
        found = {name: self.virsh("dumpxml", name, "--security-info") for name in domains}
        found |= {f"{name} autostart": str("enable" in self.virsh("dominfo", name)) for name in domains}
        for volume in self.virsh("vol-list", POOL).split()[::2]:
            found[volume] = hashlib.sha256((self.folder / "pool" / volume).read_bytes()).hexdigest()
        return found

    def image(self, mark: str) -> str:
        """Return the path of a disk image that the user can read."""
        return str(make_disk(self.folder / f"{mark}.qcow2", "8M", mark=mark))


@contextmanager
def guarded_libvirtd(rules: str = RULES, settings: str = "") -> Iterator[Guarded]:
    """Start the daemon with one storage pool, and end it.

    ``settings`` are added to its libvirtd.conf.
    """

    def configure(folder: Path) -> None:
        (folder / "rules").mkdir()
        (folder / "denied").touch()
        (folder / "rules" / "10-test.rules").write_text(
            rules.replace("@USER@", USER).replace("@DENIED@", str(folder / "denied"))
        )
        for path in Path("/etc/libvirt").glob("*.conf"):
            shutil.copy(path, folder / "etc")
        with (folder / "etc" / "libvirtd.conf").open("a") as file:
            file.write('access_drivers = ["polkit"]\n' + settings)

    with private_libvirtd("polkit", ("--mount", "--net"), POOL, configure) as daemon:
        yield Guarded(daemon.pid, daemon.folder)
