"""One tiny model and its transformers engine."""

from __future__ import annotations

import pytest

from engines.build import build_engine
from engines.config import TransformersConfig
from vlm.load import load_processor
from vlm.tiny import build_tiny_vlm

CORPUS = ["How many are left? 0 1 2 3 4 5 6 7 8 9 look again what it says"] * 20


@pytest.fixture(scope="session")
def model_path(tmp_path_factory):
    return build_tiny_vlm(tmp_path_factory.mktemp("tiny"), CORPUS, hidden=64, layers=2)


@pytest.fixture(scope="session")
def processor(model_path):
    return load_processor(model_path)


@pytest.fixture(scope="session")
def engine(model_path, processor):
    config = TransformersConfig(max_model_len=256, images_per_prompt=4)
    return build_engine(config, model_path, processor, device="cpu")
