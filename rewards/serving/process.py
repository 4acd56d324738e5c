"""A child process that can be killed with all its descendants, and numbered messages to and from it.

What a child can do to its parent is limited to answering requests:

    every request carries a random number, and an answer counts only with that number. So bytes that a plugin (or a process it
    forked) writes to the socket are never taken for an answer: the child is killed.
    every read has a deadline and a length limit.
    killing reaches everything the child has started, including new sessions and orphans: descendants are found by ancestry
    and by a mark in their environment.

`Child` is the parent's end of the socket, `Parent` the child's. Workers import this module, so it imports nothing heavy.
"""

from __future__ import annotations

import json
import os
import secrets
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psutil

MARK = "ONSIGHT_REWARD_WORKER"
"""Environment variable by which a worker's descendants are found."""
MAX_MESSAGE = 1 << 30
_HEAD = struct.Struct(">QI")
_BOOT = """
import importlib, json, sys
sys.path[:] = json.loads(sys.argv[1])
importlib.import_module(sys.argv[2]).main(int(sys.argv[3]), int(sys.argv[4]))
"""
_KILL_ROUNDS = 5  # a process may fork while its descendants are being listed
_POLL_S = 0.5  # how soon a dead child is noticed if a descendant still holds its socket open


class Late(Exception):
    """No answer before the deadline."""


class Lost(Exception):
    """The child has died or sent something other than an answer; the message says which."""


class Child:
    """One child process and the socket to it. Used by one thread at a time.

    module: a fresh interpreter runs its `main(socket_fd, dump_fd)` with this process's sys.path. dump_fd is the file that the
        child writes its stack to on SIGUSR1 (`faulthandler`).
    environment: variables to set in addition to this process's.
    """

    def __init__(self, module: str, environment: Mapping[str, str]) -> None:
        self._socket, theirs = socket.socketpair()
        self._dump = tempfile.TemporaryFile()  # noqa: SIM115 lives as long as the process
        self._mark = secrets.token_hex(8)
        self._number = 0
        fds = (theirs.fileno(), self._dump.fileno())
        self.process = subprocess.Popen(
            [sys.executable, "-c", _BOOT, json.dumps(sys.path), module, *map(str, fds)],
            pass_fds=fds,
            stdin=subprocess.DEVNULL,
            stdout=2,  # what a plugin prints belongs to the log, not to our output
            env={**os.environ, **environment, MARK: self._mark},
            start_new_session=True,  # Ctrl-C in the terminal reaches the trainer, which then closes its workers
        )
        theirs.close()
        _CHILDREN.add(self)

    def ask(self, message: bytes, deadline: float) -> None:
        """Send a request, to be followed by `answer`. deadline: a time.monotonic() value.

        Raises Lost if the child has died, Late if it does not read the request.
        """
        self._number = secrets.randbits(64)
        self._socket.settimeout(max(1e-3, deadline - time.monotonic()))
        try:
            self._socket.sendall(_HEAD.pack(self._number, len(message)) + message)
        except TimeoutError:
            raise Late from None
        except OSError:  # died since its last request
            raise Lost(self._how_it_ended()) from None

    def answer(self, deadline: float) -> bytes:
        """The next answer to the last request. Raises Late or Lost."""
        number, length = _HEAD.unpack(self._read(_HEAD.size, deadline))
        if number != self._number or length > MAX_MESSAGE:
            raise Lost(
                "the worker process sent bytes that answer no request: a reward function wrote to its socket"
            )
        return self._read(length, deadline)

    def wait(self, deadline: float) -> None:
        """Return when an answer starts to arrive. Raises Late, or Lost if the child died without answering."""
        poll = select.poll()  # select() fails on descriptors above 1023, which big runs reach
        poll.register(self._socket, select.POLLIN)
        while (left := deadline - time.monotonic()) > 0:
            if poll.poll(min(left, _POLL_S) * 1000 + 1):
                return
            if self.process.poll() is not None and not poll.poll(0):  # a descendant holds the socket open
                raise Lost(self._how_it_ended())
        raise Late

    def stack(self) -> str:
        """The stack of the child's main thread; empty if the child does not write it within two seconds."""
        self._dump.seek(0)
        self._dump.truncate()
        self.process.send_signal(signal.SIGUSR1)
        for _ in range(200):  # signal delivery is slow on a busy machine
            time.sleep(0.01)
            if os.fstat(self._dump.fileno()).st_size:
                time.sleep(0.01)
                break
        self._dump.seek(0)
        return self._dump.read().decode(errors="replace")

    def kill(self) -> None:
        """End the process and everything it has started. Safe to call twice."""
        self._socket.close()
        if self._dump.closed:
            return
        for _ in range(_KILL_ROUNDS):
            victims = _descendants(self.process, self._mark)
            self.process.kill()
            for victim in victims:
                try:
                    os.kill(victim.pid, signal.SIGKILL)
                except (ProcessLookupError, PermissionError):  # already gone, or now another user's
                    pass
            if not victims:
                break
        self.process.wait()
        self._dump.close()

    def close(self, patience_s: float = 2.0) -> None:
        """Close the socket, which tells the process to exit, and kill whatever is left after `patience_s`."""
        self._socket.close()
        try:
            self.process.wait(patience_s)
        except subprocess.TimeoutExpired:
            pass
        self.kill()

    def forget(self) -> None:
        """In a forked copy of the parent: the child belongs to the original. Close our copies of its files."""
        self.process.returncode = 0  # so that Popen never waits for it
        self._socket.close()
        self._dump.close()

    def _read(self, count: int, deadline: float) -> bytes:
        data = _read(self._socket, count, lambda: self.wait(deadline))
        if data is None:
            raise Lost(self._how_it_ended())
        return data

    def _how_it_ended(self) -> str:
        try:
            code = self.process.wait(1.0)
        except subprocess.TimeoutExpired:
            return "the worker process closed its connection"
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
        return f"the worker process {how} during the call"

    @property
    def ended_by(self) -> int | None:
        """Number of the signal that ended the process; None if it runs or exited otherwise."""
        code = self.process.poll()
        return -code if code is not None and code < 0 else None


