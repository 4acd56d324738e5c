"""Bad input, as a user meets it: the real programs end with one line that says what is wrong and where."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.rl.small_run import small_config, write_small_world

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return write_small_world(tmp_path_factory.mktemp("world"), rows=2)


def grpo(world: Path, out: Path, *overrides: str, **changes) -> str:
    """Run grpo.py on a small config that is wrong somewhere; returns what it says. It must fail, without a traceback."""
    config = small_config(world, out).model_dump(mode="json")
    for key, value in changes.items():
        config[key] = config[key] | value if isinstance(config[key], dict) else value
    out.mkdir(parents=True, exist_ok=True)
    (out / "config.yaml").write_text(yaml.safe_dump(config))
    done = subprocess.run(
        [sys.executable, "grpo.py", "--config", str(out / "config.yaml"), *overrides],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode != 0
    assert "Traceback" not in done.stderr, done.stderr[-3000:]
    return done.stderr.strip().splitlines()[-1]


def broken_rows(world: Path, out: Path, **fields) -> dict:
    row = json.loads((world / "rows.jsonl").read_text().splitlines()[1]) | fields
    if isinstance(row.get("images"), list):
        row["images"] = [str(world / i) for i in row["images"]]
    path = out / "rows.jsonl"
    out.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(row) + "\n")
    return {"rows": str(path)}


def test_missing_image_names_file_line_and_field(world, tmp_path):
    said = grpo(world, tmp_path, prompts=broken_rows(world, tmp_path, images=["nowhere.png"]))
    assert "rows.jsonl:1: field 'images[0]'" in said and "nowhere.png" in said


def test_broken_row_names_file_line_and_field(world, tmp_path):
    said = grpo(world, tmp_path, prompts=broken_rows(world, tmp_path, task=7))
    assert "rows.jsonl:1: field 'task'" in said and "7" in said


def test_unknown_config_key_names_the_nearest_one(world, tmp_path):
    said = grpo(world, tmp_path, "rollout.temprature=1.0")
    assert "rollout.temprature" in said and "rollout.temperature" in said


def test_model_path_without_weights(world, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "config.json").write_text(json.dumps({"model_type": "qwen2_5_vl"}))
    said = grpo(world, tmp_path, model={"path": str(tmp_path / "empty")})
    assert "error: " in said and str(tmp_path / "empty") in said


def test_task_without_a_reward(world, tmp_path):
    said = grpo(world, tmp_path, rewards={"tasks": {"math": ["math"]}})
    assert "digits" in said and "r0" in said


def test_a_reward_that_raises_or_hangs_costs_the_rollout_and_is_logged(world, tmp_path):
    (tmp_path / "bad.py").write_text(
        "import time\n"
        "def picky(completion, answer, **row):\n"
        "    if len(completion) % 3 == 0:\n"
        "        raise KeyError('no such thing')\n"
        "    if len(completion) % 3 == 1:\n"
        "        time.sleep(60)\n"
        "    return 0.5\n"
    )
    from rl.loop import train
    from tests.rl.small_run import rollouts

    rewards = {
        "grammar": "none",
        "tasks": {"digits": [f"{tmp_path}/bad.py:picky"]},
        "timeout_s": 1.0,
        "max_failure_rate": 1.0,
    }
    train(small_config(world, tmp_path / "run", steps=1, rewards=rewards))
    kept = rollouts(tmp_path / "run")
    failed = [r for r in kept if r["reward"] is None]
    assert failed and len(kept) == 8
    for record in kept:
        kind = len(record["completion"]) % 3
        assert (record["reward"] is None) == (kind in (0, 1))
        assert kind == 2 or ("no such thing" if kind == 0 else "time") in record["reason"]
