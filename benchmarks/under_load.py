"""How much slower an update gets beside one other busy program on the machine.

    python -m benchmarks.under_load [--repeats 5] [--threads 2] [--hidden 512]

The update of `benchmarks/update_vs_trl.py` (random Qwen2.5-VL of about 40 M parameters, float32, one 448x448 image, G = 8)
with two threads, in turn alone and beside a process that only loops, on the same work in one process; medians of
several. It runs twice, each in a process of its own: with threads that spin briefly before they sleep, as every program here sets it
(`core/processes/threads.py`), and with libgomp's default, a long spin. The last line is a JSON object; `ratio` is
the time beside the busy loop over the time alone, `quiet_ratio` the time alone with the short spin over that with
the long one.

Other programs on the machine blur it: on a shared one, give it precedence (`nice -n -15`).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from core.processes.threads import spin_briefly

POLICIES: dict[str, dict[str, str]] = {
    "brief": {},
    "default": {"GOMP_SPINCOUNT": "300000"},  # libgomp's default where no policy is set
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--hidden", type=int, default=512, help="size of the model's hidden states")
    parser.add_argument("--policies", nargs="+", choices=POLICIES, default=list(POLICIES))
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args.repeats, args.threads, args.hidden)))
        return

    spin_briefly()
    command = [sys.executable, "-m", "benchmarks.under_load", "--measure"]
    command += [f"--repeats={args.repeats}", f"--threads={args.threads}", f"--hidden={args.hidden}"]
    report: dict[str, Any] = {}
    for policy in args.policies:
        environment = os.environ | POLICIES[policy]
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
        report[policy] = found = json.loads(done.stdout.splitlines()[-1])
        print(f"{policy}: alone {found['quiet_s']:.2f} s, beside a busy loop {found['loaded_s']:.2f} s")
    if len(report) == len(POLICIES):
        report["quiet_ratio"] = round(report["brief"]["quiet_s"] / report["default"]["quiet_s"], 3)
    settings = {"repeats": args.repeats, "threads": args.threads, "cores": os.cpu_count()}
    print(json.dumps(report | settings | {"load": round(os.getloadavg()[0], 1)}))


def measure(repeats: int, threads: int, hidden: int) -> dict[str, float]:
    """Seconds of one update, alone and beside a busy loop: medians, taken in turn."""
    update = make_update(threads, hidden)
    update()  # the first one allocates
    quiet, loaded = [], []
    for _ in range(repeats):
        quiet.append(seconds(update))
        with busy_loop():
            loaded.append(seconds(update))
    alone, beside = statistics.median(quiet), statistics.median(loaded)
    return {"quiet_s": round(alone, 4), "loaded_s": round(beside, 4), "ratio": round(beside / alone, 2)}


def make_update(threads: int, hidden: int) -> Callable[[], None]:
    import torch  # the wait policy is read when it is loaded

    from benchmarks.random_vlm import image_prompt, processor, random_group, random_model
    from rl.update.packing import pack
    from rl.update.policy_gradient import policy_gradient

    torch.set_num_threads(threads)
    proc = processor()
    model = random_model(proc.tokenizer, hidden=hidden).train()
    (batch,) = pack([random_group(image_prompt(proc, 448, 320), 8)], max_tokens=10**9)

    def update() -> None:
        model.zero_grad()
        policy_gradient(model, batch, total_tokens=batch.trained_tokens).loss.backward()

    return update


@contextmanager
def busy_loop() -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    time.sleep(0.5)  # until it runs
    try:
        yield
    finally:
        process.kill()
        process.wait()


def seconds(update: Callable[[], None]) -> float:
    start = time.perf_counter()
    update()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
