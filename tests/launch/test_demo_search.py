"""The search demo's phases fit together: all of them run, shortened, and leave what it prints and reports."""

from __future__ import annotations

import json
import runpy
import sys
import threading

import pytest
import yaml

from launch import demo, demo_phases, demo_search
from launch.demo_phases import CONFIGS
from launch.demo_search import run_search_demo

SHORT = {
    "data": ["sources.0.options.rows=6"],
    "sft": ["steps=2", "rows_per_step=4", "optimizer.warmup_steps=1", "eval_every=1", "log_every=1"],
    "grpo": ["steps=2", "rollout.prompts_per_step=2", "rollout.completions_per_prompt=2", "rollout.max_tokens=12", "engine.kind=transformers", "save_every=2"],
    "eval": ["turn_budgets=[1,3]", "max_tokens=12", "attention_maps=1", "engine.kind=transformers"],
}  # fmt: skip


@pytest.fixture
def in_this_process(monkeypatch):
    """The demo's programs run here, one at a time and without a launcher: starting processes would take most of the test's time."""
    one_at_a_time = threading.Lock()

    def run(*arguments):
        program, *rest = map(str, arguments)
        with one_at_a_time, monkeypatch.context() as patch:
            if program == "-m":
                program, *rest = rest
                patch.setattr(sys, "argv", [program, *rest])
                runpy.run_module(program, run_name="__main__", alter_sys=True)
            else:
                patch.setattr(sys, "argv", [program, *rest])
                runpy.run_path(str(demo_phases.ROOT / program), run_name="__main__")

    monkeypatch.setattr(demo_phases, "run", run)
    monkeypatch.setattr(demo_search, "run", run)
    monkeypatch.setattr(demo_search, "LAUNCH", [])


@pytest.mark.slow
@pytest.mark.usefixtures("in_this_process")
def test_the_search_demo_runs_from_recipes_to_a_report_with_zoom_chains(tmp_path):
    out = tmp_path / "search"
    summary = run_search_demo(out, seed=3, more=SHORT)
    assert summary == json.loads((out / "summary.json").read_text())
    assert set(summary["overall"]) == {"single", "sft", "rl"} and summary["grpo"]["steps"] == 2
    evaluation = json.loads((out / "eval" / "eval.json").read_text())
    assert set(evaluation["episodes"]["rl"]["rows"]["by_budget"]) == {"1", "3"}
    rows = {
        name: [json.loads(line) for file in (out / "data" / name).glob("*.jsonl") if file.name.startswith("rows-") for line in file.open()]
        for name in ("rows_1", "rows_2", "held_out_1", "held_out_2", "rl", "test")
    }  # fmt: skip
    assert {name: len(some) for name, some in rows.items()} == {
        "rows_1": 12, "held_out_1": 12, "rows_2": 18, "held_out_2": 18, "rl": 6, "test": 6,
    }  # fmt: skip
    config = json.loads((out / "untrained" / "config.json").read_text())
    assert config["text_config"]["rope_parameters"]["rope_theta"] == demo_search.ROPE_THETA
    ids = [row["id"] for some in rows.values() for row in some]
    assert len(set(ids)) == len(ids)
    dialogues = [row for row in rows["rows_2"] if row["id"].startswith("dialogues")]
    assert len(dialogues) == 6 and {len(row["images"]) for row in dialogues} <= {2, 3, 4, 5, 6}
    assert all(row["trace"] is None for name in ("rl", "test") for row in rows[name])
    page = (out / "report.html").read_text()
    assert page.count('class="group chain"') == 3 and 'class="heat"' in page
    assert "Episodes by budget of turns" in page


def test_all_phases_see_the_same_scenes_through_the_same_pixel_limit():
    files = {file.name: yaml.safe_load(file.read_text()) for file in CONFIGS.glob("*search*_demo*.yaml")}
    sources = [source["options"] for config in files.values() for source in config.get("sources", [])]
    of_a_scene = {"kinds", "width", "height", "max_pixels", "seen_px", "signs", "grid", "sign_px", "close", "asked", "colours", "shapes", "alike", "roughness", "difficulty"}  # fmt: skip
    assert len(files) == 7 and len(sources) == 6
    assert all(
        {name: one[name] for name in of_a_scene} == {name: sources[0][name] for name in of_a_scene}
        for one in sources
    )
    limits = {name: config["model"]["max_pixels"] for name, config in files.items() if "model" in config}
    assert len(limits) == 4 and set(limits.values()) == {sources[0]["max_pixels"]}


def test_the_search_world_has_one_family(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["demo", "--world", "search", "--family", "qwen2_5_vl"])
    with pytest.raises(SystemExit):
        demo.main()
    assert "--family: the pixel limits of --world search are those of qwen3_vl" in capsys.readouterr().err
