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
from typing import Any

import pytest

from rewards.config import RewardsConfig
from rewards.errors import PluginError
from rewards.functions.math_answer import math_reward
from rewards.mathematics import pool as pool_module
from rewards.mathematics import verify
from rewards.mathematics.pool import MathPool, use_pool
from rewards.router import Router
from rewards.serving import pool as serving_pool
from rewards.serving.items import Failure, Outcome
from rewards.serving.worker import Worker

HUNG = "$\\int_0^1 \\frac{x^{73}+\\sin(x^{21})+e^{x^2}}{\\ln(x^5+2)+\\tan(x)} dx$"
"""Parsing and comparing this keeps sympy busy for minutes."""


@pytest.fixture
def pool() -> Iterator[MathPool]:
    with MathPool(workers=2, seconds=30.0) as made:
        yield made


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Worker]:
    """The workers that pools start."""
    made: list[Worker] = []

    class Noted(Worker):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            made.append(self)

    monkeypatch.setattr(serving_pool, "Worker", Noted)
    return made


def ask(pool: MathPool, gold: str, predicted: str) -> bool:
    return pool.compare(gold, predicted).value == 1.0


def kind(outcome: Outcome) -> str:
    return outcome.failure.kind if outcome.failure else "ok"


def process(pool: MathPool) -> subprocess.Popen[bytes]:
    return pool.pool._idle[-1].child.process


def test_equal_answers_are_equal_and_the_truth_comes_first(pool: MathPool) -> None:
    assert ask(pool, r"$\frac{1}{2}$", r"\boxed{0.5}")
    assert not ask(pool, r"$\frac{1}{2}$", r"\boxed{0.25}")
    assert ask(pool, "$1$", "$2x + z = 1$")
    assert not ask(pool, "$2x + z = 1$", "$1$")


def bomb(number: int) -> str:
    return f"$\\int_0^1 \\frac{{x^{{{number}}}+\\sin(x^{{21}})+e^{{x^2}}}}{{\\ln(x^5+2)+\\tan(x)}} dx$"


def test_an_expensive_item_ends_at_its_limit_of_processor_time_and_delays_no_other_by_more(
    started: list[Worker],
) -> None:
    with MathPool(workers=1, seconds=1.5) as pool:
        assert ask(pool, "$1$", "$1$")  # the worker is up
        first = process(pool).pid
        before = os.times()
        assert kind(pool.compare(HUNG, bomb(72))) == "too_expensive"
        after = os.times()
        used = after.children_user + after.children_system - before.children_user - before.children_system
        assert 1.0 < used < 8.0  # of the worker that was ended, with its start
        assert ask(pool, "$2$", "$2$")
        assert process(pool).pid != first
        assert len(started) == 2  # the spare was started while the item hung, and took over


def test_a_worker_that_gets_no_processor_is_waited_for() -> None:
    with MathPool(workers=1, seconds=0.5) as pool:
        assert ask(pool, "$2$", "$2$")
        pid = process(pool).pid
        os.kill(pid, 19)  # as on a machine that is busy with other things, for several limits
        threading.Timer(2.0, lambda: os.kill(pid, 18)).start()
        assert ask(pool, "$3$", "$3$")


def test_an_expensive_item_is_remembered(started: list[Worker]) -> None:
    with MathPool(workers=1, seconds=0.5) as pool:
        assert kind(pool.compare(HUNG, bomb(72))) == "too_expensive"
        before = len(started)
        assert [kind(o) for o in pool.compare_many([(HUNG, bomb(72))] * 20)] == ["too_expensive"] * 20
        assert len(started) == before


def test_many_expensive_items_of_one_call_cost_a_few_limits_and_no_honest_one_its_result() -> None:
    with MathPool(workers=1, seconds=2.0) as pool:
        items = [(HUNG, bomb(n)) for n in range(30, 38)]
        found = pool.compare_many([*items, ("$1$", "$1$")])
        assert [kind(outcome) for outcome in found] == ["too_expensive"] * 4 + ["timeout"] * 4 + ["ok"]
        assert found[-1].value == 1.0
        assert kind(pool.compare(*items[3])) == "too_expensive"  # at once: it had its full limit
        assert len(pool.pool._hung) == 4  # the others had not, and will be tried again


