"""Single-task against mixed GRPO runs at equal numbers of prompts per task, and the remedies against interference.

    python -m benchmarks.mixed_tasks runs/demo_0 runs/demo_1 runs/demo_2 [--forms single mixed task_std …] [--out runs/mixed]
    python -m benchmarks.mixed_tasks runs/mix_0 runs/mix_1 runs/mix_2 --world all

Every folder is a run of `python -m launch.demo --seed …`, or of `python -m benchmarks.mixed_world`, which adds visual search and captions
that a reward model judges: its SFT model is the start, its prompts are trained on. For each of them

* `single`: one run for every task, on that task's prompts alone, `--prompts` of them a step;
* `mixed`: one run on all tasks, with `--prompts` a step for each of them, so that after `--steps` steps every task has had as many
  prompts (over whole epochs; the order is random) and as many updates as in its single run;
* every other form is the mixed run with a remedy of docs/mixed_tasks.md; several are joined by `+` (task_std+task_tokens).
  `sqrt_lr` multiplies the learning rate by the square root of the number of tasks, as the batch is so many times larger;
  `single+sqrt_lr` does the same to the single-task runs, whose batch is not. With `task_steps` a step has `--prompts` of one task,
  drawn at random, and there are as many times more steps as there are tasks.

All checkpoints answer the same held-out rows: new ones, `--test-sets` times 70 for each task, or those of the mixed world, 70 of each.
The table has the mean reward by task over the seeds, and the paired difference from the single-task run with its 95 % interval; the
unit is the row of a seed. Captions have a second column, with the share that is right, which is not what the reward model's score says
and does not count for all tasks. Runs that are finished are not run again, and `--parallel` of them run at a time. Figures are also written
to `<out>/results.json`, with the sampled rewards of training: how fast the forms learn.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import fmean
from typing import Any

from core.files.jsonl import read
from core.processes.explained import explained
from core.rows import read_rows, write_rows
from core.statistics import RowReward, interval_text, mean_reward, paired_difference

ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / "launch/configs"
TASKS = ("math", "counting", "choice", "grounding", "pointing", "temporal")
WORLDS = {"shapes": (TASKS, "demo", 2e-4), "all": ((*TASKS, "search", "chat"), "mixed_demo", 5e-5)}
"""Tasks, the end of the configs' names, grpo_….yaml and eval_….yaml, and the learning rate of all forms without sqrt_lr."""
FORMS = ("single", "mixed", "sqrt_lr", "task_std", "task_tokens", "length_baseline", "pcgrad", "task_steps")
SINGLE, START = "single", "sft"
SCORED, TRUTH = "chat", "exact_text"  # reward: a reward model's score; the function that says what is right
CAPTIONS = f"{SCORED}, {TRUTH}"
KINDS, ROWS_OF_A_SET = 7, 70  # math has two kinds; there are about 77 sums without an image to hold out


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("demos", type=Path, nargs="+", help="folders of demos, one for each seed")
    parser.add_argument("--forms", nargs="+", default=list(FORMS))
    parser.add_argument("--world", choices=WORLDS, default="shapes", help="all: of benchmarks.mixed_world")
    parser.add_argument("--tasks", nargs="+", choices=WORLDS["all"][0], help="default: all of the world's")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--prompts", type=int, default=6, help="for each task in a step")
    parser.add_argument("--test-sets", type=int, default=2, help="of 70 held-out rows of each task")
    parser.add_argument("--parallel", type=int, default=1, help="runs at a time")
    parser.add_argument("--out", type=Path, default=Path("runs/mixed"))
    args = parser.parse_args()
    tasks, args.configs, args.learning_rate = WORLDS[args.world]
    args.tasks = args.tasks or list(tasks)
    if unknown := set(args.tasks) - set(tasks):
        parser.error(
            f"--tasks: expected some of {', '.join(tasks)} with --world {args.world}, got {unknown.pop()}"
        )
    out = args.out.resolve()
    with ThreadPoolExecutor(args.parallel) as threads:
        demos = [demo.resolve() for demo in args.demos]
        jobs = [(seed, name) for seed in range(len(demos)) for name in runs_of(args.forms, args.tasks)]
        for seed, demo in enumerate(demos):
            _split(demo, out / str(seed), args, seed)
        list(threads.map(lambda job: _train(job[0], job[1], demos[job[0]], out, args), jobs))
        rewards = dict(
            enumerate(threads.map(lambda seed: _evaluate(seed, demos[seed], out, args), range(len(demos))))
        )
    results = compare(rewards, args.forms, args.tasks)
    learning = training_rewards([out / str(seed) for seed in range(len(demos))], args.forms, args.tasks)
    (out / "results.json").write_text(
        json.dumps({"held_out": results, "training": learning}, indent=1) + "\n"
    )
    print("\n" + table(results))
    print("\nSampled reward in training, mean over tasks and seeds, by fifths of the steps:")
    for form, means in learning.items():
        print(f"  {form}: " + " ".join(f"{mean:.3f}" for mean in means))


