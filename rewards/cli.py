"""The command line of the reward library.

python -m rewards list                                              functions that have a short name
python -m rewards check FUNCTION --rows FILE                        try a function on rows and hostile completions
python -m rewards score FUNCTION --rows FILE --completions FILE     score completions, one JSON line each
python -m rewards serve --function NAME …                           serve functions over HTTP
python -m rewards serve --config FILE.yaml
python -m rewards hacking FILE --verified NAME                      a run's rollouts.jsonl: is its reward model being hacked?

FUNCTION is a short name, `package.module:function` or `file.py:function`. --rows takes every file or folder that training
reads (docs/data_format.md); a row needs only its id and what the function reads. Completions are records
{"id": row id, "completion": text}, in the same kinds of files.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from core.config import read_config
from core.errors import RowError, UserError
from core.files.jsonl import read
from core.files.records import Unreadable, read_records
from core.rows import Row, check_id, read_rows
from core.text import short
from rewards.config import FunctionConfig
from rewards.errors import PluginError
from rewards.hacking import HackingConfig
from rewards.hacking_report import report
from rewards.serving.items import Item, Limits, Outcome
from rewards.serving.plugins import REWARDS
from rewards.serving.pool import Pool
from rewards.serving.runners import Runner, make_runner, score_items

ADVERSARIAL: tuple[str, ...] = (
    "\\boxed{}", "\\boxed{\\boxed{1}", "[nan, nan, nan, nan]", "[1e999, -1e999, 1, 1]", "[100, 100, 0, 0]", "[0, 0, 0, 0]",
    "[true, true, true, true]", "[[1, 2], [3]]", "[99:99,00:00]", "-1", "inf", "true", "null", "A B C D", "(" * 5_000,
    "9" * 20_000, "\\frac{" * 2_000, "9**9**9**9", "__import__('os').abort()", "<CONCLUSION>1</CONCLUSION>" * 50,
    "٣", "\x00\udcff\u202e", "x" * 200_000,
)  # fmt: skip
"""Texts that have broken reward functions: empty and nested markup, malformed numbers, bombs, code, odd characters."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command. Returns 0, 1 if the function or its rows have a problem, 2 if the command cannot be run."""
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
    except ValidationError as error:
        for problem in error.errors():
            print(f"error: {'.'.join(map(str, problem['loc']))}: {problem['msg']}", file=sys.stderr)
    return 2


def list_functions(arguments: argparse.Namespace) -> int:
    """Print every function that has a short name."""
    for found in REWARDS.available():
        ours = found.origin == "built-in"
        doc = (REWARDS.load(found.name).__doc__ or "").strip().partition("\n")[0] if ours else found.target
        print(f"{found.name:<18} {found.origin:<24} {doc}")
    return 0


def check(arguments: argparse.Namespace) -> int:
    """Run a function over rows with good, wrong, empty and adversarial completions; print a table."""
    rows = read_rows(arguments.rows, limit=arguments.limit, task=arguments.task, check=check_id)
    failures: list[tuple[str, Any, str, Outcome]] = []
    with _runner(arguments) as (config, runner):
        problems = [(row["id"], p) for row, p in zip(rows, runner.check(rows), strict=True) if p]
        print(f"{config.name}: {len(rows)} rows, {len(problems)} answers it cannot read")
        for name, problem in problems[:5]:
            print(f"  row '{name}': {problem}")
        bad = {name for name, _ in problems}
        rows = [row for row in rows if row["id"] not in bad]
        print(
            f"{'completions':<12} {'n':>6} {'min':>6} {'mean':>6} {'max':>6} {'none':>5} {'failed':>6} {'ms/item':>8}  failures"
        )
        for kind, pairs in _trials(rows).items():
            if not pairs:
                continue
            items = [Item(text, row, [], str(row["id"])) for row, text in pairs]
            start = time.perf_counter()
            outcomes = _score(config, runner, items, arguments.timeout)
            milliseconds = 1e3 * (time.perf_counter() - start) / len(items)
            values = [outcome.value for outcome in outcomes if outcome.value is not None]
            failed = [
                (kind, row["id"], text, o)
                for (row, text), o in zip(pairs, outcomes, strict=True)
                if o.failure
            ]
            failures += failed
            kinds = Counter(outcome.failure.kind for *_, outcome in failed if outcome.failure)
            span = (min(values), sum(values) / len(values), max(values)) if values else (float("nan"),) * 3
            print(
                f"{kind:<12} {len(items):>6} {span[0]:>6.3f} {span[1]:>6.3f} {span[2]:>6.3f} "
                f"{len(items) - len(values) - len(failed):>5} {len(failed):>6} {milliseconds:>8.3f}  "
                + ", ".join(f"{count} {name}" for name, count in kinds.items())
            )
    for kind, name, text, outcome in failures[:5]:
        assert outcome.failure
        print(
            f"  {kind}, row '{name}', completion {text[:40]!r}: {outcome.failure.kind}: {outcome.failure.message}"
        )
    if failures and failures[-1][3].failure and failures[-1][3].failure.traceback:
        print(failures[-1][3].failure.traceback)
    return 1 if failures or problems else 0


