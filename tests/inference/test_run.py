"""`python -m inference`: every method answers every row, what is written agrees with the table."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from statistics import fmean

import pytest

from core.config import dump
from inference.__main__ import main
from inference.config import InferenceConfig
from inference.run import run, summarise
from inference.table import as_markdown, plain

VERIFIER = """
def says_its_sum(completion, answer, **row):
    "1 where the reasoning so far ends in a sum that is right, by the numbers that it names itself."
    words = completion.partition("<REASONING>")[2].partition("<")[0].split()
    if len(words) != 5:
        return 0.5
    return float(words[0].isdigit() and words[2].isdigit() and str(int(words[0]) + int(words[2])) == words[4])
says_its_sum.whole_text = True
"""
METHODS = {
    "greedy": "greedy",
    "one sample": {"method": "best_of_n", "candidates": 1},
    "self-consistency of 3": {"method": "self_consistency", "candidates": 3},
    "best of 3 by reward": {"method": "best_of_n", "candidates": 3, "judge": "reward"},
    "stage beam of 3 by verifier": {"method": "stage_beam", "candidates": 3, "judge": "verifier"},
    "sentence beam of 2 by mean_logprob": {"method": "sentence_beam", "candidates": 2},
    "retracing (paper) by verifier": {"method": "retracing", "judge": "verifier", "threshold": 0.9},
}


@pytest.fixture(scope="module")
def settings(bench, tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("inference")
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in bench.rows))
    (folder / "verifier.py").write_text(VERIFIER)
    verifier = {"function": f"{folder}/verifier.py:says_its_sum", "isolate": False}
    return {
        "model": {"path": str(bench.path)},
        "rows": str(folder / "rows.jsonl"),
        "rewards": {"tasks": {"math": "math"}},
        "judges": {
            "verifier": {"kind": "reward", "rewards": {"grammar": "none", "tasks": {"math": verifier}}}
        },
        "methods": list(METHODS.values()),
        "output_dir": str(folder / "out"),
        "temperature": 0.7,
        "seed": 2,
        "max_tokens": 60,
        "batch_rows": 5,
        "engine": {"kind": "transformers", "max_model_len": 128},
    }


@pytest.fixture(scope="module")
def ran(settings) -> tuple[dict, list[dict]]:
    result = run(InferenceConfig.model_validate(settings | {"trees": True}), show=False)
    lines = Path(settings["output_dir"], "answers.jsonl").read_text().splitlines()
    return result, [json.loads(line) for line in lines]


def test_every_method_answers_every_row_and_the_means_are_those_of_the_answers(ran, bench):
    result, answers = ran
    assert list(result["methods"]) == list(METHODS)
    for method, summary in result["methods"].items():
        mine = [one for one in answers if one["method"] == method]
        assert [one["row_id"] for one in mine] == [row["id"] for row in bench.rows]
        assert summary["rows"] == len(bench.rows)
        assert summary["reward"]["mean"] == pytest.approx(fmean(one["reward"] for one in mine))
        for figure, key in (
            ("generated", "tokens_generated"),
            ("judged", "tokens_judged"),
            ("engine_calls",) * 2,
        ):
            assert summary[figure] == pytest.approx(fmean(one["spent"][key] for one in mine))
        assert summary["seconds"] > 0
        assert summary["tasks"] == {"math": pytest.approx(summary["reward"]["mean"])}


def test_the_tree_holds_the_answer_and_every_token(ran):
    for one in ran[1]:
        path = [one["tree"][i] for i in one["chosen"]]
        assert "".join(node["text"] for node in path) == one["completion"]
        assert sum(node["tokens"] for node in one["tree"]) == one["spent"]["tokens_generated"]


def test_a_beam_chosen_by_a_verifier_beats_greedy(ran):
    """The model errs in one sum of four, in the reasoning, where the verifier sees it."""
    methods = ran[0]["methods"]
    for name in ("stage beam of 3 by verifier", "retracing (paper) by verifier"):
        assert methods[name]["reward"]["mean"] >= methods["greedy"]["reward"]["mean"]
        assert methods[name]["judged"] > 0
    assert methods["stage beam of 3 by verifier"]["reward"]["mean"] > methods["one sample"]["reward"]["mean"]


def test_the_command_prints_the_table_and_says_what_is_no_result_and_no_gain(settings, tmp_path, capsys):
    methods = ["greedy", {"method": "best_of_n", "candidates": 2, "judge": "reward"}]
    config = settings | {"limit": 2, "output_dir": str(tmp_path / "out"), "methods": methods}
    (tmp_path / "c.yaml").write_text(dump(InferenceConfig.model_validate(config)))
    main(["--config", str(tmp_path / "c.yaml"), "--dry-run"])
    assert not (tmp_path / "out").exists()
    capsys.readouterr()
    main(["--config", str(tmp_path / "c.yaml")])
    printed = capsys.readouterr().out
    result = json.loads((tmp_path / "out/inference.json").read_text())
    assert [line.split("  ")[0] for line in printed.splitlines()[2:4]] == ["greedy", "best of 2 by reward"]
    assert "By reward: chooses by the ground truth, pass@N: an upper bound and not a result." in printed
    assert "No gain over greedy beyond chance: best of 2 by reward." in printed
    assert printed.endswith(plain(result))
    assert (tmp_path / "out/inference.md").read_text() == as_markdown(result)
    [first, _] = csv.DictReader((tmp_path / "out/inference.csv").open())
    assert first["method"] == "greedy"
    assert float(first["generated"]) == result["methods"]["greedy"]["generated"]


def test_a_calibrated_threshold_is_read_from_its_file_and_only_for_its_judge(settings, tmp_path, capsys):
    method = {"method": "retracing", "judge": "mean_logprob", "preset": "code"}
    config = settings | {"methods": [method], "output_dir": str(tmp_path)}
    (tmp_path / "c.yaml").write_text(json.dumps(config))
    main(["calibrate", "--config", str(tmp_path / "c.yaml"), "share=0.3"])
    file = tmp_path / "calibration_mean_logprob.json"
    found = json.loads(file.read_text())
    assert 9 <= found["scores"] <= 4 * 9  # those of sound reasonings
    assert found["mean"] < found["threshold"] < 0
    assert f"threshold {found['threshold']:.4g}" in capsys.readouterr().out
    result = run(
        InferenceConfig.model_validate(config | {"methods": [method | {"threshold": str(file)}], "limit": 2}),
        show=False,
    )
    assert "retracing (code) by mean_logprob" in result["methods"]
    other = config | {"methods": [method | {"judge": "verifier", "threshold": str(file)}]}
    with pytest.raises(ValueError, match="calibrated for the judge 'mean_logprob', not for 'verifier'"):
        run(InferenceConfig.model_validate(other), show=False)


def test_summaries_pair_rows_with_greedy_and_leave_unscored_answers_out():
    spent = {"tokens_generated": 4, "tokens_judged": 0, "engine_calls": 1, "coin_tosses": 1, "retraces": 0}

    def record(method, row, reward):
        same = {"task": "t", "in_grammar": True, "spent": spent}
        return {"method": method, "row_id": row, "reward": reward, **same}

    records = [record("greedy", "a", 0.0), record("greedy", "b", None), record("greedy", "c", 1.0)]
    records += [record("mine", "a", 1.0), record("mine", "c", 1.0), record("mine", "b", 1.0)]
    summary = summarise(records, {"greedy": 3.0, "mine": 6.0})
    assert summary["greedy"]["reward"]["mean"] == 0.5
    assert summary["greedy"]["unscored"] == 1
    assert summary["mine"]["difference"]["mean"] == pytest.approx(0.5)
    assert (summary["mine"]["seconds"], summary["mine"]["coin_tosses"]) == (2.0, 3)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"rewards": {"grammar": "none", "tasks": {"math": "math"}}}, "have no stages"),
        ({"methods": [{"method": "stage_beam", "judge": "majority"}]}, "majority counts conclusions"),
        ({"methods": [{"method": "stage_beam", "judge": "reward"}]}, "reads the conclusion"),
        ({"methods": ["greedy", "greedy"]}, "two are called 'greedy'"),
        ({"methods": []}, "at least 1 item"),
        ({"methods": [{"method": "best_of_n", "candidates": 0}]}, "greater than or equal to 1"),
        ({"methods": [{"method": "best_of_n", "keep": 2}]}, "keep: only with method: retracing"),
        ({"methods": [{"method": "greedy", "judge": "pairs"}]}, "judge: greedy has none"),
        (
            {"methods": [{"method": "retracing", "judge": "pairs", "threshold": 0}]},
            "only compares candidates",
        ),
        ({"methods": [{"method": "retracing"}]}, "expected a threshold for this judge"),
        ({"methods": [{"method": "retracing", "keep": 9, "threshold": 0}]}, "expected at most 4"),
        ({"judges": {"pairs": {"kind": "pairs"}}}, "'pairs' is taken"),
        ({"judges": {"mine": {"kind": "function"}}}, "expected a function"),
        ({"judges": {"mine": {"kind": "reward", "both_orders": True}}}, "only with kind: pairs"),
        ({"temperature": 0}, "greater than 0"),
    ],
)
def test_configs_that_contradict_themselves_are_refused(settings, changes, problem):
    with pytest.raises(ValueError, match=problem):
        InferenceConfig.model_validate(settings | changes)
