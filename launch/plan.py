"""Check a run and print its plan; a launch script does this before it starts the run, or only this with `--dry-run`.

    python -m launch.plan grpo --config launch/configs/grpo_qwen2_5_vl_7b.yaml --machines 1 --gpus 8 \\
        --deepspeed launch/deepspeed/zero3.json [--here] [dotted.key=value ...]

prints the resolved config and the plan: processes, the size of a step, the settings that decide memory. Reward
functions are loaded; rows and a model that are on this machine are checked (the first `ROWS_CHECKED` rows). Reward
services are not asked, and reward models not loaded: they may be reachable, or fit, only where the run starts.

Exit code 0: no errors. Paths that are not on this machine are only listed as missing, since the run may start on
another one. Exit code 2: errors (a key, a value, numbers that do not fit together, a reward, a row, a checkpoint), one
line each on stderr. With `--here`, which launch scripts pass before a start, missing paths are errors too.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.config import dump, load_config, read_yaml
from core.errors import LaunchError
from core.files.hub.cache import found
from core.files.hub.ids import HubError, Kind, hub_id
from core.files.hub.paths import TRAIN
from core.pairs import check_pair
from core.rows import OtherForm, Row, RowError, check_document, read_rows
from core.training.precision import Launch, check_launch, deepspeed_settings
from engines.config import VLLMConfig
from pretraining.config import PretrainConfig
from reward_models.config import RewardModelConfig
from rewards.config import FunctionConfig, check_pixel_limits
from rewards.errors import PluginError, RewardDataError
from rewards.router import Router
from rewards.serving.plugins import REWARDS
from rewards.serving.signatures import check_constructor
from rl.config import GRPOConfig
from rl.distillation.config import DistillationConfig, ServerTeacherConfig
from rl.interference.gradients import ZERO_STAGE
from sft.config import SFTConfig
from vlm.checkpoint import CheckpointError, read_config, resolve_checkpoint
from vlm.families import FAMILIES, family_of_checkpoint
from vlm.families.family import Family
from vlm.load import ModelConfig, check_checkpoint

ROWS_CHECKED = 1000


@dataclass
class Plan:
    """The lines of a plan, and the problems found."""

    lines: list[tuple[str, str]] = field(default_factory=list)
    """(name, text)"""
    missing: list[str] = field(default_factory=list)
    """Paths that the run needs and that are not on this machine."""
    wrong: list[str] = field(default_factory=list)
    """Errors that would stop the run on any machine."""

    def say(self, name: str, text: str) -> None:
        self.lines.append((name, text))

    def __str__(self) -> str:
        width = max(len(name) for name, _ in self.lines)
        lines = [f"  {name:{width}}  {text}" for name, text in self.lines]
        if self.missing:
            lines += ["not on this machine:", *(f"  {line}" for line in self.missing)]
        return "\n".join(lines)


def plan_sft(config: SFTConfig, processes: int) -> Plan:
    """The plan of an SFT run on `processes` GPUs."""
    plan, optimizer = Plan(), config.optimizer
    _model(plan, config.model)
    _rows(plan, "rows", config.data.rows, need="trace")
    if config.data.eval_rows:
        _rows(plan, "held out", config.data.eval_rows, need="trace", split=None)
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
    _model(plan, config.model)
    for kind, source in data.sources.items():
        _rows(plan, kind, source.rows, check=check_document)
        if source.eval_rows:
            _rows(plan, f"{kind}, held out", source.eval_rows, check=check_document, split=None)
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
    _model(plan, config.model, multimodal=config.kind == "multimodal")
    _rows(plan, "pairs", data.rows, need="chosen", check=check_pair)
    if data.eval_rows:
        _rows(plan, "held out", data.eval_rows, need="chosen", check=check_pair, split=None)
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
    family = _model(plan, config.model)
    with_rows = _rows(plan, "rows", config.prompts.rows, need="answer")
    _rewards(plan, config, with_rows)
    if config.distillation is not None:
        _teacher(plan, config.distillation)
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
    _image_fits(plan, config, family)
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


def _model(plan: Plan, model: ModelConfig, *, multimodal: bool = True) -> Family | None:
    """The family of a vision-language model; None if it is not on this machine, or unusable, which the plan then says."""
    plan.say("model", f"{model.path}, trained: {model.trainable}{' through LoRA' if model.lora else ''}")
    if _to_download(plan, "model.path", model.path, "model"):
        return None
    return _check_family(plan, "model.path", model.path, multimodal=multimodal)


def _check_family(plan: Plan, name: str, path: str, *, multimodal: bool = True) -> Family | None:
    try:
        if not multimodal:
            read_config(resolve_checkpoint(path))
            return None
        return family_of_checkpoint(check_checkpoint(path))
    except CheckpointError as error:
        absent = not Path(path).expanduser().exists()
        (plan.missing if absent else plan.wrong).append(f"{name}: {error}")
        return None


def _rows(
    plan: Plan,
    name: str,
    path: str,
    *,
    need: str | None = None,
    check: Callable[[Any, Path], Row] | None = None,
    split: str | None = TRAIN,
) -> list[Row]:
    """The first rows of a file, which must all have the field `need`; none if the file is missing or wrong, which the plan then says."""
    plan.say(name, path)
    if _to_download(plan, name, path, "dataset", split):
        return []
    if hub_id(path, "dataset") is None and not Path(path).exists():
        plan.missing.append(f"{name}: {path}")
        return []
    try:
        rows = read_rows(path, limit=ROWS_CHECKED, check=check, split=split)
    except OtherForm:
        plan.say("", f"rows are made of {path} when the run starts")
        return []
    except RowError as error:
        plan.wrong.append(str(error))
        return []
    without = [row["id"] for row in rows if need and row[need] is None]
    if without:
        plan.wrong.append(f"{path}: {len(without)} row(s) without '{need}', the first is {without[0]!r}")
    return rows


def _to_download(plan: Plan, name: str, text: str, kind: Kind, split: str | None = None) -> bool:
    """Whether this is a Hub id that the cache does not have yet: the plan says how large it is, or why it cannot be had."""
    wanted = hub_id(text, kind)
    if wanted is None:
        return False
    try:
        seen = found(wanted, kind, split)
    except HubError as error:
        plan.missing.append(f"{name}: {error}")
        return True
    if seen.folder is None:
        plan.say("download", f"{wanted} from the Hub, {seen.bytes:,} bytes, when the run starts")
    return seen.folder is None


def _rewards(plan: Plan, config: GRPOConfig, rows: list[Row]) -> None:
    tasks = config.rewards.tasks
    plan.say("rewards", "; ".join(f"{t}: {', '.join(f.name for f in some)}" for t, some in tasks.items()))
    here: dict[str, list[FunctionConfig]] = {
        task: [function for function in functions if not _elsewhere(plan, task, function)]
        for task, functions in tasks.items()
    }
    try:
        with Router(config.rewards.model_copy(update={"tasks": here})) as router:
            router.check_rows(rows)
    except (PluginError, RewardDataError) as error:
        plan.wrong.append(f"rewards: {error}")
    given = {name: getattr(config.model, name) for name in ("min_pixels", "max_pixels")}
    try:
        check_pixel_limits(
            config.rewards, {name: value for name, value in given.items() if value is not None}
        )
    except PluginError as error:
        plan.wrong.append(str(error))


def _elsewhere(plan: Plan, task: str, function: FunctionConfig) -> bool:
    """Whether this function is a reward service or a reward model, which only the run asks or loads; the plan then says so."""
    if function.function not in ("http", "reward_model"):
        return False
    try:
        check_constructor(REWARDS.load(function.function), function.arguments, function.function)
    except PluginError as error:
        plan.wrong.append(f"rewards: {error}")
        return True
    if function.function == "http":
        plan.say("", f"{function.name} of {function.arguments['url']} is asked when the run starts")
        return True
    path = str(function.arguments["path"])
    plan.say("", f"{path} is loaded when the run starts")
    if function.arguments.get("adapter") is None:  # an adapter may take something else than a checkpoint
        name = f"rewards.tasks.{task}: {function.name}"
        if not _to_download(plan, name, path, "model"):
            _check_family(plan, name, path, multimodal=False)
    return True


def _teacher(plan: Plan, config: DistillationConfig) -> None:
    teacher = config.teacher
    weights = f"weight {config.weight:g}, rewards {config.reward_weight:g}"
    if isinstance(teacher, ServerTeacherConfig):
        plan.say("teacher", f"{teacher.model} at {teacher.url}; {weights}")
        return
    plan.say("teacher", f"{teacher.path}, a copy in every process as {teacher.dtype}; {weights}")
    if not _to_download(plan, "distillation.teacher.path", teacher.path, "model"):
        _check_family(plan, "distillation.teacher.path", teacher.path)


def _image_fits(plan: Plan, config: GRPOConfig, family: Family | None) -> None:
    """Check that the largest image fits beside a completion in the context, and into one pass of the vision encoder.

    Without a family (the model is elsewhere), with the fewest visual tokens that any family would make of it."""
    engine, pixels = config.engine, config.model.max_pixels
    if pixels is None:
        plan.say("images", "as large as the checkpoint's processor allows")
        return
    tokens = pixels // max(f.factor for f in ([family] if family else FAMILIES.values())) ** 2
    plan.say("images", f"up to {tokens} visual tokens ({pixels:,} pixels)")
    room = engine.max_model_len - config.rollout.max_tokens
    limits = {"engine.max_model_len - rollout.max_tokens": room}
    if isinstance(engine, VLLMConfig):
        limits["engine.max_num_batched_tokens"] = engine.max_num_batched_tokens
    for what, limit in limits.items():
        if tokens >= limit:
            plan.wrong.append(
                f"model.max_pixels: {pixels} are {tokens} visual tokens, expected fewer than {what} = {limit}"
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
