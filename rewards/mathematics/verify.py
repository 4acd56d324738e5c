"""math-verify's comparison as a reward function for a worker process (`pool.py` beside this file runs it).

math-verify's own time-outs are off: they need the main thread and cannot interrupt native code. The worker's limit of processor
time replaces them. Imports nothing but math-verify, so a worker is up in about half a second.
"""

from __future__ import annotations

import logging
import resource
import sys
from functools import lru_cache
from typing import Any

from rewards.serving.items import Failure

MEMORY_BYTES = 4 << 30


class Verify:
    """True if math-verify finds an answer equal to the truth; both are texts that it can parse, such as "$x$"."""

    def __init__(self) -> None:
        """Prepare the process: limits, and everything that is slow the first time."""
        logging.disable(logging.CRITICAL)
        sys.setrecursionlimit(3000)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, resource.RLIM_INFINITY))
        # The first parse builds grammars and patterns; done here, it does not count towards an item's limit.
        self(r"\boxed{0.5}", r"$\frac{1}{2}$")

    def __call__(self, completion: str, answer: str) -> dict[str, Any] | Failure:
        """Compare; the result also says whether the truth could be parsed."""
        try:
            return compare(answer, completion)
        except MemoryError:
            parsed.cache_clear()
            return Failure("too_expensive", f"needed more than {MEMORY_BYTES >> 30} GiB")
        except Exception:  # noqa: BLE001  what sympy raises on a model's text (RecursionError, …) means "not equal"
            return {"reward": False, "gold_parses": False}


@lru_cache(maxsize=4096)
def parsed(text: str) -> tuple[Any, ...]:
    """The sympy expressions that math-verify reads in a text. Cached, because a group shares its truth."""
    from math_verify import parse

    return tuple(item for item in parse(text, parsing_timeout=None) if not isinstance(item, str))


def compare(gold: str, predicted: str) -> dict[str, Any]:
    """{"reward": whether they are equal, "gold_parses"}."""
    from math_verify import verify

    truth, answer = parsed(gold), parsed(predicted)
    equal = bool(truth) and bool(answer) and verify(list(truth), list(answer), timeout_seconds=None)
    if equal and len(truth) == len(answer) == 1:
        equal = close_enough(truth[0], answer[0])
    return {"reward": equal, "gold_parses": bool(truth)}


def close_enough(gold: Any, predicted: Any) -> bool:
    """False where math-verify's rounding to 6 decimals made two different (small) numbers equal."""
    try:
        a, b = complex(gold.doit()), complex(predicted.doit())
    except Exception:  # noqa: BLE001  not two numbers: math-verify's result stands
        return True
    # A percentage may stand for its value or its number (28 % = 28 = 0.28), so factors of 100 are no difference here.
    return any(abs(a - b * factor) <= 1e-5 * abs(a) for factor in (1.0, 100.0, 0.01))
