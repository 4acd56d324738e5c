"""The stages of a recipe as its workers run them: read and change rows, decide between them, write the rest.

Row operations stream: each of the recipe's `tasks` takes its part of the records from reading to writing and holds one
row at a time. A set operation ends a stage, because it compares rows of all tasks: every task writes its rows with their
signatures, one process decides, and the next stage leaves out what was decided against.

    stage 0:  read, convert, check │ row operations │ sign     decide     stage 1: row operations │ sign     decide  …

Every file appears under its name only when it is whole, so a killed run goes on with the tasks it had not finished.
"""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any

from datatrove.pipeline.base import PipelineStep
from loguru import logger

from core.rows import Row
from data_recipes.bars import bar
from data_recipes.checks.accept import accept, media_roots
from data_recipes.checks.validate import make_check
from data_recipes.config import Recipe, Source
from data_recipes.files.inputs import note_media, noting, write_notes
from data_recipes.records import (
    Context,
    Record,
    Rejected,
    Removed,
    RowOperation,
    SetOperation,
    Several,
    SourceError,
)
from data_recipes.verdicts import Position, Verdicts

logger.disable("datatrove")  # its progress lines; ours say the same in fewer words

Placed = tuple[Position, Row]


@dataclass(frozen=True)
class Segment:
    """One stage: row operations (index in the recipe, name, operation, options), and the set operation that ends it."""

    number: int
    rows: tuple[tuple[int, str, RowOperation, Any], ...]
    ends: tuple[int, str, SetOperation, Any] | None


def segments(recipe: Recipe) -> list[Segment]:
    """The recipe's operations cut after every set operation; the last segment ends in the mixture (`ends` None)."""
    found: list[Segment] = []
    rows: list[tuple[int, str, RowOperation, Any]] = []
    for index, (name, operation, options) in enumerate(recipe.steps):
        if isinstance(operation, RowOperation):
            rows.append((index, name, operation, options))
        else:
            found.append(Segment(len(found), tuple(rows), (index, name, operation, options)))
            rows = []
    return [*found, Segment(len(found), tuple(rows), None)]


class Stage(PipelineStep):
    """A segment for datatrove: `run` does the work of one task (`rank`), and finds done what an earlier run did."""

    type = "rows"

    def __init__(self, recipe: Recipe, segment: Segment, work: Path, progress: bool = False):
        super().__init__()
        self.name = f"stage {segment.number}"
        self.recipe, self.segment, self.work, self.progress = recipe, segment, work, progress

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[Any]:
        folder = stage_folder(self.work, self.segment.number)
        counts: Counter[str] = Counter()
        with ExitStack() as files, noting() as notes:
            out = {name: files.enter_context(whole_file(folder / name / part(rank))) for name in PARTS}
            source: Iterator[Placed]
            if self.segment.number == 0:
                source = self._read(rank, world_size, out["rejected"], counts)
            else:
                source = self._kept(rank, out["removed"], counts)
            if self.progress:
                source = bar(source, self.name, unit=" rows")
            for position, row in self._operated(source, out["removed"], counts):
                try:
                    signature = self._signature(position, row)
                except ValueError as error:  # a row that the set operation cannot compare
                    name = self.segment.ends[1] if self.segment.ends else "ids"
                    note_removed(out["removed"], counts, name, Removed(row, "not_comparable", str(error)))
                    continue
                write_line(out["rows"], {"position": position, "row": row})
                write_line(out["signatures"], signature)
                counts["rows"] += 1
        if self.segment.number == 0:
            write_notes(seen_file(self.work, f"{rank:05d}"), notes)
        write_json(folder / "counts" / part(rank, "json"), dict(counts))
        yield from ()

    def _read(self, rank: int, tasks: int, rejected: IO[str], counts: Counter[str]) -> Iterator[Placed]:
        """This task's records as checked rows; records that cannot be rows go to `rejected`."""
        check = make_check(self.recipe.validation)
        for s, source in enumerate(self.recipe.sources):
            left_out: Counter[str] = Counter()
            roots = media_roots(source.path, getattr(source.typed_options, "media", None), source.root)
            for r, record in islice(enumerate(records_of(source)), rank, None, tasks):
                counts[f"records/{source.name}"] += 1
                good = 0
                for j, made in enumerate(rows_of(source, record)):
                    try:
                        row = checked(made, source, record, check, self.work, roots, left_out)
                    except Rejected as error:
                        counts[f"rejected/{source.name}"] += 1
                        reason = {
                            "source": source.name,
                            "origin": record.where,
                            "reason": str(error)[:MAX_REASON],
                        }
                        write_line(rejected, reason)
                    else:
                        good += 1
                        left_out.update(images_left_out(row))
                        yield (s, r, j), row
                counts[f"{'with' if good else 'without'}_rows/{source.name}"] += 1
            counts.update({f"left_out/{source.name}/{what}": n for what, n in left_out.items()})

    def _kept(self, rank: int, removed: IO[str], counts: Counter[str]) -> Iterator[Placed]:
        """Rows of the stage before that its set operation lets stay."""
        before = self.segment.number - 1
        with Verdicts.opened(verdicts_file(self.work, before)) as verdicts:
            for position, row in read_stage(self.work, before, rank):
                verdict = verdicts.of(position)
                if verdict is None:
                    yield position, row
                else:
                    note_removed(removed, counts, verdict.operation, Removed(row, *verdict.why))

    def _operated(self, rows: Iterator[Placed], removed: IO[str], counts: Counter[str]) -> Iterator[Placed]:
        """Rows after the segment's row operations, which keep their order; positions are matched up again afterwards."""
        for index, name, operation, options in self.segment.rows:
            folder = operation_folder(self.work, self.recipe, index)
            context = Context(folder, self.recipe.seed, media=media_store(self.work))
            rows = apply(operation, name, options, rows, context, removed, counts)
        return rows

    def _signature(self, position: Position, row: Row) -> dict[str, Any]:
        signed = {"position": position, "id": row["id"], "task": row["task"]}
        signed |= {"source": row["source"]["name"], "origin": row["origin"]}
        if self.segment.ends is not None:
            _, _, operation, options = self.segment.ends
            signed["data"] = operation.sign(row, options)
        return signed


