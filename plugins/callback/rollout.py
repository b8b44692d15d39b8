# Copyright: golden.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Shows how far a rollout is, and writes a report of it."""

from __future__ import annotations

DOCUMENTATION = r"""
name: rollout
type: aggregate
short_description: Shows how far a rollout is, and writes a report of it
version_added: 0.1.0
description:
  - Watches the tasks that run M(golden.libvirt.vm_restore), in the playbooks of this collection or in others, and stays
    silent in all other runs.
  - On a terminal it keeps a line for each VM and a progress bar with the time left at the foot of the screen, below
    what Ansible prints. Elsewhere it prints a line for each VM.
  - Writes a report as one HTML page, which needs no other file, and as JSON. They are written anew after each VM, so
    there is a report also when the run is killed.
  - It works beside any stdout callback.
options:
  report_folder:
    description:
      - The folder for the reports; it is made if it is not there. Only its owner can read the reports.
      - An empty string turns reports off.
    type: str
    default: ~/.ansible/golden_rollouts
    env:
      - name: GOLDEN_ROLLOUT_REPORT_FOLDER
    ini:
      - section: callback_golden_rollout
        key: report_folder
  display:
    description:
      - V(auto) shows live lines on a terminal, and plain lines elsewhere or without colours (E(NO_COLOR)).
      - V(lines) always prints plain lines, V(none) nothing but where the report is.
    type: str
    choices: [auto, lines, none]
    default: auto
    env:
      - name: GOLDEN_ROLLOUT_DISPLAY
    ini:
      - section: callback_golden_rollout
        key: display
requirements:
  - to be enabled, by C(callbacks_enabled=golden.libvirt.rollout) in the section C([defaults]) of F(ansible.cfg) or
    by the environment variable E(ANSIBLE_CALLBACKS_ENABLED)
author:
  - golden.libvirt contributors (@golden-libvirt)
seealso:
  - module: golden.libvirt.vm_restore
"""

EXAMPLES = r"""
# ansible.cfg
# [defaults]
# callbacks_enabled = golden.libvirt.rollout
# [callback_golden_rollout]
# report_folder = ./reports
"""

import atexit
import json
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ansible import constants, context
from ansible.plugins.callback import CallbackBase

from ..module_utils._core.rollout import rollout_lines, rollout_watch
from ..module_utils._core.rollout.rollout_html import page
from ..module_utils._core.rollout.rollout_report import (
    BROKEN_OFF,
    DONE,
    FAILED,
    MOVED,
    TAKEN_BACK,
    UNDER_WAY,
    UP_TO_DATE,
    WOULD_MOVE,
    Report,
    slug,
    to_json,
)
from ..module_utils._core.rollout.rollout_watch import FAILED_TASK, SKIPPED, SUCCEEDED, Place, Task, Watch
from ..module_utils._core.rollout.terminal_foot import closed, opened, painted
from ..plugin_utils.phase_pipe import PhasePipe, open_pipe

KINDS = {
    "golden.libvirt.vm_restore": rollout_watch.RESTORE,
    "golden.libvirt.rollout_plan": rollout_watch.PLAN,
    "golden.libvirt.vm_info": rollout_watch.VMS,
    "golden.libvirt.template_version_info": rollout_watch.VERSIONS,
    "ansible.builtin.set_stats": rollout_watch.STATS,
    "ansible.builtin.fail": rollout_watch.FAIL,
}
ASKED = (rollout_watch.RESTORE, rollout_watch.VMS)
"""The tasks of which it matters what they are asked for."""
HOOK = re.compile(r"rollout_(drain|verify|undrain)_tasks")
"""How the role names the files of its hooks."""
TOLD = (MOVED, WOULD_MOVE, FAILED, TAKEN_BACK, UP_TO_DATE)
"""What plain lines tell of a VM."""
COLOURS = {
    MOVED: constants.config.get_config_value("COLOR_OK"),
    WOULD_MOVE: constants.config.get_config_value("COLOR_CHANGED"),
    FAILED: constants.config.get_config_value("COLOR_ERROR"),
    TAKEN_BACK: constants.config.get_config_value("COLOR_WARN"),
}
WRITING = 20
"""Of so many parts of the time of a long rollout, one may go into writing its report."""
BETWEEN = 0.5
"""Seconds between two paintings of the live lines."""


