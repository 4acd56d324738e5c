"""The configs of all programs speak one language, and every YAML file in the repository loads."""

from __future__ import annotations

import ast
import importlib
import subprocess
import typing
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from core.config import Section, read_config
from core.config.fields import all_fields, members, models, type_name
from data_recipes.config import Recipe
from evaluation.arena.config import ArenaConfig
from evaluation.benchmarks.benchmark import Benchmark
from evaluation.config import EvaluationConfig
from inference.ask import AskConfig
from inference.calibrate import CalibrationConfig
from inference.config import InferenceConfig
from inference.serving.config import ServeConfig
from pretraining.config import PretrainConfig
from reward_models.config import RewardModelConfig
from rewards.config import RewardsConfig
from rewards.serving.service import ServiceConfig
from rl.config import GRPOConfig
from sft.config import SFTConfig

REPOSITORY = Path(__file__).parents[1]
ROOMS = (
    "core",
    "vlm",
    "engines",
    "environments",
    "rewards",
    "data_recipes",
    "sft",
    "pretraining",
    "reward_models",
    "rl",
    "inference",
    "evaluation",
    "launch",
)
PROGRAMS = (
    SFTConfig,
    PretrainConfig,
    RewardModelConfig,
    GRPOConfig,
    EvaluationConfig,
    Benchmark,
    ArenaConfig,
    InferenceConfig,
    CalibrationConfig,
    AskConfig,
    ServeConfig,
    RewardsConfig,
    ServiceConfig,
    Recipe,
)  # fmt: skip

WORDS = {
    "optimizer": {"optim", "optimiser", "adam"},
    "learning_rate": {"lr", "learn_rate"},
    "warmup_steps": {"warmup", "warm_up_steps", "num_warmup_steps"},
    "betas": {"beta1", "beta2", "adam_beta1"},
    "max_grad_norm": {"grad_clip", "clip_grad_norm", "gradient_clipping"},
    "output_dir": {"out", "out_dir", "output_path", "output_folder", "run_dir", "save_dir"},
    "steps": {"max_steps", "num_steps", "total_steps"},
    "epochs": {"num_epochs", "num_train_epochs"},
    "save_every": {"save_steps", "save_interval", "checkpoint_every"},
    "keep_checkpoints": {"save_total_limit", "keep_last", "max_checkpoints"},
    "log_every": {"logging_steps", "log_steps", "log_interval"},
    "eval_every": {"eval_steps", "eval_interval"},
    "seed": {"random_seed", "rng_seed", "data_seed"},
    "rows": {"rows_file", "row_file", "data_path", "train_file"},
    "limit": {"max_rows", "num_rows", "max_samples", "row_limit"},
    "max_tokens": {"max_new_tokens", "max_length", "max_completion_length", "max_completion_tokens"},
    "max_tokens_per_microbatch": {"microbatch_tokens", "tokens_per_microbatch", "max_tokens_per_batch"},
    "workers": {"num_workers", "processes", "num_proc"},
    "timeout_s": {"timeout", "time_limit", "time_limit_s"},
    "max_frames": {"num_frames", "frames", "max_video_frames"},
}
"""The one name of a thing, and names that it must not have anywhere."""

PUBLISHED = {"inference.serving.chat.ChatRequest"}
"""Bodies of published protocols, which have their own names."""

TYPES = {
    "output_dir": {str, Path},
    "seed": {int},
    "limit": {int, type(None)},
    "save_every": {int, type(None)},
    "keep_checkpoints": {int, type(None)},
    "log_every": {int},
    "eval_every": {int},
    "max_tokens": {int, type(None)},
    "max_frames": {int},
    "timeout_s": {float, type(None)},
    "dtype": {str},
}
"""What values a name has, wherever a field has it."""


def sections() -> list[type[Section]]:
    """Those of all modules, whether or not another test has imported them."""
    for path in (file for room in ROOMS for file in (REPOSITORY / room).rglob("*.py")):
        if "Section" in path.read_text():
            importlib.import_module(".".join(path.relative_to(REPOSITORY).with_suffix("").parts))
    found, waiting = [], [Section]
    while waiting:
        below = waiting.pop().__subclasses__()
        found += [model for model in below if model.__module__.partition(".")[0] in ROOMS]
        waiting += below
    return sorted(set(found), key=lambda model: (model.__module__, model.__name__))


def name(model: type[BaseModel]) -> str:
    return f"{model.__module__}.{model.__name__}"


def test_every_config_model_is_a_section():
    assert {"GRPOConfig", "RewardsConfig", "ModelConfig", "Source"} <= {m.__name__ for m in sections()}
    for path in (file for room in ROOMS for file in (REPOSITORY / room).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and any(ast.unparse(b) == "BaseModel" for b in node.bases):
                where = str(path.relative_to(REPOSITORY))
                assert where == "core/config/section.py", f"{where}: {node.name}"


@pytest.mark.parametrize("model", sections(), ids=name)
def test_every_field_has_a_docstring_and_the_common_name(model):
    forbidden = {old: new for new, others in WORDS.items() for old in others}
    for field, info in model.model_fields.items():
        assert info.description, f"{field}: expected a docstring under the field"
        if name(model) not in PUBLISHED:
            assert field not in forbidden, f"{field}: expected {forbidden[field]}, as in the other configs"


@pytest.mark.parametrize("model", PROGRAMS, ids=name)
def test_equal_names_hold_equal_things(model):
    for field in all_fields(model):
        last = field.path.rpartition(".")[2]
        if last in TYPES:
            kinds = set(map(plain, members(field.annotation)))
            assert kinds <= TYPES[last], f"{field.path}: {type_name(field.annotation)}"
        if last in {"output", "out"}:  # how rows are written; a folder is called output_dir
            assert models(field.annotation), field.path


def plain(kind: object) -> object:
    return type(typing.get_args(kind)[0]) if typing.get_origin(kind) is typing.Literal else kind


@pytest.mark.parametrize("model", [m for m in sections() if m.RENAMED], ids=name)
def test_a_renamed_field_is_gone_and_the_new_one_is_there(model):
    here = {field.path for field in all_fields(model)}
    for old, new in model.RENAMED.items():
        assert old not in here or models(model.model_fields[old].annotation), old
        assert new.partition(" ")[0] in here, new


def tracked(*patterns: str) -> list[Path]:
    listed = subprocess.run(["git", "ls-files", *patterns], cwd=REPOSITORY, capture_output=True, text=True)
    files = listed.stdout.splitlines() or [
        str(file.relative_to(REPOSITORY))
        for pattern in patterns
        for file in REPOSITORY.glob(f"[!.]*/**/{pattern}")
    ]
    return [REPOSITORY / file for file in files]


@pytest.mark.parametrize("path", tracked("*.yaml", "*.yml"), ids=lambda path: path.name)
def test_every_yaml_file_loads_with_the_class_that_it_names(path):
    first = path.read_text().splitlines()[0]
    if path.parent.name == "accelerate":  # read by accelerate: tests/launch/test_launch.py
        assert isinstance(yaml.safe_load(path.read_text()), dict)
        return
    assert first.startswith("# config: "), (
        f"{path}: expected '# config: module:Class' in line 1, got {first!r}"
    )
    module, _, class_name = first.removeprefix("# config: ").partition(":")
    assert read_config(getattr(importlib.import_module(module), class_name), path)


def test_there_are_yaml_files():
    assert len(tracked("*.yaml")) >= 8