def test_memory_beyond_the_limit_is_too_expensive(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands for a text whose parsing needs more memory than there is: sympy's own bombs take minutes to get there."""

    def explode(text: str) -> None:
        raise MemoryError

    explode.cache_clear = lambda: None  # type: ignore[attr-defined]
    monkeypatch.setattr(verify, "parsed", explode)
    found = verify.Verify.__call__(object.__new__(verify.Verify), "1", "1")
    assert isinstance(found, Failure) and found.kind == "too_expensive"


def test_what_needed_too_much_memory_is_remembered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "needy_verify.py").write_text(
        "import os\nfrom rewards.serving.items import Failure\n\n"
        "def verify(completion, answer):\n    return Failure('too_expensive', str(os.getpid()))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(pool_module, "FUNCTION", "needy_verify:verify")
    with MathPool(workers=1) as pool:
        first, again = pool.compare("$1$", "$2$"), pool.compare("$1$", "$2$")
    assert kind(first) == kind(again) == "too_expensive"
    assert again.failure and "exceeded its limit before" in again.failure.message


def test_time_spent_starting_a_worker_is_not_charged_to_the_item() -> None:
    with MathPool(workers=1, seconds=0.9) as pool:
        assert [ask(pool, "$2$", "$2$") for _ in range(3)] == [True] * 3


def test_a_worker_is_replaced_after_its_share_of_items(started: list[Worker]) -> None:
    with MathPool(workers=1, seconds=30.0, recycle_after=2) as pool:
        assert all(ask(pool, "$2$", "$2$") for _ in range(5))
        assert len(started) == 3


def test_a_worker_that_dies_is_a_crash_and_is_replaced(pool: MathPool) -> None:
    assert ask(pool, "$2$", "$2$")
    process(pool).kill()
    process(pool).wait()
    assert ask(pool, "$2$", "$2$")  # found dead before use: nothing lost

    stopped = process(pool)
    os.kill(stopped.pid, 19)  # stopped: it will not answer …
    threading.Timer(0.3, stopped.kill).start()  # … and dies while it is asked
    assert kind(pool.compare("$2$", "$2$")) == "crash"
    assert ask(pool, "$2$", "$2$")


def test_many_threads_share_the_workers(pool: MathPool, started: list[Worker]) -> None:
    answers = pool.compare_many([(f"${i}$", f"${i + i % 2}$") for i in range(40)])
    assert [outcome.value for outcome in answers] == [float(i % 2 == 0) for i in range(40)]
    assert len(started) <= 2


def test_an_interrupted_wait_neither_blocks_the_pool_nor_mixes_up_answers() -> None:
    with MathPool(workers=1, seconds=30.0) as pool:
        assert ask(pool, "$2$", "$2$")
        worker = pool.pool._idle[0]
        worker.child.answer = lambda deadline: (_ for _ in ()).throw(KeyboardInterrupt())  # type: ignore[method-assign]
        with pytest.raises(KeyboardInterrupt):
            ask(pool, "$3$", "$3$")
        assert worker.child.process.poll() is not None
        assert not ask(pool, "$3$", "$4$")


def test_a_closed_pool_leaves_no_process_and_works_again_when_used(pool: MathPool) -> None:
    assert ask(pool, "$2$", "$2$")
    worker = process(pool)
    pool.close()
    assert worker.poll() is not None
    assert ask(pool, "$2$", "$2$")


def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    code = (
        "from rewards.mathematics.pool import MathPool; import time\n"
        "pool = MathPool(workers=1); pool.compare('$2$', '$2$')\n"
        "print(pool.pool._idle[0].child.process.pid, flush=True); time.sleep(600)"
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
    # the parent's workers still run
    assert math_reward(r"\boxed{\frac{3}{2}}", {"value": "$\\frac{6}{4}$"}) == 1.0


@pytest.mark.parametrize(
    ("source", "says"),
    [("raise SystemExit(3)", "ended with status 3"), ("import no_such_package", "no_such_package")],
)
def test_a_worker_that_cannot_start_is_an_error_not_a_score(
    source: str, says: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "broken_verify.py").write_text(f"{source}\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(pool_module, "FUNCTION", "broken_verify:Verify")
    with MathPool(workers=1) as pool, pytest.raises(PluginError, match=says):
        pool.compare("$1$", "$1$")


def test_workers_do_not_import_torch() -> None:
    code = "import sys, rewards.serving.worker_main, rewards.mathematics.verify, math_verify; print([m for m in sys.modules if m in ('torch', 'transformers', 'numpy')])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("outcome", "reward", "reason", "counted"),
    [
        ("ok", 1.0, None, {}),
        ("too_expensive", 0.0, "math: too_expensive", {"reasons/math/too_expensive": 1.0}),
        ("timeout", None, "math: timeout: the answer was not compared", {"failures/math/timeout": 1.0}),
        ("crash", None, "math: crash: the answer was not compared", {"failures/math/crash": 1.0}),
    ],
)
def test_what_was_not_compared_is_none_and_what_is_too_expensive_is_zero_with_a_counted_reason(
    outcome: str, reward: float | None, reason: str | None, counted: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    failure = None if outcome == "ok" else Failure(outcome, "why")  # type: ignore[arg-type]
    found = Outcome(None if failure else 1.0, {}, failure)
    config = RewardsConfig.model_validate(
        {"grammar": "none", "tasks": {"math": "math"}, "max_failure_rate": 1.0}
    )
    with Router(config) as router:
        monkeypatch.setattr(MathPool, "compare_many", lambda self, pairs: [found for _ in pairs])
        row = {"id": "r", "task": "math", "prompt": [], "answer": {"value": "$\\sin(2x)$"}}
        (score,) = router.score([row], [r"\boxed{2 \sin(x) \cos(x)}"])
        metrics = router.pop_metrics()
    assert score.reward == reward
    assert (score.reason is None) == (reason is None) and (reason or "") in (score.reason or "")
    assert {name: metric.sum for name, metric in metrics.items()} == counted


def test_an_expensive_answer_through_the_router() -> None:
    config = RewardsConfig.model_validate({"grammar": "none", "tasks": {"math": "math"}})
    row = {"id": "r", "task": "math", "prompt": [], "answer": {"value": HUNG}}
    use_pool(MathPool(workers=1, seconds=1.0))
    with Router(config) as router:
        (score,) = router.score([row], [rf"\boxed{{{bomb(72).strip('$')}}}"])
    use_pool(MathPool())
    assert (score.reward, score.reason) == (0.0, "math: too_expensive")
