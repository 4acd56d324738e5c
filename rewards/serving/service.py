"""The reward service: reward functions over HTTP, for rewards that need other machines, GPUs or packages.

    python -m rewards serve --function giou --function judge.py:helpful --port 8600

The functions run as they do in a trainer: plugins isolated in worker processes with a time limit, built-ins in
process. Listens on the loopback interface unless told otherwise; on another one only with a bearer token.
`wire.py` is the protocol.
"""

from __future__ import annotations

import ipaddress
import json
import logging
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import uvicorn
from anyio import CapacityLimiter, fail_after, to_thread
from fastapi import FastAPI, HTTPException, Request, Response
from pydantic import BaseModel, ConfigDict, Field, model_validator
from starlette.requests import ClientDisconnect

from rewards.config import FunctionConfig
from rewards.errors import RewardDataError
from rewards.serving import wire
from rewards.serving.items import Item, Limits
from rewards.serving.pool import Pool
from rewards.serving.runners import Runner, make_runner, score_items

log = logging.getLogger("rewards")


class ServiceConfig(BaseModel):
    """A reward service."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True, frozen=True)

    functions: list[FunctionConfig] = Field(min_length=1)
    """Functions to serve; a function's `component` (or its own name) is its name here. Weights are the client's."""
    host: str = "127.0.0.1"
    """Interface to listen on. Anything but loopback needs a token."""
    port: int = Field(default=8600, ge=0, le=65535)
    """Port to listen on; 0 takes a free one."""
    token_env: str | None = None
    """Name of the environment variable with the bearer token that clients must send."""
    open: bool = False
    """True = listen on other interfaces without a token. For networks that nobody else can reach."""
    max_request_mb: float = Field(default=64.0, gt=0)
    """Largest request body, in 10^6 bytes; a larger one is refused before it is read to its end."""
    max_items: int = Field(default=4096, ge=1)
    """Most rollouts in one request."""
    max_requests: int = Field(default=64, ge=1)
    """Requests under way at once; further ones are told to come back. A request counts once its body has arrived."""
    max_buffered_mb: float = Field(default=256.0, gt=0)
    """Bytes of bodies that are arriving at once, in 10^6; further ones are told to come back."""
    receive_timeout_s: float = Field(default=60.0, gt=0)
    """Limit in seconds for a body to arrive."""
    workers: int = Field(default=2, ge=1)
    """Of each function: worker processes if it is isolated, and requests scored at once."""
    timeout_s: float = Field(default=10.0, gt=0)
    """Wall-clock limit in seconds of one call of an isolated function."""
    start_timeout_s: float = Field(default=120.0, gt=0)
    """Wall-clock limit in seconds for importing a plugin in a worker."""

    @model_validator(mode="after")
    def _check(self) -> ServiceConfig:
        names = [function.name for function in self.functions]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"functions: two are named {', '.join(twice)}; give each a `component` name")
        if not (self.token_env or self.open or is_loopback(self.host)):
            raise ValueError(
                f"host {self.host}: other machines could use this service; set `token_env`, or `open: true`"
            )
        if self.token_env and not os.environ.get(self.token_env):
            raise ValueError(f"token_env: the environment variable '{self.token_env}' is not set")
        return self


def is_loopback(host: str) -> bool:
    """True for addresses that only this machine can reach."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name; where it leads is not known here
        return False


@dataclass(frozen=True)
class _Served:
    """A function with its own workers and places, so that one that hangs delays no other."""

    config: FunctionConfig
    runner: Runner
    pool: Pool
    timeout_s: float
    limiter: CapacityLimiter

    @property
    def signature(self) -> dict[str, Any]:
        """What clients must know, with what the configuration decides for the function."""
        found = asdict(self.runner.signature)
        groups, text = self.config.whole_groups, self.config.text
        found["whole_groups"] = found["whole_groups"] if groups is None else groups
        found["whole_text"] = found["whole_text"] if text is None else text == "full"
        return found

    def score(self, keyed: list[tuple[str, Item]]) -> bytes:
        """The answer to a request to score; failures are logged."""
        items = [item for _, item in keyed]
        groups = self.signature["whole_groups"]
        outcomes, metrics = score_items(self.runner, items, whole_groups=groups, timeout_s=self.timeout_s)
        for item, outcome in zip(items, outcomes, strict=True):
            if outcome.failure:
                kind, message = outcome.failure.kind, outcome.failure.message
                log.warning(
                    "reward '%s', row '%s': %s: %s", self.config.name, item.row.get("id"), kind, message
                )
        results = [wire.outcome_to_json(key, o) for (key, _), o in zip(keyed, outcomes, strict=True)]
        answer = {"function": self.config.name, "results": results, "metrics": metrics}
        return json.dumps(answer, default=repr).encode()

    def close(self) -> None:
        self.runner.close()
        self.pool.close()


def load_functions(config: ServiceConfig) -> dict[str, _Served]:
    """Every function by name, loaded; PluginError if one fails, and then none is left behind."""
    served: dict[str, _Served] = {}
    try:
        for function in config.functions:
            timeout_s = function.timeout_s or config.timeout_s
            pool = Pool(config.workers, config.start_timeout_s)
            try:
                runner = make_runner(function, Limits(timeout_s, *function.value_range), pool)
            except BaseException:
                pool.close()
                raise
            served[function.name] = _Served(
                function, runner, pool, timeout_s, CapacityLimiter(config.workers)
            )
    except BaseException:
        for one in served.values():
            one.close()
        raise
    return served


