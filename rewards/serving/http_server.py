"""Runs an ASGI application as a service."""

from __future__ import annotations

from typing import Any

import uvicorn
from fastapi import FastAPI

from rewards.serving.service_config import HTTPConfig


def run_server(app: FastAPI, config: HTTPConfig, what: str) -> None:
    """Serve until SIGINT or SIGTERM; requests in progress are finished first. Prints `serving WHAT on URL` once it listens."""
    server = uvicorn.Server(
        uvicorn.Config(app, host=config.host, port=config.port, log_level="warning", access_log=False)
    )
    started = server.startup

    async def startup(sockets: Any = None) -> None:
        await started(sockets)
        host, port = server.servers[0].sockets[0].getsockname()[:2]
        print(f"serving {what} on http://{host}:{port}", flush=True)

    server.startup = startup  # type: ignore[method-assign]
    server.run()
