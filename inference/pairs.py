"""The model as its own judge: it compares two candidates at a time in a knock-out (LLaVA-CoT, arXiv 2411.10440).

Prompts and form of the verdict are the released code's (`inference_demo.py`), without its separate text-only check of
reasonings. The code draws two candidates at random until one is left; here the draw is a bracket, so
that the matches of a round, and those of all searches, are judged together. The code takes every verdict that is not
"I choose response 1" for response 2; here a verdict that names none or both is a counted coin toss.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

from engines.rollout import Request, Sampling
from engines.samples import prompt_text
from inference.types import Branch, Generate, Judge, Question, Scores
from vlm.inputs import Encoded, encode, special_tokens

ROLES = {
    "SUMMARY": "better provides a summary of what it should do to solve the question",
    "CAPTION": "better summarizes the information in the image related to the question, and has fewer errors",
    "REASONING": "better explains the reasoning process to solve the question, and has fewer errors",
    "CONCLUSION": "offers a more effective conclusion to the question",
    "sentence": "is a better next sentence for the answer to the question",
}
CRITERIA = {
    "SUMMARY": "A better summary should focus on outlining the main approach instead of stating specific analytical reasoning or"
    " math formula.",
    "CAPTION": "A better caption should be as thorough as possible while remaining accurate, capturing as many details as possible"
    " rather than providing only general commentary.",
    "REASONING": "Begin by thoroughly reviewing the question, followed by an in-depth examination of each answer individually,"
    " noting any differences. Subsequently, analyze these differences to determine which response demonstrates stronger reasoning"
    " and provide a clear conclusion.",
    "CONCLUSION": "A better conclusion should align with the reasoning presented in the hint. The conclusion should never refuse"
    " to answer the question.",
}
FORM = (
    "Please strictly follow the following format requirements when outputting, and don't have any other unnecessary words.\n\n"
    'Output format: "Since [reason], I choose response [1/2]."'
)
_CHOICE = re.compile(r"\bchoose\s+response\s*[\[(\"']?\s*([12])\b", re.IGNORECASE)


@dataclass(frozen=True)
class _Match:
    """Two candidates, by their places; `first` is shown as response 1."""

    first: int
    second: int


def by_pairs(*, max_model_len: int, both_orders: bool = False, max_tokens: int = 256) -> Judge:
    """The model compares pairs. both_orders: each pair twice, as 1-2 and as 2-1; where the two verdicts differ, a coin decides.
    max_tokens: of a verdict. max_model_len: the engine's; a pair that does not fit it is a coin toss too."""

    def judge(question: Question, stage: str, candidates: Sequence[Branch]) -> Scores:
        rng = random.Random(f"{question.seed}/{question.row['id']}/{len(question.tree)}")
        left = rng.sample(range(len(candidates)), len(candidates))
        scores: list[float | None] = [0.0] * len(candidates)
        for won in range(1, len(candidates)):
            matches = [_Match(*pair) for pair in zip(left[::2], left[1::2])]
            shown = [one for m in matches for one in ([m, _Match(m.second, m.first)] if both_orders else [m])]
            verdicts = yield from _verdicts(question, stage, candidates, shown)
            winners = []
            for match in matches:
                ballots = [verdicts.pop(0) for _ in range(1 + both_orders)]
                winners.append(_winner(question, match, ballots, rng))
            left = winners + left[len(matches) * 2 :]  # without a partner: through to the next round
            for place in left:
                scores[place] = float(won)
            if len(left) == 1:
                break
        return scores

    def _verdicts(question: Question, stage: str, candidates: Sequence[Branch], shown: Sequence[_Match]):
        """The place that each verdict names, None where it names none."""
        prompts = [
            _prompt(question, stage, [candidates[match.first], candidates[match.second]]) for match in shown
        ]
        fits = [len(prompt) + max_tokens <= max_model_len for prompt in prompts]
        sampling = Sampling(0.0, max_tokens)
        replies = yield [
            Generate(Request(question.row, prompt), sampling, judge=True)
            for prompt, fit in zip(prompts, fits, strict=True)
            if fit
        ]
        rest = iter(replies)
        choices = [chosen_response(next(rest)[0].text) if fit else None for fit in fits]
        return [
            None if choice is None else (match.first, match.second)[choice - 1]
            for choice, match in zip(choices, shown, strict=True)
        ]

    return judge


def chosen_response(verdict: str) -> int | None:
    """1 or 2, the response that a verdict chooses; None if it names none, or both."""
    named = {int(number) for number in _CHOICE.findall(verdict)}
    return named.pop() if len(named) == 1 else None


def _winner(question: Question, match: _Match, ballots: Sequence[int | None], rng: random.Random) -> int:
    votes = [ballots.count(place) for place in (match.first, match.second)]
    if votes[0] == votes[1]:
        question.spent.coin_tosses += 1
        return rng.choice((match.first, match.second))
    return match.first if votes[0] > votes[1] else match.second


def _prompt(question: Question, stage: str, pair: Sequence[Branch]) -> Encoded:
    """The judge's prompt for two candidates: the question with its media, the text before them as a hint, and both texts."""
    role = ROLES.get(stage, "better answers the question")
    lines = [
        f"Now you act as a judge, helping me determine which of the two texts I provide {role}.",
        f"\nQuestion: {prompt_text(question.row)}",
    ]
    before = {_untagged(branch.before, question) for branch in pair}
    if len(before) == 1 and (hint := before.pop()):
        lines.append(f"\nHint about the Question: {hint}")
    lines += [f"\nResponse {i}: {_untagged(branch.piece, question)}" for i, branch in enumerate(pair, 1)]
    text = "\n".join([*lines, "\n" + CRITERIA.get(stage, ""), FORM])
    for token in special_tokens(question.tokenizer):
        text = text.replace(
            token, f"{token[0]} {token[1:]}"
        )  # what the model spelled out must not become control tokens
    images, videos = question.prompt.images, question.prompt.videos
    media = [{"type": "image"}] * len(images) + [{"type": "video"}] * len(videos)
    message = {"role": "user", "content": [*media, {"type": "text", "text": text}]}
    return encode(question.processor, [message], images, videos)


def _untagged(text: str, question: Question) -> str:
    """Text without the grammar's tags."""
    for name in question.names or ():
        text = text.replace(f"<{name}>", "").replace(f"</{name}>", "")
    return text.strip()
