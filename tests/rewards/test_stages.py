"""The stage grammar: what parses, what does not and why, and where the stages are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.stages import RULES, STAGES, THINK, parse, render, stage_spans
from tests.rewards.strategies import fuzz, hostile_text

TRACE = {"summary": "Count.", "caption": "Three squares.", "reasoning": "1 + 1 + 1\n= 3", "conclusion": "3"}
TEXT = render(TRACE)


def test_a_rendered_trace_parses_to_itself() -> None:
    assert parse(TEXT).stages == {
        "SUMMARY": "Count.",
        "CAPTION": "Three squares.",
        "REASONING": "1 + 1 + 1\n= 3",
        "CONCLUSION": "3",
    }
    assert parse(TEXT).conclusion == "3"
    assert parse(TEXT).broken is None


@given(texts=st.lists(st.text(max_size=20).filter(lambda t: "<" not in t), min_size=4, max_size=4))
@fuzz
def test_any_stage_texts_come_back_stripped(texts: list[str]) -> None:
    trace = dict(zip(TRACE, texts, strict=True))
    assert parse(render(trace)).stages == {key.upper(): text.strip() for key, text in trace.items()}


@given(text=hostile_text, at=st.integers(0, len(TEXT)))
@fuzz
def test_any_text_is_stages_or_a_named_rule(text: str, at: int) -> None:
    for candidate in (text, TEXT[:at] + text + TEXT[at:], TEXT[:at]):
        parsed = parse(candidate)
        assert (parsed.stages is None) != (parsed.broken is None)
        assert parsed.broken is None or parsed.broken.partition(":")[0] in RULES
        assert (parsed.conclusion is None) == (parsed.stages is None)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ("3", "missing:SUMMARY"),
        ("<CONCLUSION>3</CONCLUSION>", "missing:SUMMARY"),
        (TEXT.replace("<CAPTION>", "").replace("</CAPTION>", ""), "missing:CAPTION"),
        (TEXT[: -len("</CONCLUSION>")], "unclosed:CONCLUSION"),
        (TEXT + TEXT, "repeated:SUMMARY"),
        (TEXT + "<CONCLUSION>4</CONCLUSION>", "repeated:CONCLUSION"),
        (TEXT + "</CONCLUSION>", "repeated:CONCLUSION"),
        (TEXT + " done", "outside:after CONCLUSION"),
        ("Sure! " + TEXT, "outside:before SUMMARY"),
        (TEXT.replace("<REASONING>", "hm <REASONING>"), "outside:before REASONING"),
        ("<CAPTION>b</CAPTION><SUMMARY>a</SUMMARY>" + TEXT[TEXT.index("<REASONING>") :], "order:CAPTION"),
        (TEXT.replace("</CAPTION><REASONING>", "<REASONING></CAPTION>"), "nested:REASONING"),
        (TEXT.lower(), "missing:SUMMARY"),
        (TEXT.replace("<SUMMARY>", "< SUMMARY>"), "missing:SUMMARY"),
    ],
)
def test_the_first_broken_rule_is_named(text: str, rule: str) -> None:
    assert parse(text).broken == rule
    assert parse(text).conclusion is None
    assert stage_spans(text) == []


def test_white_space_between_blocks_is_allowed() -> None:
    assert parse("\n " + TEXT.replace("><", ">\n\n<") + "\n").conclusion == "3"


def test_an_empty_conclusion_is_a_conclusion() -> None:
    assert parse(TEXT.replace(">3<", "><")).conclusion == ""


def test_spans_cover_each_block_with_its_tags() -> None:
    spans = stage_spans(TEXT)
    assert [name for name, _, _ in spans] == list(STAGES)
    assert "".join(TEXT[start:end] for _, start, end in spans) == TEXT
    assert TEXT[spans[3][1] : spans[3][2]] == "<CONCLUSION>3</CONCLUSION>"


@pytest.mark.parametrize(
    ("trace", "message"),
    [
        ({**TRACE, "caption": "a </CAPTION>"}, "'caption': holds the tag '</CAPTION>'"),
        ({**TRACE, "reasoning": "<SUMMARY>"}, "'reasoning': holds the tag"),
        ({key: TRACE[key] for key in ("summary", "caption", "reasoning")}, "expected exactly the keys"),
        ({**TRACE, "extra": ""}, "expected exactly the keys"),
        ({**TRACE, "summary": None}, "'summary': expected a string, got NoneType"),
    ],
)
def test_a_trace_that_would_not_parse_is_not_rendered(trace: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        render(trace)


def test_other_blocks_have_the_same_grammar() -> None:
    text = render({"think": "2 * 3", "answer": "6"}, THINK)
    assert text == "<think>2 * 3</think><answer>6</answer>"
    assert parse(text, THINK).conclusion == "6"
    assert parse(text).broken == "missing:SUMMARY"
