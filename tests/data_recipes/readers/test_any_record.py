"""Every record becomes a row or a rejection with its position and a reason, and all other records are still read.

Every format is given a good record, and copies of it in which every field in turn is missing or holds a value that does
not belong there.
"""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from core.rows import check_document, read_rows
from data_recipes.config import Recipe
from data_recipes.readers import FORMATS
from data_recipes.runner import run_recipe
from tests.data_recipes.readers.good_records import GOOD, NAN
from tests.data_recipes.readers.pdf_writer import Writer

DEEP: Any = 1
for _ in range(60):
    DEEP = [DEEP]
POISON = (
    None, True, 0, -1, 10**40, NAN, float("inf"), "", "x", "\ud800", "a\0b", "é" * 3000, "../a.png", "/etc/passwd",
    [], {}, [None], [[]], [{}], {"a": NAN}, [NAN, NAN, NAN, NAN], [1, 2, 3], {"bytes": "x"}, DEEP,
)  # fmt: skip
LINES = (
    b"{",
    b'{"id": "a',
    b"nope",
    b"[" * 5000,
    b'{"a":' * 5000,
    b"1" * 9000,
    b'{"id": "\xff"}',
    b"[1, 2]",
    b'"text"',
    b"null",
)


def spoilt(record: Any, at: tuple = ()) -> Iterator[Any]:
    """Copies of the record with one value replaced, or one key missing."""
    pairs = (
        record.items() if isinstance(record, dict) else enumerate(record) if isinstance(record, list) else ()
    )
    for key, value in list(pairs):
        for poison in POISON:
            yield (
                {**record, key: poison}
                if isinstance(record, dict)
                else [*record[:key], poison, *record[key + 1 :]]
            )
        if isinstance(record, dict):
            yield {k: v for k, v in record.items() if k != key}
        for inner in spoilt(value):
            changed = copy.copy(record)
            changed[key] = inner
            yield changed