def score(arguments: argparse.Namespace) -> int:
    """Score completions: one JSON line each on stdout, a summary on stderr."""
    pairs = read_completions(arguments.completions, read_rows(arguments.rows, check=check_id))
    with _runner(arguments) as (config, runner):
        items = [Item(text, dict(row), None, str(row["id"])) for row, text in pairs]
        outcomes = _score(config, runner, items, arguments.timeout)
    for (row, _), outcome in zip(pairs, outcomes, strict=True):
        line: dict[str, Any] = {"id": row["id"], "value": outcome.value}
        if outcome.failure:
            line |= {"failure": outcome.failure.kind, "message": outcome.failure.message}
        print(json.dumps(line | ({"extra": outcome.extra} if outcome.extra else {}), default=repr))
    values = [outcome.value for outcome in outcomes if outcome.value is not None]
    failed = sum(outcome.failure is not None for outcome in outcomes)
    mean = f"{sum(values) / len(values):.4f}" if values else "none"
    print(f"{config.name}: {len(outcomes)} completions, mean {mean}, {failed} failed", file=sys.stderr)
    return 1 if failed else 0


def serve(arguments: argparse.Namespace) -> int:
    """Serve functions over HTTP until stopped."""
    from rewards.serving.service import serve as serve_forever
    from rewards.serving.service_config import ServiceConfig

    given = {"functions": arguments.function} | {
        name: getattr(arguments, name) for name in ("host", "port", "token_env", "workers", "timeout_s")
    }
    options = [f"{name}={json.dumps(value)}" for name, value in given.items() if value is not None]
    serve_forever(read_config(ServiceConfig, arguments.config, options))
    return 0


def read_completions(path: Path, rows: Sequence[Row]) -> list[tuple[Row, str]]:
    """(row, completion) of records {"id" or "row_id": …, "completion": …}, in the file's order; RowError if one is broken."""
    by_id = {row["id"]: row for row in rows}
    pairs = []
    for place, record, _ in read_records(path):
        if not isinstance(record, dict):
            expected = f"expected one JSON object, got {type(record).__name__}"
            raise RowError(f"{place}: {record if isinstance(record, Unreadable) else expected}")
        name = record.get("id", record.get("row_id"))
        if not isinstance(name, str) or name not in by_id:
            raise RowError(f"{place}: field 'id': expected the id of a row, got {short(name)}")
        text = record.get("completion")
        if not isinstance(text, str):
            raise RowError(f"{place}: field 'completion': expected a string, got {type(text).__name__}")
        pairs.append((by_id[name], text))
    if not pairs:
        raise RowError(f"{path}: expected at least one completion, got none")
    return pairs


@contextmanager
def _runner(arguments: argparse.Namespace) -> Iterator[tuple[FunctionConfig, Runner]]:
    options = dict(_option(text) for text in arguments.arg)
    config = FunctionConfig.model_validate(
        {"function": arguments.function, "style": arguments.style, **options}
    )
    pool = Pool(arguments.workers, 120.0)
    try:
        runner = make_runner(config, Limits(arguments.timeout, *config.value_range), pool)
        yield config, runner
        runner.close()
    finally:
        pool.close()


def _score(config: FunctionConfig, runner: Runner, items: list[Item], timeout_s: float) -> list[Outcome]:
    groups = runner.signature.whole_groups if config.whole_groups is None else config.whole_groups
    return score_items(runner, items, whole_groups=groups, timeout_s=timeout_s)[0]


