"""A tiny model that has learnt to write the four stages, with answers it is unsure of; the transformers engine on it."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from engines.build import build_engine
from engines.config import TransformersConfig
from engines.engine import Engine
from inference.rounds import run_searches
from inference.types import Answer, Method, Question
from rewards.stages import STAGES, render
from vlm.inputs import Encoded, collate, encode, extend
from vlm.load import load_model, load_processor
from vlm.tiny import build_tiny_vlm

SUMS = [(a, b) for a in range(3) for b in range(3)]
STEPS = 60


@dataclass(frozen=True)
class Bench:
    """Rows with a sum each, their prompts, and the engine of a model that half knows them."""

    rows: list[dict[str, Any]]
    prompts: list[Encoded]
    engine: Engine
    processor: Any
    path: Path

    def questions(self, **changes: Any) -> list[Question]:
        settings = {"names": STAGES, "max_tokens": 60, "seed": 6, **changes}
        return [
            Question(row, prompt, self.processor, **settings)
            for row, prompt in zip(self.rows, self.prompts, strict=True)
        ]

    def answers(self, method: Method, **changes: Any) -> list[Answer]:
        """To all questions, searched together."""
        return run_searches(self.engine, [(one, method(one)) for one in self.questions(**changes)])


def row_of(a: int, b: int) -> dict[str, Any]:
    question = f"What is {a} + {b}?"
    return {
        "id": f"{a}+{b}",
        "task": "math",
        "prompt": [{"role": "user", "content": question}],
        "answer": {"value": str(a + b)},
    }


def trace_of(a: int, b: int, rng: random.Random) -> str:
    total = a + b + rng.choice([0, 0, 0, 1])
    caption = rng.choice(["No image.", "There is none."])
    return render(
        {"summary": "Add.", "caption": caption, "reasoning": f"{a} + {b} = {total}", "conclusion": str(total)}
    )


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    rng = random.Random(0)
    corpus = [trace_of(a, b, rng) for a, b in SUMS for _ in range(8)]
    corpus += ["What is 1 + 2?", " assistant user"] * 8
    path = build_tiny_vlm(tmp_path_factory.mktemp("stages") / "model", corpus, hidden=64, layers=2)
    processor = load_processor(path)
    rows = [row_of(a, b) for a, b in SUMS]
    prompts = [encode(processor, row["prompt"]) for row in rows]
    _teach(path, processor, prompts, rng)
    config = TransformersConfig(max_model_len=1024)
    return Bench(rows, prompts, build_engine(config, path, processor, device="cpu"), processor, path)


def _teach(path: Path, processor: Any, prompts: list[Encoded], rng: random.Random) -> None:
    """Cross-entropy on traces whose sums are wrong one time in four."""
    model = load_model(path).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    end = processor.tokenizer.eos_token_id
    for _ in range(STEPS):
        whole = []
        for (a, b), prompt in zip(SUMS, prompts, strict=True):
            ids = processor.tokenizer(trace_of(a, b, rng), add_special_tokens=False).input_ids
            whole.append(extend(prompt, [*ids, end]))
        batch = collate(whole, pad_id=0)
        labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
        for i, prompt in enumerate(prompts):
            labels[i, : len(prompt)] = -100
        logits = model(**batch).logits[:, :-1]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.save_pretrained(path)
