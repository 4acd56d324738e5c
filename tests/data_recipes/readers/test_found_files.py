"""Files as found in practice: shards of model hubs, saved data sets, compressed and oddly named JSON, other tools' formats.

Known files that are not a source of rows are refused by name, with advice on what to do.
"""

from __future__ import annotations

import gzip
import json
import pickle
import tarfile
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from data_recipes.config import Recipe
from data_recipes.inspection import guess, inspect
from data_recipes.readers import FORMATS
from data_recipes.readers.folders import records
from data_recipes.records import SourceError
from data_recipes.runner import run_recipe

CHAT = {"conversations": [{"from": "human", "value": "<image>Name it."}, {"from": "gpt", "value": "A cat."}]}


@pytest.fixture
def folder(tmp_path) -> Path:
    """With a picture a.png, where the test's files are written."""
    Image.new("RGB", (30, 20), (9, 90, 30)).save(tmp_path / "a.png")
    return tmp_path


def told(path: Path, **options: Any) -> str:
    return "\n".join(inspect(path, None, options))


def rows_of(kind: str, path: Path, **options: Any) -> list[Any]:
    format_ = FORMATS[kind]
    typed = format_.options.model_validate(options)
    return [made for record in format_.read(path, typed) for made in format_.rows(record, typed)]


# ---------------------------------------------------------------------------------------------- shards and saved sets


def write_shards(folder: Path, *names: str) -> None:
    png = (folder.parent / "a.png").read_bytes()
    folder.mkdir(exist_ok=True)
    for name in names:
        row = {"problem": f"<image>{name}?", "answer": "2", "images": [{"bytes": png, "path": None}]}
        pq.write_table(pa.Table.from_pylist([row, row]), folder / name)


def test_a_folder_of_parquet_shards_is_one_set(folder):
    write_shards(folder / "data", "train-00000-of-00002.parquet", "train-00001-of-00002.parquet")
    assert "4 records; 4 good rows" in told(folder / "data")
    (folder / "hub").mkdir()
    (folder / "data").rename(folder / "hub" / "data")  # a whole download
    assert "4 records; 4 good rows" in told(folder / "hub")


def test_splits_of_a_folder_are_never_mixed(folder):
    write_shards(folder / "data", "train-00000-of-00001.parquet", "test-00000-of-00001.parquet")
    with pytest.raises(SourceError, match="got test, train: name one with the option split"):
        list(records(folder / "data"))
    assert len(rows_of("easyr1", folder / "data", split="test")) == 2
    with pytest.raises(SourceError, match="expected the split 'dev'"):
        list(records(folder / "data", "dev"))


def test_sets_saved_by_datasets(folder):
    rows = [{"problem": f"{i} + 1?", "answer": str(i + 1)} for i in range(3)]
    saved = datasets.Dataset.from_list(rows)
    saved.save_to_disk(str(folder / "one"))
    assert "3 records; 3 good rows" in told(folder / "one")
    datasets.DatasetDict(train=saved, test=saved).save_to_disk(str(folder / "two"))
    with pytest.raises(SourceError, match="test, train: name one"):
        list(records(folder / "two"))
    assert len(rows_of("easyr1", folder / "two", split="train")) == 3
    assert len(rows_of("easyr1", folder / "two" / "train")) == 3


@pytest.mark.parametrize("form", ["array", "lines", "crlf", "single"])
@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.json.gz", "a.jsonl.zst"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_json_is_read_by_what_it_holds(folder, name, form, mark):
    one = CHAT | {"image": "a.png"}
    lines = json.dumps(one) + "\n" + json.dumps(one)
    texts = {
        "array": json.dumps([one, one], indent=1),
        "lines": lines + "\n",
        "crlf": lines.replace("\n", "\r\n"),
    }
    content = (mark + texts.get(form, json.dumps(one))).encode()
    if name.endswith(".gz"):
        content = gzip.compress(content[:50]) + gzip.compress(content[50:])
    elif name.endswith(".zst"):
        content = pa.Codec("zstd").compress(content, asbytes=True)
    (folder / name).write_bytes(content)
    count = 1 if form == "single" else 2
    assert f"{count} records; {count} good rows (chat {count})" in told(folder / name)


def test_a_damaged_archive_says_so(folder):
    whole = gzip.compress(
        "".join(json.dumps(CHAT | {"image": "a.png", "id": i}) + "\n" for i in range(999)).encode()
    )
    (folder / "a.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    assert "damaged" in told(folder / "a.jsonl.gz")


# ------------------------------------------------------------------------------------------------- other tools' forms


def write(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content))
    return path


def test_alpaca(folder):
    record = {
        "instruction": "<image>Name it.",
        "input": "In one word.",
        "output": "Cat.",
        "images": ["a.png"],
    }
    path = write(
        folder / "alpaca.json", [record | {"history": [["Hi", "Hello"]], "system": "Be brief."}, record]
    )
    assert [f.name for f in guess(path)] == ["alpaca"]
    first, second = rows_of("alpaca", path)
    assert [m["role"] for m in first["prompt"]] == ["system", "user"]
    assert [m["role"] for m in first["trace"]] == ["assistant", "user", "assistant"]
    assert second["prompt"][0]["content"][-1]["text"] == "Name it.\nIn one word."
    assert second["trace"][0]["content"] == "Cat."


