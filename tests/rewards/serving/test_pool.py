"""Whatever a plugin does (raise, hang, die, return nonsense) costs its own rollout alone, and is said."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from core.metrics import values
from rewards.config import RewardsConfig
from rewards.errors import PluginError, RewardDataError, RewardFailure
from rewards.router import Router

FUNCTIONS = f"{Path(__file__).parents[1] / 'plugin_functions.py'}:"


def config(name: str, *, function: dict[str, Any] | None = None, **more: Any) -> RewardsConfig:
    defaults = {"grammar": "none", "max_failure_rate": 1.0, "timeout_s": 3.0}
    tasks = {"math": [{"function": FUNCTIONS + name, **(function or {})}]}
    return RewardsConfig.model_validate({**defaults, "tasks": tasks, **more})


def rows(count: int) -> list[dict[str, Any]]:
    return [{"id": f"r{i}", "task": "math", "prompt": [], "answer": {"value": i}} for i in range(count)]


@pytest.fixture(scope="module")
def router() -> Any:
    with Router(config("misbehaves")) as router:
        yield router


BAD = {
    "raise": "exception: RuntimeError: the judge is out",
    "exit": "exception: SystemExit: 3",
    "die": "crash: the worker process ended with status 7",
    "segfault": "crash: the worker process was killed by SIGSEGV",
    "sleep": "timeout",
    "regex": "timeout",
    "child": "timeout",
    "nan": "nan: expected a number or None, got NaN",
    "inf": "range: expected a value in [0, 1], got float inf",
    "two": "range: expected a value in [0, 1], got float 2.0",
    "minus": "range: expected a value in [0, 1], got float -0.5",
    "text": "type: expected a number or None, got str '1.0'",
    "list": "type: expected a number or None, got list [1.0]",
    "error": "exception: ValueError: returned, not raised",
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_rollout_gets_none_and_a_reason_and_costs_no_other(
    router: Router, what: str, caplog: Any
) -> None:
    router.pop_metrics()
    texts = ["good", "true", what, "numpy", "print", "good"]
    scores = router.score(rows(6), texts)
    assert [score.reward for score in scores] == [1.0, 1.0, None, 0.25, 1.0, 1.0]
    assert str(scores[2].reason).startswith(f"misbehaves: {BAD[what]}")
    assert f"reward 'misbehaves', row 'r2': {BAD[what].split(':')[0]}" in caplog.text
    assert values(router.pop_metrics()) == {f"failures/misbehaves/{BAD[what].split(':')[0]}": 1.0}


@pytest.mark.parametrize("what", ["raise", "die", "sleep"])
def test_one_bad_rollout_does_not_cost_its_batch(what: str) -> None:
    with Router(config("misbehaves_in_batch")) as router:
        scores = router.score(rows(5), ["good", "good", what, "numpy", "good"])
    assert [score.reward for score in scores] == [1.0, 1.0, None, 0.25, 1.0]


def test_a_batch_function_that_always_hangs_takes_a_few_limits_and_not_one_per_rollout() -> None:
    with Router(config("misbehaves_in_batch", timeout_s=0.2)) as router:
        scores = router.score(rows(200), ["sleep"] * 200)
    assert len(scores) == 200
    assert {score.reward for score in scores} == {None}
    assert all("timeout" in str(score.reason) for score in scores)


@pytest.mark.parametrize("what", ["raise", "sleep", "regex"])
def test_one_bad_rollout_of_an_async_function_costs_no_other(what: str) -> None:
    with Router(config("misbehaves_async")) as router:
        scores = router.score(rows(4), ["good", what, "numpy", "good"])
    assert [score.reward for score in scores] == [1.0, None, 0.25, 1.0]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("wrong_length", "length: expected 3 values, got 4"),
        ("not_a_list", "type: expected a list of 3 values, got float"),
    ],
)
def test_wrong_lengths_and_types_of_a_batch_fail_all_of_it(name: str, reason: str) -> None:
    with Router(config(name)) as router:
        scores = router.score(rows(3), ["a", "b", "c"])
    assert all(score.reward is None and reason in str(score.reason) for score in scores)


def test_several_hanging_rollouts_are_each_found() -> None:
    texts = ["sleep" if i in (3, 4, 17) else "good" for i in range(40)]
    with Router(config("misbehaves", timeout_s=1.0)) as router:
        scores = router.score(rows(40), texts)
    assert [i for i, score in enumerate(scores) if score.reward is None] == [3, 4, 17]


def test_a_hanging_function_does_not_delay_another_one() -> None:
    functions = [{"function": FUNCTIONS + "misbehaves"}, {"function": FUNCTIONS + "says_answer", "weight": 0}]
    both = RewardsConfig.model_validate(
        {
            "grammar": "none",
            "tasks": {"hang": functions[:1], "math": FUNCTIONS + "says_answer"},
            "timeout_s": 30,
        }
    )
    before = {child.pid for child in psutil.Process().children()}
    with Router(both) as router:
        stuck = threading.Thread(target=lambda: router.score([rows(1)[0] | {"task": "hang"}], ["sleep"]))
        stuck.start()
        scores = router.score(rows(20), [str(i) for i in range(20)])
        assert stuck.is_alive()
        for child in psutil.Process().children():
            if child.pid not in before and child.pid not in workers_of(router):
                os.killpg(child.pid, signal.SIGKILL)  # the hung one gives up its thread
        stuck.join()
    assert [score.reward for score in scores] == [1.0] * 20


def test_a_worker_killed_from_outside_is_replaced() -> None:
    with Router(config("says_answer", workers=1)) as router:
        assert router.score(rows(1), ["0"])[0].reward == 1.0
        (worker,) = workers_of(router)
        os.kill(worker, signal.SIGKILL)
        router._pool._idle[0].child.process.wait()
        assert router.score(rows(1), ["0"])[0].reward == 1.0


def test_failing_for_more_than_the_set_share_stops_the_run_with_the_last_traceback() -> None:
    with Router(config("misbehaves", max_failure_rate=0.25, failure_min=8)) as router:
        router.score(rows(8), ["good"] * 6 + ["raise"] * 2)
        with pytest.raises(RewardFailure) as error:
            router.score(rows(8), ["good"] * 5 + ["raise"] * 3)
    assert "reward 'misbehaves' of task 'math' failed for 5 of its last 16 rollouts" in str(error.value)
    assert "row 'r7': exception: RuntimeError: the judge is out" in str(error.value)
    assert 'raise RuntimeError("the judge is out")' in str(error.value)


def test_a_hang_that_stops_the_run_shows_where_it_hangs() -> None:
    says = pytest.raises(RewardFailure, match=r"plugin_functions.py\", line \d+ in _do")
    with Router(config("misbehaves", max_failure_rate=0, failure_min=1)) as router, says:
        router.score(rows(1), ["regex"])


def test_few_failures_at_the_start_do_not_stop_a_run() -> None:
    with Router(config("misbehaves", max_failure_rate=0.1, failure_min=16)) as router:
        assert router.score(rows(2), ["raise", "raise"])[0].reward is None


def test_old_failures_are_forgotten() -> None:
    with Router(config("misbehaves", max_failure_rate=0.5, failure_min=8, failure_window=8)) as router:
        for _ in range(3):
            router.score(rows(8), ["raise"] * 4 + ["good"] * 4)


def test_workers_do_not_import_torch_and_end_with_the_router() -> None:
    with Router(config("has_torch")) as router:
        assert router.score(rows(1), [""])[0].reward == 0.0
        workers = workers_of(router)
        assert workers
    assert not [pid for pid in workers if psutil.pid_exists(pid)]


def test_nothing_is_left_of_a_hung_worker_and_its_children() -> None:
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    with Router(config("misbehaves", workers=1)) as router:
        router.score(rows(1), ["child"])
    assert {child.pid for child in psutil.Process().children(recursive=True)} <= before


def test_a_row_that_cannot_travel_to_a_worker_is_an_error_that_says_what_to_do() -> None:
    row = rows(1)[0] | {"judge": threading.Lock()}
    with Router(config("says_answer")) as router:
        with pytest.raises(RewardDataError, match=r"type lock cannot be sent.*isolate: false"):
            router.score([row], ["0"])
        assert router.score(rows(1), ["0"])[0].reward == 1.0
    with Router(config("async_says_answer")) as router:  # names what it needs, so the rest stays here
        assert router.score([row], ["0"])[0].reward == 1.0


def test_idle_workers_end_when_their_parent_is_killed() -> None:
    script = (
        "import sys, os\nfrom rewards.router import Router\nfrom rewards.config import RewardsConfig\n"
        f"c = {{'grammar': 'none', 'tasks': {{'math': {FUNCTIONS + 'says_answer'!r}}}}}\n"
        "router = Router(RewardsConfig.model_validate(c))\n"
        "print(router._pool._idle[0].child.process.pid, flush=True)\nos.kill(os.getpid(), 9)\n"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    worker = int(found.stdout)
    for _ in range(400):
        if not psutil.pid_exists(worker) or psutil.Process(worker).status() == psutil.STATUS_ZOMBIE:
            return
        time.sleep(0.05)
    pytest.fail(f"worker {worker} outlived its parent")


def test_a_router_works_in_a_forked_child() -> None:
    script = (
        "import os\nfrom rewards.router import Router\nfrom rewards.config import RewardsConfig\n"
        f"c = {{'grammar': 'none', 'tasks': {{'math': {FUNCTIONS + 'says_answer'!r}}}}}\n"
        "row = {'id': 'r', 'task': 'math', 'answer': {'value': 5}}\n"
        "router = Router(RewardsConfig.model_validate(c))\n"
        "child = os.fork()\n"
        "reward = router.score([row], ['5'])[0].reward\nrouter.close()\n"
        "if child == 0:\n    os._exit(int(reward))\n"
        "print(reward, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert found.stdout.split() == ["1.0", "1"], found.stderr


def test_a_plugin_that_hangs_or_dies_when_imported_is_an_error_at_start(tmp_path: Path) -> None:
    hangs, dies = tmp_path / "hangs.py", tmp_path / "dies.py"
    hangs.write_text("import time\ntime.sleep(100)\n")
    dies.write_text("import os\nos._exit(4)\n")
    for file, limit, says in ((hangs, 1.5, "took longer than 1.5 s"), (dies, 60, "ended with status 4")):
        tasks = {"grammar": "none", "tasks": {"math": f"{file}:f"}, "start_timeout_s": limit}
        with pytest.raises(PluginError, match=says):
            Router(RewardsConfig.model_validate(tasks))


def workers_of(router: Router) -> list[int]:
    """Process ids of a router's idle workers."""
    return [worker.child.process.pid for worker in router._pool._idle]
