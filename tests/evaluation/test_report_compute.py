"""The report's part on what more computation per question buys."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

import pytest

from evaluation.pass_at_k.config import PassAtKConfig
from evaluation.pass_at_k.curves import study
from evaluation.report import write_report
from inference.run import summarise
from tests.evaluation.pass_at_k.test_curves import broad_and_sharp

METHODS = [
    {"method": "greedy", "candidates": None, "judge": None},
    {"method": "stage_beam", "candidates": 2, "judge": "verifier"},
    {"method": "stage_beam", "candidates": 4, "judge": "verifier"},
]
TITLES = ("greedy", "stage beam 2, verifier", "stage beam 4, verifier")
SETTINGS = {"methods": METHODS, "judges": {}, "row_count": 4, "max_tokens": 120, "temperature": 1.0}


def searched() -> dict:
    """What `python -m inference` writes: three methods on four rows, more tokens for more reward."""
    records = [
        {
            "method": title,
            "row_id": f"r{row}",
            "task": "math",
            "reward": float(row < 1 + i),
            "in_grammar": True,
            "spent": {
                "tokens_generated": 40 * (i + 1),
                "tokens_judged": 0,
                "engine_calls": 1,
                "coin_tosses": 0,
                "retraces": 0,
            },
        }
        for i, title in enumerate(TITLES)
        for row in range(4)
    ]
    return {"settings": SETTINGS, "methods": summarise(records, dict.fromkeys(TITLES, 1.0))}


def charts_of(page: str) -> dict[str, dict]:
    """The values of each chart by its title."""
    found = re.findall(r'data-chart="([^"]*)"><figcaption><b>([^<]*)</b>', page)
    return {title: json.loads(html.unescape(data)) for data, title in found}


@pytest.fixture
def page(tmp_path: Path) -> str:
    (tmp_path / "passk").mkdir()
    (tmp_path / "inference").mkdir()
    (tmp_path / "passk" / "passk.json").write_text(
        json.dumps(study(broad_and_sharp(), PassAtKConfig(), "think", seed=0))
    )
    (tmp_path / "inference" / "inference.json").write_text(json.dumps(searched()))
    figures = {
        "n": 3,
        "unread": 1,
        "metrics": {"accuracy": {"mean": 0.5, "ci95": [0.1, 0.9], "n": 3}},
        "groups": {},
    }
    evaluation = {
        "checkpoints": {},
        "differences": [],
        "settings": {},
        "benchmarks": {"MMStar": {"<rl>": figures}},
    }
    (tmp_path / "eval.json").write_text(json.dumps(evaluation))
    return write_report(tmp_path).read_text()


def test_pass_at_k_as_charts_table_and_the_crossing_in_words(page: str) -> None:
    chart = charts_of(page)["pass@k"]
    assert chart["xLabel"] == "k" and chart["x"] == list(range(1, 9))
    assert [len(one["values"]) for one in chart["series"]] == [8, 8]
    assert chart["series"][1]["values"] == [0.5] * 8
    assert "cross: rl is ahead below k = 5, the other from there on" in html.unescape(page)
    assert "distinct conclusions per prompt" in page


def test_reward_against_tokens_has_a_curve_for_each_method_over_its_candidates(page: str) -> None:
    chart = charts_of(page)["Reward against tokens"]
    assert chart["x"] == [40, 80, 120]
    curves = {one["name"]: one["values"] for one in chart["series"]}
    assert curves == {"greedy": [0.25, None, None], "stage beam, verifier": [None, 0.5, 0.75]}
    assert "stage beam 4, verifier" in page
    assert page.count('class="point"') == 3  # a method with one budget has no line


def test_benchmarks_are_a_table_and_names_are_escaped(page: str) -> None:
    assert "Official benchmarks" in page
    assert "&lt;rl&gt;" in page and "<rl>" not in page
    assert "50.00 [10.0, 90.0]" in page


def test_without_these_files_the_page_has_no_empty_parts(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "reward/mean": 0.5}\n')
    page = write_report(tmp_path).read_text()
    assert "Search at inference time" not in page and "k tries" not in page
