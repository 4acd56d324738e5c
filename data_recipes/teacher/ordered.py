"""Rows through asynchronous work, in order, with bounded look-ahead: what makes a generator of a pool of requests."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from concurrent.futures import Future
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(
    items: Iterable[Item],
    work: Callable[[Item], Coroutine[Any, Any, Result]],
    *,
    ahead: int,
    close: Callable[[], Awaitable[None]] | None = None,
) -> Iterator[Result]:
    """`work(item)` of every item, in the items' order, with at most `ahead` of them begun and not yet yielded.

    The work runs in an event loop of its own, in a thread; the items are drawn in the caller's. An exception of the work
    is raised at its item's turn. When the generator ends, is closed or fails, what is under way is cancelled and `close`
    awaited in the loop.
    """
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="requests", daemon=True)
    thread.start()
    pending: deque[Future[Result]] = deque()
    try:
        for item in items:
            pending.append(asyncio.run_coroutine_threadsafe(work(item), loop))
            if len(pending) >= ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        asyncio.run_coroutine_threadsafe(_finish(close), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _finish(close: Callable[[], Awaitable[None]] | None) -> None:
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    if close is not None:
        await close()
    await asyncio.get_running_loop().shutdown_default_executor()
