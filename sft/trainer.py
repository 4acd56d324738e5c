"""TRL's SFTTrainer with our batches: loss by stage, our schedule and order of rows, and nothing else changed."""

from __future__ import annotations

import functools
import json
import math
import time
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from accelerate.utils import gather_object
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.data import Sampler
from trl import SFTTrainer
from trl.trainer.utils import FusedCausalLMOutput

from core.files.record import Record
from core.files.run_folder import step_of, writing_checkpoint
from core.training.finite import SkippedSteps, check_finite
from sft.data import IGNORE, STAGE_NAMES, TraceError
from sft.progress import say
from vlm.parts import is_adapter

LABEL_LOGITS = 2**26
"""Most logits (targets x vocabulary) that one CPU forward may hold at once: 256 MB."""
LOG_SUMS = "log_sums.json"
"""In a checkpoint, by process: loss sums and tokens since the last log, and skipped steps."""
TRAINED_BASE = "trained_base.safetensors"
"""Beside an adapter: base weights that train in full (a preset may name parts without adapters)."""


class TraceTrainer(SFTTrainer):
    """SFTTrainer on `sft.data.Collator`'s batches.

    Kept from TRL: the fused LM head (logits of the whole batch never exist), PEFT, the training loop, checkpoints.
    Changed: the loss is summed by stage on the way (no second forward, no per-step gather), the learning rate has a
    floor, rows come in a seeded order that does not depend on the random state, steps that are not finite are skipped.
    """

    def __init__(
        self,
        *args: Any,
        row_lengths: Sequence[int] | None,
        min_lr_ratio: float,
        schedule: str,
        max_skipped_steps: int,
        record: Record,
        keep_checkpoints: int | None,
        max_bad_rows: float = 1.0,
        **kwargs: Any,
    ):
        self.max_bad_rows = max_bad_rows
        self.left_out: set[int] = set()  # rows of this process that turned out to be unusable
        self.row_lengths, self.min_lr_ratio, self.schedule = row_lengths, min_lr_ratio, schedule
        self.skipped, self.skipped_logged = SkippedSteps(max_skipped_steps), 0
        self.record, self.keep_checkpoints = record, keep_checkpoints
        self._saving_into: Path | None = None
        super().__init__(*args, **kwargs)
        # Qwen2.5-VL declares the opposite, and a step would be the mean of its micro-batches' means: a target token in
        # a short micro-batch would weigh more. With it, `num_items_in_batch` counts the whole step's targets.
        self.model_accepts_loss_kwargs = True
        add_label_head(self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model)
        # [loss sum, tokens] by stage, and all tokens seen: kept on the device, read only when logged
        device = self.accelerator.device
        self.stage_sums = {
            mode: torch.zeros(len(STAGE_NAMES), 2, device=device, dtype=torch.float64)
            for mode in ("train", "eval")
        }
        self.seen = {mode: torch.zeros((), device=device, dtype=torch.float64) for mode in ("train", "eval")}
        self.last_log = time.perf_counter()

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        """Cross-entropy summed over the labels, divided by the labels of the whole step on all ranks."""
        mode = "train" if model.training else "eval"
        if (rows := inputs.pop("left_out", None)) is not None:
            self.left_out.update(rows.tolist())
        stage_ids = inputs.pop("stage_ids")[:, 1:]
        outputs = model(**inputs, use_cache=False, fused_lm_head=True)
        losses = -outputs.log_probs  # (B, T-1), zero where there is no label
        labels = outputs.label_mask.sum()
        count = labels if num_items_in_batch is None else torch.as_tensor(num_items_in_batch)
        total = losses.sum() / count.clamp(min=1)  # none: every row of the step is left out
        if self.args.average_tokens_across_devices and num_items_in_batch is not None:
            total = total * self.accelerator.num_processes  # DDP and ZeRO average gradients over ranks
        sums = stage_sums(losses.detach(), stage_ids)
        if mode == "train":  # without waiting for the device
            finite = torch.isfinite(total.detach())
            total = total * torch.where(
                finite, 1.0, math.nan
            )  # infinite: so is every gradient, and no step is taken
            sums = torch.where(finite, sums, 0.0)
        self.stage_sums[mode] += sums
        self.seen[mode] += inputs["attention_mask"].sum()
        return total

    def _get_grad_norm(self, model: torch.nn.Module, grad_norm: Any = None) -> float:
        """Of the step that comes now; where it is not finite, the gradients are dropped, and the optimizer finds none.

        transformers applies whatever gradient there is. The norm is that of all processes' gradients, so they agree.
        Under DeepSpeed the step is over: ZeRO leaves out those whose norm is not finite.
        """
        norm = float(super()._get_grad_norm(model, grad_norm))
        rate = self._get_learning_rate()
        if line := self.skipped.look(
            self.state.global_step + 1, {"learning rate": rate, "gradient norm": norm}
        ):
            if not self.is_deepspeed_enabled:
                model.zero_grad(set_to_none=True)
            elif not self.accelerator.optimizer_step_was_skipped:
                raise FloatingPointError(
                    f"{line}, but DeepSpeed took it; use ZeRO stage 1, 2 or 3, and leave bf16's check_grad_overflow on"
                )
            say(line)
        return norm

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the loss by stage and the speed; the total becomes the mean over all target tokens since the last log."""
        mode = "eval" if any(key.startswith("eval_") for key in logs) else "train"
        prefix = "eval_" if mode == "eval" else ""
        if f"{prefix}loss" in logs:
            packed = torch.cat([self.stage_sums[mode].flatten(), self.seen[mode][None]])
            packed = self.accelerator.gather(packed[None]).sum(
                0
            )  # accelerate's reduce adds nothing up on CPUs
            sums, seen = packed[:-1].view(-1, 2).tolist(), float(packed[-1])
            logs |= {f"{prefix}{key}": value for key, value in stage_losses(sums).items()}
            self.stage_sums[mode].zero_()
            self.seen[mode].zero_()
            now = time.perf_counter()
            logs[f"{prefix}rows/left_out"] = self.check_left_out()
            if mode == "train":
                logs["tokens_per_second"] = round(seen / (now - self.last_log), 1)
                logs["steps/skipped"] = self.skipped.total - self.skipped_logged
                self.skipped_logged = self.skipped.total
            elif not math.isfinite(logs["eval_loss"]):
                raise FloatingPointError(
                    f"expected a finite loss on the held-out rows, got {logs['eval_loss']} at step"
                    f" {self.state.global_step}"
                )
            self.last_log = now
        super().log(logs, start_time)

    def check_left_out(self) -> int:
        """Rows of all processes that turned out to be unusable. TraceError, on all of them, if they are too many."""
        rows = {row for one in gather_object([sorted(self.left_out)]) for row in one}
        total = len(self.train_dataset) + len(self.eval_dataset or ())
        if len(rows) > self.max_bad_rows * total:
            raise TraceError(
                f"{len(rows)} of {total} rows had to be left out (each was named), more than the share data.max_bad_rows ="
                f" {self.max_bad_rows:g}"
            )
        return len(rows)

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """0: the estimate walks all modules at every step and ignores the vision tower."""
        return 0

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """Linear warm-up, then the schedule down to `min_lr_ratio`."""
        if getattr(self, "lr_scheduler", None) is None:
            warmup = int(self.args.warmup_steps)
            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
                self.optimizer if optimizer is None else optimizer,
                lambda step: lr_factor(step, warmup, num_training_steps, self.schedule, self.min_lr_ratio),
            )
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler:
        rows_per_step = (
            self.args.train_batch_size
            * self.args.gradient_accumulation_steps
            * self.accelerator.num_processes
        )
        return StepSampler(len(self.train_dataset), rows_per_step, self.args.seed, self.row_lengths)

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        if self.state.global_step < self.state.max_steps:  # transformers would take one step more
            super()._run_epoch(*args, **kwargs)

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._saving_into) if self._saving_into else super()._get_output_dir(trial)

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        """transformers' checkpoint, whole or not at all, with the losses that are summed up for the next log."""
        run, step = Path(self.args.output_dir), self.state.global_step
        with writing_checkpoint(run, step, self.record, self.keep_checkpoints) as folder:
            self._saving_into = folder.parent
            try:
                super()._save_checkpoint(model, trial)
            finally:
                self._saving_into = None
            skipped = self.skipped.state_dict() | {"logged": self.skipped_logged}
            sums = gather_object([[self.stage_sums["train"].tolist(), self.seen["train"].item(), skipped]])
            if self.is_world_process_zero():
                (folder / LOG_SUMS).write_text(json.dumps(sums) + "\n")

    def restore_logs(self, checkpoint: Path) -> int:
        """Take up the sums for the next log where the checkpoint left them; returns its step."""
        mine = json.loads((checkpoint / LOG_SUMS).read_text())[self.args.process_index]
        self.stage_sums["train"] += torch.tensor(mine[0], dtype=torch.float64).to(self.seen["train"].device)
        self.seen["train"] += mine[1]
        self.skipped.load_state_dict(mine[2])
        self.skipped_logged = mine[2]["logged"]
        return step_of(checkpoint)

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """None: a checkpoint's origin is its run folder's config."""

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        check_finite(self.model)
        super().save_model(output_dir, _internal_call)

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        super()._save(output_dir, state_dict)
        # a given state dict is the gathered one: under ZeRO-3 the parameters themselves are empty here
        gathered = state_dict or {}
        if trained := {k: gathered.get(k, v) for k, v in trained_base(self.model).items()}:
            path = Path(output_dir or self.args.output_dir) / TRAINED_BASE
            save_file({k: v.detach().cpu().contiguous() for k, v in trained.items()}, path)

    def _load_from_checkpoint(
        self, resume_from_checkpoint: str, model: torch.nn.Module | None = None
    ) -> None:
        """Load a checkpoint's weights by `from_pretrained`'s names, every one of them.

        transformers 5.17's Trainer saves Qwen2.5-VL under the names of its published checkpoints, but reads the file
        by the names in memory, finds none, warns, and goes on with the weights it had.
        """
        if self.is_fsdp_enabled or hasattr(self.model, "peft_config"):
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        else:
            saved = type(self.model).from_pretrained(resume_from_checkpoint, dtype=self.model.dtype)
            self.model.load_state_dict(saved.state_dict())
        if trained := trained_base(self.model):
            saved_base = load_file(Path(resume_from_checkpoint) / TRAINED_BASE)
            with torch.no_grad():
                for name, parameter in trained.items():
                    parameter.copy_(saved_base[name])


