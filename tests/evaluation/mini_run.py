"""A miniature run folder with real images, a real video and the numbers of a plausible run, for tests of the report."""

from __future__ import annotations

import json
import math
import random
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageDraw

from evaluation.metrics import ScoredAnswer, by_task, differences, summarise

HOSTILE = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
STEPS, GROUP = 30, 4
GOLD_BOX, MODEL_BOX = [28, 28, 56, 56], [34, 22, 70, 58]
SIZE = (112, 84)  # width, height of the images
POINT = (75.0, 40.0)
SPAN, MODEL_SPAN, VIDEO_SECONDS = (2.0, 4.0), (1.0, 4.0), 6
TASKS = ("grounding", "math", "pointing", "temporal")


def draw_image(path: Path, seed: int) -> None:
    rng = random.Random(seed)
    image = Image.new("RGB", SIZE, "white")
    pen = ImageDraw.Draw(image)
    for column in range(4):
        for row in range(3):
            if (column, row) == (1, 1) or rng.random() < 0.4:
                colour = rng.choice(["red", "blue", "green", "orange", "purple"])
                corner = (column * 28 + 4, row * 28 + 4, column * 28 + 23, row * 28 + 23)
                getattr(pen, rng.choice(["ellipse", "rectangle"]))(corner, fill=colour)
    image.save(path)


