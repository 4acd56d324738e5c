"""Texts of tools and errors among control tokens: none of them may be read as one."""

from __future__ import annotations

from collections.abc import Sequence

from environments.types import CallError, Content

MAX_ERROR = 300
"""Characters of an error that the policy is shown."""


def plain(text: str, special: Sequence[str]) -> str:
    """An error message on one line, shortened, without any control token of the model in it: a space breaks each up."""
    text = " ".join(text.split())[:MAX_ERROR].rstrip(".")
    for token in special:
        text = text.replace(token, f"{token[:1]} {token[1:]}")
    return text


def check_plain(content: Content, special: Sequence[str]) -> None:
    """Raise CallError if a text of a result holds a control token, which would be read as an image or the end of a turn."""
    for text in content:
        if isinstance(text, str) and any(token in text for token in special):
            raise CallError("the result holds a control token of the model's, which cannot be shown")
