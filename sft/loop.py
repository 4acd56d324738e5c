"""SFT on structured traces: the loop.

Every step takes the next rows of a seeded order, packs them into micro-batches without padding, in which rows about the
same image or video compute it, and the prompt before it, once, and takes one gradient of

    loss = mean over all target tokens of the step, on all processes, of -log p(token)

The targets are the tokens of the trace and the end token; how a step is packed and shared out changes neither loss nor
gradient.

On a laptop:     accelerate launch sft.py --config launch/configs/….yaml
On eight GPUs:   bash launch/sft_8xh100.sh
"""

from __future__ import annotations

import math
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from core.files.lock import locked
from core.files.run_folder import begin
from core.processes.exchange import largest
from core.processes.ranks import on_main, say
from core.processes.stop import StopRequested
from core.processes.watchdog import renew
from sft.config import SFTConfig
from sft.loading import StepRows
from sft.metrics import Sums, augmented_counts, stage_losses, token_counts
from sft.packing import MicroBatch, empty_batch
from sft.rows import read
from sft.run import LENGTH, Run, all_left_out, finish, record_of, save, start
from sft.supervised.run import join, progress_metrics, take_gradient, taking_steps, write
from vlm.packed.forward import packed_forward


def train(config: SFTConfig) -> Path:
    """Train as configured; returns the folder of the final checkpoint, which transformers and vLLM load as it is. A run
    that has nothing left to do is left as it is. SIGTERM and Ctrl-C save what is done and end in SystemExit."""
    accelerator = join(config, {"data.rows": config.data.rows}, {"data.eval_rows": config.data.eval_rows})
    processor, rows = read(config)
    out = Path(config.output_dir)
    with locked(out):
        record = record_of(config, accelerator, rows.train)
        begun = begin(out, record, config.resume, LENGTH, say)
        if begun.finished is not None:
            return begun.finished
        run = start(config, accelerator, processor, rows, record, begun.checkpoint)
        with run.stop:
            take_steps(run)
        return finish(run)


def take_steps(run: Run) -> None:
    """The loop, from where the run stands to its last step."""
    config = run.config
    coming = run.train.read(range(run.step, run.steps), config.data.workers)
    last_log = time.perf_counter()
    with taking_steps(run, partial(save, run)) as bar:
        while not run.over:
            with run.phase(f"step {run.step + 1}"):
                numbers = update(run, next(coming))
            run.step += 1
            with run.phase(f"log, evaluation or checkpoint after step {run.step}"):
                if run.step % config.log_every == 0:
                    log(run, numbers, time.perf_counter() - last_log, bar)
                    last_log = time.perf_counter()
                if run.rows.held_out and (run.step % config.eval_every == 0 or run.step == run.steps):
                    evaluate(run)
                due = config.save_every and (run.step % config.save_every == 0 or run.over)
                if due or run.step == run.best.step:
                    save(run)
                bar.update()
                if run.stop.agreed():
                    raise StopRequested


def update(run: Run, rows: StepRows) -> dict[str, float]:
    """One gradient over the rows of all processes; a step that is not finite is skipped by all of them."""
    run.left_out.update(rows.left_out)
    run.sums.add_rows(rows)
    return take_gradient(run, filled(run, rows), partial(summed_loss, run, run.sums), rows.targets)


def filled(run: Run, rows: StepRows) -> list[MicroBatch]:
    """The step's micro-batches, and empty ones where another process has more."""
    count = max(1, int(largest(run.accelerator, len(rows.batches))))
    return rows.batches + [empty_batch(run.dummy)] * (count - len(rows.batches))


def summed_loss(run: Run, sums: Sums, batch: MicroBatch) -> Tensor:
    """Cross-entropy summed over the targets of a micro-batch. Where it is not finite neither is any gradient, so that no
    step is taken, and it does not count in the log."""
    with run.accelerator.autocast():
        out = packed_forward(run.model, batch.packed)
    finite = torch.isfinite(out.loss.detach())
    sums.add_losses(-out.logprobs, batch.stages, finite)
    return out.loss * torch.where(finite, 1.0, math.nan)


@torch.no_grad()
def evaluate(run: Run) -> None:
    """Loss on the held-out rows, a line in metrics.jsonl. FloatingPointError if it is not finite."""
    run.model.eval()
    sums, size = Sums(run.accelerator), run.config.rows_per_step
    batches = range(-(-len(run.rows.held_out) // size))
    for rows in run.held_out.read(batches, run.config.data.workers):
        run.left_out.update(rows.left_out)
        for batch in filled(run, rows):
            renew("evaluation")
            summed_loss(run, sums, batch)
    run.model.train()
    losses = {f"eval_{name}": value for name, value in stage_losses(sums.total()).items()}
    if not math.isfinite(losses["eval_loss"]):
        raise FloatingPointError(
            f"expected a finite loss on the held-out rows, got {losses['eval_loss']} at step {run.step}"
        )
    if config := run.config.early_stopping:
        run.best.look(run.step, on_main(lambda: losses[config.metric]), config.min_delta)
        losses |= {"best/step": run.best.step, f"best/{config.metric}": run.best.value}
        if run.best.enough(config):
            say(
                f"stopped at step {run.step} of {run.steps}: {config.metric} has not fallen by more than"
                f" {config.min_delta:g} in {run.best.since} evaluations"
            )
    write(run, losses)


def log(run: Run, numbers: dict[str, float], seconds: float, bar: tqdm) -> None:
    """What has been summed up since the last line, as the next one in metrics.jsonl."""
    total = run.sums.total()
    run.sums.clear()
    tokens, computed = token_counts(total)
    losses = stage_losses(total)
    more: dict[str, Any] = progress_metrics(run, tokens, computed, seconds)
    more["rows/left_out"] = len(all_left_out(run))
    if run.config.data.augment:
        more |= {f"augment/{name}": float(n) for name, n in augmented_counts(total).items()}
    write(run, losses | numbers | more)
    bar.set_postfix_str(f"loss {losses['loss']:.3f}", refresh=False)
