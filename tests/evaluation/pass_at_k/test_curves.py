"""Curves of checkpoints side by side: intervals, where they cross, what the answers are like."""

from __future__ import annotations

import csv
import io
import math

import pytest

from core.errors import RunError
from evaluation.pass_at_k.config import PassAtKConfig
from evaluation.pass_at_k.curves import crossing, study
from evaluation.pass_at_k.reflection import revision_pattern, revisions
from evaluation.pass_at_k.tables import as_csv, crossings, markdown


def records(checkpoint, rows, n=8):
    """Of rows {id: number of correct answers of n}; each wrong answer has a conclusion of its own."""
    for row, correct in rows.items():
        for i in range(n):
            right = i < correct
            yield {
                "checkpoint": checkpoint,
                "mode": "sampled",
                "row_id": row,
                "task": "math",
                "completion": "<think>Wait, again.</think><answer>%s</answer>"
                % ("7" if right else f"wrong {i}"),
                "reward": float(right),
                "tokens": 10 + i,
                "finish": "length" if i == n - 1 else "stop",
            }
        yield {"checkpoint": checkpoint, "mode": "greedy", "row_id": row}


def broad_and_sharp():
    """SFT solves every row sometimes, RL half of the rows always."""
    yield from records("sft", {f"r{i}": 1 for i in range(20)})
    yield from records("rl", {f"r{i}": 8 if i % 2 else 0 for i in range(20)})


def test_curves_that_cross_are_named_with_the_k_and_the_ends():
    found = study(broad_and_sharp(), PassAtKConfig(), "think", seed=0)
    assert found["ks"] == list(range(1, 9))
    sft, rl = (found["checkpoints"][name]["overall"] for name in ("sft", "rl"))
    assert [one["mean"] for one in sft["pass"]] == pytest.approx([k / 8 for k in range(1, 9)])
    assert [one["mean"] for one in rl["pass"]] == pytest.approx([0.5] * 8)
    assert all(one["ci95"][0] <= one["mean"] <= one["ci95"][1] for one in [*sft["pass"], *rl["pass"]])
    [passed] = [one for one in found["differences"] if (one["kind"], one["task"]) == ("pass", "overall")]
    assert passed["crossing"] == {"k": 5, "certain": True}  # equal at 4, below from 5 on
    said = crossings(found)
    assert "pass@k: rl and sft cross: rl is ahead below k = 5, the other from there on" in said[0]
    assert "both beyond chance" in said[0]
    assert "maj@k: rl and sft do not cross up to k = 8" in said[1]


@pytest.mark.parametrize(
    ("means", "expected"),
    [
        ([0.2, 0.1, -0.1], 3),
        ([-0.2, 0.1, 0.1], 2),
        ([0.2, -0.1, 0.1, -0.1], 4),
        ([0.2, 0.1], None),
        ([0.0, 0.1], None),
        ([0.2, -0.1, 0.1], None),
        ([], None),
    ],
)
def test_the_crossing_is_where_the_sign_changes_for_good(means, expected):
    found = crossing([{"mean": mean, "ci95": [mean - 0.05, mean + 0.05]} for mean in means])
    assert (found and found["k"]) == expected


def test_a_crossing_within_chance_is_said_to_be_so():
    wide = [{"mean": mean, "ci95": [mean - 0.5, mean + 0.5]} for mean in (0.2, -0.1)]
    assert crossing(wide) == {"k": 2, "certain": False}


def test_statistics_of_the_answers():
    found = study(broad_and_sharp(), PassAtKConfig(), "think", seed=0)["answers"]
    assert found["sft"]["answers"] == 160
    assert found["sft"]["tokens_mean"] == 13.5
    assert found["sft"]["truncated"] == 1 / 8
    assert found["sft"]["revised"] == found["sft"]["revisions"] == 1.0
    assert found["sft"]["reward_revised"] == pytest.approx(1 / 8)
    assert found["sft"]["reward_unrevised"] is None
    assert found["sft"]["distinct"]["mean"] == 8
    assert all(math.isfinite(bound) for one in found.values() for bound in one["distinct"]["ci95"])
    assert found["rl"]["distinct"]["mean"] == pytest.approx((1 + 8) / 2)
    other = study(broad_and_sharp(), PassAtKConfig(), "stages", seed=0)["answers"]
    assert other["sft"]["no_conclusion"] == 1.0


def test_what_is_correct_of_a_graded_reward_is_a_setting():
    graded = [{**one, "reward": 0.8 * one.get("reward", 0)} for one in records("a", {"r": 4})]
    assert study(graded, PassAtKConfig(), "think", 0)["checkpoints"]["a"]["math"]["pass"][-1]["mean"] == 0.0
    config = PassAtKConfig(correct_at={"math": 0.75})
    assert study(graded, config, "think", 0)["checkpoints"]["a"]["math"]["pass"][-1]["mean"] == 1.0


def test_rows_that_could_not_be_scored_are_counted_and_unequal_numbers_refused():
    some = list(records("a", {"r": 4, "s": 2}))
    some[0]["reward"] = None
    found = study(some, PassAtKConfig(), "think", 0)
    assert found["unscored"] == {"a": 1}
    assert found["checkpoints"]["a"]["overall"]["rows"] == 1
    assert "Rows left out because an answer to them could not be scored: 1 of a." in markdown(found)
    with pytest.raises(RunError, match=r"same number of sampled answers for every row.*\[7, 8\]"):
        study(some[1:], PassAtKConfig(), "think", 0)
    with pytest.raises(RunError, match=r"got \[\]"):
        study([], PassAtKConfig(), "think", 0)


def test_the_tables_hold_the_figures():
    found = study(broad_and_sharp(), PassAtKConfig(), "think", seed=0)
    lines = list(csv.DictReader(io.StringIO(as_csv(found))))
    assert len(lines) == 2 * 2 * 3 * 8
    assert {line["kind"] for line in lines} == {"pass", "maj", "mean"}
    text = markdown(found)
    assert "| pass@1 | pass@2 | pass@4 | pass@8 |" in text
    assert "revise themselves" in text


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("Wait, let me double-check. Wait.", 3),
        ("The waiter waited.", 0),
        ("We RE-EXAMINE the figure; on second thought, no.", 2),
        ("It is 3.", 0),
        ("", 0),
        ("Nochmal!", 1),
    ],
)
def test_revisions_are_whole_words(text, count):
    assert revisions(text, revision_pattern(["nochmal"])) == count
