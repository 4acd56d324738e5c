"""The arena from its config to ratings: collect answers, judge every pair in both orders, rate, write."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from core.config import read_config
from core.errors import RunError
from core.files.jsonl import append, read
from core.rows import Row, read_rows
from data_recipes.teacher.client import Client
from data_recipes.teacher.endpoint import Endpoint, EndpointError
from data_recipes.teacher.messages import prompt_messages
from evaluation.arena.config import ArenaConfig
from evaluation.arena.judging import judge_all
from evaluation.arena.ratings import STYLE, Verdict, position_bias, ratings
from inference.conclusions import GRAMMARS, shown


def run(config: ArenaConfig, *, show: bool = True) -> dict[str, Any]:
    """Write `judgements.jsonl`, `arena.json` and `arena.md` to `config.output_dir`; returns what arena.json holds: `ratings`
    (`ratings.ratings`), `wins` {A: {B: mean win of A over B}}, `rows`, `position_bias`, `counts`.

    Raises RowError, ConfigError, RunError: what is wrong with rows, answers or endpoints.
    """
    rows = read_rows(config.rows, limit=config.limit)
    output = Path(config.output_dir)
    output.mkdir(parents=True, exist_ok=True)
    counts: Counter[str] = Counter()
    try:
        verdicts = asyncio.run(_verdicts(config, rows, output / "cache", counts))
    except EndpointError as error:
        raise RunError(str(error)) from None
    if not verdicts:
        raise RunError(f"arena: expected verdicts, got none that could be read of {counts['judged']}")
    names = list(config.contestants)
    found = {
        "rows": len(rows),
        "ratings": ratings(verdicts, names, resamples=config.resamples, seed=config.seed),
        "wins": _wins(verdicts, names),
        "position_bias": position_bias(verdicts),
        "counts": dict(counts),
    }
    judgements = output / "judgements.jsonl"
    judgements.unlink(missing_ok=True)
    append(judgements, (vars(one) for one in verdicts))
    (output / "arena.json").write_text(json.dumps(found, indent=2) + "\n")
    (output / "arena.md").write_text(markdown(found))
    if show:
        print(markdown(found), end="")
    return found


def markdown(found: Mapping[str, Any]) -> str:
    """Ratings, wins and what style is worth, as Markdown."""
    names = list(found["wins"])
    header = ["contestant", "Elo", "Elo, style controlled", *(f"wins over {name}" for name in names)]
    lines = [header, ["---", *["---:"] * (len(header) - 1)]]
    for name in sorted(names, key=lambda one: -found["ratings"]["plain"][one]["rating"]):
        wins = ["–" if (won := found["wins"][name].get(other)) is None else f"{won:.2f}" for other in names]
        columns = [_figure(found["ratings"][kind][name], "rating") for kind in ("plain", "style_controlled")]
        lines.append([name, *columns, *wins])
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    counts, weights = found["counts"], found["ratings"]["style"]
    style = ", ".join(f"{name} {_figure(weights[name], 'weight')}" for name in STYLE)
    return (
        f"{table}\n\nBradley-Terry ratings [95 % bootstrap interval over {found['rows']} rows], {counts['judged']} judgements, each pair"
        f" in both orders; {counts.get('unreadable', 0)} could not be read and are left out. The answer shown first won"
        f" {found['position_bias']:.2f}. One standard deviation of style is worth: {style}.\n"
    )


async def _verdicts(
    config: ArenaConfig, rows: Sequence[Row], cache: Path, counts: Counter[str]
) -> list[Verdict]:
    answers = {}
    for name, contestant in config.contestants.items():
        if contestant.endpoint is not None:
            found = await _asked(read_config(Endpoint, contestant.endpoint), rows, cache / name, counts, name)
        else:
            assert contestant.answers is not None  # the config asks for one of both
            found = _of_file(Path(contestant.answers), contestant.checkpoint or name)
        if missing := [row["id"] for row in rows if row["id"] not in found]:
            raise RunError(
                f"contestant {name!r}: expected an answer to each of {len(rows)} rows, got none to {len(missing)}, e.g. {missing[0]!r}"
            )
        answers[name] = {own: shown(text, GRAMMARS[config.grammar]) for own, text in found.items()}
    client = Client(read_config(Endpoint, config.judge), cache / "judge", counts, "judge")
    try:
        return await judge_all(rows, answers, client, counts)
    finally:
        await client.close()


async def _asked(
    endpoint: Endpoint, rows: Sequence[Row], cache: Path, counts: Counter[str], name: str
) -> dict[str, str]:
    """The answers of an endpoint; an empty one where it refused."""
    client = Client(endpoint, cache, counts, name)
    try:
        replies = await asyncio.gather(*(client.ask(prompt_messages(row, endpoint)) for row in rows))
    finally:
        await client.close()
    return {row["id"]: reply.text or "" for row, (reply,) in zip(rows, replies, strict=True)}


def _of_file(path: Path, checkpoint: str) -> dict[str, str]:
    """Greedy answers by row. Raises RunError that names file and line."""
    if not path.is_file():
        raise RunError(f"{path}: expected a file of answers, got no such file")
    found: dict[str, str] = {}
    try:
        for number, record in enumerate(read(path), 1):
            if record.get("checkpoint", checkpoint) != checkpoint or record.get("mode", "greedy") != "greedy":
                continue
            own, text = (
                record.get(a, record.get(b)) for a, b in (("row_id", "id"), ("completion", "response"))
            )
            if not isinstance(own, str) or not isinstance(text, str):
                raise RunError(f"{path}:{number}: expected id and response, got {', '.join(record)[:200]}")
            found[own] = text
    except ValueError as error:
        raise RunError(str(error)) from None
    return found


def _wins(verdicts: Sequence[Verdict], names: Sequence[str]) -> dict[str, dict[str, float]]:
    """Mean win of each over each other, over both orders."""
    wins: dict[str, dict[str, float]] = {name: {} for name in names}
    for a, b in combinations(names, 2):
        won = [v.won for v in verdicts if (v.first, v.second) == (a, b)]
        won += [1 - v.won for v in verdicts if (v.first, v.second) == (b, a)]
        if won:
            wins[a][b] = sum(won) / len(won)
            wins[b][a] = 1 - wins[a][b]
    return wins


def _figure(one: Mapping[str, Any], what: str) -> str:
    low, high = one["ci95"]
    return f"{one[what]:.0f} [{low:.0f}, {high:.0f}]"
