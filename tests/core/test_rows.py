"""Rows: the contract's checks, and one reading of JSONL, Parquet and `datasets` directories."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from core.rows import RowError, check_document, read_rows, write_rows
from vlm.media import load_media

TRACE = {"summary": "count", "caption": "two", "reasoning": "1 + 1", "conclusion": "2"}


def image_file(folder: Path, name: str = "a.png") -> str:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (28, 28), (200, 30, 30)).save(folder / name)
    return name


def a_row(**changes) -> dict:
    row = {
        "id": "r0",
        "task": "counting",
        "prompt": [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "How many?"}]}],
        "images": ["a.png"],
        "answer": {"value": 2},
        "trace": TRACE,
        "source": "test",
    }
    return {k: v for k, v in {**row, **changes}.items() if v is not ...}


def text_row(**changes) -> dict:
    return a_row(prompt=[{"role": "user", "content": "1 + 1?"}], images=..., **changes)


def jsonl(folder: Path, *records) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in records))
    return path


def test_media_paths_start_at_the_file_and_optional_fields_are_set(tmp_path):
    image_file(tmp_path, "media/a.png")
    path = jsonl(
        tmp_path, a_row(images=["media/a.png"], hardness=0.5), text_row(id="r1", answer=..., trace=...)
    )
    first, second = read_rows(path)
    assert first["images"] == [str(tmp_path.resolve() / "media/a.png")]
    assert first["hardness"] == 0.5 and first["videos"] == [] and first["trace"] == TRACE
    assert (second["images"], second["answer"], second["trace"]) == ([], None, None)
    assert load_media(first)[0][0].size == (28, 28)


def test_limit_and_task_choose_rows(tmp_path):
    rows = [text_row(id=str(i), task="math" if i % 2 else "chat") for i in range(6)]
    path = jsonl(tmp_path, *rows)
    assert [r["id"] for r in read_rows(path, limit=2)] == ["0", "1"]
    assert [r["id"] for r in read_rows(path, task="math", limit=2)] == ["1", "3"]
    with pytest.raises(RowError, match=r"at least one row of task 'maths' \(found: chat, math\)"):
        read_rows(path, task="maths")


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"id": 7}, "field 'id': expected a non-empty string, got 7 (int)"),
        ({"id": ...}, "field 'id': expected a non-empty string, got nothing"),
        ({"task": ""}, "field 'task': expected a non-empty string, got '' (str)"),
        (
            {"prompt": "How many?"},
            "field 'prompt': expected a non-empty list of chat messages, got 'How many?' (str)",
        ),
        (
            {"prompt": [{"role": "human", "content": "x"}]},
            "field 'prompt[0].role': expected one of system, user",
        ),
        ({"prompt": [{"role": "user", "content": None}]}, "field 'prompt[0].content': expected a string or"),
        (
            {"prompt": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "field 'prompt[0].content[0].type': expected text, image or video, got 'image_url' (str)",
        ),
        (
            {"prompt": [{"role": "user", "content": [{"type": "image", "image": "b.png"}]}]},
            "field 'prompt[0].content[0].image': expected a placeholder",
        ),
        (
            {"prompt": [{"role": "user", "content": "What is <|image_pad|>?"}]},
            "field 'prompt[0].content': expected text, got <|image_pad|>",
        ),
        ({"images": []}, "field 'images': expected 1 image(s), one per placeholder {'type': 'image'}, got 0"),
        ({"images": ["a.png", "a.png"]}, "field 'images': expected 1 image(s)"),
        (
            {"images": ["missing.png"]},
            "field 'images[0]': expected an existing file, got 'missing.png' (no file",
        ),
        ({"images": [7]}, "field 'images[0]': expected a path, bytes, or a dict"),
        ({"images": "a.png"}, "field 'images': expected a list, got 'a.png' (str)"),
        ({"videos": [{"path": "v.mp4", "start": 0}]}, "field 'videos[0].path': expected an existing file"),
        ({"answer": "2"}, "field 'answer': expected a dict or null, got '2' (str)"),
        (
            {"trace": {"summary": "x"}},
            "field 'trace': expected the keys summary, caption, reasoning, conclusion",
        ),
        ({"trace": TRACE | {"caption": 3}}, "field 'trace.caption': expected a string, got 3 (int)"),
        ({"trace": "text"}, "field 'trace': expected the four stages, a list of messages, or null"),
    ],
)
def test_a_broken_row_is_named_by_file_line_and_field(tmp_path, broken, message):
    image_file(tmp_path)
    path = jsonl(tmp_path, a_row(id="fine"), "", a_row(**broken))
    with pytest.raises(RowError) as error:
        read_rows(path)
    assert str(error.value).startswith(f"{path}:3: {message}")


def test_lines_that_are_no_json_objects_are_named(tmp_path):
    path = jsonl(tmp_path, text_row(), '{"id": "x",', "[1]")
    path.write_bytes(path.read_bytes() + b'{"id": "\xff"}\n')
    with pytest.raises(RowError) as error:
        read_rows(path)
    lines = str(error.value).splitlines()
    assert len(lines) == 3
    assert lines[0].startswith(f"{path}:2: expected one JSON object, got no valid JSON")
    assert lines[1] == f"{path}:3: expected one JSON object, got [1] (list)"
    assert lines[2].startswith(f"{path}:4: expected one JSON object")


def test_all_broken_rows_are_listed_up_to_twenty_then_counted(tmp_path):
    path = jsonl(tmp_path, *(text_row(id=str(i), answer="x" if i else None) for i in range(31)))
    with pytest.raises(RowError) as error:
        read_rows(path)
    lines = str(error.value).splitlines()
    assert len(lines) == 21 and lines[-1] == "and 10 more broken rows"


def test_a_repeated_id_is_an_error_naming_both_places(tmp_path):
    path = jsonl(tmp_path, text_row(), text_row(id="r1"), text_row())
    with pytest.raises(RowError, match=r"rows.jsonl:3: field 'id': .*'r0' again \(first at .*rows.jsonl:1\)"):
        read_rows(path)


def test_unknown_places_say_what_was_expected(tmp_path):
    with pytest.raises(RowError, match="rows not found: .*nothing.jsonl"):
        read_rows(tmp_path / "nothing.jsonl")
    with pytest.raises(RowError, match="expected a .jsonl file, a .parquet file"):
        read_rows(tmp_path)
    (tmp_path / "rows.jsonl").touch()
    with pytest.raises(RowError, match="expected at least one row, got none"):
        read_rows(tmp_path / "rows.jsonl")


def columnar_rows(image: bytes) -> list[dict]:
    """Rows as columns unify them: every part, answer and trace has every key."""
    parts = [{"type": "image", "text": None, "image": None}, {"type": "text", "text": "Box?", "image": None}]
    boxes = {"value": None, "boxes": [[1.0, 2.0, 3.0, 4.0]]}
    number = {"value": "2", "boxes": None}
    words = [{"type": "text", "text": "1 + 1?", "image": None}]
    return [
        {
            "id": "box",
            "task": "grounding",
            "prompt": [{"role": "user", "content": parts}],
            "images": [{"bytes": image, "path": "a.png"}],
            "answer": boxes,
            "trace": dict.fromkeys(TRACE),
            "level": 1,
        },
        {
            "id": "sum",
            "task": "math",
            "prompt": [{"role": "user", "content": words}],
            "images": [],
            "answer": number,
            "trace": TRACE,
            "level": None,
        },
    ]


@pytest.mark.parametrize("kind", ["parquet", "shards", "datasets"])
def test_columnar_files_give_the_same_rows_as_jsonl(tmp_path, kind):
    buffer = io.BytesIO()
    Image.new("RGB", (28, 56)).save(buffer, "PNG")
    records = columnar_rows(buffer.getvalue())
    path = tmp_path / "rows"
    if kind == "datasets":
        import datasets

        data = datasets.Dataset.from_list(records)
        data.cast_column("images", datasets.List(datasets.Image())).save_to_disk(path)
    elif kind == "shards":
        path.mkdir()
        for i, record in enumerate(records):
            pq.write_table(pa.Table.from_pylist([record]), path / f"part-{i}.parquet")
    else:
        path = tmp_path / "rows.parquet"
        pq.write_table(pa.Table.from_pylist(records), path)
    box, number = read_rows(path)
    assert box["prompt"] == [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Box?"}]}
    ]
    assert box["answer"] == {"boxes": [[1.0, 2.0, 3.0, 4.0]]} and box["trace"] is None
    assert load_media(box)[0][0].size == (28, 56)
    assert number["answer"] == {"value": "2"} and number["trace"] == TRACE and number["images"] == []
    assert [box["level"], number["level"]] == [1, None]


def test_a_folder_of_splits_asks_for_one(tmp_path):
    import datasets

    data = datasets.Dataset.from_list([{"id": "a"}])
    datasets.DatasetDict({"train": data, "test": data}).save_to_disk(tmp_path / "d")
    with pytest.raises(RowError, match="holds the splits test, train: name one"):
        read_rows(tmp_path / "d")


def test_a_multi_turn_trace_is_kept_and_its_images_are_counted(tmp_path):
    image_file(tmp_path)
    turns = [
        {"role": "assistant", "content": "zoom in"},
        {"role": "user", "content": [{"type": "image"}]},
        {"role": "assistant", "content": "red"},
    ]
    (row,) = read_rows(jsonl(tmp_path, a_row(trace=turns, images=["a.png", "a.png"])))
    assert row["trace"] == turns
    with pytest.raises(RowError, match="field 'images': expected 2 image"):
        read_rows(jsonl(tmp_path, a_row(trace=turns)))


def test_written_rows_are_read_back_and_their_media_paths_are_relative(tmp_path):
    image_file(tmp_path / "media")
    clip = {"path": str(tmp_path / "media/a.png"), "start": 1.0}  # any file: reading does not decode
    prompt = [{"role": "user", "content": [{"type": "image"}, {"type": "video"}]}]
    rows = [a_row(prompt=prompt, images=[str(tmp_path / "media/a.png")], videos=[clip], text="größer")]
    path = write_rows(rows, tmp_path / "out/rows.jsonl")
    raw = json.loads(path.read_text())
    assert raw["images"] == ["../media/a.png"] and raw["videos"] == [{"path": "../media/a.png", "start": 1.0}]
    assert read_rows(path) == [rows[0] | {"videos": [clip]}]
    with pytest.raises(RowError, match=r"row 'r0': field 'images\[0\]': expected a path .*got 3 bytes"):
        write_rows([a_row(images=[b"abc"])], tmp_path / "bytes.jsonl")


@pytest.mark.parametrize(
    "fields",
    [
        {"images": ["data:image/png;base64," + "iVBORw0KGgo" * 40_000]},
        {"images": [{"path": "iVBORw0KGgo" * 40_000}]},
        {"images": ["x.png"], "trace": {"iVBORw0KGgo" * 40_000: 1}},
    ],
)
def test_a_message_never_holds_a_whole_encoded_image(tmp_path, fields):
    row = {"id": "0", "task": "math", "prompt": [{"role": "user", "content": "1 + 1?"}]} | fields
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(RowError) as caught:
        read_rows(tmp_path / "rows.jsonl")
    assert len(str(caught.value)) < 1000 and "rows.jsonl:1: field '" in str(caught.value)


def document_row(**changes) -> dict:
    parts = [{"type": "text", "text": "Before."}, {"type": "image"}, {"type": "text", "text": "Behind."}]
    return a_row(task="document", document=parts, prompt=..., answer=..., trace=..., **changes)


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_documents_are_read_where_they_are_asked_for(tmp_path, form):
    """In one file with rows that have a prompt, too: in Parquet each then has an empty column."""
    image_file(tmp_path)
    records = [document_row(), text_row(id="r1")]
    path = tmp_path / f"rows.{form}"
    if form == "jsonl":
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
    else:
        names = records[0] | records[1]
        pq.write_table(pa.Table.from_pylist([{n: r.get(n) for n in names} for r in records]), path)
    document, prompt = read_rows(path, check=check_document)
    assert document["document"] == document_row()["document"]
    assert document["images"] == [str(tmp_path / "a.png")]
    assert prompt["prompt"][0]["content"] == "1 + 1?" and prompt["images"] == []
    with pytest.raises(
        RowError, match=":1: field 'prompt': expected chat messages, got a 'document', which pretrain.py"
    ):
        read_rows(path)


def test_a_document_may_be_a_text(tmp_path):
    (tmp_path / "rows.jsonl").write_text(
        json.dumps(document_row(images=[]) | {"document": "All of it."}) + "\n"
    )
    (row,) = read_rows(tmp_path / "rows.jsonl", check=check_document)
    assert row["document"] == [{"type": "text", "text": "All of it."}]