def create_app(config: ServiceConfig) -> FastAPI:
    """The service as an ASGI application. Loads every function first, so that it is ready when it answers."""
    served = load_functions(config)
    bodies = _Bodies(config)
    busy = _Busy(config.max_requests)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        for one in served.values():
            one.close()

    # No documentation pages: they load scripts from elsewhere, and the protocol is four calls.
    app = FastAPI(title="Onsight rewards", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    if config.token_env:
        app.middleware("http")(_needs_token(os.environ[config.token_env]))

    @app.get("/health")
    async def health() -> dict[str, Any]:
        return {"status": "ok", "protocol": wire.PROTOCOL, "functions": list(served), "busy": busy.count}

    @app.get("/functions")
    async def functions() -> dict[str, Any]:
        return {name: one.signature for name, one in served.items()}

    @app.post("/score")
    async def score(request: Request) -> Response:
        one, items = _question(await bodies.read(request), "items", served, config.max_items)
        keyed = [_understood(wire.item_from_json, item) for item in items]
        with busy.place():
            return await _run(one, one.score, keyed)

    @app.post("/check")
    async def check(request: Request) -> Response:
        one, rows = _question(await bodies.read(request), "rows", served, config.max_items)
        if not all(isinstance(row, dict) for row in rows):
            raise HTTPException(422, "rows: expected objects")

        def work(rows: list[dict[str, Any]]) -> bytes:
            return wire.dumps({"function": one.config.name, "problems": one.runner.check(rows)})

        with busy.place():
            return await _run(one, work, rows)

    return app


async def _run(one: _Served, work: Callable[[Any], bytes], argument: Any) -> Response:
    """The answer that `work` makes in a thread of the function's."""
    try:
        body = await to_thread.run_sync(work, argument, limiter=one.limiter)
    except RewardDataError as error:  # a row that cannot be handed to the function
        raise HTTPException(422, str(error)[:500]) from None
    return Response(body, media_type="application/json")


def _question(
    body: bytes, field: str, served: Mapping[str, _Served], max_items: int
) -> tuple[_Served, list[Any]]:
    """The function and the list that a request is about; HTTPException says what is wrong with it."""
    try:
        message = wire.loads_untrusted(body)
    except ValueError as error:
        raise HTTPException(400, f"expected JSON: {error}"[:500]) from None
    if not isinstance(message, dict) or not isinstance(message.get(field), list):
        raise HTTPException(422, f"expected an object with a list '{field}'")
    if len(message[field]) > max_items:
        raise HTTPException(413, f"{field}: expected at most {max_items}, got {len(message[field])}")
    name = message.get("function")
    if not isinstance(name, str):
        raise HTTPException(422, f"function: expected a string, got {type(name).__name__}")
    if name not in served:
        raise HTTPException(404, f"no function '{name[:100]}'; there are: {', '.join(served)}")
    return served[name], message[field]


def _understood(read: Callable[[Any], Any], found: Any) -> Any:
    try:
        return read(found)
    except ValueError as error:
        raise HTTPException(422, str(error)[:500]) from None


def _needs_token(token: str) -> Callable[[Request, Callable[[Request], Awaitable[Response]]], Any]:
    async def admit(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        given = request.headers.get("authorization", "")
        if not secrets.compare_digest(given.encode(), f"Bearer {token}".encode()):
            detail = json.dumps({"detail": "a bearer token is needed"})
            return Response(detail, 401, media_type="application/json")
        return await call_next(request)

    return admit


def serve(config: ServiceConfig) -> None:
    """Serve until the process is told to stop (SIGINT or SIGTERM; requests under way are finished)."""
    app = create_app(config)
    server = uvicorn.Server(
        uvicorn.Config(app, host=config.host, port=config.port, log_level="warning", access_log=False)
    )
    started = server.startup

    async def startup(sockets: Any = None) -> None:
        await started(sockets)
        host, port = server.servers[0].sockets[0].getsockname()[:2]
        names = ", ".join(function.name for function in config.functions)
        print(f"serving {names} on http://{host}:{port}", flush=True)

    server.startup = startup  # type: ignore[method-assign]
    server.run()


class _Busy:
    """Counts requests under way, up to a limit."""

    def __init__(self, limit: int) -> None:
        self.count, self._limit = 0, limit  # of one event loop, so no lock

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place for one request; 503 if all are taken."""
        if self.count >= self._limit:
            raise HTTPException(503, f"{self._limit} requests are under way", {"Retry-After": "1"})
        self.count += 1
        try:
            yield
        finally:
            self.count -= 1


class _Bodies:
    """Reads bodies of requests, within limits of size and time for each, and of memory for all that are arriving."""

    def __init__(self, config: ServiceConfig) -> None:
        self._largest = int(config.max_request_mb * 1e6)
        self._together = int(max(config.max_buffered_mb, config.max_request_mb) * 1e6)
        self._seconds = config.receive_timeout_s
        self._buffered = 0

    async def read(self, request: Request) -> bytes:
        """The body; refused as soon as it is known to be too large (413), late (408) or one too many (503)."""
        declared = request.headers.get("content-length", "0")
        if not declared.isdecimal() or len(declared) > 18 or int(declared) > self._largest:
            raise HTTPException(413, f"request: expected at most {self._largest} bytes, got {declared[:30]}")
        body = bytearray()
        try:
            with fail_after(self._seconds):
                async for part in request.stream():
                    body += part
                    self._buffered += len(part)
                    if len(body) > self._largest:
                        raise HTTPException(413, f"request: expected at most {self._largest} bytes, got more")
                    if self._buffered > self._together:
                        raise HTTPException(503, "too many bodies are arriving at once", {"Retry-After": "1"})
        except TimeoutError:
            raise HTTPException(408, f"the body did not arrive within {self._seconds:g} s") from None
        except ClientDisconnect:
            raise HTTPException(400, "the client went away") from None
        finally:
            self._buffered -= len(body)
        return bytes(body)
