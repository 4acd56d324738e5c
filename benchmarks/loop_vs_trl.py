"""Whole on-policy steps of our loop and TRL's GRPOTrainer: generation, rewards, update and weight sync.

    python -m benchmarks.loop_vs_trl [--hidden 512 --layers 8] [--steps 12] [--engine vllm]

Both train the same random model (float32, CPU) on the same rows (one image and one question each), with the same reward
(share of digits in the completion), group size, number of prompts, maximum completion length, learning rate and
temperature, and one update per batch of rollouts. Both run their public entry points: `rl.loop.train`, and
`GRPOTrainer.train` with generation through transformers, because TRL's vLLM engine fails at its first weight sync on CPUs.
TRL gets the settings it needs to run (left padding, and suppressed media tokens; by itself it suppresses only the image
token) and the on-policy settings that make its loss equal to ours: one iteration, no KL, "dapo" normaliser.

The loops run in two processes that alternate step by step, so that changes of the machine's load affect both. Medians are
over the steps after `--warm-up`. The last line is a JSON object, also written to
benchmarks/results/loop_vs_trl_<hidden>x<layers>.json, together with a plot of reward against seconds:

time_ratio, cpu_ratio: TRL's step over ours, in wall-clock and in processor time (the fairer one on a shared machine).
ours, trl: medians of a step and of its phases in seconds, and the reward and seconds of every step.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.step import installed_vllm

QUESTION = "How many red circles are there, and where is the blue square?"


def main() -> None:
    """Run both loops alternately, then print and write the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--steps", type=int, default=12, help="steps that are measured")
    parser.add_argument("--warm-up", type=int, default=2, help="steps before them")
    parser.add_argument("--prompts", type=int, default=4)
    parser.add_argument("--completions", type=int, default=8, help="group size G")
    parser.add_argument("--tokens", type=int, default=64, help="longest completion")
    parser.add_argument("--image-side", type=int, default=224, help="pixels; 28 to a visual token")
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--engine", choices=("vllm", "transformers"), default="vllm", help="of our loop")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(args.threads)  # inherited by the two loops' processes

    with tempfile.TemporaryDirectory() as folder:
        write_task(Path(folder), args)
        load = os.getloadavg()[0]
        sides = take_turns({"ours": run_ours, "trl": run_trl}, Path(folder), args)
    report: dict[str, Any] = {}
    for clock in ("wall", "cpu"):
        medians = {
            name: statistics.median(s[clock] for s in steps[args.warm_up :]) for name, steps in sides.items()
        }
        report["time_ratio" if clock == "wall" else "cpu_ratio"] = round(medians["trl"] / medians["ours"], 2)
    report |= {name: summary(steps, args.warm_up) for name, steps in sides.items()}
    report |= {
        "parameters": sides["ours"][0]["parameters"],
        "settings": {k: v for k, v in vars(args).items() if k != "out"},
        "load": [round(load, 1), round(os.getloadavg()[0], 1)],
        "hardware": {"cores": os.cpu_count(), "machine": platform.machine()},
        "versions": {name: version(name) for name in ("torch", "transformers", "trl", installed_vllm())},
    }
    for name in sides:
        phases = ", ".join(f"{phase} {seconds:.3f}" for phase, seconds in report[name]["phases"].items())
        print(f"{name:>5}: {report[name]['wall']:.3f} s a step ({report[name]['cpu']:.3f} s CPU): {phases}")
    stem = args.out / f"loop_vs_trl_{args.hidden}x{args.layers}"
    args.out.mkdir(parents=True, exist_ok=True)
    stem.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n")
    plot(sides, stem.with_suffix(".png"))
    print(json.dumps(report))