MAX_REASON = 2000  # characters
PARTS = ("rows", "rejected", "removed", "signatures")


def records_of(source: Source) -> Iterator[Record]:
    """The source's records up to its limit. ValueError, naming the source, if its path is not what the format reads."""
    try:
        yield from islice(source.kind.read(source.path, source.typed_options), source.limit)
    except SourceError as error:
        raise ValueError(f"source '{source.name}': {error}") from None
    except OSError as error:
        raise ValueError(
            f"source '{source.name}': expected what the format '{source.format}' reads at {source.path}, got: {error.strerror}"
        ) from None


def rows_of(source: Source, record: Record) -> Iterator[Row | Rejected]:
    """What the source's reader makes of a record. ValueError, naming the source, if one of its options is wrong."""
    try:
        yield from source.kind.rows(record, source.typed_options)
    except SourceError as error:
        raise ValueError(f"source '{source.name}': {error}") from None


def checked(
    made: Row | Rejected,
    source: Source,
    record: Record,
    check: Callable[[Row], None],
    work: Path,
    roots: tuple[str, ...],
    left_out: Counter[str],
) -> Row:
    """The checked row, with where it comes from and an id that is unique over all sources."""
    if isinstance(made, Rejected):
        raise made
    folder = record.file.parent.resolve()
    note_media(made, folder)
    told = made.get("source") or {}
    told = told if isinstance(told, dict) else {"dataset": told}
    licence = {"licence": source.licence} if source.licence else {}
    row = made | {
        "id": f"{source.name}/{made['id']}",
        "origin": record.where,
        "source": {"name": source.name} | told | licence,
    }
    return accept(row, folder, check, roots=roots, store=media_store(work), left_out=left_out)


def images_left_out(row: Row) -> Iterator[str]:
    """ "image (rule)" for each image that a reader of documents left out, as it stands in the row's column `left_out`."""
    left = row.get("left_out")
    for entry in left if isinstance(left, list) and row.get("document") is not None else ():
        if isinstance(entry, dict) and isinstance(entry.get("rule"), str):
            yield f"image ({entry['rule']})"


