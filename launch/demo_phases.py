"""What the demos share: how their programs are started, and what becomes of their results."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from core.files.jsonl import read
from evaluation.run import summary_part

ROOT = Path(__file__).parents[1]
CONFIGS = Path(__file__).parent / "configs"
CORES = len(os.sched_getaffinity(0))
# Operations of so small a model are too short to share between threads: two processes, each with its rows, are faster.
PROCESSES = min(2, CORES)
THREADS = min(2, CORES // PROCESSES)
# --multi_gpu is accelerate's name for several processes, on CPUs too
SEVERAL = ["--multi_gpu", "--main_process_port=0"] if PROCESSES > 1 else []
LAUNCH = [
    *("-m", "accelerate.commands.launch", f"--num_processes={PROCESSES}", "--num_machines=1", *SEVERAL),
    *("--mixed_precision=no", "--dynamo_backend=no", f"--num_cpu_threads_per_process={THREADS}"),
]


def empty_folder(out: Path) -> None:
    """Make the run folder, in place of an earlier demo; exit if it holds anything else."""
    if out.exists():
        if any(out.iterdir()) and not (out / "data").is_dir():
            raise SystemExit(f"{out} holds files that are not from an earlier demo; choose another --out")
        shutil.rmtree(out)
    out.mkdir(parents=True)


def write_report(out: Path, began: float) -> dict[str, Any]:
    """Write `summary.json` and the report page; returns the summary."""
    for name in ("metrics.jsonl", "rollouts.jsonl"):
        shutil.copy(out / "grpo" / name, out / name)
    summary = summarize(out, time.perf_counter() - began)
    (out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    run("-m", "evaluation.report", out)
    return summary


def summarize(out: Path, seconds: float) -> dict[str, Any]:
    """Results of the run: means with intervals by task, the log-prob gap over all steps, seconds by phase."""
    evaluation = json.loads((out / "eval" / "eval.json").read_text())
    steps = list(read(out / "metrics.jsonl"))
    gaps = [s for s in steps if "logprob_gap/mean" in s]  # a step in which no group has a signal has none
    phases = ("generate", "reward", "update", "sync")
    return summary_part(evaluation) | {
        "grpo": {
            "steps": len(steps),
            "mean_logprob_gap": fmean(s["logprob_gap/mean"] for s in gaps) if gaps else None,
            "max_logprob_gap": max(s["logprob_gap/max"] for s in gaps) if gaps else None,
            "seconds": {phase: sum(s[f"seconds/{phase}"] for s in steps) for phase in phases},
        },
        "seconds_total": seconds,
    }


def phase(number: int, words: str, of: int = 6) -> None:
    print(f"\n=== {number}/{of}  {words}", flush=True)


def run(*arguments: str | Path) -> None:
    """Run Python with `arguments` and show its output; end the demo if it fails."""
    command: Sequence[str] = [sys.executable, *map(str, arguments)]
    print("$ " + shlex.join(["python", *command[1:]]), flush=True)
    status = subprocess.run(command, cwd=ROOT).returncode
    if status:
        raise SystemExit(f"this phase failed (exit code {status}); its message is above")
