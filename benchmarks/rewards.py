"""Speed of the rewards on one core: items per second of each built-in and of math-verify, and the delay by a hanging item.

    python -m benchmarks.rewards [--seconds 1.0] [--data FOLDER]

Each reward is called like in the router, one sample at a time, on the texts shown in the table (including parsing of the text
and the truth). Rates are per CPU second, so that other programs on the machine do not count. math-verify is measured on real
sampled answers (Qwen2.5-Math, 8 per prompt; FOLDER as in reward_agreement), including plain numbers, which the reward would
decide without it; workers of the pool cache parsed truths, since a group shares its truth. For comparison, math-verify's `parse`
and `verify` are called in this process without limit or isolation. The whole math reward (including its worker's time) is
measured on answers that never repeat and on the real ones, which do. The last line is JSON.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

if not __package__:  # run as a file: this folder, first on the path, would hide the package `rewards`
    sys.path[0] = str(Path(__file__).parents[1])

from rewards.functions.builtins import BUILTINS
from rewards.functions.math_answer import math_many
from rewards.mathematics.pool import MathPool, use_pool
from rewards.reading.text import last_boxed

GEOMETRY_TARGET = 20_000.0
MATH_TARGET = 200.0
DISTINCT = 400
PAIRS = "the reward, Math-Verify's distinct pairs"
DISTINCT_TARGET = 250.0

TRACE = "<SUMMARY>Count.</SUMMARY><CAPTION>Three red squares.</CAPTION><REASONING>1 + 1 + 1</REASONING><CONCLUSION>3</CONCLUSION>"
FENCED = '```json\n[{"bbox_2d": [12, 20.5, 55, 61], "label": "dog"}]\n```'
FIVE = [[x, 10.0, x + 40.0, 60.0] for x in (0.0, 50.0, 100.0, 150.0, 200.0)]

# name in the table -> (built-in, completion, answer, options)
CASES: dict[str, tuple[str, str, dict[str, Any], dict[str, Any]]] = {
    "giou, [x1, y1, x2, y2]": ("giou", "[12, 20.5, 55, 61]", {"boxes": [[10, 20, 50, 60]], "frame": "pixel"}, {}),
    "giou, fenced JSON": ("giou", FENCED, {"boxes": [[10, 20, 50, 60]], "frame": "pixel"}, {}),
    "giou, frames differ": ("giou", "[120, 205, 550, 610]", {"boxes": [[10, 20, 50, 60]], "frame": "pixel", "image_size": [100, 100]}, {"frame_out": "norm1000"}),
    "iou": ("iou", "[12, 20.5, 55, 61]", {"boxes": [[10, 20, 50, 60]], "frame": "pixel"}, {}),
    "box_set, 5 of 5 boxes": ("box_set", str([[x + 3 for x in box] for box in FIVE]), {"boxes": FIVE, "frame": "pixel"}, {}),
    "point_in_box": ("point_in_box", "(30, 30)", {"box": [10, 20, 50, 60], "frame": "pixel"}, {}),
    "point_distance": ("point_distance", "(30, 30)", {"point": [35, 31], "frame": "norm1000"}, {}),
    "temporal_iou": ("temporal_iou", "[00:01,00:03]", {"spans": [[1, 4]]}, {}),
    "temporal_iou, 3 spans": ("temporal_iou", "[00:01,00:03], [10, 12.5], [00:20,00:31]", {"spans": [[1, 4], [20, 30]]}, {}),
    "counting": ("counting", "There are 3 cats.", {"value": 3}, {}),
    "choice": ("choice", "The answer is (B).", {"letter": "B", "options": ["a cat", "a dog"]}, {}),
    "math, plain numbers": ("math", r"\boxed{4656}", {"value": "4,656"}, {}),
    "relaxed_numeric": ("relaxed_numeric", "12.6", {"value": "12.5"}, {}),
    "anls": ("anls", "Main Stret 12", {"values": ["Main Street 12"]}, {}),
    "exact_text": ("exact_text", "Main Street 12", {"value": "Main Street 12"}, {}),
    "stage_format": ("stage_format", TRACE, {}, {}),
    "repetition, 200 words": ("repetition", " ".join(map(str, range(200))), {}, {}),
}  # fmt: skip
GEOMETRY = [
    name
    for name, case in CASES.items()
    if case[0] in ("giou", "iou", "box_set", "point_in_box", "point_distance", "temporal_iou")
]


def rate(call: Callable[[], object], seconds: float) -> float:
    """Calls per CPU second of this process, best of three intervals."""
    best = 0.0
    for _ in range(3):
        calls, start = 0, time.process_time()
        while (spent := time.process_time() - start) < seconds / 3:
            for _ in range(100):
                call()
            calls += 100
        best = max(best, calls / spent)
    return best


def real_answers(data: Path) -> list[tuple[str, str]]:
    """(truth, sampled answer) of the real samples; answers to the same prompt often repeat."""
    pairs = []
    with (data / "rollouts_math8" / "math_cot.jsonl").open(encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            pairs += [(row["answer"], response) for response in row["response"]]
    return pairs


def distinct_pairs(data: Path) -> list[tuple[str, str]]:
    """(truth, answer) of Math-Verify's own test pairs, without repetitions."""
    with (data / "answer_equivalence" / "pairs.jsonl").open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    return list(dict.fromkeys((row["gold"], row["pred"]) for row in rows))


