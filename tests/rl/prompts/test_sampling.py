"""Dynamic sampling and the easy pool: bookkeeping only, no engine."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from core.rows import RowError
from rl.prompts.sampling import PromptSampler, result_of
from rl.prompts.stream import PromptStream

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
    assert result_of([1.0, 0.0]) == "signal"
    assert result_of([1.0, 1.0]) == "solved"
    assert result_of([0.4, 0.4]) == "zero_signal"
    assert result_of([1.0, None]) == "zero_signal"
    assert result_of([None, None]) == "zero_signal"


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


@pytest.mark.parametrize("batch_size", [1, 7, 16, 39, 40, 64])
def test_every_pass_gives_every_row_once_whatever_the_batch(batch_size):
    sampler = PromptSampler(ROWS, batch_size, alpha=0.0, seed=2)
    drawn: list[str] = []
    while len(drawn) < 40 * 40:
        step, _ = run_step(sampler, lambda _: "signal")
        assert len(set(step)) == min(batch_size, len(ROWS))  # none twice while there are others
        drawn += step
    counts = Counter(drawn).values()
    # prompts of the last pass, and postponed ones
    assert max(counts) - min(counts) <= 1 + batch_size // len(ROWS)
    assert len({tuple(drawn[40 * k : 40 * k + 40]) for k in range(40)}) == 40  # another order in each


def test_passes_leave_solved_rows_out_and_take_failed_ones_in_again():
    sampler = PromptSampler(ROWS, 10, alpha=0.0001, seed=1)
    easy = {f"r{i}" for i in range(25)}
    for _ in range(4):
        run_step(sampler, lambda i: "solved" if i in easy else "signal")
    drawn = [i for _ in range(3) for i in run_step(sampler, lambda _: "signal")[0]]
    assert Counter(drawn).keys() == {f"r{i}" for i in range(25, 40)} and set(Counter(drawn).values()) == {2}


@pytest.mark.parametrize("solved", [40, 39])
def test_with_all_or_nearly_all_solved_no_draw_looks_through_the_rows(monkeypatch, solved):
    sampler = PromptSampler(ROWS, 4, alpha=0.1, seed=4)

    def outcome(i):
        return "solved" if int(i[1:]) < solved else "signal"

    while len(sampler.easy) < solved:
        run_step(sampler, outcome)
    passes = []
    begin = PromptStream._begin
    monkeypatch.setattr(PromptStream, "_begin", lambda self, n: (passes.append(n), begin(self, n)))
    steps = [run_step(sampler, outcome)[0] for _ in range(50)]
    assert len(passes) <= (50 if solved < 40 else 0)  # at most one a step
    assert all(len(set(step)) == 4 for step in steps)
    assert all(("r39" in step) for step in steps) or solved == 40  # what is unsolved comes first


def test_unusable_rows_are_replaced_and_never_drawn_again():
    sampler = PromptSampler(ROWS, 8, dynamic=True, alpha=0.2, seed=6)
    bad = {"r3", "r4", "r30"}
    drawn: list[str] = []
    for _ in range(30):
        while sampler.wanted:
            rows = sampler.next_rows()
            while found := bad & {row["id"] for row in rows}:
                before = [row["id"] for row in rows]
                rows = sampler.replace(found)
                assert [a for a in before if a not in bad] == [
                    row["id"] for row, a in zip(rows, before, strict=True) if a not in bad
                ]
            drawn += [row["id"] for row in rows]
            sampler.accept(["solved" if row["id"] == "r5" else "signal" for row in rows])
        sampler.finish()
    assert set(sampler.left_out) == bad and not bad & set(drawn) and len(set(drawn)) == 37
    resumed = PromptSampler(ROWS, 8, dynamic=True, alpha=0.2, seed=6)
    resumed.load_state_dict(json.loads(json.dumps(sampler.state_dict())))
    assert resumed.left_out == sampler.left_out
    assert [r["id"] for r in resumed.next_rows()] == [r["id"] for r in sampler.next_rows()]


def test_with_no_usable_row_left_the_run_stops():
    sampler = PromptSampler(ROWS[:2], 2)
    sampler.next_rows()
    with pytest.raises(ValueError, match="every row has turned out to be unusable"):
        sampler.replace({"r0", "r1"})


def test_the_state_of_other_rows_is_refused():
    state = PromptSampler(ROWS, 4).state_dict()
    with pytest.raises(ValueError, match="state is of 40 rows, expected 39"):
        PromptSampler(ROWS[:39], 4).load_state_dict(state)


def test_misuse_is_an_error():
    sampler = PromptSampler(ROWS, 4)
    sampler.next_rows()
    with pytest.raises(RuntimeError, match="no result yet"):
        sampler.next_rows()
    with pytest.raises(ValueError, match="expected 4 results"):
        sampler.accept(["signal"])
    with pytest.raises(RuntimeError, match="between steps"):
        sampler.state_dict()


MIXED = [
    {"id": f"{task}{i}", "task": task}
    for task, n in (("math", 24), ("box", 12), ("chat", 4))
    for i in range(n)
]


def task_steps(**options) -> PromptSampler:
    return PromptSampler(MIXED, 4, one_task=True, **options)


def test_task_steps_have_one_task_each_in_proportion_to_its_rows():
    sampler = task_steps(alpha=0.0)
    tasks, seen = Counter(), Counter()
    for _ in range(300):
        drawn, _ = run_step(sampler, lambda _: "zero_signal")
        (task,) = {name.rstrip("0123456789") for name in drawn}
        assert len(set(drawn)) == 4
        tasks[task] += 1
        seen.update(drawn)
    assert tasks["math"] / 300 == pytest.approx(0.6, abs=0.1)
    assert tasks["chat"] / 300 == pytest.approx(0.1, abs=0.06)
    for task in tasks:  # a pass gives every row once
        counts = [seen[row["id"]] for row in MIXED if row["task"] == task]
        assert max(counts) - min(counts) <= 1


def test_task_steps_stay_with_their_task_through_all_rounds_and_the_easy_pool():
    sampler = task_steps(dynamic=True, alpha=0.5)
    for step in range(40):
        solved = "1" if step < 10 else "none"
        drawn, _ = run_step(sampler, lambda i, end=solved: "solved" if i.endswith(end) else "signal")
        assert len({name.rstrip("0123456789") for name in drawn}) == 1


def test_task_steps_are_resumed_exactly():
    whole, first = task_steps(alpha=0.3), task_steps(alpha=0.3)
    for sampler in (whole, first):
        for _ in range(7):
            run_step(sampler, lambda i: "solved" if i.endswith("3") else "signal")
    resumed = task_steps(alpha=0.3)
    resumed.load_state_dict(json.loads(json.dumps(first.state_dict())))
    steps = [[run_step(s, lambda _: "signal")[0] for _ in range(12)] for s in (whole, resumed)]
    assert steps[0] == steps[1]


def test_a_task_whose_rows_are_all_unusable_is_not_chosen():
    sampler = task_steps(alpha=0.0)
    sampler.leave_out([row["id"] for row in MIXED if row["task"] != "chat"])
    for _ in range(5):
        drawn, _ = run_step(sampler, lambda _: "signal")
        assert {name.rstrip("0123456789") for name in drawn} == {"chat"}
    sampler.next_rows()
    with pytest.raises(RowError, match="unusable"):
        sampler.replace([row["id"] for row in MIXED if row["task"] == "chat"])
