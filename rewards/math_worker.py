"""Worker process of the math pool: reads requests on stdin, answers on stdout, imports only math-verify.

Started by path (see math_pool), so it imports neither this package nor anything of the trainer's and is up in a fraction of a
second. Protocol, both ways: 4 bytes big-endian length, then JSON. The first message out is {"ready": true}.

    in   {"gold": [latex, …], "predicted": [text, …], "seconds": wall-clock limit}     first form that parses counts
    in   {"gold": […], "seconds": …}                                                     only parses the gold
    out  {"equal": bool, "gold_parses": bool, "predicted_parses": bool}

math-verify's own time-outs are off (they need the main thread and cannot interrupt native code); instead the parent kills this
process, and should the parent be gone, an alarm with the default action does.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import signal
import struct
import sys
from functools import lru_cache
from typing import Any

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
    """Judge one request; an exception inside math-verify or sympy means 'not equal'."""
    from math_verify import verify

    gold = first_parsed(request["gold"])
    if "predicted" not in request:
        return {"equal": False, "gold_parses": bool(gold), "predicted_parses": False}
    predicted = first_parsed(request["predicted"])
    equal = bool(gold) and bool(predicted) and verify(list(gold), list(predicted), timeout_seconds=None)
    if equal and len(gold) == len(predicted) == 1:
        equal = close_enough(gold[0], predicted[0])
    return {"equal": equal, "gold_parses": bool(gold), "predicted_parses": bool(predicted)}


def main() -> None:
    """Serve until stdin closes (the parent closed the pool or died)."""
    stdin, stdout = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints must not get between the messages
    logging.disable(logging.CRITICAL)
    sys.setrecursionlimit(3000)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, resource.RLIM_INFINITY))
    import math_verify  # noqa: F401  the slow part of starting

    # The first parse of a process builds grammars and patterns: paid here, not by the first item's time limit.
    answer({"gold": [r"$\frac{1}{2}$"], "predicted": [r"\boxed{0.5}", "1/2"]})

    def send(message: dict[str, Any]) -> None:
        data = json.dumps(message).encode()
        stdout.write(struct.pack(">I", len(data)) + data)
        stdout.flush()

    send({"ready": True})
    while len(head := stdin.read(4)) == 4:
        request = json.loads(stdin.read(struct.unpack(">I", head)[0]))
        signal.alarm(int(request["seconds"]) + 10)
        try:
            reply = answer(request)
        except Exception:  # noqa: BLE001  whatever sympy raises on a model's text (RecursionError, MemoryError, …) is no crash
            reply = {"equal": False, "gold_parses": False, "predicted_parses": False}
        signal.alarm(0)
        send(reply)


if __name__ == "__main__":
    main()
