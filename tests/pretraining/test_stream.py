"""The stream of a source: shared out without overlap or gap, shuffled, and resumed at the very row, also after a kill."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from itertools import islice, pairwise
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from core.errors import RowError
from pretraining.stream import Place, Stream, refuse_other_form, stream_of

REPOSITORY = Path(__file__).parents[2]
ROWS = 200


@pytest.fixture(scope="module")
def rows_file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("stream") / "rows.jsonl"
    path.write_text("".join(json.dumps({"id": i, "text": "x" * (i % 13)}) + "\n" for i in range(ROWS)))
    return path


def ids(stream: Stream, count: int, place: Place | None = None) -> list[int]:
    return [record["id"] for (_, record, _), _ in islice(stream.read(place), count)]


def epoch(stream: Stream, number: int = 0) -> list[int]:
    read = []
    for (_, record, _), place in stream.read():
        if place.epoch > number:
            return read
        if place.epoch == number:
            read.append(record["id"])
    raise AssertionError


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_an_epoch_has_every_row_once_in_exactly_one_process(rows_file, ranks):
    shares = [epoch(stream_of(rows_file, seed=0, rank=r, ranks=ranks, buffer=16)) for r in range(ranks)]
    assert sorted(row for share in shares for row in share) == list(range(ROWS))
    assert min(map(len, shares)) > ROWS / ranks / 2


def test_parquet_is_shared_out_by_row_groups(tmp_path):
    table = pyarrow.Table.from_pylist([{"id": i} for i in range(ROWS)])
    pyarrow.parquet.write_table(table, tmp_path / "rows.parquet", row_group_size=20)
    shares = [epoch(stream_of(tmp_path / "rows.parquet", seed=0, rank=r, ranks=2)) for r in range(2)]
    assert sorted(shares[0] + shares[1]) == list(range(ROWS))
    assert len(shares[0]) == len(shares[1]) == ROWS // 2


def test_rows_are_shuffled_and_every_epoch_has_another_order(rows_file):
    stream = stream_of(rows_file, seed=0, buffer=64)
    first, second = epoch(stream), epoch(stream, 1)
    assert first != sorted(first)
    assert first != second
    assert sorted(first) == sorted(second)
    assert first == epoch(stream_of(rows_file, seed=0, buffer=64))
    assert first != epoch(stream_of(rows_file, seed=1, buffer=64))
    neighbours = sum(abs(a - b) == 1 for a, b in pairwise(first))
    assert neighbours < ROWS / 10


def test_a_stream_goes_on_at_any_row(rows_file):
    stream = stream_of(rows_file, seed=3, buffer=16)
    count = ROWS + 30
    places = [place for _, place in islice(stream.read(), count)]
    unbroken = ids(stream, count + 10)
    for at in (1, 15, 16, 17, 99, ROWS - 1, ROWS, ROWS + 1, count):
        kept = json.loads(json.dumps(places[at - 1].state_dict()))
        assert ids(stream_of(rows_file, seed=3, buffer=16), 10, Place(**kept)) == unbroken[at : at + 10], at


def test_fewer_pieces_than_processes_are_an_error_that_says_what_to_do(tmp_path):
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([{"id": 1}, {"id": 2}]), tmp_path / "rows.parquet")
    with pytest.raises(RowError, match="at least 2 pieces .* got 1; write more files"):
        stream_of(tmp_path / "rows.parquet", seed=0, ranks=2)


def test_a_share_without_rows_is_an_error(tmp_path):
    (tmp_path / "rows.jsonl").write_text("\n" * 50)
    with pytest.raises(RowError, match="expected at least one row"):
        ids(stream_of(tmp_path / "rows.jsonl", seed=0), 1)


@pytest.mark.parametrize(
    ("record", "columns"),
    [
        ({"id": "1", "image": "a.png", "conversations": []}, "id, image, conversations"),
        ({"images": [None], "texts": ["a"], "metadata": "[]"}, "images, texts, metadata"),
        ({"prompt": "Which?", "chosen": "a", "rejected": "b"}, "prompt, chosen, rejected"),
    ],
)
def test_records_in_another_form_are_refused_with_the_command_that_makes_rows(tmp_path, record, columns):
    path = tmp_path / "records.jsonl"
    path.write_text(json.dumps(record) + "\n")
    with pytest.raises(RowError) as raised:
        refuse_other_form(path, "data.sources.web.rows")
    said = str(raised.value)
    assert said.startswith(f"data.sources.web.rows: {path}: expected rows with a document")
    assert f"got the columns {columns}. a recipe (`python -m data_recipes run`) makes rows" in said
    assert f"`python -m data_recipes inspect {path}`" in said


@pytest.mark.parametrize(
    "line", ['{"id": "a", "document": "x"}', '{"prompt": [], "trace": null}', "no JSON", "[1]", ""]
)
def test_rows_and_broken_ones_are_left_to_the_reader(tmp_path, line):
    (tmp_path / "rows.jsonl").write_text(line + "\n")
    refuse_other_form(tmp_path / "rows.jsonl", "data.sources.web.rows")


READER = """
import json, sys
from pretraining.stream import Place, stream_of
path, state = sys.argv[1:]
stream = stream_of(path, seed=5, buffer=32)
for number, ((_, record, _), place) in enumerate(stream.read(Place(**json.loads(state)))):
    print(json.dumps([record["id"], place.state_dict()]), flush=True)
"""


def test_killed_readers_go_on_without_overlap_or_gap(rows_file):
    """Each reader is killed while it reads, and the next one goes on from a place that was kept on the way."""
    state, read = json.dumps(Place().state_dict()), []
    for rows in (37, 90):
        reader = subprocess.Popen(
            [sys.executable, "-c", READER, str(rows_file), state],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            text=True,
        )
        lines = [json.loads(reader.stdout.readline()) for _ in range(rows)]
        reader.send_signal(signal.SIGKILL)
        reader.wait()
        reader.stdout.close()
        kept = lines[: rows - 5]  # what came after the last checkpoint is read again
        read += [number for number, _ in kept]
        state = json.dumps(kept[-1][1])
    read += ids(stream_of(rows_file, seed=5, buffer=32), 100, Place(**json.loads(state)))
    assert read == ids(stream_of(rows_file, seed=5, buffer=32), len(read))
