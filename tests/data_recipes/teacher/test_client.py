"""The client against a scripted endpoint on a real socket."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from fastapi.responses import PlainTextResponse, Response

from data_recipes.teacher.client import Client, open_cache
from data_recipes.teacher.endpoint import MAX_REPLY_CHARS, Endpoint, EndpointError, Reply
from data_recipes.teacher.ordered import in_order
from tests.data_recipes.endpoints import REPOSITORY, error, scripted_teacher, text_of

QUESTION = [{"role": "user", "content": "How many?"}]


def ask(
    endpoint: Endpoint, folder: Path, *questions: Any, samples=(0,)
) -> tuple[list[list[Reply]], Counter[str]]:
    """Replies to questions asked one after the other by one client, and its counts."""

    async def run() -> list[list[Reply]]:
        client = Client(endpoint, folder, counts)
        try:
            return [await client.ask(question, samples) for question in questions or [QUESTION]]
        finally:
            await client.close()

    counts: Counter[str] = Counter()
    return asyncio.run(run()), counts


def question(text: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": str(text)}]


def test_a_request_carries_model_sampling_and_key(tmp_path, monkeypatch):
    monkeypatch.setenv("TEACHER_KEY", "s3cret")
    with scripted_teacher(lambda body, number: "three") as teacher:
        endpoint = Endpoint(
            base_url=teacher.url,
            model="big",
            api_key_env="TEACHER_KEY",
            temperature=0.7,
            top_p=0.9,
            max_tokens=5,
            seed=10,
            extra_body={"chat_template_kwargs": {"enable_thinking": False}},
        )
        replies, _ = ask(endpoint, tmp_path, samples=[2])
    assert replies == [[Reply("three")]]
    assert teacher.requests == [
        {
            "model": "big",
            "messages": QUESTION,
            "temperature": 0.7,
            "top_p": 0.9,
            "max_tokens": 5,
            "seed": 12,
            "chat_template_kwargs": {"enable_thinking": False},
        }
    ]
    assert teacher.headers[0]["authorization"] == "Bearer s3cret"


def test_an_answer_is_paid_once(tmp_path):
    with scripted_teacher(lambda body, number: f"answer {number}") as teacher:
        endpoint = Endpoint(base_url=teacher.url, model="big", price_prompt=2.0, price_completion=10.0)
        first, paid = ask(endpoint, tmp_path)
        second, cached = ask(endpoint, tmp_path)
    assert first == second and len(teacher.requests) == 1
    assert paid["teacher/requests"] == 1 and paid["teacher/cached"] == 0
    assert (paid["teacher/tokens_prompt"], paid["teacher/tokens_completion"]) == (100, 10)
    assert paid["teacher/cost"] == pytest.approx((100 * 2 + 10 * 10) / 1e6)
    assert cached["teacher/requests"] == 0 and cached["teacher/cached"] == 1 and cached["teacher/cost"] == 0
    assert cached["teacher/cost_cached"] == pytest.approx(paid["teacher/cost"])


@pytest.mark.parametrize(
    "change",
    [{"model": "other"}, {"temperature": 0.5}, {"revision": "step 100"}, {"seed": 1}, {"max_tokens": 7}],
)
def test_another_request_is_another_answer(tmp_path, change):
    with scripted_teacher(lambda body, number: str(number)) as teacher:
        endpoint = Endpoint(base_url=teacher.url, model="big")
        ask(endpoint, tmp_path)
        ask(endpoint.model_copy(update=change), tmp_path)
        assert len(teacher.requests) == 2


def test_the_same_model_elsewhere_is_not_asked_again(tmp_path):
    with scripted_teacher(lambda body, number: "three") as teacher:
        ask(Endpoint(base_url=teacher.url, model="big", concurrency=1), tmp_path)
    gone = Endpoint(base_url="http://127.0.0.1:9/v1", model="big", concurrency=64, timeout_s=3)
    assert ask(gone, tmp_path)[0] == [[Reply("three")]]


def test_samples_are_cached_one_by_one_and_asked_for_together(tmp_path):
    with scripted_teacher(lambda body, number: f"{body.get('seed')}/{body.get('n')}") as teacher:
        endpoint = Endpoint(base_url=teacher.url, model="big", seed=100, n_per_request=4)
        ask(endpoint, tmp_path, samples=[2])
        (replies,), counts = ask(endpoint, tmp_path, samples=range(8))
    first, *others = [body.get("n", 1) for body in teacher.requests]
    assert first == 1 and sorted(others) == [1, 2, 4]  # these three are under way at once
    assert [body["seed"] for body in teacher.requests] == [102, 100, 103, 107]
    assert [reply.text for reply in replies] == ["100/2"] * 2 + ["102/None"] + ["103/4"] * 4 + ["107/None"]
    assert counts["teacher/cached"] == 1 and counts["teacher/requests"] == 3


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503])
def test_passing_errors_are_retried(tmp_path, status):
    with scripted_teacher(lambda body, number: error(status) if number < 2 else "three") as teacher:
        replies, counts = ask(Endpoint(base_url=teacher.url, model="big"), tmp_path)
    assert replies == [[Reply("three")]]
    assert len(teacher.requests) == 3 and counts["teacher/failures"] == 0


def test_one_request_that_fails_for_good_costs_its_row_alone(tmp_path):
    def script(body, number):
        return error(500) if text_of(body["messages"][0]["content"]) == "1" else "fine"

    with scripted_teacher(script) as teacher:
        endpoint = Endpoint(base_url=teacher.url, model="big", max_retries=1)
        replies, counts = ask(endpoint, tmp_path, *map(question, range(3)))
        assert [reply.text for (reply,) in replies] == ["fine", None, "fine"]
        assert replies[1][0].problem.startswith("failed: status 500")
        assert counts["teacher/failures"] == 1
        ask(endpoint, tmp_path, question(1))
    assert len(teacher.requests) == 6  # failures are not cached


def test_an_endpoint_that_keeps_failing_stops_the_run(tmp_path):
    with scripted_teacher(lambda body, number: error(503, "overloaded")) as teacher:
        endpoint = Endpoint(base_url=teacher.url, model="big", max_retries=0, max_failures=2)
        with pytest.raises(EndpointError, match="3 requests in a row failed.*overloaded"):
            ask(endpoint, tmp_path, *map(question, range(5)))
    assert len(teacher.requests) == 3


def test_a_server_that_is_not_there_stops_the_run(tmp_path):
    endpoint = Endpoint(base_url="http://127.0.0.1:9/v1", model="big", max_retries=0, max_failures=0)
    with pytest.raises(EndpointError, match="APIConnectionError"):
        ask(endpoint, tmp_path)


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_wrong_key_or_model_stops_the_run_at_once(tmp_path, status):
    with scripted_teacher(lambda body, number: error(status, "wrong")) as teacher:
        with pytest.raises(EndpointError, match=f"status {status}.*wrong"):
            ask(Endpoint(base_url=teacher.url, model="big"), tmp_path)
        assert len(teacher.requests) == 1


def test_a_missing_key_is_named(tmp_path, monkeypatch):
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    with pytest.raises(EndpointError, match="'NO_SUCH_KEY' is not set"):
        ask(Endpoint(base_url="http://127.0.0.1:9/v1", model="big", api_key_env="NO_SUCH_KEY"), tmp_path)


def test_requests_that_are_turned_down_cost_their_rows_until_they_are_too_many(tmp_path):
    def script(body, number):
        return "fine" if number in (0, 4) else error(400, "too long")

    with scripted_teacher(script) as teacher:
        endpoint = Endpoint(base_url=teacher.url, model="big", max_failures=0, max_turned_down=3)
        replies, counts = ask(endpoint, tmp_path, *map(question, range(8)))
        assert [reply.text for (reply,) in replies] == ["fine", *[None] * 3, "fine", *[None] * 3]
        assert "turned down: status 400" in replies[7][0].problem and "too long" in replies[7][0].problem
        assert counts["teacher/failures"] == 0 and len(teacher.requests) == 8
        with pytest.raises(EndpointError, match="turned down 4 requests in a row.*too long"):
            ask(endpoint, tmp_path / "new", *map(question, range(8)))


def test_equal_requests_at_the_same_time_end_with_one_answer(tmp_path):
    async def run() -> list[Reply]:
        client = Client(Endpoint(base_url=teacher.url, model="big"), tmp_path, Counter())
        replies = await asyncio.gather(*(client.ask(QUESTION) for _ in range(6)))
        await client.close()
        return [reply for (reply,) in replies]

    with scripted_teacher(lambda body, number: f"answer {number}", delay_s=0.05) as teacher:
        assert len(set(asyncio.run(run()))) == 1 and len(teacher.requests) > 1


GARBAGE = {
    "html": PlainTextResponse("<html>gateway</html>"),
    "no json": Response("{", media_type="application/json"),
    "deep": Response("[" * 100_000 + "]" * 100_000, media_type="application/json"),
    "list": Response("[]", media_type="application/json"),
    "no choices": Response('{"choices": []}', media_type="application/json"),
    "null choices": Response('{"choices": null}', media_type="application/json"),
    "no message": Response('{"choices": [{"text": "3"}]}', media_type="application/json"),
    "not utf-8": Response(b'{"choices": "\xff\xfe"}', media_type="application/json"),
}


@pytest.mark.parametrize("name", GARBAGE)
def test_garbage_is_a_failed_request(tmp_path, name):
    with scripted_teacher(lambda body, number: GARBAGE[name] if number == 1 else "fine") as teacher:
        replies, counts = ask(Endpoint(base_url=teacher.url, model="big"), tmp_path, *map(question, range(3)))
    assert [reply.text for (reply,) in replies] == ["fine", None, "fine"]
    assert counts["teacher/failures"] == 1


ODD = {
    "refusal": ({"message": {"content": None, "refusal": "I cannot"}}, None),
    "refusal beside text": ({"message": {"content": "Sorry", "refusal": "I cannot"}}, None),
    "a number": ({"message": {"content": 7}}, None),
    "parts": ({"message": {"content": [{"type": "text", "text": "a"}, {"type": "x"}, "b"]}}, "a"),
    "lone surrogate": ({"message": {"content": "a\ud800b"}}, "a?b"),
    "null byte": ({"message": {"content": "a\0b"}}, "a\0b"),
    "huge": ({"message": {"content": "x" * (MAX_REPLY_CHARS + 5)}}, "x" * MAX_REPLY_CHARS),
    "odd finish": ({"message": {"content": "a"}, "finish_reason": {"no": 1}}, "a"),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_replies_are_read_and_kept(tmp_path, name):
    reply, text = ODD[name]
    with scripted_teacher(lambda body, number: reply) as teacher:
        endpoint = Endpoint(base_url=teacher.url, model="big")
        (first,), _ = ask(endpoint, tmp_path)
        (second,), _ = ask(endpoint, tmp_path)
    assert first[0].text == text and first == second and len(teacher.requests) == 1
    if name == "huge":
        assert first[0].finish == "length"


def test_requests_under_way_are_bounded_and_order_is_kept(tmp_path):
    drawn = 0

    def rows():
        nonlocal drawn
        for i in range(40):
            drawn += 1
            yield i

    counts: Counter[str] = Counter()
    with scripted_teacher(
        lambda body, number: text_of(body["messages"][0]["content"]), delay_s=0.01
    ) as teacher:
        endpoint = Endpoint(base_url=teacher.url, model="big", concurrency=3, look_ahead=10)
        client = Client(endpoint, tmp_path, counts)

        async def work(i: int) -> str | None:
            (reply,) = await client.ask(question(i))
            return reply.text

        results = in_order(rows(), work, ahead=endpoint.ahead, close=client.close)
        assert next(results) == "0" and drawn == 10
        assert list(results) == [str(i) for i in range(1, 40)]
    assert teacher.busiest == 3


def test_an_error_is_raised_at_its_turn_and_ends_the_work():
    async def work(i: int) -> int:
        if i == 2:
            raise ValueError("broken")
        await asyncio.sleep(0 if i < 5 else 100)
        return i

    results = in_order(range(10), work, ahead=8)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="broken"):
        next(results)
    assert list(results) == []


def test_closing_early_cancels_what_is_under_way():
    closed = []

    async def work(i: int) -> int:
        await asyncio.sleep(0 if i == 0 else 100)
        return i

    async def close() -> None:
        closed.append(True)

    results = in_order(range(10), work, ahead=4, close=close)
    assert next(results) == 0
    results.close()
    assert closed == [True]


ANSWER_ALL = """
import sys
from collections import Counter
from pathlib import Path
from data_recipes.teacher.client import Client, open_cache
from data_recipes.teacher.endpoint import Endpoint
from data_recipes.teacher.ordered import in_order

