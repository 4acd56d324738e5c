"""The pool of math workers: limits, recycling, threads, forked and spawned parents."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rewards.config import RewardsConfig
from rewards.functions.math_answer import math_reward, use_pool
from rewards.router import Router
from rewards.serving import math_pool, math_worker
from rewards.serving.math_pool import Judged, MathPool

HUNG = ["$\\int_0^1 \\frac{x^{73}+\\sin(x^{21})+e^{x^2}}{\\ln(x^5+2)+\\tan(x)} dx$"]
"""Parsing and comparing this keeps sympy busy for minutes."""


@pytest.fixture
def pool() -> Iterator[MathPool]:
    with MathPool(workers=2, seconds=30.0) as made:
        yield made


def ask(pool: MathPool, gold: str, predicted: str) -> bool:
    return pool.judge([gold], [predicted]).equal


def test_equal_answers_are_equal_and_the_truth_comes_first(pool: MathPool) -> None:
    assert ask(pool, r"$\frac{1}{2}$", r"\boxed{0.5}")
    assert not ask(pool, r"$\frac{1}{2}$", r"\boxed{0.25}")
    assert ask(pool, "$1$", "$2x + z = 1$")
    assert not ask(pool, "$2x + z = 1$", "$1$")


def bomb(number: int) -> list[str]:
    return [f"$\\int_0^1 \\frac{{x^{{{number}}}+\\sin(x^{{21}})+e^{{x^2}}}}{{\\ln(x^5+2)+\\tan(x)}} dx$"]


def test_an_expensive_item_ends_at_its_limit_of_processor_time_and_delays_no_other_by_more() -> None:
    with MathPool(workers=1, seconds=1.5) as pool:
        assert ask(pool, "$1$", "$1$")  # the worker is up
        first = pool._idle[0].child.process.pid
        before = os.times()
        assert pool.judge(HUNG, bomb(72)).outcome == "too_expensive"
        after = os.times()
        used = after.children_user + after.children_system - before.children_user - before.children_system
        assert 1.0 < used < 8.0  # of the worker that was ended, with its start
        assert ask(pool, "$2$", "$2$")
        assert pool._idle[0].child.process.pid != first
        assert pool.stats.too_expensive == 1 and pool.stats.items == 3
        assert pool.stats.started == 2  # the spare was started while the item hung, and took over


def test_a_worker_that_gets_no_processor_is_waited_for() -> None:
    with MathPool(workers=1, seconds=0.5) as pool:
        assert ask(pool, "$2$", "$2$")
        process = pool._idle[0].child.process
        os.kill(process.pid, 19)  # as on a machine that is busy with other things, for several limits
        threading.Timer(2.0, lambda: os.kill(process.pid, 18)).start()
        assert ask(pool, "$3$", "$3$")


def test_an_expensive_item_is_remembered() -> None:
    with MathPool(workers=1, seconds=0.5) as pool:
        assert pool.judge(HUNG, bomb(72)).outcome == "too_expensive"
        started = pool.stats.started
        assert [j.outcome for j in pool.judge_many([(HUNG, bomb(72))] * 20)] == ["too_expensive"] * 20
        assert pool.stats.started == started and pool.stats.too_expensive == 21


def test_many_expensive_items_of_one_call_cost_a_few_limits_and_no_honest_one_its_verdict() -> None:
    with MathPool(workers=1, seconds=2.0) as pool:
        found = pool.judge_many([*((HUNG, bomb(n)) for n in range(30, 38)), (["$1$"], ["$1$"])])
    assert [judged.outcome for judged in found] == ["too_expensive"] * 4 + ["over_budget"] * 4 + ["ok"]
    assert found[-1].equal


def test_memory_beyond_the_limit_is_too_expensive() -> None:
    reply = math_worker.answer_safely({"gold": _Explodes(), "predicted": ["1"]})
    assert reply["too_expensive"] and not reply["equal"]


class _Explodes(list):
    """Stands for a text whose parsing needs more memory than there is: sympy's own bombs take minutes to get there."""

    def __iter__(self):
        raise MemoryError


def test_time_spent_starting_a_worker_is_not_charged_to_the_item() -> None:
    with MathPool(workers=1, seconds=0.9) as pool:
        assert [ask(pool, "$2$", "$2$") for _ in range(3)] == [True] * 3


def test_a_worker_is_replaced_after_its_share_of_items() -> None:
    with MathPool(workers=1, seconds=30.0, recycle_after=2) as pool:
        assert all(ask(pool, "$2$", "$2$") for _ in range(5))
        assert pool.stats.recycled == 2 and pool.stats.started == 3


def test_a_worker_that_dies_is_counted_as_a_crash_and_replaced(pool: MathPool) -> None:
    assert ask(pool, "$2$", "$2$")
    pool._idle[0].child.process.kill()
    pool._idle[0].child.process.wait()
    assert ask(pool, "$2$", "$2$")  # found dead before use: nothing lost

    assert ask(pool, "$2$", "$2$")
    worker = pool._idle[0]
    os.kill(worker.child.process.pid, 19)  # stopped: it will not answer …
    threading.Timer(0.3, worker.child.process.kill).start()  # … and dies while it is asked
    judged = pool.judge(["$2$"], ["$2$"])
    assert judged.outcome == "crash" and pool.stats.crashes == 1
    assert ask(pool, "$2$", "$2$")


