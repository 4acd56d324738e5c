"""An OpenAI-compatible endpoint in front of a rollout engine: chat completions with images and streaming, answered by search.

    python -m inference serve model.path=runs/sft/final method.method=stage_beam method.candidates=4

    client = openai.OpenAI(base_url="http://127.0.0.1:8700/v1", api_key="…")
    client.chat.completions.create(model=…, messages=…, extra_body={"method": "stage_beam", "budget": {"tokens": 2000}})

The searches of all requests run together on one engine (`engine_thread.py`). Users see the conclusion alone; `stages` and `tree`
ask for more. It listens on the loopback interface unless told otherwise, and on other interfaces only with a bearer token.
"""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from anyio import to_thread
from fastapi import APIRouter, FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from core.rows import Row
from engines.build import build_engine
from engines.engine import Engine
from engines.prompts import misfit
from inference.methods import Search, open_search
from inference.serving.chat import Asked, BadRequest, read_request
from inference.serving.config import ServeConfig
from inference.serving.engine_thread import EngineLost, EngineThread, Job
from inference.serving.images import load_images
from inference.serving.responses import Replying, error_body, event, now, refusal
from inference.types import Method, Question
from rewards.errors import RewardDataError
from rewards.serving import wire
from rewards.serving.http_limits import Bodies, Places, token_check
from rewards.serving.http_server import run_server
from vlm.inputs import Encoded, encode
from vlm.load import check_checkpoint, load_processor

POLL_S = 0.2  # how often a waiting request looks whether its client is still there
OVERLOAD = 429


@dataclass(frozen=True)
class Served:
    """What the routes need. name: of the model, for clients."""

    config: ServeConfig
    name: str
    search: Search
    engine: EngineThread
    places: Places
    bodies: Bodies


