"""One stage of training on a mixture of documents and instruction rows: the loop.

Every step takes the next sequences of the mixture until its tokens are full, packs them into windows without padding and
without attention across documents, and takes one gradient of

    loss = mean over all target tokens of the step, on all processes, of -log p(token)

Targets are all text of documents, and the traces of instruction rows.

    accelerate launch pretrain.py --config launch/configs/stage1_projector_7b.yaml
    python -m launch.stages                                                          all four stages in order
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from core.errors import RowError
from core.files.hub.paths import TRAIN
from core.files.lock import locked
from core.files.pieces import all_shards
from core.files.records import read_records
from core.files.run_folder import begin
from core.processes.exchange import largest
from core.processes.ranks import say
from core.processes.stop import StopRequested
from core.processes.watchdog import renew
from pretraining.config import PretrainConfig
from pretraining.documents import UnusableRow
from pretraining.run import Run, counts, finish, record_of, save, start
from pretraining.stream import refuse_other_form
from pretraining.windows import Sums, Window, empty_window, losses_by_kind, window_metrics, windows_of
from sft.supervised.run import join, take_gradient, taking_steps, write
from vlm.packed.forward import packed_forward
from vlm.packed.packing import Segment

EVAL_ROWS = 8
"""Held-out rows that a process encodes at a time."""


def train(config: PretrainConfig) -> Path:
    """Train as configured; returns the folder of the final checkpoint. A run that has nothing left to do is left as it is.
    SIGTERM and Ctrl-C save what is done and end in SystemExit."""
    sources = config.data.sources
    accelerator = join(
        config,
        {f"data.sources.{kind}.rows": source.rows for kind, source in sources.items()},
        {f"data.sources.{kind}.eval_rows": source.eval_rows for kind, source in sources.items()},
    )
    for kind, source in sources.items():
        refuse_other_form(source.rows, f"data.sources.{kind}.rows", TRAIN)
        if source.eval_rows:
            refuse_other_form(source.eval_rows, f"data.sources.{kind}.eval_rows")
    out = Path(config.output_dir)
    with locked(out):
        record = record_of(config, accelerator)
        begun = begin(out, record, config.resume, (), say)
        if begun.finished is not None:
            return begun.finished
        run = start(config, accelerator, record, begun.checkpoint)
        with run.stop:
            take_steps(run)
        return finish(run)


def take_steps(run: Run) -> None:
    """The loop, from where the run stands to its last step."""
    config, last_log = run.config, time.perf_counter()
    if run.step == 0:
        with run.phase("evaluation before the first step"):
            evaluate(run)
    with taking_steps(run, partial(save, run)) as bar:
        while not run.over:
            with run.phase(f"step {run.step + 1}"):
                numbers = update(run)
            run.step += 1
            with run.phase(f"log, evaluation or checkpoint after step {run.step}"):
                if run.step % config.log_every == 0:
                    log(run, numbers, time.perf_counter() - last_log, bar)
                    last_log = time.perf_counter()
                if run.step % config.eval_every == 0 or run.over:
                    evaluate(run)
                if config.save_every and (run.step % config.save_every == 0 or run.over):
                    save(run)
                bar.update()
                if run.stop.agreed():
                    raise StopRequested


def update(run: Run) -> dict[str, float]:
    """One gradient over the windows of all processes; a step that is not finite is skipped by all of them."""
    config = run.config
    until = min((run.step + 1) * config.data.tokens_per_step, config.tokens) / run.accelerator.num_processes
    taken = [(run.kinds.index(kind), segment) for kind, segment in run.mixture.take_until(until)]
    windows = filled(run, windows_of(taken, config.data.window, run.dummy))
    targets = sum(len(window.kinds) for window in windows)
    return take_gradient(run, windows, partial(summed_loss, run, run.sums), targets)


def filled(run: Run, windows: list[Window]) -> list[Window]:
    """The windows, and empty ones where another process has more."""
    count = max(1, int(largest(run.accelerator, len(windows))))
    return windows + [empty_window(run.dummy)] * (count - len(windows))


def summed_loss(run: Run, sums: Sums, window: Window) -> Tensor:
    """Cross-entropy summed over the targets of a window. Where it is not finite neither is any gradient, so that no step is
    taken, and it does not count in the log."""
    sums.add_window(window)
    with run.accelerator.autocast():
        out = packed_forward(run.model, window.packed)
    finite = torch.isfinite(out.loss.detach())
    sums.add_losses(-out.logprobs, window.kinds, finite)
    return out.loss * torch.where(finite, 1.0, math.nan)


@torch.no_grad()
def evaluate(run: Run) -> None:
    """Loss on the held-out rows, by kind of data, a line in metrics.jsonl. FloatingPointError if it is not finite."""
    if not any(source.eval_rows for source in run.config.data.sources.values()):
        return
    run.model.eval()
    sums = Sums(run.accelerator, run.kinds)
    for sequences in held_out(run):
        for window in filled(run, windows_of(sequences, run.config.data.window, run.dummy)):
            renew("evaluation")
            summed_loss(run, sums, window)
    run.model.train()
    losses = {f"eval_{name}": value for name, value in losses_by_kind(sums.total(), run.kinds).items()}
    if not all(map(math.isfinite, losses.values())):
        raise FloatingPointError(
            f"expected finite losses on the held-out rows, got {losses} at step {run.step}"
        )
    write(run, losses)


def held_out(run: Run) -> Iterator[list[tuple[int, Segment]]]:
    """This process's share of the held-out rows, some at a time, equally often in all processes: (number of the kind, sequence).

    Raises RowError for a row that cannot be used.
    """
    rank, ranks = run.accelerator.process_index, run.accelerator.num_processes
    for number, source in enumerate(run.config.data.sources.values()):
        if not source.eval_rows:
            continue
        records = (record for shard in all_shards(source.eval_rows) for record in read_records(shard))
        rows = islice(records, run.config.data.eval_limit)
        while some := list(islice(rows, EVAL_ROWS * ranks)):
            try:
                segments = [segment for record in some[rank::ranks] for segment in run.documents(*record)]
            except UnusableRow as error:
                raise RowError(f"held-out rows: {error}") from None
            yield [(number, segment) for segment in segments]


def log(run: Run, numbers: dict[str, float], seconds: float, bar: tqdm) -> None:
    """What has been summed up since the last line, as the next one in metrics.jsonl."""
    total = run.sums.total()
    run.sums.clear()
    losses = losses_by_kind(total, run.kinds)
    read = counts(run)
    amounts = {f"{what}/{kind}": float(c[what]) for kind, c in read.items() for what in ("tokens", "rows")}
    since, run.logged_skips = run.logged_skips, run.skipped.total
    more = {
        "rows/left_out": float(sum(c["bad"] for c in read.values())),
        "rows/split": float(sum(c["split"] for c in read.values())),
        "steps/skipped": run.skipped.total - since,
    }
    write(run, losses | numbers | amounts | more | window_metrics(total, run.config.data.window, seconds))
    bar.set_postfix_str(f"loss {losses['loss']:.3f}", refresh=False)
