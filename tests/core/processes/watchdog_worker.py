"""One of two processes that exchange numbers until something happens to the other; started by test_watchdog.py.

    python watchdog_worker.py LIMIT_SECONDS

Prints "step N" after each exchange. Both wait a moment in an operation of their own before they meet.
"""

from __future__ import annotations

import os
import sys
import time

import torch
import torch.distributed as dist

from core.processes.explained import explained
from core.processes.watchdog import operation


def main(limit_s: float) -> None:
    rank = int(os.environ["RANK"])
    dist.init_process_group("gloo")
    step = 0
    while True:
        step += 1
        with operation("generate", limit_s):
            time.sleep(0.2)
        with operation("exchange outcomes", limit_s):
            dist.all_reduce(torch.ones(1))
        print(f"rank {rank}: step {step}", flush=True)


if __name__ == "__main__":
    with explained():
        main(float(sys.argv[1]))
