"""What one function does to its process touches no other function's rewards, and nothing it has started stays."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from rewards.config import RewardsConfig
from rewards.router import Router, Score
from tests.rewards.hostile_functions import RAISED, RETURNED

FILE = f"{Path(__file__).parents[1] / 'hostile_functions.py'}:"


def make_router(folder: Path, **more: Any) -> Router:
    hostile = {"function": f"{FILE}hostile", "folder": str(folder)}
    tasks = {"hostile": [hostile], "calm": [FILE + "says_half"]}
    values = {"grammar": "none", "max_failure_rate": 1.0, "timeout_s": 5.0, "tasks": tasks}
    return Router(RewardsConfig.model_validate(values | more))


def score(router: Router, texts: list[str], task: str = "hostile") -> list[Score]:
    rows = [{"id": f"r{i}", "task": task, "prompt": [], "answer": {}} for i in range(len(texts))]
    return router.score(rows, texts)


def runs(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


@pytest.fixture(scope="module")
def router(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Router]:
    with make_router(tmp_path_factory.mktemp("hostile"), workers=1) as router:
        yield router


def test_a_forked_copy_of_the_worker_answers_nothing(router: Router) -> None:
    for _ in range(3):
        assert [s.reward for s in score(router, ["good", "fork", "good", "fork", "good"])] == [0.5] * 5
        time.sleep(0.3)  # until the copies have returned from the function, too
        assert [s.reward for s in score(router, ["a"] * 5, "calm")] == [0.5] * 5


def test_bytes_that_a_function_writes_to_the_socket_are_no_answer(router: Router) -> None:
    scores = score(router, ["good", "bytes", "good", "good"])
    assert [s.reward for s in scores] == [0.5, None, 0.5, 0.5]
    assert "crash: the worker process sent bytes that answer no request" in str(scores[1].reason)


def test_answers_that_are_no_results_cost_their_own_rollout(router: Router) -> None:
    scores = score(router, ["good", "answers", "good", "good"])
    assert [s.reward for s in scores] == [0.5, None, 0.5, 0.5]
    assert "crash: the worker process sent an unexpected answer" in str(scores[1].reason)


def test_modules_that_a_function_patches_are_as_they_were_for_another(router: Router) -> None:
    score(router, ["patch"])
    assert [s.reward for s in score(router, ["a", "b"], "calm")] == [0.5, 0.5]


def test_a_changed_directory_is_changed_back_for_the_next_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PWD", str(Path.cwd()))
    with make_router(tmp_path, workers=1) as router:
        scores = score(router, ["cwd", "chdir", "cwd"])
    assert [s.extra.get("hostile/at_home") for s in scores] == [1.0, None, 1.0]


@pytest.mark.parametrize("how", ["closed", "killed", "died"])
def test_a_daemon_that_a_function_left_ends_with_its_worker(tmp_path: Path, how: str) -> None:
    texts = ["daemon", "sleep"] if how == "killed" else ["daemon"]
    with make_router(tmp_path, workers=1, timeout_s=3.0 if how == "killed" else 30.0) as router:
        assert score(router, texts)[0].reward == 0.5
        daemon = int((tmp_path / "daemon.pid").read_text())
        if how == "died":
            worker = router._pool._idle[-1]
            worker.child.process.kill()
            worker.child.process.wait()
            assert runs(daemon)
            assert score(router, ["good"])[0].reward == 0.5  # by another worker
        assert runs(daemon) == (how == "closed")
    assert not runs(daemon)


def test_an_import_inside_a_call_is_not_charged_to_it(tmp_path: Path) -> None:
    with make_router(tmp_path, workers=1, timeout_s=1.0) as router:
        assert score(router, ["import 3"])[0].reward == 0.5
        assert score(router, ["sleep"])[0].reward is None


@pytest.mark.parametrize("what", sorted(RETURNED))
def test_an_odd_result_costs_at_most_its_own_value(router: Router, what: str) -> None:
    router.pop_metrics()
    scores = score(router, ["good", what, "good"])
    assert [scores[0].reward, scores[2].reward] == [0.5, 0.5]
    odd_value = what in ("huge", "huger", "odd", "no-item")
    assert scores[1].reward == (None if odd_value else 0.5)
    assert not odd_value or any(kind in str(scores[1].reason) for kind in ("range:", "type:"))
    assert all(abs(metric.sum) < 1e9 for metric in router.pop_metrics().values())


@pytest.mark.parametrize("what", sorted(RAISED))
def test_whatever_is_raised_costs_its_own_value_alone(router: Router, what: str) -> None:
    scores = score(router, ["good", what, "good"])
    assert [s.reward for s in scores] == [0.5, None, 0.5]
    assert "exception: " in str(scores[1].reason)


def test_a_text_that_hung_is_not_tried_again(tmp_path: Path) -> None:
    with make_router(tmp_path, workers=1, timeout_s=2.0) as router:
        first = score(router, ["sleep", "good"])
        began = time.monotonic()
        again = score(router, ["sleep", "good"])
        assert time.monotonic() - began < 2.0  # a call would have taken its limit
    assert [s.reward for s in first] == [s.reward for s in again] == [None, 0.5]
    assert "the same text exceeded its limit before" in str(again[0].reason)


def test_many_texts_that_hang_in_one_call_cost_a_few_limits(tmp_path: Path) -> None:
    with make_router(tmp_path, workers=1, timeout_s=2.0) as router:
        began = time.monotonic()
        scores = score(router, [f"sleep {i}" for i in range(16)] + ["good"])
        seconds = time.monotonic() - began
    assert [s.reward for s in scores] == [None] * 16 + [0.5]
    assert seconds < 32.0  # 16 limits; starting workers counted in
