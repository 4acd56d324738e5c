"""A stage around its steps: started, restored from a checkpoint at the very row, saved, finished."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import xxhash
from accelerate import Accelerator
from accelerate.utils import gather_object, set_seed

from core.errors import RunError
from core.files.hub.paths import TRAIN
from core.files.model_card import Training, write_card
from core.files.pieces import all_shards
from core.files.record import Record, model_identity
from core.processes.exchange import alone
from core.processes.ranks import on_main, say
from core.processes.watchdog import operation
from core.training.finite import SkippedSteps
from core.training.joining import record_of_run
from core.training.optimizer import optimizer_for, prepare
from pretraining.config import PretrainConfig
from pretraining.documents import Documents
from pretraining.mixture import Mixture
from pretraining.stream import stream_of
from pretraining.windows import Sums
from sft.data import check_end_token
from sft.supervised.run import (
    TrainingRun,
    begin_logs,
    refuse_attention_dropout,
    restored,
    save_result,
    save_step,
)
from vlm.load import check_checkpoint, context_length, load_processor, load_trainable
from vlm.packed.layout import DummyMedia
from vlm.weights import save_model

FREE = (
    *("output_dir", "save_every", "keep_checkpoints", "resume", "log_every", "eval_every", "timeout_s"),
    *("report_to", "deepspeed", "optimizer.max_skipped_steps", "model.gradient_checkpointing"),
    *("data.eval_limit", "data.max_bad_rows", "data.workers"),
)
"""What may change when a stage is resumed, and each source's `eval_rows`: bookkeeping, memory."""


@dataclass(kw_only=True)
class Run(TrainingRun):
    """What the loop works with.

    documents: makes sequences of rows. mixture: this process's share of the sources. dummy: media that every window must
    hold. sums: since the last line in metrics.jsonl.
    """

    name: str = "pretraining"
    config: PretrainConfig
    documents: Documents
    mixture: Mixture
    dummy: DummyMedia | None
    sums: Sums

    @property
    def kinds(self) -> tuple[str, ...]:
        """Of data, in the order of their numbers."""
        return tuple(self.config.data.sources)


def record_of(config: PretrainConfig, accelerator: Accelerator) -> Record:
    """What the run is, for its folder and its checkpoints; all processes take part. Rows are told apart by the names and sizes of
    their files: they may be too many to be read for that."""
    free = (*FREE, *(f"data.sources.{kind}.eval_rows" for kind in config.data.sources))

    def content() -> dict[str, str]:
        sources = {f"data.sources.{k}.rows": files_identity(s.rows) for k, s in config.data.sources.items()}
        return {"model.path": model_identity(check_checkpoint(config.model.path)), **sources}

    return record_of_run(config, accelerator, content, free)


def files_identity(path: str) -> str:
    """Number, bytes, and a hash of the names and sizes of the files that hold rows."""
    digest, files, size = xxhash.xxh3_128(), 0, 0
    for shard in all_shards(path, TRAIN):
        for file in sorted(shard.iterdir()) if shard.is_dir() else [shard]:
            files, size = files + 1, size + file.stat().st_size
            digest.update(f"{file.name} {file.stat().st_size}\n".encode())
    return f"{files:,} files, {size:,} bytes, names and sizes {digest.hexdigest()[:16]}"


