"""SFT on structured traces, top to bottom: rows, model, trainer, final checkpoint."""

from __future__ import annotations

import math
import os
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from datasets import Dataset
from transformers.trainer_callback import PrinterCallback
from transformers.training_args import ParallelMode
from trl import SFTConfig as TRLConfig

from core.errors import LaunchError
from core.files.jsonl import keep_until
from core.files.lock import locked
from core.files.record import Record, model_identity, rows_identity
from core.files.run_folder import begin, mark_finished, writing_folder
from core.processes.build_locks import remove_stale_locks
from core.processes.launch import refuse_fsdp
from core.processes.ranks import on_main
from core.processes.stop import StopSignals
from core.processes.watchdog import operation
from core.rows import Row, read_rows
from core.trackers import check_installed
from core.training.precision import Launch, check_launch, deepspeed_plugin, training_precision
from sft.config import SFTConfig
from sft.data import BLANK, Collator, TraceError, encode_example, example_bytes, row_length
from sft.progress import Metrics, Progress, StopWhenAsked, Watch, say
from sft.trainer import TRAINED_BASE, TraceTrainer
from vlm.load import check_checkpoint, context_length, load_model, load_processor, without_zero3
from vlm.lora import lora_config, merge_lora
from vlm.parts import set_trainable
from vlm.preflight import look_at_rows, usable_rows

FREE = (
    *("optim.max_steps", "optim.epochs", "output_dir", "save_steps", "save_total_limit", "resume"),
    *(
        "logging_steps",
        "timeout_s",
        "timeout_s",
        "eval_steps",
        "report_to",
        "deepspeed",
        "optim.max_skipped_steps",
        "model.gradient_checkpointing",
    ),
    *(
        "data.limit",
        "data.max_tokens",
        "data.long_rows",
        "data.bad_rows",
        "data.max_bad_rows",
        "data.eval",
        "data.eval_limit",
    ),
    *("data.cache_rows", "data.cache_gb", "data.workers"),
)
"""What may change when a run is resumed: its length (with it the schedule of the learning rate from there on),
bookkeeping, memory. Which rows are trained on is compared by their content."""
LENGTH = ("optim.max_steps", "optim.epochs")


def run(config: SFTConfig) -> Path:
    """Train as configured; returns the folder of the final checkpoint, which transformers and vLLM load as it is. A run
    that has nothing left to do is left as it is. SIGTERM and Ctrl-C save what is done and end in SystemExit."""
    check_installed([config.report_to] if config.report_to != "none" else [])
    refuse_fsdp()
    remove_stale_locks()
    with operation("join the other processes", config.timeout_s):
        arguments = training_arguments(config)  # first: under ZeRO-3 it decides how weights are loaded
    model = check_checkpoint(config.model.path)
    output = Path(config.output_dir)
    processor = load_processor(config.model)
    rows, lengths = load_rows(config, processor, config.data.train, config.data.limit)
    held_out: list[Row] = []
    if config.data.eval:
        held_out, _ = load_rows(config, processor, config.data.eval, config.data.eval_limit)
    say(
        f"SFT: {len(rows):,} rows from {config.data.train}"
        + (f", {len(held_out):,} held out" if held_out else "")
    )
    with locked(output):
        record = record_of(config, arguments, rows, model)
        begun = begin(output, record, config.resume or "never", LENGTH, say)
        if begun.finished is not None:
            return begun.finished

        trainer = build_trainer(config, arguments, processor, rows, lengths, held_out, record)
        stop = StopSignals()
        stopping = StopWhenAsked(stop)
        for callback in (Progress(), Metrics(output / "metrics.jsonl"), stopping, Watch(config.timeout_s)):
            trainer.add_callback(callback)
        step = trainer.restore_logs(begun.checkpoint) if begun.checkpoint else 0
        if broken := on_main(partial(keep_until, output / "metrics.jsonl", step)):
            say(f"{output / 'metrics.jsonl'}: {broken} lines were cut off and are left out")
        with stop, operation("train", math.inf):
            trainer.train(resume_from_checkpoint=str(begun.checkpoint) if begun.checkpoint else None)
        if stopping.stopped:
            saved = f"checkpoint-{trainer.state.global_step}"
            say(f"{stop.name}: saved {output / saved}; the same command with resume=auto goes on from there")
            raise SystemExit(stop.exit_code)
        trainer.check_left_out()
        with operation("save the model", config.timeout_s):
            return save_final(config, trainer, output)


