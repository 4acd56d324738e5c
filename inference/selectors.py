"""Selectors of the best of several answers: by vote, likelihood or reward. Of equally good ones the first is taken.

`majority`  self-consistency (arXiv 2203.11171): the conclusion that most answers agree on. For answers that can be equal
            (numbers, letters, names); boxes and times seldom are, and then the first answer stays.
`mean_logprob`  the model's own mean log-probability per token, at the sampling temperature. Free, and only as good as the
            model is calibrated; the mean, because the sum would prefer short answers.
`by_reward`  any reward of `rewards`, by the router. **With a reward that reads the ground truth this is pass@N: an upper
            bound on what choosing can gain, not a result.** With a reward that does not (a reward model, a judge behind
            `http`) it is best-of-N as usual.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

from core.rows import Row
from engines.rollout import Rollout
from inference.types import Selector
from rewards.reading.text import last_boxed, plain_number, plain_text, without_lead
from rewards.router import Router
from rewards.serving.plugins import load
from rewards.stages import STAGES, THINK, parse

GRAMMARS: dict[str, tuple[str, ...] | None] = {"stages": STAGES, "think": THINK, "none": None}
"""Blocks of the grammars that `rewards.grammar` names; None: an answer is one plain text."""


def best_index(scores: Sequence[float | None]) -> int:
    """Index of the highest score, the first of equal ones; None (no score) is below every score."""
    return max(range(len(scores)), key=lambda i: (scores[i] is not None, scores[i] or 0.0, -i))


def majority_index(conclusions: Sequence[str | None]) -> int:
    """Index of the first conclusion whose normalised form is the most frequent; of equally frequent forms, the one that
    comes first. None (no conclusion) and empty ones have no vote; without any vote, 0."""
    forms = [normalised(text) if text is not None else "" for text in conclusions]
    votes = Counter(form for form in forms if form)
    return best_index([votes[form] if form else None for form in forms])


def normalised(conclusion: str) -> str:
    """A form that is equal for conclusions that say the same: the last boxed answer, no "The answer is", numbers by value
    (`4,656` = `4656.0`), case, quotes and a final full stop dropped. Not by meaning: `three` and `3` differ."""
    boxed = last_boxed(conclusion)
    text = boxed if boxed is not None else without_lead(conclusion)
    number = plain_number(text)
    if number is None:
        return plain_text(text)
    return f"{number.value}{' %' if number.percent else ''}"


def conclusion_of(text: str, names: Sequence[str] | None = STAGES) -> str | None:
    """The last block's text, None if the text breaks the grammar; the whole text where `names` is None."""
    return text if names is None else parse(text, names).conclusion


def average_logprob(rollout: Rollout) -> float | None:
    """Mean log-probability of the tokens that the model sampled; None if it sampled none."""
    sampled = [p for p, mask in zip(rollout.logprobs, rollout.loss_mask, strict=True) if mask]
    return sum(sampled) / len(sampled) if sampled else None


def majority(
    row: Row, prefix: str, candidates: Sequence[Rollout], *, names: Sequence[str] | None = STAGES
) -> int:
    """Selector: the first answer with the most frequent conclusion (`majority_index`)."""
    return majority_index([conclusion_of(prefix + candidate.text, names) for candidate in candidates])


def mean_logprob(row: Row, prefix: str, candidates: Sequence[Rollout]) -> int:
    """Selector: the highest mean log-probability per token."""
    return best_index([average_logprob(candidate) for candidate in candidates])


def by_reward(router: Router) -> Selector:
    """Selector: the highest reward of the whole answer; see the module's docstring on what that means."""

    def select(row: Row, prefix: str, candidates: Sequence[Rollout]) -> int:
        scores = router.score(
            [row] * len(candidates),
            [prefix + candidate.text for candidate in candidates],
            [candidate.completion_ids for candidate in candidates],
            [row["id"]] * len(candidates),
        )
        return best_index([score.reward for score in scores])

    return select


def selector(name: str, names: Sequence[str] | None, router: Router) -> Selector:
    """The selector of a name: `majority`, `mean_logprob`, `reward`, or `package.module:function`, `file.py:function` for
    a function of one's own (`inference.types.Selector`). names: blocks of the grammar. router: for `reward`.

    Raises PluginError if there is no such function.
    """
    if name == "majority":
        return partial(majority, names=names)
    if name == "mean_logprob":
        return mean_logprob
    if name == "reward":
        return by_reward(router)
    function: Callable[..., int] = load(name)
    return function
