"""The shapes world as documents, and a tiny model that knows its words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from data_recipes.synthetic.shapes.stages import write_stages
from vlm.load import load_processor
from vlm.tiny import build_tiny_vlm


@pytest.fixture(scope="session")
def world(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_stages(folder, rows=24, held_out=3)
    return folder


@pytest.fixture(scope="session")
def tiny(tmp_path_factory, world, family) -> Path:
    corpus = (world / "corpus.txt").read_text().splitlines()[:600]
    return build_tiny_vlm(tmp_path_factory.mktemp("tiny"), corpus, family=family, hidden=64, layers=2)


@pytest.fixture(scope="session")
def processor(tiny) -> Any:
    return load_processor(tiny)
