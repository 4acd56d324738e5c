"""Visual search in small: rows of the search world, and a tiny policy that has learnt to zoom and to answer, not well."""

from __future__ import annotations

from pathlib import Path

import torch

from core.rows import read_rows, write_rows
from data_recipes.synthetic.worlds import FORMATS
from environments.dialogue import as_message, failed, observed, shown
from rl.config import GRPOConfig
from vlm.inputs import collate, encode_ids, encode_row, extend, joined, reply_ids
from vlm.load import load_model, load_processor
from vlm.tiny import build_tiny_vlm

CALL = '<grounding>{"bbox_2d": [0.2, 0.2, 0.6, 0.7], "source": "original_image"}</grounding>'
AGAIN = '<grounding>{"bbox_2d": [0.1, 0.1, 0.9, 0.9], "source": "observation_1"}</grounding>'
BROKEN = '<grounding>{"bbox_2d": 0.2}</grounding>'


def write_search_world(folder: Path, *, rows: int = 2, steps: int = 50) -> Path:
    """`model` and `rows.jsonl` in the folder. The policy zooms once or twice, calls wrongly, and answers A or B, all at random."""
    world = next(one for one in FORMATS if one.name == "synthetic_search")
    options = world.options(
        width=600,
        height=600,
        max_pixels=28 * 28 * 16,
        signs=4,
        sign_px=150,
        zooms=1,
        answers="choice",
        rows=rows,
    )
    made = [row for record in world.read(folder, options) for row in world.convert(record, options)]
    for row in made:
        row |= {"trace": None, "images": row["images"][:1]}
        wrong = next(letter for letter in "ABCD" if letter != row["answer"]["letter"])
        row["wrong"] = wrong
    write_rows(made, folder / "rows.jsonl")
    corpus = [
        part["text"] for row in made for m in row["prompt"] for part in _parts(m) if part["type"] == "text"
    ]
    texts = [CALL, AGAIN, BROKEN, "<answer>ABCD</answer>", *failed("grounding", 0, "expected four numbers")]
    build_tiny_vlm(folder / "model", [*corpus, *texts] * 20, hidden=64, layers=2)
    _learn(folder, read_rows(folder / "rows.jsonl")[:1], steps)
    return folder


def _parts(message) -> list[dict]:
    content = message["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _learn(folder: Path, rows: list[dict], steps: int) -> None:
    processor = load_processor(folder / "model", max_pixels=28 * 28 * 16)
    model = load_model(folder / "model").train()
    end = processor.tokenizer.eos_token
    examples = []
    for row in rows:
        right, wrong = (
            f"<answer>{letter}</answer>{end}" for letter in (row["answer"]["letter"], row["wrong"])
        )
        for turns in ([CALL, right], [CALL, AGAIN, wrong], [CALL, AGAIN, CALL, right], [BROKEN, wrong]):
            examples.append(_example(processor, row, turns))
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    batch = collate([sequence for sequence, _ in examples], pad_id=0)
    targets = torch.full_like(batch["input_ids"], -100)
    for i, (_, mask) in enumerate(examples):
        trained = torch.tensor(mask, dtype=torch.bool)
        targets[i, : len(mask)][trained] = batch["input_ids"][i, : len(mask)][trained]
    for _ in range(steps):
        logits = model(**batch, use_cache=False).logits[:, :-1].flatten(0, 1)
        torch.nn.functional.cross_entropy(logits, targets[:, 1:].flatten()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder / "model")


def _example(processor, row, turns):
    """The dialogue as one sequence, and 1 where the policy writes."""
    sequence = encode_row(processor, row)
    mask = [0] * len(sequence)
    picture, shown_so_far = sequence.images[0], 0
    for number, turn in enumerate(turns):
        ids = processor.tokenizer(turn, add_special_tokens=False)["input_ids"]
        sequence, mask = extend(sequence, ids), mask + [1] * len(ids)
        if number + 1 == len(turns):
            return sequence, mask
        if turn == BROKEN:
            content = failed("grounding", number, "bbox_2d: expected four numbers [x1, y1, x2, y2]")
        else:
            shown_so_far += 1
            crop = shown(picture.crop((120, 120, 360, 420)), min_pixels=28 * 28, max_pixels=28 * 28 * 16)
            content = observed("grounding", number, shown_so_far, (crop,))
        images = [part for part in content if not isinstance(part, str)]
        reply = encode_ids(processor, reply_ids(processor, as_message(content)), images)
        sequence, mask = joined(sequence, reply), mask + [0] * len(reply)
    raise AssertionError("a dialogue has turns")


def search_config(folder: Path, out: Path, **overrides) -> GRPOConfig:
    values = {
        "model": {"path": str(folder / "model"), "max_pixels": 28 * 28 * 16},
        "prompts": {"rows": str(folder / "rows.jsonl")},
        "rewards": {"grammar": "none", "tasks": {"search": ["choice"]}},
        "engine": {"kind": "transformers", "max_model_len": 900},
        "environment": {
            "tools": ["zoom"],
            "describe_tools": False,
            "max_turns": 2,
            "min_pixels": 28 * 28,
            "max_pixels": 28 * 28 * 16,
        },
        "rollout": {"prompts_per_step": 2, "completions_per_prompt": 6, "max_tokens": 80},
        "optimizer": {"learning_rate": 1e-4},
        "max_tokens_per_microbatch": 4000,
        "steps": 2,
        "save_every": 2,
        "output_dir": str(out),
    }
    return GRPOConfig.model_validate(values | overrides)
