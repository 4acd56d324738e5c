"""Overhead of running a reward function in a killable worker process, and behind HTTP.

    python -m benchmarks.reward_isolation [--items 2000] [--workers 2]

The same trivial function (a string comparison, so that only the overhead is measured) scores the same rollouts in process, in
worker processes, as a batch function in a worker, and through a service on this machine. Then one rollout of a hundred hangs,
and the delay of the others is shown with the time limit. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rewards.config import RewardsConfig
from rewards.router import Router

PLUGIN = """
import time

def equal(completion, answer):
    if completion == "hang":
        time.sleep(600)
    return float(completion == answer["value"])

def equal_batch(completions, answer, **columns):
    return [float(c[0]["content"] == a["value"]) for c, a in zip(completions, answer)]
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=int, default=2000, help="rollouts per measurement")
    parser.add_argument("--workers", type=int, default=2, help="worker processes")
    parser.add_argument(
        "--limit", type=float, default=1.0, help="limit of a call in seconds, for the hanging rollout"
    )
    options = parser.parse_args()
    result: dict[str, Any] = {"items": options.items, "workers": options.workers, "cores": os.cpu_count()}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "plugin.py"
        file.write_text(PLUGIN, encoding="utf-8")
        ways: dict[str, dict[str, Any]] = {
            "in_process": {"function": f"{file}:equal", "isolate": False},
            "worker": {"function": f"{file}:equal"},
            "worker_batch": {"function": f"{file}:equal_batch"},
        }
        print(f"{'way':<14} {'items/s':>10} {'us/item':>9} {'us/item alone':>14}")
        for name, function in ways.items():
            result[name] = measure(name, function, options)
        with Service(f"{file}:equal") as url:
            result["http"] = measure("http", {"function": "http", "url": url, "name": "equal"}, options)
        result["hang"] = hang(f"{file}:equal", options)
    base = result["in_process"]["us_per_item"]
    result["overhead_us"] = {
        name: result[name]["us_per_item"] - base for name in ("worker", "worker_batch", "http")
    }
    print(json.dumps(result))


def measure(name: str, function: dict[str, Any], options: argparse.Namespace) -> dict[str, float]:
    """Microseconds per item: all items at once (best of three), and one item per call (median of 200)."""
    rows = [{"id": str(i), "task": "t", "answer": {"value": str(i)}} for i in range(options.items)]
    texts = [str(i) if i % 2 else "no" for i in range(options.items)]
    with router(function, options) as scorer:
        scorer.score(rows[:8], texts[:8])  # workers start, connections open
        whole = min(timed(lambda: scorer.score(rows, texts)) for _ in range(3))
        alone = sorted(timed(lambda: scorer.score(rows[:1], texts[:1])) for _ in range(200))[100]
    per_item = 1e6 * whole / options.items
    print(f"{name:<14} {1e6 / per_item:>10.0f} {per_item:>9.1f} {1e6 * alone:>14.1f}")
    return {"items_per_s": 1e6 / per_item, "us_per_item": per_item, "us_per_call": 1e6 * alone}


def hang(function: str, options: argparse.Namespace) -> dict[str, float]:
    """Seconds for a hundred rollouts of which one hangs, the limit, and the time without the hang."""
    rows = [{"id": str(i), "task": "t", "answer": {"value": str(i)}} for i in range(100)]
    good = [str(i) for i in range(100)]
    with router({"function": function, "timeout_s": options.limit}, options) as scorer:
        without = min(timed(lambda: scorer.score(rows, good)) for _ in range(3))
        start = time.perf_counter()
        scores = scorer.score(rows, [*good[:50], "hang", *good[51:]])
        seconds = time.perf_counter() - start
    lost = sum(score.reward is None for score in scores)
    delay = seconds - without
    print(
        f"one of 100 hangs, limit {options.limit:g} s: {seconds:.2f} s, {delay:.2f} s more; {lost} lost its reward"
    )
    return {"limit_s": options.limit, "seconds": seconds, "delay_s": delay, "lost": lost}


def router(function: dict[str, Any], options: argparse.Namespace) -> Router:
    """A router with one function."""
    return Router(
        RewardsConfig.model_validate(
            {"grammar": "none", "workers": options.workers, "tasks": {"t": [function]}}
        )
    )


def timed(work: Any) -> float:
    """Wall-clock seconds of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


class Service:
    """A reward service in its own process, with `workers` worker processes."""

    def __init__(self, function: str, *, workers: int = 2) -> None:
        self._function, self._workers = function, workers

    def __enter__(self) -> str:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        command = [sys.executable, "-m", "rewards", "serve", "--function", self._function, "--port", port]
        command += ["--workers", str(self._workers)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self._process.stdout.readline()
        return f"http://127.0.0.1:{port}"

    def __exit__(self, *error: object) -> None:
        self._process.terminate()
        self._process.wait()


if __name__ == "__main__":
    main()
