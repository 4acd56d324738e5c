"""Training a reward model on preference pairs: the loop.

Every step takes the next pairs of a seeded order and one gradient of

    loss = mean over all pairs of the step, on all processes, of
           -log sigmoid(chosen - rejected - margin) + centre_coefficient (chosen + rejected)^2

A plain loop beside SFT's on the same ground (`core/training`), not TRL's RewardTrainer (1.16): that one loads
`AutoModelForSequenceClassification` and has no vision code, and it pads chosen and rejected as two sequences of one batch. Here a
pair is a packed group of two responses behind one copy of the prompt, so prompt and images are computed once, and pairs that compare
several responses to one prompt share it too. Loss, margin and centring are TRL's, and a test compares the two on text.

On a laptop:     accelerate launch reward_model.py --config launch/configs/….yaml
On eight GPUs:   bash launch/reward_model_8xh100.sh
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from torch import Tensor
from tqdm import tqdm

from core.files.lock import locked
from core.files.run_folder import begin
from core.processes.exchange import largest, summed
from core.processes.ranks import say
from core.processes.stop import StopRequested
from core.processes.watchdog import renew
from reward_models.card import with_statistics
from reward_models.config import RewardModelConfig
from reward_models.forward import packed_scores
from reward_models.loading import StepPairs, read_pairs
from reward_models.loss import bradley_terry
from reward_models.measures import ScoredPair, groups_of, measures
from reward_models.packing import PairBatch, empty_batch
from reward_models.run import Run, finish, record_of, save, start
from sft.supervised.run import LENGTH, join, progress_metrics, take_gradient, taking_steps, write

SUMS = ("loss", "accuracy", "margin", "score", "pairs", "tokens", "computed")
"""What is summed up between two lines of metrics.jsonl; the first three are of pairs, the fourth of both scores of each."""


def train(config: RewardModelConfig) -> Path:
    """Train as configured; returns the folder of the final checkpoint. A run that has nothing left to do is left as it is.
    SIGTERM and Ctrl-C save what is done and end in SystemExit."""
    accelerator = join(config, {"data.rows": config.data.rows}, {"data.eval_rows": config.data.eval_rows})
    processor, pairs = read_pairs(config)
    out = Path(config.output_dir)
    with locked(out):
        record = record_of(config, accelerator, pairs.train)
        begun = begin(out, record, config.resume, LENGTH, say)
        if begun.finished is not None:
            return begun.finished
        run = start(config, accelerator, processor, pairs, record, begun.checkpoint)
        with run.stop:
            take_steps(run)
            conclude(run)
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
                if run.pairs.held_out and run.step % config.eval_every == 0 and not run.over:
                    evaluate(run)
                if config.save_every and (run.step % config.save_every == 0 or run.over):
                    save(run)
                bar.update()
                if run.stop.agreed():
                    raise StopRequested


def update(run: Run, pairs: StepPairs) -> dict[str, float]:
    """One gradient over the pairs of all processes; a step that is not finite is skipped by all of them."""
    add(run, {"tokens": pairs.tokens, "computed": pairs.computed})
    return take_gradient(run, filled(run, pairs), partial(summed_loss, run), pairs.pairs)


def filled(run: Run, pairs: StepPairs) -> list[PairBatch]:
    """The step's micro-batches, and empty ones where another process has more."""
    count = max(1, int(largest(run.accelerator, len(pairs.batches))))
    return pairs.batches + [empty_batch(run.dummy)] * (count - len(pairs.batches))


def scores_of(run: Run, batch: PairBatch) -> tuple[Tensor, Tensor]:
    """(P,) scores of the chosen and of the rejected responses."""
    with run.accelerator.autocast():
        scores = packed_scores(run.model, batch.packed)
    return scores[batch.chosen.to(scores.device)], scores[batch.rejected.to(scores.device)]


