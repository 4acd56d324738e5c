"""Stage-level beam search (LLaVA-CoT, arXiv 2411.10440): choose after every stage, not only at the end.

For each stage of the grammar, in order: sample candidates until the stage's closing tag, keep the best one, continue from it.
One candidate survives a stage, as in the paper; "beam" is the number of candidates. The paper lets the model itself judge
pairs of candidates; here any `Selector` chooses, by default the model's mean log-probability of the stage.

The model continues its own tokens: the winner's ids are appended to the prompt as sampled, nothing is re-tokenised. A token
may extend beyond the closing tag (`><` is one in Qwen's vocabulary); it belongs to the winner, and the next stage starts
after it.

A candidate that breaks the grammar is chosen only where no other is there. If the winner has not closed its stage (the
model ended its answer, or the limit was reached), the answer ends there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from engines.engine import Engine
from engines.rollout import Finish, Request, Rollout, Sampling, by_request
from inference.selectors import mean_logprob
from inference.types import Answer, Selector, choose
from rewards.stages import STAGES, parse
from vlm.inputs import extend

SEED_STRIDE = 1_000_003  # between the seeds of one stage and the next


@dataclass
class _Growing:
    """One row's answer while it grows. left: tokens that it may still get."""

    request: Request
    left: int
    ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    text: str = ""
    finish: Finish | None = None
    generated: int = 0
    chosen: list[int] = field(default_factory=list)


def stage_beam(
    engine: Engine,
    tokenizer: Any,
    requests: Sequence[Request],
    select: Selector = mean_logprob,
    *,
    sampling: Sampling,
    names: Sequence[str] = STAGES,
) -> list[Answer]:
    """One answer per request; all of them go through a stage together.

    requests: `n` of each is the number of candidates per stage. select: chooses after each stage, given the text before it.
    sampling: temperature above 0; `max_tokens` is for the whole answer; a seed makes the search reproducible.
    names: blocks of the grammar.

    The log-probs of the answers are the engine's, at the sampling temperature, as for a completion sampled in one piece.
    """
    if sampling.temperature == 0 and any(request.n > 1 for request in requests):
        raise ValueError(
            "temperature 0 gives the same candidate n times; expected a temperature above 0 for n > 1"
        )
    if sampling.stop:
        raise ValueError(f"stage beam sets its own stop strings; expected none, got {sampling.stop!r}")
    longest = engine.config.max_model_len
    growing = [_Growing(r, min(sampling.max_tokens, longest - len(r.prompt))) for r in requests]
    for number, name in enumerate(names):
        running = [one for one in growing if one.finish is None]
        if not running:
            break
        begun = [replace(one.request, prompt=extend(one.request.prompt, one.ids)) for one in running]
        rollouts = engine.generate(
            begun,
            replace(
                sampling,
                # The largest; completions with a smaller limit are cut below, which gives the same tokens.
                max_tokens=max(1, max(one.left for one in running)),
                stop=(f"</{name}>",),
                seed=None if sampling.seed is None else sampling.seed + SEED_STRIDE * number,
            ),
        )
        for one, some in zip(running, by_request(begun, rollouts), strict=True):
            one.generated += sum(len(r.completion_ids) for r in some)
            candidates = [_cut(r, one.left, tokenizer) for r in some]
            _grow(one, candidates, number, names, select, tokenizer)
    return [_answer(one, engine.version) for one in growing]


def well_formed(text: str, count: int, names: Sequence[str] = STAGES) -> bool:
    """Whether `text` is the first `count` blocks of the grammar, whole and in order, and behind them nothing but white
    space or the beginning of the next opening tag."""
    head, closing, rest = text.rpartition(f"</{names[count - 1]}>")
    if parse(head + closing, names[:count]).stages is None:
        return False
    if any(tag in head for name in names[count:] for tag in (f"<{name}>", f"</{name}>")):
        return False
    following = f"<{names[count]}>" if count < len(names) else ""
    return following.startswith(rest.strip())


def _grow(
    one: _Growing,
    candidates: Sequence[Rollout],
    number: int,
    names: Sequence[str],
    select: Selector,
    tokenizer: Any,
) -> None:
    """Append the best candidate for stage `number` to the answer, in place."""
    # Decoded together: a character of several bytes may be split between them.
    texts = [tokenizer.decode([*one.ids, *c.completion_ids], skip_special_tokens=True) for c in candidates]
    sound = [i for i, text in enumerate(texts) if well_formed(text, number + 1, names)]
    among = sound or list(range(len(candidates)))
    winner = among[choose(select, one.request.row, one.text, [candidates[i] for i in among])]

    candidate = candidates[winner]
    one.chosen.append(winner)
    one.ids += candidate.completion_ids
    one.logprobs += candidate.logprobs
    one.text = texts[winner]
    one.left -= len(candidate.completion_ids)
    if f"</{names[number]}>" not in candidate.text:
        one.finish = candidate.finish
    elif number == len(names) - 1:
        one.finish = "stop"
    elif one.left <= 0:
        one.finish = "length"


def _cut(rollout: Rollout, most: int, tokenizer: Any) -> Rollout:
    """The rollout as it would be with a limit of `most` tokens."""
    if len(rollout.completion_ids) <= most:
        return rollout
    ids = rollout.completion_ids[:most]
    return replace(
        rollout,
        completion_ids=ids,
        loss_mask=rollout.loss_mask[:most],
        logprobs=rollout.logprobs[:most],
        text=tokenizer.decode(list(ids), skip_special_tokens=True),
        finish="length",
    )


def _answer(one: _Growing, version: int) -> Answer:
    rollout = Rollout(
        row_id=one.request.row_id,
        prompt=one.request.prompt,
        completion_ids=one.ids,
        loss_mask=(1,) * len(one.ids),
        logprobs=one.logprobs,
        text=one.text,
        policy_version=version,
        finish=one.finish or "length",
    )
    return Answer(rollout, one.generated, tuple(one.chosen))
