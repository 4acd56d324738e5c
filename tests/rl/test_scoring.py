"""Rewards are scored while others are being generated, and nothing but the clock can tell."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.metrics import values
from core.rows import read_rows
from engines.build import build_engine
from engines.config import TransformersConfig
from engines.rollout import Request, Rollout, Sampling
from rewards.config import RewardsConfig
from rewards.errors import RewardFailure
from rewards.router import Router
from rl.loop import train
from rl.scoring import Scorer
from tests.rl.small_run import metrics, rollouts, small_config, write_small_world
from vlm.inputs import encode_row
from vlm.load import load_processor

PLUGIN = """
import time

def slow_share_of_digits(completion, answer):
    time.sleep(0.002)
    return sum(c.isdigit() for c in completion) / max(1, len(completion))

def best_of_group(completions, group_ids, **columns):
    texts = [c[0]["content"] for c in completions]
    assert len(set(group_ids)) == 1 and len(texts) == 4, (group_ids, len(texts))
    return [float(len(text) == max(map(len, texts))) for text in texts]
best_of_group.whole_groups = True

def fails_for_odd_lengths(completion, answer):
    if len(completion) % 2:
        raise ValueError(f"odd: {len(completion)}")
    return 1.0
"""


class Watched:
    """A reward that tells when it is called, and can be held up."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()
        self.seen: list[str] = []

    def __call__(self, completion: str, answer: dict) -> float:
        self.begun.set()
        assert self.go_on.wait(60)
        self.seen.append(completion)
        return len(completion) / 1000


watched = Watched()


def report(completion: str, answer: dict) -> float:
    return watched(completion, answer)


@pytest.fixture
def watch(monkeypatch) -> Watched:
    monkeypatch.setitem(globals(), "watched", Watched())
    return watched


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    folder = write_small_world(tmp_path_factory.mktemp("world"))
    (folder / "plugin.py").write_text(PLUGIN)
    return folder


@pytest.fixture(scope="module")
def generated(world) -> tuple[list[Request], list[Rollout], list[int]]:
    """Requests, the rollouts of a real engine for them, and the order in which they were finished."""
    processor, finished = load_processor(world / "model"), []
    engine = build_engine(TransformersConfig(max_model_len=96), world / "model", processor, device="cpu")
    rows = read_rows(world / "rows.jsonl")
    requests = [Request(row, encode_row(processor, row), n=4) for row in rows]
    made = engine.generate(requests, Sampling(max_tokens=60, seed=1), lambda place, _: finished.append(place))
    return requests, made, finished


def scorer(function: dict | str, *, overlap: bool = True, **more) -> Scorer:
    config = {"grammar": "none", "tasks": {"digits": [function]}, **more}
    return Scorer(Router(RewardsConfig.model_validate(config)), overlap=overlap)


@pytest.fixture
def reporting() -> Iterator[Scorer]:
    function = {"function": f"{__name__}:report", "isolate": False}
    one = scorer(function)
    yield one
    one.close()


def test_rewards_of_early_rollouts_begin_before_the_last_rollout_is_finished(watch, reporting, generated):
    requests, made, finished = generated
    with reporting.round(requests) as scoring:
        for place in finished[:-1]:
            scoring.add(place, made[place])
        # the last rollout is not finished, as far as the scorer knows, until a reward has been asked for
        assert watch.begun.wait(60)
        scoring.add(finished[-1], made[finished[-1]])
        scores = scoring.finish()
    assert [score.reward for score in scores] == [len(rollout.text) / 1000 for rollout in made]
    assert len(watch.seen) == len(made)


def test_what_finishes_while_the_thread_is_scoring_is_scored_in_one_call(watch, reporting, generated):
    requests, made, finished = generated
    asked: list[int] = []
    run_functions = reporting.router.run_functions
    reporting.router.run_functions = lambda rows, *rest: asked.append(len(rows)) or run_functions(rows, *rest)  # type: ignore[method-assign]
    watch.go_on.clear()
    with reporting.round(requests) as scoring:
        scoring.add(finished[0], made[finished[0]])
        assert watch.begun.wait(60)
        for place in finished[1:]:
            scoring.add(place, made[place])
        watch.go_on.set()
        scoring.finish()
    assert asked == [1, len(made) - 1]


def test_a_round_that_is_left_by_an_error_asks_for_no_more_rewards(watch, generated):
    requests, made, _ = generated
    one = scorer({"function": f"{__name__}:report", "isolate": False})
    watch.go_on.clear()

    def fail_while_generating() -> None:
        with one.round(requests) as scoring:
            scoring.add(0, made[0])
            assert watch.begun.wait(60)
            for place in range(1, 8):
                scoring.add(place, made[place])
            raise RuntimeError("generation failed")

    with pytest.raises(RuntimeError, match="generation failed"):
        fail_while_generating()
    watch.go_on.set()
    one.close()  # waits for the thread
    assert watch.seen == [made[0].text]


