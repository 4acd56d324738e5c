"""The last stage: rows that stay are written as shards, with their media, and counted for the data card."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from datatrove.pipeline.base import PipelineStep

from core.rows import Row, write_rows
from data_recipes.bars import bar
from data_recipes.config import Output, Recipe
from data_recipes.files.inputs import note_media, noting, write_notes
from data_recipes.files.media_store import copy_media
from data_recipes.files.parquet import encode, spool_rows, types_from_json, types_to_json, unify
from data_recipes.records import Removed
from data_recipes.stages import (
    media_store,
    note_removed,
    part,
    read_stage,
    seen_file,
    stage_folder,
    verdicts_file,
    whole_file,
    write_json,
)
from data_recipes.verdicts import Verdicts
from vlm.media import image_size

SHARD = "rows-{rank:05d}-of-{tasks:05d}.{suffix}"


class WriteOutput(PipelineStep):
    """Writes one shard: `run` does the work of one task (`rank`)."""

    type = "rows"
    name = "output"

    def __init__(self, recipe: Recipe, last: int, work: Path, progress: bool = False):
        super().__init__()
        self.recipe, self.last, self.work, self.progress = recipe, last, work, progress

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[Any]:
        output = self.recipe.output
        counts: Counter[str] = Counter()
        count = _counter(output, counts)
        folder = stage_folder(self.work, self.last + 1)
        with noting() as notes, whole_file(folder / "removed" / part(rank)) as removed:

            def rows() -> Iterator[Row]:
                kept = self._kept(rank, removed, counts)
                for row in bar(kept, "output", unit=" rows", disable=not self.progress):
                    count(row)
                    yield row

            if output.format == "jsonl":
                write_rows(rows(), task_file(self.recipe.output_dir, rank, world_size))
            else:
                spool = spool_file(self.work, self.last, rank)
                spool.parent.mkdir(parents=True, exist_ok=True)
                write_json(spool.with_suffix(".types.json"), types_to_json(spool_rows(rows(), spool)))
        write_notes(seen_file(self.work, f"output-{rank:05d}"), notes)
        write_json(folder / "counts" / part(rank, "json"), dict(counts))
        yield from ()

    def _kept(self, rank: int, removed: Any, counts: Counter[str]) -> Iterator[Row]:
        """The task's rows, each as often as the mixture says, with their media where they will stay."""
        copies_made: dict[str, str] = {}
        media = self.recipe.output_dir / "media"
        store = media_store(self.work)  # what came as bytes has no other place to stay
        with Verdicts.opened(verdicts_file(self.work, self.last)) as verdicts:
            for position, row in read_stage(self.work, self.last, rank):
                verdict = verdicts.of(position)
                if verdict is not None and verdict.copies == 0:
                    note_removed(removed, counts, verdict.operation, Removed(row, *verdict.why))
                    continue
                inside = any(store in Path(p).parents for p in media_paths(row))
                if self.recipe.output.media == "copy" or (inside and self.recipe.output.media == "reference"):
                    row = copy_media(row, media, copies_made)
                    note_media(row, media)
                for n in range(1, (verdict.copies if verdict else 1) + 1):
                    yield row if n == 1 else row | {"id": f"{row['id']}#{n}"}


MIN_ROWS = 1000
"""Fewest rows of a JSONL file of the output, if there are as many: readers that tell the columns' types by the first file
(`datasets`) need to see rows of all kinds in it."""


def task_file(out: Path, rank: int, tasks: int) -> Path:
    """A task's rows as JSONL, until they are joined to files of the output."""
    return out / (SHARD.format(rank=rank, tasks=tasks, suffix="jsonl") + ".task")


def rows_written(work: Path, number: int, rank: int) -> int:
    """Rows of a task's part of the output."""
    counts = json.loads(
        (stage_folder(work, number) / "counts" / part(rank, "json")).read_text(encoding="utf-8")
    )
    return sum(n for key, n in counts.items() if key.startswith("output/"))


