"""Time saved by scoring rollouts as they finish, with a slow judge behind HTTP.

    python -m benchmarks.overlap [--judge-ms 30] [--judges 1] [--prompts 8 --completions 8] [--tokens 800] [--repeats 5]

The judge is a real reward service (`python -m rewards serve` in its own process) that sleeps `--judge-ms` per completion, like
one that waits for a large model, and handles `--judges` completions at a time. A tiny random Qwen2.5-VL generates through
the engine; its completions have varying lengths, like a trained model's. Two ways alternate in this process with the same
seeds: `overlap` scores completions with `rl.scoring` while others are generated, `after` scores when all are finished. Both
must give the same completions and scores. The last line is JSON; `ratio` is after / overlap in median seconds of generation
plus scoring, `ideal` the ratio if the shorter of the two took no time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.generate import QUESTION, requests
from benchmarks.reward_isolation import Service
from engines.build import build_engine
from engines.config import EngineConfig, TransformersConfig, VLLMConfig
from engines.engine import Engine
from engines.rollout import Request, Rollout, Sampling
from rewards.config import RewardsConfig
from rewards.router import Router, Score
from rl.scoring import Scorer
from vlm.load import load_processor
from vlm.tiny import build_tiny_vlm

JUDGE = """
import time

def judge(completion, answer):
    time.sleep({seconds})
    return min(1.0, len(completion) / 1000)
"""


@dataclass(frozen=True)
class Run:
    """One round of rollouts: seconds of generation, of waiting for scores afterwards, and of scoring in total."""

    generate: float
    wait: float
    scoring: float
    rollouts: list[Rollout]
    scores: list[Score]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--judge-ms", type=float, default=30.0, help="judge's time per completion in milliseconds"
    )
    parser.add_argument("--judges", type=int, default=1, help="completions judged at the same time")
    parser.add_argument("--engine", choices=["vllm", "transformers"], default="vllm")
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--completions", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=800, help="longest completion")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    with tempfile.TemporaryDirectory() as folder:
        path = build_tiny_vlm(Path(folder) / "model", [QUESTION] * 20)
        processor = load_processor(path)
        length = args.tokens + 112
        configs: dict[str, EngineConfig] = {
            "vllm": VLLMConfig(max_model_len=length, threads=args.threads),
            "transformers": TransformersConfig(max_model_len=length),
        }
        engine = build_engine(configs[args.engine], path, processor, device="cpu")
        file = Path(folder) / "judge.py"
        file.write_text(JUDGE.format(seconds=args.judge_ms / 1000))
        runs: dict[str, list[Run]] = {"after": [], "overlap": []}
        with Service(f"{file}:judge", workers=args.judges) as url:
            judge = {"function": "http", "url": url, "name": "judge"}
            rewards = RewardsConfig.model_validate({"grammar": "none", "tasks": {"t": [judge]}})
            scorers = {side: Scorer(Router(rewards), overlap=side == "overlap") for side in runs}
            rng = np.random.default_rng(0)
            for repeat in range(args.repeats + 1):
                batch = requests(processor, rng, args.prompts, args.completions)
                for side, scorer in scorers.items():
                    runs[side].append(one_run(engine, scorer, batch, Sampling(1.0, args.tokens, repeat)))
            for scorer in scorers.values():
                scorer.close()
        engine.close()
    print(json.dumps(report(runs, vars(args))))


def one_run(engine: Engine, scorer: Scorer, batch: list[Request], sampling: Sampling) -> Run:
    """Generate and score one round like the training loop."""
    with scorer.round(batch) as scoring:
        began = time.perf_counter()
        rollouts = engine.generate(batch, sampling, scoring.add)
        generated = time.perf_counter()
        scores = scoring.finish()
        done = time.perf_counter()
    total = scorer.pop_metrics()["seconds/reward_total"].sum
    return Run(generated - began, done - generated, total, rollouts, scores)


def report(runs: dict[str, list[Run]], settings: dict[str, Any]) -> dict[str, Any]:
    """Medians of both ways without their first run (the warm-up); RuntimeError if completions or scores differ."""
    for after, overlap in zip(runs["after"], runs["overlap"], strict=True):
        tokens = [[r.completion_ids for r in run.rollouts] for run in (after, overlap)]
        if tokens[0] != tokens[1] or after.scores != overlap.scores:
            raise RuntimeError("completions or scores differ between the sides")
    result: dict[str, Any] = dict(settings)
    for side, some in runs.items():
        timed = some[1:]
        result[side] = {
            "seconds": statistics.median(run.generate + run.wait for run in timed),
            "generate": statistics.median(run.generate for run in timed),
            "wait": statistics.median(run.wait for run in timed),
            "scoring": statistics.median(run.scoring for run in timed),
        }
        print(f"{side:>8}: " + ", ".join(f"{name} {s:.2f} s" for name, s in result[side].items()))
    lengths = [len(r.completion_ids) for run in runs["after"][1:] for r in run.rollouts]
    after = result["after"]
    return result | {
        "median_tokens": statistics.median(lengths),
        "ratio": round(after["seconds"] / result["overlap"]["seconds"], 3),
        "ideal": round(after["seconds"] / max(after["generate"], after["wait"]), 3),
    }


if __name__ == "__main__":
    main()
