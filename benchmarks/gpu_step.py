"""Updates of a full-size Qwen2.5-VL with random weights on one GPU: tokens per second, MFU, peak memory.

    python -m benchmarks.gpu_step --size 3b [--group 8] [--prompts 4] [--completion 512] [--repeats 5]
    python -m benchmarks.gpu_step --size tiny --device cpu        (smoke test: the figures are meaningless)

bfloat16 weights, gradient checkpointing, one 448x448 image per prompt. Three implementations of the same update: ours
(merged attention), the padded one (unmodified `transformers`, `--rows` sequences at a time), and TRL 1.16's GRPO loss on
the same rows. Before timing, the merged kernels are compared with the explicit mask on a small batch.

tokens_per_second counts all tokens of all sequences (what the padded form computes, without padding), so that the forms are
comparable. MFU counts only the operations each form needs (6 x parameters x tokens, plus attention; recomputation by
checkpointing is not counted), relative to `--peak-tflops` of dense bfloat16 (989 for H100 and H200).
Results go to benchmarks/results/gpu_step_<size>.json with hardware and versions; the last line is the same JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from benchmarks.random_vlm import NO_SPECIAL_TOKENS, image_prompt, media_tokens, processor, random_group
from benchmarks.rivals import trl_inputs, trl_trainer
from engines.samples import Group
from rl.update.packing import pack
from rl.update.policy_gradient import policy_gradient
from vlm.inputs import collate, extend

TEXT: dict[str, dict[str, Any]] = {
    "tiny": {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2, "num_attention_heads": 4}
    | {"num_key_value_heads": 2, "vocab_size": 1024, "tie_word_embeddings": True},
    "3b": {
        "hidden_size": 2048,
        "intermediate_size": 11008,
        "num_hidden_layers": 36,
        "num_attention_heads": 16,
    }
    | {"num_key_value_heads": 2, "vocab_size": 151936, "tie_word_embeddings": True},
    "7b": {
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
    }
    | {"num_key_value_heads": 4, "vocab_size": 152064, "tie_word_embeddings": False},
}
VISION: dict[str, dict[str, Any]] = {
    "tiny": {
        "depth": 2,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_heads": 2,
        "fullatt_block_indexes": [1],
    },
    "3b": {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16},
    "7b": {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16},
}


def build(size: str, device: str, tokenizer):
    """Qwen2_5_VLForConditionalGeneration of a published size with random bfloat16 weights."""
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    text = TEXT[size]
    head = text["hidden_size"] // text["num_attention_heads"]
    section = [head // 8, head * 3 // 16, head * 3 // 16]
    config = Qwen2_5_VLConfig(
        text_config=text
        | NO_SPECIAL_TOKENS
        | {
            "max_position_embeddings": 32768,
            "rope_parameters": {"rope_type": "default", "mrope_section": section, "rope_theta": 1e6},
        },
        vision_config=VISION[size] | {"out_hidden_size": text["hidden_size"], "window_size": 112},
        tie_word_embeddings=text["tie_word_embeddings"],
        **media_tokens(tokenizer),
    )
    torch.manual_seed(0)
    with torch.device(device):
        model = Qwen2_5_VLForConditionalGeneration._from_config(
            config, dtype=torch.bfloat16, attn_implementation="sdpa"
        )
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return model.train()


def kernel_error(model, group: Group) -> float:
    """Relative difference between the gradients with merged kernels and with the explicit mask, on two short completions."""
    small = Group(group.samples[:2], group.advantages[:2])
    (batch,) = pack([small], max_tokens=10**9)
    gradients = []
    for form in ("merged", "explicit"):
        model.zero_grad(set_to_none=True)
        policy_gradient(model, batch, total_tokens=batch.trained_tokens, attention=form).loss.backward()
        gradients.append([p.grad for p in model.parameters() if p.grad is not None])
    difference = sum(float((a - b).float().square().sum()) for a, b in zip(*gradients, strict=True))
    return (difference / sum(float(b.float().square().sum()) for b in gradients[1])) ** 0.5


def padded_update(model, groups: list[Group], total: int, rows: int) -> None:
    """Padded update: full sequences, `rows` at a time, with the logits of all completion tokens at once."""
    pairs = [(r, a) for g in groups for r, a in zip(g.rollouts, g.advantages, strict=True)]
    device = model.lm_head.weight.device
    for start in range(0, len(pairs), rows):
        chosen = pairs[start : start + rows]
        batch = collate([extend(r.prompt, r.completion_ids) for r, _ in chosen], pad_id=0)
        batch = {k: v.to(device) for k, v in batch.items()}
        keep = max(len(r.completion_ids) for r, _ in chosen) + 1
        logits = model(**batch, use_cache=False, logits_to_keep=keep).logits[:, :-1].float()
        log_probs = logits.log_softmax(-1).gather(-1, batch["input_ids"][:, -keep + 1 :, None])[..., 0]
        mask = torch.zeros_like(log_probs)
        advantages = torch.tensor([a for _, a in chosen], device=device)[:, None]
        longest = batch["input_ids"].shape[1]
        for i, (r, _) in enumerate(chosen):
            first = len(r.prompt) - (longest - keep + 1)
            mask[i, first : first + len(r.completion_ids)] = 1
        (-(advantages * log_probs * mask).sum() / total).backward()


def needed_flops(model, groups: list[Group], shared: bool) -> float:
    """Floating-point operations of an update; shared: prompts and images are computed once per group."""
    text, vision = model.config.text_config, model.config.vision_config
    vision_parameters = sum(p.numel() for p in model.model.visual.parameters())
    head = text.vocab_size * text.hidden_size
    layers = sum(p.numel() for p in model.model.language_model.layers.parameters())
    flops = 0.0
    for group in groups:
        prompt = group.rollouts[0].prompt
        times = 1 if shared else len(group.rollouts)
        lengths = [len(r.completion_ids) for r in group.rollouts]
        tokens = times * len(prompt) + sum(lengths)
        patches = 0 if prompt.pixel_values is None else len(prompt.pixel_values)
        # scores and weighted values: 2 products x 2 operations, half of them causal, times 3 for the backward pass
        pairs = times * len(prompt) ** 2 / 2 + sum(n * len(prompt) + n * n / 2 for n in lengths)
        flops += 6 * (layers * tokens + head * sum(lengths)) + 6 * vision_parameters * times * patches
        flops += 12 * pairs * text.hidden_size * text.num_hidden_layers
        window = (vision.window_size // vision.patch_size) ** 2
        full = len(vision.fullatt_block_indexes)
        seen = full * patches + (vision.depth - full) * min(window, patches)
        flops += 12 * times * patches * seen * vision.hidden_size
    return flops


def measure(update: Callable[[], None], model, repeats: int) -> dict[str, float]:
    """Median seconds (after a warm-up) and peak memory of forward and backward; running out of memory is also reported."""
    cuda = model.lm_head.weight.is_cuda
    seconds = []
    try:
        for i in range(repeats + 1):
            model.zero_grad(set_to_none=True)
            if cuda:
                torch.cuda.reset_peak_memory_stats()
                torch.cuda.synchronize()
            start = time.perf_counter()
            update()
            if cuda:
                torch.cuda.synchronize()
            if i:
                seconds.append(time.perf_counter() - start)
    except torch.OutOfMemoryError:
        model.zero_grad(set_to_none=True)
        torch.cuda.empty_cache()
        return {"out_of_memory": True}
    result = {"seconds": statistics.median(seconds)}
    if cuda:
        result["peak_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=TEXT, default="3b")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--group", type=int, default=8)
    parser.add_argument("--prompts", type=int, default=4)
    parser.add_argument("--prompt-tokens", type=int, default=512)
    parser.add_argument("--image-side", type=int, default=448, help="pixels")
    parser.add_argument(
        "--completion",
        type=int,
        default=512,
        help="maximum completion length in tokens; the shortest has half of it",
    )
    parser.add_argument(
        "--max-tokens", type=int, default=16384, help="maximum number of tokens in one of our micro-batches"
    )
    parser.add_argument("--rows", type=int, default=8, help="sequences in one padded micro-batch")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--peak-tflops", type=float, default=989.0)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    args = parser.parse_args()

    proc = processor()
    model = build(args.size, args.device, proc.tokenizer)
    lengths = [
        args.completion - (args.completion // 2) * i // max(1, args.group - 1) for i in range(args.group)
    ]
    groups = [
        random_group(
            image_prompt(proc, args.image_side, args.prompt_tokens, seed=i),
            args.group,
            lengths=lengths,
            seed=i,
        )
        for i in range(args.prompts)
    ]
    total = sum(sum(r.loss_mask) for g in groups for r in g.rollouts)
    batches = pack(groups, max_tokens=args.max_tokens)
    trainer = trl_trainer(model, proc, bf16=False, cpu=args.device == "cpu")
    rows = []
    for group in groups:
        for i in range(0, args.group, args.rows):
            part = slice(i, i + args.rows)
            piece = Group(group.samples[part], group.advantages[part])
            inputs = trl_inputs(piece, model.config.image_token_id) | {
                "num_items_in_batch": torch.tensor(total)
            }
            rows.append({k: v.to(args.device) if torch.is_tensor(v) else v for k, v in inputs.items()})

    def ours() -> None:
        for batch in batches:
            policy_gradient(model, batch, total_tokens=total).loss.backward()

    def padded() -> None:
        padded_update(model, groups, total, args.rows)

    def trl() -> None:
        for inputs in rows:
            trainer._compute_loss(model, inputs).backward()

    results: dict[str, dict[str, float]] = {}
    error = kernel_error(model, groups[0])
    print(f"merged kernels against explicit mask: gradient relative difference {error:.1e}", flush=True)
    every = sum(len(r.prompt) + len(r.completion_ids) for g in groups for r in g.rollouts)
    for name, update in {"ours": ours, "padded": padded, "trl": trl}.items():
        result = measure(update, model, args.repeats)
        if "seconds" in result:
            flops = needed_flops(model, groups, shared=name == "ours")
            result["tokens_per_second"] = round(every / result["seconds"])
            result["mfu"] = round(flops / result["seconds"] / (args.peak_tflops * 1e12), 4)
        results[name] = result
        print(name, result, flush=True)

    report = {
        "size": args.size,
        "parameters": sum(p.numel() for p in model.parameters()),
        "hardware": torch.cuda.get_device_name() if args.device != "cpu" else "cpu",
        "versions": {name: version(name) for name in ("torch", "transformers", "trl")},
        "settings": {k: v for k, v in vars(args).items() if k != "out"},
        "kernel_error": error,
        **results,
    }
    if "seconds" in results["ours"]:
        for name in ("padded", "trl"):
            if "seconds" in results[name]:
                report[f"time_ratio_{name}"] = round(results[name]["seconds"] / results["ours"]["seconds"], 2)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / f"gpu_step_{args.size}.json").write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report))


if __name__ == "__main__":
    main()
