"""The guest agent of a VM: what it is asked, and commands that it runs in the guest."""

from __future__ import annotations

import base64
import json
import math
import time
from collections.abc import Sequence
from typing import Any

from .._core.text import one_line
from .library import libvirt, libvirt_qemu

AGENT_TIMEOUT = 5
"""Seconds that an agent has for one answer."""
_LONGEST = 2**31 - 1
_NO_SENSE = "guest agent: its answer makes no sense"


class Agent:
    """The agent of one VM. ``last`` is what the last question that got no answer met with, in words.

    ``refused`` tells whether that was an answer, too: an error of the agent. ``deadline`` is the time at which the last
    question must be over.
    """

    def __init__(self, domain: Any, deadline: float = math.inf) -> None:
        self.domain = domain
        self.deadline = deadline
        self.last = ""
        self.refused = False

    def ask(self, command: str, patience: float = AGENT_TIMEOUT, **arguments: Any) -> Any:
        """Return the agent's answer, or None when there is none within ``patience`` seconds.

        An empty answer is an empty dict.
        """
        question = {"execute": command, **({"arguments": arguments} if arguments else {})}
        seconds = max(1, math.ceil(min(self.deadline - time.monotonic(), patience, _LONGEST)))
        self.refused = False
        try:
            reply = libvirt_qemu.qemuAgentCommand(self.domain, json.dumps(question), seconds, 0)
            answer = json.loads(reply)["return"]
        except libvirt.libvirtError as error:
            said = one_line(error.get_error_message())  # an agent words its errors itself
            self.last = f"guest agent: {said}"
            self.refused = f"agent command '{command}'" in said
            return None
        except (ValueError, KeyError, TypeError, RecursionError):
            self.last = _NO_SENSE
            return None
        return answer if isinstance(answer, dict) else {}

    def begin(self, command: Sequence[str], stdin: str | None = None, patience: float = AGENT_TIMEOUT) -> int | None:
        """Start a command in the guest and return its process id, or None when there is no answer."""
        program, *arguments = command
        given = {} if stdin is None else {"input-data": base64.b64encode(stdin.encode()).decode()}
        started = self.ask("guest-exec", patience, path=program, arg=arguments, **{"capture-output": True}, **given)
        if started is None:
            return None
        if not isinstance(started.get("pid"), int):
            self.last = _NO_SENSE
            return None
        return int(started["pid"])

    def status(self, pid: int) -> Any:
        """Return what the agent says of a command that it has started, or None when there is no answer."""
        return self.ask("guest-exec-status", pid=pid)


def decoded(data: Any, limit: int) -> tuple[str, bool]:
    """Return the end of a command's output, at most this many bytes of it, and whether that is not all."""
    if not isinstance(data, str):
        return "", False
    try:
        output = base64.b64decode(data)
    except ValueError:
        return "", False
    return output[-limit:].decode(errors="replace"), len(output) > limit
