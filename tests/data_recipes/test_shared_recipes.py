"""The demo recipes: real images, a real video and real annotations, made into rows and trained on."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml

from core.rows import Row, read_rows
from data_recipes.files.output import text_of
from vlm.tiny import build_tiny_vlm

REPOSITORY = Path(__file__).parents[2]
CONFIGS = REPOSITORY / "launch" / "configs"
REWARDS = {
    "math": "math",
    "choice": "choice",
    "counting": "counting",
    "grounding": "giou",
    "pointing": "point_in_box",
    "temporal": "temporal_iou",
}


def call(*arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=REPOSITORY, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def make(name: str, out: Path, shared_data: Path, *overrides: str) -> list[Row]:
    """Run a demo recipe from wherever the shared data lie."""
    recipe = (CONFIGS / name).read_text().replace("../shared/data", str(shared_data))
    file = out.parent / name
    file.write_text(recipe)
    call("-m", "data_recipes", "run", file, f"output_dir={out}", *overrides)
    return read_rows(out)


@pytest.fixture(scope="module")
def made(shared_data, tmp_path_factory):
    """(folder, SFT rows, RL rows): every group of the RL set has its share, so that a short run meets all of them."""
    folder = tmp_path_factory.mktemp("recipes")
    sft = make("recipe_sft_shared.yaml", folder / "sft_rows", shared_data)
    even = ("mixture.temperature=1e9", "mixture.rows=24")
    rl = make("recipe_rlvr_shared.yaml", folder / "rl_rows", shared_data, *even)
    build_tiny_vlm(
        folder / "model", [text_of(row["prompt"]) + text_of(row["trace"] or {}) for row in sft], layers=2
    )
    return folder, sft, rl


def test_human_solutions_become_verified_traces(made):
    _, sft, _ = made
    assert len(sft) > 90
    assert all(set(row["trace"]) == {"summary", "caption", "reasoning", "conclusion"} for row in sft)
    assert {row["task"] for row in sft} == {"math", "choice"}


def test_the_rl_set_mixes_real_images_video_and_text(made):
    _, _, rl = made
    tasks = Counter(row["task"] for row in rl)
    assert set(tasks) == set(REWARDS) and len(rl) == 24
    assert any(row["videos"] for row in rl) and any(not row["images"] and not row["videos"] for row in rl)
    assert {row["source"]["name"] for row in rl} == {
        "tabmwp",
        "gsm8k",
        "bccd",
        "raccoon",
        "screenagent",
        "activitynet",
    }


@pytest.mark.slow
def test_sft_trains_on_the_traces(made, tmp_path):
    folder, _, _ = made
    config = {
        "model": {"path": str(folder / "model"), "max_pixels": 50_000},
        "data": {"rows": str(folder / "sft_rows")},
        "optimizer": {"learning_rate": 3e-3},
        "steps": 4,
        "rows_per_step": 4,
        "output_dir": str(tmp_path / "out"),
        "log_every": 1,
    }
    (tmp_path / "sft.yaml").write_text(yaml.safe_dump(config))
    call("-m", "accelerate.commands.launch", "--num_processes=1", "--num_machines=1", "--mixed_precision=no",
         "--dynamo_backend=no", "--cpu", "sft.py", "--config", tmp_path / "sft.yaml")  # fmt: skip
    steps = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    losses = [step["loss"] for step in steps if "loss" in step]
    assert losses[-1] < losses[0]


@pytest.mark.slow
def test_grpo_trains_on_images_video_and_text_through_vllm(made, tmp_path):
    """Random text earns nothing by the real rewards, so a small one for digits gives the groups their signal."""
    folder, _, rl = made
    digits = {
        "function": f"{REPOSITORY}/tests/rl/small_run.py:share_of_digits",
        "weight": 0.1,
        "isolate": False,
    }
    config = {
        "model": {"path": str(folder / "model"), "max_pixels": 50_000, "video_max_pixels": 7_000},
        "prompts": {"rows": str(folder / "rl_rows"), "max_frames": 16},
        "rewards": {"grammar": "none", "tasks": {t: [{"function": r}, digits] for t, r in REWARDS.items()}},
        "engine": {"kind": "vllm", "max_model_len": 2048},
        "rollout": {"prompts_per_step": 8, "completions_per_prompt": 4, "max_tokens": 16},
        "optimizer": {"learning_rate": 1e-3},
        "steps": 3,
        "save_every": 3,
        "output_dir": str(tmp_path / "out"),
    }
    (tmp_path / "grpo.yaml").write_text(yaml.safe_dump(config))
    call("-m", "accelerate.commands.launch", "--num_processes=1", "--num_machines=1", "--mixed_precision=no",
         "--dynamo_backend=no", "--cpu", "grpo.py", "--config", tmp_path / "grpo.yaml")  # fmt: skip
    steps = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    assert [step["policy_version"] for step in steps] == [1, 2, 3]  # every step had a gradient
    assert all(step["logprob_gap/max"] < 5e-2 and step["grad_norm"] > 0 for step in steps)
    seen = [json.loads(line) for line in (tmp_path / "out" / "rollouts.jsonl").read_text().splitlines()]
    assert {record["row_id"] for record in seen} == {row["id"] for row in rl}  # each once: 3 steps of 8
    assert any(record["videos"] for record in seen)
