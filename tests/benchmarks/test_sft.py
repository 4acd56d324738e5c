"""The SFT benchmark compares like with like: TRL's own batch and loss, and the packed form of the same rows."""

from __future__ import annotations

import pytest

from benchmarks.random_vlm import random_model
from benchmarks.sft import compare, make_processor, make_rows, trl_trainer


@pytest.mark.slow
def test_both_sides_train_the_same_tokens_to_the_same_gradient():
    processor = make_processor()
    model = random_model(processor.tokenizer, hidden=256, layers=2, vocabulary=600, vision_depth=2).train()
    trainer = trl_trainer(model, processor)
    rows = make_rows(1, 1, seed=1) + make_rows(1, 3)
    found = compare(model, processor, trainer, rows, repeats=1)
    assert found["grad_rel_err"] < 1e-5
    assert found["tokens"]["ours"] < found["tokens"]["trl"]
