"""Pages in a headless Chromium, steered over HTTP by chromedriver: WebDriver of the W3C, and the
protocol of Chromium's tools for the screen's width, light and dark, and pictures of whole pages."""

import base64
import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import contextmanager

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--hide-scrollbars",
)  # fmt: skip
SECONDS = 180


class Browser:
    """A session; `address` is of chromedriver."""

    def __init__(self, address, profile):
        options = {"args": [*FLAGS, f"--user-data-dir={profile}"]}
        wanted = {"alwaysMatch": {"browserName": "chrome", "goog:chromeOptions": options}}
        self._address = address
        self._session = self._asked("POST", "/session", {"capabilities": wanted})["sessionId"]

    def show(self, path, *, width, dark):
        """Open a file on a screen of so many pixels; below 600 it is a telephone."""
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._devtools("Emulation.setDeviceMetricsOverride", metrics)
        self._devtools("Emulation.setEmulatedMedia", {"features": [scheme]})
        self._of("POST", "/url", {"url": path.absolute().as_uri()})

    def run(self, script):
        """What a function body of JavaScript returns."""
        return self._of("POST", "/execute/sync", {"script": script, "args": []})

    def picture(self, path):
        """Write the whole page to a PNG file."""
        size = self.run(
            "const e = document.documentElement; return [e.scrollWidth, e.scrollHeight]"
        )
        clip = {"x": 0, "y": 0, "width": size[0], "height": size[1], "scale": 1}
        asked = {"format": "png", "captureBeyondViewport": True, "clip": clip}
        found = self._devtools("Page.captureScreenshot", asked)
        path.write_bytes(base64.b64decode(found["data"]))

    def end(self):
        self._of("DELETE", "")

    def _devtools(self, command, parameters):
        return self._of("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def _of(self, method, path, data=None):
        return self._asked(method, f"/session/{self._session}{path}", data)

    def _asked(self, method, path, data=None):
        body = None if data is None else json.dumps(data).encode()
        request = urllib.request.Request(
            self._address + path, body, {"Content-Type": "application/json"}, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=SECONDS) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(f"{method} {path}: {error.read().decode()}") from error


@contextmanager
def browser(folder):
    """A browser whose profile is in `folder`, until the end of the body."""
    driver = shutil.which("chromedriver")
    assert driver is not None, "no chromedriver: install chromium-driver (Debian) with chromium"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [driver, f"--port={port}", "--log-level=SEVERE"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for(port)
        found = Browser(f"http://127.0.0.1:{port}", folder / "profile")
        try:
            yield found
        finally:
            found.end()
    finally:
        process.terminate()
        process.wait(SECONDS)


def _wait_for(port):
    end = time.monotonic() + SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            assert time.monotonic() < end, "chromedriver does not answer"
            time.sleep(0.05)
