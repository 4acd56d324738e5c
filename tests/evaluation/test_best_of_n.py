"""The best-of-n curve: exact expectations, and a proxy that is over-optimised by design."""

from __future__ import annotations

import itertools
import json
import math
import random

import numpy as np
import pytest

from core.errors import RunError
from core.files.jsonl import append
from evaluation.best_of_n import (
    BestOfNConfig,
    divergence,
    expected_best,
    fit,
    markdown,
    study,
    write_best_of_n,
)
from evaluation.config import EvaluationConfig


def by_hand(chooses, counts, n: int) -> float:
    """The mean over all sets of n answers, equal ones sharing the choice."""
    found = []
    for some in itertools.combinations(range(len(counts)), n):
        best = [i for i in some if chooses[i] == max(chooses[j] for j in some)]
        found.append(np.mean([counts[i] for i in best]))
    return float(np.mean(found))


@pytest.mark.parametrize("seed", range(5))
def test_the_expectation_is_that_over_all_sets_of_n(seed):
    rng = random.Random(seed)
    chooses, counts = [rng.random() for _ in range(7)], [rng.random() for _ in range(7)]
    expected = [by_hand(chooses, counts, n) for n in range(1, 8)]
    assert expected_best(chooses, counts) == pytest.approx(expected)


def test_equal_scores_share_the_choice():
    assert expected_best([1, 1, 1], [0, 0, 3]) == pytest.approx([1, 1, 1])
    assert expected_best([0, 1, 1], [9, 0, 1])[-1] == pytest.approx(0.5)


def test_many_answers_overflow_nothing():
    found = expected_best(range(1000), [i / 999 for i in range(1000)])
    assert found[0] == pytest.approx(0.5) and found[-1] == pytest.approx(1.0) and (np.diff(found) >= 0).all()


def test_the_divergence_and_the_form_of_the_curve():
    assert divergence(1) == 0 and divergence(4) == pytest.approx(math.log(4) - 0.75)
    d = np.sqrt([divergence(n) for n in range(1, 33)])
    assert fit((0.2 + d * (0.5 - 0.2 * d)).tolist()) == pytest.approx((0.5, 0.2))


def answers(rows: int = 60, size: int = 16, *, hacked: bool) -> list[dict]:
    """Answers of a hidden quality in [0, 1], which the proxy sees; a hacked one sees a trick on top, which spoils one answer in ten."""
    rng, records = random.Random(0), []
    for row in range(rows):
        for _ in range(size):
            quality, trick = rng.random(), hacked and rng.random() < 0.1
            components = {
                "reward_model": min(1.0, 0.5 * quality + 0.5 * trick),
                "truth": 0.0 if trick else quality,
            }
            record = {"mode": "sampled", "checkpoint": "rl", "row_id": f"r{row}", "task": "chat"}
            records.append(record | {"components": components})
    return records


def test_a_proxy_that_is_the_truth_never_loses_by_choosing_more():
    one = study(answers(hacked=False), BestOfNConfig(verified="truth"))["checkpoints"]["rl"]
    assert (
        one["rows"] == 60 and one["peak"] == 16 and not one["over_optimised"] and one["beta"] < one["alpha"]
    )
    assert [v["mean"] for v in one["verified"]] == pytest.approx([c["mean"] for c in one["ceiling"]])


def test_a_hacked_proxy_rises_while_the_truth_falls():
    found = study(answers(hacked=True), BestOfNConfig(verified="truth"))
    one = found["checkpoints"]["rl"]
    proxy, verified = ([v["mean"] for v in one[kind]] for kind in ("proxy", "verified"))
    assert proxy == sorted(proxy) and 1 < one["peak"] < 16 and one["over_optimised"]
    assert verified[-1] < verified[0] and one["lost"]["mean"] < -0.2 and one["beta"] > 0
    text = markdown(found)
    assert f"over-optimised: truth is highest at n = {one['peak']}" in text and "| 16 | 1.84 |" in text


def test_rows_that_lack_a_reward_are_left_out_and_counted():
    records = answers(hacked=False)
    records[3]["components"]["truth"] = None
    greedy = [r | {"mode": "greedy", "components": {}} for r in records[:5]]
    other = [r | {"task": "math", "row_id": "m", "components": {"math": 1.0}} for r in records[:16]]
    one = study([*records, *greedy, *other], BestOfNConfig(verified="truth"))["checkpoints"]["rl"]
    assert (one["rows"], one["left_out"]) == (59, 1)


def test_an_evaluation_writes_the_curve_beside_its_answers(tmp_path, capsys):
    fields = {
        "checkpoints": {"rl": "runs/rl/final"},
        "rows": "rows.jsonl",
        "rewards": {
            "tasks": {"chat": ["reward_model", {"function": "exact_text", "component": "truth", "weight": 0}]}
        },
        "output_dir": str(tmp_path),
        "best_of_n": {"verified": "truth"},
    }
    append(tmp_path / "eval_rollouts.jsonl", answers(hacked=True))
    found = write_best_of_n(EvaluationConfig.model_validate(fields | {"samples": 16}))
    assert json.loads((tmp_path / "bestofn.json").read_text()) == found
    assert "rl: over-optimised" in capsys.readouterr().out
    with pytest.raises(
        ValueError, match="best_of_n: expected checkpoints, rewards, and samples of 2 or more, got 0"
    ):
        EvaluationConfig.model_validate(fields)


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([], "found none"),
        (answers(1, 1, hacked=False), "two or more, got \\[1\\]"),
        (
            answers(2, 4, hacked=False)[:-1],
            "the same number of sampled answers for every row, two or more, got \\[3, 4\\]",
        ),
    ],
)
def test_too_few_answers_are_one_clear_error(records, message):
    with pytest.raises(RunError, match=message):
        study(records, BestOfNConfig(verified="truth"))