def write_video(path: Path) -> None:
    """Six seconds of 96 x 72 at 4 frames a second: a disc shows from second 2 to second 4."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=4)
        stream.width, stream.height, stream.pix_fmt = 96, 72, "yuv420p"
        stream.time_base = Fraction(1, 4)
        for i in range(VIDEO_SECONDS * 4):
            image = Image.new("RGB", (96, 72), "white")
            if SPAN[0] <= i / 4 < SPAN[1]:
                ImageDraw.Draw(image).ellipse((20, 10, 70, 60), fill="red")
            for packet in stream.encode(av.VideoFrame.from_ndarray(np.asarray(image), format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def stages(summary: str, caption: str, reasoning: str, conclusion: str) -> str:
    return f"<SUMMARY>{summary}</SUMMARY><CAPTION>{caption}</CAPTION><REASONING>{reasoning}</REASONING><CONCLUSION>{conclusion}</CONCLUSION>"


def record(task: str, row: int, *, right: bool, broken: bool = False) -> dict:
    """One answer to row `row` of a task: its right one, or a typical wrong one."""
    questions = {
        "grounding": "Give the box of the red disc.",
        "math": "How many red discs are there, times 3?",
        "pointing": "Point at the red disc.",
        "temporal": "When is the red disc seen?",
    }
    answers = {
        "grounding": {"boxes": [GOLD_BOX], "frame": "pixel"},
        "math": {"value": "6"},
        "pointing": {"box": GOLD_BOX, "frame": "pixel"},
        "temporal": {"spans": [list(SPAN)]},
    }
    conclusions = {
        "grounding": (str(GOLD_BOX), str(MODEL_BOX), 0.72),
        "math": ("\\boxed{6}", "\\boxed{2}", 0.0),
        "pointing": ("(42, 42)", f"({POINT[0]:g}, {POINT[1]:g})", 0.0),
        "temporal": ("[00:02,00:04]", "[00:01,00:04]", 2 / 3),
    }
    good, bad, bad_reward = conclusions[task]
    caption = HOSTILE if task == "math" else "a1 red disc, b2 blue square, c3 nothing"
    text = stages("find it.", caption, "it is at b2 & nowhere else, since 1 < 2.", good if right else bad)
    reward = 1.0 if right else bad_reward
    return {
        "row_id": f"{task}-{row}",
        "task": task,
        "prompt": questions[task],
        "images": [] if task == "temporal" else [f"media/{row % 3}.png"],
        "videos": ["media/clip.mp4"] if task == "temporal" else [],
        "answer": answers[task],
        "completion": "I think " + HOSTILE if broken else text,
        "reward": 0.0 if broken else reward,
        "components": {"giou" if task == "grounding" else task: 0.0 if broken else reward},
        "in_grammar": not broken,
        "finish": "length" if broken else "stop",
        "tokens": 64 if broken else 41,
        "reason": "missing:SUMMARY" if broken else None,
    }


def make_run_folder(folder: Path, *, rows: int = 40) -> Path:
    """summary.json, metrics.jsonl, rollouts.jsonl, eval.json, eval_rollouts.jsonl, sft/metrics.jsonl, data_card.json."""
    rng = random.Random(5)
    (folder / "media").mkdir(parents=True)
    for seed in range(3):
        draw_image(folder / f"media/{seed}.png", seed)
    write_video(folder / "media/clip.mp4")

    metrics, rollouts = [], []
    for step in range(STEPS):
        skill = 0.3 + 0.6 * step / STEPS
        by: dict[str, list[float]] = {}
        for task in TASKS:
            for row in range(3):
                group = [
                    record(task, 10 * step + row, right=rng.random() < skill, broken=rng.random() < 0.08)
                    for _ in range(GROUP)
                ]
                rewards = np.array([one["reward"] for one in group])
                spread = rewards.std() or 1.0
                for one in group:
                    one |= {
                        "step": step,
                        "policy_version": step,
                        "advantage": float((one["reward"] - rewards.mean()) / spread),
                    }
                rollouts += group
                by.setdefault(task, []).extend(rewards)
        metrics.append(
            {
                "step": step,
                "reward/mean": float(np.mean([r for rs in by.values() for r in rs])),
                **{f"reward/{task}": float(np.mean(rs)) for task, rs in by.items()},
                **{
                    f"length/{task}": 40 + 5 * i + rng.random() * 6 - step / 6 for i, task in enumerate(TASKS)
                },
                "groups/zero_signal": min(1.0, 0.1 + 0.02 * step + 0.1 * rng.random()),
                "logprob_gap/mean": 10 ** rng.uniform(-5.8, -5),
                "logprob_gap/max": 10 ** rng.uniform(-4.5, -2.4),
                "in_grammar/mean": 0.92,
                "entropy": 0.8 - 0.02 * step,
                "grad_norm": math.exp(rng.gauss(0, 0.3)),
                "seconds/generate": (9.0 if step == 0 else 1.4) + 0.3 * rng.random(),
                "seconds/reward": 0.08,
                "seconds/update": 1.2 + 0.2 * rng.random(),
                "seconds/sync": 0.1,
                "seconds/rest": 0.05,
                "tokens_per_second": 1500 + 300 * rng.random(),
            }
        )
    _write_lines(folder / "metrics.jsonl", metrics)
    _write_lines(folder / "rollouts.jsonl", rollouts)

    answers: dict[str, list[ScoredAnswer]] = {}
    eval_rollouts = []
    for name, skill in (("untrained", 0.0), ("sft", 0.5), ("rl", 0.9)):
        for task in TASKS:
            for row in range(rows):
                one = record(task, row, right=rng.random() < skill, broken=name == "untrained")
                eval_rollouts.append({"checkpoint": name, "mode": "greedy", **one})
                answers.setdefault(name, []).append(
                    ScoredAnswer(one["row_id"], task, one["reward"], one["in_grammar"], one["tokens"])
                )
    summaries = {
        name: {
            "overall": summarise(scored),
            "tasks": {task: summarise(part) for task, part in by_task(scored).items()},
        }
        for name, scored in answers.items()
    }
    evaluation = {
        "settings": {"max_tokens": 96, "samples": 4},
        "checkpoints": {
            name: {"path": f"{name}/", "greedy": one, "sampled": one} for name, one in summaries.items()
        },
        "differences": differences(answers),
    }
    (folder / "eval.json").write_text(json.dumps(evaluation))
    _write_lines(folder / "eval_rollouts.jsonl", eval_rollouts)
    (folder / "summary.json").write_text(
        json.dumps(
            {
                "eval": {name: one["tasks"] for name, one in summaries.items()},
                "overall": {name: one["overall"]["mean"] for name, one in summaries.items()},
                "grpo": {"steps": STEPS, "mean_logprob_gap": 3e-6, "max_logprob_gap": 3e-3, "seconds": {"generate": 51.0, "reward": 2.4, "update": 39.0, "sync": 3.0}},
                "seconds_total": 612.0,
            }
        )
    )  # fmt: skip
    (folder / "sft").mkdir()
    _write_lines(
        folder / "sft/metrics.jsonl",
        [
            {"step": s, "loss": 4 * math.exp(-s / 300) + 0.1, **{f"loss/{stage}": 3 * math.exp(-s / (100 * (i + 1))) + 0.02 for i, stage in enumerate(("SUMMARY", "CAPTION", "REASONING", "CONCLUSION"))}}
            for s in range(0, 1500, 10)
        ],
    )  # fmt: skip
    card = {"text": "Traces of mixed quality: some teachers have a bad habit.", "seed": 0, "habits": {"grounding": {"habit": "gives the box in a 0-1000 frame", "share": 0.6}, "math": {"habit": "forgets to multiply", "share": 0.6}}}  # fmt: skip
    (folder / "data_card.json").write_text(json.dumps(card))
    return folder


def _write_lines(file: Path, records: list[dict]) -> None:
    file.write_text("".join(json.dumps(one) + "\n" for one in records))
