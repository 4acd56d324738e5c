"""JSON Lines files that grow step by step, and survive being killed at any moment.

A line ends with a line feed and nothing else: other characters that Unicode calls line breaks (U+2028, U+2029, U+0085)
are text, and JSON writes them as they are.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from core.files.replacing import replacing


def append(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Add records to a JSONL file; not-a-number and infinities, which JSON lacks, become null."""
    # a lone surrogate, which UTF-8 lacks, becomes the escape by which JSON knows it
    with path.open("a", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
        file.writelines(json.dumps(_finite(r), ensure_ascii=False) + "\n" for r in records)


def read(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a JSONL file, in order. Raises ValueError that names file and line where one is broken."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                yield json.loads(line)
            except ValueError as error:
                raise ValueError(f"{path}:{number}: expected a JSON object, got: {error}") from None


def keep_until(path: Path, step: int) -> int:
    """Drop the records of later steps, which a resumed run will write again, and lines that are no records (the last one,
    where a run was killed while it wrote); returns the number of these broken lines.

    Streams: the file may be larger than memory. What is kept is written beside it and renamed, so that a kill leaves the
    old file or the new one; where everything is kept the file is not touched.
    """
    if not path.is_file():
        return 0
    with path.open("rb") as old:
        if all(found is not None and found <= step for found in map(_step_of, old)):
            return 0
    broken = 0
    with path.open("rb") as old, replacing(path) as new:
        for line in old:
            found = _step_of(line)
            broken += found is None
            if found is not None and found <= step:
                new.write(line)
    return broken


def _step_of(line: bytes) -> int | None:
    """The step of a complete record, else None."""
    if not line.endswith(b"\n"):
        return None
    try:
        record = json.loads(line)
    except ValueError:
        return None
    step = record.get("step") if isinstance(record, dict) else None
    return step if isinstance(step, int) else None


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_finite(v) for v in value]
    return value
