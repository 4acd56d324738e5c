"""An OpenAI-compatible endpoint in a recipe, and one reply of it, read without trust."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from data_recipes.records import Options

MAX_REPLY_CHARS = 400_000
"""Of a longer reply only the beginning is kept, as if the endpoint had stopped there."""


class EndpointError(RuntimeError):
    """An endpoint that cannot be used: wrong key or model, or it keeps failing. The run stops and can be resumed."""


class Served(Options):
    """A model behind an OpenAI-compatible server: vLLM, SGLang, a provider."""

    base_url: str
    """Up to and with the version, e.g. `http://10.0.0.7:8000/v1`."""
    model: str
    """Name under which the endpoint serves the model."""
    revision: str = ""
    """Free text, part of the request cache's keys: change it when other weights are served under the same name."""
    api_key_env: str | None = None
    """Name of the environment variable that holds the API key; the key itself never stands in a recipe."""
    concurrency: int = Field(default=8, ge=1)
    """Requests under way at once, in each worker of the run."""
    timeout_s: float = Field(default=600.0, gt=0)
    """Limit of one attempt at one request."""
    max_retries: int = Field(default=8, ge=0)
    """Attempts after the first at a request that met 408, 409, 429, 5xx, a time-out or a broken connection, with
    growing, random pauses of up to 8 s, or as long as the endpoint asks for (`Retry-After`)."""
    price_prompt: float = Field(default=0.0, ge=0.0)
    """Price of a million prompt tokens, in any currency."""

    def api_key(self) -> str:
        """The key from the environment; EndpointError if the variable is not set."""
        if self.api_key_env is None:
            return "none"  # the library wants one; servers without keys ignore it
        key = os.environ.get(self.api_key_env)
        if not key:
            raise EndpointError(
                f"endpoint {self.base_url}: the environment variable '{self.api_key_env}' is not set"
            )
        return key


class Endpoint(Served):
    """A model that chats."""

    temperature: float | None = Field(default=None, ge=0.0, le=2.0)
    """Not given: the endpoint's own default."""
    top_p: float | None = Field(default=None, gt=0.0, le=1.0)
    """Not given: the endpoint's own default."""
    max_tokens: int | None = Field(default=4096, ge=1)
    """Limit of a reply; null leaves it to the endpoint."""
    max_tokens_name: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """What the endpoint calls that limit; OpenAI's reasoning models take the second name alone."""
    seed: int | None = None
    """Sample i of a question is asked for with seed + i. Not given: no seed is sent."""
    n_per_request: int = Field(default=1, ge=1)
    """Samples of one question asked for in one request (`n`). vLLM then reads the prompt and its images once; some
    providers know 1 alone."""
    extra_body: dict[str, Any] = {}
    """More fields of the request, e.g. `{chat_template_kwargs: {enable_thinking: false}}`."""
    look_ahead: int | None = Field(default=None, ge=1)
    """Rows begun before the first of them is finished; bounds memory. Not given: four times `concurrency`."""
    thoughts: Literal["drop", "keep"] = "drop"
    """What reasoning models send apart from their answer (`reasoning_content`, or `reasoning`): dropped, or kept before the
    answer, between <think> and </think>."""
    max_failures: int = Field(default=3, ge=0)
    """Requests in a row that may fail after all attempts, each costing its row; one more stops the run."""
    max_turned_down: int = Field(default=100, ge=0)
    """Requests in a row that the endpoint may turn down (400, 413, 422: too long, against its rules), each costing its row;
    one more stops the run."""
    max_pixels: int | None = Field(default=None, ge=784)
    """Larger images are shrunk to this area (width x height) before they are sent. Not for tasks with pixel coordinates."""
    video_fps: float | None = Field(default=None, gt=0)
    """Frames per second taken of a video that does not say so itself. Not given: 2, as in training."""
    max_frames: int = Field(default=32, ge=2)
    """A video that would give more frames is sampled more thinly over its whole length."""
    videos: Literal["frames", "video"] = "frames"
    """`frames`: a video is sent as images with their times, which every endpoint with images takes. `video`: as one video
    of JPEG frames with its rate, which vLLM takes if started with `--trust-request-mm-kwargs`; for models that are trained
    on videos as such, as a policy is."""
    price_completion: float = Field(default=0.0, ge=0.0)
    """Price of a million completion tokens."""

    @property
    def ahead(self) -> int:
        return self.look_ahead or 4 * self.concurrency

    def body(self) -> dict[str, Any]:
        """The request's sampling fields."""
        fields = {"temperature": self.temperature, "top_p": self.top_p, self.max_tokens_name: self.max_tokens}
        return {name: value for name, value in fields.items() if value is not None} | self.extra_body


@dataclass(frozen=True)
class Reply:
    """What came back for one sample.

    text: None if the model refused or the request failed. finish: the endpoint's `finish_reason` ("stop", "length",
    "content_filter", …). problem: set where there is no reply at all: the request was turned down, or failed for good.
    """

    text: str | None
    finish: str = "stop"
    problem: str | None = None


@dataclass(frozen=True)
class Usage:
    """Tokens of a request."""

    prompt: int = 0
    completion: int = 0


class MalformedReply(ValueError):
    """A reply with status 200 that is no chat completion."""


def read_completion(body: str, count: int, thoughts: bool = False) -> tuple[list[Reply], Usage]:
    """The `count` replies of a chat completion's JSON, ordered by index. Raises MalformedReply for anything else. thoughts: put what
    was sent apart from the answer before it."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise MalformedReply(f"expected JSON, got {body[:80]!r} ({type(error).__name__})") from None
    choices = found.get("choices") if isinstance(found, dict) else None
    if not isinstance(choices, list) or len(choices) != count:
        raise MalformedReply(f"expected {count} choices, got {body[:80]!r}")
    if not all(isinstance(choice, dict) and isinstance(choice.get("message"), dict) for choice in choices):
        raise MalformedReply(f"expected choices with a message, got {body[:80]!r}")
    indices = [choice.get("index") for choice in choices]
    if count > 1 and all(type(index) is int for index in indices):
        choices = [
            choice for _, choice in sorted(zip(indices, choices, strict=True), key=lambda pair: pair[0])
        ]
    return [_reply(choice, thoughts) for choice in choices], _usage(found.get("usage"))


def clean(text: str) -> str:
    """The text without lone surrogates, which no file or database can hold as UTF-8."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _reply(choice: Mapping[str, Any], thoughts: bool) -> Reply:
    content = choice["message"].get("content")
    if isinstance(content, list):  # parts, as some endpoints write them
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        content = "".join(part for part in parts if isinstance(part, str))
    finish = choice.get("finish_reason")
    finish = clean(finish)[:40] if isinstance(finish, str) else "stop"
    if not isinstance(content, str) or choice["message"].get("refusal"):
        return Reply(None, finish)
    apart = (choice["message"].get(name) for name in ("reasoning_content", "reasoning"))
    thought = next((text for text in apart if isinstance(text, str) and text.strip()), None)
    if thoughts and thought is not None:
        content = f"<think>{thought}</think>{content}"
    if len(content) > MAX_REPLY_CHARS:
        return Reply(clean(content[:MAX_REPLY_CHARS]), "length")
    return Reply(clean(content), finish)


def _usage(value: Any) -> Usage:
    counts = value if isinstance(value, dict) else {}
    prompt, completion = (counts.get(name) for name in ("prompt_tokens", "completion_tokens"))
    return Usage(
        *(count if type(count) is int and 0 <= count < 10**9 else 0 for count in (prompt, completion))
    )