@pytest.fixture(scope="module")
def media(tmp_path_factory) -> Path:
    """A folder with a picture and a video, also where formats expect them."""
    folder = tmp_path_factory.mktemp("media")
    Image.new("RGB", (20, 20), (200, 30, 30)).save(folder / "a.png")
    with av.open(str(folder / "v.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width = stream.height = 64
        for i in range(20):
            for packet in stream.encode(
                av.VideoFrame.from_ndarray(np.full((64, 64, 3), 9 * i, np.uint8), "rgb24")
            ):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return folder


def run(kind: str, path: Path, options: dict, out: Path, **output) -> tuple[dict, list[dict]]:
    """(the source's entry in the card, the rejections) of a recipe over the file alone."""
    source = {"name": "s", "format": kind, "path": str(path), "options": options}
    mistakes = {
        "name": "t",
        "sources": [source],
        "output_dir": str(out),
        "output": output,
        "tasks": 1,
        "workers": 1,
    }
    run_recipe(Recipe.model_validate(mistakes), say=lambda line: None)
    card = json.loads((out / "data_card.json").read_text())
    return card["sources"][0], lines_of(out / "rejected.jsonl")


def lines_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().split("\n")[:-1]]


def check_sums(
    entry: dict, rejected: list[dict], records: int, good: list[str], path: Path, out: Path
) -> None:
    assert entry["records"] == records
    assert entry["with_rows"] + entry["without_rows"] == records
    assert entry["rejected"] == len(rejected) >= entry["without_rows"]
    assert all(str(path) in r["origin"] and r["reason"] for r in rejected)
    assert not {r["origin"] for r in rejected} & set(good)
    made = {row["origin"] for row in read_rows(out, check=check_document)}
    removed = {entry["origin"] for entry in lines_of(out / "removed.jsonl")}
    assert set(good) <= made | removed  # of good records with the same id the first stays
    told = [
        r["reason"]
        for r in rejected
        if "that it cannot take" in r["reason"] or "cannot be checked" in r["reason"]
    ]
    assert not told, told[:3]  # readers say which field is wrong, and do not merely stumble


IN_JSON = [
    name for name in GOOD
    if name not in ("coco", "refcoco_mdetr", "voc", "geometry3k", "screenagent", "charades_sta", "timechat_tvg", "tabmwp",
                    "activitynet_captions", "open_images", "webdataset", "html_pages", "pdf_pages")
]  # fmt: skip


def place(media: Path, folder: Path) -> Path:
    for file in media.iterdir():
        shutil.copy(file, folder / file.name)
    return folder


def test_every_format_has_a_record_here():
    assert set(GOOD) == {name for name, kind in FORMATS.items() if not kind.generates}


@pytest.mark.parametrize("kind", IN_JSON)
def test_json_lines(kind, media, tmp_path):
    record, options = GOOD[kind]
    folder, path = place(media, tmp_path), tmp_path / "records.jsonl"
    lines, good = [], []
    for bad in [*(json.dumps(r).encode() for r in spoilt(record)), *LINES]:
        if len(lines) % 40 == 0:
            lines.append(json.dumps(record).encode())
            good.append(f"{path}:{len(lines)}")
        lines.append(bad)
    lines.append(json.dumps(record).encode())
    good.append(f"{path}:{len(lines)}")
    path.write_bytes(b"\n".join(lines) + b"\n")
    entry, rejected = run(
        kind, path, {"media": str(folder), **options} if kind != "rows" else {}, tmp_path / "out"
    )
    check_sums(entry, rejected, len(lines), good, path, tmp_path / "out")
    assert len({r["origin"] for r in rejected}) >= len(LINES)


@pytest.mark.parametrize(
    "kind", ["llava", "mathvista", "tabmwp", "activitynet_captions", "timechat_tvg", "refcoco"]
)
@pytest.mark.parametrize("indent", [None, 1])
def test_one_json_value(kind, indent, media, tmp_path):
    """Arrays, objects of records, and an array in an object, with bad entries between good ones."""
    record, options = GOOD[kind]
    folder, path = place(media, tmp_path), tmp_path / "records.json"
    if kind == "tabmwp":
        (folder / "tables").mkdir()
    texts, good = [], []
    for i, bad in enumerate(
        [*(json.dumps(r, indent=indent) for r in spoilt(record)), "NaN", '{"id": "a", "x": nope}']
    ):
        if i % 40 == 0:
            good.append(len(texts))
            texts.append(json.dumps(record, indent=indent))
        texts.append(bad)
    good.append(len(texts))
    texts.append(json.dumps(record, indent=indent))
    keyed = kind in ("mathvista", "tabmwp", "activitynet_captions")
    if kind == "tabmwp":
        for i in good:
            shutil.copy(folder / "a.png", folder / "tables" / f"{i}.png")
        options = {"media": str(folder / "tables"), **options}
    entries = [f'"{i}": {text}' if keyed else text for i, text in enumerate(texts)]
    body = ("," if indent is None else ",\n").join(entries)
    body = "{" + body + "}" if keyed else "[" + body + "]"
    path.write_text(body if kind != "timechat_tvg" else '{"info": {}, "annotations": ' + body + "}")
    if indent is not None:
        path.write_text("\ufeff" + path.read_text())
    entry, rejected = run(kind, path, {"media": str(folder), **options}, tmp_path / "out")
    lines = path.read_text().split("\n")
    assert all(
        int(r["origin"].rpartition("(line ")[2][:-1]) <= len(lines)
        for r in rejected
        if "(line" in r["origin"]
    )
    entries = [*read_rows(tmp_path / "out"), *lines_of(tmp_path / "out" / "removed.jsonl")]
    assert {f"{path}:{i}" for i in good} <= {entry["origin"].partition(" (line")[0] for entry in entries}
    assert entry["records"] == len(texts) == entry["with_rows"] + entry["without_rows"]


@pytest.mark.parametrize("kind", ["coco", "refcoco_mdetr"])
def test_annotations_joined_with_images(kind, media, tmp_path):
    record, _ = GOOD[kind]
    bad = list(spoilt(record))
    image = {"file_name": "a.png", "width": 20, "height": 20, "caption": "the cat", "original_id": 1}
    images = [image | {"id": i} for i in range(len(bad) + 2)]
    images += list(spoilt(image | {"id": 100_000}))
    annotations = [
        r | {"image_id": i} if "image_id" in r and r["image_id"] == 1 else r for i, r in enumerate(bad)
    ]
    annotations += [record | {"image_id": i} for i in (len(bad), len(bad) + 1)]
    path = place(media, tmp_path) / "instances.json"
    text = json.dumps(
        {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cat"}, None]}
    )
    path.write_text(text.replace('"annotations": [', '"annotations": [{"image_id": 3, "bbox": nope}, '))
    entry, rejected = run(kind, path, {}, tmp_path / "out")
    assert entry["records"] == entry["with_rows"] + entry["without_rows"]
    assert all(r["reason"] and str(path) in r["origin"] for r in rejected)
    ids = {row["id"].split("/")[1].split("-")[0] for row in read_rows(tmp_path / "out")}
    assert {str(len(bad)), str(len(bad) + 1)} <= ids and "3" not in ids
    assert any("annotations[0]" in r["origin"] and "JSON" in r["reason"] for r in rejected)


def test_lines_of_text(media, tmp_path):
    path, folder = tmp_path / "charades_sta_train.txt", place(media, tmp_path)
    good = b"v 0.2 1.0##A square moves."
    bad = [
        b"v 1.0 0.2##a",
        b"v",
        b"v 1 nan##a",
        b"v 1e999 2##a",
        b"v 0 1##\xff",
        b"none 0 1##a",
        b"v 0 1##",
        b"\xed\xa0\x80",
    ]
    path.write_bytes(b"\n".join(line for b in bad for line in (good, b)) + b"\n")
    entry, rejected = run("charades_sta", path, {"media": str(folder)}, tmp_path / "out")
    places = [f"{path}:{2 * i + 1}" for i in range(len(bad))]
    check_sums(entry, rejected, 2 * len(bad), places, path, tmp_path / "out")
    assert len(rejected) == len(bad)


def test_lines_of_a_table(media, tmp_path):
    folder = place(media, tmp_path)
    header = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside"
    (tmp_path / "class-descriptions-boxable.csv").write_text("/m/01,Cup\n")
    good, _ = GOOD["open_images"]
    bad = [
        good.replace("0.5", text) for text in ("nan", "inf", "x", "", "0.1", "1e999", "7", "1" * 5000)
    ]  # fmt: skip
    bad += [
        "c,xclick",
        ",xclick,/m/01,1,0,1,0,1,0,0,0,0,0",
        good.replace("/m/01", "/m/02"),
        good.replace("a,", "../a,", 1),
    ]
    bad += [good.replace("a,", "\N{SNOWMAN},", 1), "\0" * 20, good.replace(",0,0,0,0,0", ",0,0,1,0,0")]
    lines = [line.replace("a,", f"a{i},", 1) if line.startswith("a,") else line for i, line in enumerate(bad)]
    for i in range(len(bad) + 2):
        shutil.copy(folder / "a.png", folder / f"a{i}.jpg")
    first, last = (good.replace("a,", f"a{i},", 1) for i in (len(bad), len(bad) + 1))
    path = tmp_path / "validation-annotations-bbox.csv"
    path.write_text("\n".join([header, first, *lines, last]) + "\n")
    entry, rejected = run("open_images", path, {"media": str(folder)}, tmp_path / "out")
    places = [f"{path}:2", f"{path}:{len(bad) + 3}"]
    check_sums(entry, rejected, len(bad) + 2, places, path, tmp_path / "out")
    assert len({r["origin"] for r in rejected}) == len(bad)


def voc(annotation: dict) -> str:
    """An annotation file of VOC; values stand as their text."""
    edges = zip(("xmin", "ymin", "xmax", "ymax"), annotation["box"], strict=True)
    box = "".join(f"<{name}>{escape(str(value))}</{name}>" for name, value in edges)
    size = f"<width>{annotation['width']}</width><height>{annotation['height']}</height>"
    item = f"<object><name>{escape(str(annotation['name']))}</name><bndbox>{box}</bndbox></object>"
    name = escape(str(annotation["filename"]))
    return f"<annotation><filename>{name}</filename><size>{size}</size>{item}</annotation>"


def test_a_file_for_each_record(media, tmp_path):
    folder = place(media, tmp_path)
    record, _ = GOOD["voc"]
    texts = ["nan", "inf", "-1", "", "x", "<a/>", "1" * 5000, "é"]
    contents: list[bytes] = [
        voc(record | {key: t}).encode() for key in ("filename", "width", "name") for t in texts
    ]
    contents += [voc(record | {"box": [t, "2", "9", "8"]}).encode() for t in texts]
    contents += [
        b"",
        b"<annotation",
        b"\xff\xfe",
        b"<a>" * 3000 + b"</a>" * 3000,
        b"<other/>",
        b"<annotation/>",
    ]
    contents += [b'<?xml version="1.0" encoding="none-such"?><annotation/>']
    lol = "".join(f'<!ENTITY l{i + 1} "{f"&l{i};" * 10}">' for i in range(12))
    contents += [
        f'<!DOCTYPE a [<!ENTITY l0 "lol">{lol}]><annotation><filename>&l12;</filename></annotation>'.encode()
    ]
    (tmp_path / "Annotations").mkdir()
    for i, content in enumerate(contents):
        (tmp_path / "Annotations" / f"{i:03}.xml").write_bytes(content)
    for name in ("good", "zz"):
        (tmp_path / "Annotations" / f"{name}.xml").write_text(voc(record))
    (tmp_path / "Annotations" / "folder.xml").mkdir()
    (tmp_path / "Annotations" / "nowhere.xml").symlink_to("nothing")
    good = [f"{tmp_path}/Annotations/{name}.xml:1" for name in ("good", "zz")]
    entry, rejected = run("voc", tmp_path, {"media": str(folder)}, tmp_path / "out")
    check_sums(entry, rejected, len(contents) + 4, good, tmp_path, tmp_path / "out")


@pytest.mark.parametrize("kind", ["html_pages", "pdf_pages"])
def test_a_page_for_each_record(kind, tmp_path):
    page = Writer()
    page.text(40, 400, "A red square.")
    good = page.content() if kind == "pdf_pages" else GOOD["html_pages"][0]
    cut = [good[: len(good) * i // 12] for i in range(12)]
    flipped = [
        good[:at] + bytes([good[at] ^ 0xFF]) + good[at + 1 :]
        for at in range(0, len(good), max(1, len(good) // 40))
    ]
    ending = "html" if kind == "html_pages" else "pdf"
    (tmp_path / "pages").mkdir()
    for i, content in enumerate([*cut, *flipped, *LINES, b"\xff\xfe", b"<", b"%PDF-1.7"]):
        (tmp_path / "pages" / f"{i:03}.{ending}").write_bytes(content)
    for name in ("good", "zz"):
        (tmp_path / "pages" / f"{name}.{ending}").write_bytes(good)
    count = len(list((tmp_path / "pages").iterdir()))
    entry, rejected = run(kind, tmp_path / "pages", {}, tmp_path / "out")
    places = [f"{tmp_path}/pages/{name}.{ending}:1" for name in ("good", "zz")]
    check_sums(entry, rejected, count, places, tmp_path / "pages", tmp_path / "out")


@pytest.mark.parametrize("kind", ["geometry3k", "screenagent"])
def test_a_json_file_for_each_record(kind, media, tmp_path):
    record, options = GOOD[kind]
    good, contents = [], [*(json.dumps(r).encode() for r in list(spoilt(record))[::3]), *LINES]
    for i, content in enumerate([*contents, json.dumps(record).encode()]):
        folder = tmp_path / "set" / f"{i:05}"
        (folder / "images").mkdir(parents=True)
        for name in ("img_diagram.png", "images/a.png"):
            shutil.copy(media / "a.png", folder / name)
        (folder / "data.json").write_bytes(content)
        if i == len(contents):
            good.append(f"{folder / 'data.json'}:{f'{i:05}' if kind == 'geometry3k' else 1}")
    entry, rejected = run(kind, tmp_path / "set", options, tmp_path / "out")
    check_sums(entry, rejected, len(contents) + 1, good, tmp_path / "set", tmp_path / "out")


def test_parquet_with_values_of_every_kind(media, tmp_path):
    """Columns that a row carries along are kept as text, or left out and counted; text that is no UTF-8 costs its row."""
    from datetime import date, datetime, time, timedelta
    from decimal import Decimal

    png = (media / "a.png").read_bytes()
    record = {"problem": "<image>1 + 1?", "answer": "2", "images": [{"bytes": png, "path": None}]}
    more = {
        "thumb": png,
        "made": datetime(2025, 1, 2, 3),
        "day": date(2025, 1, 2),
        "at": time(4, 5),
        "took": timedelta(seconds=3),
        "price": Decimal("1.50"),
        "score": NAN,
        "info": {"raw": png, "when": date(2025, 1, 2), "list": [{"b": png, "n": 1}]},
    }
    table = pa.Table.from_pylist([record | more] * 3)
    text = pa.array([b"good", b"\xff\xfe", b"good"]).cast(pa.binary())
    table = table.append_column("note", pa.Array.from_buffers(pa.string(), 3, text.buffers()))
    far = pa.array([0, 2**62, 0], pa.int64()).cast(pa.timestamp("us"))
    table = table.append_column("far", far)
    pq.write_table(table, tmp_path / "in.parquet")
    for output in ("jsonl", "parquet"):
        out = tmp_path / output
        entry, rejected = run("easyr1", tmp_path / "in.parquet", {}, out, format=output)
        assert (entry["records"], entry["with_rows"], entry["without_rows"]) == (3, 2, 1)
        (problem,) = rejected
        assert problem["origin"].endswith("in.parquet:2") and "'note'" in problem["reason"]
        row = read_rows(out)[0]
        assert (row["made"], row["day"], row["at"], row["took"], row["price"]) == (
            "2025-01-02T03:00:00", "2025-01-02", "04:05:00", 3.0, "1.50",
        )  # fmt: skip
        assert row["info"] == {"when": "2025-01-02", "list": [{"n": 1}]}
        assert entry["left_out"] == {
            "info.list[].b (bytes)": 2, "info.raw (bytes)": 2, "score (no finite number)": 2, "thumb (bytes)": 2,
        }  # fmt: skip
        assert "info.list[].b (bytes)" in (out / "DATA_CARD.md").read_text()


def test_a_damaged_row_group_costs_its_rows_alone(tmp_path):
    rows = [{"question": f"{i} + 1?", "answer": f"It is.\n#### {i + 1}"} for i in range(300)]
    path = tmp_path / "test.parquet"
    pq.write_table(
        pa.Table.from_pylist(rows), path, row_group_size=100, compression="none", use_dictionary=False
    )
    content = bytearray(path.read_bytes())
    start = pq.ParquetFile(path).metadata.row_group(1).column(0).data_page_offset
    content[start : start + 40] = b"\xff" * 40
    path.write_bytes(content)
    entry, rejected = run("gsm8k", path, {}, tmp_path / "out")
    assert (entry["records"], entry["with_rows"]) == (300, 200)
    assert {r["origin"] for r in rejected} == {f"{path}:{i}" for i in range(101, 201)}


@pytest.mark.parametrize("huge", [10**40, -(2**70)])
def test_huge_integers_are_kept_in_parquet(huge, tmp_path):
    path = tmp_path / "rows.jsonl"
    row = {"task": "math", "prompt": [{"role": "user", "content": "1 + 1?"}], "answer": {"value": "2"}}
    path.write_text(
        "".join(
            json.dumps(row | {"id": str(i), "n": n, "m": {"x": [n]}}) + "\n" for i, n in enumerate((1, huge))
        )
    )
    entry, _ = run("rows", path, {}, tmp_path / "out", format="parquet")
    assert entry["with_rows"] == 2
    assert [json.loads(r["n"]) for r in read_rows(tmp_path / "out")] == [1, huge]


def test_deep_and_long_records_cost_no_memory(tmp_path):
    """400 KB of brackets once took 24 GB."""
    import resource

    good = json.dumps({"question": "1 + 1?", "answer": "It is.\n#### 2"})
    for name, text in {
        "a.json": f"[{good}, {'[' * 200_000 + ']' * 200_000}, {good}]",
        "b.jsonl": f"{good}\n{'[' * 200_000}\n{'x' * (40 << 20)}\n{good}\n",
        "c.json": f'[{good}, {{"question": "{"x" * (40 << 20)}"}}, {good}]',
    }.items():
        (tmp_path / name).write_text(text)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        entry, _ = run("gsm8k", tmp_path / name, {}, tmp_path / f"out of {name}")
        assert entry["with_rows"] == 2 and entry["without_rows"] >= 1
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 << 10  # KiB
