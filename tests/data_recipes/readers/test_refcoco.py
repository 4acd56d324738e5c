"""Referring expressions in the layouts of VLM-R1, Shikra, Qwen-VL, refer and MDETR."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from data_recipes.readers import refcoco

IMAGE = "train2014/COCO_train2014_000000581857.jpg"
LAYOUTS = {
    "vlm_r1": {
        "image": IMAGE,
        "problem": "Please provide the bounding box coordinate of the region this sentence describes: the lady in blue",
        "solution": [10, 20, 60, 70.5],
    },
    "shikra": {"img_path": IMAGE, "expression": "the lady in blue", "bbox": [10, 20, 60, 70.5]},
    "qwen_vl": {
        "image": IMAGE,
        "sent": "the lady in blue",
        "bbox": [10, 20, 60, 70.5],
        "width": 100,
        "height": 80,
    },
}


@pytest.fixture
def coco_images(tmp_path):
    (tmp_path / "coco" / "train2014").mkdir(parents=True)
    Image.new("RGB", (100, 80)).save(tmp_path / "coco" / IMAGE)
    return tmp_path / "coco"


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("lines", [True, False])
def test_published_layouts_give_the_same_row(read_file, coco_images, tmp_path, layout, lines):
    path = tmp_path / ("refs.jsonl" if lines else "refs.json")
    path.write_text(json.dumps(LAYOUTS[layout]) + "\n" if lines else json.dumps([LAYOUTS[layout]]))
    read = read_file("refcoco", path, media=coco_images)
    assert (read.rejected, read.invalid) == ([], [])
    (row,) = read.valid
    assert row["task"] == "grounding"
    assert row["answer"] == {"boxes": [[10, 20, 60, 70.5]], "frame": "pixel"}
    assert row["expression"] == "the lady in blue"
    assert "“the lady in blue”? Answer with its box in pixels" in row["prompt"][0]["content"][1]["text"]
    assert row["images"] == [str(coco_images / IMAGE)]
    assert refcoco.looks_like(path, LAYOUTS[layout])


def test_refers_records_take_boxes_from_instances_and_have_a_row_per_sentence(
    read_file, coco_images, tmp_path
):
    instances = tmp_path / "instances.json"
    boxes = [{"id": 1719310, "bbox": [10.0, 20.0, 50.0, 50.5]}, {"id": 7, "bbox": [0, 0, 5, 5]}]
    instances.write_text(json.dumps({"images": [], "annotations": boxes}))
    ref = {
        "ref_id": 0,
        "ann_id": 1719310,
        "file_name": "COCO_train2014_000000581857_16.jpg",
        "split": "train",
        "sentences": [
            {"sent": "lady in blue", "sent_id": 0},
            {"sent": " ", "sent_id": 1},
            {"sent": "left one", "sent_id": 2},
        ],
    }
    path = tmp_path / "refs.json"
    path.write_text(
        json.dumps([ref, {**ref, "ref_id": 1, "split": "val"}, {**ref, "ref_id": 2, "ann_id": 5}])
    )
    read = read_file("refcoco", path, media=coco_images / "train2014", instances=instances, split="train")
    assert [row["id"] for row in read.valid] == ["0-0", "0-2"]
    assert read.valid[0]["answer"]["boxes"] == [[10, 20, 60, 70.5]]
    assert read.records == 2
    assert read.rejected[0] == "sentences[1]: field 'expression': expected a phrase, got ' ' (str)"
    assert "field 'ann_id 5 in instances.json': expected four numbers, got null" in read.rejected[1]
    instances.rename(tmp_path / "elsewhere.json")  # it is looked for beside the file
    without = read_file("refcoco", path)
    assert "expected the option `instances`" in without.rejected[0]


def test_mdetr_files_have_a_row_per_phrase(read_file, coco_images, tmp_path):
    image = {
        "file_name": IMAGE.split("/")[1],
        "height": 80,
        "width": 100,
        "original_id": 581857,
        "dataset_name": "refcoco",
    }
    box = {"area": 1.0, "iscrowd": 0, "category_id": 1, "bbox": [10, 20, 50, 50.5], "original_id": 1719310}
    content = {
        "images": [image | {"id": 0, "caption": "lady in blue"}, image | {"id": 1, "caption": "two people"}],
        "annotations": [
            box | {"id": 0, "image_id": 0},
            box | {"id": 1, "image_id": 1},
            box | {"id": 2, "image_id": 1},
        ],
        "categories": [{"id": 1, "name": "person"}],
    }
    path = tmp_path / "finetune_refcoco_train.json"
    path.write_text(json.dumps(content))
    read = read_file("refcoco_mdetr", path, media=coco_images / "train2014")
    assert [row["answer"]["boxes"] for row in read.valid] == [[[10, 20, 60, 70.5]]]
    assert read.rejected == ["field 'annotations': expected one box for the phrase, got 2"]
    assert refcoco.looks_like_mdetr(path, None)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"bbox": [60, 20, 10, 70]}, "field 'bbox': expected [x1, y1, x2, y2] with x1 < x2"),
        ({"bbox": [10, 20, 60]}, "field 'bbox': expected four numbers"),
        ({"expression": ""}, "field 'expression': expected a phrase"),
        ({"img_path": None}, "field 'img_path': expected the image's path, got null"),
        ({"bbox": [10, 20, 60, 90]}, "expected boxes inside the image of 100 x 80"),
        ({"img_path": "train2014/other.jpg"}, "field 'images[0]': expected an existing file"),
    ],
)
def test_what_is_wrong_is_named(read_file, coco_images, tmp_path, change, reason):
    path = tmp_path / "refs.jsonl"
    path.write_text(json.dumps(LAYOUTS["shikra"] | change))
    read = read_file("refcoco", path, media=coco_images)
    assert not read.valid
    assert reason in (read.rejected + read.invalid)[0]