def add_label_head(model: torch.nn.Module) -> None:
    """On CPUs, where TRL's fused head has no kernel and scores prompt and padding too, score the labels alone.

    Same call and result as TRL's head, `model(..., labels=labels, fused_lm_head=True)`, which stays in use on GPUs and
    for label logits above LABEL_LOGITS. Tiny model, against a bare loop (benchmarks/sft_overhead.py): a step takes 1.18
    times as long with TRL's, 1.01 with this.
    """
    fused_forward = model.forward

    @functools.wraps(type(model).forward)
    def forward(
        self: Any, *args: Any, fused_lm_head: bool = False, labels: Tensor | None = None, **kwargs: Any
    ) -> Any:
        vocabulary = self.config.get_text_config().vocab_size
        fits = (
            fused_lm_head
            and labels is not None
            and labels.device.type == "cpu"
            and int(labels.ne(IGNORE).sum()) * vocabulary <= LABEL_LOGITS
        )
        if not fits or labels is None:
            return fused_forward(*args, fused_lm_head=fused_lm_head, labels=labels, **kwargs)
        hidden = self.base_model(*args, **kwargs).last_hidden_state[:, :-1]
        mask = labels[:, 1:].ne(IGNORE)
        logits = self.get_output_embeddings()(hidden[mask]).float()
        log_probs = -F.cross_entropy(logits, labels[:, 1:][mask], reduction="none")
        # scattered, a batch without labels still has a (zero) gradient
        scattered = log_probs.new_zeros(mask.shape).masked_scatter(mask, log_probs)
        return FusedCausalLMOutput(log_probs=scattered, label_mask=mask)

    model.forward = types.MethodType(forward, model)