def build_trainer(
    config: SFTConfig,
    arguments: TRLConfig,
    processor: Any,
    rows: list[Row],
    lengths: list[int],
    held_out: list[Row],
    record: Record,
) -> TraceTrainer:
    """The trainer, with the model on it."""
    collator = Collator(
        processor,
        [*rows, *held_out],
        max_frames=config.data.max_frames,
        cache=cache_fits(config, processor, rows),
        trains_vision=config.model.trainable != "language",
    )
    trainer = TraceTrainer(
        model=load_model(config.model),
        args=arguments,
        data_collator=collator,
        train_dataset=Dataset.from_dict({"row": range(len(rows))}),
        eval_dataset=held_out_indices(config, len(rows), len(collator.rows)) if held_out else None,
        processing_class=processor,
        peft_config=lora_config(config.model.lora) if config.model.lora else None,
        row_lengths=lengths_for_sorting(config, arguments, lengths),
        min_lr_ratio=config.optim.min_lr_ratio,
        schedule=config.optim.schedule,
        max_skipped_steps=config.optim.max_skipped_steps,
        max_bad_rows=config.data.max_bad_rows,
        record=record,
        keep_checkpoints=config.save_total_limit,
    )
    if config.model.lora:
        set_trainable(trainer.model, config.model.trainable)  # PEFT has frozen all base weights
    check_master_weights(trainer)
    launched, joined = Launch.of_environment().processes, trainer.accelerator.num_processes
    if joined != launched or (launched > 1 and trainer.args.parallel_mode != ParallelMode.DISTRIBUTED):
        raise RuntimeError(
            f"expected {launched} processes to train together, got {joined} ({trainer.args.parallel_mode})"
        )
    trainer.remove_callback(PrinterCallback)
    return trainer


def record_of(config: SFTConfig, arguments: TRLConfig, rows: list[Row], model: Path) -> Record:
    """What the run is, for its folder and its checkpoints; all processes take part."""
    plugin = arguments.deepspeed_plugin
    parallel = f"ZeRO-{plugin.zero_stage}" if plugin else PartialState().distributed_type.value
    content = on_main(
        lambda: {"data.train": rows_identity(rows, config.data.train), "model.path": model_identity(model)}
    )
    return Record(config, content | {"processes": f"{PartialState().num_processes}, {parallel}"}, FREE)


class Arguments(TRLConfig):
    """TRL's, with a device that torch can load a checkpoint onto: the processes of a run on CPUs are at "cpu:0", "cpu:1" by
    accelerate's count, and transformers hands that to torch.load, which knows "cpu" alone."""

    @property
    def device(self) -> torch.device:
        device = super().device
        return torch.device("cpu") if device.type == "cpu" else device