def runs_of(forms: Sequence[str], tasks: Sequence[str]) -> list[str]:
    """Names of a seed's runs: a form, or a form and its only task with a "-" between."""
    names: list[str] = []
    for form in forms:
        names += [f"{form}-{task}" for task in tasks] if form.startswith(SINGLE) else [form]
    return names


def _split(demo: Path, folder: Path, args: argparse.Namespace, seed: int) -> None:
    """Prompts by task, as many of each, and held-out rows."""
    if args.world == "all":
        held_out = _equal(read_rows(demo / "data" / "test.jsonl"), args.tasks)
        write_rows(held_out, folder / "test.jsonl")
    elif not (folder / "test.jsonl").exists():
        held_out = []
        for number in range(args.test_sets):
            made = folder / f"made_{number}"
            amounts = [
                f"--test-rows={KINDS * ROWS_OF_A_SET}",
                "--sft-rows=0",
                "--rl-rows=0",
                f"--seed={1000 * (number + 1) + seed}",
            ]
            _run("-m", "data_recipes.synthetic.shapes.write", made, *amounts, log=folder / "data.log")
            held_out += [row | {"id": f"{number}-{row['id']}"} for row in read_rows(made / "test.jsonl")]
        write_rows(_equal(held_out, args.tasks), folder / "test.jsonl")
    rows = _equal(read_rows(demo / "data" / "rl.jsonl"), args.tasks)
    write_rows(rows, folder / "mixed.jsonl")
    for task in args.tasks:
        write_rows((row for row in rows if row["task"] == task), folder / f"{SINGLE}-{task}.jsonl")


def _equal(rows: Sequence[Any], tasks: Sequence[str]) -> list[Any]:
    """The first rows of each task, as many as the rarest of them has, in their order."""
    by_task = {task: [row for row in rows if row["task"] == task] for task in tasks}
    if missing := [task for task, some in by_task.items() if not some]:
        raise SystemExit(
            f"no rows of task {missing[0]!r}; rows of search and chat come from benchmarks.mixed_world"
        )
    count = min(map(len, by_task.values()))
    kept = {row["id"] for some in by_task.values() for row in some[:count]}
    return [row for row in rows if row["id"] in kept]


def _train(seed: int, name: str, demo: Path, out: Path, args: argparse.Namespace) -> None:
    folder = out / str(seed)
    final = folder / name / "final"
    if final.exists():
        return
    alone = name.startswith(SINGLE)
    form, _, task = name.partition("-")
    prompts, steps = size_of(name, args.prompts, args.steps, len(args.tasks))
    settings = [
        f"model.path={demo / 'sft' / 'final'}",
        f"prompts.rows={folder / (f'{SINGLE}-{task}' if alone else 'mixed')}.jsonl",
        f"rollout.prompts_per_step={prompts}",
        f"steps={steps}",
        f"save_every={steps}",
        f"output_dir={folder / name}",
        f"seed={seed}",
        *_reward_model(demo, args),
        *settings_of(form, args.learning_rate, len(args.tasks)),
    ]
    _run(
        "grpo.py", f"--config={CONFIGS / f'grpo_{args.configs}.yaml'}", *settings, log=folder / f"{name}.log"
    )
    print(f"seed {seed}: {name} is trained", flush=True)


def _reward_model(demo: Path, args: argparse.Namespace) -> list[str]:
    path = demo / "reward_model" / "final"
    return [f"rewards.tasks.chat.0.path={path}"] if args.world == "all" else []


def size_of(name: str, prompts: int, steps: int, tasks: int) -> tuple[int, int]:
    """Prompts of a step, and steps, of a run: `prompts` of each task for each of `steps` updates with that task."""
    if name.startswith(SINGLE):
        return prompts, steps
    if "task_steps" in name.split("+"):
        return prompts, steps * tasks
    return prompts * tasks, steps


def settings_of(form: str, learning_rate: float, tasks: int) -> list[str]:
    """Settings of a form: `task_std` is an advantage, `sqrt_lr` a learning rate, the others are remedies."""
    parts = [part for part in form.split("+") if part not in (SINGLE, "mixed")]
    rate = learning_rate * (math.sqrt(tasks) if "sqrt_lr" in parts else 1)
    advantage = "task_std" if "task_std" in parts else "group_std"
    settings = [f"optimizer.learning_rate={rate:.3g}", f"advantage={advantage}"]
    remedies = [part for part in parts if part not in ("task_std", "sqrt_lr")]
    return [*settings, f"interference.remedies=[{','.join(remedies)}]"]


