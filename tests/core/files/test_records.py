"""Records of files and folders, and errors that name what cannot be read."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from core.errors import RowError
from core.files.records import Unreadable, read_records
from core.rows import read_rows


def row(name: str) -> dict:
    return {"id": name, "task": "chat", "prompt": [{"role": "user", "content": "Hello"}]}


def test_compressed_rows_and_shards_are_read_as_plain_ones(tmp_path: Path) -> None:
    lines = [json.dumps(row(f"r{i}")).encode() + b"\n" for i in range(4)]
    (tmp_path / "rows.jsonl").write_bytes(b"".join(lines))
    (tmp_path / "rows.jsonl.gz").write_bytes(gzip.compress(b"".join(lines)))
    folder = tmp_path / "shards"
    folder.mkdir()
    (folder / "rows-0.jsonl").write_bytes(b"".join(lines[:2]))
    (folder / "rows-1.jsonl.gz").write_bytes(gzip.compress(b"".join(lines[2:])))
    (folder / "other.jsonl").write_bytes(b"not read\n")
    plain = read_rows(tmp_path / "rows.jsonl")
    assert len(plain) == 4
    assert read_rows(tmp_path / "rows.jsonl.gz") == plain == read_rows(folder)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("cut.jsonl.gz", gzip.compress(b"{}\n", mtime=0)[:-9], "cut.jsonl.gz:2: cannot be read"),
        ("not.jsonl.gz", b'{"id": "a"}\n', "not.jsonl.gz:1: cannot be read"),
        ("not.parquet", b"PAR1", "not.parquet: expected a Parquet file"),
        ("rows.csv", b"id\n", "rows.csv: expected a .jsonl file"),
    ],
)
def test_a_damaged_file_is_an_error_that_names_it(
    name: str, content: bytes, says: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RowError, match=says):
        list(read_records(tmp_path / name))


def test_a_line_that_is_not_json_takes_its_place_among_the_records(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(
        b'\xef\xbb\xbf{"a": 1}\n\n{"a": \n' + b"[" * 100_000 + b"\n\xff\n[1]\n"
    )
    found = list(read_records(tmp_path / "rows.jsonl"))
    assert [place.rpartition(":")[2] for place, _, _ in found] == ["1", "3", "4", "5", "6"]
    records = [record for _, record, _ in found]
    assert records[0] == {"a": 1} and records[4] == [1]
    assert all(isinstance(record, Unreadable) for record in records[1:4])
    assert "nested too deeply" in str(records[2]) and "byte 0xff" in str(records[3])


def test_json_text_in_parquet_is_read_and_nulls_of_other_rows_are_dropped(tmp_path: Path) -> None:
    table = {
        "id": ["a", "b"],
        "answer": ['{"value": "4,656"}', '{"value": 3, "unit": null}'],
        "trace": [None, "{"],
    }
    pyarrow.parquet.write_table(pyarrow.table(table), tmp_path / "rows.parquet")
    first, second = [record for _, record, _ in read_records(tmp_path / "rows.parquet")]
    assert first["answer"] == {"value": "4,656"} and second["answer"] == {"value": 3}
    assert second["trace"] == "{"  # refused by the check of the field