PREFERENCE = {
    "dpo": {"conversations": CHAT["conversations"][:1], "chosen": {"value": "a"}, "rejected": {"value": "b"}},
    "dpo_alpaca": {"instruction": "Name it.", "input": "", "chosen": "a", "rejected": "b"},
    "ranked": {"instruction": "Name it.", "input": "", "output": ["a", "b"]},
    "kto": {
        "messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}],
        "label": False,
    },
    "kto_true": {
        "messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}],
        "label": True,
    },
    "kto_tag": {"instruction": "Name it.", "input": "", "output": "a", "kto_tag": False},
    "swift": {
        "messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}],
        "rejected_response": "x",
    },
}


@pytest.mark.parametrize("name", PREFERENCE)
@pytest.mark.parametrize("kind", ["sharegpt", "alpaca", "ms_swift", "llava"])
def test_preference_data_never_become_rows_of_a_single_answer(folder, name, kind):
    path = write(folder / "a.json", [PREFERENCE[name]])
    (made,) = rows_of(kind, path)
    assert isinstance(made, ValueError)
    if "kto" in name:
        assert "preference data" in told(path) and "not read" in told(path)
    else:
        assert guess(path)[0].name == "preference"


@pytest.mark.parametrize("kind", ["ms_swift", "sharegpt", "llava"])
def test_media_inside_the_text_are_media(folder, kind):
    (folder / "b.png").write_bytes((folder / "a.png").read_bytes())
    if kind == "ms_swift":
        record = {"query": "<img>a.png</img>Compare with <img>b.png</img>.", "response": "Alike."}
    else:
        value = "Picture 1: <img>a.png</img>\nPicture 2: <img>b.png</img>\nCompare."
        record = {"conversations": [{"from": "human", "value": value}, {"from": "gpt", "value": "Alike."}]}
    (row,) = rows_of(kind, write(folder / "a.json", [record]))
    assert row["images"] == [str(folder / "a.png"), str(folder / "b.png")]
    assert [p["type"] for p in row["prompt"][0]["content"]].count("image") == 2
    assert "img" not in json.dumps(row["prompt"])


def test_videos_in_the_form_of_qwens_finetuning(folder):
    turns = [
        {"from": "human", "value": "<video>\nWhat happens?"},
        {"from": "gpt", "value": "A square moves."},
    ]
    path = write(folder / "video.json", [{"video": "v.mp4", "conversations": turns}])
    assert guess(path)[0].name == "llava"
    (row,) = rows_of("llava", path)
    assert row["videos"] == [str(folder / "v.mp4")]


def test_mathvista_without_queries_asks_in_the_authors_words(folder):
    (folder / "images").mkdir()
    (folder / "a.png").rename(folder / "images" / "1.jpg")
    common = {"question": "How long?", "image": "images/1.jpg", "unit": "cm", "metadata": {}, "choices": None}
    problems = {
        "1": common
        | {
            "pid": "1",
            "precision": 1.0,
            "answer": "1.2",
            "question_type": "free_form",
            "answer_type": "float",
        },
        "2": common
        | {
            "pid": "2",
            "precision": None,
            "answer": "4",
            "question_type": "multi_choice",
            "answer_type": "text",
        }
        | {"choices": ["3", "4"]},
    }
    path = write(folder / "testmini.json", problems)
    assert "2 records; 2 good rows" in told(path)
    first, second = (row["prompt"][0]["content"][1]["text"] for row in rows_of("mathvista", path))
    assert first.startswith(
        "Hint: Please answer the question requiring a floating-point number with one decimal place"
    )
    assert first.endswith("Question: How long? (Unit: cm)") and second.endswith("Choices:\n(A) 3\n(B) 4")


def test_r1v(folder):
    png = (folder / "a.png").read_bytes()
    rows = [
        {"image": {"bytes": png, "path": None}, "problem": "How many?", "solution": "<answer> 3 </answer>"}
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "train-00000-of-00001.parquet")
    assert [f.name for f in guess(folder / "train-00000-of-00001.parquet")] == ["r1v"]
    (row,) = rows_of("r1v", folder / "train-00000-of-00001.parquet", task="counting")
    assert row["answer"] == {"value": 3} and [p["type"] for p in row["prompt"][0]["content"]] == [
        "image",
        "text",
    ]
    (bad,) = rows_of("r1v", write(folder / "b.json", [{"image": "a.png", "problem": "?", "solution": "3"}]))
    assert "expected <answer>" in str(bad)


def test_tvgbench(folder):
    (folder / "v_1.mkv").touch()
    entry = {"path": "./data/v_1.mp4", "question": "She sits.", "answer": "1.5-4.0", "duration": 9.0}
    path = write(
        folder / "tvgbench.json",
        [
            entry | {"start": None, "end": None},
            entry | {"start": 2.0, "end": 11.0},
            entry | {"answer": "1 to 2"},
        ],
    )
    assert guess(path)[0].name == "tvgbench"
    whole, part, bad = rows_of("tvgbench", path)
    assert whole["videos"] == [str(folder / "v_1.mkv")] and whole["answer"] == {"spans": [[1.5, 4]]}
    assert part["videos"] == [{"path": str(folder / "v_1.mkv"), "start": 2.0, "end": 11.0}]
    assert "'answer'" in str(bad)


