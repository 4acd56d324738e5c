"""Check a run and print its plan; a launch script does this before it starts the run, or only this with `--dry-run`.

    python -m launch.plan grpo --config launch/configs/grpo_qwen2_5_vl_7b.yaml --machines 1 --gpus 8 \\
        --deepspeed launch/deepspeed/zero3.json [--here] [dotted.key=value ...]

prints the resolved config and the plan: processes, the size of a step, the settings that decide memory. What is checked of
model, rows and rewards is in `launch/plan_checks.py`.

Exit code 0: no errors. Paths that are not on this machine are only listed as missing, since the run may start on
another one. Exit code 2: errors (a key, a value, numbers that do not fit together, a reward, a row, a checkpoint), one
line each on stderr. With `--here`, which launch scripts pass before a start, missing paths are errors too.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from core.config import dump, load_config, read_yaml
from core.errors import LaunchError
from core.pairs import check_pair
from core.rows import check_document
from core.training.precision import Launch, check_launch, deepspeed_settings
from engines.config import VLLMConfig
from launch.plan_checks import Plan, check_image_fits, check_model, check_rewards, check_rows, check_teacher
from pretraining.config import PretrainConfig
from reward_models.config import RewardModelConfig
from rl.config import GRPOConfig
from rl.interference.gradients import ZERO_STAGE
from sft.config import SFTConfig
from vlm.checkpoint import CheckpointError
from vlm.load import ModelConfig


def plan_sft(config: SFTConfig, processes: int) -> Plan:
    """The plan of an SFT run on `processes` GPUs."""
    plan, optimizer = Plan(), config.optimizer
    check_model(plan, config.model)
    check_rows(plan, "rows", config.data.rows, need="trace")
    if config.data.eval_rows:
        check_rows(plan, "held out", config.data.eval_rows, need="trace", split=None)
    plan.say("step", f"{config.rows_per_step} rows, shared out to {processes} processes")
    length = f"{config.steps} steps" if config.steps else f"{config.epochs:g} epochs"
    plan.say(
        "length",
        f"{length}; learning rate {optimizer.learning_rate:g} {optimizer.schedule}, warm-up {optimizer.warmup_steps}",
    )
    plan.say(
        "memory",
        f"{_memory(config.model)}, autocast {config.autocast}, micro-batches of {config.max_tokens_per_microbatch} tokens,"
        f" rows up to {config.data.max_tokens or 'any number of'} tokens, longer ones: {config.data.long_rows}",
    )
    _output(plan, config.output_dir, f"every {config.save_every} steps" if config.save_every else "none")
    return plan


def plan_pretrain(config: PretrainConfig, processes: int) -> Plan:
    """The plan of a training stage on `processes` GPUs."""
    plan, optimizer, data = Plan(), config.optimizer, config.data
    check_model(plan, config.model)
    for kind, source in data.sources.items():
        check_rows(plan, kind, source.rows, check=check_document)
        if source.eval_rows:
            check_rows(plan, f"{kind}, held out", source.eval_rows, check=check_document, split=None)
    plan.say("tokens", "; ".join(f"{kind} {tokens:,.0f}" for kind, tokens in data.budgets.items()))
    plan.say(
        "step",
        f"{data.tokens_per_step:,} tokens, {data.tokens_per_step / data.window / processes:g} windows of {data.window:,} for each"
        f" of {processes} processes",
    )
    plan.say(
        "length",
        f"{config.steps} steps; learning rate {optimizer.learning_rate:g} {optimizer.schedule}, warm-up {optimizer.warmup_steps}",
    )
    plan.say(
        "memory", f"{_memory(config.model)}, autocast {config.autocast}, windows of {data.window} tokens"
    )
    _output(plan, config.output_dir, f"every {config.save_every} steps" if config.save_every else "none")
    return plan


def plan_reward_model(config: RewardModelConfig, processes: int) -> Plan:
    """The plan of a reward model's training on `processes` GPUs."""
    plan, optimizer, data = Plan(), config.optimizer, config.data
    check_model(plan, config.model, multimodal=config.kind == "multimodal")
    check_rows(plan, "pairs", data.rows, need="chosen", check=check_pair)
    if data.eval_rows:
        check_rows(plan, "held out", data.eval_rows, need="chosen", check=check_pair, split=None)
    plan.say("kind", f"{config.kind}, margin {config.margin_scale:g}, centring {config.centre_coefficient:g}")
    plan.say("step", f"{config.rows_per_step} pairs, shared out to {processes} processes")
    length = f"{config.steps} steps" if config.steps else f"{config.epochs:g} epochs"
    plan.say(
        "length",
        f"{length}; learning rate {optimizer.learning_rate:g} {optimizer.schedule}, warm-up {optimizer.warmup_steps}",
    )
    plan.say(
        "memory",
        f"{_memory(config.model)}, autocast {config.autocast}, micro-batches of {config.max_tokens_per_microbatch} tokens,"
        f" sequences up to {data.max_tokens or 'the context of'} tokens",
    )
    _output(plan, config.output_dir, f"every {config.save_every} steps" if config.save_every else "none")
    return plan


