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
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any

import uvicorn
from anyio import CapacityLimiter, to_thread
from fastapi import FastAPI, HTTPException, Request, Response
from pydantic import BaseModel, ConfigDict, Field, model_validator

from rewards import wire
from rewards.calls import Limits
from rewards.config import FunctionConfig
from rewards.isolation import Pool
from rewards.runners import Runner, make_runner, score_items

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
    """Requests accepted at once; further ones are told to come back."""
    workers: int = Field(default=2, ge=1)
    """Worker processes for isolated functions, and requests scored at once."""
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


def create_app(config: ServiceConfig) -> FastAPI:
    """The service as an ASGI application. Loads every function first, so that it is ready when it answers."""
    pool = Pool(config.workers, config.start_timeout_s)
    runners: dict[str, tuple[FunctionConfig, Runner]] = {}
    try:
        for function in config.functions:
            limits = Limits(function.timeout_s or config.timeout_s, *function.value_range)
            runners[function.name] = function, make_runner(function, limits, pool)
    except BaseException:
        pool.close()
        raise
    token = os.environ[config.token_env] if config.token_env else None
    busy = _Busy(config.max_requests)
    limiter = CapacityLimiter(config.workers)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        for _, runner in runners.values():
            runner.close()
        pool.close()

    # No documentation pages: they load scripts from elsewhere, and the protocol is four calls.
    app = FastAPI(title="Onsight rewards", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)

    @app.middleware("http")
    async def admit(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        given = request.headers.get("authorization", "")
        if token and not secrets.compare_digest(given.encode(), f"Bearer {token}".encode()):
            return _error(401, "a bearer token is needed")
        if request.url.path == "/health":
            return await call_next(request)
        if not busy.enter():
            return _error(503, f"{config.max_requests} requests are under way", {"Retry-After": "1"})
        try:
            return await call_next(request)
        finally:
            busy.leave()

    @app.get("/health")
    async def health() -> dict[str, Any]:
        return {"status": "ok", "protocol": wire.PROTOCOL, "functions": list(runners), "busy": busy.count}

    @app.get("/functions")
    async def functions() -> dict[str, Any]:
        return {name: _signature(function, runner) for name, (function, runner) in runners.items()}

    @app.post("/score")
    async def score(request: Request) -> Response:
        function, runner, items = await _message(request, "items")
        try:
            keyed = [wire.item_from_json(item) for item in items]
        except ValueError as error:
            raise HTTPException(422, str(error)) from None
        groups = _signature(function, runner)["whole_groups"]
        timeout_s = function.timeout_s or config.timeout_s

        def work() -> bytes:
            outcomes, metrics = score_items(
                runner, [item for _, item in keyed], whole_groups=groups, timeout_s=timeout_s
            )
            results = [wire.outcome_to_json(key, o) for (key, _), o in zip(keyed, outcomes, strict=True)]
            for (_, item), outcome in zip(keyed, outcomes, strict=True):
                if outcome.failure:
                    kind, message = outcome.failure.kind, outcome.failure.message
                    log.warning(
                        "reward '%s', row '%s': %s: %s", function.name, item.row.get("id"), kind, message
                    )
            answer = {"function": function.name, "results": results, "metrics": metrics}
            return json.dumps(answer, default=repr).encode()

        return _json(await to_thread.run_sync(work, limiter=limiter))

    @app.post("/check")
    async def check(request: Request) -> Response:
        function, runner, rows = await _message(request, "rows")
        if not all(isinstance(row, dict) for row in rows):
            raise HTTPException(422, "rows: expected objects")
        problems = await to_thread.run_sync(runner.check, rows, limiter=limiter)
        return _json(wire.dumps({"function": function.name, "problems": problems}))

    async def _message(request: Request, field: str) -> tuple[FunctionConfig, Runner, list[Any]]:
        body = await _read(request, int(config.max_request_mb * 1e6))
        try:
            message = wire.loads(body)
        except ValueError as error:
            raise HTTPException(400, f"expected JSON: {error}") from None
        if not isinstance(message, dict) or not isinstance(message.get(field), list):
            raise HTTPException(422, f"expected an object with a list '{field}'")
        if len(message[field]) > config.max_items:
            raise HTTPException(
                413, f"{field}: expected at most {config.max_items}, got {len(message[field])}"
            )
        name = message.get("function")
        if name not in runners:
            raise HTTPException(404, f"no function '{name}'; there are: {', '.join(runners)}")
        return *runners[name], message[field]

    return app


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
        self.count, self._limit, self._lock = 0, limit, threading.Lock()

    def enter(self) -> bool:
        with self._lock:
            if self.count >= self._limit:
                return False
            self.count += 1
            return True

    def leave(self) -> None:
        with self._lock:
            self.count -= 1


def _signature(function: FunctionConfig, runner: Runner) -> dict[str, Any]:
    """What clients must know, with what the configuration decides for the function."""
    found = asdict(runner.signature)
    found["whole_groups"] = found["whole_groups"] if function.whole_groups is None else function.whole_groups
    found["whole_text"] = found["whole_text"] if function.text is None else function.text == "full"
    return found


async def _read(request: Request, limit: int) -> bytes:
    """The body, refused as soon as it is known to be larger than `limit` bytes."""
    declared = request.headers.get("content-length", "0")
    if not declared.isdigit() or int(declared) > limit:
        raise HTTPException(413, f"request: expected at most {limit} bytes, got {declared}")
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > limit:
            raise HTTPException(413, f"request: expected at most {limit} bytes, got more")
    return bytes(body)


def _json(body: bytes) -> Response:
    return Response(body, media_type="application/json")


def _error(status: int, detail: str, headers: dict[str, str] | None = None) -> Response:
    return Response(json.dumps({"detail": detail}), status, headers, "application/json")
