"""Reward functions that do to their process what plugins (or the libraries they load) have done. Loaded by file name."""

from __future__ import annotations

import builtins
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path


def hostile(completion: str, answer: dict, folder: str = "") -> object:
    """Does what the completion says; 0.5 if it comes back."""
    what, _, rest = completion.partition(" ")
    actions = {
        "fork": _fork_and_return,
        "bytes": _write_to_every_descriptor,
        "daemon": lambda: _leave_a_daemon(Path(folder) / "daemon.pid"),
        "patch": _patch,
        "answers": _patch_the_answers,
        "chdir": lambda: os.chdir("/"),
        "alarm": lambda: signal.setitimer(signal.ITIMER_REAL, 0.01),
        "import": lambda: _import_slowly(Path(folder), float(rest)),
        "sleep": lambda: time.sleep(600),
    }
    if what in ("good", "cwd"):
        return 0.5 if what == "good" else {"reward": 0.5, "at_home": float(os.getcwd() == os.environ["PWD"])}
    if what in RETURNED:
        return RETURNED[what]()
    if what in RAISED:
        raise RAISED[what]
    actions[what]()
    return 0.5


def says_half(completion: str) -> float:
    """A function that does nothing wrong, beside the others."""
    return 0.5 if json.loads("[1]") == [1] and len("ab") == 2 else 0.0


class _Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class _Odd(dict):
    def items(self):
        raise RuntimeError("no items")


class _NoItem:
    def item(self):
        raise RuntimeError("no item")

    def __repr__(self) -> str:
        raise RuntimeError("no text")


class _Escapes(BaseException):
    """Neither an Exception nor one of Python's own."""


def _circular() -> dict:
    made: dict = {"reward": 0.5}
    made["self"] = made
    return made


def _deep() -> dict:
    made: list = []
    for _ in range(5_000):
        made = [made]
    return {"reward": 0.5, "deep": made}


RETURNED = {
    "huge": lambda: 10**400,
    "huger": lambda: 10**6000,
    "huge-extra": lambda: {"reward": 0.5, "size": 10**400, "more": 10**6000, "inf": float("inf")},
    "circular": _circular,
    "deep": _deep,
    "odd": lambda: _Odd(reward=0.5),
    "no-item": _NoItem,
    "bytes-extra": lambda: {"reward": 0.5, "raw": b"\xff", "lone": "\udcff"},
    "long-extra": lambda: {"reward": 0.5, "text": "x" * 10_000_000},
}
"""What comes back: extras that are odd leave the value alone, a value that is odd is a failure."""

RAISED = {"unprintable": _Unprintable(), "escapes": _Escapes("out"), "generator-exit": GeneratorExit()}


def _fork_and_return() -> None:
    """The child goes on as if it were the worker: it returns from the function, too."""
    if os.fork() == 0:
        time.sleep(0.2)


def _write_to_every_descriptor() -> None:
    for fd in range(3, 4096):
        try:
            os.write(fd, b'{"index": 0, "value": 1.0, "extra": {}, "failure": null}' * 3)
        except OSError:
            pass


def _leave_a_daemon(file: Path) -> None:
    """A process of a session of its own that outlives the one that started it."""
    code = f"import os, time; open({str(file)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    subprocess.Popen(["setsid", "--fork", sys.executable, "-c", code])
    while not (file.exists() and file.read_text()):
        time.sleep(0.01)


def _patch() -> None:
    json.loads = lambda *_, **__: []  # type: ignore[assignment]
    builtins.len = lambda *_: 0  # type: ignore[assignment]
    time.sleep = lambda *_: None


def _patch_the_answers() -> None:
    """From now on this process answers with something that is no result."""
    wire = importlib.import_module("rewards.serving.wire")
    wire.outcome_to_json = lambda key, outcome: {"key": key, "value": "1"}  # type: ignore[attr-defined]


def _import_slowly(folder: Path, seconds: float) -> None:
    """As a first call does that loads a large library."""
    (folder / "slow_library.py").write_text(f"import time\ntime.sleep({seconds})\n")
    sys.path.insert(0, str(folder))
    importlib.import_module("slow_library")