class CallbackModule(CallbackBase):
    """The callback plugin."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "golden.libvirt.rollout"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._places: dict[str, Place] = {}
        self._hooks: dict[str, str] = {}
        self._begin()
        atexit.register(self._end, BROKEN_OFF)

    def _begin(self) -> None:
        """Begin anew: one run can have several playbooks."""
        self._began = time.gmtime()
        began = time.strftime("%Y-%m-%dT%H:%M:%SZ", self._began)
        self._watch = Watch(began, time.monotonic(), bool(context.CLIARGS.get("check")))
        self._told: dict[str, tuple[str, bool | None]] = {}
        self._batch_told = 0
        self._foot: _Foot | None = None
        self._pipe: PhasePipe | None = None
        self._path = ""
        self._next_write = 0.0
        self._ended = False

    # --- what Ansible tells -----------------------------------------------------------------------------------------

    def v2_playbook_on_start(self, playbook: Any) -> None:
        """Begin with a playbook."""
        self._begin()
        self._watch.playbook(os.path.basename(str(playbook._file_name)))
        if self.get_option("display") == "auto" and _is_live():
            self._pipe = open_pipe()  # now, as processes for tasks have only what is there when they are made

    def v2_playbook_on_play_start(self, play: Any) -> None:
        """Note the hosts of a play, or of its next batch."""
        variables = play.get_variable_manager().get_vars(play=play)
        hosts = [str(host) for host in variables.get("ansible_play_hosts_all", ())]
        for host in hosts:
            if host not in self._places:
                known = variables["hostvars"].get(host, {})
                self._places[host] = Place(str(known.get("golden_vm", host)), str(known.get("golden_uri", "")))
        places = {host: self._places[host] for host in hosts}
        batch = [str(host) for host in variables.get("ansible_play_batch", ())]
        with self._lock:
            self._watch.play(str(play._uuid), play.get_name().strip(), list(play.serial), places, batch=batch)

    def v2_runner_on_start(self, host: Any, task: Any) -> None:
        """Note that a task begins for a host."""
        known = self._task(task)
        with self._changes(known):
            self._watch.begin(host.get_name(), known, time.monotonic())

    def v2_runner_on_ok(self, result: Any) -> None:
        """Note that a task ended well for a host."""
        self._end_task(result, SUCCEEDED)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """Note that a task failed for a host."""
        restores = self._task(result.task).kind == rollout_watch.RESTORE
        self._end_task(result, SKIPPED if ignore_errors and not restores else FAILED_TASK)

    def v2_runner_on_skipped(self, result: Any) -> None:
        """Note that a task was skipped for a host."""
        self._end_task(result, SKIPPED)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        """Note that a host could not be reached."""
        self._end_task(result, FAILED_TASK)

    def v2_runner_item_on_ok(self, result: Any) -> None:
        """Note that a task ended well for one item of its loop."""
        self._end_item(result, SUCCEEDED)

    def v2_runner_item_on_failed(self, result: Any) -> None:
        """Note that a task failed for one item of its loop."""
        self._end_item(result, FAILED_TASK)

    def v2_runner_item_on_skipped(self, result: Any) -> None:
        """Note that a task was skipped for one item of its loop."""
        self._end_item(result, SKIPPED)

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """Write the last report, and say where it is."""
        self._end(DONE)

    def _end_task(self, result: Any, how: str) -> None:
        task = self._task(result.task)
        with self._changes(task, how):
            self._watch.end(result.host.get_name(), task, how, result.result, time.monotonic())

    def _end_item(self, result: Any, how: str) -> None:
        task = self._task(result.task)
        with self._changes(task, how):
            self._watch.item(result.host.get_name(), task, how, result.result, time.monotonic())

    def _task(self, task: Any) -> Task:
        """Return a task of Ansible as the watcher knows it."""
        included = HOOK.search(str(task.args.get("_raw_params", "")))
        if included:
            # seen before its file is read; then the name of the variable is replaced by that of the file
            self._hooks[task._uuid] = included[1]
        hook, parent = "", task._parent
        while parent is not None and not hook:
            hook, parent = self._hooks.get(parent._uuid, ""), parent._parent
        kind = KINDS.get(task.resolved_action or task.action, rollout_watch.OTHER)
        if kind == rollout_watch.RESTORE and task.args.get("state") == "settled":
            kind = rollout_watch.OTHER  # it moves no VM
        # for each item of a loop, the arguments are what they are for it; else they may be templates still
        asked = {name: str(task.args.get(name, "")) for name in ("vm", "uri")} if kind in ASKED else {}
        known = {name: text for name, text in asked.items() if "{{" not in text}
        return Task(kind, task.get_name().strip(), hook, task.loop is not None, bool(task.run_once), **known)

    # --- what is shown and written ----------------------------------------------------------------------------------

    @contextmanager
    def _changes(self, task: Task, how: str = "") -> Iterator[None]:
        """Take over what has happened, and show what is new if it can have changed anything."""
        with self._lock:
            self._hear()
            yield
            matters = task.kind == rollout_watch.RESTORE or task.hook or how == FAILED_TASK
            if matters and self._watch.is_rollout:
                self._show()

    def _show(self) -> None:
        now = time.monotonic()
        report = self._watch.report(now)
        news = {vm.name: (vm.result, vm.rolled_back) for vm in report.vms if vm.start is not None}
        new = [vm for vm in report.vms if vm.name in news and self._told.get(vm.name) != news[vm.name]]
        self._told = news
        if not new:
            return
        if any(vm.result in TOLD for vm in new):
            self._write(report)
        if self.get_option("display") == "none":
            return
        if self._pipe is not None:
            if self._foot is None:
                self._foot = _Foot(self._live_lines)
            return
        if self._watch.batch[0] != self._batch_told:
            self._batch_told = self._watch.batch[0]
            self._display.display(rollout_lines.plain_begin(self._watch))
        for vm in new:
            if vm.result in TOLD:
                line = rollout_lines.plain_end(self._watch, vm, report, now)
                self._display.display(line, color=COLOURS.get(vm.result))

    def _live_lines(self, width: int, height: int, signs: rollout_lines.Signs) -> list[str]:
        """Return what is to be at the foot of the terminal now."""
        with self._lock:
            self._hear()
            return rollout_lines.live_lines(self._watch, time.monotonic(), width, height, signs)

    def _hear(self) -> None:
        """Take over what the tasks that run have told of their phases."""
        for told in () if self._pipe is None else self._pipe.told():
            if KINDS.get(told.action) == rollout_watch.RESTORE:
                about = Task(rollout_watch.RESTORE, "", vm=told.vm, uri=told.uri)
                self._watch.phase_begins(told.host, about, told.phase, told.at)

    def _end(self, outcome: str) -> None:
        """Show and write the end; a worker, which is a copy of this process, has nothing to do with it."""
        if os.getpid() != self._process or self._ended:
            return
        self._ended = True
        if self._foot is not None:
            self._foot.close()
        with self._lock:
            if not self._watch.is_rollout:
                return
            report = self._watch.report(time.monotonic(), outcome)
        if self.get_option("display") != "none":
            self._display.banner("ROLLOUT")
            for result, line in rollout_lines.table(report):
                self._display.display(line, color=COLOURS.get(result))
        self._write(report)
        if self._path:
            self._display.display(f"report: {self._path}.html")

    def _write(self, report: Report) -> None:
        """Write the report; one that cannot be written is no reason to stop a rollout."""
        folder = self.get_option("report_folder")
        started = time.monotonic()
        if not folder or (report.outcome == UNDER_WAY and started < self._next_write):
            return
        try:
            if not self._path:
                self._path = _new_path(os.path.abspath(os.path.expanduser(folder)), report, self._began)
            _replace(f"{self._path}.html", page(report))
            _replace(f"{self._path}.json", json.dumps(to_json(report), indent=1) + "\n")
        except OSError as error:
            self._path = ""
            if report.outcome != UNDER_WAY:
                self._display.warning(f"the report of the rollout cannot be written: {error}")
        self._next_write = started + WRITING * (time.monotonic() - started)


class _Foot:
    """The live lines at the foot of the terminal, painted by a thread of their own.

    ``lines`` returns them for a width, a height, and the characters to draw with.
    """

    def __init__(self, lines: Callable[[int, int, rollout_lines.Signs], list[str]]) -> None:
        self._lines = lines
        self._size = (0, 0)
        self._height = 0
        self._signs = rollout_lines.FINE if "utf" in (sys.stdout.encoding or "").lower() else rollout_lines.ASCII
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="golden.libvirt.rollout", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Give the lines back to the terminal."""
        self._stop.set()
        self._thread.join()
        if self._height:
            _to_terminal(closed(self._height, self._size[1]))

    def _run(self) -> None:
        while True:
            if os.tcgetpgrp(sys.stdout.fileno()) == os.getpgrp():  # not while another job has the terminal
                self._paint()
            if self._stop.wait(BETWEEN):
                return

    def _paint(self) -> None:
        width, rows = _terminal_size()
        lines = self._lines(width, rows // 2, self._signs)
        before = ""
        if (width, rows) != self._size or len(lines) != self._height:
            if self._height:
                before = closed(self._height, min(rows, self._size[1]))
            before += opened(len(lines), rows)
            self._size, self._height = (width, rows), len(lines)
        _to_terminal(before + painted(lines, rows))


def _to_terminal(text: str) -> None:
    """Write to the terminal at once: nothing of another writer comes between, and no buffer is shared with one."""
    os.write(sys.stdout.fileno(), text.encode(sys.stdout.encoding or "utf-8", "replace"))


def _terminal_size() -> tuple[int, int]:
    """Return the columns and lines of the terminal that is written to: LINES and COLUMNS may be of another one."""
    return os.get_terminal_size(sys.stdout.fileno())


def _is_live() -> bool:
    wanted = not constants.config.get_config_value("ANSIBLE_NOCOLOR") and os.environ.get("TERM", "dumb") != "dumb"
    return wanted and sys.stdout.isatty() and _terminal_size()[1] >= 12


def _new_path(folder: str, report: Report, began: time.struct_time) -> str:
    """Return the path of a new report, without its suffix; the folder is made if it is not there."""
    os.makedirs(folder, mode=0o700, exist_ok=True)
    name = "-".join(part for part in (slug(report.title), slug(report.vm_pool)) if part) or "rollout"
    base = os.path.join(folder, f"{name}-{time.strftime('%Y%m%dT%H%M%SZ', began)}")
    paths = (base if number == 1 else f"{base}-{number}" for number in range(1, 1000))
    for path in paths:
        try:
            os.close(os.open(f"{path}.html", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except FileExistsError:
            continue
        return path
    raise FileExistsError(f"{base}.html is there already")


def _replace(path: str, text: str) -> None:
    """Write a file that only its owner can read; whoever reads it meanwhile sees the old one or the new one, whole."""
    temporary = f"{path}.{os.getpid()}.tmp"
    descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        with open(descriptor, "w", encoding="utf-8", errors="replace") as file:
            file.write(text)
        os.replace(temporary, path)
    except OSError:
        os.unlink(temporary)
        raise
