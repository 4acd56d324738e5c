"""Dynamic sampling and the easy pool: bookkeeping only, no engine."""

from __future__ import annotations

import json

import pytest

from rl.sampling import PromptSampler, outcome_of

ROWS = [{"id": f"r{i}"} for i in range(40)]


def run_step(sampler: PromptSampler, outcome) -> tuple[list[str], object]:
    """One step in which `outcome(row id)` is what becomes of each prompt; ids drawn, and the batch."""
    drawn: list[str] = []
    while sampler.wanted:
        rows = sampler.next_rows()
        drawn += [row["id"] for row in rows]
        sampler.accept([outcome(row["id"]) for row in rows])
    return drawn, sampler.finish()


def test_outcomes_of_groups():
    assert outcome_of([1.0, 0.0]) == "signal"
    assert outcome_of([1.0, 1.0]) == "solved"
    assert outcome_of([0.4, 0.4]) == "zero_signal"
    assert outcome_of([1.0, None]) == "zero_signal"
    assert outcome_of([None, None]) == "zero_signal"


def test_without_dynamic_sampling_a_step_draws_once():
    drawn, batch = run_step(PromptSampler(ROWS, 8), lambda _: "zero_signal")
    assert len(drawn) == 8 and batch.kept == () and batch.rounds == 1 and batch.zero_signal == 8


def test_draws_until_the_batch_is_full_of_groups_with_signal():
    sampler = PromptSampler(ROWS, 8, dynamic=True)
    drawn, batch = run_step(sampler, lambda i: "signal" if int(i[1:]) % 2 else "zero_signal")
    assert len(batch.kept) == 8
    assert all(int(drawn[k][1:]) % 2 for k in batch.kept)
    assert len(set(drawn)) == len(drawn) == batch.drawn
    assert batch.surplus + len(batch.kept) + batch.zero_signal == batch.drawn


def test_the_batch_takes_groups_in_the_order_drawn():
    drawn, batch = run_step(
        PromptSampler(ROWS, 6, dynamic=True), lambda i: "zero_signal" if int(i[1:]) < 15 else "signal"
    )
    with_signal = [k for k, i in enumerate(drawn) if int(i[1:]) >= 15]
    assert list(batch.kept) == with_signal[:6]


def test_resampling_is_bounded():
    sampler = PromptSampler(ROWS, 4, dynamic=True, max_resampling=2)
    drawn, batch = run_step(sampler, lambda _: "zero_signal")
    assert batch.rounds == 3 and len(drawn) == 12 and batch.kept == ()


def test_rounds_are_multiples_of_the_number_of_processes():
    sampler = PromptSampler(ROWS, 8, dynamic=True, multiple_of=4)
    sizes = []
    while sampler.wanted:
        rows = sampler.next_rows()
        sizes.append(len(rows))
        sampler.accept(["signal"] * (len(rows) - 1) + ["zero_signal"])
    assert sizes[0] == 8 and all(size % 4 == 0 for size in sizes) and len(sizes) > 1


def test_nothing_is_carried_over_to_the_next_step():
    sampler = PromptSampler(ROWS, 4, dynamic=True)
    run_step(sampler, lambda i: "signal" if int(i[1:]) % 3 else "zero_signal")
    assert sampler.wanted == 4
    drawn, batch = run_step(sampler, lambda _: "signal")
    assert batch.drawn == len(drawn) == 4 and batch.kept == (0, 1, 2, 3)


def test_solved_prompts_come_back_about_alpha_of_the_time_and_leave_when_failed():
    sampler = PromptSampler(ROWS, 5, alpha=0.2, seed=3)
    easy = {f"r{i}" for i in range(20)}
    for _ in range(20):  # more than one pass: every easy prompt is met
        run_step(sampler, lambda i: "solved" if i in easy else "signal")
    assert set(sampler.easy) == easy
    drawn = [
        i for _ in range(200) for i in run_step(sampler, lambda i: "solved" if i in easy else "signal")[0]
    ]
    share = sum(i in easy for i in drawn) / len(drawn)
    assert 0.15 < share < 0.25
    while "r0" in sampler.easy:
        run_step(sampler, lambda i: "zero_signal" if i == "r0" else "solved" if i in easy else "signal")
    assert "r0" not in sampler.easy


def test_when_everything_is_solved_prompts_are_still_drawn():
    sampler = PromptSampler(ROWS[:4], 4, alpha=0.1)
    for _ in range(3):
        drawn, _ = run_step(sampler, lambda _: "solved")
        assert len(drawn) == 4
    assert len(sampler.easy) == 4


def test_a_resumed_sampler_draws_what_the_unbroken_one_draws():
    def outcome(i):
        return "solved" if int(i[1:]) % 4 == 0 else "signal" if int(i[1:]) % 3 else "zero_signal"

    unbroken = PromptSampler(ROWS, 4, dynamic=True, alpha=0.3, seed=5)
    for _ in range(12):
        run_step(unbroken, outcome)
    resumed = PromptSampler(ROWS, 4, dynamic=True, alpha=0.3, seed=5)
    resumed.load_state_dict(json.loads(json.dumps(unbroken.state_dict())))
    assert resumed.easy == unbroken.easy
    for _ in range(10):
        assert run_step(resumed, outcome) == run_step(unbroken, outcome)


def test_misuse_is_an_error():
    sampler = PromptSampler(ROWS, 4)
    sampler.next_rows()
    with pytest.raises(RuntimeError, match="no outcome yet"):
        sampler.next_rows()
    with pytest.raises(ValueError, match="expected 4 outcomes"):
        sampler.accept(["signal"])
    with pytest.raises(RuntimeError, match="between steps"):
        sampler.state_dict()
