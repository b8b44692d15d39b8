"""Run one module as another user in another process's mount namespace; JSON comes in as the argument, and goes out.

The program begins as root, loads what it needs (that user may not read where Python is), and becomes the user then.
"""

from __future__ import annotations

import ctypes
import json
import os
import pwd
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support.modules import ModuleFailed, run_module


def main() -> None:
    """Do it."""
    job = json.loads(sys.argv[1])
    with open(f"/proc/{job['pid']}/ns/mnt", "rb") as namespace:
        if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), 0):
            raise OSError(ctypes.get_errno(), "setns")
    run_module("vm_info", uri="test:///default")  # loads what Ansible loads late
    user = pwd.getpwnam(job["user"])
    os.setgroups([])
    os.setgid(user.pw_gid)
    os.setuid(user.pw_uid)
    try:
        result = run_module(job["module"], check=job["check"], **job["options"])
    except ModuleFailed as failure:
        result = failure.result
    print(json.dumps(result))


if __name__ == "__main__":
    main()
