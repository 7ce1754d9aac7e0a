"""A headless Chromium, driven over its DevTools pipe: no library, no port, no socket."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

BINARIES = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "chromium-headless-shell",
    "chrome-headless-shell",
)
"""Names that packages give it."""

_OPTIONS = (
    *("--headless", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
    *("--no-first-run", "--disable-extensions", "--disable-background-networking", "--disable-sync"),
)

_AS_3_AND_4 = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(end), fcntl.F_DUPFD, 10) for end in sys.argv[1:3]]
for i, end in enumerate(ends):
    os.dup2(end, i + 3)
os.execvp(sys.argv[3], sys.argv[3:])
"""
"""Puts its pipe where Chromium expects it."""

PATIENCE_S = 60.0
"""A browser that does not answer for so long is broken; a busy computer is not."""


def find_browser() -> str | None:
    """Return the first of `BINARIES` on the search path."""
    return next(filter(None, map(shutil.which, BINARIES)), None)


LEFT = "Inspected target navigated or closed"
"""What the browser answers where a page is just being left."""


class PageError(Exception):
    """The page or the browser did not do what it was told."""


class Browser:
    """One page of one browser. Use as a context manager.

    Args:
        binary: the browser.
        profile: an empty folder for it.
    """

    def __init__(self, binary: str, profile: Path) -> None:
        their_orders, self._orders = os.pipe()
        self._answers, their_answers = os.pipe()
        theirs = (their_orders, their_answers)
        pipes = (sys.executable, "-c", _AS_3_AND_4, *map(str, theirs))
        self._process = subprocess.Popen(
            [*pipes, binary, *_OPTIONS, f"--user-data-dir={profile}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=theirs,
            start_new_session=True,
        )
        for end in theirs:
            os.close(end)
        self._number = 0
        self._rest = b""
        self.complaints: list[str] = []
        """What the page's scripts threw, and what the browser refused to load or run for it."""
        self._origin = ""
        self._session = ""
        [target] = [t for t in self._call("Target.getTargets")["targetInfos"] if t["type"] == "page"]
        attached = self._call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self._call(f"{domain}.enable")

    def open(self, url: str) -> None:
        """Go to a page."""
        self._origin = "/".join(url.split("/")[:3])
        self._call("Page.navigate", url=url)
        self.await_true("document.readyState === 'complete'")

    def value(self, expression: str) -> Any:
        """Return what a script's expression is in the page.

        Raises:
            PageError: it throws.
        """
        answer = self._call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise PageError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def await_true(self, expression: str) -> None:
        """Wait until an expression is true in the page, or in the one that it is being left for.

        Raises:
            PageError: it never is.
        """
        give_up_s = time.monotonic() + PATIENCE_S
        while not self._is_true(expression):
            if time.monotonic() > give_up_s:
                raise PageError(f"{expression} is still {self.value(expression)!r}")
            time.sleep(0.05)

    def _is_true(self, expression: str) -> bool:
        try:
            return bool(self.value(expression))
        except PageError as error:
            if LEFT in str(error):
                return False
            raise

    def click(self, selector: str, *, at: float = 0.5) -> None:
        """Press the left mouse button over an element, which nothing may cover.

        Args:
            selector: the element.
            at: where, as a share of its width.

        Raises:
            PageError: something else lies there.
        """
        x, y, hit = self.value(
            f"(() => {{ const e = document.querySelector({selector!r});"
            "e.scrollIntoView({block: 'center'}); const r = e.getBoundingClientRect();"
            f"const x = r.x + {at} * r.width, y = r.y + r.height / 2, t = document.elementFromPoint(x, y);"
            "return [x, y, e === t || e.contains(t)]; })()"
        )
        if not hit:
            raise PageError(f"{selector} is covered")
        for kind in ("mousePressed", "mouseReleased"):
            self._call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def press(self, code: str, key: str) -> None:
        """Press a key."""
        for kind in ("keyDown", "keyUp"):
            self._call("Input.dispatchKeyEvent", type=kind, code=code, key=key)

    def resize(self, width: int, height: int, *, dark: bool) -> None:
        """Be a screen of a size and a colour scheme."""
        self._call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._call("Emulation.setEmulatedMedia", features=[scheme])

    def close(self) -> None:
        """End the browser."""
        with contextlib.suppress(PageError, BrokenPipeError):  # it may end without an answer
            self._call("Browser.close")
        self._process.wait(PATIENCE_S)
        os.close(self._orders)
        os.close(self._answers)

    def __enter__(self) -> Browser:
        """Return the browser."""
        return self

    def __exit__(self, *error: object) -> None:
        """End the browser."""
        self.close()

    def _call(self, method: str, **parameters: object) -> dict[str, Any]:
        self._number += 1
        order: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session and not method.startswith(("Target.", "Browser.")):
            order["sessionId"] = self._session
        os.write(self._orders, json.dumps(order).encode() + b"\0")
        while (message := self._receive()).get("id") != self._number:
            self._note(message)
        if "error" in message:
            raise PageError(f"{method}: {message['error']['message']}")
        return dict(message["result"])

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            if not select.select([self._answers], [], [], PATIENCE_S)[0]:
                raise PageError("the browser does not answer")
            if not (data := os.read(self._answers, 1 << 16)):
                raise PageError("the browser has ended")
            self._rest += data
        text, _, self._rest = self._rest.partition(b"\0")
        return dict(json.loads(text))

    def _note(self, message: dict[str, Any]) -> None:
        if message.get("method") == "Runtime.exceptionThrown":
            self.complaints.append(str(message["params"]["exceptionDetails"]))
        if message.get("method") == "Log.entryAdded":
            entry = message["params"]["entry"]
            # The page before may have gone on asking for a server that has ended meanwhile.
            if str(entry.get("url", self._origin)).startswith(self._origin):
                self.complaints.append(str(entry["text"]))
