"""A real browser: Debian's Chromium without a window, spoken to over a pipe in its DevTools protocol."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

Answer = dict[str, Any]


class Browser:
    """One open page."""

    def __init__(self, to: BinaryIO, answers: BinaryIO) -> None:
        self._to = to
        self._answers = answers
        self._number = 0
        self._session = ""
        self._rest = b""
        self.events: list[Answer] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network", "Accessibility"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> Answer:
        """Call a method of the protocol and return its result."""
        self._number += 1
        message: Answer = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._to.write(json.dumps(message).encode() + b"\0")
        self._to.flush()
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                result: Answer = answer["result"]
                return result
            self.events.append(answer)

    def _next(self) -> Answer:
        while b"\0" not in self._rest:
            some = self._answers.read1(1 << 20)  # type: ignore[attr-defined]
            assert some, "the browser is gone"
            self._rest += some
        one, self._rest = self._rest.split(b"\0", 1)
        answer: Answer = json.loads(one)
        return answer

    def open(self, path: Path, width: int, height: int = 900, scheme: str = "light", scale: float = 1) -> None:
        """Open a file in a window of this size, in the scheme ``light`` or ``dark``, and wait until it is there."""
        self.events.clear()
        size = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.call("Page.navigate", url=path.as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._next())

    def ask(self, expression: str) -> Any:
        """Return the value of an expression of JavaScript in the page."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def press(self, key: str) -> None:
        """Press a key."""
        code = {"Tab": 9, "Enter": 13}[key]
        text = {"text": "\r"} if key == "Enter" else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, code=key, windowsVirtualKeyCode=code, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, code=key, windowsVirtualKeyCode=code)

    @property
    def complaints(self) -> list[str]:
        """What the console of the page shows: errors, warnings and what was forbidden."""
        self.call("Runtime.evaluate", expression="0")
        entries = [event["params"]["entry"]["text"] for event in self.events if event.get("method") == "Log.entryAdded"]
        thrown = [str(event["params"]) for event in self.events if event.get("method") == "Runtime.exceptionThrown"]
        printed = [str(event["params"]) for event in self.events if event.get("method") == "Runtime.consoleAPICalled"]
        return entries + thrown + printed

    @property
    def requests(self) -> list[str]:
        """The addresses that the page has asked for."""
        asked = [event for event in self.events if event.get("method") == "Network.requestWillBeSent"]
        return [event["params"]["request"]["url"] for event in asked]

    def roles(self) -> list[tuple[str, str]]:
        """Return role and name of everything that a screen reader finds."""
        nodes = self.call("Accessibility.getFullAXTree")["nodes"]
        seen = [node for node in nodes if not node["ignored"]]
        return [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in seen]

    def picture(self, path: Path, height: int | None = None) -> None:
        """Write a picture of the whole page, or of its upper part, as PNG."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": height or size["height"], "scale": 1}
        taken = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(taken["data"]))


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    """Yield a browser with an empty page; it ends with the block."""
    commands, to = os.pipe()
    answers, from_it = os.pipe()
    flags = ["--headless=new", "--disable-gpu", "--hide-scrollbars", "--no-first-run", "--remote-debugging-pipe"]
    flags += ["--no-sandbox"] if os.geteuid() == 0 else []
    with tempfile.TemporaryDirectory(prefix="gldtest-", ignore_cleanup_errors=True) as home:
        # the browser reads commands from descriptor 3 and answers on 4; high copies, so that neither is in the way
        high = [fcntl.fcntl(one, fcntl.F_DUPFD, 10) for one in (commands, from_it)]
        script = f'exec 3<&{high[0]} 4>&{high[1]} {high[0]}<&- {high[1]}>&-; exec chromium "$@"'
        process = subprocess.Popen(
            ["bash", "-c", script, "chromium", *flags, f"--user-data-dir={home}", "about:blank"],
            pass_fds=high,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "HOME": home},
        )
        for one in (commands, from_it, *high):
            os.close(one)
        try:
            with open(to, "wb") as writer, open(answers, "rb") as reader:
                yield Browser(writer, reader)
                process.terminate()
        finally:
            process.kill()
            process.wait()