def _evaluate(
    seed: int, demo: Path, out: Path, args: argparse.Namespace
) -> dict[str, list[tuple[str, RowReward]]]:
    """Evaluate the checkpoints of a seed that no earlier call has evaluated; returns the rewards of all of them.

    A run on one task answers that task's rows."""
    folder = out / str(seed)
    finals = {START: demo / "sft" / "final"}
    finals |= {name: folder / name / "final" for name in runs_of(args.forms, args.tasks)}
    for path in folder.glob("eval*/eval.json"):
        for name in json.loads(path.read_text())["checkpoints"]:
            finals.pop(name, None)
    for task in ("", *args.tasks):
        some = [
            f"checkpoints.{name}={path}" for name, path in finals.items() if name.partition("-")[2] == task
        ]
        if not some:
            continue
        rows = folder / "test.jsonl"
        if task:
            own = [row for row in read_rows(rows) if row["task"] == task]
            rows = folder / f"test-{task}.jsonl"
            write_rows(own, rows)
        place = folder / f"eval_{len(list(folder.glob('eval*/eval.json')))}"
        _run("evaluate.py", f"--config={CONFIGS / f'eval_{args.configs}.yaml'}", "checkpoints=null",
             *some, f"rows={rows}", f"output_dir={place}", "samples=0",
             *_reward_model(demo, args), log=folder / f"{place.name}.log")  # fmt: skip
    return rewards_by_form([path.parent for path in folder.glob("eval*/eval.json")], seed)


def rewards_by_form(evaluations: Iterable[Path], seed: int) -> dict[str, list[tuple[str, RowReward]]]:
    """(task, reward of a row) of each form; a run on one task counts for its own, whatever else it has answered."""
    found: dict[str, list[tuple[str, RowReward]]] = {}
    for record in (record for folder in evaluations for record in read(folder / "eval_rollouts.jsonl")):
        form, _, trained_on = record["checkpoint"].partition("-")
        if trained_on in ("", record["task"]):
            row = (f"{seed}/{record['row_id']}", record["reward"])
            found.setdefault(form, []).append((record["task"], row))
            if record["task"] == SCORED:
                found[form].append((CAPTIONS, (row[0], record["components"][TRUTH])))
    return found


def compare(rewards: Any, forms: Sequence[str], tasks: Sequence[str]) -> dict[str, Any]:
    """By form and task: mean reward, its difference from the SFT model and from the single-task run, by seed and over all seeds."""

    def of(name: str, task: str, seeds: Sequence[int]) -> list[RowReward]:
        wanted = tasks if task == "all" else [task]
        return [one for seed in seeds for t, one in rewards[seed].get(name, []) if t in wanted]

    every = sorted(rewards)
    results: dict[str, Any] = {}
    for form in (START, *forms):
        results[form] = {}
        for task in (*tasks, *([CAPTIONS] if SCORED in tasks else []), "all"):
            found = of(form, task, every)
            against = {"from_sft": START, "from_single": SINGLE}
            results[form][task] = {"reward": mean_reward(found).as_json()} | {
                key: paired_difference(of(other, task, every), found).as_json()
                | {
                    "by_seed": [
                        paired_difference(of(other, task, [s]), of(form, task, [s])).mean for s in every
                    ]
                }
                for key, other in against.items()
                if other != form and (other in forms or other == START) and form != START
            }
    return results


def training_rewards(
    folders: Sequence[Path], forms: Sequence[str], tasks: Sequence[str], parts: int = 5
) -> dict[str, list[float]]:
    """By form: mean over seeds and tasks of the mean sampled reward, for each of `parts` equal parts of the steps."""
    rewards: dict[str, list[list[float]]] = {form: [[] for _ in range(parts)] for form in forms}
    for form in forms:
        for folder, task in itertools.product(folders, tasks):
            alone = form.startswith(SINGLE)
            steps = list(read(folder / (f"{form}-{task}" if alone else form) / "metrics.jsonl"))
            for part in range(parts):
                some = steps[len(steps) * part // parts : len(steps) * (part + 1) // parts]
                key = "reward/mean" if alone else f"reward/{task}"
                if found := [step[key] for step in some if key in step]:
                    rewards[form][part].append(fmean(found))
    return {form: [fmean(means) for means in by_part if means] for form, by_part in rewards.items()}


def table(results: dict[str, Any]) -> str:
    """Markdown: a row for each form, a column for each task; below the reward its difference from the single-task runs."""
    tasks = list(next(iter(results.values())))
    lines = ["| | " + " | ".join(tasks) + " |", "|---" * (len(tasks) + 1) + "|"]
    for form, by_task in results.items():
        cells = [interval_text(by_task[task]["reward"], interval=False) for task in tasks]
        lines.append(f"| {form} | " + " | ".join(cells) + " |")
        for key, words in (("from_sft", "− SFT"), ("from_single", "− single")):
            if key in by_task[tasks[0]]:
                cells = [interval_text(by_task[task][key], signed=True) for task in tasks]
                lines.append(f"| {form} {words} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _run(*arguments: str | Path, log: Path) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as file:
        status = subprocess.run(
            [sys.executable, *map(str, arguments)], cwd=ROOT, stdout=file, stderr=file, env={**os.environ}
        ).returncode
    if status:
        raise SystemExit(f"{arguments[0]} failed (exit code {status}); its output is in {log}")


if __name__ == "__main__":
    with explained():
        main()
