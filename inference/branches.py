"""Steps that all searches are made of: sample continuations of branches, and choose among them."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

from engines.rollout import Finish, Rollout
from inference.types import Branch, Calls, Generate, Judge, Node, Question, Replies
from rewards.stages import parse

Steps = Generator[Calls, Replies, list[Branch]]
WHOLE = "answer"
"""`Node.stage` of a candidate that is a whole answer, or all that is left of one."""


def width(question: Question, n: int) -> int:
    """How many candidates to sample where the method asks for `n`."""
    return 1 if question.out_of_budget else n


def check_temperature(question: Question, n: int) -> None:
    """Raise ValueError if `n` candidates would all be the same."""
    if question.temperature == 0 and n > 1:
        raise ValueError(
            "temperature 0 gives the same candidate n times; expected a temperature above 0 for n > 1"
        )


def expand(
    branches: Sequence[Branch], n: int, stage: str, stop: tuple[str, ...] = (), *, greedy: bool = False
) -> Steps:
    """`n` continuations of each branch, until one of the `stop` texts, in one round. None of the branches has ended.

    A continuation ends the answer where it stopped by itself or at the limit, or holds the last closing tag.
    """
    question = branches[0].question
    replies = yield [
        Generate(branch.request(n), question.sampling(branch.left, stop=stop, greedy=greedy))
        for branch in branches
    ]
    return [
        _child(branch, rollout, stage, stop)
        for branch, some in zip(branches, replies, strict=True)
        for rollout in some
    ]


def best(
    judge: Judge, stage: str, candidates: Sequence[Branch], keep: int = 1, *, always_score: bool = False
) -> Steps:
    """The `keep` best candidates, best first; those that break the grammar come behind all others.

    The judge sees the sound ones alone, if there are any. It is asked where there is a choice (always_score: also where there is
    none) and budget is left; without it the first ones are taken.
    """
    question = candidates[0].question
    sound = [branch for branch in candidates if _node(branch).in_grammar]
    among = sound or list(candidates)
    scores: list[float | None] = [None] * len(among)
    if (always_score or len(among) > keep) and not question.out_of_budget:
        scores = yield from judge(question, stage, among)
        for branch, score in zip(among, scores, strict=True):
            _node(branch).score = score
            question.watch(branch.node or 0)
    order = sorted(range(len(among)), key=lambda i: rank(scores[i]), reverse=True)  # stable: first of equals
    rest = [branch for branch in candidates if branch not in among]
    kept = [*(among[i] for i in order), *rest][:keep]
    for branch in kept:
        _node(branch).kept = True
        question.watch(branch.node or 0)
    return kept


def rank(score: float | None) -> tuple[bool, float]:
    """Sorts scores; None is below all."""
    return (score is not None, score or 0.0)


def score_of(branch: Branch) -> float | None:
    """The judge's score of the branch's last piece."""
    return _node(branch).score


def well_formed(text: str, count: int, names: Sequence[str]) -> bool:
    """Whether `text` is the first `count` blocks of the grammar, whole and in order, and behind them nothing but white
    space or the beginning of the next opening tag."""
    head, closing, rest = text.rpartition(f"</{names[count - 1]}>")
    if parse(head + closing, names[:count]).stages is None:
        return False
    if any(tag in head for name in names[count:] for tag in (f"<{name}>", f"</{name}>")):
        return False
    following = f"<{names[count]}>" if count < len(names) else ""
    return following.startswith(rest.strip())


def begins_well(text: str, names: Sequence[str]) -> bool:
    """Whether `text` can be continued to an answer in the grammar, or is one."""
    closed = next((k for k in range(len(names), 0, -1) if f"</{names[k - 1]}>" in text), 0)
    head, tag, rest = text.rpartition(f"</{names[closed - 1]}>") if closed else ("", "", text)
    if closed and not well_formed(head + tag, closed, names):
        return False
    rest = rest.lstrip()
    opening = f"<{names[closed]}>" if closed < len(names) else ""
    if len(rest) <= len(opening):
        return opening.startswith(rest)
    inside = rest.removeprefix(opening)
    return (
        bool(opening) and inside != rest and not any(f"<{n}>" in inside or f"</{n}>" in inside for n in names)
    )


def _node(branch: Branch) -> Node:
    assert branch.node is not None
    return branch.question.tree[branch.node]


def _child(branch: Branch, rollout: Rollout, stage: str, stop: tuple[str, ...]) -> Branch:
    question = branch.question
    ids = branch.ids + rollout.completion_ids
    # Decoded together: a character of several bytes may be split between the pieces.
    text = question.tokenizer.decode(list(ids), skip_special_tokens=True)
    finish = _finish(question, rollout, text, len(ids), stop)
    node = Node(
        branch.node,
        stage,
        text[len(branch.text) :],
        len(rollout.completion_ids),
        _sound(question.names, stage, text),
        finish,
    )
    question.tree.append(node)
    place = len(question.tree) - 1
    question.watch(place)
    logprobs = branch.logprobs + rollout.logprobs
    return Branch(question, ids, logprobs, text, branch.text, rollout, place, finish)


def _finish(
    question: Question, rollout: Rollout, text: str, length: int, stop: tuple[str, ...]
) -> Finish | None:
    """Why the answer ends with `rollout`; None if it goes on."""
    last = f"</{question.names[-1]}>" if question.names else None
    if stop and last is not None and last in stop and last in rollout.text:
        return "stop"
    if not any(string in rollout.text for string in stop):
        return rollout.finish
    return "length" if length >= question.max_tokens else None


def _sound(names: Any, stage: str, text: str) -> bool:
    if names is None:
        return True
    if stage == WHOLE:
        return parse(text, names).stages is not None
    if stage in names:
        return well_formed(text, names.index(stage) + 1, names)
    return begins_well(text, names)
