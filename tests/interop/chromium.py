"""Chromium as its users have it, driven through chromedriver (W3C WebDriver): no package, only HTTP and JSON."""

from __future__ import annotations

import base64
import json
import shutil
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

from tests.interop.processes import LOOPBACK, Process, eventually, free_port

#: The member of a JSON object that names an element (WebDriver, 12.1).
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--ignore-certificate-errors",
    "--window-size=1280,900",
)


def exists() -> bool:
    """Whether this machine has the browser and its driver."""
    return shutil.which("chromium") is not None and shutil.which("chromedriver") is not None


class WebDriverError(Exception):
    """The driver refused a command; the text has its reason."""


class Chromium:
    """One browser window. `site` is the origin with the credentials of the user; elements are named by CSS selectors."""

    def __init__(self, port: int, session: str, site: str) -> None:
        self._base = f"http://{LOOPBACK}:{port}/session/{session}"
        self.site = site

    def _call(self, method: str, path: str, **body: Any) -> Any:
        return call(method, self._base + path, body if method == "POST" else None)

    def open(self, path: str) -> None:
        """Shows a page of the site and waits until it is loaded."""
        self._call("POST", "/url", url=self.site + path)

    @property
    def path(self) -> str:
        """Path and query of the page that is shown."""
        url: str = self._call("GET", "/url")
        return "/" + url.split("/", 3)[3]

    @property
    def source(self) -> str:
        source: str = self._call("GET", "/source")
        return source

    @property
    def text(self) -> str:
        """What a reader sees of the page."""
        return self._text(self._find("body"))

    def message(self) -> str:
        """The page's mark of success; fails when the page tells of an error or of nothing."""
        errors = self._all("[role=alert]")
        assert not errors, self._text(errors[0])
        return self._text(self._find("[role=status]"))

    def error(self) -> str:
        """The page's mark of an error."""
        return self._text(self._find("[role=alert]"))

    def value(self, selector: str) -> str:
        value: str = self._call("GET", f"/element/{self._find(selector)}/property/value")
        return value

    def count(self, selector: str) -> int:
        return len(self._all(selector))

    def write(self, selector: str, text: str) -> None:
        """Replaces what stands in a text control."""
        element = self._find(selector)
        self._call("POST", f"/element/{element}/clear")
        if text:
            self._call("POST", f"/element/{element}/value", text=text)

    def choose(self, selector: str, label: str) -> None:
        """Takes an option of a menu by the text that the user sees."""
        menu = self._find(selector)
        for option in self._inside(menu, "option"):
            if self._text(option) == label:
                self._call("POST", f"/element/{option}/click")
                return
        raise AssertionError(f"{selector} has no option {label!r}")

    def tick(self, selector: str) -> None:
        self._call("POST", f"/element/{self._find(selector)}/click")

    def click(self, selector: str, *, page: bool = True) -> None:
        """Presses a button or follows a link, and waits for the page that comes if one does."""
        if page:
            self._press(self._find(selector))
        else:
            self._call("POST", f"/element/{self._find(selector)}/click")

    def links(self) -> list[str]:
        """The paths of the page's own site that it leads to."""
        script = "return [...document.links].filter(a => a.origin == location.origin).map(a => a.pathname + a.search)"
        found: list[str] = self._call("POST", "/execute/sync", script=script, args=[])
        return found

    def follow(self, text: str) -> None:
        """Follows the link that begins with this text."""
        for link in self._all("a"):
            if self._text(link).startswith(text):
                self._press(link)
                return
        raise AssertionError(f"no link {text!r} on {self.path}:\n{self.text}")

    def press(self, text: str) -> None:
        """Presses the first button with this text."""
        for button in self._all("button"):
            if self._text(button) == text:
                self._press(button)
                return
        raise AssertionError(f"no button {text!r} on {self.path}:\n{self.text}")

    def screenshot(self, file: Path, width: int = 1280) -> None:
        """A picture of the whole page as a window of so many CSS pixels shows it."""
        self._chrome(
            "Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=width < 500
        )
        shot = self._chrome("Page.captureScreenshot", captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(shot["data"]))

    def overflow(self, width: int) -> int:
        """CSS pixels that the page is wider than a window of this width: 0 when nothing must be scrolled sideways."""
        self._chrome(
            "Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=width < 500
        )
        script = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
        wider: int = self._call("POST", "/execute/sync", script=script, args=[])
        return wider

    def _press(self, element: str) -> None:
        before = self._find("html")
        self._call("POST", f"/element/{element}/click")
        assert eventually(lambda: self._gone(before)), f"no page followed on {self.path}"
        self._ready()

    def _gone(self, element: str) -> bool:
        try:
            self._call("GET", f"/element/{element}/name")
        except WebDriverError:
            return True
        return False

    def _ready(self) -> None:
        eventually(
            lambda: self._call("POST", "/execute/sync", script="return document.readyState", args=[]) == "complete"
        )

    def _chrome(self, command: str, **parameters: Any) -> Any:
        return self._call("POST", "/goog/cdp/execute", cmd=command, params=parameters)

    def _find(self, selector: str) -> str:
        found = self._all(selector)
        assert found, f"no {selector} on {self.path}:\n{self.text if selector != 'body' else ''}"
        return found[0]

    def _all(self, selector: str) -> list[str]:
        found = self._call("POST", "/elements", using="css selector", value=selector)
        return [element[ELEMENT] for element in found]

    def _inside(self, element: str, selector: str) -> list[str]:
        found = self._call("POST", f"/element/{element}/elements", using="css selector", value=selector)
        return [inner[ELEMENT] for inner in found]

    def _text(self, element: str) -> str:
        text: str = self._call("GET", f"/element/{element}/text")
        return text.strip()


def call(method: str, url: str, body: dict[str, Any] | None = None) -> Any:
    """One command of the driver; its answer's value. Raises WebDriverError."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["value"]
    except HTTPError as error:
        raise WebDriverError(json.load(error)["value"]["message"]) from None


@contextmanager
def browser(folder: Path, site: str) -> Iterator[Chromium]:
    """A new browser with a new profile, closed at the end."""
    port = free_port()
    driver = Process(folder / "chromedriver")
    driver.spawn(["chromedriver", f"--port={port}", f"--allowed-ips={LOOPBACK}"])
    profile = tempfile.mkdtemp(dir=folder)
    options = {"args": [*_FLAGS, f"--user-data-dir={profile}"], "binary": shutil.which("chromium")}
    wanted = {"alwaysMatch": {"acceptInsecureCerts": True, "goog:chromeOptions": options}}
    session = ""
    try:
        session = _session(port, wanted)
        yield Chromium(port, session, site)
    finally:
        if session:
            call("DELETE", f"http://{LOOPBACK}:{port}/session/{session}")
        driver.stop()


def _session(port: int, wanted: dict[str, Any]) -> str:
    end = time.monotonic() + 20
    while True:
        try:
            made = call("POST", f"http://{LOOPBACK}:{port}/session", {"capabilities": wanted})
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
            continue
        session: str = made["sessionId"]
        return session
