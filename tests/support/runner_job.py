"""One job of ansible-runner, as AWX starts it; run by a Python that has ansible-runner.

On standard input: a JSON object with the folder, and what the launch and the survey gave. On standard output, as the
last line: how the job ended.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import ansible_runner


def main() -> None:
    """Run the job."""
    job = json.load(sys.stdin)
    events: list[dict[str, Any]] = []

    def reached() -> bool:
        """Whether the task at which somebody cancels the job is done for the first item of its loop."""
        ended = (event["event_data"].get("task") for event in events if event["event"] == "runner_item_on_ok")
        return job["cancel_at"] in ended

    done = ansible_runner.run(
        private_data_dir=job["folder"],
        playbook=job["playbook"],
        extravars=job["answers"],
        limit=job["limit"],
        cmdline="--check" if job["check"] else None,
        settings={"pexpect_timeout": 0.05},
        event_handler=events.append,
        cancel_callback=reached,
        quiet=True,
    )
    artifacts = [event["event_data"].get("artifact_data") for event in events if event["event"] == "playbook_on_stats"]
    ended = {
        "status": done.status,
        "rc": done.rc,
        "artifacts": artifacts[0] if artifacts else None,
        "kinds": sorted({event["event"] for event in events}),
        "output": "".join(f"{event['stdout']}\n" for event in events),
    }
    print(json.dumps(ended))


main()
