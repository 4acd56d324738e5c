"""The demo's phases fit together: all of them run, shortened, and leave what the README promises."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from launch import demo
from launch.demo import run_demo

SHORT = {
    "data": ["--sft-rows=64", "--rl-rows=14", "--test-rows=14"],
    "sft": ["steps=3", "optimizer.warmup_steps=1", "log_every=1"],
    "grpo": [
        "steps=2",
        "rollout.prompts_per_step=2",
        "rollout.completions_per_prompt=2",
        "rollout.max_tokens=16",
    ],
    "eval": ["max_tokens=16"],
}


@pytest.mark.slow
def test_demo_runs_from_nothing_to_a_report(tmp_path):
    pytest.importorskip("vllm")
    out = tmp_path / "demo"
    summary = run_demo(out, seed=3, more=SHORT)
    assert summary == json.loads((out / "summary.json").read_text())
    assert set(summary["overall"]) == set(summary["eval"]) == {"untrained", "sft", "rl"}
    for tasks in summary["eval"].values():
        assert set(tasks) == {"math", "counting", "choice", "grounding", "pointing", "temporal"}
        assert sum(result["n"] for result in tasks.values()) == 14
        assert all(low <= r["mean"] <= high for r in tasks.values() for low, high in [r["ci95"]])
    assert summary["grpo"]["steps"] == 2
    assert set(summary["grpo"]["seconds"]) == {"generate", "reward", "update", "sync"}
    assert len((out / "metrics.jsonl").read_text().splitlines()) == 2
    assert len((out / "rollouts.jsonl").read_text().splitlines()) == 2 * 2 * 2
    page = (out / "report.html").read_text()
    assert "<html" in page and "grounding" in page


def test_another_familys_demo_has_its_model_and_cells_of_one_visual_token(tmp_path, monkeypatch):
    """What the commands of the first two phases make; the others, which take the model as it is, are not run."""
    run = demo.run

    def first_two(*arguments):
        if "sft.py" in arguments:
            raise StopIteration
        run(*arguments)

    monkeypatch.setattr(demo, "run", first_two)
    with pytest.raises(StopIteration):
        run_demo(tmp_path / "demo", more={"data": SHORT["data"]}, family="qwen3_vl")
    model = json.loads((tmp_path / "demo" / "untrained" / "config.json").read_text())
    assert model["model_type"] == "qwen3_vl"
    row = json.loads((tmp_path / "demo" / "data" / "rl.jsonl").read_text().splitlines()[0])
    with Image.open(tmp_path / "demo" / "data" / row["images"][0]) as image:
        assert image.size == (3 * 32, 2 * 32)


def test_a_folder_that_is_no_demo_is_not_replaced(tmp_path):
    (tmp_path / "thesis.tex").write_text("two years of work")
    with pytest.raises(SystemExit, match="not from an earlier demo"):
        run_demo(tmp_path)
    assert (tmp_path / "thesis.tex").exists()
