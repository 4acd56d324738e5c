"""One process of several that train cells of the matrix {trained parts} x {media} x {dtype} under one wrapper.

    python process_matrix.py MODEL_FOLDER OUT_FOLDER CELL…

The environment decides the wrapper (none, DDP, ZeRO-2, ZeRO-3), as for any run. CELL: "parts/media/dtype",
as below. For every cell a fresh policy and a real rollout engine take STEPS optimizer steps through
the loop's own `update` and `sync`, on completions made by hand with the engine's own log-probs; then the model is saved.
Process 0 writes what `update` returned at each step to OUT_FOLDER/<cell>.json, weights to OUT_FOLDER/<cell>/.
"""

from __future__ import annotations

import gc
import importlib.util
import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate.state import AcceleratorState, GradientState
from accelerate.utils import set_seed
from torch import Tensor

from core.processes.exchange import alone, gathered, summed
from core.training.finite import SkippedSteps
from core.training.optimizer import optimizer_for, prepare
from engines.build import build_engine
from engines.samples import Group
from engines.tokens import suppressed_token_ids
from rl.checks import GapCheck
from rl.config import GRPOConfig
from rl.loop import sync, update
from rl.run import Run
from rl.setup import build_policy, gap_limits, join_processes
from tests.groups import group_of
from vlm.inputs import collate, extend
from vlm.packed.layout import media_kinds
from vlm.weights import save_model

STEPS = 3
PARTS: dict[str, dict[str, Any]] = {
    "all": {"trainable": "all"},
    "language": {"trainable": "language"},
    "projector": {"trainable": "projector"},
    "vision": {"trainable": "vision+projector"},
    "lora": {"trainable": "language", "lora": {"r": 4}},
    "lora_all": {"trainable": "all", "lora": {"r": 4, "targets": "all"}},
    "tasks": {"trainable": "all"},  # groups of two tasks in turn, whose gradients are compared and projected
}
MEDIA: dict[str, list[list[str]]] = {
    # for each step the groups, dealt out to the processes in turn
    "text": [["text", "text"], ["text", "text"], ["text", None]],
    "image": [["image", "images"], ["images", "image"], ["image", None]],
    "video": [["video", "video"], ["video", "video"], ["video", None]],
    "mixed": [["text", "images", "image"], ["video", "text"], ["text", "text"]],
    "one_rank": [["images", None, "text", None], ["video", None, "text", None], ["text", None]],
}
"""Kinds of groups (`Lab.groups`); None is a group of text without a signal, which is not trained on."""


def make_lab(folder: Path) -> Any:
    path = Path(__file__).parent / "update" / "conftest.py"
    spec = importlib.util.spec_from_file_location("update_cases", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["update_cases"] = module
    spec.loader.exec_module(module)
    return module.Lab(folder, module.load_processor(folder))


def configured(folder: Path, parts: str, dtype: str) -> GRPOConfig:
    values = {
        "model": {"path": str(folder), "dtype": dtype, **PARTS[parts]},
        "prompts": {"rows": "unused"},
        "rewards": {"grammar": "none", "tasks": {"task": [{"function": "choice"}]}},
        "engine": {"kind": "transformers", "max_model_len": 256},
        "rollout": {"temperature": 0.8, "max_tokens": 16},
        "optimizer": {"learning_rate": 1e-3, "max_grad_norm": 0.5},
        "max_tokens_per_microbatch": 60,
        "steps": STEPS,
        "output_dir": "unused",
    }
    if parts == "tasks":
        values["interference"] = {"every": 1, "remedies": ["pcgrad"]}
    return GRPOConfig.model_validate(values)


def groups_of_step(lab: Any, run: Run, media: str, step: int) -> tuple[list[Group], int]:
    """This process's groups, with the engine's log-probs at its present weights, and the trained tokens of all processes
    (of groups with a signal)."""
    kinds = MEDIA[media][step][run.accelerator.process_index :: run.ranks]
    groups, tokens = [], 0
    for place, kind in enumerate(kinds):
        number = run.accelerator.process_index + place * run.ranks  # the same group whoever has it
        (group,) = lab.groups(kind or "text")
        fresh = lab.group(group.rollouts[0].prompt, [7, 3, 5], seed=step * 10 + number, row_id=f"{number}")
        mine = [
            replace(r, logprobs=engine_logprobs(run, r), policy_version=run.version) for r in fresh.rollouts
        ]
        given = fresh.advantages if kind is not None else ()
        groups.append(group_of(mine, given, rewards=fresh.rewards, task=f"task{number % 2}"))
        if kind is not None:
            tokens += sum(len(r.completion_ids) for r in mine)
    return groups, int(summed(run.accelerator, [tokens])[0])


@torch.no_grad()
def engine_logprobs(run: Run, rollout: Any) -> tuple[float, ...]:
    """What the engine's model gives the completion: one padded row, all logits."""
    batch = collate([extend(rollout.prompt, rollout.completion_ids)], pad_id=0)
    logits: Tensor = run.engine._model(**batch, use_cache=False).logits[0].float()
    logits = logits / run.config.rollout.temperature
    logits[:, list(run.suppressed)] = -torch.inf
    start = len(rollout.prompt) - 1
    logprobs = logits[start:-1].log_softmax(-1)
    return tuple(logprobs.gather(1, torch.tensor(rollout.completion_ids)[:, None])[:, 0].tolist())


def train(lab: Any, cell: str, out: Path) -> None:
    parts, media, dtype = cell.split("/")
    config = configured(lab.folder, parts, dtype)
    accelerator = join_processes(config)
    set_seed(0)
    model, processor = build_policy(config.model)
    policy, optimizer = prepare(accelerator, model, optimizer_for(model, config.optimizer))
    kinds = {kind or "text" for step in MEDIA[media] for kind in step}
    rows = [
        {"images": ["one"] if "image" in k else [], "videos": ["one"] if k == "video" else []} for k in kinds
    ]
    run = Run(
        config=config,
        accelerator=accelerator,
        processor=processor,
        policy=policy,
        optimizer=optimizer,
        engine=build_engine(
            config.engine, config.model.path, processor, getattr(torch, dtype), device=accelerator.device
        ),
        scorer=None,
        hacking=None,
        sampler=None,
        suppressed=suppressed_token_ids(processor, model.config.text_config.vocab_size),
        record=None,
        skipped=SkippedSteps(0),
        gap=GapCheck(gap_limits(config)),
        media=media_kinds(rows, model, not alone(accelerator)),
    )
    sync(run)
    steps = []
    for step in range(STEPS):
        steps.append(gathered(update(run, *groups_of_step(lab, run, media, step))))
        run.step += 1
        sync(run)
    name = cell.replace("/", "-")
    save_model(accelerator, policy, processor, out / name)
    if accelerator.is_main_process:
        (out / f"{name}.json").write_text(json.dumps(steps))
    print(f"{cell}: {json.dumps(steps[-1])}", flush=True)
    # the next cell starts from nothing but the process group
    accelerator.free_memory()
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    del run, policy, optimizer, model
    gc.collect()


def main(folder: str, out: str, *cells: str) -> None:
    torch.set_num_threads(1)
    lab = make_lab(Path(folder))
    for cell in cells:
        train(lab, cell, Path(out))


if __name__ == "__main__":
    main(*sys.argv[1:])
    sys.stdout.flush()
    os._exit(0)  # without the interpreter's own clean-up, in which gloo's threads have been seen to hang
