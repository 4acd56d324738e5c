"""Asking an endpoint: bounded concurrency, retries, what it costs, and a cache on disk so that no answer is paid twice.

Every answer is written to the cache as soon as it is there, under a hash of the whole request (model, messages, sampling,
number of the sample). A run that is killed loses what was under way and nothing else. All workers share the cache. It is
an SQLite file in the mode that needs no shared memory, so workers on several machines may share it where their common file
system has working locks.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_random

from data_recipes.teacher.endpoint import (
    Endpoint,
    EndpointError,
    MalformedReply,
    Reply,
    Usage,
    read_completion,
)

TURNED_DOWN = (
    400,
    413,
    422,
)  # this request will never be answered: too long, or against the provider's rules
MISCONFIGURED = (401, 403, 404)  # no request will be


class Client:
    """An endpoint with its cache. To be used inside one event loop; `close` there, too.

    counts gets, under `name/`: requests (sent), cached (answers found in the cache), tokens_prompt, tokens_completion
    and cost (paid now), cost_cached (what the cached answers had cost), failures.
    """

    def __init__(self, endpoint: Endpoint, folder: Path, counts: Counter[str], name: str = "teacher") -> None:
        from openai import AsyncOpenAI

        self.endpoint = endpoint
        self._counts = cast("dict[str, float]", counts)  # a Counter starts at 0 and holds floats as well
        self._name = name
        self._cache = open_cache(folder)
        self._openai = AsyncOpenAI(
            base_url=endpoint.base_url,
            api_key=endpoint.api_key(),
            timeout=endpoint.timeout_s,
            max_retries=endpoint.max_retries,
        )
        self._free = asyncio.Semaphore(endpoint.concurrency)
        self._failures = self._turned_down = 0  # requests in a row

    async def ask(
        self,
        messages: Sequence[Mapping[str, Any]],
        samples: Iterable[int] = (0,),
        fields: Mapping[str, Any] | None = None,
    ) -> list[Reply]:
        """One reply per sample number; the same question and number give the same reply for ever.

        fields: more fields of the request, beside those of the endpoint.

        A request that the endpoint turns down, or that fails for good, gives replies with a `problem`; they are not
        cached. Raises EndpointError where going on makes no sense.
        """
        samples = list(samples)
        body = {
            "model": self.endpoint.model,
            "messages": list(messages),
            **self.endpoint.body(),
            **(fields or {}),
        }
        keys = dict(zip(samples, await asyncio.to_thread(self._keys, body, samples), strict=True))
        cached = await asyncio.to_thread(self._look_up, keys)
        self._count("cached", len(cached))
        self._count("cost_cached", sum(cost for _, cost in cached.values()))
        replies = {sample: reply for sample, (reply, _) in cached.items()}
        if cached:
            self._failures = self._turned_down = 0
        missing = [sample for sample in samples if sample not in replies]
        chunks = _consecutive(missing, self.endpoint.n_per_request)
        for found in await asyncio.gather(*(self._request(body, chunk, keys) for chunk in chunks)):
            replies |= found
        return [replies[sample] for sample in samples]

    async def close(self) -> None:
        await self._openai.close()
        self._cache.close()

    def _keys(self, body: Mapping[str, Any], samples: Sequence[int]) -> list[str]:
        whole = {**body, "revision": self.endpoint.revision, "seed": self.endpoint.seed}
        if self.endpoint.thoughts == "keep":
            whole["thoughts"] = "keep"
        start = hashlib.sha256(json.dumps(whole, sort_keys=True).encode())
        keys = []
        for sample in samples:
            full = start.copy()
            full.update(f"/{sample}".encode())
            keys.append(full.hexdigest())
        return keys

    def _look_up(self, keys: Mapping[int, str]) -> dict[int, tuple[Reply, float]]:
        """(reply, what it had cost) of the samples in the cache."""
        found = {}
        for sample, key in keys.items():
            entry = self._cache.get(key, retry=True)
            if entry is not None:
                text, finish, cost = json.loads(entry)
                found[sample] = Reply(text, finish), cost
        return found

    async def _request(
        self, body: dict[str, Any], samples: list[int], keys: Mapping[int, str]
    ) -> dict[int, Reply]:
        """Ask for consecutive samples in one request and keep the answers."""
        body = body | ({"n": len(samples)} if len(samples) > 1 else {})
        if self.endpoint.seed is not None:
            body["seed"] = self.endpoint.seed + samples[0]
        async with self._free:
            replies, usage = await self._send(body, len(samples))
            if replies[0].problem is None:
                endpoint = self.endpoint
                cost = (
                    usage.prompt * endpoint.price_prompt + usage.completion * endpoint.price_completion
                ) / 1e6
                self._count("tokens_prompt", usage.prompt)
                self._count("tokens_completion", usage.completion)
                self._count("cost", cost)
                # before the next request is let through: what a kill can lose is never more than `concurrency`
                replies = await asyncio.to_thread(self._keep, [keys[s] for s in samples], replies, cost)
        return dict(zip(samples, replies, strict=True))

    async def _send(self, body: dict[str, Any], count: int) -> tuple[list[Reply], Usage]:
        import openai

        self._count("requests", 1)
        named = {name: body[name] for name in ("model", "messages")}
        rest = {name: value for name, value in body.items() if name not in named}
        problem: str
        cause: Exception
        try:
            raw = await self._openai.chat.completions.with_raw_response.create(**named, extra_body=rest)
            replies, usage = read_completion(raw.text, count, self.endpoint.thoughts == "keep")
        except openai.APIStatusError as error:
            cause, problem = error, f"status {error.status_code}: {error.message[:300]}"
            if error.status_code in MISCONFIGURED:
                raise EndpointError(f"endpoint {self.endpoint.base_url}: {problem}") from error
            if error.status_code in TURNED_DOWN:
                self._turned_down += 1
                if self._turned_down > self.endpoint.max_turned_down:
                    raise EndpointError(
                        f"endpoint {self.endpoint.base_url}: turned down {self._turned_down} requests in a row, more than"
                        f" max_turned_down = {self.endpoint.max_turned_down} allows. Last: {problem}"
                    ) from error
                return [Reply(None, "turned_down", f"turned down: {problem}")] * count, Usage()
        except (openai.APIError, MalformedReply, UnicodeDecodeError) as error:
            cause, problem = error, f"{type(error).__name__}: {str(error)[:300]}"
        else:
            self._failures = self._turned_down = 0
            return replies, usage
        self._count("failures", 1)
        self._failures += 1
        if self._failures > self.endpoint.max_failures:
            raise EndpointError(
                f"endpoint {self.endpoint.base_url}: {self._failures} requests in a row failed after all attempts, more"
                f" than max_failures = {self.endpoint.max_failures} allows. Last: {problem}"
            ) from cause
        return [Reply(None, "failed", f"failed: {problem}")] * count, Usage()

    def _keep(self, keys: Sequence[str], replies: Sequence[Reply], cost: float) -> list[Reply]:
        """Write the answers; the request's cost stands with the first of them. Returns what the cache now holds: the
        same request may have been answered a moment ago (equal rows), and a resumed run will find that answer."""
        for i, (key, reply) in enumerate(zip(keys, replies, strict=True)):
            self._cache.add(key, json.dumps([reply.text, reply.finish, 0.0 if i else cost]), retry=True)
        kept = self._look_up(dict(enumerate(keys)))
        return [kept[i][0] for i in range(len(keys))]

    def _count(self, what: str, amount: float) -> None:
        self._counts[f"{self._name}/{what}"] += amount


@retry(
    retry=retry_if_exception_type(sqlite3.OperationalError),
    wait=wait_random(0.05, 0.5),
    stop=stop_after_delay(300),
    reraise=True,
)
def open_cache(folder: Path, timeout: float = 60.0) -> Any:
    """The cache; opening writes to it, and the workers of a stage open it at the same moment ("database is locked").

    timeout: seconds that SQLite itself waits for a lock, where it waits.
    """
    import diskcache

    # By default diskcache throws entries away beyond 1 GB; these have been paid for.
    # Rollback journal and no memory map: the default (WAL) breaks where machines share a file system.
    return diskcache.Cache(
        str(folder),
        timeout,
        eviction_policy="none",
        size_limit=2**60,
        cull_limit=0,
        sqlite_journal_mode="delete",
        sqlite_mmap_size=0,
    )


def _consecutive(samples: Sequence[int], size: int) -> list[list[int]]:
    """Runs of consecutive numbers, of at most `size`: what one request with a seed and `n` can ask for."""
    runs: list[list[int]] = []
    for sample in sorted(samples):
        if runs and sample == runs[-1][-1] + 1 and len(runs[-1]) < size:
            runs[-1].append(sample)
        else:
            runs.append([sample])
    return runs
