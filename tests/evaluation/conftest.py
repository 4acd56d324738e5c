"""Rows of the synthetic world and two tiny models, shared by the evaluation's tests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Bench:
    """Held-out rows of all tasks, two models of one architecture with other weights, and one of another architecture."""

    rows: Path
    one: Path
    two: Path
    wider: Path


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    from data_recipes.synthetic.shapes.write import World, corpus, write_world
    from vlm.tiny import build_tiny_vlm

    folder = tmp_path_factory.mktemp("evaluation")
    write_world(folder / "world", World(sft_rows=0, rl_rows=0, test_rows=14, seed=3), progress=False)
    texts = corpus(3, examples=60)
    return Bench(
        rows=folder / "world" / "test.jsonl",
        one=build_tiny_vlm(folder / "one", texts, hidden=64, layers=2, seed=0),
        two=build_tiny_vlm(folder / "two", texts, hidden=64, layers=2, seed=1),
        wider=build_tiny_vlm(folder / "wider", texts, hidden=128, layers=2, seed=1),
    )