def write_task(folder: Path, args: argparse.Namespace) -> None:
    """The random model in `folder/model` and one row for each prompt of the run in `folder/rows.jsonl`."""
    from core.rows import write_rows
    from vlm.tiny import build_tiny_vlm

    build_tiny_vlm(
        folder / "model", [QUESTION, "0 1 2 3 4 5 6 7 8 9"] * 20, hidden=args.hidden, layers=args.layers
    )
    rng = np.random.default_rng(0)
    rows = []
    for i in range((args.warm_up + args.steps) * args.prompts):
        pixels = rng.integers(0, 255, (args.image_side, args.image_side, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
        content = [{"type": "image"}, {"type": "text", "text": QUESTION}]
        rows.append(
            {
                "id": f"r{i}",
                "task": "digits",
                "answer": {},
                "images": [str(folder / f"{i}.png")],
                "videos": [],
            }
            | {"prompt": [{"role": "user", "content": content}]}
        )
    write_rows(rows, folder / "rows.jsonl")


def share_of_digits(text: str) -> float:
    """The reward of both loops: in [0, 1], and different between random completions."""
    return sum(c.isdigit() for c in text) / max(1, len(text))


def take_turns(
    sides: dict[str, Callable], folder: Path, args: argparse.Namespace
) -> dict[str, list[dict[str, Any]]]:
    """Run each side's loop in its own process, alternating step by step; returns what each step reported."""
    context = multiprocessing.get_context("spawn")
    pipes, processes = {}, {}
    for name, run in sides.items():
        pipes[name], other = context.Pipe()
        processes[name] = context.Process(target=run, args=(folder, args, Turns(other)), daemon=True)
        processes[name].start()
        other.close()
    for pipe in pipes.values():
        pipe.recv()  # ready: loading and compilation are not measured
    steps: dict[str, list[dict[str, Any]]] = {name: [] for name in sides}
    for _ in range(args.warm_up + args.steps):
        for name, pipe in pipes.items():
            pipe.send("step")
            steps[name].append(pipe.recv())
    for name, process in processes.items():
        pipes[name].send("finish")
        process.join()
    return steps


class Turns:
    """A loop's end of the pipe: it waits for its turn before each step, and reports after it."""

    def __init__(self, pipe: Connection):
        self._pipe = pipe
        self._began = (0.0, 0.0)

    def wait(self) -> None:
        """Wait for this side's turn; call it before the first step."""
        self._pipe.send("ready")
        self._turn()

    def done(self, **report: Any) -> None:
        """Report the step that has ended with its wall-clock and processor seconds, and wait for the next turn."""
        wall, cpu = time.perf_counter() - self._began[0], time.process_time() - self._began[1]
        self._pipe.send({"wall": wall, "cpu": cpu} | report)
        self._turn()

    def _turn(self) -> None:
        self._pipe.recv()
        self._began = time.perf_counter(), time.process_time()


def reward_function(completion: str, answer: dict[str, Any], **row: Any) -> float:
    """`share_of_digits` with the signature of our rewards."""
    return share_of_digits(completion)


def run_ours(folder: Path, args: argparse.Namespace, turns: Turns) -> None:
    """`rl.loop.train`, which waits for the other side whenever it logs a step."""
    import torch

    from rl import loop
    from rl.config import GRPOConfig

    torch.set_num_threads(args.threads)
    config = GRPOConfig.model_validate(
        {
            "model": {"path": str(folder / "model")},
            "prompts": {"rows": str(folder / "rows.jsonl")},
            "rewards": {
                "grammar": "none",
                "tasks": {"digits": [{"function": f"{__file__}:reward_function", "isolate": False}]},
            },
            "engine": {"kind": args.engine, "max_model_len": 1024, "threads": args.threads},
            "rollout": {
                "prompts_per_step": args.prompts,
                "completions_per_prompt": args.completions,
                "max_tokens": args.tokens,
            },
            "optimizer": {"learning_rate": args.learning_rate, "betas": (0.9, 0.999)},
            "steps": args.warm_up + args.steps,
            "save_every": args.warm_up + args.steps,
            "output_dir": str(folder / "ours"),
        }
    )
    started, logged = loop.start, loop.log

    def start(*given: Any) -> Any:
        run = started(*given)
        turns.wait()
        return run

    def log(run: Any, *given: Any) -> dict[str, Any]:
        record = logged(run, *given)
        phases = {name: record[f"seconds/{name}"] for name in ("generate", "reward", "update", "sync")}
        parameters = sum(p.numel() for p in run.policy.parameters())
        turns.done(reward=record["reward/mean"], phases=phases, parameters=parameters)
        return record

    loop.start, loop.log = start, log
    loop.train(config)


def run_trl(folder: Path, args: argparse.Namespace, turns: Turns) -> None:
    """`GRPOTrainer.train`, which waits for the other side at the end of each step."""
    import torch
    from transformers import AutoModelForImageTextToText, AutoProcessor, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    from engines.tokens import suppressed_token_ids

    torch.set_num_threads(args.threads)
    processor = AutoProcessor.from_pretrained(folder / "model", padding_side="left")
    model = AutoModelForImageTextToText.from_pretrained(folder / "model", dtype=torch.float32)
    suppressed = suppressed_token_ids(processor, model.config.text_config.vocab_size)
    rewards: list[float] = []
    seconds = {"generate and reward": 0.0}

    def reward(completions: list[Any], **_: Any) -> list[float]:
        values = [share_of_digits(completion[0]["content"]) for completion in completions]
        rewards.append(statistics.mean(values))
        return values

    class Trainer(GRPOTrainer):
        """Measures the time of generation and scoring."""

        def _generate_and_score_completions(self, inputs: Any) -> Any:
            began = time.perf_counter()
            output = super()._generate_and_score_completions(inputs)
            seconds["generate and reward"] = time.perf_counter() - began
            return output

    class TakeTurns(TrainerCallback):
        """Waits for the other side at the end of each step."""

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            turns.wait()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            turns.done(reward=rewards[-1], phases=dict(seconds))

    trainer = Trainer(
        model=model,
        processing_class=processor,
        reward_funcs=reward,
        train_dataset=trl_rows(folder),
        callbacks=[TakeTurns()],
        args=GRPOConfig(
            output_dir=str(folder / "trl"),
            use_cpu=True,
            bf16=False,
            per_device_train_batch_size=args.prompts * args.completions,
            num_generations=args.completions,
            max_completion_length=args.tokens,
            generation_kwargs={"suppress_tokens": list(suppressed)},
            max_steps=args.warm_up + args.steps,
            learning_rate=args.learning_rate,
            lr_scheduler_type="constant",
            loss_type="dapo",
            beta=0.0,
            gradient_checkpointing=False,
            save_strategy="no",
            logging_steps=1,
            report_to=[],
            disable_tqdm=True,
        ),
    )
    trainer.train()


def trl_rows(folder: Path) -> Any:
    """The rows in TRL's format."""
    from datasets import Dataset, Features, List, Value
    from datasets import Image as ImageColumn

    from core.rows import read_rows

    features = Features(
        {"prompt": [{"role": Value("string"), "content": Value("string")}], "images": List(ImageColumn())}
    )
    return Dataset.from_list(
        [
            {"prompt": [{"role": "user", "content": QUESTION}], "images": row["images"]}
            for row in read_rows(folder / "rows.jsonl")
        ],
        features=features,
    )


def summary(steps: list[dict[str, Any]], warm_up: int) -> dict[str, Any]:
    """Medians of the measured steps, and reward and seconds of every step."""
    measured = steps[warm_up:]
    return {
        "wall": round(statistics.median(s["wall"] for s in measured), 3),
        "cpu": round(statistics.median(s["cpu"] for s in measured), 3),
        "phases": {
            name: round(statistics.median(s["phases"][name] for s in measured), 3)
            for name in steps[0]["phases"]
        },
        "seconds": [round(s["wall"], 3) for s in steps],
        "rewards": [round(s["reward"], 4) for s in steps],
    }


def plot(sides: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """Plot the mean reward of each step against the total seconds of the steps before it."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4))
    for name, steps in sides.items():
        axes.plot(np.cumsum([s["wall"] for s in steps]), [s["reward"] for s in steps], label=name)
    axes.set_xlabel("seconds of training")
    axes.set_ylabel("mean reward")
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    main()
