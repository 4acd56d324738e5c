"""The four stages in order, in their tiny form: each from the last one's result, gone on with, and drawn."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from core.config import read_config
from launch import stages
from pretraining.config import PretrainConfig
from pretraining.loop import train

TOKENS = {name: dict.fromkeys(kinds, 700) for name, kinds in stages.TINY_TOKENS.items()}
SMALL = ("data.tokens_per_step=700", "data.window=400", "data.eval_limit=2", "optimizer.warmup_steps=1", "log_every=1",
         "stage4.data.window=1024", "stage4.data.tokens_per_step=1400")  # fmt: skip


def start(arguments: Sequence[str]) -> None:
    """As pretrain.py starts with these arguments, in this process."""
    train(read_config(PretrainConfig, arguments[0].removeprefix("--config="), arguments[1:]))


@pytest.fixture(scope="module")
def four(tmp_path_factory) -> tuple[Path, list[stages.Stage]]:
    out = tmp_path_factory.mktemp("stages")
    model, made = stages.tiny(out, None, rows=24, held_out=2, tokens=TOKENS)
    made = [stages.changed(stage, number, SMALL) for number, stage in enumerate(made, 1)]
    stages.run_stages(made, model, start)
    return out, made


@pytest.mark.slow
def test_each_stage_trains_its_parts_from_the_last_ones_result(four):
    out, made = four
    configs = [json.loads((stage.output / "identity.json").read_text())["config"] for stage in made]
    assert [c["model"]["path"] for c in configs] == [
        str(out / "untrained"),
        *(str(s.result) for s in made[:-1]),
    ]
    assert [c["model"]["trainable"] for c in configs] == ["projector", "vision+projector", "all", "all"]
    assert [c["data"]["window"] for c in configs] == [400, 400, 400, 1024]
    assert [list(c["data"]["sources"]) for c in configs] == [list(kinds) for kinds in TOKENS.values()]


@pytest.mark.slow
def test_finished_stages_are_left_as_they_are(four):
    out, made = four
    before = [(stage.output / "metrics.jsonl").read_bytes() for stage in made]
    stages.run_stages(made, str(out / "untrained"), start)
    assert [(stage.output / "metrics.jsonl").read_bytes() for stage in made] == before


@pytest.mark.slow
def test_the_losses_are_drawn_by_stage_and_kind(four):
    out, made = four
    table = stages.report(out, made)
    last = json.loads((out / "stages.json").read_text())
    assert {name: set(losses) for name, losses in last.items()} == {n: set(k) for n, k in TOKENS.items()}
    assert all(name in table for name in stages.NAMES)
    page = (out / "stages.html").read_text()
    assert page.count("<svg") == 4
    assert f"{last['stage4_long_context']['long']:.4f}" in page


@pytest.mark.slow
def test_one_stage_with_the_same_tokens_can_be_compared(four):
    one = stages.in_one_stage(four[1], four[0] / "one")
    data = stages.config_of(one)["data"]
    sources, steps = data["sources"], [1, 2, 4, 2]
    assert data["tokens_per_step"] == math.ceil(7700 / sum(steps))
    assert {kind: s["tokens"] for kind, s in sources.items()} == {
        "captions": 2100, "interleaved": 2100, "text": 1400, "instruction": 1400, "long": 700}  # fmt: skip


def test_a_setting_goes_to_its_stage_or_to_all():
    _, made = stages.large(Path("out"), "model")
    given = ["seed=3", "stage2.data.window=64", "stage20.seed=1"]
    changed = [stages.changed(stage, number, given) for number, stage in enumerate(made, 1)]
    assert [stage.settings for stage in changed] == [
        ("seed=3",),
        ("seed=3", "data.window=64"),
        ("seed=3",),
        ("seed=3",),
    ]


def test_stages_follow_the_report():
    """MiMo-VL (arXiv 2506.03569), Table 1."""
    configs = [stages.config_of(stage) for stage in stages.large(Path("out"), None)[1]]
    assert [c["optimizer"]["learning_rate"] for c in configs] == [1e-3, 1e-4, 1e-5, 2.5e-5]
    assert [c["data"]["window"] for c in configs] == [8192, 8192, 8192, 32768]
    assert [c["model"]["trainable"] for c in configs] == ["projector", "vision+projector", "all", "all"]
    paths = [read_config(PretrainConfig, stages.CONFIGS / f"{name}.yaml") for name in stages.NAMES]
    for before, after in pairwise(paths):
        assert after.model.path == f"{before.output_dir}/final"


def test_a_failed_stage_ends_the_run(tmp_path):
    with pytest.raises(SystemExit, match="exit code 3"):
        stages.run([sys.executable, "-c", "raise SystemExit(3)"])
    stage = stages.Stage("one", tmp_path / "c.yaml", tmp_path / "one")
    with pytest.raises(SystemExit, match="expected the stage's result"):
        stages.run_stages([stage], "model", lambda arguments: None)
