"""Removes rows too close to a benchmark; each removal names the benchmark's file and row.

Compared as in `dedup`, against files in any format that recipes read, or folders of images. Benchmarks are hashed once;
the index stays in the operation's folder under a name made from their content.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from core.rows import BrokenRow, Row, check_row
from data_recipes.files import inputs
from data_recipes.operations import media_hashes
from data_recipes.operations.dedup import NearOptions
from data_recipes.operations.media_hashes import Hashed, Thresholds
from data_recipes.operations.media_judge import one_thread
from data_recipes.operations.near import NearIndex
from data_recipes.operations.text_hashes import question
from data_recipes.records import Context, Decision, Options, Rejected, SetOperation, Signature

IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
INDEX_VERSION = 3  # of what is stored; raise it when hashes change


class Benchmark(Options):
    """A benchmark that must stay unseen."""

    path: str
    """A file of rows, or a folder of images."""
    format: str | None = None
    """Name of the reader. None: `rows` for a file, images for a folder."""
    options: dict[str, Any] = {}
    """Options of the reader."""


class DecontaminateOptions(NearOptions):
    """Remove rows that are near-duplicates of a benchmark's rows."""

    benchmarks: tuple[Benchmark, ...] = Field(min_length=1)
    """What must not be trained on."""
    mode: Literal["media", "both", "text"] = "media"
    """`media`: one medium alike is enough. `both`: a medium and the question of the same benchmark row. `text`: the
    question alone, whatever the media. Rows without media are compared by text in every mode."""


def sign(row: Row, options: DecontaminateOptions) -> Mapping[str, Any]:
    return media_hashes.hash_row(row, media=options.mode != "text", text=question(row))


def decide(
    signatures: Callable[[], Iterator[Signature]], options: DecontaminateOptions, context: Context
) -> Iterator[Decision]:
    context.folder.mkdir(parents=True, exist_ok=True)
    paths = [_index(benchmark, options, context) for benchmark in options.benchmarks]
    indices = [NearIndex(path) for path in paths]
    limits = options.thresholds()
    threads = one_thread()
    try:
        for signature in signatures():
            hashed = media_hashes.unpack(signature.data)
            for benchmark, index in zip(options.benchmarks, indices):
                found = _too_close(hashed, index, options, limits)
                if found is not None:
                    no, kind, reason = found
                    where = f"{benchmark.path}: row {index.name(no)!r}"
                    context.counts[f"near {benchmark.path}"] += 1
                    yield Decision(signature.id, f"benchmark_{kind}", f"near-duplicate of {where}: {reason}")
                    break
    finally:
        threads.restore_original_limits()
        for index in indices:
            index.close()


def _too_close(
    hashed: Hashed, index: NearIndex, options: DecontaminateOptions, limits: Thresholds
) -> tuple[int, str, str] | None:
    """(number of the first benchmark row that is too close, "image", "video" or "text", why)"""
    if options.mode == "text" or not hashed.media:
        for no in sorted(index.texts_near(hashed.text, numbers=limits.numbers)):
            if reason := media_hashes.texts_alike(hashed.text, index.text(no)[0], limits):
                return no, "text", reason
        return None
    for medium in hashed.media:
        for no, at in sorted(index.entries_near([f.hashes for f in medium.frames], limits.bits)):
            text = media_hashes.texts_alike(hashed.text, index.text(no)[0], limits)
            if options.mode == "both" and text is None:
                continue
            (theirs,) = media_hashes.unpack_media([index.packed(index.media(no)[at])])
            if reason := media_hashes.compare(medium, theirs, limits).alike:
                return no, medium.kind, reason + (f"; {text}" if text else "")
    return None


# -------------------------------------------------------------------------------------------------------- benchmarks


def _index(benchmark: Benchmark, options: DecontaminateOptions, context: Context) -> Path:
    """The index of a benchmark, made now or by an earlier run."""
    path = context.folder / f"benchmark-{_content(benchmark, options.numbers)}.sqlite"
    seen = path.with_suffix(".seen.jsonl")
    if path.exists() and seen.exists() and not inputs.changes(inputs.read_notes(seen)):
        inputs.note_all(dict(inputs.read_notes(seen)))
        return path
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.unlink(missing_ok=True)
    count = 0
    with closing(NearIndex(part)) as index, inputs.noting() as notes:
        for no, row in enumerate(_rows(benchmark, context)):
            data = media_hashes.hash_row(row, media=True, text=question(row))
            index.add_name(no, row["id"])
            index.add(
                no,
                data,
                media_hashes.unpack(data),
                media=None,
                windows=True,
                text=bool(question(row).strip()),
                numbers=options.numbers,
            )
            count += 1
        index.save()
    if not count:
        part.unlink()
        raise ValueError(f"benchmark {benchmark.path}: expected rows or images, got none")
    inputs.write_notes(seen, notes)
    inputs.note_all(notes)
    part.replace(path)
    context.counts["benchmark_rows_hashed"] += count
    return path


def _content(benchmark: Benchmark, numbers: bool) -> str:
    """Name of a benchmark's content: that of its files and their names, its reader, our hashing."""
    path = Path(benchmark.path)
    if not path.exists():
        raise ValueError(f"benchmark {benchmark.path}: expected an existing file or folder, got none")
    states = {str(p.relative_to(path)): inputs.state_of(p) for p in inputs.files_of(path, media=True)}
    content = f"{INDEX_VERSION} {version('datasketch')} {version('usearch')} {numbers} {benchmark.model_dump_json()} {inputs.digest_of({'': states})}"
    return blake2b(content.encode(), digest_size=12).hexdigest()


def _rows(benchmark: Benchmark, context: Context) -> Iterator[Row]:
    """The benchmark's rows, or a row per image. Records that its reader rejects are counted."""
    from data_recipes.readers import FORMATS

    path = Path(benchmark.path).resolve()
    if benchmark.format is None and path.is_dir():
        for image in sorted(p for p in path.rglob("*") if p.suffix.lower() in IMAGES):
            yield {
                "id": str(image.relative_to(path)),
                "prompt": [{"role": "user", "content": [{"type": "image"}]}],
                "images": [str(image)],
                "videos": [],
            }
        return
    name = benchmark.format or "rows"
    if name not in FORMATS:
        raise ValueError(f"benchmark {benchmark.path}: expected a format of {sorted(FORMATS)}, got {name!r}")
    reader = FORMATS[name]
    options = reader.options(**benchmark.options)
    for record in reader.read(path, options):
        folder = record.file.parent.resolve()
        for row in reader.rows(record, options):
            try:
                if isinstance(row, Rejected):
                    raise row
                inputs.note_media(row, folder)
                yield check_row(row, folder)
            except (Rejected, BrokenRow):
                context.counts["benchmark_rows_rejected"] += 1


OPERATIONS = {"decontaminate": SetOperation(sign, decide, DecontaminateOptions)}
