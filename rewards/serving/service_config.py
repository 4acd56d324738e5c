"""Settings of an HTTP service (`http_server.py`), and of the reward service (`service.py`)."""

from __future__ import annotations

import ipaddress
import os

from pydantic import ConfigDict, Field, model_validator

from core.config import Section
from rewards.config import FunctionConfig


class HTTPConfig(Section):
    """Where a service listens, who may use it, and the limits on requests. Common to all services of the project."""

    host: str = "127.0.0.1"
    """Interface to listen on. Anything other than loopback needs a token."""
    port: int = Field(default=8600, ge=0, le=65535)
    """Port to listen on; 0 takes a free one."""
    token_env: str | None = None
    """Name of the environment variable with the bearer token that clients must send."""
    open: bool = False
    """true: listen on other interfaces without a token. Only for networks that nobody else can reach."""
    max_request_mb: float = Field(default=64.0, gt=0)
    """Largest request body, in 10^6 bytes; a larger one is refused before it is read completely."""
    max_requests: int = Field(default=64, ge=1)
    """Maximum number of concurrent requests; others are refused as overload. A request counts once its body has arrived."""
    max_buffered_mb: float = Field(default=256.0, gt=0)
    """Maximum size of all bodies that are arriving, in 10^6 bytes; others are refused as overload."""
    receive_timeout_s: float = Field(default=60.0, gt=0)
    """Time limit in seconds for receiving a body."""

    @model_validator(mode="after")
    def _check_access(self) -> HTTPConfig:
        if not (self.token_env or self.open or is_loopback(self.host)):
            raise ValueError(
                f"host {self.host}: other machines could use this service; set `token_env`, or `open: true`"
            )
        if self.token_env and not os.environ.get(self.token_env):
            raise ValueError(f"token_env: the environment variable '{self.token_env}' is not set")
        return self


class _Functions(Section):
    functions: list[FunctionConfig] = Field(min_length=1)
    """Functions to serve, each under its `component` name or else its own. Clients set the weights."""


class ServiceConfig(HTTPConfig, _Functions):  # fields come in the order of the bases from the last one on
    """A reward service. Overload is answered with status 503."""

    model_config = ConfigDict(frozen=True)

    max_items: int = Field(default=4096, ge=1)
    """Maximum number of rollouts in one request."""
    workers: int = Field(default=2, ge=1)
    """Per function: worker processes if it is isolated, and requests scored at once."""
    timeout_s: float = Field(default=10.0, gt=0)
    """Time limit in seconds of one call of an isolated function."""
    start_timeout_s: float = Field(default=120.0, gt=0)
    """Time limit in seconds for starting a worker and importing a plugin in it."""

    @model_validator(mode="after")
    def _check(self) -> ServiceConfig:
        names = [function.name for function in self.functions]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"functions: two are named {', '.join(twice)}; give each a `component` name")
        return self


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a host name, which could be any machine
        return False