def summed_loss(run: Run, batch: PairBatch) -> Tensor:
    """Loss summed over the pairs of a micro-batch. Where it is not finite neither is any gradient, so that no step is taken, and it
    does not count in the log."""
    chosen, rejected = scores_of(run, batch)
    margins = batch.margins.to(chosen.device) * run.config.margin_scale
    losses = bradley_terry(chosen, rejected, margins, run.config.centre_coefficient)
    loss = losses.sum()
    if math.isfinite(value := float(loss.detach())):
        chosen, rejected = chosen.detach(), rejected.detach()
        right = (chosen > rejected).float() + 0.5 * (chosen == rejected).float()
        numbers = {"loss": value, "accuracy": float(right.sum()), "margin": float((chosen - rejected).sum())}
        add(run, numbers | {"score": float((chosen + rejected).sum()) / 2, "pairs": len(losses)})
        return loss
    return loss * math.nan


def add(run: Run, numbers: dict[str, float]) -> None:
    for name, value in numbers.items():
        run.sums[SUMS.index(name)] += value


@torch.no_grad()
def scored(run: Run, held_out: bool) -> list[ScoredPair]:
    """The held-out pairs (or the first of the training pairs) with their scores; all processes get all of them."""
    run.model.eval()
    mine: list[ScoredPair] = []
    steps, rows = (run.held_out, run.steps_held_out) if held_out else (run.sample, run.steps_sample)
    for pairs in steps.read(range(rows), run.config.data.workers):
        for batch in filled(run, pairs):
            renew("evaluation")
            chosen, rejected = scores_of(run, batch)
            mine += _scored_pairs(run, batch, chosen.tolist(), rejected.tolist())
    run.model.train()
    everyone = gather_object(mine)
    return sorted(everyone, key=lambda pair: pair.id)


def _scored_pairs(
    run: Run, batch: PairBatch, chosen: Sequence[float], rejected: Sequence[float]
) -> list[ScoredPair]:
    lengths = [length for group in batch.packed.layout.continuations for length in group]
    everything = [*run.pairs.train, *run.pairs.held_out]
    return [
        ScoredPair(
            id=everything[row]["id"],
            chosen=chosen[i],
            rejected=rejected[i],
            chosen_length=lengths[batch.chosen[i]],
            rejected_length=lengths[batch.rejected[i]],
            groups=groups_of(everything[row]),
        )
        for i, row in enumerate(batch.rows)
    ]


def evaluate(run: Run) -> list[ScoredPair]:
    """Measures on the held-out pairs: a line in metrics.jsonl, and everything in evaluation.json. FloatingPointError if a score
    is not finite."""
    pairs = scored(run, held_out=True)
    _refuse_non_finite(run, pairs)
    found = measures(pairs)
    if run.accelerator.is_main_process:
        file = run.out / "evaluation.json"
        file.write_text(json.dumps({"step": run.step} | found, indent=1) + "\n")
    flat = {"eval_accuracy": found["accuracy"], "eval_calibration_error": found["calibration_error"]}
    flat |= {f"eval_accuracy/{name}": one["accuracy"] for name, one in found["by_source"].items()}
    write(run, flat)
    return pairs


def conclude(run: Run) -> None:
    """The last evaluation, and from it the statistics of the scores for the checkpoint."""
    with run.phase("last evaluation"):
        held_out = bool(run.pairs.held_out)
        pairs = evaluate(run) if held_out else scored(run, held_out=False)
        _refuse_non_finite(run, pairs)
        run.card = with_statistics(run.card, [score for p in pairs for score in (p.chosen, p.rejected)])


def _refuse_non_finite(run: Run, pairs: Sequence[ScoredPair]) -> None:
    for pair in pairs:
        if not (math.isfinite(pair.chosen) and math.isfinite(pair.rejected)):
            raise FloatingPointError(
                f"expected finite scores, got {pair.chosen} and {pair.rejected} for row {pair.id!r} at step {run.step}"
            )


def log(run: Run, numbers: dict[str, float], seconds: float, bar: tqdm) -> None:
    """What has been summed up since the last line, as the next one in metrics.jsonl."""
    total = dict(zip(SUMS, summed(run.accelerator, run.sums), strict=True))
    run.sums = [0.0] * len(SUMS)
    count = max(1.0, total["pairs"])
    more: dict[str, Any] = {name: total[name] / count for name in ("loss", "accuracy", "margin", "score")}
    more |= progress_metrics(run, total["tokens"], total["computed"], seconds)
    write(run, more | numbers)
    bar.set_postfix_str(f"loss {more['loss']:.3f}, accuracy {more['accuracy']:.2f}", refresh=False)