class Parent:
    """The child's end: reads requests and sends answers with their numbers.

    fd: of the socket. Programs that the process starts do not inherit it, and a forked copy of the process loses it.
    """

    def __init__(self, fd: int) -> None:
        os.set_inheritable(fd, False)
        self._socket = socket.socket(fileno=fd)
        self._number = 0
        self._pid = os.getpid()
        os.register_at_fork(after_in_child=self._socket.close)

    def request(self) -> bytes | None:
        """The next request, or None when the parent has closed the socket or has died."""
        self._leave_if_forked()
        head = _read(self._socket, _HEAD.size)
        if head is None:
            return None
        self._number, length = _HEAD.unpack(head)
        return _read(self._socket, length)

    def answer(self, message: bytes) -> None:
        """Send one of any number of answers to the last request. Exits if the parent is gone."""
        self._leave_if_forked()
        try:
            self._socket.sendall(_HEAD.pack(self._number, len(message)) + message)
        except (BrokenPipeError, ConnectionResetError):  # the parent is gone
            os._exit(0)

    def _leave_if_forked(self) -> None:
        if os.getpid() != self._pid:  # a forked copy returned from the reward function
            os._exit(0)


def _read(source: socket.socket, count: int, wait: Callable[[], None] = lambda: None) -> bytes | None:
    """Exactly `count` bytes, calling `wait` before each part; None if the other end closes first."""
    data = bytearray()
    while len(data) < count:
        wait()
        try:
            part = source.recv(min(count - len(data), 1 << 20))
        except OSError:
            part = b""
        if not part:
            return None
        data += part
    return bytes(data)


def _descendants(process: subprocess.Popen[bytes], mark: str) -> list[psutil.Process]:
    """The processes that a worker started: its children and theirs, and orphans that carry its mark."""
    import psutil  # not at the top: workers import this module and never need it

    found = []
    if process.poll() is None:  # else its pid may belong to another process by now
        found = psutil.Process(process.pid).children(recursive=True)
    everyone = psutil.process_iter(["environ"])
    return found + [
        p for p in everyone if (p.info["environ"] or {}).get(MARK) == mark and p.pid != process.pid
    ]


_CHILDREN: weakref.WeakSet[Child] = weakref.WeakSet()


def _forget_children() -> None:
    for child in list(_CHILDREN):
        child.forget()


os.register_at_fork(after_in_child=_forget_children)
