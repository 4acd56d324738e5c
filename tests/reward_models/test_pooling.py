"""vLLM's pooling runner gives the scores of transformers, for both kinds, images and clips included."""

from __future__ import annotations

import pytest

from core.rows import read_rows
from reward_models.questions import Question, ResponseError
from reward_models.scoring import load_scorer
from tests.reward_models.test_loop import train


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["multimodal", "text"])
def test_scores_of_vllm_are_those_of_transformers(kind, tiny, pairs_file, text_pairs_file, tmp_path):
    file = pairs_file if kind == "multimodal" else text_pairs_file
    folder = str(train(tiny, file, tmp_path / "run", kind=kind, steps=12))
    rows = read_rows(file)
    questions = [Question(row, row[field]) for row in rows for field in ("chosen", "rejected")]
    questions.insert(3, Question(rows[0], "<|im_end|>"))
    expected = load_scorer(folder, device="cpu").judge(questions)
    found = load_scorer(folder, device="cpu", engine="vllm", max_tokens=512).judge(questions)
    assert [v.rule for v in found if isinstance(v, ResponseError)] == ["special_token"] and isinstance(
        found[3], ResponseError
    )
    scores = [(a, b) for a, b in zip(expected, found, strict=True) if not isinstance(a, ResponseError)]
    assert max(a for a, _ in scores) - min(a for a, _ in scores) > 0.5
    assert max(abs(a - b) for a, b in scores) < 1e-4
