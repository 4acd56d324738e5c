"""Time of an on-policy step on a CPU by phase, and generation speed of both engines.

    python -m benchmarks.step [--steps 7] [--warm-up 2] [--prompts 16 --completions 8 --tokens 120] [--repeats 5]

Runs the real loop (`rl.loop.train`) with vLLM on rows of the shapes world (images, clips, sums), with the rewards of
`make demo` and one plugin in a worker process. The policy is random and does not write stages, so the rewards read whole
completions (grammar `none`), and the plugin (share of digits) gives the groups a signal. Figures are medians over the steps
after the warm-up, from `metrics.jsonl`: seconds of generation, of waiting for rewards afterwards, of the update, of the sync,
and of everything else (`rest`: advantages, metrics, writing files).

Engines: `benchmarks/generate.py` at two model sizes, each in its own process, where both engines alternate on the same prompts.
Results are written to benchmarks/results/step.json with hardware and versions; the last line is the same JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from core.files.jsonl import read
from data_recipes.synthetic.shapes.write import World, write_world
from rl.config import GRPOConfig
from rl.loop import train
from vlm.tiny import build_tiny_vlm

PHASES = ("generate", "reward", "update", "sync", "rest")
REWARDS = {
    "math": "math",
    "counting": "counting",
    "choice": "choice",
    "grounding": "giou",
    "pointing": "point_in_box",
    "temporal": "temporal_iou",
}
PLUGIN = """
def share_of_digits(completion, answer):
    return sum(c.isdigit() for c in completion) / max(1, len(completion))
"""
SIZES = ((128, 4), (256, 8))
"""Hidden sizes and layers of the models used to compare the engines."""


def main() -> None:
    """Measure, print and write the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=7, help="steps that are measured")
    parser.add_argument("--warm-up", type=int, default=2, help="steps before them")
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--completions", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=120, help="longest completion")
    parser.add_argument("--repeats", type=int, default=5, help="runs of each engine")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    report: dict[str, Any] = step_seconds(args)
    engines = [engine_speeds(hidden, layers, args) for hidden, layers in SIZES]
    for kind in ("vllm", "transformers"):  # for the model size that the step trains
        report[f"{kind}_tokens_per_s"] = engines[0][kind]["tokens_per_second"]
    report |= {
        "engines": engines,
        "settings": {k: v for k, v in vars(args).items() if k != "out"},
        "hardware": {"cores": os.cpu_count(), "machine": platform.machine()},
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ("torch", "transformers", installed_vllm())},
    }
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "step.json").write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report))


def step_seconds(args: argparse.Namespace) -> dict[str, Any]:
    """Median seconds of each phase over the measured steps, and the share of `rest`."""
    with tempfile.TemporaryDirectory() as folder:
        steps = run_loop(Path(folder), args)[args.warm_up :]
    medians = {phase: statistics.median(s[f"seconds/{phase}"] for s in steps) for phase in PHASES}
    for phase, seconds in medians.items():
        print(f"{phase:>9}: {seconds:.4f} s")
    return {phase: round(seconds, 4) for phase, seconds in medians.items()} | {
        "step": round(statistics.median(s["seconds/step"] for s in steps), 4),
        "reward_total": round(statistics.median(s["seconds/reward_total"] for s in steps), 4),
        "rest_share": round(statistics.median(s["seconds/rest"] / s["seconds/step"] for s in steps), 5),
        "signal": round(1 - statistics.median(s["groups/zero_signal"] for s in steps), 3),
    }


def run_loop(folder: Path, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Run the loop with a tiny random policy; returns its metrics by step."""
    data = folder / "data"
    steps = args.warm_up + args.steps
    write_world(data, World(sft_rows=200, rl_rows=steps * args.prompts, test_rows=14), progress=False)
    corpus = (data / "corpus.txt").read_text().split("\n")
    model = build_tiny_vlm(folder / "model", corpus, hidden=SIZES[0][0], layers=SIZES[0][1])
    plugin = folder / "plugin.py"
    plugin.write_text(PLUGIN)
    config = GRPOConfig.model_validate(
        {
            "model": {"path": str(model)},
            "prompts": {"rows": str(data / "rl.jsonl")},
            "rewards": {
                "grammar": "none",
                "tasks": {task: [f"{plugin}:share_of_digits", name] for task, name in REWARDS.items()},
            },
            "engine": {"kind": "vllm", "max_model_len": 256, "threads": args.threads},
            "rollout": {
                "prompts_per_step": args.prompts,
                "completions_per_prompt": args.completions,
                "max_tokens": args.tokens,
            },
            "optimizer": {"learning_rate": 2e-4},
            "steps": steps,
            "save_every": steps,
            "output_dir": str(folder / "run"),
        }
    )
    train(config)
    return list(read(folder / "run" / "metrics.jsonl"))


def engine_speeds(hidden: int, layers: int, args: argparse.Namespace) -> dict[str, Any]:
    """Results of `benchmarks/generate.py` for one model size."""
    options = {"hidden": hidden, "layers": layers, "prompts": args.prompts, "completions": args.completions}
    options |= {"tokens": args.tokens, "repeats": args.repeats, "threads": args.threads}
    command = [sys.executable, str(Path(__file__).with_name("generate.py"))]
    command += [f"--{name}={value}" for name, value in options.items()]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(
        f"{found['parameters'] / 1e6:.1f} M parameters: vLLM {found['vllm']['tokens_per_second']} tokens/s,"
        f" transformers {found['transformers']['tokens_per_second']} tokens/s"
    )
    return {"hidden": hidden, "layers": layers} | found


def installed_vllm() -> str:
    """The package name of the installed vLLM (CPU builds have a different one)."""
    from importlib.metadata import packages_distributions

    return packages_distributions()["vllm"][0]


if __name__ == "__main__":
    main()
