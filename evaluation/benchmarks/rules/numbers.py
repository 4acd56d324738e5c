"""Numbers: relaxed accuracy (ChartQA) and counts (CountBench, PixmoCount).

| function | source |
|---|---|
| `relaxed` | google-research/pix2struct, `pix2struct/metrics.py` (`relaxed_correctness`); Masry et al., arXiv 2203.10244, section 5.1 |
| `count_word` | EvolvingLMMs-Lab/lmms-eval at 75571cf, `tasks/countbench/utils.py` (`_normalize_count_answer`) |
| `first_number` | the same, `tasks/pixmo_count/utils.py` (`pixmo_count_process_results`) |
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

TOLERANCE = 0.05
_WORDS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
    " eighteen nineteen twenty"
)  # fmt: skip
COUNTS = {"none": "0", **{word: str(i) for i, word in enumerate(_WORDS.split())}}
_DIGITS = re.compile(r"\d+")


def stripped(response: str, record: Mapping[str, Any]) -> str:
    """The answer without surrounding white space."""
    return response.strip()


def relaxed(prediction: str, record: Mapping[str, Any]) -> float:
    """1 for a number within 5 % of the true one, else for the same text, whatever its case. The best of several true answers."""
    answers = record["answer"] if isinstance(record["answer"], list) else [record["answer"]]
    return max(_relaxed(prediction, str(answer)) for answer in answers)


def count_word(response: str, record: Mapping[str, Any]) -> str:
    """The answer in lower case, number words to twenty as digits."""
    text = response.strip().lower()
    return COUNTS.get(text, text)


def first_number(response: str, record: Mapping[str, Any]) -> str:
    """The first whole number of an answer, or the answer."""
    match = _DIGITS.search(response)
    return match.group() if match else response.strip()


def same_count(prediction: str, record: Mapping[str, Any]) -> float:
    """1 if the text equals the true number, which is read alike."""
    truth = str(record["answer"])
    return float(prediction in (count_word(truth, record), first_number(truth, record)))


def _relaxed(prediction: str, truth: str) -> float:
    value, target = _value(prediction), _value(truth)
    if value is not None and target:
        return float(abs(value - target) / abs(target) <= TOLERANCE)
    return float(prediction.lower() == truth.lower())


def _value(text: str) -> float | None:
    """A number; `12 %` written as `12%` is 0.12."""
    try:
        return float(text.rstrip("%")) / 100.0 if text.endswith("%") else float(text)
    except ValueError:
        return None
