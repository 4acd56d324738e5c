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

NAN = float("nan")
STAGES = "<SUMMARY>a</SUMMARY><CAPTION>b</CAPTION><REASONING>c</REASONING><CONCLUSION>4</CONCLUSION>"
ASKED = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "A cat."}]
CHAT = [{"role": "user", "content": "<image>What?"}, {"role": "assistant", "content": "A cat."}]
BOX = [
    {"role": "user", "content": "<image>Where?"},
    {"role": "assistant", "content": '{"bbox_2d": [1, 2, 9, 8]}'},
]

GOOD: dict[str, tuple[Any, dict]] = {
    "rows": (
        {
            "id": "a",
            "task": "math",
            "prompt": [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "1 + 1?"}]}],
            "images": ["a.png"],
            "answer": {"value": "2"},
            "trace": {"summary": "a", "caption": "b", "reasoning": "c", "conclusion": "2"},
            "source": "made",
            "more": {"x": [1, "y"]},
        },
        {},
    ),
    "llava": ({"id": "1", "image": "a.png", "conversations": ASKED}, {}),
    "sharegpt": ({"conversations": ASKED, "images": ["a.png"], "system": "Be brief.", "tools": "[]"}, {}),
    "llamafactory_v1": (
        {
            "messages": [
                {
                    "role": "user",
                    "content": [{"type": "image_url", "value": "a.png"}, {"type": "text", "value": "?"}],
                },
                {"role": "assistant", "content": [{"type": "text", "value": "A cat."}], "loss_weight": 1.0},
            ]
        },
        {},
    ),
    "ms_swift": (
        {
            "messages": [
                {"role": "user", "content": "<image>Find <ref-object>"},
                {"role": "assistant", "content": "<bbox>"},
            ],
            "images": ["a.png"],
            "objects": {"ref": ["cat"], "bbox": [[1, 2, 9, 8]], "image_id": [0], "bbox_type": "real"},
        },
        {"gold": "objects", "task": "grounding"},
    ),
    "llava_cot": (
        {"id": "1", "image": "a.png", "conversations": [ASKED[0], {"from": "gpt", "value": STAGES}]},
        {},
    ),
    "mathv": (
        {
            "id": "1",
            "question": "What? <image1>",
            "options": ["2", "3"],
            "image": "a.png",
            "answer": "A",
            "level": 1,
            "subject": "algebra",
            "solution": None,
        },
        {},
    ),
    "mathvista": (
        {
            "pid": "1",
            "question": "What?",
            "query": "Question: What?",
            "image": "a.png",
            "choices": ["2", "3"],
            "unit": None,
            "precision": None,
            "answer": "2",
            "question_type": "multi_choice",
            "answer_type": "text",
            "metadata": {
                "task": "x",
                "grade": "y",
                "source": "z",
                "language": "english",
                "split": "testmini",
            },
        },
        {},
    ),
    "gsm8k": ({"question": "1 + 1?", "answer": "It is <<1+1=2>>2.\n#### 2"}, {"trace": "solution"}),
    "visual_search": (
        {
            "images": ["a.png"],
            "doc_id": "7",
            "problem": "<image>\nWhat?",
            "solution": "cat",
            "data_source": "v_easy",
        },
        {},
    ),
    "vstar": (
        {
            "image": "a.png",
            "text": "What colour is the cup?\n(A) red\n(B) blue\nAnswer with the letter.",
            "category": "direct_attributes",
            "label": "A",
            "question_id": "0",
        },
        {},
    ),
    "preference": ({"prompt": "Which?", "chosen": "Red.", "rejected": "Blue.", "images": ["a.png"]}, {}),
    "rlaif_v": (
        {
            "ds_name": "R",
            "image": "a.png",
            "question": "Which?",
            "chosen": "Red.",
            "rejected": "Blue.",
            "idx": 1,
        },
        {},
    ),
    "mm_rlhf": (
        {
            "image": "a.png",
            "prompt": "<image>Which?",
            "chosen": "Red.",
            "rejected": "Blue.",
            "chosen_score": 3,
        },
        {},
    ),
    "rlhf_v": (
        {
            "ds_name": "RLHF-V",
            "image": {"path": "a.png", "bytes": None},
            "idx": 3,
            "text": json.dumps({"question": "Which?", "chosen": "Red.", "rejected": "Blue."}),
        },
        {},
    ),
    "llava_rlhf": (
        {
            "id": "7",
            "image": "a.png",
            "preference": 2,
            "output_1": {"from": "llava", "value": "Blue."},
            "output_2": {"from": "llava", "value": "Red."},
            "conversations": [{"from": "human", "value": "<image>Which?"}, {"from": "gpt", "value": ""}],
        },
        {},
    ),
    "vlfeedback": (
        {
            "id": "v",
            "prompt": "Which?",
            "img_path": "a.png",
            "completions": {
                "annotations": [
                    {
                        name: {"Rating": rating, "Rationale": "…"}
                        for name in ("Helpfulness", "Visual Faithfulness", "Ethical Considerations")
                    }
                    for rating in ("1", "5")
                ],
                "model": ["m", "n"],
                "response": ["Blue.", "Red."],
            },
        },
        {},
    ),
    "helpsteer": (
        {
            "domain": "general",
            "context": [{"role": "user", "content": "Which?"}],
            "response1": "Blue.",
            "response2": "Red.",
            "overall_preference": 3,
        },
        {},
    ),
    "ultrafeedback": (
        {
            "instruction": "Which?",
            "source": "s",
            "completions": [
                {"response": "Blue.", "fine-grained_score": 2.5, "overall_score": 10.0},
                {"response": "Red.", "fine-grained_score": 4.0, "overall_score": 7.0},
            ],
        },
        {},
    ),
    "open_images": ("a,xclick,/m/01,1,0.1,0.5,0.2,0.75,0,0,0,0,0", {}),
    "mini_o3_coldstart": (
        {
            "images": ["a.png"],
            "image_names": ["a.png"],
            "conversations": json.dumps([ASKED[0], {"from": "gpt", "value": "<answer>cat</answer>"}]),
            "data_source": "x",
            "sample_index": 1,
            "rollout_index": 2,
        },
        {},
    ),
    "deepeyes": (
        {
            "prompt": [{"role": "user", "content": "<image>\nWhat?\nThink first."}],
            "images": [{"path": "a.png"}],
            "data_source": "vstar",
            "env_name": "visual_toolbox_v2",
            "reward_model": {"style": "model", "ground_truth": "cat"},
            "extra_info": {"index": "0", "split": "train", "question": "What?", "answer": "cat"},
        },
        {},
    ),
    "easyr1": ({"id": 1, "problem": "<image>1 + 1?", "answer": "2", "images": ["a.png"], "more": [1]}, {}),
    "geometry3k_parquet": ({"problem": "<image>1 + 1?", "answer": "2", "images": ["a.png"]}, {}),
    "verl": (
        {
            "prompt": [{"role": "user", "content": "<image>1 + 1?"}],
            "images": [{"path": "a.png"}],
            "data_source": "geo",
            "ability": "math",
            "reward_model": {"style": "rule", "ground_truth": "2"},
            "extra_info": {"index": 0, "split": "train"},
        },
        {},
    ),
    "refcoco": ({"image": "a.png", "sent": "the cat", "bbox": [1, 2, 9, 8], "width": 20, "height": 20}, {}),
    "boxes_json": ({"images": ["a.png"], "messages": BOX}, {"frame": "pixel"}),
    "screenspot": (
        {
            "img_filename": "a.png",
            "bbox": [1, 2, 8, 6],
            "instruction": "Close",
            "data_type": "icon",
            "data_source": "x",
        },
        {},
    ),
    "screenspot_pro": (
        {
            "id": "1",
            "img_filename": "a.png",
            "img_size": [20, 20],
            "bbox": [1, 2, 9, 8],
            "instruction": "Close",
            "application": "x",
            "platform": "y",
            "ui_type": "icon",
        },
        {},
    ),
    "qvhighlights": (
        {"qid": 1, "query": "A square moves.", "vid": "v", "duration": 2.0, "relevant_windows": [[0.2, 1.0]]},
        {},
    ),
    "timerft": (
        {
            "video": "v.mp4",
            "duration": 2.0,
            "timestamp": [0.2, 1.0],
            "sentence": "A square moves.",
            "qid": "1",
            "video_start": 0.0,
            "video_end": 2.0,
            "difficulty": 50.0,
        },
        {"cut": "never"},
    ),
    "alpaca": (
        {
            "instruction": "<image>Name it.",
            "input": "Now.",
            "output": "A cat.",
            "system": "Be brief.",
            "history": [["Hi", "Hello"]],
            "images": ["a.png"],
        },
        {},
    ),
    "r1v": (
        {"image": "a.png", "problem": "How many?", "solution": "<answer> 3 </answer>"},
        {"task": "counting"},
    ),
    "tvgbench": (
        {
            "path": "x/v.mp4",
            "question": "A square moves.",
            "answer": "0.2-1.0",
            "start": 0.0,
            "end": 2.0,
            "duration": 2.0,
            "question_type": "video temporal grounding",
            "dataset_name": "charades",
        },
        {},
    ),
    "tabmwp": (
        {
            "question": "1 + 1?",
            "choices": None,
            "answer": "2",
            "unit": "cm",
            "table_title": "x",
            "table": "a | 1",
            "solution": "It is 2.",
            "ques_type": "free_text",
            "ans_type": "integer_number",
            "grade": 4,
            "split": "train",
        },
        {"trace": "stages"},
    ),
    "activitynet_captions": (
        {"duration": 2.0, "timestamps": [[0.2, 1.0]], "sentences": ["A square moves."]},
        {"video": "v.mp4"},
    ),
    "timechat_tvg": (
        {"id": 1, "image_id": "v.mp4", "caption": "A square moves.", "timestamp": [0.2, 1.0]},
        {},
    ),
    "coco": ({"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 5, 6], "iscrowd": 0}, {}),
    "refcoco_mdetr": ({"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 5, 6]}, {}),
    "geometry3k": (
        {
            "problem_text": "Find x.",
            "annotat_text": "Find $x$.",
            "choices": ["1", "2", "3", "4"],
            "answer": "B",
            "problem_type_graph": ["Triangle"],
            "problem_type_goal": ["Angle"],
            "data_type": "train",
        },
        {},
    ),
    "screenagent": (
        {
            "actions": [
                {
                    "action_type": "MouseAction",
                    "mouse_action_type": "click",
                    "mouse_button": "left",
                    "mouse_position": {"width": 5, "height": 6},
                }
            ],
            "video_width": 20,
            "video_height": 20,
            "task_prompt_en": "Open it.",
            "send_prompt_en": 'The current subtask is "Click". Please give',
            "saved_image_name": "a.png",
            "session_id": "s",
        },
        {},
    ),
    "voc": (
        {"filename": "a.png", "width": "20", "height": "20", "name": "cat", "box": ["1", "2", "9", "8"]},
        {},
    ),
    "gui_r1": (
        {
            "image": "a.png",
            "instruction": "Save it.",
            "history": "None",
            "gt_action": "click",
            "gt_bbox": [0.1, 0.2, 0.4, 0.5],
            "gt_input_text": "no input text",
            "task_type": "high",
        },
        {},
    ),
    "mind2web": (
        {
            "screenshot": "a.png",
            "confirmed_task": "Find a flight.",
            "operation": '{"original_op": "TYPE", "value": "Oslo", "op": "TYPE"}',
            "pos_candidates": ['{"tag": "input", "attributes": "{\\"bounding_box_rect\\": \\"1,2,8,6\\"}"}'],
            "action_uid": "u",
            "action_reprs": ["[a] -> CLICK"],
            "target_action_index": "0",
        },
        {},
    ),
    "webdataset": ({"jpg": b"", "txt": b"A red square."}, {}),  # in tar files: test_webdataset.py
    "obelics": (
        {
            "images": [None, "https://example.org/a.png"],
            "texts": ["A red square.", None],
            "metadata": '[null, {"alt_text": "square"}]',
            "general_metadata": '{"url": "https://example.org/page"}',
        },
        {},
    ),
    "mmc4": (
        {
            "text_list": ["A page.", "It has a red square."],
            "image_info": [{"image_name": "a.png", "matched_text_index": 1, "matched_sim": 0.3}],
            "url": "https://example.org/page",
        },
        {},
    ),
    "charades_sta": ("v 0.2 1.0##A square moves.", {}),
}
"""By format: a record of it that becomes at least one good row beside a.png (20 x 20) and v.mp4 (2 s), and options."""

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
                    "activitynet_captions", "open_images", "webdataset")
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
