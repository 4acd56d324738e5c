"""Limits on the HTTP requests of a service: how many, how large, how slow, and from whom."""

from __future__ import annotations

import json
import secrets
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from anyio import fail_after
from fastapi import HTTPException, Request, Response
from starlette.requests import ClientDisconnect

from rewards.serving.service_config import HTTPConfig


class Places:
    """Counts requests in progress, up to a limit. Used on one event loop, so there is no lock."""

    def __init__(self, limit: int, *, status: int = 503) -> None:
        self.taken, self._limit, self._status = 0, limit, status

    @contextmanager
    def take(self) -> Iterator[None]:
        """Hold a place for one request; raises `status` if all are taken."""
        if self.taken >= self._limit:
            raise HTTPException(self._status, f"{self._limit} requests are in progress", {"Retry-After": "1"})
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1


class Bodies:
    """Reads request bodies, with limits on the size and time of each and on the memory of all that are arriving."""

    def __init__(self, config: HTTPConfig, *, status: int = 503) -> None:
        self._overload = status
        self._largest = int(config.max_request_mb * 1e6)
        self._together = int(max(config.max_buffered_mb, config.max_request_mb) * 1e6)
        self._seconds = config.receive_timeout_s
        self._buffered = 0

    async def read(self, request: Request) -> bytes:
        """The body. Refused as soon as it is known to be too large (413), late (408) or one too many (503)."""
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
                        raise HTTPException(
                            self._overload, "too many bodies are arriving at once", {"Retry-After": "1"}
                        )
        except TimeoutError:
            raise HTTPException(408, f"the body did not arrive within {self._seconds:g} s") from None
        except ClientDisconnect:
            raise HTTPException(400, "the client went away") from None
        finally:
            self._buffered -= len(body)
        return bytes(body)


def token_check(token: str) -> Callable[[Request, Callable[[Request], Awaitable[Response]]], Any]:
    """Middleware that refuses requests without the bearer token (401)."""

    async def admit(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        given = request.headers.get("authorization", "")
        if not secrets.compare_digest(given.encode(), f"Bearer {token}".encode()):
            detail = json.dumps({"detail": "a bearer token is needed"})
            return Response(detail, 401, media_type="application/json")
        return await call_next(request)

    return admit
