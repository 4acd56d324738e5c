"""Scoring rollouts as they finish, while others are still being generated.

    with scorer.round(requests) as scoring:
        rollouts = engine.generate(requests, sampling, on_rollout=scoring.add)
        scores = scoring.finish()                           # in the order of the rollouts

A thread scores all finished rollouts in one call while others are generated: a reward with slow calls (an HTTP judge)
gets few large calls, a fast one gets each rollout at once. What is left after the last rollout is scored immediately, in
parallel with a call that may still be running.

Timing does not change the results: scores are returned in the order of the rollouts, failures are counted in that order
and once per round (`Router.combine`), and rewards that ask for whole groups get whole groups. This needs functions whose
value for one rollout does not depend on the others in the call (docs/rewards.md).
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

from core.metrics import Metric, largest
from core.rows import Row
from engines.rollout import Request, Rollout
from rewards.router import Results, Router, Score


class Scorer:
    """The router of a run, and the thread that calls it.

    overlap: False scores a round in one call when all of it is generated.
    """

    def __init__(self, router: Router, *, overlap: bool = True):
        self.router = router
        self.overlap = overlap
        self._seconds = 0.0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="scoring")
        self._lock = threading.Lock()

    def round(self, requests: Sequence[Request]) -> Scoring:
        """Begin to score the rollouts of `requests`."""
        rows = [request.row for request in requests for _ in range(request.n)]
        return Scoring(self, rows, self._thread if self.overlap else None)

    def run_functions(self, rows: Sequence[Row], rollouts: Sequence[Rollout]) -> list[Results]:
        """The reward functions' results for some rollouts; those of one row are one group. Adds up the time spent."""
        judged = [rollout.judged(row) for row, rollout in zip(rows, rollouts, strict=True)]
        texts = [rollout.text for rollout in rollouts]
        ids = [rollout.sampled_ids for rollout in rollouts]
        began = time.perf_counter()
        results = self.router.run_functions(judged, texts, ids, [rollout.row_id for rollout in rollouts])
        with self._lock:
            self._seconds += time.perf_counter() - began
        return results

    def pop_metrics(self) -> dict[str, Metric]:
        """The router's metrics, and `seconds/reward_total`: time spent in scoring since the last call, overlapped with
        generation or not (`seconds/reward` of the loop is the time that the loop waited)."""
        with self._lock:
            seconds, self._seconds = self._seconds, 0.0
        return self.router.pop_metrics() | {"seconds/reward_total": largest(seconds)}

    def close(self) -> None:
        """End the thread and the router."""
        self._thread.shutdown()
        self.router.close()


class Scoring:
    """Scores one round of rollouts: `add` each as it finishes, then `finish`. Leaving the context, after an error too, drops
    what has not been scored.

    rows: one for each rollout to come."""

    def __init__(self, scorer: Scorer, rows: Sequence[Row], thread: ThreadPoolExecutor | None):
        self._scorer = scorer
        self._rows = rows
        self._thread = thread
        self._whole_groups = scorer.router.needs_groups
        self._missing = Counter(row["id"] for row in rows)  # rollouts of each group still to come
        self._rollouts: dict[int, Rollout] = {}
        self._results: dict[int, Results] = {}
        self._ready: list[int] = []  # places of rollouts that can be scored and have not been
        self._lock = threading.Lock()
        self._begun: list[Future[None]] = []

    def __enter__(self) -> Scoring:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._ready = []

    def add(self, place: int, rollout: Rollout) -> None:
        """Add the rollout of row `place`; returns immediately. Called by one thread."""
        group = self._rows[place]["id"]
        self._rollouts[place] = rollout
        self._missing[group] -= 1
        ready = [place]
        if self._whole_groups:
            ready = [] if self._missing[group] else self._members(group)
        with self._lock:
            self._ready += ready
        if ready and self._thread is not None:
            self._begun.append(self._thread.submit(self._score_ready))

    def finish(self) -> list[Score]:
        """The scores, in the order of the rows, when all rollouts have been added.

        Raises what the router raises: RewardDataError, and RewardFailure when a function fails too often.
        """
        if len(self._rollouts) < len(self._rows):
            raise RuntimeError(f"{len(self._rows)} rollouts expected, {len(self._rollouts)} added")
        self._score_ready()
        for begun in self._begun:
            begun.result()
        return self._scorer.router.combine([self._results[place] for place in range(len(self._rows))])

    def _score_ready(self) -> None:
        """Score everything that is ready, in the order of the rows."""
        with self._lock:
            places, self._ready = sorted(self._ready), []
        if places:
            results = self._scorer.run_functions(
                [self._rows[p] for p in places], [self._rollouts[p] for p in places]
            )
            self._results.update(zip(places, results, strict=True))

    def _members(self, group: str) -> list[int]:
        return [place for place, row in enumerate(self._rows) if row["id"] == group]
