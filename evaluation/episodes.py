"""What the turns of episodes are good for: accuracy by budget of turns, the policy's own decision to stop, and each turn's worth.

Episodes are played greedily with the largest budget. A policy is not told its budget, so its first turns are the same under every
budget, and an episode of n turns has an answer under each budget of at least n (Mini-o3, arXiv 2509.07969, sections 4 and 5, tests
policies beyond the turns they were trained with).

The *answer so far* at turn k is what the policy answers if it must answer there: its episode up to turn k, followed by
`answer_prefix` ("<answer>") in place of the turn. It shows what stopping earlier would have cost, what going on was worth, and what
a turn adds: the answer so far behind it minus the one before it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from core.statistics import Estimate, estimate_mean
from engines.engine import Engine
from engines.rollout import Request, Rollout, Sampling
from engines.samples import Sample, ScoreFunction, scored
from evaluation.boxes import place_of, tokens_of
from vlm.inputs import Encoded, extend

RIGHT = 0.5  # an answer with at least this reward counts as right


@dataclass(frozen=True)
class Played:
    """An episode and its answers so far. so_far: reward of the answer before turn 1, 2, …; None where it has none. Its own answer
    is behind the last turn."""

    sample: Sample
    so_far: tuple[float | None, ...] = ()

    @property
    def turns(self) -> int:
        return len(self.sample.rollout.turns)

    @property
    def stopped(self) -> bool:
        """The policy ended it, within the largest budget."""
        return self.sample.rollout.finish == "stop"

    @property
    def reward(self) -> float:
        """Of its own answer; 0 if it has none, because it went over a budget or its last turn was cut off."""
        return (self.sample.score.reward or 0.0) if self.stopped else 0.0


def study(played: Sequence[Played], budgets: Sequence[int]) -> dict[str, Any]:
    """What `eval.json` says of episodes; estimates as `Estimate.as_json`, one value per episode.

    by_budget: {budget: reward within so many turns}. turns: used by episodes that stopped. over_turn: share that did not.
    right_by_turn: {k: share of all right answers that were given at turn k}.
    stopped_at: {k: share of right ones among those that stopped at turn k}.
    so_far: {k: reward of the answer before turn k}, over episodes that have that turn.
    went_on_though_right: share of right answers so far among those of turns in which the policy went on.
    worth: {k: reward of the answer so far behind turn k minus before it}, over episodes that went on at turn k.
    """
    stopped = [one for one in played if one.stopped]
    right = [one.turns for one in stopped if one.reward >= RIGHT]
    deepest = max((one.turns for one in played), default=0)
    went_on = [
        [reward >= RIGHT for reward in one.so_far[: one.turns - 1] if reward is not None] for one in played
    ]
    steps = range(1, deepest + 1)
    return {
        "episodes": len(played),
        "by_budget": {
            str(b): estimate_mean(one.reward if one.turns <= b else 0.0 for one in played).as_json()
            for b in budgets
        },
        "turns": sum(one.turns for one in stopped) / len(stopped) if stopped else None,
        "over_turn": estimate_mean(float(not one.stopped) for one in played).as_json(),
        "right_by_turn": {str(k): right.count(k) / len(right) for k in steps} if right else {},
        "stopped_at": _by_turn(
            steps, lambda k: [float(one.reward >= RIGHT) for one in stopped if one.turns == k]
        ),
        "so_far": _by_turn(steps, lambda k: [v for one in played if (v := _at(one.so_far, k)) is not None]),
        "went_on_though_right": estimate_mean(sum(some) / len(some) for some in went_on if some).as_json(),
        "worth": _by_turn(
            steps,
            lambda k: [
                after - before
                for one in played
                if (before := _at(one.so_far, k)) is not None
                and (after := _at(one.so_far, k + 1)) is not None
            ],
            (-1.0, 1.0),
        ),
    }


def _at(rewards: Sequence[float | None], turn: int) -> float | None:
    return rewards[turn - 1] if turn <= len(rewards) else None


def _by_turn(steps: range, values: Any, bounds: tuple[float, float] = (0.0, 1.0)) -> dict[str, Any]:
    found: dict[str, Estimate] = {str(k): estimate_mean(values(k), bounds=bounds) for k in steps}
    return {k: estimate.as_json() for k, estimate in found.items() if estimate.n}


# ------------------------------------------------------------------------------------------------------ answers so far


def answers_so_far(
    processor: Any,
    engine: Engine,
    score: ScoreFunction,
    samples: Sequence[Sample],
    prefix: str,
    max_tokens: int,
) -> tuple[list[Played], list[list[dict[str, Any]]]]:
    """(the episodes with the rewards of their answers so far, {"answer", "reward", "logprob"} of each turn of each episode).

    prefix: begins every forced answer. logprob: mean log-probability of the answer's tokens behind it.
    """
    ids = processor.tokenizer.encode(prefix, add_special_tokens=False)
    most = engine.config.max_model_len
    requests, places = [], []
    for i, sample in enumerate(samples):
        for k in range(len(sample.rollout.turns)):
            prompt = extend(before_turn(processor, sample.rollout, k), ids)
            if len(prompt) < most:
                requests.append(Request(sample.row, prompt))
                places.append((i, k))
    rollouts = engine.generate(requests, Sampling(0.0, max_tokens)) if requests else []
    answers = [replace(one, text=prefix + one.text) for one in rollouts]
    rewards: list[list[float | None]] = [[None] * len(sample.rollout.turns) for sample in samples]
    records: list[list[dict[str, Any]]] = [[{} for _ in sample.rollout.turns] for sample in samples]
    for (i, k), group in zip(places, scored(score, requests, answers), strict=True):
        (answer,) = group.samples
        rewards[i][k] = answer.score.reward
        logprobs = answer.rollout.logprobs
        records[i][k] = {
            "answer": answer.rollout.text,
            "reward": answer.score.reward,
            "logprob": sum(logprobs) / len(logprobs) if logprobs else None,
        }
    return [Played(sample, tuple(some)) for sample, some in zip(samples, rewards, strict=True)], records


def before_turn(processor: Any, rollout: Rollout, turn: int) -> Encoded:
    """The episode up to the beginning of a turn (from 0), as the policy saw it there: its own tokens and images, not encoded again."""
    start = rollout.turns[turn].start
    if rollout.sequence is None:
        return extend(rollout.prompt, rollout.completion_ids[:start])
    whole, prompt = rollout.sequence, rollout.prompt
    count = len(prompt.images) + sum(
        not isinstance(part, str) for one in rollout.turns[:turn] for part in one.observation
    )
    grids = None if whole.image_grid_thw is None else whole.image_grid_thw[:count]
    patches = 0 if grids is None else int(grids.prod(-1).sum())
    new = [] if grids is None else grids[len(prompt.images) :].prod(-1).tolist()
    merged = processor.image_processor.merge_size**2
    unexpanded = len(prompt.engine_ids) + start - sum(size // merged - 1 for size in new)
    return replace(
        whole,
        input_ids=whole.input_ids[: len(prompt) + start],
        position_ids=whole.position_ids[:, : len(prompt) + start],
        engine_ids=whole.engine_ids[:unexpanded],
        pixel_values=None if whole.pixel_values is None or not patches else whole.pixel_values[:patches],
        image_grid_thw=None if not count else grids,
        images=whole.images[:count],
    )


def box_logprobs(tokenizer: Any, rollout: Rollout) -> list[float | None]:
    """For each turn the mean log-probability of the tokens that write the box of its call; None for a turn without one."""
    found: list[float | None] = []
    for span in box_tokens(tokenizer, rollout):
        logprobs = rollout.logprobs[slice(*span)] if span else ()
        found.append(sum(logprobs) / len(logprobs) if logprobs else None)
    return found


def box_tokens(tokenizer: Any, rollout: Rollout) -> list[tuple[int, int] | None]:
    """For each turn the slice of `completion_ids` that writes the box of its call; None for a turn without one."""
    found: list[tuple[int, int] | None] = []
    for turn in rollout.turns:
        arguments: Mapping[str, Any] = (turn.call or {}).get("arguments") or {}
        box: Any = arguments.get("bbox_2d")
        numbers = isinstance(box, list) and len(box) == 4 and all(isinstance(v, int | float) for v in box)
        if not numbers:
            found.append(None)
            continue
        x1, y1, x2, y2 = map(float, box)
        place = place_of(turn.text, (x1, y1, x2, y2))
        first, last = tokens_of(tokenizer, rollout.completion_ids[turn.start : turn.end], place)
        found.append((turn.start + first, turn.start + last))
    return found
