"""`python -m inference`: every method answers every row, what is written agrees with the table."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean

import pytest

from core.config import dump
from inference.__main__ import main
from inference.config import InferenceConfig
from inference.run import run, summarise
from inference.table import plain

METHODS = ("greedy", "sampled", "best of 3 by majority", "best of 3 by mean_logprob", "best of 3 by reward")
METHODS += ("stage beam of 3 by mean_logprob",)


@pytest.fixture(scope="module")
def settings(bench, tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("inference")
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in bench.rows))
    return {
        "model": {"path": str(bench.path)},
        "rows": str(folder / "rows.jsonl"),
        "rewards": {"tasks": {"math": "math"}},
        "output_dir": str(folder / "out"),
        "candidates": 3,
        "max_tokens": 60,
        "batch_rows": 5,
        "engine": {"kind": "transformers", "max_model_len": 128},
    }


@pytest.fixture(scope="module")
def ran(settings) -> tuple[dict, list[dict]]:
    config = InferenceConfig.model_validate(settings)
    result = run(config, show=False)
    return result, [
        json.loads(line) for line in Path(settings["output_dir"], "answers.jsonl").read_text().splitlines()
    ]


def test_every_method_answers_every_row_and_the_means_are_those_of_the_answers(ran, bench):
    result, answers = ran
    assert tuple(result["methods"]) == METHODS
    for method, summary in result["methods"].items():
        mine = [one for one in answers if one["method"] == method]
        assert len(mine) == len(bench.rows) * (3 if method == "sampled" else 1)
        assert summary["rows"] == len(bench.rows)
        assert summary["reward"]["mean"] == pytest.approx(fmean(one["reward"] for one in mine))
        assert summary["tokens"] == pytest.approx(fmean(one["generated"] for one in mine))
        assert summary["tasks"] == {"math": pytest.approx(summary["reward"]["mean"])}


def test_best_of_n_is_one_of_the_sampled_answers_and_pass_at_n_is_their_best(ran, bench):
    _, answers = ran
    sampled = {(one["row_id"], one["sample"]): one for one in answers if one["method"] == "sampled"}
    for one in answers:
        if one["method"].startswith("best of"):
            of_row = [sampled[one["row_id"], i] for i in range(3)]
            same = of_row[one["chosen"][0]]
            assert (one["completion"], one["reward"]) == (same["completion"], same["reward"])
            assert one["generated"] == sum(other["tokens"] for other in of_row)
            if one["method"].endswith("by reward"):
                assert one["reward"] == max(other["reward"] for other in of_row)


def test_the_command_prints_the_table_and_says_that_pass_at_n_is_no_result(settings, tmp_path, capsys):
    config = InferenceConfig.model_validate(settings | {"limit": 2, "output_dir": str(tmp_path / "out")})
    (tmp_path / "c.yaml").write_text(dump(config))
    main(["--config", str(tmp_path / "c.yaml"), "--dry-run"])
    assert not (tmp_path / "out").exists()
    capsys.readouterr()
    main(["--config", str(tmp_path / "c.yaml")])
    printed = capsys.readouterr().out
    assert [line.split("  ")[0] for line in printed.splitlines()[2:8]] == list(METHODS)
    assert "pass@N, an upper bound and not a result" in printed
    assert printed.endswith(plain(json.loads((tmp_path / "out/inference.json").read_text())))


def test_selection_rewards_choose_and_rewards_score(settings, tmp_path):
    (tmp_path / "longest.py").write_text(
        "def longest(completion, answer, **row):\n    return min(1.0, len(completion) / 1000)\nlongest.whole_text = True\n"
    )
    chosen = {"tasks": {"math": {"function": f"{tmp_path}/longest.py:longest", "isolate": False}}}
    changes = {
        "output_dir": str(tmp_path),
        "best_of": ["reward"],
        "stage_beam": [],
        "selection_rewards": chosen,
    }
    result = run(InferenceConfig.model_validate(settings | changes), show=False)
    assert "upper bound" not in plain(result)
    answers = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    for one in answers:
        if one["method"] == "best of 3 by reward":
            texts = [
                a["completion"] for a in answers if (a["method"], a["row_id"]) == ("sampled", one["row_id"])
            ]
            assert one["completion"] == max(texts, key=len)


def test_summaries_pair_rows_with_greedy_and_leave_unscored_answers_out():
    def record(method, row, reward, **more):
        return {
            "method": method,
            "row_id": row,
            "task": "t",
            "reward": reward,
            "in_grammar": True,
            "generated": 4,
            **more,
        }

    records = [record("greedy", "a", 0.0), record("greedy", "b", None), record("greedy", "c", 1.0)]
    records += [record("sampled", "a", 1.0), record("sampled", "a", 0.0), record("sampled", "c", 1.0)]
    records += [record("sampled", "b", 1.0)]
    summary = summarise(records)
    assert summary["greedy"]["reward"]["mean"] == 0.5
    assert summary["greedy"]["unscored"] == 1
    assert summary["sampled"]["reward"]["mean"] == pytest.approx((0.5 + 1 + 1) / 3)
    assert summary["sampled"]["difference"]["mean"] == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"rewards": {"grammar": "none", "tasks": {"math": "math"}}}, "have no stages"),
        ({"stage_beam": ["majority"]}, "reads the conclusion"),
        ({"best_of": ["majority", "majority"]}, "named twice"),
        ({"best_of": [], "selection_rewards": {"tasks": {"math": "math"}}}, "nothing chooses by them"),
        ({"candidates": 1}, "greater than or equal to 2"),
    ],
)
def test_configs_that_contradict_themselves_are_refused(settings, changes, problem):
    with pytest.raises(ValueError, match=problem):
        InferenceConfig.model_validate(settings | changes)
