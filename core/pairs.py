"""Preference rows: two responses to one prompt, of which one is better. A row (`core/rows.py`) with two or three more columns:

| field | type | meaning |
|---|---|---|
| `chosen`, `rejected` | str, or list of messages | the better and the worse response; messages begin and end with the assistant's |
| `margin` | number or None | how much better, 0 or more, on the data set's own scale |

Media belong to the prompt, and both responses are about the same ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.media.tokens import MEDIA_TOKENS
from core.rows import BrokenRow, Row, check_row
from core.text import short

Response = str | list[dict[str, str]]


def is_pair(row: Mapping[str, Any]) -> bool:
    """Whether a row claims to be a preference row."""
    return row.get("chosen") is not None or row.get("rejected") is not None


def check_pair(record: Any, folder: Path) -> Row:
    """One record as a preference row; raises BrokenRow with the first field that is wrong. For `core.rows.read_rows`."""
    return check_responses(check_row(record, folder))


def check_responses(row: Row) -> Row:
    """A checked row with its two responses and margin checked too; raises BrokenRow."""
    if row["prompt"][-1]["role"] == "assistant":
        raise BrokenRow("prompt", "expected it to end with a question, got an assistant's message last")
    row = row | {field: _response(row.get(field), field) for field in ("chosen", "rejected")}
    if row["chosen"] == row["rejected"]:
        raise BrokenRow("rejected", "expected another response than 'chosen', got the same")
    margin = row.get("margin")
    number = isinstance(margin, int | float) and not isinstance(margin, bool)
    if margin is not None and not (number and 0 <= margin < math.inf):
        raise BrokenRow("margin", f"expected a number of at least 0 or null, got {short(margin)}")
    return row | {"margin": margin}


def response_text(response: Response) -> str:
    """What the assistant says in a response."""
    if isinstance(response, str):
        return response
    return "\n".join(turn["content"] for turn in response if turn["role"] == "assistant")


def _response(value: Any, field: str) -> Response:
    if isinstance(value, str):
        return _text(value, field)
    if not isinstance(value, list) or not value:
        raise BrokenRow(field, f"expected a text or a list of messages, got {short(value)}")
    turns = []
    for i, turn in enumerate(value):
        at = f"{field}[{i}]"
        if not isinstance(turn, Mapping) or turn.get("role") not in ("assistant", "user", "tool"):
            raise BrokenRow(at, f"expected an assistant's, user's or tool's message, got {short(turn)}")
        turns.append({"role": turn["role"], "content": _text(_joined(turn.get("content"), at), at)})
    if turns[0]["role"] != "assistant" or turns[-1]["role"] != "assistant":
        raise BrokenRow(field, "expected messages that begin and end with the assistant's")
    return turns[0]["content"] if len(turns) == 1 else turns


def _joined(content: Any, at: str) -> Any:
    """The text of content parts, all of which must be text."""
    if not isinstance(content, list):
        return content
    if not all(isinstance(part, Mapping) and part.get("type") == "text" for part in content):
        raise BrokenRow(f"{at}.content", "expected text alone: media belong to the prompt")
    return "".join(str(part.get("text")) for part in content)


def _text(value: Any, at: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise BrokenRow(at, f"expected a text that is not empty, got {short(value)}")
    if found := next((token for token in MEDIA_TOKENS if token in value), None):
        raise BrokenRow(at, f"expected text, got {found} in it")
    return value
