"""Launch scripts and configs: every YAML loads with its class, every script resolves its run without a GPU."""

from __future__ import annotations

import importlib
import json
import os
import socket
import subprocess
from pathlib import Path

import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from pydantic import BaseModel

from core.config import read_config, read_yaml
from core.training.precision import Launch, deepspeed_settings
from launch import plan

LAUNCH = Path(__file__).parents[2] / "launch"
CONFIGS = sorted(LAUNCH.glob("configs/*.yaml"))
# One for each program of training; configs of other families and recipes refer to them for what they leave out.
EXPLAINED = [LAUNCH / f"configs/{program}_qwen2_5_vl_7b.yaml" for program in ("sft", "grpo", "reward_model")]
EXPLAINED.append(LAUNCH / "configs/stage1_projector.yaml")
SCRIPTS = sorted(path for path in LAUNCH.glob("*.sh") if path.name != "common.sh")


def config_class(path: Path) -> type[BaseModel]:
    """The class named in the first line: `# config: module:Class`."""
    first = path.read_text().splitlines()[0]
    assert first.startswith("# config: "), (
        f"{path.name}: expected '# config: module:Class' in line 1, got {first!r}"
    )
    module, _, name = first.removeprefix("# config: ").partition(":")
    return getattr(importlib.import_module(module), name)


def name(path: Path) -> str:
    return path.name


@pytest.mark.parametrize("path", CONFIGS, ids=name)
def test_every_config_loads_with_its_class_and_names_its_command(path):
    assert read_config(config_class(path), path)
    head = path.read_text().split("\n\n")[0]
    assert any(command in head for command in ("bash launch/", "accelerate launch", "python "))


PLANS = dict(plan.PLANS.values())


@pytest.mark.parametrize("path", [path for path in CONFIGS if config_class(path) in PLANS], ids=name)
def test_every_training_config_has_a_plan_on_any_machine(path):
    """Without its model, its rows, its teacher and its reward service."""
    config = config_class(path)
    assert not PLANS[config](read_config(config, path), 8).wrong


@pytest.mark.parametrize("path", EXPLAINED, ids=name)
def test_a_reference_config_has_every_field_with_an_explanation(path):
    def sections(given: dict, resolved: dict, at: str = ""):
        assert set(given) == set(resolved), f"{path.name}: {at or 'top level'}"
        for key, value in resolved.items():
            if isinstance(value, dict) and f"{at}{key}" != "rewards.tasks" and given[key] is not None:
                sections(given[key], value, f"{at}{key}.")

    data, _ = read_yaml(path)
    sections(data, read_config(config_class(path), path).model_dump())
    for number, line in enumerate(path.read_text().splitlines(), 1):
        _, colon, value = line.partition("#")[0].partition(":")
        if colon and value.strip() and not value.strip().startswith("*"):
            assert "#" in line, f"{path.name}:{number}: no explanation"


