"""The reward service: reward functions over HTTP, for rewards that need other machines, GPUs or packages.

    python -m rewards serve --function giou --function judge.py:helpful --port 8600

The functions run as they do in a trainer: plugins in worker processes with a time limit, built-ins in process. It listens on the
loopback interface unless told otherwise, and on other interfaces only with a bearer token. `wire.py` describes the protocol.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, FastAPI, HTTPException, Request, Response

from rewards.config import FunctionConfig
from rewards.errors import RewardDataError
from rewards.serving import wire
from rewards.serving.http_limits import Bodies, Places, token_check
from rewards.serving.http_server import run_server
from rewards.serving.items import Item, Limits
from rewards.serving.pool import Pool
from rewards.serving.runners import Runner, make_runner, score_items
from rewards.serving.service_config import ServiceConfig

log = logging.getLogger("rewards")


@dataclass(frozen=True)
class _Served:
    """A function with its own workers and threads, so that one that hangs does not delay the others."""

    config: FunctionConfig
    runner: Runner
    pool: Pool
    timeout_s: float
    limiter: CapacityLimiter

    @property
    def signature(self) -> dict[str, Any]:
        """The function's signature for clients, with the settings of the configuration applied."""
        found = asdict(self.runner.signature)
        groups, text = self.config.whole_groups, self.config.text
        found["whole_groups"] = found["whole_groups"] if groups is None else groups
        found["whole_text"] = found["whole_text"] if text is None else text == "full"
        return found

    def score(self, keyed: list[tuple[str, Item]]) -> bytes:
        """The response to /score. Logs failures."""
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

    def check(self, rows: list[dict[str, Any]]) -> bytes:
        """The response to /check."""
        return wire.dumps({"function": self.config.name, "problems": self.runner.check(rows)})

    def close(self) -> None:
        self.runner.close()
        self.pool.close()


def load_functions(config: ServiceConfig) -> dict[str, _Served]:
    """Load every function. Raises PluginError if one cannot be loaded, after closing the others."""
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

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        for one in served.values():
            one.close()

    # No documentation pages: they load scripts from elsewhere, and the protocol is four calls.
    app = FastAPI(title="Onsight rewards", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    if config.token_env:
        app.middleware("http")(token_check(os.environ[config.token_env]))
    app.include_router(_routes(config, served))
    return app


def _routes(config: ServiceConfig, served: Mapping[str, _Served]) -> APIRouter:
    """The four calls of the protocol."""
    routes = APIRouter()
    bodies = Bodies(config)
    places = Places(config.max_requests)

    @routes.get("/health")
    async def health() -> dict[str, Any]:
        return {"status": "ok", "protocol": wire.PROTOCOL, "functions": list(served), "busy": places.taken}

    @routes.get("/functions")
    async def functions() -> dict[str, Any]:
        return {name: one.signature for name, one in served.items()}

    @routes.post("/score")
    async def score(request: Request) -> Response:
        one, items = _question(await bodies.read(request), "items", served, config.max_items)
        try:
            keyed = [wire.item_from_json(item) for item in items]
        except ValueError as error:
            raise HTTPException(422, str(error)[:500]) from None
        with places.take():
            return await _run(one, one.score, keyed)

    @routes.post("/check")
    async def check(request: Request) -> Response:
        one, rows = _question(await bodies.read(request), "rows", served, config.max_items)
        if not all(isinstance(row, dict) for row in rows):
            raise HTTPException(422, "rows: expected objects")
        with places.take():
            return await _run(one, one.check, rows)

    return routes


async def _run(one: _Served, work: Callable[[Any], bytes], argument: Any) -> Response:
    """The response that `work` makes of `argument`, in one of the function's threads."""
    try:
        body = await to_thread.run_sync(work, argument, limiter=one.limiter)
    except RewardDataError as error:  # a row that cannot be sent to a worker
        raise HTTPException(422, str(error)[:500]) from None
    return Response(body, media_type="application/json")


def _question(
    body: bytes, field: str, served: Mapping[str, _Served], max_items: int
) -> tuple[_Served, list[Any]]:
    """The function and the list in a request. Raises HTTPException saying what is wrong with it."""
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


def serve(config: ServiceConfig) -> None:
    """Serve until SIGINT or SIGTERM; requests in progress are finished first."""
    names = ", ".join(function.name for function in config.functions)
    run_server(create_app(config), config, names)
