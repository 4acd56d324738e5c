"""The checks behind a plan (`launch/plan.py`): of a model, rows, rewards, a teacher and the size of images.

Reward functions are loaded; rows and a model that are on this machine are checked (the first `ROWS_CHECKED` rows). Reward
services are not asked, and reward models not loaded: they may be reachable, or fit, only where the run starts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.files.hub.cache import found
from core.files.hub.ids import HubError, Kind, hub_id
from core.files.hub.paths import TRAIN
from core.rows import OtherForm, Row, RowError, read_rows
from engines.config import VLLMConfig
from rewards.config import FunctionConfig, check_pixel_limits
from rewards.errors import PluginError, RewardDataError
from rewards.router import Router
from rewards.serving.plugins import REWARDS
from rewards.serving.signatures import check_constructor
from rl.config import GRPOConfig
from rl.distillation.config import DistillationConfig, ServerTeacherConfig
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


def check_model(plan: Plan, model: ModelConfig, *, multimodal: bool = True) -> Family | None:
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


def check_rows(
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


def check_rewards(plan: Plan, config: GRPOConfig, rows: list[Row]) -> None:
    tasks = config.rewards.tasks
    plan.say("rewards", "; ".join(f"{t}: {', '.join(f.name for f in some)}" for t, some in tasks.items()))
    here: dict[str, list[FunctionConfig]] = {
        task: [function for function in functions if not _elsewhere(plan, task, function)]
        for task, functions in tasks.items()
    }
    try:
        # a copy is not validated: a task may have no function here
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


def check_teacher(plan: Plan, config: DistillationConfig) -> None:
    teacher = config.teacher
    weights = f"weight {config.weight:g}, rewards {config.reward_weight:g}"
    if isinstance(teacher, ServerTeacherConfig):
        plan.say("teacher", f"{teacher.model} at {teacher.url}; {weights}")
        return
    plan.say("teacher", f"{teacher.path}, a copy in every process as {teacher.dtype}; {weights}")
    if not _to_download(plan, "distillation.teacher.path", teacher.path, "model"):
        _check_family(plan, "distillation.teacher.path", teacher.path)


def check_image_fits(plan: Plan, config: GRPOConfig, family: Family | None) -> None:
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
