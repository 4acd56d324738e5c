"""SIGTERM and Ctrl-C: finish what cannot be interrupted, save a checkpoint, exit.

The first signal is a request that the training loop reads where all processes meet; a second Ctrl-C exits at once.
Launchers pass on what they get (torchrun a Ctrl-C that the terminal has sent to everybody already), so a signal within
`SAME` seconds of the first is the same request.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import gather

SAME = 1.0  # seconds
SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopRequested(Exception):
    """Raised where a step may be interrupted, after all processes have agreed to."""


class StopSignals:
    """A context in which the two signals are requests. Outside the main thread, where Python takes no signals, nothing
    is changed."""

    def __init__(self) -> None:
        self.signum = 0
        self._first = 0.0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._received) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def agreed(self) -> bool:
        """Whether any process was asked to stop; all must call it, and all get the same answer."""
        state = PartialState()
        if state.num_processes > 1:
            numbers = gather(torch.tensor([self.signum], device=state.device))
            self.signum = int(numbers.max())
        return self.signum > 0

    @property
    def name(self) -> str:
        """Of the signal that came: "SIGTERM"."""
        return signal.Signals(self.signum).name

    @property
    def exit_code(self) -> int:
        """128 + the signal's number, as shells have it: 143 for SIGTERM, 130 for Ctrl-C."""
        return 128 + self.signum

    def _received(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if not self.signum:
            self.signum, self._first = number, now
            if PartialState().is_main_process:
                _write(
                    f"\n{signal.Signals(number).name}: saving, then leaving (Ctrl-C again leaves at once)\n"
                )
        elif number == signal.SIGINT and now - self._first > SAME:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)


def _write(text: str) -> None:
    """print() from a signal handler fails where the signal has interrupted another print()."""
    os.write(2, text.encode())
