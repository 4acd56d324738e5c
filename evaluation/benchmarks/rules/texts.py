"""Texts: what rules can say where an LLM judges officially (VisualProbe, MM-Vet). Not the official figures.

`<AND>` and `<OR>` in a true answer are MM-Vet's (yuweihao/MM-Vet, `mm-vet.json`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from rewards.reading.text import plain_text

_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)


def answer(response: str, record: Mapping[str, Any]) -> str:
    """The text inside the last `<answer>` tags, or the whole response."""
    found = _ANSWER.findall(response)
    return (found[-1] if found else response).strip()


def same(prediction: str, record: Mapping[str, Any]) -> float:
    """1 for the same words as the true answer, whatever their case and punctuation."""
    truth = answer(str(record["answer"]), record)
    return float(plain_text(prediction) == plain_text(truth))


def holds(prediction: str, record: Mapping[str, Any]) -> float:
    """1 if the prediction holds one of the true answers, each with all its parts."""
    said = f" {plain_text(prediction)} "
    wanted = [[plain_text(p) for p in one.split("<AND>")] for one in str(record["answer"]).split("<OR>")]
    return float(any(all(f" {part} " in said for part in parts if part) for parts in wanted))
