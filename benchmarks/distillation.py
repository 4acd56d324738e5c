"""On-policy distillation against GRPO from the same start: held-out reward of a small student by tokens that it has generated.

    python -m benchmarks.distillation runs/demo [--out runs/distill_demo]

The teacher is the RL model of a finished `make demo`. A student of half its layers gets the demo's SFT; from there it is distilled
(`grpo_distill_demo.yaml`, 4 completions a prompt) and, in a second run, trained by GRPO alone (`grpo_demo.yaml`'s 8 completions and
learning rate). Every `--every` steps a checkpoint of both answers the demo's held-out rows, greedily. Printed are the rewards and the
tokens generated until then, and how many it took to reach 90 % of the teacher's reward; `distillation.html` draws the curves,
`results.json` has the figures. What is finished is not run again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from itertools import accumulate
from pathlib import Path
from typing import Any

from jinja2 import Template
from markupsafe import Markup

from core.files.jsonl import read
from core.statistics import interval_text
from evaluation.page.charts import Series, line_chart

ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / "launch/configs"
GOAL = 0.9  # of the teacher's reward
GRPO_ALONE = ("distillation=null", "rollout.completions_per_prompt=8", "optimizer.learning_rate=2e-4")
RUNS: dict[str, tuple[str, ...]] = {"distilled": (), "grpo": GRPO_ALONE}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("demo", type=Path, help="folder of a finished demo")
    parser.add_argument("--out", type=Path, default=Path("runs/distill_demo"))
    parser.add_argument("--hidden", type=int, default=128, help="width of the student; the teacher's is 128")
    parser.add_argument(
        "--layers", type=int, default=2, help="language-model layers of the student; the teacher has 4"
    )
    parser.add_argument("--sft-steps", type=int, default=1200)
    parser.add_argument("--steps", type=int, default=60, help="of GRPO; distillation takes half as many")
    parser.add_argument("--every", type=int, default=10, help="steps between checkpoints")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    demo, out = args.demo.resolve(), args.out.resolve()
    start, teacher = out / "sft" / "final", demo / "grpo" / "final"
    if not start.exists():
        _run(
            "-m",
            "vlm.tiny",
            out / "untrained",
            f"--corpus={demo / 'data' / 'corpus.txt'}",
            f"--hidden={args.hidden}",
            f"--layers={args.layers}",
        )
        _run("sft.py", f"--config={CONFIGS / 'sft_demo.yaml'}", f"model.path={out / 'untrained'}", f"steps={args.sft_steps}",
             f"data.rows={demo / 'data' / 'sft.jsonl'}", f"output_dir={out / 'sft'}", f"seed={args.seed}")  # fmt: skip
    for name, settings in RUNS.items():
        if not (out / name / "final").exists():
            steps = args.steps // (1 if name == "grpo" else 2)
            taught = () if name == "grpo" else (f"distillation.teacher.path={teacher}",)
            _run("grpo.py", f"--config={CONFIGS / 'grpo_distill_demo.yaml'}", f"model.path={start}",
                 f"prompts.rows={demo / 'data' / 'rl.jsonl'}", f"output_dir={out / name}", f"seed={args.seed}", f"steps={steps}",
                 f"save_every={args.every}", f"keep_checkpoints={steps}", *settings, *taught)  # fmt: skip
    rewards = _evaluated(demo, out, {"teacher": teacher, "start": start} | _checkpoints(out))
    results = _results(out, rewards)
    (out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    (out / "distillation.html").write_text(page(results), encoding="utf-8")
    print("\n" + table(results) + f"\nOpen {out / 'distillation.html'} in a browser.")


def _checkpoints(out: Path) -> dict[str, Path]:
    """`distilled-10` and so on, in the order of steps."""
    folders = [(name, folder) for name in RUNS for folder in (out / name).glob("checkpoint-*")]
    steps = sorted((name, int(folder.name.removeprefix("checkpoint-")), folder) for name, folder in folders)
    return {f"{name}-{step}": folder for name, step, folder in steps}


def _evaluated(demo: Path, out: Path, checkpoints: dict[str, Path]) -> dict[str, Any]:
    """Overall greedy reward of each checkpoint, with its interval."""
    if not (out / "eval" / "eval.json").exists():
        named = [f"checkpoints.{name}={folder}" for name, folder in checkpoints.items()]
        _run("evaluate.py", f"--config={CONFIGS / 'eval_demo.yaml'}", "checkpoints=null", *named,
             f"rows={demo / 'data' / 'test.jsonl'}", f"output_dir={out / 'eval'}", "samples=0")  # fmt: skip
    evaluation = json.loads((out / "eval" / "eval.json").read_text())
    return {name: one["greedy"]["overall"] for name, one in evaluation["checkpoints"].items()}


def _results(out: Path, rewards: dict[str, Any]) -> dict[str, Any]:
    """curves: by run [{"step", "tokens", "reward"}], from the start on. tokens_to_goal: None where it was not reached."""
    curves: dict[str, list[dict[str, Any]]] = {}
    for name in RUNS:
        sampled = list(accumulate(step["tokens/sampled"] for step in read(out / name / "metrics.jsonl")))
        curves[name] = [{"step": 0, "tokens": 0, "reward": rewards["start"]}]
        for checkpoint, reward in rewards.items():
            run, _, step = checkpoint.rpartition("-")
            if run == name:
                curves[name].append(
                    {"step": int(step), "tokens": int(sampled[int(step) - 1]), "reward": reward}
                )
    goal = GOAL * rewards["teacher"]["mean"]
    reached = {
        name: next((one["tokens"] for one in curve if one["reward"]["mean"] >= goal), None)
        for name, curve in curves.items()
    }
    return {"teacher": rewards["teacher"], "goal": goal, "curves": curves, "tokens_to_goal": reached}


def table(results: dict[str, Any]) -> str:
    lines = [f"teacher: {interval_text(results['teacher'])}; {GOAL:.0%} of it: {results['goal']:.3f}"]
    for name, curve in results["curves"].items():
        lines += [
            f"{name:10} step {one['step']:4} {one['tokens']:9,} tokens  {interval_text(one['reward'])}"
            for one in curve
        ]
    for name, tokens in results["tokens_to_goal"].items():
        said = f"reached after {tokens:,} generated tokens" if tokens is not None else "not reached"
        lines.append(f"{name}: {GOAL:.0%} of the teacher's reward {said}")
    return "\n".join(lines)


def page(results: dict[str, Any]) -> str:
    """The curves over generated tokens, on one axis."""
    places = sorted({one["tokens"] for curve in results["curves"].values() for one in curve})
    series = []
    for colour, (name, curve) in enumerate(results["curves"].items()):
        by_tokens = {one["tokens"]: one["reward"]["mean"] for one in curve}
        series.append(Series(name, tuple(by_tokens.get(place) for place in places), colour, dots=True))
    limits = [("teacher", results["teacher"]["mean"]), (f"{GOAL:.0%} of it", results["goal"])]
    chart = line_chart("Held-out reward", "Greedy, over the tokens that the student has generated.", places, series,
                       limits=limits, x_label="tokens", smooth=False)  # fmt: skip
    css = (ROOT / "evaluation/templates/report.css").read_text(encoding="utf-8")
    return Template(PAGE, autoescape=True).render(css=Markup(css), chart=chart)


PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>On-policy distillation</title><style>{{ css }}</style></head>
<body><main><h1>On-policy distillation and GRPO from the same start</h1><div class="charts">{{ chart }}</div></main></body></html>
"""


def _run(*arguments: str | Path) -> None:
    status = subprocess.run([sys.executable, *map(str, arguments)], cwd=ROOT).returncode
    if status:
        raise SystemExit(f"{arguments[0]} failed (exit code {status}); its message is above")


if __name__ == "__main__":
    main()
