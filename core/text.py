"""Values as text: in messages, shortened where they are long; a config as YAML."""

from __future__ import annotations

import re
from typing import Any

import yaml
from pydantic import BaseModel

QUOTED = 200
"""Most characters of one value in a message."""


def short(value: Any, limit: int = QUOTED) -> str:
    """`repr(value)`, cut in the middle where it is longer than `limit` characters, with its length."""
    return _cut(repr(value), limit)


def short_words(text: str, limit: int = QUOTED) -> str:
    """`text` with every run of characters without white space cut in the middle to about `limit`: encoded media, endless
    paths."""
    return re.sub(rf"\S{{{limit + 1},}}", lambda word: _cut(word.group(), limit), text)


def dump(config: BaseModel) -> str:
    """A resolved config as YAML, from which `core.config.read_config` reads an equal config."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=110)


def _cut(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    tail = limit // 4
    return f"{text[: limit - tail]}…{text[-tail:]} ({len(text):,} characters)"
