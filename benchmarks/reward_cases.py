"""Rewards on hand-written cases: a possible answer of a model, the truth, and whether it should get the full reward.

    python -m benchmarks.reward_cases [FOLDER] [--wrong] [--reward NAME …] [--save FILE] [--against FILE]

FOLDER (default ../shared/cases beside the repository, or $ONSIGHT_SHARED/cases) contains `rewards.jsonl`: one case per line with
`reward` (a built-in's short name), `answer`, `completion`, `expected` (1: the reward must be 1; 0: it must be less), `kind`,
and optionally `row` (further columns). Prints the share decided as expected by reward and kind; the last line is JSON. `--wrong`
also lists every case decided otherwise. `--save` writes the result to a file; `--against` compares with a saved result and lists
the cases that were decided as expected there and are not now. Exit status 1 if the total share is below LIMIT.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rewards.functions.builtins import BUILTINS
from rewards.mathematics.pool import math_pool

LIMIT = 0.97
"""Least share of all cases that must be decided as expected; checked only when no reward is left out."""

Case = dict[str, Any]
Key = tuple[str, str]
"""(reward, kind) of a case."""


def read_cases(folder: Path, rewards: Sequence[str] = ()) -> list[Case]:
    """The cases of a folder; only those of `rewards` if any are named. ValueError for an invalid line."""
    path = folder / "rewards.jsonl"
    cases = []
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
        if not line.strip():
            continue
        case = json.loads(line)
        missing = {"reward", "answer", "completion", "expected", "kind"} - set(case)
        if missing or case["reward"] not in BUILTINS or case["expected"] not in (0, 1):
            raise ValueError(f"{path}, line {number}: expected a case of a built-in reward, got {line:.120}")
        cases.append(case)
    return [case for case in cases if not rewards or case["reward"] in rewards]


def decide(case: Case) -> float | str:
    """The reward of a case's completion, or why the truth was refused (which never counts as expected)."""
    module, function = BUILTINS[case["reward"]].split(":")
    reward = getattr(importlib.import_module(module), function)
    try:
        return float(reward(case["completion"], case["answer"], **case.get("row", {})))
    except ValueError as error:
        return f"truth refused: {error}"


def wrong_cases(cases: Sequence[Case]) -> list[Case]:
    """The cases decided otherwise than expected, each with the reward in `got`."""
    wrong = []
    for case in cases:
        got = decide(case)
        if isinstance(got, str) or (got == 1.0) != bool(case["expected"]):
            wrong.append({**case, "got": got})
    return wrong


def print_table(counts: Counter[Key], wrong: Counter[Key], before: Counter[Key] | None) -> None:
    """Print the shares decided as expected as a Markdown table, by reward and kind, with each reward's total."""
    print(f"| reward | kind | cases | as expected | share |{' before |' if before is not None else ''}")
    print(f"|---|---|---:|---:|---:|{'---:|' if before is not None else ''}")

    def line(reward: str, kind: str, keys: Sequence[Key]) -> None:
        n, bad = sum(counts[key] for key in keys), sum(wrong[key] for key in keys)
        then = f" {_percent(n - sum(before[key] for key in keys), n)} |" if before is not None else ""
        print(f"| {reward} | {kind} | {n} | {n - bad} | {_percent(n - bad, n)} |{then}")

    for reward in dict.fromkeys(reward for reward, _ in counts):
        keys = [key for key in counts if key[0] == reward]
        for key in keys if len(keys) > 1 else []:
            line(*key, [key])
        line(reward, "all", keys)
    line("all", "all", list(counts))


def main(argv: list[str] | None = None) -> int:
    """Run the cases and print the table; returns 1 if fewer than LIMIT are decided as expected."""
    default = Path(os.environ.get("ONSIGHT_SHARED", Path(__file__).parents[2] / "shared")) / "cases"
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=default, help="folder of rewards.jsonl")
    parser.add_argument("--wrong", action="store_true", help="list the cases decided otherwise than expected")
    parser.add_argument("--reward", nargs="+", default=[], choices=sorted(BUILTINS), metavar="NAME")
    parser.add_argument("--save", type=Path, metavar="FILE", help="write the cases decided otherwise")
    parser.add_argument("--against", type=Path, metavar="FILE", help="compare with a saved result")
    arguments = parser.parse_args(argv)
    if not (arguments.folder / "rewards.jsonl").is_file():
        parser.error(f"FOLDER: no rewards.jsonl in {arguments.folder}")
    cases = read_cases(arguments.folder, arguments.reward)
    if not cases:
        parser.error("no case of these rewards")
    wrong = wrong_cases(cases)
    math_pool().close()
    before = json.loads(arguments.against.read_text(encoding="utf-8")) if arguments.against else None
    print_table(
        Counter(map(_key, cases)),
        Counter(map(_key, wrong)),
        None if before is None else Counter(_key(case) for case in before if _text(case) in _texts(cases)),
    )
    if arguments.wrong:
        print("\nDecided otherwise than expected:")
        for case in wrong:
            print(f"  {_text(case)} got {case['got']}")
    if before is not None:
        lost = [case for case in wrong if _text(case) not in _texts(before)]
        print(f"\n{len(lost)} cases were decided as expected before and are not now")
        for case in lost:
            print(f"  {_text(case)} got {case['got']}")
    if arguments.save:
        arguments.save.write_text(json.dumps(wrong, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    share = 1.0 - len(wrong) / len(cases)
    print("\n" + json.dumps({"cases": len(cases), "as_expected": len(cases) - len(wrong), "share": share}))
    return 0 if arguments.reward or share >= LIMIT else 1


def _key(case: Case) -> Key:
    return case["reward"], case["kind"]


def _text(case: Case) -> str:
    return json.dumps({name: value for name, value in case.items() if name != "got"}, ensure_ascii=False)


def _texts(cases: Sequence[Case]) -> set[str]:
    return {_text(case) for case in cases}


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %"


if __name__ == "__main__":
    sys.exit(main())
