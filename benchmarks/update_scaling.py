"""Speed-up of the update over TRL by group size and prompt length, compared with the ideal.

    python -m benchmarks.update_scaling [--repeats 5] [--threads 1] [--out benchmarks/results]

G in {4, 8, 16, 32} and prompts of {64, 320, 1024} tokens (with an image of 16, 256, 256 visual tokens), completions of
33 to 80 tokens, a random Qwen2.5-VL of 8 M parameters in float32. TRL runs in micro-batches of 8 sequences and computes logits
only for completions, as on CUDA (its CPU fallback computes every position and is slower; `update_vs_trl` measures both). Ours
is one micro-batch. The ideal assumes that time is proportional to tokens: all tokens of the unpadded sequences over the unique
ones. Times are medians of processor time on one thread, so that they can be measured on a shared machine; `wall_ratio` is the
same ratio in wall-clock time. Writes update_scaling.csv and .png; the last line is JSON.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path

import torch

from benchmarks.measure import interleaved_medians
from benchmarks.random_vlm import image_prompt, processor, random_group, random_model
from benchmarks.rivals import compact_head, prefix_grouper_loss, trl_inputs, trl_trainer
from engines.samples import Group
from rl.update.packing import pack
from rl.update.policy_gradient import policy_gradient

GROUPS = (4, 8, 16, 32)
IMAGE_SIDE = {64: 112, 320: 448, 1024: 448}  # prompt tokens -> pixels
ROWS = 8  # sequences in one micro-batch of TRL


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--groups", type=int, nargs="+", default=GROUPS)
    parser.add_argument("--prompts", type=int, nargs="+", default=tuple(IMAGE_SIDE))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    proc = processor()
    model = random_model(proc.tokenizer, hidden=256, layers=6, vocabulary=8192, vision_depth=4).train()
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters", flush=True)
    trainer = trl_trainer(model, proc)
    points: list[dict[str, float]] = []
    for tokens in args.prompts:
        prompt = image_prompt(proc, IMAGE_SIDE.get(tokens, 448), tokens)
        for size in args.groups:
            points.append(measure(model, trainer, random_group(prompt, size), args.repeats))
            print(points[-1], flush=True)
            write(points, args.out)
    large = [p["share_of_ideal"] for p in points if p["group"] >= 8]
    print(json.dumps({"lowest_share_of_ideal_from_G_8": min(large, default=None), "points": len(points)}))


def measure(model, trainer, group: Group, repeats: int) -> dict[str, float]:
    (batch,) = pack([group], max_tokens=10**9)
    total = batch.trained_tokens
    parts = [
        Group(group.samples[i : i + ROWS], group.advantages[i : i + ROWS])
        for i in range(0, len(group.rollouts), ROWS)
    ]
    rows = [
        trl_inputs(part, model.config.image_token_id) | {"num_items_in_batch": torch.tensor(total)}
        for part in parts
    ]

    def ours():
        policy_gradient(model, batch, total_tokens=total).loss.backward()

    def trl():
        for inputs in rows:
            with compact_head():
                trainer._compute_loss(model, inputs).backward()

    def prefix_grouper():
        prefix_grouper_loss(model, group, total).backward()

    seconds = interleaved_medians(
        {"ours": ours, "trl": trl, "prefix_grouper": prefix_grouper}, model, repeats
    )
    prompt = len(group.rollouts[0].prompt)
    every = sum(prompt + len(r.completion_ids) for r in group.rollouts)
    ideal = every / batch.tokens
    ratio = seconds["trl"].cpu / seconds["ours"].cpu
    return {
        "prompt_tokens": prompt,
        "group": len(group.rollouts),
        "ours_seconds": round(seconds["ours"].cpu, 4),
        "trl_seconds": round(seconds["trl"].cpu, 4),
        "prefix_grouper_seconds": round(seconds["prefix_grouper"].cpu, 4),
        "ratio": round(ratio, 2),
        "ideal": round(ideal, 2),
        "share_of_ideal": round(ratio / ideal, 3),
        "vs_prefix_grouper": round(seconds["prefix_grouper"].cpu / seconds["ours"].cpu, 2),
        "wall_ratio": round(seconds["trl"].wall / seconds["ours"].wall, 2),
    }


def write(points: list[dict[str, float]], out: Path) -> None:
    """Write the CSV and PNG of the points measured so far."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / "update_scaling.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, points[0])
        writer.writeheader()
        writer.writerows(points)
    draw(points, out / "update_scaling.png")


def draw(points: list[dict[str, float]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4))
    for tokens in dict.fromkeys(p["prompt_tokens"] for p in points):
        own = [p for p in points if p["prompt_tokens"] == tokens]
        x = [p["group"] for p in own]
        (line,) = left.plot(x, [p["ratio"] for p in own], "o-", label=f"{tokens} prompt tokens")
        left.plot(x, [p["ideal"] for p in own], "--", color=line.get_color())
        right.plot(x, [p["vs_prefix_grouper"] for p in own], "o-", color=line.get_color())
    left.set(
        title="TRL's time over ours (dashed: ideal)", xlabel="completions of a prompt, G", ylabel="ratio"
    )
    right.set(title="prefix-grouper's time over ours", xlabel="completions of a prompt, G", ylabel="ratio")
    right.axhline(1, color="grey", linewidth=0.8)
    for axes in (left, right):
        axes.set_xscale("log", base=2)
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
    left.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


if __name__ == "__main__":
    main()
