"""Calls in both formats, as policies write them: right ones, broken ones, and anything at all."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from environments.calls import Call, call_format, read_call
from environments.types import CallError

ZOOM = '{"bbox_2d": [0.1, 0.2, 0.5, 0.6], "source": "observation_1"}'


def test_mini_o3s_format_is_a_zoom():
    call = read_call(f"<think>too small</think><grounding>{ZOOM}</grounding>")
    assert call == Call("zoom", {"bbox_2d": [0.1, 0.2, 0.5, 0.6], "source": "observation_1"})


@pytest.mark.parametrize("arguments", ['{"a": 1}', r'"{\"a\": 1}"'])
def test_qwens_format_names_the_tool(arguments):
    text = f'Let me see.\n<tool_call>\n{{"name": "add", "arguments": {arguments}}}\n</tool_call>\n'
    assert read_call(text) == Call("add", {"a": 1})


def test_a_call_without_arguments():
    assert read_call('<tool_call>{"name": "now"}</tool_call>') == Call("now", {})


@pytest.mark.parametrize(
    "text",
    [
        "<think>seen</think><answer>47</answer>",
        "",
        "<think>no <grounding> is needed</think><answer>B</answer>",
        "bbox_2d 0.1 0.2",
    ],
)
def test_texts_without_a_call(text):
    assert call_format(text) is None and read_call(text) is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("<grounding>{'bbox_2d': [0, 0, 1, 1]}</grounding>", "not JSON"),
        (f"<grounding>{ZOOM}", "not closed with </grounding>"),
        (f"{ZOOM}</grounding>", "without <grounding>"),
        ("<grounding>[0, 0, 1, 1]</grounding>", "got a list"),
        ("<grounding>null</grounding>", "got null"),
        ('<grounding>{"bbox_2d": [NaN, 0, 1, 1]}</grounding>', "not JSON"),
        ('<grounding>{"bbox_2d": [1e999, 0, 1, 1]}</grounding>', "finite"),
        ('<grounding>{"bbox_2d": [1' + "0" * 400 + ", 0, 1, 1]}</grounding>", "finite"),
        ('<grounding>{"a": "\\ud800"}</grounding>', "surrogate"),
        ("<grounding>" + "[" * 5000 + "</grounding>", "not JSON"),
        ('<grounding>{"a": ' + "[" * 30 + "]" * 30 + "}</grounding>", "nested"),
        ('<grounding>{"a": "' + "x" * 9000 + '"}</grounding>', "characters"),
        ("<tool_call>{}</tool_call>", "no name"),
        ('<tool_call>{"name": 3}</tool_call>', "no name"),
        ('<tool_call>{"name": "a", "arguments": [1]}</tool_call>', '"arguments"'),
        ('<tool_call>{"name": "a", "arguments": "1 + 1"}</tool_call>', "not JSON"),
        ("__import__('os')</tool_call>", "without <tool_call>"),
    ],
)
def test_a_broken_call_says_what_is_wrong(text, problem):
    with pytest.raises(CallError, match=problem.replace("(", r"\(")):
        read_call(text)


pieces = st.sampled_from(
    [
        "<grounding>",
        "</grounding>",
        "<tool_call>",
        "</tool_call>",
        "</answer>",
        ZOOM,
        "{",
        "}",
        '"name"',
        ":",
        "[",
        "1",
    ]
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@settings(max_examples=100, deadline=None)
@given(st.lists(pieces | st.text(), max_size=12).map("".join))
def test_no_text_raises_anything_but_a_call_error(text):
    try:
        call = read_call(text)
    except CallError:
        assert call_format(text) is not None
    else:
        assert (call is None) == (call_format(text) is None)


@settings(max_examples=100, deadline=None)
@given(json_values, st.sampled_from(["grounding", "tool_call"]))
def test_what_is_read_can_be_written_as_strict_json(value, tag):
    try:
        call = read_call(f"<{tag}>{json.dumps(value)}</{tag}>")
    except CallError:
        return
    assert call is not None
    json.dumps(call.arguments, allow_nan=False, ensure_ascii=False).encode()
