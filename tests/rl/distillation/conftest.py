"""The tiny model and the padded reference of the update's tests, and a teacher of another size."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.rl.update.conftest import lab, padded, same_gradients
from vlm.tiny import build_tiny_vlm

__all__ = ["lab", "padded", "same_gradients", "teacher_folder"]

CORPUS = ["What is one and one?", "Compare the two pictures.", "Look closer at what happens."]
"""That of `lab`, so that both have one tokenizer."""


@pytest.fixture(scope="session")
def teacher_folder(tmp_path_factory, family) -> Path:
    folder = tmp_path_factory.mktemp("teacher") / "model"
    return build_tiny_vlm(folder, CORPUS, family=family, hidden=128, layers=2, seed=7)
