"""Worker process of the math pool: answers requests (`process.py`), imports only math-verify, and is up in half a second.

Messages are JSON. The first request is answered by {"ready": true} when everything is imported, then:

    in   {"gold": [latex, …], "predicted": [text, …], "seconds": limit of processor time}     first form that parses counts
    in   {"gold": […], "seconds": …}                                                            only parses the gold
    out  {"equal": bool, "gold_parses": bool, "predicted_parses": bool, "too_expensive": bool}

math-verify's own time-outs are off (they need the main thread and cannot interrupt native code). Instead the kernel ends this
process by SIGPROF when a request has taken its limit of processor time, so a loaded machine denies nobody.
"""

from __future__ import annotations

import json
import logging
import resource
import signal
import sys
from functools import lru_cache
from typing import Any

from rewards.serving.process import Answering

MEMORY_BYTES = 4 << 30


@lru_cache(maxsize=4096)
def parsed(text: str) -> tuple[Any, ...]:
    """What math-verify reads in a text: sympy expressions only, () if none. Kept, as a group shares its gold."""
    from math_verify import parse

    return tuple(item for item in parse(text, parsing_timeout=None) if not isinstance(item, str))


def first_parsed(forms: list[str]) -> tuple[Any, ...]:
    """The first of several ways to write an answer that parses."""
    for form in forms:
        found = parsed(form)
        if found:
            return found
    return ()


def close_enough(gold: Any, predicted: Any) -> bool:
    """False where math-verify's rounding to 6 decimals made two different (small) numbers equal."""
    try:
        a, b = complex(gold.doit()), complex(predicted.doit())
    except Exception:  # noqa: BLE001  not two numbers: math-verify's verdict stands
        return True
    # A percent may stand for its value or its number (28 % = 28 = 0.28), so factors of 100 are no difference here.
    return any(abs(a - b * factor) <= 1e-5 * abs(a) for factor in (1.0, 100.0, 0.01))


def answer(request: dict[str, Any]) -> dict[str, bool]:
    """Judge one request."""
    from math_verify import verify

    gold = first_parsed(request["gold"])
    if "predicted" not in request:
        return {"equal": False, "gold_parses": bool(gold), "predicted_parses": False}
    predicted = first_parsed(request["predicted"])
    equal = bool(gold) and bool(predicted) and verify(list(gold), list(predicted), timeout_seconds=None)
    if equal and len(gold) == len(predicted) == 1:
        equal = close_enough(gold[0], predicted[0])
    return {"equal": equal, "gold_parses": bool(gold), "predicted_parses": bool(predicted)}


def answer_safely(request: dict[str, Any]) -> dict[str, bool]:
    """Judge one request; what sympy raises on a model's text means 'not equal', and memory beyond the limit 'too expensive'."""
    nothing = {"equal": False, "gold_parses": False, "predicted_parses": False, "too_expensive": False}
    try:
        return nothing | answer(request)
    except MemoryError:
        parsed.cache_clear()
        return nothing | {"too_expensive": True}
    except Exception:  # noqa: BLE001  RecursionError, and whatever else sympy raises, is no crash
        return nothing


def main(socket_fd: int, dump_fd: int) -> None:
    """Serve until the socket closes (the parent closed the pool or died)."""
    parent = Answering(socket_fd)
    logging.disable(logging.CRITICAL)
    sys.setrecursionlimit(3000)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, resource.RLIM_INFINITY))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    import math_verify  # noqa: F401  the slow part of starting

    # The first parse of a process builds grammars and patterns: paid here, not by the first item's limit.
    answer({"gold": [r"$\frac{1}{2}$"], "predicted": [r"\boxed{0.5}", "1/2"]})
    parent.request()
    parent.answer(json.dumps({"ready": True}).encode())
    while (message := parent.request()) is not None:
        request = json.loads(message)
        signal.setitimer(signal.ITIMER_PROF, request["seconds"])
        reply = answer_safely(request)
        signal.setitimer(signal.ITIMER_PROF, 0)
        parent.answer(json.dumps(reply).encode())