def test_refs_of_refer_are_read_and_run_nothing(folder):
    (folder / "COCO_train2014_000000000001.jpg").write_bytes((folder / "a.png").read_bytes())
    write(folder / "instances.json", {"annotations": [{"id": 7, "bbox": [1, 2, 3, 4]}]})
    name = "COCO_train2014_000000000001_7.jpg"
    ref = {
        "ref_id": 1,
        "ann_id": 7,
        "file_name": name,
        "split": "train",
        "sentences": [{"sent": "the cat", "sent_id": 5}],
    }
    (folder / "refs(unc).p").write_bytes(pickle.dumps([ref], protocol=0))
    assert guess(folder)[0].name == "refcoco"
    (row,) = rows_of("refcoco", folder)
    assert row["answer"]["boxes"] == [[1, 2, 4, 6]] and row["expression"] == "the cat"

    class Bomb:
        def __reduce__(self):
            return (Path.touch, (folder / "touched",))

    (folder / "refs(unc).p").write_bytes(pickle.dumps([Bomb()]))
    with pytest.raises(SourceError, match="only plain data"):
        rows_of("refcoco", folder / "refs(unc).p")
    assert not (folder / "touched").exists()


# ------------------------------------------------------------------------------------------------ refused by their name

LABELME_XML = "<annotation><filename>a.png</filename><object><name>x</name><polygon><pt><x>1</x><y>2</y></pt></polygon></object></annotation>"
CVAT_XML = (
    "<annotations><version>1.1</version><image name='a.png'><box label='x' xtl='1'/></image></annotations>"
)
REFUSED = {
    "results.json": (
        '[{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.9}]',
        "COCO results",
    ),
    "labelme.json": ('{"version": "5", "shapes": [], "imagePath": "a.png"}', "LabelMe"),
    "labelme.xml": (LABELME_XML, "LabelMe"),
    "annotations.xml": (CVAT_XML, "CVAT"),
    "label.txt": ("0 0.5 0.5 0.2 0.2\n", "YOLO"),
    "data.yaml": ("train: images/train\nval: images/val\nnames: [cat]\n", "YOLO"),
    "images.zip": ("PK", "an archive"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_files_that_are_no_rows_are_called_by_their_name(folder, name):
    content, called = REFUSED[name]
    (folder / name).write_text(content)
    (line,) = inspect(folder / name, None, {})
    assert f": {called}" in line and "What to do" in line


def test_folders_that_are_no_rows_are_called_by_their_name(folder):
    (folder / "yolo" / "labels").mkdir(parents=True)
    (folder / "yolo" / "labels" / "a.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    assert "YOLO" in told(folder / "yolo")
    (folder / "shards").mkdir()
    with tarfile.open(folder / "shards" / "00000.tar", "w") as tar:
        tar.add(folder / "a.png", "a.png")
    assert "webdataset" in told(folder / "shards") and "webdataset" in told(folder / "shards" / "00000.tar")
    (folder / "voc").mkdir()
    (folder / "voc" / "a.xml").write_text(LABELME_XML)
    assert "LabelMe" in told(folder / "voc")
    (made,) = rows_of("voc", folder / "voc")
    assert "LabelMe" in str(made)


@pytest.mark.parametrize("name", ["instances.json", "instances.json.gz"])
def test_annotations_with_a_mark_or_compressed(folder, name):
    image = {"id": 1, "file_name": "a.png", "width": 30, "height": 20}
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 5, 6]}
    content = json.dumps({"images": [image], "annotations": [box], "categories": [{"id": 1, "name": "cat"}]})
    content = ("\ufeff" + content).encode()
    (folder / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    assert ": coco:" in told(folder / name) and "1 good rows (detection 1)" in told(folder / name)


def test_what_a_recipe_wrote_is_recognised(folder):
    row = {
        "id": "a",
        "task": "math",
        "prompt": [{"role": "user", "content": "1 + 1?"}],
        "answer": {"value": "2"},
    }
    write(folder / "rows.jsonl", row)
    for output in ("jsonl", "parquet"):
        sources = [{"name": "s", "format": "rows", "path": str(folder / "rows.jsonl")}]
        out = {"format": output}
        recipe = {
            "name": "t",
            "sources": sources,
            "output_dir": str(folder / output),
            "output": out,
            "tasks": 2,
            "workers": 1,
        }
        run_recipe(Recipe.model_validate(recipe), say=lambda line: None)
        assert ": rows: Onsight's own rows" in told(folder / output)
        assert "1 records; 1 good rows (math 1)" in told(folder / output)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 100_000, "", "nope", "\x00", '[{"conversations": [[]], "image": {}}]']
)
@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_any_first_record_can_be_looked_at(folder, name, text):
    (folder / name).write_text(text)
    assert told(folder / name)
