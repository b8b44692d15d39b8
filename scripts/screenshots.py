#!/usr/bin/env python3
"""Makes the pictures in docs/images from a real rollout; to be called by screenshots.sh."""

from __future__ import annotations

import html
import json
import re
import shutil
import sys
import tempfile
import time
from pathlib import Path

from support import virsh
from support.browser import browser
from support.fixtures import Site, build_guest, made_site
from support.metadata import set_lease
from support.modules import run_module
from support.playbooks import Controller
from support.terminal import Terminal, terminal

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
RUNNING, ALL = 6, 8
VERIFY = """
- name: Ask the application
  ansible.builtin.fail:
    msg: http://{{ golden_vm }}/health answers with 503
  when: golden_vm == 'desk-6'
"""
COLOURS = {
    **dict(enumerate(("#3b4252", "#e06c75", "#7fc98b", "#e5c07b", "#6fa8ff", "#c58af0", "#56c8d8", "#d7dde8"), 30)),
    **dict(enumerate(("#7d8799", "#ff8a80", "#98e0a5", "#f5d38c", "#8fbcff", "#d6a6f7", "#7fdbe8", "#ffffff"), 90)),
}
STYLE = """
body{margin:0;background:#12171f}
pre{margin:0;padding:22px 26px;font:13px/1.45 "DejaVu Sans Mono",monospace;color:#d7dde8;width:max-content}
"""


def make_pool(site: Site) -> None:
    """Publish two versions of a small guest, and make a pool on the first one."""
    for number in (1, 2):
        image = site.folder.parent / f"{number}.qcow2"
        shutil.copy(build_guest(str(number)), image)
        run_module(
            "template_version",
            template="office",
            storage_pool=site.storage_pool,
            create_base=True,
            source={"path": str(image)},
            version_name=f"2026-1{number - 1}",
            hardware={"memory": "96MiB", "graphics": "none", "networks": []},
        )
        if number == 1:
            options = {"count": ALL, "prestarted": RUNNING, "storage_pools": [site.storage_pool]}
            run_module("vm_pool", vm_pool="desk", template="office", **options)
    for number in range(1, RUNNING + 1):
        virsh.wait_for_guest(f"desk-{number}", timeout=600)
    set_lease("desk-3", "alice")


def roll_out(shown: Terminal, folder: Path) -> str:
    """Roll the pool out in a terminal, and return its screen in the midst of it."""
    (folder / "verify.yml").write_text(VERIFY)
    variables = {
        "rollout_vm_pool": "desk",
        "rollout_template_version": "latest",
        "rollout_serial": "1,2,4",
        "rollout_max_failures": "50%",
        "rollout_verify_tasks": str(folder / "verify.yml"),
        "rollout_health_timeout": "600",
    }
    (folder / "variables.json").write_text(json.dumps(variables))
    (folder / "ansible.cfg").write_text(
        "[defaults]\ncallbacks_enabled = golden.libvirt.rollout\n[callback_golden_rollout]\nreport_folder = reports\n"
    )
    inventory = Controller(folder).inventory(vm_pools=["desk"])
    command = [Path(sys.executable).parent / "ansible-playbook", "golden.libvirt.rollout", "-i", inventory]
    shown.run([*command, "-e", "@variables.json"], folder, {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"})
    shown.wait_for("1/7", timeout=900)
    shown.wait_for("●", timeout=60)
    time.sleep(3)
    screen = "\n".join(shown.screen(colours=True))
    shown.wait_for("ended", timeout=1800)
    return screen


def as_html(screen: str) -> str:
    """Return a screen with its colours as HTML."""
    # text and the numbers of colours take turns
    style, parts = "", []
    for place, piece in enumerate(re.split(r"\033\[([0-9;]*)m", screen.replace("\033(B", ""))):
        if place % 2 == 0:
            parts.append(f'<span style="{style}">{html.escape(piece)}</span>')
            continue
        for code in (int(code or 0) for code in piece.split(";")):
            if code in (0, 39):
                style = ""
            elif code == 1:
                style += "font-weight:700;"
            elif code in COLOURS:
                style += f"color:{COLOURS[code]};"
    return f"<!DOCTYPE html><meta charset=utf-8><style>{STYLE}</style><pre>{''.join(parts)}</pre>"


def take_pictures(folder: Path, screen: str) -> None:
    """Write the pictures."""
    IMAGES.mkdir(exist_ok=True)
    terminal_page = folder / "terminal.html"
    terminal_page.write_text(as_html(screen))
    (report,) = (folder / "reports").glob("*.html")
    with browser() as opened:
        opened.open(terminal_page, 1000, 300, scale=1.5)
        width = opened.ask("document.querySelector('pre').offsetWidth")
        opened.open(terminal_page, width, 300, scale=1.5)
        opened.picture(IMAGES / "rollout-terminal.png")
        for name, width, scheme, scale in (
            ("desktop-light", 1200, "light", 1.0),
            ("desktop-dark", 1200, "dark", 1.0),
            ("phone-dark", 390, "dark", 1.0),
        ):
            opened.open(report, width, 800, scheme, scale)
            opened.picture(IMAGES / f"rollout-report-{name}.png")


def main() -> None:
    """Make the pool, roll it out, take the pictures, and remove what was made."""
    names = [f"desk-{number}" for number in range(1, ALL + 1)]
    taken = sorted(set(names) & set(virsh.domains()))
    if taken:
        raise SystemExit(f"there are VMs of these names already: {', '.join(taken)}")
    with made_site() as site, tempfile.TemporaryDirectory() as folder, terminal(width=104, rows=32) as shown:
        try:
            make_pool(site)
            take_pictures(Path(folder), roll_out(shown, Path(folder)))
        finally:
            for name in names:
                virsh.virsh("destroy", name, check=False)
                virsh.virsh("undefine", name, "--nvram", "--managed-save", check=False)


if __name__ == "__main__":
    main()