@pytest.mark.parametrize("script", SCRIPTS, ids=name)
def test_a_script_resolves_its_run_from_any_directory(script, tmp_path):
    done = subprocess.run(
        ["bash", str(script), "--dry-run", "output_dir=here", "seed=7"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "NNODES": "2", "MASTER_ADDR": "node0"},
    )
    assert done.returncode == 0, done.stderr
    resolved, _, printed = done.stdout.partition("plan of ")
    assert yaml.safe_load(resolved)["output_dir"] == "here"
    assert "16 = 2 machine(s) x 8 GPUs" in printed
    assert "ZeRO-3" in printed
    assert "not on this machine:" in printed  # neither the 7B checkpoint nor the rows
    command = printed.splitlines()[-1]
    assert "--num_processes 16 --main_process_ip node0" in command
    assert command.endswith("seed=7")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("given", "seconds"), [({}, "600"), ({"TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "60"}, "60")]
)
def test_a_script_gives_a_stopped_run_time_to_save(tmp_path, given, seconds):
    echo = tmp_path / "python"  # in place of the interpreter: prints what the launcher would see
    echo.write_text("#!/bin/sh\necho $TORCH_ELASTIC_SHUTDOWN_TIMEOUT\n")
    echo.chmod(0o755)
    env = {k: v for k, v in os.environ.items() if k != "TORCH_ELASTIC_SHUTDOWN_TIMEOUT"}
    done = subprocess.run(
        ["bash", str(SCRIPTS[0])], capture_output=True, text=True, env=env | {"PYTHON": str(echo)} | given
    )
    assert done.stdout.split() == [seconds, seconds]  # of the check, and of the launch


@pytest.fixture
def grpo_config(tmp_path):
    """The 7B config on a small row file."""
    rows = tmp_path / "rows.jsonl"
    row = {
        "id": "1",
        "task": "counting",
        "prompt": [{"role": "user", "content": "2?"}],
        "answer": {"value": 2},
    }

    def read(*overrides: str, **changes):
        rows.write_text(json.dumps(row | changes) + "\n")
        path = LAUNCH / "configs/grpo_qwen2_5_vl_7b.yaml"
        return read_config(config_class(path), path, [f"prompts.rows={rows}", *overrides])

    return read


def test_a_plan_states_what_a_step_is_made_of(grpo_config):
    changes = ("rollout.prompts_per_step=64", "rollout.completions_per_prompt=4", "model.max_pixels=500000")
    made = plan.plan_grpo(grpo_config(*changes), 8)
    assert not made.wrong
    assert "64 prompts x 4 completions = 256 rollouts, one optimizer step; 32 rollouts per GPU" in str(made)
    assert [line.split(":")[0] for line in made.missing] == ["model.path"]


@pytest.mark.parametrize(
    ("overrides", "changes", "expected"),
    [
        (
            ["rollout.prompts_per_step=100"],
            {},
            "rollout.prompts_per_step: expected a multiple of the 8 processes, got 100",
        ),
        (["model.max_pixels=9000000"], {}, "model.max_pixels: 9000000 are 8789 visual tokens"),
        (
            ["model.max_pixels=500000", "rewards.tasks.grounding={function: giou, max_pixels: 1003520}"],
            {},
            "rewards.tasks.grounding: giou's max_pixels is 1003520, the model's 500000",
        ),
        (["rewards.tasks.math=nothing"], {}, "rewards: "),
        (
            ["rewards.tasks.math={function: http, urll: x, name: y}"],
            {},
            "rewards: reward 'http': has no argument 'urll'; did you mean 'url'?",
        ),
        (
            ["rewards.tasks.math=reward_model"],
            {},
            "rewards: reward 'reward_model': expected path, path missing",
        ),
        ([], {"task": "cooking"}, "rewards: row '1'"),
        ([], {"answer": {"value": "two-ish"}}, "rewards: row '1'"),
        ([], {"answer": None}, "1 row(s) without 'answer', the first is '1'"),
        ([], {"prompt": "2?"}, "rows.jsonl:1: field 'prompt'"),
    ],
)
def test_a_plan_tells_what_is_wrong(grpo_config, overrides, changes, expected):
    made = plan.plan_grpo(grpo_config(*overrides, **changes), 8)
    assert any(expected in line for line in made.wrong), made.wrong


def test_a_plan_names_the_teacher_and_misses_its_checkpoint(grpo_config, tmp_path):
    made = plan.plan_grpo(grpo_config("distillation={teacher: {path: runs/teacher}, reward_weight: 0.5}"), 8)
    assert "runs/teacher, a copy in every process as bfloat16; weight 1, rewards 0.5" in str(made)
    assert any(line.startswith("distillation.teacher.path: ") for line in made.missing)
    server = "{kind: vllm_server, url: http://10.0.0.7:8000, model: big}"
    made = plan.plan_grpo(grpo_config(f"distillation={{teacher: {server}, reward_weight: 1}}"), 8)
    assert "big at http://10.0.0.7:8000; weight 1, rewards 1" in str(made)


def test_a_plan_neither_asks_a_reward_service_nor_loads_a_reward_model(grpo_config, tmp_path):
    """Both may be there, or fit, only where the run starts. The task's other functions are still checked against its rows."""
    (tmp_path / "broken").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as service:
        url = f"http://127.0.0.1:{service.getsockname()[1]}"
        functions = [
            "counting",
            f"{{function: http, url: '{url}', name: judge}}",
            f"{{function: reward_model, path: {tmp_path / 'rm'}, device: 'cuda:7'}}",
            f"{{function: reward_model, path: {tmp_path / 'broken'}, component: broken}}",
        ]
        setting = f"rewards.tasks.counting=[{', '.join(functions)}]"
        made = plan.plan_grpo(grpo_config(setting, answer={"value": "two-ish"}), 8)
        service.settimeout(0)
        with pytest.raises(BlockingIOError):
            service.accept()
    assert f"judge of {url} is asked when the run starts" in str(made)
    assert any(line.startswith("rewards.tasks.counting: reward_model: ") for line in made.missing)
    broken, row = made.wrong
    assert broken.startswith("rewards.tasks.counting: broken: ")
    assert broken.endswith("config.json is missing")
    assert row.startswith("rewards: row '1'")


def test_gradients_of_tasks_are_refused_with_zero_2(tmp_path, capsys):
    config, zero3 = (
        str(LAUNCH / path) for path in ("configs/grpo_qwen2_5_vl_7b.yaml", "deepspeed/zero3.json")
    )
    settings, zero2 = json.loads(Path(zero3).read_text()), str(tmp_path / "zero2.json")
    Path(zero2).write_text(json.dumps(settings | {"zero_optimization": {"stage": 2}}))
    for setting in ("interference.every=10", "interference.remedies=[pcgrad]"):
        assert plan.main(["grpo", "--config", config, "--deepspeed", zero2, setting]) == 2
        assert "interference: expected ZeRO-3 or a launch without DeepSpeed" in capsys.readouterr().err
        assert plan.main(["grpo", "--config", config, "--deepspeed", zero3, setting]) == 0
    assert (
        plan.main(["grpo", "--config", config, "--deepspeed", zero2, "interference.remedies=[task_tokens]"])
        == 0
    )
    assert "gradients not compared; remedies: task_tokens" in capsys.readouterr().out


def test_a_broken_checkpoint_is_wrong_and_an_absent_one_is_missing(grpo_config, tmp_path):
    (tmp_path / "model").mkdir()
    made = plan.plan_grpo(grpo_config(f"model.path={tmp_path / 'model'}"), 8)
    assert made.wrong == [f"model.path: {tmp_path / 'model'}: not a checkpoint, config.json is missing"]


def test_a_wrong_plan_exits_2(grpo_config, capsys):
    grpo_config()
    config = str(LAUNCH / "configs/grpo_qwen2_5_vl_7b.yaml")
    assert plan.main(["grpo", "--gpus", "3", "--config", config]) == 2
    assert "multiple of the 3 processes" in capsys.readouterr().err


def test_before_a_start_missing_paths_are_wrong(tmp_path, capsys):
    config = str(LAUNCH / "configs/sft_qwen2_5_vl_7b.yaml")
    absent = [f"model.path={tmp_path / 'model'}", f"data.rows={tmp_path / 'rows.jsonl'}"]
    assert plan.main(["sft", "--here", "--config", config, *absent]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 2


@pytest.mark.parametrize("path", sorted(LAUNCH.glob("accelerate/*.yaml")), ids=name)
def test_accelerate_reads_its_configs(path):
    config = load_config_from_file(str(path))
    assert (LAUNCH.parent / config.deepspeed_config["deepspeed_config_file"]).is_file()


@pytest.mark.parametrize("path", sorted(LAUNCH.glob("deepspeed/*.json")), ids=name)
@pytest.mark.parametrize("kind", ["sft", "grpo"])
def test_a_run_fills_what_deepspeeds_file_leaves_to_it(path, kind, capsys):
    """8 GPUs; the loops count micro-batches themselves and tell DeepSpeed of one. The plan resolves it as the run does."""
    config = read_config(
        config_class(LAUNCH / f"configs/{kind}_qwen2_5_vl_7b.yaml"),
        LAUNCH / f"configs/{kind}_qwen2_5_vl_7b.yaml",
    )
    settings = deepspeed_settings(
        Launch(processes=8, deepspeed=True, deepspeed_file=str(path)), config.zero_values(8)
    )
    assert settings["bf16"]["enabled"] is True
    assert settings["train_batch_size"] == 8
    assert settings["gradient_clipping"] == 1.0
    assert settings["data_types"]["grad_accum_dtype"] == settings["communication_data_type"] == "fp32"
    assert '"auto"' not in json.dumps(settings)


def test_a_plan_refuses_what_the_run_would_refuse(tmp_path, capsys):
    """Precision named otherwise by accelerate's config, and a DeepSpeed file that contradicts the run's config."""
    (tmp_path / "accelerate.yaml").write_text("mixed_precision: fp16\n")
    settings = json.loads((LAUNCH / "deepspeed/zero3.json").read_text())
    (tmp_path / "zero3.json").write_text(json.dumps(settings | {"gradient_clipping": 0.5}))
    config = str(LAUNCH / "configs/grpo_qwen2_5_vl_7b.yaml")
    assert plan.main(["grpo", "--config", config, "--accelerate", str(tmp_path / "accelerate.yaml")]) == 2
    assert "the launch asks for float16" in capsys.readouterr().err
    assert plan.main(["grpo", "--config", config, "--deepspeed", str(tmp_path / "zero3.json")]) == 2
    assert (
        "gradient_clipping: expected 1.0, which is the run's, or 'auto', got 0.5" in capsys.readouterr().err
    )
