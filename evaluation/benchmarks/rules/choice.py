"""Multiple choice by letter: three official ways to read an answer.

| function | source |
|---|---|
| `first_letter` | MMStar-Benchmark/MMStar, `eval/vlmeval/evaluate/mmstar.py` (`MMStar_eval`) |
| `inferred` | open-compass/VLMEvalKit at e8e78f0, `vlmeval/utils/matching_util.py` (`can_infer`): AI2D, MMBench |
| `lettered` | EvolvingLMMs-Lab/lmms-eval at 75571cf, `tasks/vstar_bench/utils.py` (`extract_answer_letter`): V* |

Records have `answer` (a letter) and, for `inferred`, `options` (texts, in the order of letters).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_REFUSALS = (
    "Sorry, I can't help with images of people yet.", "I can't process this file.",
    "I'm sorry, but without the image provided", "Cannot determine the answer",
)  # fmt: skip
_FAILED = "Failed to obtain answer via API"
_VERBOSE = re.compile(r"(?i)(?:correct\s+)?answer\s+is\s+\**([ABCD])\**")
_LETTERED = (
    re.compile(r"^([A-D])\s*[\.)\]]*", re.IGNORECASE),
    re.compile(r"(?:THE\s+)?(?:ANSWER|CHOICE|OPTION)(?:\s+IS)?[\s:]+([A-D])", re.IGNORECASE),
    re.compile(r"\(([A-D])\)", re.IGNORECASE),
    re.compile(r"([A-D])\s*(?:\.|\)|])", re.IGNORECASE),
    re.compile(r"(?:^|\s)([A-D])(?:\s|$)", re.IGNORECASE),
)


def correct(prediction: str | None, record: Mapping[str, Any]) -> float:
    """1 for the true letter."""
    return float(prediction is not None and prediction == str(record["answer"]).strip().upper())


def first_letter(response: str, record: Mapping[str, Any]) -> str | None:
    """The letter with which a response begins, also as `(A`, `option A`, `the answer is A`."""
    text = response.lower().strip().replace("\n", " ")
    answer = str(record["answer"]).lower().strip()
    places = (0, *(len(lead) for lead in ("(", "option ", "the answer is ") if text.startswith(lead)))
    read = [text[place] for place in places if place < len(text)]
    if answer in read:  # the official code asks whether the true letter stands at one of these places
        return answer.upper()
    return read[-1].upper() if read and read[-1].upper() in LETTERS else None


def inferred(response: str, record: Mapping[str, Any]) -> str | None:
    """The only letter in a response if it is one of the last five words, else the only option whose text is in it.

    None where VLMEvalKit would ask an LLM. `Z`, a refusal, is no option's letter.
    """
    options = dict(zip(LETTERS, map(str, record["options"]), strict=False))
    return _letter(response, options) or _text(response, options)


def lettered(response: str, record: Mapping[str, Any]) -> str | None:
    """The letter by the first of five patterns, else the only A, B, C or D anywhere."""
    text = response.strip().upper()
    for pattern in _LETTERED:
        if match := pattern.search(text):
            return match[1].upper()
    letters = re.findall(r"[A-D]", text)
    return letters[0] if len(letters) == 1 else None


def _letter(response: str, options: Mapping[str, str]) -> str | None:
    if _FAILED in response:
        return None
    if any(refusal in response for refusal in _REFUSALS):
        return "Z"
    words = re.sub(r"[.()\[\],:;!*#{}]", " ", response).split()
    named = [letter for letter in options if letter in words]
    if len(named) == 1 and words.index(named[0]) > len(words) - 5:
        return named[0]
    if not named and "Z" in words:
        return "Z"
    match = _VERBOSE.search(response)
    return match[1].upper() if match and match[1].upper() in options else None


def _text(response: str, options: Mapping[str, str]) -> str | None:
    text = response.lower()
    if len(text) > 2 * sum(map(len, options.values())):
        return None
    named = [letter for letter, option in options.items() if option.lower() in text]
    return named[0] if len(named) == 1 else None