def _option(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise PluginError(f"--arg: expected NAME=VALUE, got '{text}'")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def _trials(rows: list[dict[str, Any]]) -> dict[str, list[tuple[dict[str, Any], str]]]:
    """Completions to try, by kind: the trace's conclusion, the answer, those of the next row, and bad ones."""
    conclusions = [_conclusion(row) for row in rows]
    answers = [_written(row.get("answer")) for row in rows]
    shifted = [
        c or a for c, a in zip(conclusions[1:] + conclusions[:1], answers[1:] + answers[:1], strict=True)
    ]
    some = rows[:: max(1, len(rows) // 8)][:8]
    return {
        "trace": [(row, text) for row, text in zip(rows, conclusions, strict=True) if text],
        "answer": list(zip(rows, answers, strict=True)),
        "next row": list(zip(rows, shifted, strict=True)) if len(rows) > 1 else [],
        "empty": [(row, text) for row in some for text in ("", " \n")],
        "adversarial": [(row, text) for row in some for text in ADVERSARIAL],
    }


def _conclusion(row: dict[str, Any]) -> str | None:
    trace = row.get("trace")
    conclusion = trace.get("conclusion") if isinstance(trace, dict) else None
    return conclusion if isinstance(conclusion, str) else None


def _written(answer: Any) -> str:
    """The answer as a model might write it: its first value."""
    value = next(iter(answer.values()), "") if isinstance(answer, dict) else answer
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _count(text: str) -> int:
    if not (text.isdecimal() and 0 < int(text) < 10**6):
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got '{text}'")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number of seconds above 0, got '{text}'")
    return value


def hacking(arguments: argparse.Namespace) -> int:
    """Print proxy against verified reward by window of steps, and whether the stop rule would have stopped the run."""
    names = ("proxy", "verified", "tasks", "window", "max_drop", "max_length_ratio", "max_repetition")
    given = {name: getattr(arguments, name) for name in names}
    config = HackingConfig(**{name: value for name, value in given.items() if value is not None})
    try:
        for line in report(read(arguments.file), config):
            print(line)
    except (OSError, ValueError, KeyError, TypeError) as error:
        said = f"no field {error}" if isinstance(error, KeyError) else str(error)
        raise RowError(f"{arguments.file}: expected the rollouts of a GRPO run: {said}") from None
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m rewards", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    commands.add_parser("list", help="list functions that have a short name").set_defaults(run=list_functions)
    for name, run, says in (("check", check, "try a function"), ("score", score, "score completions")):
        command = commands.add_parser(name, help=says)
        command.add_argument("function", help="short name, package.module:function or file.py:function")
        command.add_argument("--rows", type=Path, required=True, help="file or folder of rows")
        command.add_argument(
            "--arg", action="append", default=[], metavar="NAME=VALUE", help="argument for the function"
        )
        command.add_argument("--style", default="auto", choices=["auto", "sample", "batch", "easyr1", "verl"])
        command.add_argument(
            "--timeout", type=_seconds, default=10.0, metavar="SECONDS", help="time limit of one call"
        )
        command.add_argument("--workers", type=_count, default=2, help="worker processes")
        command.set_defaults(run=run)
        if run is check:
            command.add_argument("--limit", type=_count, default=200, help="maximum number of rows")
            command.add_argument("--task", help="only rows of this task")
        else:
            command.add_argument(
                "--completions", type=Path, required=True, help="records with id and completion"
            )
    command = commands.add_parser("serve", help="serve functions over HTTP")
    command.add_argument("--config", type=Path, help="YAML file with the fields of ServiceConfig")
    command.add_argument("--function", action="append", help="function to serve; may be repeated")
    command.add_argument("--host", help="interface to listen on (127.0.0.1)")
    command.add_argument("--port", type=int, help="port (8600); 0 takes a free one")
    command.add_argument("--token-env", help="environment variable that holds the bearer token")
    command.add_argument("--workers", type=int, help="worker processes (2)")
    command.add_argument("--timeout-s", type=float, help="time limit of one call in seconds (10)")
    command.set_defaults(run=serve)
    command = commands.add_parser("hacking", help="look back at a run for reward hacking")
    command.add_argument("file", type=Path, help="rollouts.jsonl of a GRPO run")
    command.add_argument("--verified", required=True, help="component that is verifiable")
    command.add_argument("--proxy", help="component that may be hacked (reward_model)")
    command.add_argument(
        "--task", action="append", dest="tasks", help="only rollouts of this task; may be repeated"
    )
    command.add_argument("--window", type=_count, help="steps of a window (20)")
    for name in ("max-drop", "max-length-ratio", "max-repetition"):
        command.add_argument(
            f"--{name}", type=float, help="limit of the stop rule, as in checks.hacking of grpo.py"
        )
    command.set_defaults(run=hacking)
    return parser
