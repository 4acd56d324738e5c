"""Time and memory of one SFT update: ours, packed, and TRL 1.16's SFTTrainer with its own collator, on the same rows.

    python -m benchmarks.sft [--repeats 5] [--threads 2] [--images 8]

Random Qwen2.5-VL of about 40 M parameters, float32, no gradient checkpointing; the vision tower takes as large a share of
the computation as in Qwen2.5-VL-3B, the LM head a larger one. Rows of one image (64 to 400 visual tokens, as images of
their own sizes give), a question and a structured trace as the answer. Two sets: one question about each of 8 images, five about each
of 2. TRL gets them as prompt-completion rows (`DataCollatorForVisionLanguageModeling`, `max_length=None`, loss on
completions alone), all in one batch; ours are encoded and packed as `sft.py` does it. An update is forward and backward;
the optimizer's step is the same for both. Both sides run in turn in one process; times are medians. Peak memory counts
tensors (activations and gradients), without and with the weights. The last line is a JSON object; for `one` and `five`:

time_ratio: TRL's time over ours. memory_ratio: TRL's peak over ours, the weights, which both sides have, counted in.
with_collation: the time ratio if making the batch from decoded images counts (both can do it in other processes).
cpu_time_ratio: time_ratio in processor time, on a shared machine the fairer clock. trl_compact_ratio: time_ratio if TRL's
fused head scored completions alone, as on CUDA; on CPUs it scores every position of the padded batch.
grad_rel_err: |ours - TRL's| / |TRL's| over all parameters.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from benchmarks.measure import gradient, interleaved_medians, peak_cpu_bytes
from benchmarks.random_vlm import random_model
from benchmarks.rivals import compact_head
from core.rows import Row
from rewards.stages import STAGES, render
from sft.data import encode_example
from sft.packing import micro_batches
from vlm.families import attach_family
from vlm.packed.forward import packed_forward
from vlm.tiny import build_processor, build_tokenizer

SIDES = (224, 336, 448, 560)
"""Pixels of the square images, in turn."""
WORDS = ("find", "the", "red", "box")
"""Each of them is one token behind a blank."""
QUESTION_WORDS, TRACE_WORDS = (12, 40), (4, 20)
"""Fewest and most words of a question, and of each of the four stages of a trace."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--images", type=int, default=8, help="with one question each; a quarter of them with five each"
    )
    parser.add_argument("--sets", nargs="+", choices=("one", "five"), default=["one", "five"])
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    processor = make_processor()
    model = random_model(processor.tokenizer, vision_depth=4).train()
    parameters = sum(p.numel() for p in model.parameters())
    print(f"{parameters / 1e6:.1f} M parameters")
    trainer = trl_trainer(model, processor)
    report: dict[str, Any] = {}
    sets = {"one": (args.images, 1), "five": (max(1, args.images // 4), 5)}
    for name in args.sets:
        report[name] = compare(model, processor, trainer, make_rows(*sets[name]), args.repeats)
    report |= {
        "repeats": args.repeats,
        "threads": args.threads,
        "load": round(os.getloadavg()[0], 1),
        "torch": torch.__version__,
        "machine": platform.machine(),
    }
    print(json.dumps(report))


def make_processor() -> Any:
    tags = [f"<{stage}></{stage}>" for stage in STAGES]
    processor = build_processor(build_tokenizer([" ".join(WORDS), *tags]), max_visual_tokens=1024)
    attach_family(processor, {"model_type": "qwen2_5_vl", "vision_config": {}}, "benchmark")
    return processor


def compare(model: nn.Module, processor: Any, trainer: Any, rows: list[Row], repeats: int) -> dict[str, Any]:
    """Both updates on the same rows."""
    texts = [as_text(processor, row) for row in rows]
    inputs = trainer.data_collator([dict(text) for text in texts])
    batches = [b.packed for b in micro_batches([encode_example(processor, row) for row in rows], 10**9)]
    targets = int((inputs["labels"] != -100).sum())
    if targets != sum(len(batch.targets) for batch in batches):
        raise ValueError("expected the same target tokens on both sides")

    def ours() -> None:
        for batch in batches:
            (packed_forward(model, batch).loss / targets).backward()

    def trl() -> None:
        trainer.compute_loss(model, dict(inputs), num_items_in_batch=targets).backward()

    def trl_compact() -> None:
        with compact_head():
            trl()

    updates = {"ours": ours, "trl": trl, "trl_compact": trl_compact}
    reference, found = gradient(trl, model), gradient(ours, model)
    peaks = {name: peak_cpu_bytes(updates[name], model) for name in ("ours", "trl")}
    seconds = interleaved_medians(updates, model, repeats)
    collation = {
        "ours": median_s(lambda: micro_batches([encode_example(processor, r) for r in rows], 10**9), repeats),
        "trl": median_s(lambda: trainer.data_collator([dict(text) for text in texts]), repeats),
    }

    tokens = sum(batch.layout.total for batch in batches)
    print(
        f"{len(rows)} rows, {targets} targets; tokens computed: {tokens} packed, {inputs['input_ids'].numel()} padded"
    )
    for name in peaks:
        print(
            f"{name:<6}{seconds[name].wall:8.3f} s ({seconds[name].cpu:.3f} s CPU), batch made in {collation[name]:.3f} s,"
            f" {peaks[name] / 2**20:8.0f} MiB + weights"
        )
    weights = 4 * sum(p.numel() for p in model.parameters())
    whole = {name: seconds[name].wall + collation[name] for name in peaks}
    return {
        "time_ratio": round(seconds["trl"].wall / seconds["ours"].wall, 2),
        "memory_ratio": round((peaks["trl"] + weights) / (peaks["ours"] + weights), 2),
        "memory_ratio_without_weights": round(peaks["trl"] / peaks["ours"], 2),
        "with_collation": round(whole["trl"] / whole["ours"], 2),
        "cpu_time_ratio": round(seconds["trl"].cpu / seconds["ours"].cpu, 2),
        "trl_compact_ratio": round(seconds["trl_compact"].wall / seconds["ours"].wall, 2),
        "grad_rel_err": float((found - reference).norm() / reference.norm()),
        "tokens": {"ours": tokens, "trl": inputs["input_ids"].numel()},
        "seconds": {name: round(s.wall, 4) for name, s in seconds.items()},
    }


def median_s(work: Callable[[], Any], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def make_rows(images: int, questions: int, seed: int = 0) -> list[Row]:
    """`questions` rows about each of `images` random pictures."""
    draw, pixels = random.Random(seed), np.random.default_rng(seed)

    def words(bounds: tuple[int, int]) -> str:
        return " ".join(draw.choice(WORDS) for _ in range(draw.randint(*bounds)))

    rows: list[Row] = []
    for number in range(images):
        side = SIDES[number % len(SIDES)]
        picture = Image.fromarray(pixels.integers(0, 255, (side, side, 3), dtype=np.uint8))
        for question in range(questions):
            content = [{"type": "image"}, {"type": "text", "text": words(QUESTION_WORDS)}]
            rows.append(
                {
                    "id": f"{number}-{question}",
                    "prompt": [{"role": "user", "content": content}],
                    "images": [picture],
                    "videos": [],
                    "trace": {stage.lower(): words(TRACE_WORDS) for stage in STAGES},
                }
            )
    return rows


def as_text(processor: Any, row: Row) -> dict[str, Any]:
    """The row as TRL takes it, with the same tokens: text of the prompt, text of the completion, images."""
    prompt = processor.apply_chat_template(row["prompt"], add_generation_prompt=True, tokenize=False)
    completion = render(row["trace"]) + processor.tokenizer.eos_token
    return {"prompt": prompt, "completion": completion, "images": row["images"]}


def trl_trainer(model: nn.Module, processor: Any) -> Any:
    """TRL's SFTTrainer with its own collator for vision-language models; its loss and its batches are used."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer
    from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling

    collator = DataCollatorForVisionLanguageModeling(processor, max_length=None, completion_only_loss=True)
    args = SFTConfig(
        output_dir=tempfile.mkdtemp(),
        use_cpu=True,
        bf16=False,
        max_length=None,
        gradient_checkpointing=False,
        completion_only_loss=True,
        report_to=[],
        dataset_kwargs={"skip_prepare_dataset": True},
    )
    rows = Dataset.from_list([as_text(processor, row) for row in make_rows(1, 1)])
    return SFTTrainer(
        model=model, args=args, train_dataset=rows, processing_class=processor, data_collator=collator
    )


if __name__ == "__main__":
    main()
