"""A child process that can be killed with all its descendants, and numbered messages to and from it.

Both pools of workers stand on this: `isolation.py` (plugins) and `math_pool.py` (math-verify). What a child may do to its
parent is limited to one message for each request:

    every request carries a random number, and an answer counts only under the number of the request it answers. So bytes that
    a plugin (or a process it forked) writes to the socket are never taken for an answer: they end the child.
    every read has a deadline, and a length limit.
    killing reaches whatever the child has started, new sessions and orphans included: they are found by their ancestry and by
    a mark in their environment.

The other end of the socket is `Answering`; this module imports nothing heavy, because each worker imports it.
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
from collections.abc import Mapping
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
_ROUNDS = 5  # of killing: a process may fork while its family is being counted
_LOOK_S = 0.5  # a child that has died is noticed after this, even if a descendant still holds its socket open


class Late(Exception):
    """No answer before the deadline."""


class Lost(Exception):
    """The child has died, or what it wrote is no answer; the message says which."""


class Child:
    """One child process and the socket to it. Used by one thread at a time.

    module: whose function `main(socket_fd, dump_fd)` a fresh interpreter runs, with this process's sys.path. dump_fd is a file
        for the stack that the child dumps on SIGUSR1 (`faulthandler`).
    environment: variables beside this process's.
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

    def ask(self, message: bytes, deadline: float) -> None:
        """Send a request; its answers are read by `answer`. deadline: on the clock of time.monotonic.

        Raises Lost if the child has died, Late if it does not read.
        """
        self._number = secrets.randbits(64)
        self._socket.settimeout(max(1e-3, deadline - time.monotonic()))
        try:
            self._socket.sendall(_HEAD.pack(self._number, len(message)) + message)
        except TimeoutError:
            raise Late from None
        except OSError:  # it has died since its last request
            raise Lost(self._how_it_ended()) from None

    def answer(self, deadline: float) -> bytes:
        """The next message that answers the last request. Raises Late, or Lost."""
        number, length = _HEAD.unpack(self._read(_HEAD.size, deadline))
        if number != self._number or length > MAX_MESSAGE:
            raise Lost(
                "the worker process sent bytes that answer no request: a reward function wrote to its socket"
            )
        return self._read(length, deadline)

    def wait(self, deadline: float) -> None:
        """Return when an answer begins to arrive. Raises Late, or Lost if the child has died without one."""
        poll = select.poll()  # select() fails on descriptors above 1023, which big runs reach
        poll.register(self._socket, select.POLLIN)
        while (left := deadline - time.monotonic()) > 0:
            if poll.poll(min(left, _LOOK_S) * 1000 + 1):
                return
            if self.process.poll() is not None and not poll.poll(0):  # a descendant holds the socket open
                raise Lost(self._how_it_ended())
        raise Late

    def stack(self) -> str:
        """Where the child's main thread is; empty if it does not say within a moment."""
        self._dump.seek(0)
        self._dump.truncate()
        self.process.send_signal(signal.SIGUSR1)
        for _ in range(200):  # a busy machine takes its time to deliver the signal
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
        for _ in range(_ROUNDS):
            victims = _descendants(self.process, self._mark)
            self.process.kill()
            for victim in victims:
                try:
                    os.kill(victim.pid, signal.SIGKILL)
                except (
                    ProcessLookupError,
                    PermissionError,
                ):  # it has ended, or was taken over by another user
                    pass
            if not victims:
                break
        self.process.wait()
        self._dump.close()

    def close(self, patience_s: float = 2.0) -> None:
        """Let the process end by itself, which it does when the socket closes, and kill what is left."""
        self._socket.close()
        try:
            self.process.wait(patience_s)
        except subprocess.TimeoutExpired:
            pass
        self.kill()

    def forget(self) -> None:
        """In a forked copy of the parent: the child is not ours. Drop our copies of its files."""
        self.process.returncode = 0  # never wait for it
        self._socket.close()
        self._dump.close()

    def _read(self, count: int, deadline: float) -> bytes:
        data = bytearray()
        while len(data) < count:
            self.wait(deadline)
            try:
                part = self._socket.recv(min(count - len(data), 1 << 20))
            except OSError:
                part = b""
            if not part:
                raise Lost(self._how_it_ended())
            data += part
        return bytes(data)

    def _how_it_ended(self) -> str:
        try:
            code = self.process.wait(1.0)
        except subprocess.TimeoutExpired:
            return "the worker process closed its connection"
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
        return f"the worker process {how} during the call"

    @property
    def ended_by(self) -> int | None:
        """Number of the signal that ended the process, if one did."""
        code = self.process.poll()
        return -code if code is not None and code < 0 else None


class Answering:
    """The child's end: requests, and answers under their numbers.

    fd: of the socket. What the process starts does not inherit it, and a forked copy of the process loses it.
    """

    def __init__(self, fd: int) -> None:
        os.set_inheritable(fd, False)
        self._socket = socket.socket(fileno=fd)
        self._number = 0
        self._pid = os.getpid()
        os.register_at_fork(after_in_child=self._socket.close)

    def request(self) -> bytes | None:
        """The next request, or None when the parent has closed the socket or is gone."""
        self._leave_if_forked()
        head = self._read(_HEAD.size)
        if head is None:
            return None
        self._number, length = _HEAD.unpack(head)
        return self._read(length)

    def answer(self, message: bytes) -> None:
        """Answer the last request; there may be several answers. Ends the process if the parent is gone."""
        self._leave_if_forked()
        try:
            self._socket.sendall(_HEAD.pack(self._number, len(message)) + message)
        except (BrokenPipeError, ConnectionResetError):  # the parent is gone, and needs no answer
            os._exit(0)

    def _leave_if_forked(self) -> None:
        if os.getpid() != self._pid:  # a function forked, and the copy returned from it
            os._exit(0)

    def _read(self, count: int) -> bytes | None:
        data = bytearray()
        while len(data) < count:
            try:
                part = self._socket.recv(min(count - len(data), 1 << 20))
            except OSError:
                return None
            if not part:
                return None
            data += part
        return bytes(data)


def end_group() -> None:
    """Kill this process and the group that it leads: the last thing a worker does, so that nothing it started goes on."""
    os.killpg(0, signal.SIGKILL)


def _descendants(process: subprocess.Popen[bytes], mark: str) -> list[psutil.Process]:
    """Processes that a worker has started: its children's children, and orphans that carry its mark."""
    import psutil  # not at the top: workers import this module, and never need it

    found = []
    if process.poll() is None:  # else its number may be another process's by now
        found = psutil.Process(process.pid).children(recursive=True)
    everyone = psutil.process_iter(["environ"])
    return found + [
        p for p in everyone if (p.info["environ"] or {}).get(MARK) == mark and p.pid != process.pid
    ]