def trained_base(model: torch.nn.Module) -> dict[str, Tensor]:
    """Base weights of a PEFT-wrapped model that train in full beside its adapters; {} for a plain model."""
    named = list(model.named_parameters())
    if not any(is_adapter(name) for name, _ in named):
        return {}
    return {name: p for name, p in named if p.requires_grad and not is_adapter(name)}


def stage_sums(losses: Tensor, stage_ids: Tensor) -> Tensor:
    """(stages, 2): sum of the token losses (B, T) and number of tokens, by `sft.data.STAGE_NAMES`."""
    values = torch.stack(
        [losses.float().flatten(), torch.ones_like(losses, dtype=torch.float32).flatten()], dim=1
    )
    return torch.zeros(len(STAGE_NAMES), 2, device=losses.device).index_add_(0, stage_ids.flatten(), values)


def stage_losses(sums: Sequence[Sequence[float]]) -> dict[str, float]:
    """`loss` over all target tokens (NaN of none) and `loss/<stage>` for each stage that occurs, from (loss sum, tokens)
    by stage."""
    targets = list(zip(STAGE_NAMES, sums, strict=True))[1:]
    tokens = sum(n for _, (_, n) in targets)
    losses = {"loss": sum(s for _, (s, _) in targets) / tokens if tokens else math.nan}
    return losses | {f"loss/{name}": s / n for name, (s, n) in targets if n}


def lr_factor(step: int, warmup: int, total: int, schedule: str, floor: float) -> float:
    """Learning rate at `step` (from 0) as a share of its peak: linear warm-up, then down to `floor` at `total`."""
    if step < warmup:
        return (step + 1) / (warmup + 1)
    done = min(1.0, (step - warmup) / max(1, total - warmup))
    decay = {"constant": 1.0, "linear": 1 - done, "cosine": 0.5 * (1 + math.cos(math.pi * done))}[schedule]
    return floor + (1 - floor) * decay if schedule != "constant" else 1.0


class StepSampler(Sampler[int]):
    """A seeded permutation per epoch; with lengths, each step's rows sorted by length (longest first).

    Sorting moves no row to another step: micro-batches and ranks get rows of like length, so padding shrinks while
    the step's gradient stays the same.
    """

    def __init__(
        self, rows: int, rows_per_step: int, seed: int, lengths: Sequence[int] | None = None
    ) -> None:
        self.rows, self.rows_per_step, self.seed, self.lengths, self.epoch = (
            rows,
            rows_per_step,
            seed,
            lengths,
            0,
        )

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.rows

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order = torch.randperm(self.rows, generator=generator).tolist()
        lengths = self.lengths or ()
        for start in range(0, self.rows, self.rows_per_step):
            step = order[start : start + self.rows_per_step]
            if self.lengths is not None:
                step.sort(key=lambda i: -lengths[i])
            yield from step
