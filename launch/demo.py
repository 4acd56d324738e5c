"""The whole pipeline on a tiny VLM: data, SFT, on-policy GRPO with vLLM, evaluation, report. `make demo` runs it.

    python -m launch.demo [--out runs/demo] [--seed 0] [--family qwen3_vl] [--sft steps=500] [--grpo steps=20]

Every phase prints and runs the command of the program that real runs use, with a config from `launch/configs/`;
only sizes and data differ.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from core.files.jsonl import read
from evaluation.run import summary_part
from vlm.families import DEFAULT_FAMILY, FAMILIES

ROOT = Path(__file__).parents[1]
CONFIGS = Path(__file__).parent / "configs"
PHASES = ("data", "sft", "grpo", "eval")
COMPLETE = ("qwen2_5_vl", "qwen3_vl")  # families that take clips, and that vLLM's CPU build runs in float32
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--out", type=Path, default=Path("runs/demo"), help="run folder; an earlier demo in it is replaced"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of weights, data, order and sampling")
    parser.add_argument(
        "--family", choices=COMPLETE, default=DEFAULT_FAMILY, help="whose architecture the model has"
    )
    for name in PHASES:
        parser.add_argument(
            f"--{name}", action="append", default=[], metavar="ARG", help="extra argument for this phase"
        )
    args = parser.parse_args()
    more = {name: getattr(args, name) for name in PHASES}
    run_demo(args.out.expanduser(), args.seed, more, args.family)


def run_demo(
    out: Path, seed: int = 0, more: Mapping[str, Sequence[str]] | None = None, family: str = DEFAULT_FAMILY
) -> dict[str, Any]:
    """Run all phases and return what is written to `out/summary.json`.

    more: extra arguments for the programs of the phases `data`, `sft`, `grpo` and `eval`. family: of the model.
    """
    extra = {name: list((more or {}).get(name, ())) for name in PHASES}
    began = time.perf_counter()
    out = out.resolve()  # the programs run in the repository's root
    empty_folder(out)
    data, models = out / "data", {name: out / name / "final" for name in ("sft", "grpo")}
    untrained = out / "untrained"

    phase(1, "Data: coloured shapes, clips and sums; SFT traces of mixed quality, held-out rows")
    cell = f"--cell-px={FAMILIES[family].factor}"  # one visual token
    run("-m", "data_recipes.synthetic.shapes.write", data, f"--seed={seed}", cell, *extra["data"])

    phase(
        2,
        f"Building a tiny vision-language model of {FAMILIES[family].name}'s architecture, with random weights",
    )
    run(
        "-m", "vlm.tiny", untrained, f"--family={family}", f"--corpus={data / 'corpus.txt'}", f"--seed={seed}"
    )

    phase(3, "SFT: the model learns to see and to write the four stages, and copies its teachers' errors")
    run(*LAUNCH, "sft.py", f"--config={CONFIGS / 'sft_demo.yaml'}", f"model.path={untrained}",
        f"data.rows={data / 'sft.jsonl'}", f"output_dir={out / 'sft'}", f"seed={seed}", *extra["sft"])  # fmt: skip

    phase(4, "On-policy GRPO: vLLM samples every step from the current weights; right answers are rewarded")
    run(*LAUNCH, "grpo.py", f"--config={CONFIGS / 'grpo_demo.yaml'}", f"model.path={models['sft']}",
        f"prompts.rows={data / 'rl.jsonl'}", f"output_dir={out / 'grpo'}", f"seed={seed}", *extra["grpo"])  # fmt: skip

    phase(5, "Evaluation: the untrained, the SFT and the RL model answer the same held-out rows")
    run("evaluate.py", f"--config={CONFIGS / 'eval_demo.yaml'}", f"checkpoints.untrained={untrained}",
        f"checkpoints.sft={models['sft']}", f"checkpoints.rl={models['grpo']}",
        f"rows={data / 'test.jsonl'}", f"output_dir={out / 'eval'}", *extra["eval"])  # fmt: skip

    phase(6, "Report")
    return report(out, began)


def empty_folder(out: Path) -> None:
    """Make the run folder, in place of an earlier demo; exit if it holds anything else."""
    if out.exists():
        if any(out.iterdir()) and not (out / "data").is_dir():
            raise SystemExit(f"{out} holds files that are not from an earlier demo; choose another --out")
        shutil.rmtree(out)
    out.mkdir(parents=True)


def report(out: Path, began: float) -> dict[str, Any]:
    """Write `summary.json` and the report page, print the conclusion; returns the summary."""
    for name in ("metrics.jsonl", "rollouts.jsonl"):
        shutil.copy(out / "grpo" / name, out / name)
    summary = summarize(out, time.perf_counter() - began)
    (out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    run("-m", "evaluation.report", out)
    print(conclusion(summary, out), flush=True)
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


def conclusion(summary: dict[str, Any], out: Path) -> str:
    """The result as text for the terminal."""
    overall, grpo = summary["overall"], summary["grpo"]
    gap = "no step had a signal, so vLLM's and the trainer's log-probs were never compared"
    if grpo["mean_logprob_gap"] is not None:
        gap = f"mean difference {grpo['mean_logprob_gap']:.1e}, largest {grpo['max_logprob_gap']:.1e}"
    return (
        f"\nMean reward on held-out rows (greedy): untrained {overall['untrained']:.3f}, after SFT"
        f" {overall['sft']:.3f}, after GRPO {overall['rl']:.3f}.\n"
        f"Log-probs of vLLM and trainer over {grpo['steps']} steps: {gap}.\n"
        f"{summary['seconds_total'] / 60:.1f} minutes in all. Open {out / 'report.html'} in a browser."
    )


def phase(number: int, words: str) -> None:
    print(f"\n=== {number}/6  {words}", flush=True)


def run(*arguments: str | Path) -> None:
    """Run Python with `arguments` and show its output; end the demo if it fails."""
    command: Sequence[str] = [sys.executable, *map(str, arguments)]
    print("$ " + shlex.join(["python", *command[1:]]), flush=True)
    status = subprocess.run(command, cwd=ROOT).returncode
    if status:
        raise SystemExit(f"this phase failed (exit code {status}); its message is above")


if __name__ == "__main__":
    main()
