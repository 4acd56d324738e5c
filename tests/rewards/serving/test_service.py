"""The reward service as a real process: same scores as here, and nothing lost or wrong when it dies, hangs or restarts."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from core.metrics import values
from rewards.config import RewardsConfig
from rewards.errors import PluginError, RewardDataError, RewardFailure
from rewards.router import Router, Score
from rewards.serving.client import Remote
from rewards.serving.items import Item

FUNCTIONS = f"{Path(__file__).parents[1] / 'plugin_functions.py'}:"
SERVED = ("says_answer", "trl_says_answer", "misbehaves", "best_of_group", "columns_seen")


class Service:
    """A `python -m rewards serve` process that can be killed and started again on the same port."""

    def __init__(self, functions: tuple[str, ...], *more: str, **environment: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        names = [part for name in functions for part in ("--function", name)]
        self._command = [sys.executable, "-m", "rewards", "serve", "--port", str(port), *names, *more]
        self._environment = {**os.environ, **environment}
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            self._command, stdout=subprocess.PIPE, text=True, env=self._environment
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline().startswith("serving ")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        self.process.terminate()
        assert self.process.wait(30) in (0, -signal.SIGTERM)


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    service = Service((*(FUNCTIONS + name for name in SERVED), "giou"), "--timeout-s", "3")
    yield service
    service.stop()


def http(service: Service, name: str, **more: Any) -> dict[str, Any]:
    return {"function": "http", "url": service.url, "name": name, **more}


def router(*functions: dict[str, Any], **more: Any) -> Router:
    defaults = {"grammar": "none", "max_failure_rate": 1.0}
    return Router(RewardsConfig.model_validate({**defaults, "tasks": {"math": list(functions)}, **more}))


def rows(count: int) -> list[dict[str, Any]]:
    return [{"id": f"r{i}", "task": "math", "prompt": [], "answer": {"value": i}} for i in range(count)]


def test_scores_are_those_of_the_function_here(service: Service) -> None:
    texts = [str(i) if i % 3 else "no" for i in range(150)]
    with router(
        http(service, "says_answer", batch_size=16), http(service, "trl_says_answer", weight=0)
    ) as remote:
        found = remote.score(rows(150), texts)
    local = {"function": FUNCTIONS + "says_answer", "isolate": False}
    with router(local, {**local, "function": FUNCTIONS + "trl_says_answer", "weight": 0}) as here:
        assert found == here.score(rows(150), texts)


def test_answers_are_checked_over_there(service: Service) -> None:
    with router(http(service, "says_answer")) as remote:
        remote.check_rows(rows(3))
        with pytest.raises(
            RewardDataError, match="row 'bad': task 'math', reward 'says_answer': field 'answer.value'"
        ):
            remote.check_rows([*rows(3), {"id": "bad", "task": "math", "answer": {}}])


def test_failures_over_there_are_failures_here(service: Service) -> None:
    with router(http(service, "misbehaves")) as remote:
        scores = remote.score(rows(5), ["good", "raise", "nan", "die", "numpy"])
    assert [score.reward for score in scores] == [1.0, None, None, None, 0.25]
    assert [str(score.reason).split(": ")[1] for score in scores[1:4]] == ["exception", "nan", "crash"]


def test_whole_groups_stay_whole(service: Service) -> None:
    with router(http(service, "best_of_group", batch_size=1)) as remote:
        assert remote.needs_groups
        scores = remote.score(rows(4), ["aa", "b", "a", "bb"], group_ids=["1", "2", "1", "2"])
    assert [score.reward for score in scores] == [1.0, 0.0, 0.0, 1.0]


def test_columns_bytes_and_logged_values_travel(service: Service) -> None:
    with router(http(service, "columns_seen")) as remote:
        row = rows(1)[0] | {"images": [b"\x89PNG"], "level": 3}
        (score,) = remote.score([row], ["x"], completion_ids=[[1, 2]])
        assert values(remote.pop_metrics())["columns_seen/rows"] == 1.0
    assert score.extra["columns_seen/length"] == 2
    assert "images" in score.extra["columns_seen/columns"] and "level" in score.extra["columns_seen/columns"]


def test_an_unknown_function_is_an_error_at_the_start(service: Service) -> None:
    with pytest.raises(PluginError, match="has no function 'gioo'; did you mean 'giou'"):
        router(http(service, "gioo"))


def test_a_service_that_is_not_there_is_an_error_at_the_start() -> None:
    with pytest.raises(PluginError, match=r"no answer from http://127.0.0.1:9 for 0.3 s; last: ConnectError"):
        Remote("http://127.0.0.1:9", "giou", start_for_s=0.3)


@pytest.mark.parametrize(
    ("function", "says"),
    [
        ({"function": "http", "url": "http://127.0.0.1:9"}, "expected url and name, name missing"),
        ({"function": "http", "url": "u", "name": "n", "retries": 3}, "has no argument 'retries'"),
    ],
)
def test_a_broken_client_configuration_is_an_error_at_the_start(function: dict[str, Any], says: str) -> None:
    with pytest.raises(PluginError, match=says):
        router(function)


def test_health_names_the_functions(service: Service) -> None:
    answer = httpx.get(f"{service.url}/health").json()
    assert (answer["status"], answer["functions"]) == ("ok", [*SERVED, "giou"])
    remote = Remote(service.url, "giou")
    assert remote.healthy()
    remote.close()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"[" * 100_000, 400),
        (b"[]", 422),
        (b'{"function": "giou"}', 422),
        (b'{"function": "giou", "items": [5]}', 422),
        (b'{"function": "giou", "items": [{"key": "0", "text": 5, "row": {}}]}', 422),
        (b'{"function": "other", "items": []}', 404),
        (b'{"function": "giou", "items": [' + b"0," * 5000 + b"0]}", 413),
    ],
)
def test_broken_requests_are_refused_and_do_not_hurt(service: Service, body: bytes, status: int) -> None:
    assert httpx.post(f"{service.url}/score", content=body).status_code == status
    assert httpx.get(f"{service.url}/health").status_code == 200


DEEP = b'{"a":' * 900 + b"1" + b"}" * 900
ITEM = b'{"key": "0", "text": "1", "row": %s, "ids": null, "group": null}'


@pytest.mark.parametrize("path", ["score", "check"])
@pytest.mark.parametrize(
    "body",
    [
        b'{"function": [], "items": [], "rows": []}',
        b'{"function": {"a": 1}, "items": [], "rows": []}',
        b'{"function": null, "items": [], "rows": []}',
        b'{"function": "says_answer", "items": [' + ITEM % DEEP + b'], "rows": [' + DEEP + b"]}",
        b'{"function": "says_answer", "items": [{}], "rows": [[]]}',
        b'{"function": "says_answer", "items": [[[]]], "rows": ["a"]}',
        b'{"function": "says_answer", "items": "abc", "rows": "abc"}',
        b'{"function": "says_answer", "items": ['
        + ITEM % (b"9" * 5000)
        + b'], "rows": ['
        + b"9" * 5000
        + b"]}",
        b"\xff\xfe{}",
        b"",
        b"null",
    ],
)
def test_malformed_requests_are_refused_with_a_reason(service: Service, path: str, body: bytes) -> None:
    answer = httpx.post(f"{service.url}/{path}", content=body)
    assert answer.status_code in (400, 422), answer.text
    assert 0 < len(answer.json()["detail"]) <= 500


@pytest.mark.parametrize("name", ["says_answer", "trl_says_answer", "misbehaves", "columns_seen", "giou"])
def test_odd_but_well_formed_requests_cost_their_own_items_alone(service: Service, name: str) -> None:
    odd: list[Any] = [{}, {"id": 5}, {"id": [1], "answer": 3}, {"answer": None}, {"prompt": 5, "answer": []}]
    for row in odd:
        item = {"key": "0", "text": "good", "row": row}  # without ids and group
        answer = httpx.post(f"{service.url}/score", json={"function": name, "items": [item]})
        assert answer.status_code == 200, answer.text
        assert httpx.post(f"{service.url}/check", json={"function": name, "rows": [row]}).status_code == 200


def test_bodies_that_never_arrive_hold_no_place() -> None:
    service = Service((FUNCTIONS + "says_answer",), "--timeout-s", "3")
    port = int(service.url.rpartition(":")[2])
    half = b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{"
    slow = [socket.create_connection(("127.0.0.1", port)) for _ in range(100)]
    try:
        for connection in slow:
            connection.sendall(half)
        with router(http(service, "says_answer", retry_for_s=5)) as remote:
            assert [s.reward for s in remote.score(rows(3), ["0", "1", "2"])] == [1.0] * 3
    finally:
        for connection in slow:
            connection.close()
        service.stop()


def test_a_body_that_takes_too_long_is_refused(tmp_path: Path) -> None:
    config = tmp_path / "service.yaml"
    config.write_text(f"functions: ['{FUNCTIONS}says_answer']\nreceive_timeout_s: 0.5\n")
    service = Service((), "--config", str(config))
    try:
        with socket.create_connection(("127.0.0.1", int(service.url.rpartition(":")[2]))) as connection:
            connection.sendall(b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
            connection.settimeout(60)
            assert b" 408 " in connection.recv(1000)
    finally:
        service.stop()


def test_a_function_that_hangs_delays_no_other(service: Service) -> None:
    service = Service(
        (FUNCTIONS + "misbehaves", FUNCTIONS + "says_answer"), "--timeout-s", "60", "--workers", "1"
    )
    stuck = threading.Thread(target=_ask_in_vain, args=(service.url,), daemon=True)
    try:
        with router(http(service, "says_answer")) as remote:
            stuck.start()
            while stuck.is_alive() and httpx.get(f"{service.url}/health").json()["busy"] == 0:
                time.sleep(0.02)
            assert remote.score(rows(1), ["0"])[0].reward == 1.0
            assert stuck.is_alive()
    finally:
        service.kill()


def _ask_in_vain(url: str) -> None:
    item = {"key": "0", "text": "sleep", "row": {"answer": {}}}
    try:
        httpx.post(f"{url}/score", json={"function": "misbehaves", "items": [item]}, timeout=300)
    except httpx.HTTPError:  # the service is killed when the test has seen enough
        pass


def test_token_and_request_size(tmp_path: Path, monkeypatch: Any) -> None:
    config = tmp_path / "service.yaml"
    config.write_text(
        f"functions: ['{FUNCTIONS}says_answer']\nmax_request_mb: 0.01\ntoken_env: REWARD_TOKEN\n"
    )
    service = Service((), "--config", str(config), REWARD_TOKEN="secret")
    try:
        assert httpx.get(f"{service.url}/functions").status_code == 401
        with pytest.raises(PluginError, match="401"):
            Remote(service.url, "says_answer")
        monkeypatch.setenv("MY_TOKEN", "secret")
        remote = Remote(service.url, "says_answer", token_env="MY_TOKEN")
        long = [Item(str(i) + " " * 3000, row) for i, row in enumerate(rows(8))]
        outcomes, _ = remote.score(long)  # too large for one request, so sent in halves
        assert [outcome.value for outcome in outcomes] == [1.0] * 8
        ((outcome,), _) = remote.score([Item("x" * 20_000, rows(1)[0])])
        assert outcome.failure is not None and outcome.failure.message.startswith("413")
        remote.close()
    finally:
        service.stop()


def test_nothing_is_lost_or_wrong_when_the_service_dies_hangs_and_restarts_under_load() -> None:
    service = Service((FUNCTIONS + "says_answer",))
    wrong: list[Any] = []
    with router(http(service, "says_answer", batch_size=4, request_timeout_s=2.0, retry_for_s=120)) as remote:
        done = threading.Event()

        def work(thread: int) -> None:
            numbers = random.Random(thread)
            while not done.is_set():
                some = rows(12)
                truth = [numbers.random() < 0.5 for _ in some]
                scores = remote.score(some, [str(i) if right else "no" for i, right in enumerate(truth)])
                expected = [Score(float(right), {"says_answer": float(right)}, True) for right in truth]
                wrong.extend(pair for pair in zip(scores, expected, strict=True) if pair[0] != pair[1])
                counts[thread] += 12

        counts = [0] * 4
        threads = [threading.Thread(target=work, args=(thread,)) for thread in range(4)]
        for thread in threads:
            thread.start()
        for how in ("kill", "stop", "kill"):
            _grows(counts)
            if how == "kill":
                service.kill()
            else:
                service.process.send_signal(signal.SIGSTOP)  # alive, but answers nobody
                time.sleep(2.5)
                service.process.send_signal(signal.SIGCONT)
                continue
            time.sleep(0.5)
            service.start()
        _grows(counts)
        done.set()
        for thread in threads:
            thread.join()
        runner = next(iter(remote._runners))
        assert isinstance(runner, Remote) and runner.retries > 0
    service.stop()
    assert not wrong
    assert min(counts) > 0


def test_a_service_that_stays_away_stops_the_run_with_the_reason_and_leaves_nothing() -> None:
    service = Service((FUNCTIONS + "says_answer",))
    function = http(service, "says_answer", retry_for_s=0.5)
    with router(function, max_failure_rate=0.5, failure_min=8) as remote:
        assert remote.score(rows(1), ["0"])[0].reward == 1.0
        workers = _children(service.process.pid)
        service.kill()
        scores = remote.score(rows(2), ["0", "1"])
        assert [score.reward for score in scores] == [None, None]
        assert f"remote: no answer from {service.url}" in str(scores[0].reason)
        with pytest.raises(RewardFailure, match="remote: no answer from"):
            remote.score(rows(8), ["0"] * 8)
    assert workers
    end = time.monotonic() + 30
    while any(Path(f"/proc/{pid}").exists() for pid in workers):  # they must end with the service
        assert time.monotonic() < end, f"workers {workers} outlived the service"
        time.sleep(0.05)


def _grows(counts: list[int], by: int = 12) -> None:
    """Wait until every thread has scored more."""
    goal = [count + by for count in counts]
    end = time.monotonic() + 100
    while any(count < some for count, some in zip(counts, goal, strict=True)):
        assert time.monotonic() < end, "no progress"
        time.sleep(0.05)


def _children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    # Workers are started by other threads too.
    threads = [task.read_text().split() for task in Path(f"/proc/{pid}/task").glob("*/children")]
    return [int(child) for child in {*found, *(child for children in threads for child in children)}]
