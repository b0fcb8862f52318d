"""A headless Chromium, driven through its debugging pipe: what a page shows, and what it complains about."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
OPTIONS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
]
PATIENCE = 30.0  # seconds


class Browser:
    """One tab.

    Attributes:
        complaints: what the page logged, violations of its policy included.
        requests: what it loaded.
    """

    def __init__(self) -> None:
        assert CHROMIUM is not None
        self.folder = tempfile.mkdtemp()
        down, up = os.pipe(), os.pipe()
        os.set_inheritable(down[0], True)
        os.set_inheritable(up[1], True)
        command = [CHROMIUM, *OPTIONS, f"--user-data-dir={self.folder}", "about:blank"]
        shell = f'exec "$@" 3<&{down[0]} 4>&{up[1]}'
        self.process = subprocess.Popen(
            ["bash", "-c", shell, "bash", *command],
            pass_fds=(down[0], up[1]),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(down[0])
        os.close(up[1])
        self.write, self.read = os.fdopen(down[1], "wb", 0), os.fdopen(up[0], "rb", 0)
        os.set_blocking(self.read.fileno(), False)
        self.number, self.buffer, self.session = 0, b"", ""
        self.complaints: list[str] = []
        self.requests: list[str] = []
        targets = self.call("Target.getTargets")["targetInfos"]
        page = next(t["targetId"] for t in targets if t["type"] == "page")
        self.session = self.call("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for domain in ("Page", "Log", "Runtime", "Network"):
            self.call(f"{domain}.enable")

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(PATIENCE)
        self.write.close()
        self.read.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The answer to one command; events on the way are noted."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        self.write.write(json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            answer = self._next()
            if answer is None:
                time.sleep(0.005)
            elif answer.get("id") == self.number:
                assert "error" not in answer, answer["error"]
                return dict(answer["result"])
            else:
                self._note(answer)
        raise TimeoutError(method)

    def _next(self) -> dict[str, Any] | None:
        if b"\0" not in self.buffer:
            self.buffer += self.read.read(1 << 20) or b""
        message, end, rest = self.buffer.partition(b"\0")
        if not end:
            return None
        self.buffer = rest
        return dict(json.loads(message))

    def _note(self, event: dict[str, Any]) -> None:
        about = event.get("params", {})
        if event.get("method") == "Log.entryAdded":
            self.complaints.append(about["entry"]["text"])
        if event.get("method") == "Runtime.exceptionThrown":
            self.complaints.append(str(about["exceptionDetails"]))
        if event.get("method") == "Network.requestWillBeSent":
            self.requests.append(about["request"]["url"])

    def open(self, path: Path, width: int = 1200, height: int = 900, scheme: str = "light", media: str = "") -> None:
        """Show a file in a window of this size, in a light or dark scheme, on screen or in print."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        self.call(
            "Emulation.setEmulatedMedia", media=media, features=[{"name": "prefers-color-scheme", "value": scheme}]
        )
        self.call("Page.navigate", url=path.as_uri())
        deadline = time.monotonic() + PATIENCE
        while self.value("location.href + document.readyState") != path.as_uri() + "complete":
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def value(self, expression: str) -> Any:
        """What JavaScript says, outside of the page's policy."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def picture(self, path: Path, whole: bool = True) -> None:
        """A PNG of the window, or of the whole page."""
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"]
        path.write_bytes(base64.b64decode(data))

    def pdf(self) -> bytes:
        return base64.b64decode(self.call("Page.printToPDF", printBackground=True, preferCSSPageSize=True)["data"])