def apply(
    operation: RowOperation,
    name: str,
    options: Any,
    rows: Iterator[Placed],
    context: Context,
    removed: IO[str],
    counts: Counter[str],
) -> Iterator[Placed]:
    """The operation over placed rows; what it removes is written down. Its counts join the stage's at the end."""
    waiting: deque[Position] = (
        deque()
    )  # of rows that went in and are not out: as many as the operation looks ahead

    def entering() -> Iterator[Row]:
        for position, row in rows:
            waiting.append(position)
            yield row

    for item in operation.apply(entering(), options, context):
        if not waiting:
            raise RuntimeError(f"operation '{name}' gave more rows than it was given")
        position = waiting.popleft()
        if isinstance(item, Removed):
            note_removed(removed, counts, name, item)
        elif operation.splits:
            yield from _spread(position, item.rows if isinstance(item, Several) else (item,))
        elif isinstance(item, Several):
            raise RuntimeError(f"operation '{name}' made {len(item.rows)} rows of one")
        else:
            yield position, item
    if waiting:
        raise RuntimeError(f"operation '{name}' lost {len(waiting)} rows")
    counts.update({f"{name}/{key}": value for key, value in context.counts.items()})


MOST_SPLIT = 4096
"""Rows that an operation may make of one."""


def _spread(position: Position, rows: Sequence[Row]) -> Iterator[Placed]:
    """The rows that were made of one, placed one after the other between its neighbours."""
    if len(rows) > MOST_SPLIT:
        raise ValueError(f"expected at most {MOST_SPLIT} rows of one, got {len(rows)}")
    source, record, row = position
    for number, made in enumerate(rows):
        yield (source, record, row * MOST_SPLIT + number), made


def note_removed(file: IO[str], counts: Counter[str], operation: str, item: Removed) -> None:
    counts[f"removed/{operation}/{item.rule}"] += 1
    line = {key: item.row.get(key) for key in ("id", "origin", "task")}
    line |= {"operation": operation, "rule": item.rule, "reason": item.reason}
    write_line(file, line | ({"kept": item.kept} if item.kept else {}))


# -------------------------------------------------------------------------------------------------------------- files


def stage_folder(work: Path, number: int) -> Path:
    return work / f"stage{number}"


def verdicts_file(work: Path, number: int) -> Path:
    """What the set operation at the end of a stage decided."""
    return stage_folder(work, number) / "verdicts.sqlite"


def media_store(work: Path) -> Path:
    """Where media are put that came as bytes or that an operation made; the output takes them from here."""
    return work.parent / "media"


def operation_folder(work: Path, recipe: Recipe, index: int) -> Path:
    """An operation's own folder; it outlives changes of the recipe, so that caches do."""
    name = recipe.steps[index][0]
    nth = [step[0] for step in recipe.steps[:index]].count(name)
    folder = work.parent / "cache" / (name if not nth else f"{name}-{nth + 1}")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def part(rank: int, suffix: str = "jsonl") -> str:
    return f"{rank:05d}.{suffix}"


def read_stage(work: Path, number: int, rank: int) -> Iterator[Placed]:
    """A task's rows after a stage."""
    with (stage_folder(work, number) / "rows" / part(rank)).open(encoding="utf-8") as file:
        for line in file:
            placed = json.loads(line)
            yield tuple(placed["position"]), placed["row"]


def seen_file(work: Path, name: str) -> Path:
    """The file that lists what a part of the work read besides the files that the recipe names. name: a task's number, or PART-NAME."""
    return work / "seen" / f"{name}.jsonl"


@contextmanager
def whole_file(path: Path) -> Iterator[IO[str]]:
    """A text file that gets its name when it is closed without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".part")
    with temporary.open("w", encoding="utf-8") as file:
        yield file
    temporary.replace(path)


def write_line(file: IO[str], value: Any) -> None:
    text = json.dumps(value, ensure_ascii=False)
    file.write(
        text.encode("utf-8", "backslashreplace").decode() + "\n"
    )  # rows have no half surrogate pairs, reasons may


def write_json(path: Path, value: Any) -> None:
    with whole_file(path) as file:
        file.write(json.dumps(value, ensure_ascii=False, indent=2, sort_keys=True) + "\n")


def read_counts(work: Path, number: int, tasks: int) -> Counter[str]:
    """Counts of a stage over all of its tasks."""
    total: Counter[str] = Counter()
    for rank in range(tasks):
        path = stage_folder(work, number) / "counts" / part(rank, "json")
        total.update(json.loads(path.read_text(encoding="utf-8")))
    return total