def test_scores_are_those_of_one_call_at_the_end_whatever_the_order_of_finishing(world, generated):
    requests, made, finished = generated
    functions = [f"{world / 'plugin.py'}:slow_share_of_digits", f"{world / 'plugin.py'}:best_of_group"]
    for function in functions:
        found = []
        for overlap, order in ((False, range(len(made))), (True, finished), (True, finished[::-1])):
            one = scorer(function, overlap=overlap)
            with one.round(requests) as scoring:
                for place in order:
                    scoring.add(place, made[place])
                found.append(scoring.finish())
            assert values(one.pop_metrics())["seconds/reward_total"] > 0
            one.close()
        assert found[0] == found[1] == found[2]
        assert len({score.reward for score in found[0]}) > 1


def test_failures_are_counted_over_the_round_not_over_what_happened_to_finish_first(world, generated):
    requests, made, _ = generated
    failing = [place for place, rollout in enumerate(made) if len(rollout.text) % 2]
    first = failing + [place for place in range(len(made)) if place not in failing]
    share = len(failing) / len(made)
    assert 0.1 < share < 0.9
    function = {"function": f"{world / 'plugin.py'}:fails_for_odd_lengths", "isolate": False}
    limits = {"failure_min": 1, "max_failure_rate": share + 0.01}
    one = scorer(function, **limits)
    with one.round(requests) as scoring:  # at first nothing but failures, in the round no more than allowed
        for place in first:
            scoring.add(place, made[place])
        scores = scoring.finish()
    assert [place for place, score in enumerate(scores) if score.reward is None] == failing
    assert values(one.pop_metrics())["failures/fails_for_odd_lengths/exception"] == len(failing)
    one.close()
    messages = []
    for overlap in (False, True):
        one = scorer(function, overlap=overlap, **limits | {"max_failure_rate": share - 0.01})
        with one.round(requests) as scoring:
            for place in first:
                scoring.add(place, made[place])
            with pytest.raises(RewardFailure) as error:
                scoring.finish()
        messages.append(str(error.value))
        one.close()
    assert messages[0] == messages[1]
    assert f"failed for {len(failing)} of its last {len(made)} rollouts" in messages[0]


def test_missing_rollouts_are_an_error_not_a_wait(reporting, generated):
    requests, made, _ = generated
    with reporting.round(requests) as scoring:
        scoring.add(3, made[3])
        with pytest.raises(RuntimeError, match="24 rollouts expected, 1 added"):
            scoring.finish()


@pytest.mark.parametrize("function", ["slow_share_of_digits", "best_of_group"])
def test_a_run_with_overlap_is_the_run_without(world, tmp_path, function):
    """In worker processes, as plugins run; with a reward that is slow, and one that asks for whole groups."""
    for overlap in (True, False):
        config = small_config(
            world,
            tmp_path / str(overlap),
            steps=2,
            rewards={"grammar": "none", "tasks": {"digits": f"{world / 'plugin.py'}:{function}"}},
            rollout={"prompts_per_step": 2, "completions_per_prompt": 4, "max_tokens": 12}
            | {"overlap_rewards": overlap},
        )
        train(config)
    assert rollouts(tmp_path / "True") == rollouts(tmp_path / "False")
    timing = ("seconds/", "tokens_per_second")
    for a, b in zip(metrics(tmp_path / "True"), metrics(tmp_path / "False"), strict=True):
        assert a["seconds/reward_total"] > 0 and b["seconds/reward"] >= b["seconds/reward_total"]
        assert {k: v for k, v in a.items() if not k.startswith(timing)} == {
            k: v for k, v in b.items() if not k.startswith(timing)
        }


@pytest.mark.parametrize("overlap", [True, False])
def test_a_reward_that_fails_too_often_stops_the_run_with_its_own_words(world, tmp_path, overlap):
    function = {"function": f"{world / 'plugin.py'}:fails_for_odd_lengths", "isolate": False}
    rewards = {"grammar": "none", "tasks": {"digits": [function]}, "failure_min": 1, "max_failure_rate": 0}
    rollout = {"prompts_per_step": 2, "completions_per_prompt": 4, "max_tokens": 12} | {
        "overlap_rewards": overlap
    }
    with pytest.raises(RewardFailure, match=r"of its last 8 rollouts(.|\n)*ValueError: odd: \d+"):
        train(small_config(world, tmp_path, rewards=rewards, rollout=rollout))
    assert not (tmp_path / "metrics.jsonl").exists()
