"""Time and memory of one on-policy update: ours, TRL 1.16's GRPO loss, and the published prefix-grouper.

    python -m benchmarks.update_vs_trl [--family qwen3_vl] [--repeats 5] [--threads 2]

Random Qwen2.5-VL (or another family) of about 40 M parameters, float32, one 448x448 image (256 visual tokens; 196 in
Qwen3-VL), 320 prompt tokens, G = 8 completions of 33 to 80 tokens.
All implementations alternate in one process on the same rollouts; times are medians. Peak memory counts tensors (activations
and gradients), without and with the weights. The last line is a JSON object:

time_ratio: TRL's time over ours. memory_ratio: our peak over TRL's, both including the weights.
grad_rel_err: |ours - TRL's| / |TRL's| over all parameters. vs_prefix_grouper: its time over ours.

On CPU TRL's fused head computes every position of the padded batch (on CUDA only the completions'); `trl_compact_ratio` is the
time ratio without that handicap. `cpu_time_ratios` are the same ratios in processor time, which is fairer on a shared machine
(use --threads 1, since waiting threads spin and are counted).
"""

from __future__ import annotations

import argparse
import json
import os
import platform

import torch

from benchmarks.measure import gradient, interleaved_medians, peak_cpu_bytes
from benchmarks.random_vlm import image_prompt, processor, random_group, random_model
from benchmarks.rivals import compact_head, prefix_grouper_loss, trl_inputs, trl_trainer
from rl.update.packing import pack
from rl.update.policy_gradient import policy_gradient
from vlm.families import DEFAULT_FAMILY


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--family", choices=("qwen2_5_vl", "qwen3_vl"), default=DEFAULT_FAMILY)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--group", type=int, default=8)
    parser.add_argument("--prompt-tokens", type=int, default=320)
    parser.add_argument("--image-side", type=int, default=448, help="pixels")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    proc = processor(family=args.family)
    model = random_model(proc.tokenizer, family=args.family).train()
    group = random_group(image_prompt(proc, args.image_side, args.prompt_tokens), args.group)
    (batch,) = pack([group], max_tokens=10**9)
    total = batch.trained_tokens
    trainer = trl_trainer(model, proc)
    inputs = trl_inputs(group, model.config.image_token_id)

    def ours():
        policy_gradient(model, batch, total_tokens=total).loss.backward()

    def trl():
        trainer._compute_loss(model, inputs).backward()

    def trl_compact():
        with compact_head():
            trainer._compute_loss(model, inputs).backward()

    def prefix_grouper():
        prefix_grouper_loss(model, group, total).backward()

    updates = {"ours": ours, "trl": trl, "trl_compact": trl_compact, "prefix_grouper": prefix_grouper}
    parameters = sum(p.numel() for p in model.parameters())
    print(
        f"{parameters / 1e6:.1f} M parameters, prompt {args.prompt_tokens} tokens, G = {args.group}, {total} trained"
    )

    reference = gradient(trl, model)
    errors = {
        name: float((gradient(u, model) - reference).norm() / reference.norm()) for name, u in updates.items()
    }
    peaks = {name: peak_cpu_bytes(update, model) for name, update in updates.items()}
    load = os.getloadavg()[0]
    seconds = interleaved_medians(updates, model, args.repeats)

    weights = 4 * parameters
    for name in updates:
        print(
            f"{name:<16}{seconds[name].wall:8.3f} s ({seconds[name].cpu:.3f} s CPU)  {peaks[name] / 2**20:8.0f} MiB + weights"
            f"  gradient error {errors[name]:.1e}"
        )
    ratios = {name: round(seconds[name].wall / seconds["ours"].wall, 2) for name in updates}
    cpu_ratios = {name: round(seconds[name].cpu / seconds["ours"].cpu, 2) for name in updates}
    print(
        json.dumps(
            {
                "family": args.family,
                "time_ratio": ratios["trl"],
                "memory_ratio": round((peaks["ours"] + weights) / (peaks["trl"] + weights), 3),
                "grad_rel_err": errors["ours"],
                "vs_prefix_grouper": ratios["prefix_grouper"],
                "trl_compact_ratio": ratios["trl_compact"],
                "memory_ratio_to_compact": round(
                    (peaks["ours"] + weights) / (peaks["trl_compact"] + weights), 3
                ),
                "memory_ratio_without_weights": round(peaks["ours"] / peaks["trl"], 3),
                "cpu_time_ratios": cpu_ratios,
                "seconds": {name: round(s.wall, 4) for name, s in seconds.items()},
                "repeats": args.repeats,
                "threads": args.threads,
                "load": [round(load, 1), round(os.getloadavg()[0], 1)],
                "torch": torch.__version__,
                "machine": platform.machine(),
            }
        )
    )


if __name__ == "__main__":
    main()
