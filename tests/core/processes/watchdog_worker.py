"""One of two processes that exchange numbers until something happens to the other; started by test_watchdog.py.

    python watchdog_worker.py LIMIT_SECONDS [PROCESS_GROUP_TIMEOUT_SECONDS]

Prints "step N" after each exchange. Both wait a moment in an operation of their own before they meet. With STOP in its
environment, rank 1 stops itself there ("at its start", or "between operations").
"""

from __future__ import annotations

import os
import signal
import sys
import time
from datetime import timedelta

import torch
import torch.distributed as dist

from core.processes.explained import explained
from core.processes.watchdog import operation


def stop(here: str) -> None:
    if os.environ.get("STOP") == here and os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.SIGSTOP)


def main(limit_s: float, group_s: float = 1800) -> None:
    rank = int(os.environ["RANK"])
    with operation("join", 120):
        dist.init_process_group("gloo", timeout=timedelta(seconds=group_s))
    stop("at its start")
    step = 0
    while True:
        step += 1
        with operation("generate", limit_s):
            time.sleep(0.2)
        stop("between operations")
        with operation("exchange outcomes", limit_s):
            dist.all_reduce(torch.ones(1))
        print(f"rank {rank}: step {step}", flush=True)


if __name__ == "__main__":
    with explained():
        main(*map(float, sys.argv[1:]))
