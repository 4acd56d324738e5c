"""The watch for reward hacking: what it measures, when it stops a run, and the look back."""

from __future__ import annotations

import random

import pytest

from core.files.jsonl import append
from core.metrics import values
from rewards.cli import main
from rewards.config import RewardsConfig
from rewards.hacking import HackingConfig, HackingWatch, Watched, hacking_metrics, repetition


def config(**more) -> HackingConfig:
    return HackingConfig(**{"verified": "truth", "window": 5} | more)


def watch(settings: HackingConfig, steps) -> tuple[int | None, str | None]:
    """(step after which the run stops, why). steps: (proxy, verified, length, repetition) of each."""
    found = HackingWatch(settings)
    for number, (proxy, verified, length, repeated) in enumerate(steps, 1):
        record = {"step": number, "hacking/rollouts": 8, "hacking/proxy": proxy, "hacking/verified": verified}
        found.add(record | {"hacking/length": length, "hacking/repetition": repeated})
        if problem := found.problem():
            return number, problem
    return None, None


def noisy(level: float, rng: random.Random) -> float:
    return level + rng.uniform(-0.02, 0.02)


def run_of(truth, count: int = 40, seed: int = 0):
    """A proxy that rises all the time, and a truth that is a function of the step."""
    rng = random.Random(seed)
    return [(noisy(0.3 + i / 100, rng), noisy(truth(i), rng), 20.0, 0.0) for i in range(count)]


def test_a_run_is_stopped_where_the_proxy_rises_and_the_truth_falls():
    step, why = watch(config(), run_of(lambda i: 0.3 + 0.02 * min(i, 15) - 0.02 * max(0, i - 20)))
    assert step is not None and 22 <= step <= 30
    assert "'reward_model' rose from" in why and "'truth' fell from" in why and "max_drop = 0.05" in why


@pytest.mark.parametrize(
    "truth",
    [
        lambda i: 0.3 + i / 100,
        lambda i: 0.5,
        lambda i: 0.5 - i / 1000,
    ],  # rises, stays, falls by less than max_drop
)
def test_a_run_whose_truth_does_not_fall_goes_on(truth):
    for seed in range(20):
        assert watch(config(), run_of(truth, seed=seed)) == (None, None)


def test_both_falling_is_no_hacking_and_chance_is_none():
    falling = [(p, v, 20.0, 0.0) for p, v, *_ in reversed(run_of(lambda i: 0.2 + i / 100))]
    assert watch(config(), falling) == (None, None)
    rng = random.Random(0)
    wild = [(0.3 + i / 100, float(rng.random() < 0.5), 20.0, 0.0) for i in range(40)]
    assert watch(config(), wild) == (None, None)  # means differ by much, but so do the steps


def test_a_fall_without_any_spread_is_seen_too():
    assert watch(config(), [(0.1, 1.0, 9.0, 0.0)] * 5 + [(0.2, 0.0, 9.0, 0.0)] * 5)[0] == 10


def test_length_and_repetition_have_limits_of_their_own():
    longer = [(0.5, 0.5, 10.0 + i, 0.0) for i in range(40)]
    assert watch(config(), longer) == (None, None)
    step, why = watch(config(max_length_ratio=2.0), longer)
    assert step == 18 and why.startswith("length drift: answers of steps 14-18 have 25 tokens, 2.08 times")
    looping = [(0.5, 0.5, 10.0, i / 50) for i in range(40)]
    step, why = watch(config(max_repetition=0.5), looping)
    assert step == 29 and "are repeated" in why


