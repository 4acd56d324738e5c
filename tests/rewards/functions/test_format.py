"""The format reward pays for stages that hold something."""

from __future__ import annotations

import pytest

from rewards.functions.format import broken_rule, stage_format_reward
from rewards.stages import THINK


def trace(summary: str = "s", caption: str = "c", reasoning: str = "r", conclusion: str = "4") -> str:
    return (
        f"<SUMMARY>{summary}</SUMMARY><CAPTION>{caption}</CAPTION>"
        f"<REASONING>{reasoning}</REASONING><CONCLUSION>{conclusion}</CONCLUSION>"
    )


@pytest.mark.parametrize("blank", ["", " \n", "\u200b\u00a0", ".", "…", "- -", "***"])
@pytest.mark.parametrize("stage", ["summary", "caption", "reasoning"])
def test_a_blank_stage_earns_nothing(stage: str, blank: str) -> None:
    assert stage_format_reward(trace(**{stage: blank})) == 0.0
    assert broken_rule(trace(**{stage: blank})) == f"blank:{stage.upper()}"


@pytest.mark.parametrize("blank", ["", "\n\t", "\u200b"])
def test_a_blank_conclusion_earns_nothing(blank: str) -> None:
    assert broken_rule(trace(conclusion=blank)) == "blank:CONCLUSION"
    assert broken_rule(f"<think>x</think><answer>{blank}</answer>", THINK) == "blank:answer"


@pytest.mark.parametrize("text", [trace(), trace("概要", "图", "推理", "三"), trace(conclusion="[]")])
def test_stages_that_hold_something_earn_the_reward(text: str) -> None:
    assert stage_format_reward(text) == 1.0
    assert broken_rule(text) is None
