"""Hypothesis strategies shared by the reward tests: hostile text, boxes, spans; and every reward with a valid answer."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from rewards.functions.builtins import BUILTINS


def built_in(name: str) -> Callable[..., Any]:
    """The reward function behind a short name."""
    module, function = BUILTINS[name].split(":")
    return getattr(importlib.import_module(module), function)


# `outcome` reads what came of an episode, and no text (test_outcome.py).
REWARDS = {name: built_in(name) for name in BUILTINS if name != "outcome"}

# One valid (answer, options, right completion, honest wrong completion) of each reward.
CASES: dict[str, tuple[dict[str, Any], dict[str, Any], str, str]] = {
    "math": ({"value": "4,656"}, {}, r"\boxed{4656}", r"\boxed{4657}"),
    "counting": ({"value": 3}, {}, "3", "4"),
    "choice": ({"letter": "B", "options": ["a cat", "a dog", "a cow"]}, {}, "B", "C"),
    "giou": ({"boxes": [[10, 20, 50, 60]], "frame": "pixel"}, {}, "[10, 20, 50, 60]", "[400, 400, 420, 430]"),
    "iou": ({"boxes": [[10, 20, 50, 60]], "frame": "pixel"}, {}, "[10, 20, 50, 60]", "[400, 400, 420, 430]"),
    "iou_above_centre": (
        {"boxes": [[10, 20, 50, 60]], "frame": "pixel", "image_size": [640, 480]},
        {},
        "[10, 20, 50, 60]",
        "[400, 400, 420, 430]",
    ),
    "box_set": (
        {"boxes": [[10, 20, 50, 60], [70, 70, 90, 99]], "frame": "pixel"},
        {},
        "[[70, 70, 90, 99], [10, 20, 50, 60]]",
        "[[400, 400, 420, 430]]",
    ),
    "point_in_box": ({"box": [10, 20, 50, 60], "frame": "pixel"}, {}, "(30, 30)", "(300, 300)"),
    "point_distance": ({"point": [30, 30], "frame": "norm1000"}, {}, "(30, 30)", "(300, 300)"),
    "point_set": ({"boxes": [[10, 20, 50, 60], [70, 70, 90, 99]]}, {}, "(30, 30) (75, 75)", "(300, 300)"),
    "action": (
        {"action": "click", "start_box": [10, 20, 50, 60], "text": "Save", "frame": "pixel"},
        {},
        '{"action": "click", "start_point": [30, 30], "text": "Save"}',
        '{"action": "click", "start_point": [300, 300], "text": "Save"}',
    ),
    "action_type": (
        {"action": "wait"},
        {},
        '{"action": "wait"}',
        '{"action": "finished", "status": "success"}',
    ),
    "action_point": (
        {"action": "longpress", "start_box": [10, 20, 50, 60]},
        {},
        '{"action": "longpress", "start_point": [30, 30]}',
        '{"action": "longpress", "start_point": [300, 300]}',
    ),
    "action_text": (
        {"action": "input", "text": "Berlin"},
        {},
        '{"action": "input", "text": "Berlin"}',
        '{"action": "input", "text": "Oslo"}',
    ),
    "action_direction": (
        {"action": "scroll", "direction": "down"},
        {},
        '{"action": "scroll", "direction": "down"}',
        '{"action": "scroll", "direction": "up"}',
    ),
    "action_keys": (
        {"action": "press", "keys": ["ctrl", "c"]},
        {},
        '{"action": "press", "keys": ["Ctrl", "C"]}',
        '{"action": "press", "keys": ["Ctrl", "V"]}',
    ),
    "temporal_iou": ({"spans": [[1, 3]]}, {}, "[00:01,00:03]", "[00:08,00:09]"),
    "anls": ({"values": ["Main Street", "Main St."]}, {}, "Main Street", "Elm Road"),
    "exact_text": ({"value": "Main Street"}, {}, "Main Street", "Elm Road"),
    "relaxed_numeric": ({"value": "12.5"}, {}, "12.5", "13.5"),
    "stage_format": (
        {},
        {},
        "<SUMMARY>a</SUMMARY><CAPTION>b</CAPTION><REASONING>c</REASONING><CONCLUSION>d</CONCLUSION>",
        "<CONCLUSION>d</CONCLUSION>",
    ),
    "soft_overlong": (
        {},
        {"max_tokens": 10, "cache_tokens": 5, "completion_ids": [1, 2, 3]},
        "a b c",
        "a b c",
    ),
    "repetition": ({}, {}, "all of these words differ here", "so it is so it is so it is so it is"),
}

fuzz = settings(
    derandomize=True,
    deadline=None,
    max_examples=150,
    suppress_health_check=[HealthCheck.too_slow],
    database=None,
)
"""Deterministic and without a time limit: the machine that runs the tests may be busy."""

finite = st.floats(min_value=-1e5, max_value=1e5, allow_nan=False, width=32)
number_text = st.one_of(
    finite.map(repr),
    st.integers(-(10**25), 10**25).map(str),
    st.sampled_from(
        [
            "NaN",
            "nan",
            "Infinity",
            "-inf",
            "1e999",
            "-1e999",
            "1e-999",
            "true",
            "false",
            "null",
            "None",
            "0",
            "-0",
            "٣",
            "५",
            "Ⅷ",
            "½",
            "1_000",
            "0x10",
            "1,5",
            "1.2.3",
        ]
    ),
)
fragment = st.one_of(
    number_text,
    st.text(max_size=8),
    st.sampled_from(
        [
            *"[](){},:;.\"'$%\\ \n",
            "\\boxed{",
            "\\frac{",
            "}",
            "bbox_2d",
            '"point_2d":',
            "```json",
            "<CONCLUSION>",
            "</CONCLUSION>",
        ]
        + [
            "<answer>",
            "</answer>",
            "</think>",
            "to",
            "and",
            "x=",
            "y=",
            "B",
            "(B)",
            "the answer is",
            "00:01",
            "1:99:99",
            "^",
            "sqrt",
        ]
        + ["__import__('os').system('true')", "\x00", "\ud800", "9**9**9", "9^{9^{9^{9}}}", "{{x}}", "%s%n"]
    ),
)
hostile_text = st.one_of(
    st.text(max_size=60),
    st.lists(fragment, max_size=14).map("".join),
    st.lists(fragment, max_size=14).map(" ".join),
)
"""Arbitrary and adversarial text: fragments of valid answers, broken numbers, LaTeX, tags, code."""

coordinate = st.integers(0, 2000) | st.floats(0, 2000, allow_nan=False).map(lambda x: round(x, 3))


@st.composite
def boxes(draw: st.DrawFn) -> tuple[float, float, float, float]:
    """A valid box of sides 1 to 1000 inside 0 to 3000."""
    x, y = draw(coordinate), draw(coordinate)
    side = st.integers(1, 1000) | st.floats(1, 1000).map(lambda v: round(v, 3))
    return x, y, x + draw(side), y + draw(side)


@st.composite
def spans(draw: st.DrawFn) -> tuple[float, float]:
    """A valid span in seconds, of at least 0.1 s."""
    start = round(draw(st.floats(0, 500)), 2)
    return start, round(start + draw(st.floats(0.1, 100)), 2)