def training_arguments(config: SFTConfig) -> TRLConfig:
    """The configuration in TRL's words; precision and DeepSpeed's config are settled in it.

    Raises LaunchError where launch and config contradict each other.
    """
    optim, launch = config.optim, bring_deepspeed(config)
    precision = training_precision(config.model.dtype, optim.autocast)
    check_launch(launch, precision, config.PRECISION_SETTING)
    on_cpu = (
        not torch.cuda.is_available() and not launch.deepspeed
    )  # accelerate's use_cpu leaves DeepSpeed out
    plugin = deepspeed_plugin(launch, config.zero_values(launch.processes)) if launch.deepspeed else None
    arguments = Arguments(
        output_dir=config.output_dir,
        num_train_epochs=optim.epochs,
        max_steps=optim.max_steps or -1,
        per_device_train_batch_size=optim.per_device_batch_size,
        per_device_eval_batch_size=optim.per_device_batch_size,
        gradient_accumulation_steps=optim.gradient_accumulation_steps,
        learning_rate=optim.learning_rate,
        warmup_steps=optim.warmup_steps,
        weight_decay=optim.weight_decay,
        adam_beta1=optim.beta1,
        adam_beta2=optim.beta2,
        adam_epsilon=optim.epsilon,
        max_grad_norm=optim.max_grad_norm,
        # transformers refuses it on a CPU without use_cpu, which would leave DeepSpeed out: there it is set below
        bf16=optim.autocast == "bfloat16" and (on_cpu or torch.cuda.is_available()),
        seed=optim.seed,
        gradient_checkpointing=config.model.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False}
        if config.model.gradient_checkpointing
        else None,
        max_length=None,  # TRL's default of 1024 cuts image tokens
        dataset_kwargs={"skip_prepare_dataset": True},
        remove_unused_columns=False,
        average_tokens_across_devices=True,
        # every batch uses every part (sft.data.Collator), so there is nothing to search for
        ddp_find_unused_parameters=False,
        # on CPUs, without use_cpu or a backend accelerate lets every process train alone
        use_cpu=on_cpu,
        ddp_timeout=int(config.timeout_s) + 60,  # the watchdog speaks first
        ddp_backend="gloo" if launch.processes > 1 and not torch.cuda.is_available() else None,
        save_strategy="steps" if config.save_steps else "no",
        save_steps=config.save_steps or 500,
        save_total_limit=None,  # sft/trainer.py deletes: transformers would take checkpoint-2-best for its own
        eval_strategy="steps" if config.data.eval else "no",
        eval_steps=config.eval_steps,
        prediction_loss_only=True,
        logging_steps=config.logging_steps,
        logging_nan_inf_filter=False,  # a broken loss must be seen, and the filter waits for the device at every step
        disable_tqdm=True,
        report_to=config.report_to,
        dataloader_num_workers=config.data.workers,
        dataloader_persistent_workers=config.data.workers > 0,
        dataloader_pin_memory=torch.cuda.is_available(),
    )
    # not what ACCELERATE_MIXED_PRECISION says, which TRLConfig would take up
    arguments.mixed_precision = "bf16" if arguments.bf16 else "no"
    if plugin is not None:
        arguments.bf16 = precision == "bfloat16"
        arguments.mixed_precision = "bf16" if arguments.bf16 else "no"
        arguments.deepspeed_plugin = plugin
        plugin.set_mixed_precision(arguments.mixed_precision)
        plugin.set_deepspeed_weakref()  # from_pretrained splits the weights by it
    return arguments


def bring_deepspeed(config: SFTConfig) -> Launch:
    """The launch of this process, with the config's DeepSpeed file in it where it has one.

    The file takes the way of one that the launcher brings, so that both are treated alike.
    """
    launch = Launch.of_environment()
    if config.deepspeed is None:
        return launch
    if launch.deepspeed and launch.deepspeed_file != config.deepspeed:
        raise LaunchError(
            f"deepspeed: the config says {config.deepspeed}, the launch {launch.deepspeed_file or 'other settings'};"
            " set deepspeed=null, or launch without DeepSpeed"
        )
    os.environ["ACCELERATE_USE_DEEPSPEED"] = "true"
    os.environ["ACCELERATE_DEEPSPEED_CONFIG_FILE"] = config.deepspeed
    return Launch.of_environment()


def held_out_indices(config: SFTConfig, start: int, stop: int) -> Dataset:
    """Places of the held-out rows, filled up to equal shares of whole batches: accelerate would fill up with rows that
    then count twice in the loss."""
    step = config.optim.per_device_batch_size * Launch.of_environment().processes
    return Dataset.from_dict({"row": [*range(start, stop), *[BLANK] * (-(stop - start) % step)]})


def load_rows(config: SFTConfig, processor: Any, path: str, limit: int | None) -> tuple[list[Row], list[int]]:
    """Rows that can be trained on, and their lengths in tokens; each is looked at before the model is loaded.

    Raises RowError with the first 20 rows that cannot be used (`bad_rows: error`), TraceError with the first 20 that are
    too long (`long_rows: error`), and the count of the rest.
    """
    data, rows = config.data, read_rows(path, limit=limit)
    measure = partial(row_length, processor, max_frames=data.max_frames)
    looked = look_at_rows(rows, measure, processor, what="traces", max_frames=data.max_frames)
    context = None if data.max_tokens else context_length(config.model.path)
    lengths = {row["id"]: length for row, length in zip(rows, looked.lengths, strict=True)}
    beyond = {
        name: f"row {name!r}: {length} tokens, expected at most {context}, the model's context"
        for name, length in lengths.items()
        if context and length > context
    }
    problems = looked.problems | beyond
    kept, message = usable_rows(rows, problems, path, drop=data.bad_rows == "drop", most=data.max_bad_rows)
    if message:
        say(message)
    long = [row["id"] for row in kept if data.max_tokens and lengths[row["id"]] > data.max_tokens]
    if long:
        listed = _listed([f"row {name!r}: {lengths[name]} tokens" for name in long])
        message = (
            f"{path}: {len(long)} of {len(rows)} rows are longer than data.max_tokens = {data.max_tokens}"
        )
        if data.long_rows == "error":
            raise TraceError(f"{message} (data.long_rows: drop leaves them out):\n{listed}")
        say(f"{message} and left out:\n{listed}")
        dropped = set(long)
        kept = [row for row in kept if row["id"] not in dropped]
        if not kept:
            raise TraceError(f"{path}: no row is left; expected some of at most {data.max_tokens} tokens")
    return kept, [lengths[row["id"]] for row in kept]


