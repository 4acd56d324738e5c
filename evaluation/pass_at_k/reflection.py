"""Answers that revise themselves: how many do, and whether it pays.

The phrases are those by which Liu et al. ("Understanding R1-Zero-like training", arXiv 2503.20783, appendix on self-reflection)
find reflections, with "wait" and the like, which R1-style models say, added. A phrase is a sign of a revision, not proof; whether
it helps is what the rewards of answers with and without it show, and that is a correlation: hard questions make models doubt.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

PHRASES = (
    "recheck", "re-check", "rethink", "re-think", "reassess", "re-assess", "reevaluate", "re-evaluate", "reevaluation",
    "re-evaluation", "reexamine", "re-examine", "reexamination", "reconsider", "re-consider", "reanalyze", "re-analyze",
    "double-check", "double check", "check again", "think again", "verify again", "look again", "go over the steps",
    "wait", "hmm", "hold on", "on second thought", "let me verify", "let me correct", "i made a mistake", "that is wrong",
    "that's wrong", "that's not right", "correction:",
)  # fmt: skip


def revision_pattern(more: Sequence[str] = ()) -> re.Pattern[str]:
    """Finds the phrases as whole words, whatever their case."""
    phrases = sorted({phrase.lower() for phrase in (*PHRASES, *more)}, key=len, reverse=True)
    return re.compile(r"(?<!\w)(?:" + "|".join(map(re.escape, phrases)) + r")(?!\w)", re.IGNORECASE)


def revisions(text: str, pattern: re.Pattern[str]) -> int:
    """How often a text revises itself."""
    return sum(1 for _ in pattern.finditer(text))