def answers(url, folder, count, concurrency):
    endpoint = Endpoint(base_url=url, model="big", concurrency=concurrency)
    client = Client(endpoint, Path(folder), Counter())

    async def work(i):
        (reply,) = await client.ask([{"role": "user", "content": str(i)}])
        return reply.text

    return list(in_order(range(count), work, ahead=endpoint.ahead, close=client.close))
"""


@pytest.mark.slow
def test_a_killed_run_pays_again_only_for_what_was_under_way(tmp_path):
    count, concurrency = 40, 4
    here: dict[str, Any] = {}
    exec(ANSWER_ALL, here)  # noqa: S102  the same lines in this process and in the one to be killed
    with scripted_teacher(
        lambda body, number: text_of(body["messages"][0]["content"]), delay_s=0.2
    ) as teacher:
        call = f"answers({teacher.url!r}, {str(tmp_path)!r}, {count}, {concurrency})"
        killed = subprocess.Popen([sys.executable, "-c", f"{ANSWER_ALL}\n{call}"], cwd=REPOSITORY)
        while len(teacher.requests) < count // 2:
            assert killed.poll() is None
            time.sleep(0.02)
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        time.sleep(0.5)  # the server finishes what it had begun
        before = len(teacher.requests)
        for _ in range(2):
            assert here["answers"](teacher.url, tmp_path, count, concurrency) == [
                str(i) for i in range(count)
            ]
    assert before < count and len(teacher.requests) <= count + concurrency


def test_workers_may_open_the_cache_at_the_same_moment(tmp_path):
    """What they find: a database that another has locked for longer than SQLite waits."""
    open_cache(tmp_path).close()
    other = sqlite3.connect(tmp_path / "cache.db", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN EXCLUSIVE")
    release = threading.Timer(1.0, lambda: other.execute("COMMIT"))
    release.start()
    cache = open_cache(tmp_path, timeout=0.01)
    cache.set("key", "value")
    assert cache.get("key") == "value"
    cache.close()
    release.join()