def test_many_threads_share_the_workers(pool: MathPool) -> None:
    answers = pool.judge_many([([f"${i}$"], [f"${i + i % 2}$"]) for i in range(40)])
    assert [judged.equal for judged in answers] == [i % 2 == 0 for i in range(40)]
    assert pool.stats.started <= 2 and pool.stats.items == 40


def test_an_interrupted_wait_neither_blocks_the_pool_nor_mixes_up_answers() -> None:
    with MathPool(workers=1, seconds=30.0) as pool:
        assert ask(pool, "$2$", "$2$")
        worker = pool._idle[0]
        worker.child.answer = lambda deadline: (_ for _ in ()).throw(KeyboardInterrupt())  # type: ignore[method-assign]
        with pytest.raises(KeyboardInterrupt):
            ask(pool, "$3$", "$3$")
        assert worker.child.process.poll() is not None
        assert not ask(pool, "$3$", "$4$")


def test_a_closed_pool_leaves_no_process_and_works_again_when_used(pool: MathPool) -> None:
    assert ask(pool, "$2$", "$2$")
    process = pool._idle[0].child.process
    pool.close()
    assert process.poll() is not None
    assert ask(pool, "$2$", "$2$")


def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    code = (
        "from rewards.serving.math_pool import MathPool; import time\n"
        "pool = MathPool(workers=1); pool.judge(['$2$'], ['$2$'])\n"
        "print(pool._idle[0].child.process.pid, flush=True); time.sleep(600)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3]
    )
    assert parent.stdout is not None
    worker = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert any(not _alive(worker) or time.sleep(0.1) for _ in range(300))


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


def _in_child(queue: multiprocessing.Queue[list[float]]) -> None:
    scores = [math_reward(rf"\boxed{{\frac{{{i}}}{{2}}}}", {"value": "$\\frac{6}{4}$"}) for i in range(2, 5)]
    queue.put(scores)


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_math_works_in_forked_and_spawned_children_of_a_parent_that_uses_it(method: str) -> None:
    assert math_reward(r"\boxed{\frac{3}{2}}", {"value": "$\\frac{6}{4}$"}) == 1.0
    context = multiprocessing.get_context(method)
    queue: multiprocessing.Queue[list[float]] = context.Queue()  # type: ignore[assignment]
    child = context.Process(target=_in_child, args=(queue,))
    child.start()
    assert queue.get(timeout=120) == [0.0, 1.0, 0.0]
    child.join(60)
    assert child.exitcode == 0
    assert (
        math_reward(r"\boxed{\frac{3}{2}}", {"value": "$\\frac{6}{4}$"}) == 1.0
    )  # the parent's workers are untouched


def test_a_worker_that_cannot_start_is_an_error_not_a_score(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "broken_worker.py").write_text("def main(*_):\n    raise SystemExit(3)\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(math_pool, "WORKER", "broken_worker")
    with MathPool(workers=1) as pool, pytest.raises(math_pool.WorkerStartError, match="ended with status 3"):
        pool.judge(["$1$"], ["$1$"])


def test_workers_do_not_import_torch() -> None:
    code = "import sys, rewards.serving.math_worker, math_verify; print([m for m in sys.modules if m in ('torch', 'transformers', 'numpy')])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("outcome", "reward", "reason", "counted"),
    [
        ("ok", 1.0, None, {}),
        ("too_expensive", 0.0, "math: too_expensive", {"reasons/math/too_expensive": 1.0}),
        ("over_budget", None, "math: timeout: the answer was not judged", {"failures/math/timeout": 1.0}),
        ("timeout", None, "math: timeout: the answer was not judged", {"failures/math/timeout": 1.0}),
        ("crash", None, "math: crash: the process that judged the answer died", {"failures/math/crash": 1.0}),
    ],
)
def test_what_is_not_judged_is_none_and_what_is_too_expensive_is_zero_with_a_counted_reason(
    outcome: str, reward: float | None, reason: str | None, counted: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged = Judged(outcome == "ok", True, True, outcome)  # type: ignore[arg-type]
    config = RewardsConfig.model_validate(
        {"grammar": "none", "tasks": {"math": "math"}, "max_failure_rate": 1.0}
    )
    with Router(config) as router:
        monkeypatch.setattr(MathPool, "judge_many", lambda self, items: [judged for _ in items])
        row = {"id": "r", "task": "math", "prompt": [], "answer": {"value": "$\\sin(2x)$"}}
        (score,) = router.score([row], [r"\boxed{2 \sin(x) \cos(x)}"])
        metrics = router.pop_metrics()
    assert score.reward == reward
    assert (score.reason is None) == (reason is None) and (reason or "") in (score.reason or "")
    assert {name: metric.sum for name, metric in metrics.items()} == counted


def test_an_expensive_answer_through_the_router() -> None:
    config = RewardsConfig.model_validate({"grammar": "none", "tasks": {"math": "math"}})
    row = {"id": "r", "task": "math", "prompt": [], "answer": {"value": HUNG[0]}}
    use_pool(MathPool(workers=1, seconds=1.0))
    with Router(config) as router:
        (score,) = router.score([row], [rf"\boxed{{{bomb(72)[0].strip('$')}}}"])
    use_pool(MathPool())
    assert (score.reward, score.reason) == (0.0, "math: too_expensive")
