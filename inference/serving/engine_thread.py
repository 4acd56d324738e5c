"""One thread that owns the engine and runs the searches of all requests together."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from engines.engine import Engine
from inference.rounds import Rounds
from inference.types import Answer, Method, Question

log = logging.getLogger("inference")

Event = tuple[Literal["stage", "text", "answer", "error"], Any]
"""stage: index of a node that was chosen. text: the text so far. answer: an `Answer`. error: an exception. The last two are the
last."""


class EngineLost(RuntimeError):
    """The engine failed while the search ran, or is being started again."""


@dataclass(eq=False)
class Job:
    """A search that somebody waits for. events: read on the loop on which the job was made."""

    question: Question
    method: Method
    events: asyncio.Queue[Event] = field(default_factory=asyncio.Queue)
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    cancelled: bool = False

    def __post_init__(self) -> None:
        told: set[int] = set()

        def watch(index: int) -> None:
            if self.question.tree[index].kept and index not in told:
                told.add(index)
                self.send(("stage", index))

        self.question.watch = watch
        self.question.partial = lambda text: self.send(("text", text))

    def send(self, event: Event) -> None:
        try:
            self.loop.call_soon_threadsafe(self.events.put_nowait, event)
        except RuntimeError:  # the loop is closed: nobody waits any longer
            self.cancelled = True

    def cancel(self) -> None:
        """Nobody waits any longer: the search is dropped before its next slice."""
        self.cancelled = True


class EngineThread:
    """Starts the engine by `build`, and again if it fails: searches that were running end with EngineLost, new ones wait."""

    def __init__(self, build: Callable[[], Engine], slice_tokens: int, *, restart_s: float = 1.0) -> None:
        self._build, self._slice, self._restart_s = build, slice_tokens, restart_s
        self._inbox: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._running: dict[int, Job] = {}
        self._stopping = False
        self.ready = False
        self.restarts = 0
        self.engine: Engine | None = build()  # the first start fails loudly, before anything is served
        self.ready = True
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    @property
    def busy(self) -> int:
        """Searches that are running."""
        return len(self._running)

    @property
    def stopped(self) -> bool:
        return not self._thread.is_alive()

    def submit(self, job: Job) -> None:
        """Run a search; its events say how it goes."""
        if not self.ready or self._stopping:
            job.send(("error", EngineLost("the engine is being started")))
        else:
            self._inbox.put(job)

    def close(self) -> None:
        """Drop all searches and stop the engine."""
        self._stopping = True
        self._inbox.put(None)
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping:
            rounds = Rounds(self.engine, self._slice) if self.engine else None
            try:
                assert rounds is not None
                self._serve(rounds)
            except Exception as error:
                log.exception("the engine failed; it is started again")
                self._lose(f"the engine failed ({type(error).__name__}); it is being started again")
                self._start_again()
            finally:
                if rounds:
                    rounds.close()
        self._lose("the server is stopping")
        if self.engine:
            self.engine.close()

    def _serve(self, rounds: Rounds) -> None:
        """Run searches until the engine fails or the thread is to stop."""
        while not self._stopping:
            self._take(rounds, wait=not len(rounds))
            for number, job in list(self._running.items()):
                if job.cancelled:
                    rounds.stop(number)
                    del self._running[number]
            for number, outcome in rounds.round() if len(rounds) else ():
                kind: Literal["answer", "error"] = "answer" if isinstance(outcome, Answer) else "error"
                self._running.pop(number).send((kind, outcome))

    def _take(self, rounds: Rounds, *, wait: bool) -> None:
        """New jobs; waits for one if there is nothing else to do."""
        while True:
            try:
                job = self._inbox.get(block=wait)
            except queue.Empty:
                return
            if job is not None and not job.cancelled:
                self._running[rounds.start(job.question, job.method(job.question))] = job
            if job is None:
                return
            wait = False

    def _lose(self, why: str) -> None:
        self.ready = False
        lost = list(self._running.values())
        self._running.clear()
        while True:
            try:
                lost += [job] if (job := self._inbox.get_nowait()) else []
            except queue.Empty:
                break
        for job in lost:
            job.send(("error", EngineLost(why)))

    def _start_again(self) -> None:
        """Close what is left of the engine and start another, as often as it takes."""
        if self.engine:
            try:
                self.engine.close()
            except Exception:
                log.exception("the failed engine could not be closed")
        self.engine = None
        while not self._stopping and self.engine is None:
            try:
                self.engine = self._build()
            except Exception:
                log.exception("the engine could not be started; trying again in %g s", self._restart_s)
                time.sleep(self._restart_s)
        self.restarts += 1
        self.ready = not self._stopping
