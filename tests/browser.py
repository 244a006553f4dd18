"""A headless Chromium for tests of pages, spoken to over WebDriver (W3C) with nothing but the standard library."""

import base64
import json
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
MISSING = "chromium and chromedriver are not installed (Debian: apt-get install chromium chromium-driver)"
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"         # the key of an element's id, fixed by the standard
KEYS = {"Enter": "\ue007", "Escape": "\ue00c", "Tab": "\ue004", "Down": "\ue015", "Up": "\ue013"}


class Browser:
    """One window."""

    def __init__(self, port: int, *, dark: bool) -> None:
        self.server = f"http://127.0.0.1:{port}"
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--force-color-profile=srgb"]
        flags += ["--blink-settings=preferredColorScheme=0"] if dark else []
        capabilities = {"browserName": "chrome", "goog:loggingPrefs": {"browser": "ALL"},
                        "goog:chromeOptions": {"binary": CHROMIUM, "args": flags}}
        self.session = ""
        self.session = "/session/" + self.ask("POST", "/session", {"capabilities": {"alwaysMatch": capabilities}})[
            "sessionId"]

    def ask(self, method: str, path: str, body: dict | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.server + self.session + path, data, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{method} {path}: {error.read().decode()[:500]}") from None

    def open(self, page: Path, width: int = 1400, height: int = 900) -> None:
        """Load a page and wait for its explorer, where it has one. A window is no narrower than 500: emulate that."""
        self.cdp("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.ask("POST", "/url", {"url": page.resolve().as_uri()})
        self.until("return !document.getElementById('explorer') || !!document.querySelector('ol.entries > li')")

    def cdp(self, command: str, **parameters: Any) -> Any:
        return self.ask("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def run(self, script: str, *arguments: Any) -> Any:
        return self.ask("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def until(self, script: str, seconds: float = 20.0) -> Any:
        """Wait until a script's value is true -> the value."""
        end = time.monotonic() + seconds
        while not (value := self.run(script)):
            assert time.monotonic() < end, f"not true within {seconds:g} s: {script}"
            time.sleep(0.02)
        return value

    def find(self, css: str) -> dict[str, str]:
        return self.ask("POST", "/element", {"using": "css selector", "value": css})

    def click(self, css: str) -> None:
        self.ask("POST", f"/element/{self.find(css)[ELEMENT]}/click", {})

    def press(self, *keys: str) -> None:
        """Keys as a user types them, into what has the focus: names of `KEYS`, or text."""
        typed = [char for key in keys for char in (KEYS.get(key) or key)]
        actions = [{"type": kind, "value": char} for char in typed for kind in ("keyDown", "keyUp")]
        self.ask("POST", "/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": actions}]})

    def errors(self) -> list[str]:
        """What the console said since the last call."""
        return [entry["message"] for entry in self.ask("POST", "/se/log", {"type": "browser"})]

    def picture(self, path: Path, *, whole: bool = True) -> None:
        """A screenshot; whole: of the page from top to bottom."""
        size = self.cdp("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        more = {"captureBeyondViewport": True, "clip": clip} if whole else {}
        path.write_bytes(base64.b64decode(self.cdp("Page.captureScreenshot", format="png", **more)["data"]))


@contextmanager
def browser(*, dark: bool = False) -> Iterator[Browser]:
    """Chromium while the block runs."""
    driver = subprocess.Popen([DRIVER, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        port = next(int(line.rstrip(" .\n").rsplit(" ", 1)[1]) for line in driver.stdout if "successfully" in line)
        window = Browser(port, dark=dark)
        try:
            yield window
        finally:
            window.ask("DELETE", "")
    finally:
        driver.terminate()
        driver.wait(timeout=20)
