"""Reading a file with a format as a recipe does: rows made, rows that pass validation, and what was rejected."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from core.rows import BrokenRow, Row, check_row
from data_recipes.checks.validate import Validation, make_check
from data_recipes.readers import FORMATS
from data_recipes.records import Rejected


@dataclass
class Read:
    """What became of a file's records."""

    records: int = 0
    rows: list[Row] = field(default_factory=list)
    rejected: list[str] = field(default_factory=list)  # by the reader
    valid: list[Row] = field(default_factory=list)  # with the media there and everything inside
    invalid: list[str] = field(default_factory=list)


@pytest.fixture(scope="session")
def read_file() -> Callable[..., Read]:
    """read_file(format, path, validate=True, **options) -> Read; ids are checked to be unique."""
    checks = make_check(Validation())

    def read(name: str, path: Path, *, validate: bool = True, **options: Any) -> Read:
        kind = FORMATS[name]
        typed = kind.options.model_validate(options)
        found = Read()
        for record in kind.read(path, typed):
            found.records += 1
            if record.problem is not None:
                found.rejected.append(record.problem)
                continue
            made: list[Row | Rejected] = []
            try:
                made.extend(kind.convert(record, typed))
            except Rejected as error:
                made.append(error)
            assert made, f"{record.where} vanished"
            for row in made:
                if isinstance(row, Rejected):
                    found.rejected.append(str(row))
                else:
                    found.rows.append(row)
        ids = [row["id"] for row in found.rows]
        assert len(set(ids)) == len(ids), "ids repeat"
        for row in found.rows if validate else ():
            try:
                checked = check_row(row, path.parent)
                checks(checked)
                found.valid.append(checked)
            except (Rejected, BrokenRow) as error:
                found.invalid.append(str(error))
        return found

    return read
