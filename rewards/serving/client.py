"""Client of a reward service (`python -m rewards serve`): `{function: http, url: …, name: giou}`.

Scoring has no side effects, so requests can be repeated: refused or broken connections, time-outs and "busy" responses are
retried with growing, random pauses for `retry_for_s`. After that the rollouts fail with the reason and count like any other
failure; too many of them stop the run.
"""

from __future__ import annotations

import difflib
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import tenacity

from rewards.errors import PluginError
from rewards.serving import wire
from rewards.serving.items import Failure, Item, Metrics, Outcome

BUSY = (429, 502, 503, 504)  # statuses by which the service, or a proxy in front of it, asks to retry later


class Remote:
    """A reward function of a service. Thread-safe.

    url                 address of the service, e.g. http://10.0.0.7:8600
    name                name of the function there
    token_env           environment variable that holds the bearer token, if the service needs one
    batch_size          rollouts per request (a request that the service refuses as too large is split in two)
    connections         concurrent requests
    request_timeout_s   time limit for the response to one request; must exceed what scoring a batch takes
    connect_timeout_s   time limit for opening a connection
    retry_for_s         how long one batch is retried before its rollouts fail
    start_for_s         how long to wait for the service at the start
    """

    def __init__(
        self,
        url: str,
        name: str,
        *,
        token_env: str | None = None,
        batch_size: int = 64,
        connections: int = 4,
        request_timeout_s: float = 120.0,
        connect_timeout_s: float = 5.0,
        retry_for_s: float = 300.0,
        start_for_s: float = 60.0,
    ) -> None:
        if token_env and not os.environ.get(token_env):
            raise PluginError(f"reward service {url}: the environment variable '{token_env}' is not set")
        self.url, self.name = url, name
        self._batch_size, self._retry_for_s = batch_size, retry_for_s
        headers = {"Authorization": f"Bearer {os.environ[token_env]}"} if token_env else {}
        self._client = httpx.Client(
            base_url=url,
            headers={**headers, "Content-Type": "application/json"},
            timeout=httpx.Timeout(request_timeout_s, connect=connect_timeout_s, pool=None),
            limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
            trust_env=False,  # proxies configured for the internet do not lead to machines on the local network
        )
        self._threads = ThreadPoolExecutor(connections, thread_name_prefix="rewards-http")
        self._lock = threading.Lock()
        self.retries = 0  # requests that were repeated
        try:
            self.signature = self._find(start_for_s)
        except BaseException:
            self.close()
            raise

    def healthy(self) -> bool:
        """Whether the service responds (one attempt) and has the function."""
        try:
            answer = self._client.get("/health")
            return answer.status_code == 200 and self.name in answer.json()["functions"]
        except (httpx.TransportError, ValueError, KeyError, TypeError):
            return False

    def score(self, items: Sequence[Item]) -> tuple[list[Outcome], Metrics]:
        """Score items, with several batches in progress at once."""
        size = len(items) if self.signature.whole_groups else self._batch_size
        batches = [items[start : start + size] for start in range(0, len(items), size)]
        if len(batches) == 1:
            return self._score(items)
        outcomes: list[Outcome] = []
        metrics: Metrics = []
        for found, logged in self._threads.map(self._score, batches):
            outcomes += found
            metrics += logged
        return outcomes, metrics

    def check(self, rows: Sequence[dict[str, Any]]) -> list[str | None]:
        """What is wrong with each row's answer for the function, or None."""
        problems: list[str | None] = []
        for start in range(0, len(rows), self._batch_size):
            some = rows[start : start + self._batch_size]
            if self.signature.columns is not None:
                names = {"id", "answer", *self.signature.columns, *self.signature.required}
                names |= {"prompt"} if "prompts" in self.signature.wants else set()
                some = [{key: value for key, value in row.items() if key in names} for row in some]
            answer = self._ask("POST", "/check", {"function": self.name, "rows": some}, self._retry_for_s)
            if isinstance(answer, Failure):
                raise PluginError(f"reward service {self.url}: {answer.message}")
            problems += answer["problems"]
        return problems

    def close(self) -> None:
        """Close the connections."""
        self._threads.shutdown(wait=True)
        self._client.close()

    def _find(self, start_for_s: float) -> Any:
        found = self._ask("GET", "/functions", None, start_for_s)
        if isinstance(found, Failure):
            raise PluginError(f"reward service {self.url}: {found.message}")
        if self.name not in found:
            near = difflib.get_close_matches(self.name, found, 1)
            hint = f"; did you mean '{near[0]}'?" if near else f"; it has: {', '.join(sorted(found))}"
            raise PluginError(f"reward service {self.url}: has no function '{self.name}'{hint}")
        return wire.signature_from_json(found[self.name])

    def _score(self, items: Sequence[Item]) -> tuple[list[Outcome], Metrics]:
        keys = [str(index) for index in range(len(items))]
        sent = [wire.item_to_json(key, item, self.signature) for key, item in zip(keys, items, strict=True)]
        answer = self._ask("POST", "/score", {"function": self.name, "items": sent}, self._retry_for_s)
        too_large = isinstance(answer, Failure) and answer.message.startswith("413")
        if too_large and len(items) > 1 and not self.signature.whole_groups:
            half = len(items) // 2
            first, second = self._score(items[:half]), self._score(items[half:])
            return first[0] + second[0], first[1] + second[1]
        if isinstance(answer, Failure):
            return [Outcome(None, {}, answer)] * len(items), []
        try:
            if answer["function"] != self.name or [result["key"] for result in answer["results"]] != keys:
                raise ValueError("the response is for other rollouts")
            outcomes = [wire.outcome_from_json(result) for result in answer["results"]]
            return outcomes, [(str(name), float(value)) for name, value in answer["metrics"]]
        except (KeyError, TypeError, ValueError) as error:
            failure = Failure(
                "remote", f"unexpected response from {self.url}: {type(error).__name__}: {error}"
            )
            return [Outcome(None, {}, failure)] * len(items), []

    def _ask(self, method: str, path: str, message: Any, patience_s: float) -> Any:
        """The response to a request, retried while the service cannot be reached; a Failure if it refuses."""
        try:
            body = None if message is None else wire.dumps(message)
        except (TypeError, ValueError) as error:
            return Failure("remote", str(error))
        attempts = tenacity.Retrying(
            stop=tenacity.stop_after_delay(patience_s),
            wait=tenacity.wait_random_exponential(multiplier=0.1, max=5.0),
            retry=tenacity.retry_if_exception_type((httpx.TransportError, _Busy)),
            before_sleep=self._count,
            reraise=True,
        )
        try:
            return attempts(self._once, method, path, body)
        except (httpx.TransportError, _Busy) as error:
            why = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            return Failure("remote", f"no answer from {self.url} for {patience_s:g} s; last: {why}")
        except _Refused as error:
            return Failure("remote", str(error))

    def _once(self, method: str, path: str, body: bytes | None) -> Any:
        answer = self._client.request(method, path, content=body)
        if answer.status_code in BUSY:
            raise _Busy(f"status {answer.status_code}")
        if answer.status_code != 200:
            raise _Refused(f"{answer.status_code} from {self.url}{path}: {answer.text[:300]}")
        try:
            return wire.loads_untrusted(answer.content)
        except ValueError as error:  # truncated, or from something else: retry
            raise _Busy(f"not JSON: {error}") from None

    def _count(self, state: tenacity.RetryCallState) -> None:
        with self._lock:
            self.retries += 1


class _Busy(Exception):
    """The request should be retried later."""


class _Refused(Exception):
    """Retrying would not help."""
