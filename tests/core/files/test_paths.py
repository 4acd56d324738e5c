"""`~` in every path of every config is the home folder."""

from __future__ import annotations

import pytest

from core.config import read_config
from data_recipes.config import Output, Source
from evaluation.config import EvaluationConfig
from inference.config import InferenceConfig
from rl.config import GRPOConfig
from sft.config import SFTConfig

PATHS = {
    SFTConfig: ["model.path", "data.rows", "data.eval_rows", "output_dir", "resume", "deepspeed"],
    GRPOConfig: ["model.path", "prompts.rows", "output_dir", "resume"],
    EvaluationConfig: ["checkpoints.a", "rows", "output_dir"],
    InferenceConfig: ["model.path", "rows", "output_dir"],
}


@pytest.mark.parametrize(("model", "paths"), PATHS.items())
def test_in_configs(model, paths, monkeypatch):
    monkeypatch.setenv("HOME", "/home/ann")
    others = ["steps=1"] if model is GRPOConfig else []
    if model is not SFTConfig:
        others.append("rewards.tasks.math=math")
    if model is InferenceConfig:
        others.append("methods=[greedy]")
    config = read_config(model, None, [f"{path}=~/here" for path in paths] + others)
    for path in paths:
        value = config
        for name in path.split("."):
            value = value[name] if isinstance(value, dict) else getattr(value, name)
        assert value == "/home/ann/here", path


def test_in_recipes(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ann")
    source = Source(name="a", format="sharegpt", path="~/a.json", options={"dataset_info": "~/info.json"})
    assert str(source.path) == "/home/ann/a.json"
    assert str(source.typed_options.dataset_info) == "/home/ann/info.json"
    assert str(Output(tokenizer="~/tok").tokenizer) == "/home/ann/tok"