def start(config: PretrainConfig, accelerator: Accelerator, record: Record, checkpoint: Path | None) -> Run:
    """Load the model, open the sources, and restore the checkpoint if there is one."""
    data = config.data
    check_window(config)
    processor = load_processor(config.model)
    check_end_token(processor)
    set_seed(config.seed)
    with operation("load the model", config.timeout_s):
        bare = load_trainable(config.model)
        refuse_attention_dropout(bare)
        model, optimizer = prepare(accelerator, bare, optimizer_for(bare, config.optimizer))
    kinds = () if alone(accelerator) else tuple(data.media)
    ranks = {"rank": accelerator.process_index, "ranks": accelerator.num_processes}
    documents = Documents(processor, data.window, tuple(data.media), data.max_frames)
    streams = {
        kind: stream_of(source.rows, seed=config.seed, buffer=data.shuffle_rows, **ranks)
        for kind, source in data.sources.items()
    }
    run = Run(
        config=config,
        accelerator=accelerator,
        processor=processor,
        model=model,
        optimizer=optimizer,
        record=record,
        steps=config.steps,
        skipped=SkippedSteps(config.optimizer.max_skipped_steps),
        documents=documents,
        mixture=Mixture(streams, data.budgets, documents, data.max_bad_rows, pool_of(data.workers)),
        dummy=DummyMedia.of_model(bare.config, kinds) if kinds else None,
        sums=Sums(accelerator, tuple(data.sources)),
    )
    if checkpoint is not None:
        with run.phase("restore a checkpoint"):
            restore(run, checkpoint)
    begin_logs(run, "onsight-pretraining")
    shares = ", ".join(f"{kind} {tokens:,.0f}" for kind, tokens in data.budgets.items())
    say(
        f"{run.steps:,} steps of {config.data.tokens_per_step:,} tokens in windows of {data.window:,}: {shares}"
    )
    return run


def check_window(config: PretrainConfig) -> None:
    """Raise RunError for windows beyond the model's context, in which a document's last positions would be new to it."""
    context = context_length(config.model.path)
    if context and config.data.window > context:
        raise RunError(
            f"data.window: expected at most {context}, the model's context (max_position_embeddings), got {config.data.window}"
        )


def pool_of(workers: int) -> Executor | None:
    return ThreadPoolExecutor(workers, "encode") if workers else None


def restore(run: Run, folder: Path) -> None:
    state = restored(run, folder)
    run.mixture.load_state_dict(state["mixture"][run.accelerator.process_index])
    if run.accelerator.is_main_process:  # it stands for what all of them had
        run.sums.restore(state["sums"])


def save(run: Run) -> None:
    """A checkpoint of the last whole step, with the place of every process in every source."""
    with run.phase("save a checkpoint"):
        state = {"sums": run.sums.total(), "mixture": gather_object([run.mixture.state_dict()])}
        save_step(run, partial(save_model, run.accelerator, run.model, run.processor), state)


def counts(run: Run) -> dict[str, Counter[str]]:
    """By kind of data, what all processes have read so far (`mixture.Counts`)."""
    everyone = gather_object([{kind: asdict(s.counts) for kind, s in run.mixture.sources.items()}])
    return {kind: sum((Counter(one[kind]) for one in everyone), Counter[str]()) for kind in run.kinds}


def training(run: Run, read: dict[str, Counter[str]]) -> Training:
    """What the final model's card says of the stage."""
    config = run.config
    amounts = [f"{kind} {c['tokens']:,} tokens in {c['rows']:,} rows" for kind, c in read.items()]
    return Training(
        method="Pretraining",
        base=config.model.path,
        base_folder=check_checkpoint(config.model.path),
        data={f"data.sources.{kind}": source.rows for kind, source in config.data.sources.items()},
        rows=(),
        amount="; ".join(amounts),
        steps=run.step,
        settings=settings(config) | {"processes": run.accelerator.num_processes},
    )


def settings(config: PretrainConfig) -> dict[str, Any]:
    return {
        "tokens per step": config.data.tokens_per_step,
        "window": config.data.window,
        "learning rate": config.optimizer.learning_rate,
        "schedule": config.optimizer.schedule,
        "trained parts": config.model.trainable,
        "dtype": config.model.dtype,
        "autocast": config.autocast,
        "seed": config.seed,
    }


def finish(run: Run) -> Path:
    """The trained model as `final/`, which the next stage starts from."""
    with run.phase("save the model"):
        read = counts(run)
        result = save_result(run, partial(save_final, run, read))
    run.accelerator.end_training()
    say(f"pretraining done: {result}")
    return result


def save_final(run: Run, read: dict[str, Counter[str]], folder: Path) -> None:
    save_model(run.accelerator, run.model, run.processor, folder)
    on_main(lambda: write_card(folder, training(run, read), run.out / "metrics.jsonl"))