def test_only_rollouts_that_have_both_rewards_count():
    settings = config(tasks=["chat"])
    rollouts = [
        Watched("chat", {"reward_model": 0.8, "truth": 1.0}, 10, "a b c d a b c d"),
        Watched("chat", {"reward_model": 0.6, "truth": None}, 99, "x"),  # could not be verified
        Watched("chat", {"truth": 0.0}, 99, "x"),
        Watched("math", {"reward_model": 0.1, "truth": 0.0}, 99, "x"),
    ]
    found = values(hacking_metrics(rollouts, settings))
    assert found == pytest.approx(
        {
            "hacking/proxy": 0.8,
            "hacking/verified": 1.0,
            "hacking/length": 10,
            "hacking/repetition": 0.2,
            "hacking/rollouts": 1,
        }
    )
    empty = HackingWatch(settings)
    empty.add({"step": 1, **values(hacking_metrics(rollouts[1:], settings))})
    assert not empty.steps


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("", 0),
        ("one two three", 0),
        ("a b c d e f g h", 0),
        ("a b c d " * 5, 13 / 17),
        ("蓝蓝蓝蓝蓝", 0.5),
        ("!!!!!", 0.5),
    ],
)
def test_repetition_is_the_share_of_repeated_4_grams(text, share):
    assert repetition(text) == pytest.approx(share)


def test_the_state_survives_a_checkpoint():
    first = HackingWatch(config())
    first.add(
        {"step": 1, "hacking/rollouts": 1}
        | {f"hacking/{n}": 0.5 for n in ("proxy", "verified", "length", "repetition")}
    )
    second = HackingWatch(config())
    second.load_state_dict(first.state_dict())
    assert second.state_dict() == first.state_dict() and second.steps[0][0] == 1
    second.load_state_dict(None)  # a checkpoint without one
    assert second.steps


def test_components_that_no_task_has_are_refused():
    rewards = RewardsConfig(tasks={"chat": ["exact_text", "reward_model"], "math": "math"})
    HackingConfig(verified="exact_text").check(rewards)
    with pytest.raises(ValueError, match="expected a task with the rewards 'reward_model' and 'truth'"):
        config().check(rewards)
    with pytest.raises(ValueError, match="expected 'exact_text' among the rewards of 'math', which has math"):
        HackingConfig(verified="exact_text", tasks=["math"]).check(rewards)
    with pytest.raises(ValueError, match="expected two components"):
        HackingConfig(proxy="a", verified="a")


def rollouts(count: int) -> list[dict]:
    """Two rollouts of each step: the longer one has the higher score, whatever the truth."""
    records = []
    for step in range(1, count + 1):
        truth = 1.0 if step <= 10 else 0.0
        for longer in (0, 1):
            components = {"reward_model": 0.1 * longer + step / 100, "truth": truth if longer else 1 - truth}
            record = {"step": step, "task": "chat", "components": components, "tokens": 5 + longer}
            records.append(record | {"completion": "a red tile"})
    return records


def test_looking_back_prints_windows_and_the_verdict(tmp_path, capsys):
    file = tmp_path / "rollouts.jsonl"
    append(file, rollouts(20))
    assert main(["hacking", str(file), "--verified", "truth", "--window", "10"]) == 0
    head, first, second, verdict = capsys.readouterr().out.splitlines()
    assert "rank correlation" in head
    assert first.split()[:2] == ["1-10", "20"] and second.split()[:2] == ["11-20", "20"]
    assert float(first.split()[4]) > 0.4 > -0.4 > float(second.split()[4])
    assert verdict == "the stop rule would not have stopped the run"  # half are right in every step


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([{"step": 1, "task": "chat", "components": {}, "tokens": 1, "completion": ""}], "found none"),
        ([{"task": "chat"}], "expected the rollouts of a GRPO run: no field 'step'"),
    ],
)
def test_a_file_without_both_rewards_is_one_clear_error(tmp_path, capsys, lines, message):
    file = tmp_path / "rollouts.jsonl"
    append(file, lines)
    assert main(["hacking", str(file), "--verified", "truth"]) == 2
    assert message in capsys.readouterr().err
    assert main(["hacking", str(tmp_path / "none.jsonl"), "--verified", "truth"]) == 2
