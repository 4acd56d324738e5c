"""A headless Chromium as a child process, driven by the Chrome DevTools Protocol over a pipe.

A pipe rather than Selenium or Playwright: the browser ends when the pipe closes, so that no process outlives a killed worker;
nobody else on the machine can drive it, as no port is open; and neither a driver of just the browser's release nor a Node.js
runtime is needed, Debian's package `chromium` alone.

https://chromedevtools.github.io/devtools-protocol/
"""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

from core.errors import RunError

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    "--headless",
    "--remote-debugging-pipe",
    "--no-sandbox",  # containers seldom allow it, and only our own pages are shown
    "--disable-gpu",
    "--disable-dev-shm-usage",  # small in containers
    "--disable-extensions",
    "--disable-sync",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--allow-pre-commit-input",  # or input before the first frame of a page is dropped
    "--no-first-run",
    "--no-startup-window",  # or a page of the default search engine is opened too
    "--mute-audio",
    "--force-color-profile=srgb",
    # the same pixels for the same page, whatever was shown before
    "--disable-lcd-text",
    "--font-render-hinting=none",
    "--disable-font-subpixel-positioning",
    "--host-resolver-rules=MAP * ~NOTFOUND",  # no host is found, addresses included
)
START_S, CALL_S = 60.0, 30.0
# Chromium reads the pipe at descriptor 3 and writes at 4. The shell stays, to delete the profile when the browser has ended.
_LAUNCH = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(end), fcntl.F_DUPFD, 10) for end in sys.argv[1:3]]
for number, end in zip((3, 4), ends):
    os.dup2(end, number)
    os.close(end)
os.execv("/bin/sh", ["sh", "-c", '"$@"; rm -rf "$0"', *sys.argv[3:]])
"""


class BrowserError(RunError):
    """Chromium cannot be started, has ended, or refused a command."""


def find_chromium() -> str:
    """The browser's path. Raises BrowserError that names what to install."""
    for name in NAMES:
        if path := shutil.which(name):
            return path
    raise BrowserError(
        f"expected a Chromium to draw pages with, found none of {', '.join(NAMES)} on the PATH; install it, on Debian with"
        " `apt-get install chromium`"
    )


class Chromium:
    """One browser with one page, blank and offline. For one thread at a time, and for the process that made it.

    flags: further command-line flags. Raises BrowserError if it cannot be started.
    """

    def __init__(self, flags: Sequence[str] = ()) -> None:
        executable = find_chromium()
        self.profile = tempfile.mkdtemp(prefix="onsight-chromium-")
        theirs_in, self._write = os.pipe()
        self._read, theirs_out = os.pipe()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 open as long as the browser
        command = [sys.executable, "-I", "-S", "-c", _LAUNCH, str(theirs_in), str(theirs_out), self.profile]
        command += [executable, *FLAGS, f"--user-data-dir={self.profile}", *flags]
        self.process = subprocess.Popen(
            command,
            pass_fds=(theirs_in, theirs_out),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._log,
            start_new_session=True,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._buffer = bytearray()
        self._number = 0
        self._session: str | None = None
        self.closed = False
        try:
            target = self.call("Target.createTarget", url="about:blank", timeout_s=START_S)["targetId"]
            self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
            self._isolate()
        except BaseException:
            self.close()
            raise

    def call(self, method: str, *, timeout_s: float = CALL_S, **params: Any) -> dict[str, Any]:
        """The result of a command to the page. Raises BrowserError if it fails, or the browser has ended or does not answer."""
        if self.closed:
            raise BrowserError(f"Chromium: {method}: expected a running browser, but it has ended")
        self._number += 1
        request: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self._session is not None:
            request["sessionId"] = self._session
        deadline = time.monotonic() + timeout_s
        try:
            self._send(json.dumps(request).encode() + b"\0")
            while (answer := self._message(deadline)).get("id") != self._number:
                pass  # events, and answers to calls that were given up
        except (OSError, EOFError) as error:
            self.close()
            raise BrowserError(f"Chromium ended during {method} ({error}){self._said()}") from None
        except TimeoutError:
            self.close()
            raise BrowserError(f"Chromium: {method} took longer than {timeout_s:g} s") from None
        if "error" in answer:
            raise BrowserError(f"Chromium: {method}: {answer['error'].get('message')}")
        return answer["result"]

    def close(self) -> None:
        """End the browser; its profile is deleted."""
        if self.closed:
            return
        self.closed = True
        os.close(self._write)
        os.close(self._read)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, 9)
            self.process.wait()
            shutil.rmtree(self.profile, ignore_errors=True)

    def _isolate(self) -> None:
        self.call("Network.enable")
        self.call("Network.setBlockedURLs", urls=["*"])
        dead = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
        self.call("Network.emulateNetworkConditions", **dead)

    def _send(self, message: bytes) -> None:
        view = memoryview(message)
        while view:
            view = view[os.write(self._write, view) :]

    def _message(self, deadline: float) -> dict[str, Any]:
        """The next answer or event."""
        searched = 0
        while (end := self._buffer.find(b"\0", searched)) < 0:
            searched = len(self._buffer)
            ready, _, _ = select.select([self._read], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise TimeoutError
            part = os.read(self._read, 1 << 20)
            if not part:
                raise EOFError("the pipe closed")
            self._buffer += part
        message = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return json.loads(message)

    def _said(self) -> str:
        """The end of what the browser wrote to its log."""
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return f"; it said: {' | '.join(lines[-3:])[:400]}" if lines else ""
