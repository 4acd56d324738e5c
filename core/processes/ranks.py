"""Work done by one process of a run or split between all, and messages from the first."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object
from tqdm import tqdm

from core.errors import RunError

T = TypeVar("T")


def on_main(work: Callable[[], T]) -> T:
    """Do `work` in the main process alone; all get its result, or its error, so that none waits forever."""
    said: list[Any] = [None, None]
    if PartialState().is_main_process:
        try:
            said[0] = work()
        except Exception as error:  # noqa: BLE001 raised below, in every process
            said[1] = error
    broadcast_object_list(said)
    if said[1] is not None:
        raise said[1]
    result: T = said[0]
    return result


def shared_out(items: Sequence[T], work: Callable[[T], Any]) -> dict[T, Any]:
    """{item: work(item)} of all items, each worked on by one process; all get everything."""
    state = PartialState()
    mine = items[state.process_index :: state.num_processes]
    return dict(gather_object([(item, work(item)) for item in mine]))


def refuse_different(here: Mapping[str, str], advice: str) -> None:
    """RunError on all processes where they differ in what a name stands for; all must call it."""
    everyone = gather_object([dict(here)])
    for name in everyone[0]:
        values = sorted({str(one.get(name)) for one in everyone})
        if len(values) > 1:
            raise RunError(f"{name}: expected the same on all processes, got {', '.join(values)}; {advice}")


def say(text: str) -> None:
    """A line from the first process alone, above its progress bar; nothing where ONSIGHT_QUIET is 1."""
    if os.environ.get("RANK", "0") == "0" and os.environ.get("ONSIGHT_QUIET") != "1":
        tqdm.write(text)