def real_math_items(data: Path) -> list[tuple[str, str]]:
    """The same as LaTeX for math-verify: (truth, content of the last box)."""
    boxed = ((truth, last_boxed(response)) for truth, response in real_answers(data))
    return [(f"${truth}$", rf"\boxed{{{content}}}") for truth, content in boxed if content is not None]


def distinct_answers(count: int) -> list[tuple[str, str]]:
    """`count` different pairs (truth, answer), four in five equivalent, of kinds that need computer algebra: fractions, roots,
    polynomials, functions, tuples and intervals of them, equations, quantities with units."""
    kinds = (
        lambda k: (rf"\frac{{{k}}}{{{k + 7}}}", rf"\boxed{{\frac{{{2 * k}}}{{{2 * k + 14}}}}}"),
        lambda k: (rf"{k}\sqrt{{{k + 1}}}", rf"\boxed{{\sqrt{{{k * k * (k + 1)}}}}}"),
        lambda k: (rf"(x+{k})^2", rf"\boxed{{x^2+{2 * k}x+{k * k}}}"),
        lambda k: (rf"\frac{{x+{k}}}{{x}}", rf"\boxed{{1+\frac{{{k}}}{{x}}}}"),
        lambda k: (rf"{k}\sin(2x)", rf"\boxed{{{2 * k}\sin(x)\cos(x)}}"),
        lambda k: (rf"\left({k}, \frac{{\pi}}{{{k + 2}}}\right)", rf"\boxed{{({k}, \pi/{k + 2})}}"),
        lambda k: (
            rf"\left[\sqrt{{{k + 2}}}, {k + 9}\right)",
            rf"\boxed{{\sqrt{{{k + 2}}} \le x < {k + 9}}}",
        ),
        lambda k: (rf"y={k}x+{k + 1}", rf"\boxed{{{k}x-y+{k + 1}=0}}"),
        lambda k: (rf"{k}\pi \text{{ cm}}^2", rf"\boxed{{{k}\pi}}"),
        lambda k: (
            rf"\frac{{{k}+\sqrt{{5}}}}{{2}}",
            rf"\boxed{{\frac{{{k}}}{{2}}+\frac{{\sqrt{{5}}}}{{2}}}}",
        ),
    )
    pairs = []
    for i in range(count):
        truth, answer = kinds[i % len(kinds)](i // len(kinds) + 1)
        pairs.append((truth, answer if i % 5 else answer.replace("}", " + 1}", 1)))
    return pairs


def cpu_seconds(pid: int) -> float:
    """CPU time that a process has used (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def reward_rate(pairs: list[tuple[str, str]]) -> float:
    """Answers per CPU second of the math reward and its one worker, in batches of 64, starting with an empty cache."""
    with MathPool(workers=1, seconds=30.0) as pool:
        use_pool(pool)
        math_many([r"\boxed{2\sin x\cos x}"], [{"value": r"\sin 2x"}], [{}])  # starts the worker
        pid = pool.pool._idle[0].child.process.pid
        start = time.process_time() + cpu_seconds(pid)
        for at in range(0, len(pairs), 64):
            batch = pairs[at : at + 64]
            math_many(
                [answer for _, answer in batch], [{"value": truth} for truth, _ in batch], [{}] * len(batch)
            )
        return len(pairs) / (time.process_time() + cpu_seconds(pid) - start)


def math_rates(data: Path) -> dict[str, float]:
    """Items per CPU second: through the pool (worker plus this process), and math-verify alone in this process."""
    import logging

    from math_verify import parse, verify

    logging.disable(logging.CRITICAL)
    items = real_math_items(data)
    result = {
        PAIRS: reward_rate(distinct_pairs(data)),
        f"the reward, {DISTINCT} distinct answers made to need math-verify": reward_rate(
            distinct_answers(DISTINCT)
        ),
        "the reward, real answers (they repeat)": reward_rate(real_answers(data)),
    }
    with MathPool(workers=1, seconds=30.0) as pool:
        for item in items[:8]:
            pool.compare(*item)  # the worker is up
        pid = pool.pool._idle[0].child.process.pid
        start = time.process_time() + cpu_seconds(pid)
        for item in items:
            pool.compare(*item)
        result["in the pool"] = len(items) / (time.process_time() + cpu_seconds(pid) - start)
    for gold, predicted in items[:8]:
        verify(
            parse(gold, parsing_timeout=None), parse(predicted, parsing_timeout=None), timeout_seconds=None
        )
    start = time.process_time()
    for gold, predicted in items:
        verify(
            parse(gold, parsing_timeout=None), parse(predicted, parsing_timeout=None), timeout_seconds=None
        )
    result["math-verify alone"] = len(items) / (time.process_time() - start)
    return result


def hung_item(limit: float = 3.0) -> dict[str, float]:
    """Seconds for 20 consecutive items, with and without a preceding item that never ends, at the default limit."""
    hung = (
        "$\\int_0^1 \\frac{x^{73}+e^{x^2}}{\\tan(x)} dx$",
        "$\\int_0^1 \\frac{x^{72}+e^{x^2}}{\\tan(x)} dx$",
    )
    honest = [(f"$\\frac{{{i}}}{{7}}$", f"\\boxed{{\\frac{{{i}}}{{7}}}}") for i in range(1, 21)]
    result = {"limit": limit}
    with MathPool(workers=1, seconds=limit) as pool:
        pool.compare_many(honest[:1])
        for name, items in (("without", honest), ("with", [hung, *honest])):
            start = time.perf_counter()
            outcomes = [pool.compare(*item) for item in items]
            result[name] = time.perf_counter() - start
            assert all(o.value == 1.0 for o in outcomes[-len(honest) :]), "an honest item was scored wrong"
        assert outcomes[0].failure and outcomes[0].failure.kind == "too_expensive", (
            "the item was meant to hang"
        )
        start = time.perf_counter()
        MathPool(workers=1, seconds=60.0).compare(*honest[0])
        result["worker start"] = time.perf_counter() - start
    return result


def main(argv: list[str] | None = None) -> int:
    """Print the tables; returns 1 if a target is missed."""
    default = Path(os.environ.get("ONSIGHT_SHARED", Path(__file__).parents[2] / "shared")) / "data"
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=1.0, help="CPU seconds per reward")
    parser.add_argument("--data", type=Path, default=default, help="folder of the real answers")
    options = parser.parse_args(argv)

    print("| reward | items/s, one core |\n|---|---:|")
    rates = {}
    for name, (short, completion, answer, kwargs) in CASES.items():
        module, function = BUILTINS[short].split(":")
        reward = getattr(importlib.import_module(module), function)
        rates[name] = rate(lambda: reward(completion, answer, **kwargs), options.seconds)  # noqa: B023  called at once
        print(f"| {name} | {rates[name]:,.0f} |")
    slowest = min(rates[name] for name in GEOMETRY)

    math: dict[str, float] = {}
    if options.data.is_dir():
        math = math_rates(options.data)
        print("\n| math answers | items/s, one core |\n|---|---:|")
        for name, value in math.items():
            print(f"| {name} | {value:,.0f} |")
    else:
        print(f"\n(no real answers at {options.data}: math-verify was not measured; set ONSIGHT_SHARED)")
    hung = hung_item()
    delay = hung["with"] - hung["without"]
    print(
        f"\nA hung item delays 20 others behind it, on the only worker, by {delay:.2f} s; its limit is {hung['limit']:.2f} s "
        f"(starting a worker takes {hung['worker start']:.2f} s, most of it while the item hangs)."
    )
    use_pool(MathPool())
    passed = slowest >= GEOMETRY_TARGET and (
        not math
        or (
            math["in the pool"] >= min(MATH_TARGET, math["math-verify alone"])
            and math[PAIRS] >= DISTINCT_TARGET
        )
    )
    print(json.dumps({"passed": passed, "geometry_slowest_per_s": slowest, "rates_per_s": rates, "math_per_s": math, "hung_item_s": hung,
                      "median_per_s": statistics.median(rates.values())}))  # fmt: skip
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