def _listed(lines: list[str]) -> str:
    return "\n".join(f"  {line}" for line in lines[:20]) + (
        f"\n  and {len(lines) - 20} more" if len(lines) > 20 else ""
    )


def cache_fits(config: SFTConfig, processor: Any, rows: list[Row]) -> bool:
    """Whether encoded rows stay in memory: as configured, or by the size of a few spread over the file."""
    if config.data.cache_rows != "auto":
        return config.data.cache_rows
    sample = rows[:: math.ceil(len(rows) / 16)]
    size = sum(
        example_bytes(encode_example(processor, row, max_frames=config.data.max_frames)) for row in sample
    )
    return size / len(sample) * len(rows) <= config.data.cache_gb * 1e9


def lengths_for_sorting(config: SFTConfig, arguments: TRLConfig, lengths: list[int]) -> list[int] | None:
    """Lengths of the rows where sorting a step's rows can save padding, else None."""
    pieces = config.optim.gradient_accumulation_steps * arguments.world_size
    return lengths if config.data.sort_within_step and pieces > 1 else None


def check_master_weights(trainer: TraceTrainer) -> None:
    """Refuse to train low-precision weights where nothing keeps float32 copies of them: steps would round away."""
    low = [n for n, p in trainer.model.named_parameters() if p.requires_grad and p.dtype != torch.float32]
    if low and not trainer.is_deepspeed_enabled:
        raise LaunchError(
            f"model.dtype: expected float32 where no DeepSpeed keeps float32 master weights, got {trainer.model.dtype}"
            f" for weights that train: {low[0]}{f' and {len(low) - 1} more' if len(low) > 1 else ''} (use"
            " optim.autocast: bfloat16 for speed, or launch with a DeepSpeed config)"
        )


def save_final(config: SFTConfig, trainer: TraceTrainer, output: Path) -> Path:
    """Model, processor and tokenizer in `final/`; with LoRA `adapter/`, and the whole model in `merged/`."""
    result = output / ("adapter" if config.model.lora else "final")
    with writing_folder(result) as folder:
        trainer.save_model(str(folder))
        if trainer.is_world_process_zero():
            (folder / "training_args.bin").unlink(missing_ok=True)
    if config.model.lora:
        adapter, result = result, output / "merged"
        say("Merging the adapters into the model")
        with writing_folder(result) as folder:
            if trainer.is_world_process_zero():
                merge_adapter(config, adapter, folder)
    on_main(lambda: mark_finished(output, trainer.state.global_step, result))
    say(f"SFT done: {result}")
    return result


def merge_adapter(config: SFTConfig, adapter: Path, out: Path) -> None:
    """Write base model + adapter (+ base weights trained beside it) as one plain checkpoint.

    From the files, in one process: under ZeRO-3 no process holds the whole model.
    """
    import peft
    from safetensors.torch import load_file

    with without_zero3(), _quiet():
        model = load_model(config.model)
        model = peft.PeftModel.from_pretrained(model, adapter)
        if (adapter / TRAINED_BASE).is_file():
            missing = model.load_state_dict(load_file(adapter / TRAINED_BASE), strict=False)
            assert not missing.unexpected_keys, missing.unexpected_keys
    merged: Any = merge_lora(model)
    merged.save_pretrained(out)
    load_processor(config.model).save_pretrained(out)


@contextmanager
def _quiet():
    import contextlib
    import io

    with contextlib.redirect_stdout(io.StringIO()):
        yield
