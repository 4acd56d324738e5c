"""One tiny model that has begun to learn eight tasks, for `benchmarks.mixed_tasks --world all`.

    python -m benchmarks.mixed_world runs/mix_0 --seed 0

The six tasks of the shapes world; captions of its scenes (`chat`), which a reward model judges that is trained here as well; and visual
search in several turns, with the rows of `launch.demo --world search`. All answers have the form <think>…</think><answer>…</answer>,
captions none. OUT gets `sft/final`, `reward_model/final`, `data/rl.jsonl` and `data/test.jsonl`.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from core.pairs import check_pair
from core.rows import read_rows, write_rows
from data_recipes.synthetic.shapes.preferences import RAMBLINGS, write_preferences
from data_recipes.synthetic.shapes.write import World, write_world
from launch.demo_phases import CONFIGS, LAUNCH, run
from launch.demo_search import FAMILY, ROPE_THETA, make_rows, texts
from vlm.families import FAMILIES

RAMBLING_SHARE = 0.7  # of the captions of SFT: the bad habit of this task
SCENES = {"train": 3000, "test": 150}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sft", action="append", default=[], metavar="ARG", help="extra argument for sft.py")
    parser.add_argument(
        "--reward-model", action="append", default=[], metavar="ARG", help="the same for reward_model.py"
    )
    args = parser.parse_args()
    out = args.out.resolve()
    data = out / "data"
    if not (data / "rl.jsonl").exists():
        write_rows_of_all_tasks(data, args.seed)
    untrained, finals = out / "untrained", {name: out / name / "final" for name in ("sft", "reward_model")}
    if not finals["sft"].exists():
        run("-m", "vlm.tiny", untrained, f"--family={FAMILY}", f"--corpus={data / 'corpus.txt'}",
            f"--rope-theta={ROPE_THETA}", f"--seed={args.seed}")  # fmt: skip
        run(*LAUNCH, "sft.py", f"--config={CONFIGS / 'sft_mixed_demo.yaml'}", f"model.path={untrained}",
            f"data.rows={data / 'sft.jsonl'}", f"data.eval_rows={data / 'held_out.jsonl'}", f"output_dir={out / 'sft'}",
            f"seed={args.seed}", *args.sft)  # fmt: skip
    if not finals["reward_model"].exists():
        run("reward_model.py", f"--config={CONFIGS / 'reward_model_demo.yaml'}", f"model.path={finals['sft']}",
            f"data.rows={data / 'captions' / 'train.jsonl'}", f"data.eval_rows={data / 'captions' / 'test.jsonl'}",
            f"output_dir={out / 'reward_model'}", f"seed={args.seed}", *args.reward_model)  # fmt: skip


def write_rows_of_all_tasks(data: Path, seed: int) -> None:
    """`sft.jsonl`, `held_out.jsonl` (searches with traces), `rl.jsonl` and `test.jsonl`."""
    cell = FAMILIES[FAMILY].factor
    write_world(data / "shapes", World(sft_rows=24_000, rl_rows=1400, test_rows=490, cell_px=cell, seed=seed))
    write_preferences(data / "captions", **SCENES, seed=seed, cell_px=cell)
    make_rows(data / "search", seed, [])
    rng = random.Random(f"mixed-{seed}")
    captions = {split: list(_captions(data / "captions" / f"{split}.jsonl", rng)) for split in SCENES}
    searches = {
        name: list(read_rows(data / "search" / name))
        for name in ("rows_1", "rows_2", "held_out_1", "held_out_2", "rl", "test")
    }
    shapes = {name: list(read_rows(data / "shapes" / f"{name}.jsonl")) for name in ("sft", "rl", "test")}
    sft = [*map(_as_turn, shapes["sft"]), *captions["train"], *searches["rows_1"], *searches["rows_2"]]
    write_rows(sft, data / "sft.jsonl")
    write_rows([*searches["held_out_1"], *searches["held_out_2"]], data / "held_out.jsonl")
    for split, other in (("rl", "train"), ("test", "test")):
        questions = [row | {"trace": None} for row in captions[other]]
        write_rows([*shapes[split], *questions, *searches[split]], data / f"{split}.jsonl")
    more = [row["trace"][0]["content"] for row in sft if row["task"] == "chat"]
    turns = [_as_turn(row)["trace"][0]["content"] for row in shapes["sft"][:2000]]
    asked = [row["prompt"][-1]["content"][-1]["text"] for row in shapes["sft"][:2000]]
    search = texts(data / "search" / "rows_1", data / "search" / "rows_2")
    (data / "corpus.txt").write_text("\n".join([*search, *more, *turns, *asked]))


def _captions(pairs: Path, rng: random.Random) -> Iterator[dict[str, Any]]:
    """A row for each scene, whose trace is a right caption, in most of them wrapped in words that say nothing."""
    for pair in read_rows(pairs, check=check_pair):
        if pair["kind"] == "wrong":
            caption = pair["chosen"]
            said = rng.choice(RAMBLINGS).format(caption) if rng.random() < RAMBLING_SHARE else caption
            fields = {key: pair[key] for key in ("id", "task", "prompt", "images", "videos", "source")}
            yield fields | {"answer": {"value": caption}, "trace": [{"role": "assistant", "content": said}]}


def _as_turn(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the shapes world with its stages as one turn of thinking and answering."""
    stages = row["trace"]
    thought = " ".join(stages[name] for name in ("summary", "caption", "reasoning"))
    turn = {
        "role": "assistant",
        "content": f"<think>{thought}</think><answer>{stages['conclusion']}</answer>",
    }
    return {**row, "trace": [turn]}


if __name__ == "__main__":
    main()