def plan_grpo(config: GRPOConfig, processes: int) -> Plan:
    """The plan of a GRPO run on `processes` GPUs."""
    plan, rollout, engine = Plan(), config.rollout, config.engine
    family = check_model(plan, config.model)
    with_rows = check_rows(plan, "rows", config.prompts.rows, need="answer")
    check_rewards(plan, config, with_rows)
    if config.distillation is not None:
        check_teacher(plan, config.distillation)
    if len(config.rewards.tasks) > 1:
        interference = config.interference
        compared = (
            f"gradients compared every {interference.every} steps"
            if interference.every
            else "gradients not compared"
        )
        plan.say("tasks", f"{compared}; remedies: {', '.join(interference.remedies) or 'none'}")
    prompts, group = rollout.prompts_per_step, rollout.completions_per_prompt
    if prompts % processes:
        plan.wrong.append(
            f"rollout.prompts_per_step: expected a multiple of the {processes} processes, got {prompts}"
        )
    plan.say(
        "step",
        f"{prompts} prompts x {group} completions = {prompts * group} rollouts, one optimizer step;"
        f" {prompts * group / processes:g} rollouts per GPU",
    )
    plan.say(
        "length",
        f"{config.steps} steps = {config.steps * prompts:,} prompts;"
        f" learning rate {config.optimizer.learning_rate:g}, warm-up {config.optimizer.warmup_steps}",
    )
    plan.say(
        "engine",
        f"{engine.kind}, one per GPU, {'sleeping during the update' if engine.sleep else 'always awake'};"
        + (f" {engine.gpu_memory_utilization:.0%} of the GPU;" if isinstance(engine, VLLMConfig) else "")
        + f" prompt + completion up to {engine.max_model_len} tokens,"
        f" completion up to {rollout.max_tokens}; {engine.max_num_seqs} at a time",
    )
    plan.say("memory", f"{_memory(config.model)}, micro-batches of {config.max_tokens_per_microbatch} tokens")
    if family:
        plan.say("boxes", f"{family.name} as published writes them in frame {family.box_frame}")
    check_image_fits(plan, config, family)
    _output(plan, config.output_dir, f"every {config.save_every} steps, {config.keep_checkpoints} kept")
    return plan


PLANS: dict[str, tuple[type, Callable[[Any, int], Plan]]] = {
    "sft": (SFTConfig, plan_sft),
    "pretrain": (PretrainConfig, plan_pretrain),
    "grpo": (GRPOConfig, plan_grpo),
    "reward_model": (RewardModelConfig, plan_reward_model),
}


def main(argv: Sequence[str] | None = None) -> int:
    arguments, overrides = _arguments(argv)
    model, make = PLANS[arguments.kind]
    config: Any = load_config(model, [text for text in overrides if text != "--dry-run"])[0]
    if not arguments.here:
        print(dump(config))

    processes = arguments.machines * arguments.gpus
    plan = make(config, processes)
    plan.lines.insert(
        0, ("processes", f"{processes} = {arguments.machines} machine(s) x {arguments.gpus} GPUs")
    )
    _precision(plan, config, _launch(arguments, processes))
    print(f"plan of {arguments.kind}:\n{plan}", flush=True)
    wrong = plan.wrong + (plan.missing if arguments.here else [])
    for line in wrong:
        print(line, file=sys.stderr)
    return 2 if wrong else 0


def _arguments(argv: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """The arguments of the plan, and the rest, which is for the config."""
    parser = argparse.ArgumentParser(
        description="Check a run and print its plan without starting it.", allow_abbrev=False
    )
    parser.add_argument("kind", choices=sorted(PLANS))
    parser.add_argument("--machines", type=int, default=1)
    parser.add_argument("--gpus", type=int, default=8, help="per machine")
    parser.add_argument("--accelerate", type=Path, help="accelerate config of the run")
    parser.add_argument("--deepspeed", help="DeepSpeed config of the run")
    parser.add_argument("--here", action="store_true", help="the run will start on this machine")
    return parser.parse_known_args(argv)


def _launch(arguments: argparse.Namespace, processes: int) -> Launch:
    """The launch that the run will get."""
    return Launch(
        processes=processes,
        mixed_precision=_mixed_precision(arguments.accelerate) if arguments.accelerate else "no",
        deepspeed=arguments.deepspeed is not None,
        deepspeed_file=arguments.deepspeed,
    )


def _memory(model: ModelConfig) -> str:
    checkpointing = "with" if model.gradient_checkpointing else "without"
    return f"weights loaded as {model.dtype}, {checkpointing} gradient checkpointing, attention {model.attention}"


def _output(plan: Plan, folder: str, checkpoints: str) -> None:
    has_run = Path(folder).is_dir() and any(Path(folder).glob("checkpoint-*"))
    plan.say("output", f"{folder}{' (has checkpoints)' if has_run else ''}; checkpoints: {checkpoints}")


def _precision(
    plan: Plan, config: SFTConfig | PretrainConfig | GRPOConfig | RewardModelConfig, launch: Launch
) -> None:
    """Resolve precision and DeepSpeed's config as the run does."""
    try:
        values = config.zero_values(launch.processes)
        check_launch(launch, values.precision, config.PRECISION_SETTING)
        settings = deepspeed_settings(launch, values) if launch.deepspeed else None
    except LaunchError as error:
        plan.wrong += str(error).splitlines()
        return
    except CheckpointError:
        return  # _model has reported the missing model
    if settings is None:
        plan.say("precision", f"computes in {values.precision}")
        return
    zero = settings["zero_optimization"]
    if isinstance(config, GRPOConfig) and config.interference.by_task and zero["stage"] != 3:
        plan.wrong.append(ZERO_STAGE.format(zero["stage"]))
    plan.say("precision", f"computes in {values.precision}; master weights and sums of gradients in float32")
    offloaded = [part.split("_")[1] for part in ("offload_param", "offload_optimizer") if part in zero]
    plan.say("sharding", f"ZeRO-{zero['stage']}, offloaded to the CPU: {', '.join(offloaded) or 'nothing'}")


def _mixed_precision(accelerate_file: Path) -> str:
    """The mixed precision in an accelerate config; "no" if it sets none."""
    data, _ = read_yaml(accelerate_file)
    return str(data.get("mixed_precision") or "no").lower()


if __name__ == "__main__":
    sys.exit(main())