def join_tasks(out: Path, rows: list[int]) -> list[str]:
    """Make files of the output of the tasks' files, of at least MIN_ROWS rows each; returns their names.

    rows: of each task. May be called again after it was interrupted.
    """
    groups: list[list[int]] = []
    gathered = MIN_ROWS
    for rank, count in enumerate(rows):
        if gathered >= MIN_ROWS and sum(rows[rank:]) >= min(MIN_ROWS, sum(rows)):
            groups.append([])
            gathered = 0
        if count:
            groups[-1].append(rank)
            gathered += count
    groups = [group for group in groups if group]
    names = [SHARD.format(rank=i, tasks=len(groups), suffix="jsonl") for i in range(len(groups))]
    for name, group in zip(names, groups, strict=True):
        parts = [task_file(out, rank, len(rows)) for rank in group]
        if not all(path.is_file() for path in parts):
            continue  # joined before the interruption
        with whole_file(out / name) as file:
            for path in parts:
                with path.open(encoding="utf-8") as lines:
                    shutil.copyfileobj(lines, file)
        for path in parts:
            path.unlink()
    return names


def spool_file(work: Path, last: int, rank: int) -> Path:
    return stage_folder(work, last + 1) / "spool" / part(rank)


class WriteParquet(PipelineStep):
    """Encodes what `WriteOutput` spooled, now that the types of all shards' columns are known."""

    type = "rows"
    name = "parquet"

    def __init__(self, recipe: Recipe, last: int, work: Path):
        super().__init__()
        self.recipe, self.last, self.work = recipe, last, work

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[Any]:
        spools = [spool_file(self.work, self.last, r) for r in range(world_size)]
        found = (json.loads(s.with_suffix(".types.json").read_text(encoding="utf-8")) for s in spools)
        output = self.recipe.output
        path = self.recipe.output_dir / SHARD.format(rank=rank, tasks=world_size, suffix="parquet")
        path.unlink(missing_ok=True)
        if spools[rank].stat().st_size:  # else it would have no columns, and readers fall over it
            path.parent.mkdir(parents=True, exist_ok=True)
            encode(spools[rank], unify(map(types_from_json, found)), path, embed=output.media == "embed")
        yield from ()


def media_paths(row: Row) -> list[str]:
    """Paths of all images and videos of a row."""
    media = [*row["images"], *row["videos"]]
    return [medium["path"] if isinstance(medium, dict) else medium for medium in media]


# ------------------------------------------------------------------------------------------------------- for the card


def _counter(output: Output, counts: Counter[str]) -> Callable[[Row], None]:
    """A function that counts a row: by source, task, kind of answer, and by lengths and pixels rounded to two digits."""
    length = _length(output)
    pixels: dict[str, int] = {}

    def count(row: Row) -> None:
        source = row["source"]
        counts[f"output/{source['name']}/{row['task']}"] += 1
        counts[f"licence/{source.get('licence') or 'not stated'}"] += 1
        counts[f"answer/{row['task']}/{_answer_type(row.get('answer'))}"] += 1
        counts[f"trace/{_trace_type(row.get('trace'))}"] += 1
        given = [{"content": row["document"]}] if row.get("document") is not None else row["prompt"]
        counts[f"prompt_length/{rounded(length(text_of(given)))}"] += 1
        if row.get("trace"):
            counts[f"trace_length/{rounded(length(text_of(row['trace'])))}"] += 1
        counts[f"images_per_row/{len(row['images'])}"] += 1
        counts[f"videos_per_row/{len(row['videos'])}"] += 1
        for image in row["images"]:
            path = image["path"] if isinstance(image, dict) else image
            if path not in pixels:
                pixels.clear()  # questions about one image stand together; the rest is not worth the memory
                width, height = image_size(path)
                pixels[path] = width * height
            counts[f"pixels/{rounded(pixels[path])}"] += 1

    return count


def _length(output: Output) -> Callable[[str], int]:
    """Length of a text in tokens of the output's tokenizer, or in characters."""
    if output.tokenizer is None:
        return len
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(output.tokenizer))
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False))


def text_of(turns: Any) -> str:
    """All text of messages, or of a trace's stages."""
    if isinstance(turns, dict):
        return "\n".join(turns.values())
    texts = []
    for message in turns:
        content = message["content"]
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        texts += [p["text"] for p in parts if p["type"] == "text"]
    return "\n".join(texts)


def rounded(value: int) -> int:
    """To two significant digits, so that the card's histograms stay small."""
    scale = 10 ** max(0, len(str(value)) - 2)
    return round(value / scale) * scale


def _answer_type(answer: Any) -> str:
    if not answer:
        return "none"
    return "+".join(sorted(key for key in answer if key != "frame"))


def _trace_type(trace: Any) -> str:
    if not trace:
        return "none"
    return "stages" if isinstance(trace, dict) else "messages"
