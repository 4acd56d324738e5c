"""The endpoint as a real server, asked by the real openai client: answers, refusals, hang-ups, an engine that fails."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import openai
import pytest

from inference.serving.config import ServeConfig
from tests.inference.serving.serving import Server, picture, serving, until, with_image


@pytest.fixture(scope="module")
def server(bench) -> Iterator[Server]:
    with serving(bench) as server:
        yield server


def test_users_see_the_conclusion_alone_and_what_the_search_cost(server):
    answer = server.ask()
    choice = answer.choices[0]
    assert choice.finish_reason == "stop"
    assert choice.message.content.isdigit()
    found = answer.search
    assert found["method"] == "stage beam of 4 by mean_logprob"
    assert found["spent"]["engine_calls"] == 4
    assert found["spent"]["tokens_generated"] > answer.usage.completion_tokens > 0
    assert "stages" not in found
    assert "tree" not in found
    assert [model.id for model in server.client.models.list()] == ["tiny"]


def test_method_and_budget_come_with_the_request_and_the_tree_on_demand(server):
    method = {"method": "best_of_n", "candidates": 3, "judge": "majority"}
    found = server.ask(method=method, stages=True, tree=True, seed=3).search
    assert (found["method"], len(found["tree"])) == ("best of 3 by majority", 3)
    assert found["stages"][0]["text"] == found["tree"][found["chosen"][0]]["text"]
    found = server.ask(method="stage_beam", budget={"engine_calls": 1}, tree=True, seed=6).search
    assert [node["stage"] for node in found["tree"]] == ["SUMMARY"] * 4 + [
        "CAPTION",
        "REASONING",
        "CONCLUSION",
    ]
    assert server.ask(temperature=0).search["method"] == "greedy"


def test_an_image_is_seen(server):
    plain, seen = server.ask(), server.ask(with_image(picture()))
    assert seen.usage.prompt_tokens > plain.usage.prompt_tokens
    assert seen.choices[0].message.content


def test_a_stream_has_the_stages_as_they_are_chosen_then_the_conclusion(server):
    whole = server.ask(method="greedy")
    chunks = list(server.ask(stream=True, stages=True, stream_options={"include_usage": True}))
    stages = [chunk.stage["name"] for chunk in chunks if getattr(chunk, "stage", None)]
    assert stages == ["SUMMARY", "CAPTION", "REASONING", "CONCLUSION"]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].usage.completion_tokens > 0
    assert chunks[-2].choices[0].finish_reason == "stop"
    streamed = server.ask(method="greedy", stream=True)
    assert text_of(streamed) == whole.choices[0].message.content


def text_of(chunks: Any) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def test_without_a_grammar_a_greedy_answer_is_streamed_while_it_grows(bench):
    with serving(bench, grammar="none", method="greedy", slice_tokens=4) as server:
        whole = server.ask().choices[0].message.content
        chunks = list(server.ask(stream=True))
        assert text_of(chunks) == whole
        assert sum(bool(chunk.choices[0].delta.content) for chunk in chunks) > 2


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"model": "gpt-4"}, "model: expected 'tiny', got 'gpt-4'"),
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        (
            {"messages": [{"role": "tool", "content": "x"}]},
            "messages.0.role: expected system, user or assistant",
        ),
        ({"messages": [{"role": "user", "content": 3}]}, "messages.0.content: expected a text or a list"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "expected the user's last"),
        (
            {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]},
            "messages.0.content.0: expected",
        ),
        ({"messages": [{"role": "user", "content": "<|image_pad|>"}]}, "special token <|image_pad|>"),
        ({"messages": [{"role": "user", "content": "x " * 5000}]}, "leaves no room"),
        ({"top_p": 0.9}, "top_p"),
        ({"tools": []}, "tools: no such field"),
        ({"max_tokens": 10_000}, "max_tokens: expected at most 60, got 10000"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"temperature": float("nan")}, "temperature: Input should be a finite number"),
        ({"method": "magic"}, "method"),
        (
            {"method": {"method": "best_of_n", "candidates": 33}},
            "method.candidates: expected at most 32, got 33",
        ),
        ({"method": {"method": "best_of_n", "judge": "os:system"}}, "method.judge: expected one of"),
        ({"method": {"method": "best_of_n", "judge": "reward"}}, "method.judge: expected one of"),
        ({"method": {"method": "retracing", "judge": "mean_logprob"}}, "expected a threshold"),
        (
            {"method": {"method": "retracing", "threshold": "/etc/passwd"}},
            "method.threshold: expected a number",
        ),
        ({"method": {"method": "retracing", "threshold": 0, "retraces": 10**9}}, "method.retraces"),
        ({"method": "stage_beam", "temperature": 0}, "temperature 0 gives the same candidate"),
        ({"budget": {"tokens": -1}}, "budget.tokens"),
        ({"seed": "a"}, "seed"),
    ],
)
def test_bad_requests_are_refused_with_the_reason(server, fields, reason):
    message = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], **fields}
    answer = httpx.post(f"{server.url}/v1/chat/completions", content=json.dumps(message).encode())
    assert answer.status_code == 400
    assert reason in answer.json()["error"]["message"]
    assert server.idle()


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"messages": ' + b"[" * 10_000])
def test_what_is_no_request_is_refused(server, body):
    assert httpx.post(f"{server.url}/v1/chat/completions", content=body).status_code == 400


def test_the_openai_client_sees_its_own_errors(server):
    with pytest.raises(openai.BadRequestError, match="max_tokens: expected at most 60"):
        server.ask(max_tokens=100)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("data:image/png;base64,!!!", "expected base64"),
        ("data:image/png;base64,aGVsbG8=", "image 0: expected an image that decodes"),
        ("data:text/html;base64,aGVsbG8=", "expected data:image/"),
        ("data:image/png," + "a" * 10, "expected data:image/"),
        (picture(2000, 600), "expected at most 1000000 pixels, got 2000x600"),
        ("data:image/png;base64," + "A" * 200_000, "expected at most 100000 bytes"),
        ("http://example.com/a.png", "from an allowed host"),
        ("file:///etc/passwd", "from an allowed host"),
        ("http://127.0.0.1:22/", "from an allowed host"),
        ("http://[::1", "from an allowed host"),
    ],
)
def test_images_that_are_not_allowed_are_refused(bench, url, reason, image_server):
    answer = httpx.post(
        f"{image_server.url}/v1/chat/completions",
        json={"messages": [{"role": "user", "content": with_image(url)}]},
    )
    assert answer.status_code == 400
    assert reason in answer.json()["error"]["message"]


@pytest.fixture(scope="module")
def files() -> Iterator[str]:
    """A host of images: /ok.png, /large.png, /moved.png (a redirect to the first) and /slow.png."""
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/slow.png":
                time.sleep(3)
            self.send_response(302 if self.path == "/moved.png" else 200)
            self.send_header("Location", "/ok.png")
            self.end_headers()
            content = base64.b64decode(picture().partition(",")[2])
            try:
                self.wfile.write(content + (bytes(200_000) if self.path == "/large.png" else b""))
            except OSError:
                pass  # the client does not read all of it

        def log_message(self, *_: Any) -> None:
            pass

    host = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=host.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{host.server_address[1]}"
    host.shutdown()


@pytest.fixture(scope="module")
def image_server(bench, files) -> Iterator[Server]:
    limits = {"max_images": 2, "max_image_mb": 0.1, "max_image_pixels": 1_000_000, "fetch_timeout_s": 1.0}
    with serving(bench, image_hosts=[files], **limits) as server:
        yield server


def test_images_come_from_allowed_hosts_alone_within_limits(image_server, files):
    assert image_server.ask(with_image(f"http://{files}/ok.png"), method="greedy").choices
    for path, reason in (
        (f"{files}/large.png", "at most 100000 bytes"),
        (f"{files}/moved.png", "status 302"),
        (f"{files}/slow.png", "did not arrive within 1 s"),
        (f"user@{files}/ok.png", "allowed host"),
        (f"localhost:{files.partition(':')[2]}/ok.png", "allowed host"),
    ):
        with pytest.raises(openai.BadRequestError, match=reason):
            image_server.ask(with_image(f"http://{path}"))
    with pytest.raises(openai.BadRequestError, match="at most 2 images, got 3"):
        image_server.ask(with_image(picture()) * 3)


def test_overload_is_429_and_a_request_in_place_is_answered(bench):
    with serving(bench, max_requests=2) as server:
        server.engine.delay = 0.1
        with ThreadPoolExecutor(2) as pool:
            placed = [pool.submit(server.ask) for _ in range(2)]
            until(lambda: server.app.state.served.places.taken == 2)
            with pytest.raises(openai.RateLimitError, match="2 requests are in progress"):
                server.ask()
        assert all(answer.result().choices for answer in placed)
        assert server.ask().choices


def test_a_token_is_asked_for(bench, monkeypatch):
    monkeypatch.setenv("ENDPOINT_TOKEN", "secret")
    with serving(bench, token_env="ENDPOINT_TOKEN") as server:
        assert server.ask(method="greedy").choices
        assert text_of(server.ask(method="greedy", stream=True))
        server.client.api_key = "wrong"
        with pytest.raises(openai.AuthenticationError):
            server.ask()
    with pytest.raises(ValueError, match="other machines could use this service"):
        ServeConfig.model_validate({"model": {"path": "m"}, "host": "0.0.0.0"})


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("token", [None, "ENDPOINT_TOKEN"])
def test_a_client_that_hangs_up_stops_its_search(bench, stream, token, monkeypatch):
    monkeypatch.setenv("ENDPOINT_TOKEN", "secret")
    with serving(bench, slice_tokens=1, token_env=token) as server:
        body = {"messages": [{"role": "user", "content": "What is 1 + 2?"}], "stream": stream}
        headers = {"Authorization": "Bearer secret"}
        url = f"{server.url}/v1/chat/completions"
        httpx.post(url, json=body | {"stream": False}, headers=headers, timeout=60).raise_for_status()
        whole = server.engine.calls
        server.engine.delay = 0.05
        with httpx.Client(timeout=0.6, headers=headers) as client:
            if stream:
                with client.stream("POST", url, json=body) as answer:
                    assert answer.status_code == 200
            else:
                with pytest.raises(httpx.ReadTimeout):
                    client.post(url, json=body)
        until(server.idle)
        calls = server.engine.calls
        time.sleep(0.3)
        assert server.engine.calls == calls < 2 * whole


def test_an_engine_that_fails_is_started_again_and_its_searches_are_refused(bench):
    with serving(bench) as server:
        server.engine.failures = 1
        with pytest.raises(openai.InternalServerError, match="the engine failed") as error:
            server.ask()
        assert error.value.status_code == 503
        until(lambda: server.app.state.served.engine.ready)
        assert server.engines[0].closed
        assert server.ask(method="greedy").choices[0].message.content.isdigit()
        assert httpx.get(f"{server.url}/health").json() == {
            "status": "ok", "busy": 0, "searches": 0, "restarts": 1,
        }  # fmt: skip


def test_under_load_every_request_is_answered_or_refused_and_nothing_is_left(bench):
    """Some malformed, some cancelled, the engine failing in between; answers are those of a quiet server."""
    with serving(bench, max_requests=24, slice_tokens=16) as server:
        sums = [(a, b) for a in range(3) for b in range(3)]
        expected = {
            pair: server.ask("What is {} + {}?".format(*pair), method="greedy").choices[0].message.content
            for pair in sums
        }

        def one(i: int) -> str:
            pair = sums[i % len(sums)]
            question = "What is {} + {}?".format(*pair)
            try:
                if i % 10 == 3:
                    server.ask(question, max_tokens=0)
                elif i % 10 == 7:
                    server.client.with_options(timeout=0.05).chat.completions.create(
                        model="tiny", messages=[{"role": "user", "content": question}]
                    )
                elif i % 10 == 5:
                    answer = text_of(server.ask(question, method="greedy", stream=True))
                    return "right" if answer == expected[pair] else f"wrong: {answer}"
                else:
                    answer = server.ask(question, method="greedy").choices[0].message.content
                    return "right" if answer == expected[pair] else f"wrong: {answer}"
            except openai.BadRequestError:
                return "malformed"
            except openai.RateLimitError:
                return "overload"
            except openai.APITimeoutError:
                return "cancelled"
            except openai.APIError as error:
                return "engine" if "engine" in str(error) else f"wrong: {error}"
            return "answered"

        with ThreadPoolExecutor(32) as pool:
            results = list(pool.map(one, range(100)))
            server.engine.failures = 1
            results += list(pool.map(one, range(100, 200)))
        counts = {result: results.count(result) for result in results}
        assert not [result for result in counts if result.startswith("wrong")], counts
        assert 0 < counts["malformed"] <= 20  # some were refused as overload before they were read
        assert counts["right"] > 20
        assert counts["engine"] > 0
        assert sum(counts.values()) == 200
        until(server.idle)
        assert server.app.state.served.engine.restarts == 1
