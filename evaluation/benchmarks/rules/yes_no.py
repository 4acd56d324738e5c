"""HallusionBench: yes or no.

Source: tianyi-lab/HallusionBench, `utils.py` (GPT-4 judges whether an answer agrees with the reference); VLMEvalKit at e8e78f0,
`vlmeval/dataset/utils/yorn.py` (`YOrN_Extraction`), whose rule this is: the word yes or the word no, and not both.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_PUNCTUATION = re.compile(r"""[;/\[\]"{}()=+\\_\-><@`,?!.:*']""")
_SAID = {"1": "yes", "0": "no"}


def extract(response: str, record: Mapping[str, Any]) -> str | None:
    """`yes` or `no`, None for neither or both."""
    words = set(_PUNCTUATION.sub(" ", response.lower()).split()) & {"yes", "no"}
    return words.pop() if len(words) == 1 else None


def correct(prediction: str | None, record: Mapping[str, Any]) -> float:
    """1 for the true one. The truth is `Yes` or `No`, or as published 1 or 0."""
    answer = str(record["answer"]).strip().lower()
    return float(prediction is not None and prediction == _SAID.get(answer, answer))
