"""The conclusion of an answer: as the grammar has it, as a vote, and as it is shown to a user."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rewards.reading.text import last_boxed, plain_number, plain_text, without_lead
from rewards.stages import STAGES, THINK, parse

GRAMMARS: dict[str, tuple[str, ...] | None] = {"stages": STAGES, "think": THINK, "none": None}
"""Blocks of the grammars that `rewards.grammar` names; None: an answer is one plain text."""


def conclusion_of(text: str, names: Sequence[str] | None = STAGES) -> str | None:
    """The last block's text, None if the text breaks the grammar; the whole text where `names` is None."""
    return text if names is None else parse(text, names).conclusion


def shown(text: str, names: Sequence[str] | None) -> str:
    """What a user sees of an answer: its conclusion; of an answer that breaks the grammar, for example because it was cut off,
    the last block that it opened, and without any block the whole text. Never raises."""
    conclusion = conclusion_of(text, names)
    if names is None or conclusion is not None:
        return (conclusion or "").strip()
    opened = {name: text.rfind(f"<{name}>") for name in names}
    last = names[-1] if opened[names[-1]] >= 0 else max(names, key=lambda name: opened[name])
    if opened[last] < 0:
        return text.strip()
    inside = text[opened[last] + len(f"<{last}>") :].split(f"</{last}>")[0].strip()
    return inside or text.strip()


def normalised(conclusion: str) -> str:
    """A form that is equal for conclusions that say the same: the last boxed answer, no "The answer is", numbers by value
    (`4,656` = `4656.0`), case, quotes and a final full stop dropped. Not by meaning: `three` and `3` differ."""
    boxed = last_boxed(conclusion)
    text = boxed if boxed is not None else without_lead(conclusion)
    number = plain_number(text)
    if number is None:
        return plain_text(text)
    return f"{number.value}{' %' if number.percent else ''}"


def votes(conclusions: Sequence[str | None]) -> list[float | None]:
    """How many conclusions agree with each, by normalised form. None (no conclusion) and empty ones have no vote."""
    forms = [normalised(text) if text is not None else "" for text in conclusions]
    counts = Counter(form for form in forms if form)
    return [float(counts[form]) if form else None for form in forms]


def majority_index(conclusions: Sequence[str | None]) -> int:
    """Index of the first conclusion of the most frequent form; of equally frequent forms, of the one that comes first.
    Without any vote, 0."""
    return best_index(votes(conclusions))


def best_index(scores: Sequence[float | None]) -> int:
    """Index of the highest score, the first of equal ones; None (no score) is below every score."""
    return max(range(len(scores)), key=lambda i: (scores[i] is not None, scores[i] or 0.0, -i))
