"""MMMU: the option that an answer names, or the texts and numbers that an open answer gives.

Source: MMMU-Benchmark/MMMU, `mmmu/utils/eval_utils.py` (`parse_multi_choice_response`, `parse_open_response`,
`eval_multi_choice`, `eval_open`). Where an answer names no option, the official code draws one; here the draw depends on the question's id
alone, so that the order of rows does not matter.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from typing import Any

_NUMBERS = (
    re.compile(r"-?\b\d{1,3}(?:,\d{3})+\b"),
    re.compile(r"-?\d+(?:\.\d+)?[eE][+-]?\d+"),
    re.compile(r"-?(?:\d+\.\d+|\.\d+|\d+\b)(?![eE][+-]?\d+)(?![,\d])"),
)
_SENTENCE = re.compile(r"\.\s(?=[A-Z])|\n")
_KEYS = ("could be ", "so ", "is ", "thus ", "therefore ", "final ", "answer ", "result ")


def extract(response: str, record: Mapping[str, Any]) -> Any:
    """A letter for a multiple-choice question, a list of texts and numbers for an open one."""
    if record["question_type"] != "multiple-choice":
        return read_open(response)
    options = dict(zip("ABCDEFGHIJKLMNOPQRSTUVWXYZ", record["options"], strict=False))
    found = read_choice(response, options)
    return found or random.Random(f"42/{record['id']}").choice(list(options) or ["A"])


def correct(prediction: Any, record: Mapping[str, Any]) -> float:
    """1 for a true letter; for open questions, where a number equals a true one or a text contains a true one."""
    answers = record["answer"] if isinstance(record["answer"], list) else [record["answer"]]
    if record["question_type"] == "multiple-choice":
        return float(prediction in answers)
    truth = [form for answer in answers for form in normalise(str(answer))]
    for value in prediction if isinstance(prediction, list) else read_open(str(prediction)):
        if isinstance(value, str):
            if any(isinstance(one, str) and one in value for one in truth):
                return 1.0
        elif value in truth:
            return 1.0
    return 0.0


def read_choice(response: str, options: Mapping[str, str]) -> str | None:
    """The letter that a response names: `(B)`, else ` B `, else by the option's text in a response of more than 5 words; the
    last of several; None without any."""
    for c in (",", ".", "!", "?", ";", ":", "'"):
        response = response.strip(c)
    response = f" {response} "
    places = {letter: response.rfind(f"({letter})") for letter in options}
    if max(places.values(), default=-1) < 0:
        places = {letter: response.rfind(f" {letter} ") for letter in options}
    if max(places.values(), default=-1) < 0 and len(response.split()) > 5:
        places = {letter: response.lower().rfind(str(text).lower()) for letter, text in options.items()}
    best = max(places, key=lambda letter: places[letter], default=None)
    return best if best is not None and places[best] >= 0 else None


def read_open(response: str) -> list[str | float]:
    """The texts that may hold the answer, and the numbers in them, normalised."""
    keys = _key_parts(response.strip().strip(".").lower())
    found = [*keys, *(number for key in keys for number in _numbers(key))]
    return list(dict.fromkeys(form for text in found for form in normalise(text)))


def normalise(text: str) -> list[Any]:
    """A number rounded to two decimals, or the lower-case text; a single letter only beside a space."""
    text = text.strip()
    try:
        return [round(float(text.replace(",", "")), 2)]
    except (ValueError, OverflowError):
        text = text.lower()
        return [f" {text}", f"{text} "] if len(text) == 1 else [text]


def _key_parts(response: str) -> list[str]:
    """Of each sentence the shortest tail after a word that announces an answer; the whole response if there is none."""
    parts: list[str] = []
    sentences: Sequence[str] = _SENTENCE.split(response)
    for i, sentence in enumerate(sentences):
        keys = (*_KEYS, "=") if i == len(sentences) - 1 else _KEYS
        shortest = ""
        for key in keys:
            if key in sentence:
                tail = sentence.split(key)[-1].strip()
                if not shortest or len(tail) < len(shortest):
                    shortest = tail
        if shortest and shortest not in (":", ",", ".", "!", "?", ";", "'"):
            parts.append(shortest)
    return parts or [response]


def _numbers(text: str) -> list[str]:
    return [number for pattern in _NUMBERS for number in pattern.findall(text)]
