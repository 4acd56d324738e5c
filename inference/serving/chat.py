"""Requests of the endpoint: OpenAI's chat completions, with the search as extra fields. What cannot be honoured is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field, ValidationError

from core.config import Section
from core.text import short
from inference.config import BudgetConfig, MethodConfig
from inference.serving.config import ServeConfig


class BadRequest(ValueError):
    """A request that cannot be answered; the message says why, `field` where."""

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class StreamOptions(Section):
    """`stream_options` of a request."""

    include_usage: bool = False
    """End the stream with a chunk that has the token counts."""


class ChatRequest(Section):
    """Body of a chat completion. Fields of OpenAI's that have no field here are refused."""

    messages: list[dict[str, Any]] = Field(min_length=1)
    """Messages, roles system, user and assistant; contents texts, or parts `text` and `image_url`."""
    model: str | None = None
    """Name of the model; null: the one that is served."""
    stream: bool = False
    """Send the answer in parts."""
    stream_options: StreamOptions | None = None
    """Options of a stream."""
    max_tokens: int | None = Field(None, ge=1)
    """Longest answer, in tokens; null: the server's limit, which cannot be exceeded."""
    max_completion_tokens: int | None = Field(None, ge=1)
    """The newer name of max_tokens."""
    temperature: float | None = Field(None, ge=0, le=2)
    """Of the candidates; null: the server's. 0 without a method: greedy."""
    seed: int | None = None
    """Seed of the candidates; the same search in other company may still differ in rounding."""
    user: str | None = Field(None, max_length=512)
    """Not read."""
    n: Literal[1] | None = None
    """Choices in the response: one."""
    top_p: Literal[1] | None = None
    """Answers are sampled from the whole distribution."""
    presence_penalty: Literal[0] | None = None
    """None is applied."""
    frequency_penalty: Literal[0] | None = None
    """None is applied."""
    logprobs: Literal[False] | None = None
    """Not returned."""

    method: MethodConfig | None = None
    """How to search: a name, or an object with its settings; null: the server's."""
    budget: BudgetConfig | None = None
    """Limits on the search, instead of the method's."""
    stages: bool = False
    """Return all stages; streams send each as soon as it is chosen."""
    tree: bool = False
    """Return every candidate of the search."""
    task: str = Field("chat", max_length=100)
    """Task by which judges of kind `reward` are routed."""


@dataclass(frozen=True)
class Asked:
    """A request that has been read. urls: of the images, in reading order. prompt: messages with placeholders for them."""

    prompt: list[dict[str, Any]]
    urls: list[str]
    method: MethodConfig
    max_tokens: int
    temperature: float
    body: ChatRequest


def read_request(message: Any, config: ServeConfig, model: str) -> Asked:
    """Raises BadRequest for anything that is wrong or cannot be honoured. model: the served name."""
    if not isinstance(message, dict):
        raise BadRequest("expected a JSON object")
    try:
        body = ChatRequest.model_validate(message)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or None
        raise BadRequest(_explained(first, field), field) from None
    if body.model not in (None, model):
        raise BadRequest(f"model: expected '{model}', got {short(body.model, 100)}", "model")
    prompt, urls = _read_messages(body.messages, config.max_images)
    return Asked(
        prompt, urls, _method(body, config), _max_tokens(body, config), _temperature(body, config), body
    )


def _explained(error: Mapping[str, Any], field: str | None) -> str:
    if error["type"] == "extra_forbidden":
        return f"{field}: no such field, or one that is not supported"
    return f"{field}: {error['msg'].removeprefix('Value error, ')}, got {short(error['input'], 100)}"


def _method(body: ChatRequest, config: ServeConfig) -> MethodConfig:
    """The method, checked: a request must not name code, files, or more candidates than allowed."""
    method = body.method
    if method is None:
        method = MethodConfig(method="greedy") if body.temperature == 0 else config.method
    elif method.judge not in (None, "mean_logprob", "majority", "pairs", *config.judges):
        known = ", ".join(["mean_logprob", "majority", "pairs", *config.judges])
        raise BadRequest(
            f"method.judge: expected one of {known}, got {short(method.judge, 100)}", "method.judge"
        )
    elif isinstance(method.threshold, str):
        raise BadRequest("method.threshold: expected a number", "method.threshold")
    most = method.constants().candidates if method.method == "retracing" else method.width
    if most > config.max_candidates:
        raise BadRequest(
            f"method.candidates: expected at most {config.max_candidates}, got {most}", "method.candidates"
        )
    if method.constants().retraces > config.max_candidates:
        raise BadRequest(f"method.retraces: expected at most {config.max_candidates}", "method.retraces")
    try:
        config.check_method(method, config.grammar, None)
    except ValueError as error:
        raise BadRequest(f"method: {error}", "method") from None
    return method if body.budget is None else method.model_copy(update={"budget": body.budget})


def _max_tokens(body: ChatRequest, config: ServeConfig) -> int:
    if body.max_tokens is not None and body.max_completion_tokens is not None:
        raise BadRequest(
            "max_tokens and max_completion_tokens are the same limit; expected one", "max_tokens"
        )
    asked = body.max_tokens or body.max_completion_tokens or config.max_tokens
    if asked > config.max_tokens:
        raise BadRequest(f"max_tokens: expected at most {config.max_tokens}, got {asked}", "max_tokens")
    return asked


def _temperature(body: ChatRequest, config: ServeConfig) -> float:
    return config.temperature if body.temperature is None else body.temperature


def _read_messages(messages: list[dict[str, Any]], max_images: int) -> tuple[list[dict[str, Any]], list[str]]:
    """The messages with placeholders, and the URLs of the images that fill them."""
    urls: list[str] = []
    read = []
    for i, message in enumerate(messages):
        at = f"messages.{i}"
        role, content = message.get("role"), message.get("content")
        if role not in ("system", "user", "assistant"):
            raise BadRequest(f"{at}.role: expected system, user or assistant, got {short(role, 100)}", at)
        if unknown := set(message) - {"role", "content", "name"}:
            raise BadRequest(f"{at}: '{sorted(unknown)[0]}' is not supported", at)
        if isinstance(content, list) and content:
            content = [_part(part, f"{at}.content.{j}", role, urls) for j, part in enumerate(content)]
        elif not isinstance(content, str):
            raise BadRequest(
                f"{at}.content: expected a text or a list of parts, got {short(content, 100)}", at
            )
        read.append({"role": role, "content": content})
    if read[-1]["role"] != "user":
        raise BadRequest(f"messages: expected the user's last, got the {read[-1]['role']}'s", "messages")
    if len(urls) > max_images:
        raise BadRequest(f"messages: expected at most {max_images} images, got {len(urls)}", "messages")
    return read, urls


def _part(part: Any, at: str, role: str, urls: list[str]) -> dict[str, Any]:
    """A part of a content; the URL of an image goes to `urls`."""
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "text" and isinstance(part.get("text"), str):
        return {"type": "text", "text": part["text"]}
    image = part.get("image_url") if kind == "image_url" else None
    url = image.get("url") if isinstance(image, dict) else image
    if isinstance(url, str) and role == "user":
        urls.append(url)
        return {"type": "image"}
    raise BadRequest(
        f'{at}: expected {{"type": "text", "text": …}} or, from the user, {{"type": "image_url", "image_url": {{"url": …}}}},'
        f" got {short(part, 100)}",
        at,
    )