def create_app(config: ServeConfig, build: Callable[[Any], Engine] | None = None) -> FastAPI:
    """The endpoint as an ASGI application; the engine runs when this returns. build: makes the engine of the processor; None: as the
    config says.

    Raises CheckpointError, PluginError, CalibrationError for what is wrong with the config.
    """
    folder = check_checkpoint(config.model.path)
    processor = load_processor(config.model)
    stack = ExitStack()
    search = open_search(stack, config, processor, config.grammar, None)
    search.method(config.method)  # a wrong judge is said now
    dtype = getattr(torch, config.model.dtype)
    start = (
        partial(build, processor) if build else partial(build_engine, config.engine, folder, processor, dtype)
    )
    engine = EngineThread(start, config.slice_tokens)
    places = Places(config.max_requests, status=OVERLOAD)
    name = config.name or Path(config.model.path).name
    served = Served(config, name, search, engine, places, Bodies(config, status=OVERLOAD))

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await to_thread.run_sync(engine.close)
        stack.close()

    # No documentation pages: they load scripts from elsewhere.
    app = FastAPI(title="Onsight", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    if config.token_env:
        app.middleware("http")(token_check(os.environ[config.token_env]))
    app.include_router(_routes(served))
    app.exception_handler(HTTPException)(_as_openai)
    app.state.served = served
    return app


def serve(config: ServeConfig) -> None:
    """Serve until SIGINT or SIGTERM."""
    app = create_app(config)
    run_server(app, config, app.state.served.name)


async def _as_openai(request: Request, error: Any) -> JSONResponse:
    body = error_body(error.status_code, str(error.detail))
    return JSONResponse(body, error.status_code, error.headers)


def _routes(served: Served) -> APIRouter:
    routes = APIRouter()

    @routes.get("/health")
    async def health() -> JSONResponse:
        engine = served.engine
        state = {"status": "ok" if engine.ready else "starting", "busy": served.places.taken}
        return JSONResponse(
            state | {"searches": engine.busy, "restarts": engine.restarts}, 200 if engine.ready else 503
        )

    @routes.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {
            "object": "list",
            "data": [{"id": served.name, "object": "model", "created": 0, "owned_by": "onsight"}],
        }

    @routes.post("/v1/chat/completions")
    async def completions(request: Request) -> Response:
        body = await served.bodies.read(request)
        place = ExitStack()  # held until the answer is sent
        place.enter_context(served.places.take())
        with ExitStack() as unless_streamed:
            unless_streamed.callback(place.close)
            try:
                replying, job = await _begin(served, body)
            except BadRequest as error:
                return refusal(400, str(error), error.field)
            place.callback(job.cancel)
            served.engine.submit(job)
            if replying.asked.body.stream:
                unless_streamed.pop_all()
                return _Stream(_events(served, replying, job), place)
            return await _whole(served, request, replying, job)

    return routes


async def _begin(served: Served, body: bytes) -> tuple[Replying, Job]:
    """The search that a request asks for. Raises BadRequest."""
    try:
        message = wire.loads_untrusted(body)
    except ValueError as error:
        raise BadRequest(f"expected JSON: {error}"[:500]) from None
    asked = read_request(message, served.config, served.name)
    images = await load_images(asked.urls, served.config)
    number = f"chatcmpl-{uuid.uuid4().hex}"
    row: Row = {
        "id": number,
        "task": asked.body.task,
        "prompt": asked.prompt,
        "images": images,
        "videos": [],
        "answer": None,
    }
    try:
        served.search.check_row(asked.method, row)
        prompt = await to_thread.run_sync(partial(encode, served.search.processor, asked.prompt, images))
    except (ValueError, RewardDataError) as error:
        raise BadRequest(str(error)[:500], "messages") from None
    if problem := misfit(len(prompt), len(images), 0, served.config.engine):
        raise BadRequest(problem, "messages")
    question, method = _question(served, asked, row, prompt)
    return Replying(number, served.name, asked, question, now()), Job(question, method)


def _question(served: Served, asked: Asked, row: Row, prompt: Encoded) -> tuple[Question, Method]:
    question = served.search.question(
        row,
        prompt,
        seed=asked.body.seed,
        method=asked.method,
        max_tokens=asked.max_tokens,
        temperature=asked.temperature,
    )
    return question, served.search.method(asked.method)


async def _whole(served: Served, request: Request, replying: Replying, job: Job) -> Response:
    """The answer in one piece. A client that hangs up ends its search."""
    while True:
        kind, value = await _next(served, job)
        if kind == "answer":
            return JSONResponse(replying.completion(value))
        if kind == "error":
            status, message = _status(value)
            return refusal(status, message, **({"Retry-After": "1"} if status == 503 else {}))
        if kind == "waiting" and await request.is_disconnected():
            return Response(status_code=499)  # nobody reads it


class _Stream(StreamingResponse):
    """A stream of events. When it ends, or the client hangs up, also before the first event, `place` is closed."""

    def __init__(self, events: AsyncIterator[str], place: ExitStack) -> None:
        super().__init__(events, media_type="text/event-stream")
        self._place = place

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        with self._place:
            await super().__call__(scope, receive, send)


async def _events(served: Served, replying: Replying, job: Job) -> AsyncIterator[str]:
    """The answer as events."""
    sent = ""
    told = replying.question.names is None and replying.asked.method.method == "greedy"  # token by token
    yield replying.chunk({"role": "assistant", "content": ""})
    while True:
        kind, value = await _next(served, job)
        if kind == "waiting":
            yield ": searching\n\n"
        elif kind == "stage" and replying.asked.body.stages:
            yield replying.stage(value)
        elif kind == "text" and told:
            settled = _settled(value)
            if settled.startswith(sent) and (more := settled[len(sent) :]):
                sent = settled
                yield replying.chunk({"content": more})
        elif kind == "answer":
            for part in replying.last(value, sent):
                yield part
            return
        elif kind == "error":
            status, message = _status(value)
            yield event(error_body(status, message))
            return


def _settled(text: str) -> str:
    """The part of a growing text that will not change: without an incomplete character and white space at its end."""
    return text.lstrip().rstrip("\ufffd").rstrip()


async def _next(served: Served, job: Job) -> tuple[str, Any]:
    """The job's next event; ("waiting", None) if there is none for a while."""
    try:
        return await asyncio.wait_for(job.events.get(), POLL_S)
    except TimeoutError:
        if served.engine.stopped:
            return "error", EngineLost("the server is stopping")
        return "waiting", None


def _status(error: Exception) -> tuple[int, str]:
    """Status and message for a search that ended with an error."""
    if isinstance(error, EngineLost):
        return 503, str(error)
    if isinstance(error, ValueError):  # a setting that the search refuses
        return 400, str(error)[:500]
    return 500, f"the search failed: {type(error).__name__}"
