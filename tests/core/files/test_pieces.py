"""Files in pieces: every record in exactly one, as the reader of whole files has them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from datasets import Dataset

from core.errors import RowError
from core.files.pieces import pieces_of, read_piece
from core.files.records import Unreadable, read_records

RECORDS = [{"id": f"{i}", "text": "ä" * (i % 7), "answer": {"value": i}} for i in range(50)]
LINES = "\n\n".join(json.dumps(record, ensure_ascii=False) for record in RECORDS)


def jsonl(folder: Path) -> Path:
    """Without a line feed at its end, and with empty lines."""
    (folder / "rows.jsonl").write_text(LINES)
    return folder / "rows.jsonl"


def compressed(folder: Path) -> Path:
    with gzip.open(folder / "rows.jsonl.gz", "wt") as file:
        file.write(LINES)
    return folder / "rows.jsonl.gz"


def shards(folder: Path) -> Path:
    for number in range(3):
        lines = "".join(json.dumps(record) + "\n" for record in RECORDS[number::3])
        (folder / f"rows-{number}.jsonl").write_text(lines)
    return folder


def parquet(folder: Path) -> Path:
    table = pyarrow.Table.from_pylist(RECORDS)
    pyarrow.parquet.write_table(table, folder / "rows.parquet", row_group_size=7)
    return folder / "rows.parquet"


def saved(folder: Path) -> Path:
    Dataset.from_list(RECORDS).save_to_disk(str(folder / "saved"))
    return folder / "saved"


@pytest.mark.parametrize("write", [jsonl, compressed, shards, parquet, saved])
@pytest.mark.parametrize("size", [1, 64, 1000, 1 << 30])
def test_every_record_is_in_exactly_one_piece(write, size, tmp_path):
    path = write(tmp_path)
    whole = [(record, folder) for _, record, folder in read_records(path)]
    pieces = pieces_of(path, size)
    read = [(record, folder) for piece in pieces for _, record, folder in read_piece(piece)]
    assert read == whole
    assert len(whole) == len(RECORDS)


def test_a_piece_begins_with_the_line_that_begins_in_it(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a":1}\n{"a":2}\n')
    read = [[r["a"] for _, r, _ in read_piece(p)] for p in pieces_of(path, 8)]
    assert read == [[1], [2]]
    read = [[r["a"] for _, r, _ in read_piece(p)] for p in pieces_of(path, 7)]
    assert read == [[1], [], [2]] or read == [[1], [2], []]


def test_places_name_file_and_byte_or_row(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a":1}\n{"a":\n')
    places = [(where, record) for p in pieces_of(path, 8) for where, record, _ in read_piece(p)]
    assert [where for where, _ in places] == [f"{path} at byte 0", f"{path} at byte 8"]
    assert isinstance(places[1][1], Unreadable)
    file = parquet(tmp_path)
    where = [where for where, _, _ in read_piece(pieces_of(file, 1)[1])]
    assert where[0] == f"{file}:8"


def test_missing_and_damaged_files_are_errors(tmp_path):
    (tmp_path / "rows.parquet").write_bytes(b"nothing")
    with pytest.raises(RowError, match="expected a Parquet file"):
        pieces_of(tmp_path / "rows.parquet", 10)
    with pytest.raises(RowError, match="rows not found"):
        pieces_of(tmp_path / "absent.jsonl", 10)
