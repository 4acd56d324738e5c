"""COCO detection files, made in the published form."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from data_recipes.readers import FORMATS, coco


def annotation(number, image, category, bbox, crowd=0):
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "bbox": bbox,
        "iscrowd": crowd,
        "area": 1.0,
        "segmentation": [[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]],
    }


@pytest.fixture
def instances(tmp_path):
    """A COCO file of two 100 x 80 images, annotations not sorted by image, arrays in any order."""
    for name in ("1.jpg", "2.jpg"):
        Image.new("RGB", (100, 80)).save(tmp_path / name)

    def write(annotations, order=("info", "images", "annotations", "categories")):
        content = {
            "info": {"year": 2017},
            "images": [
                {"id": 11, "file_name": "1.jpg", "width": 100, "height": 80},
                {"id": 12, "file_name": "2.jpg", "width": 100, "height": 80},
            ],
            "annotations": annotations,
            "categories": [{"id": 1, "name": "cat"}, {"id": 17, "name": "traffic light"}],
        }
        path = tmp_path / "instances.json"
        path.write_text(json.dumps({key: content[key] for key in order}))
        return path

    return write


GOOD = [
    annotation(1, 11, 1, [10, 20, 30.5, 40.25]),
    annotation(2, 12, 1, [0, 0, 100, 80]),
    annotation(3, 11, 17, [1.1, 2.2, 3.3, 4.4]),
    annotation(4, 11, 1, [50, 50, 49.99, 30]),
]


@pytest.mark.parametrize(
    "order", [("info", "images", "annotations", "categories"), ("categories", "annotations", "images")]
)
def test_one_row_per_image_and_category_with_all_its_boxes(read_file, instances, order):
    read = read_file("coco", instances(GOOD, order))
    assert (read.records, len(read.valid), read.rejected, read.invalid) == (2, 3, [], [])
    assert [row["id"] for row in read.valid] == [
        "11-cat-detection",
        "11-traffic_light-detection",
        "12-cat-detection",
    ]
    assert read.valid[0]["answer"] == {
        "boxes": [[10, 20, 40.5, 60.25], [50, 50, 99.99, 80]],
        "frame": "pixel",
    }
    assert read.valid[1]["answer"]["boxes"] == [[1.1, 2.2, 4.4, 6.6]]


def test_counting_and_grounding_rows(read_file, instances):
    read = read_file("coco", instances(GOOD), rows=["counting", "grounding"])
    values = {row["id"]: row["answer"].get("value", row["answer"].get("boxes")) for row in read.valid}
    assert values == {
        "11-cat-counting": 2,
        "11-traffic_light-counting": 1,
        "11-traffic_light-grounding": [[1.1, 2.2, 4.4, 6.6]],
        "12-cat-counting": 1,
        "12-cat-grounding": [[0, 0, 100, 80]],
    }


def test_an_answer_in_another_frame_is_asked_for_in_its_unit(read_file, instances):
    (row, *_) = read_file("coco", instances(GOOD), frame_out="norm1000").valid
    assert row["frame_out"] == "norm1000"
    assert "boxes in thousandths of the image's width and height" in row["prompt"][0]["content"][1]["text"]
    assert row["answer"]["frame"] == "pixel"


def test_crowds_reject_their_category_or_are_left_out(read_file, instances):
    crowd = [
        *GOOD,
        annotation(5, 11, 1, [0, 0, 90, 70], crowd=1),
        annotation(6, 12, 17, [0, 0, 9, 9], crowd=1),
    ]
    read = read_file("coco", instances(crowd))
    assert [row["id"] for row in read.valid] == ["11-traffic_light-detection", "12-cat-detection"]
    assert read.rejected[0].startswith("category 'cat', annotation 5: field 'iscrowd': expected 0")
    ignored = read_file("coco", instances(crowd), crowds="ignore")
    assert len(ignored.valid) == 3
    assert ignored.rejected == [
        "category 'traffic light': field 'iscrowd': expected an object, got only crowd regions"
    ]


def test_nothing_that_is_wrong_vanishes(read_file, instances):
    wrong = [
        *GOOD,
        annotation(7, 11, 17, [5, 5, 0, 4]),
        annotation(8, 12, 99, [5, 5, 5, 5]),
        annotation(9, 404, 1, [5, 5, 5, 5]),
        annotation(10, 12, 17, [60, 60, 50, 10]),
    ]
    read = read_file("coco", instances(wrong))
    assert [row["id"] for row in read.valid] == ["11-cat-detection", "12-cat-detection"]
    assert len(read.rejected) == 3
    assert (
        "annotation 7: field 'bbox': expected [x, y, width, height] with a positive size" in read.rejected[0]
    )
    assert "annotation 8: field 'category_id': expected a category of the file, got 99" in read.rejected[1]
    assert read.rejected[2] == "field 'image_id': expected the id of an image in the file, got 404"
    assert (
        "expected boxes inside the image of 100 x 80 (frame pixel), got [60.0, 60.0, 110.0, 70.0]"
        in read.invalid[0]
    )


def test_an_image_without_objects_is_rejected_with_the_reason(read_file, instances):
    read = read_file("coco", instances(GOOD[:1]))
    assert read.rejected == ["field 'objects': expected at least one object, got none"]


def test_a_file_that_breaks_off_gives_no_incomplete_answers(read_file, instances):
    path = instances(GOOD, ("categories", "images", "annotations"))
    path.write_text(path.read_text()[:-30])
    read = read_file("coco", path)
    assert not read.rows
    assert len(read.rejected) == 1
    assert "no valid JSON" in read.rejected[0]


def test_lvis_names_images_by_their_address(read_file, instances, tmp_path):
    path = instances(GOOD[:1])
    data = json.loads(path.read_text())
    del data["images"][0]["file_name"]
    data["images"][0]["coco_url"] = "http://images.cocodataset.org/train2017/1.jpg"
    path.write_text(json.dumps(data))
    (row,) = read_file("coco", path, validate=False, media=tmp_path / "coco").rows
    assert row["images"] == [str(tmp_path / "coco" / "train2017" / "1.jpg")]


def test_the_form_is_recognised_from_the_beginning(instances, tmp_path):
    assert coco.looks_like(instances(GOOD), None)
    assert not FORMATS["refcoco_mdetr"].looks_like(instances(GOOD), None)
    (tmp_path / "other.json").write_text('[{"image": "a.jpg"}]')
    assert not coco.looks_like(tmp_path / "other.json", None)


def test_crowd_regions_stay_in_the_answer_for_evaluation(read_file, instances):
    crowds = [annotation(9, 11, 1, [0, 0, 50, 50], crowd=1), annotation(10, 12, 17, [1, 1, 9, 9], crowd=1)]
    read = read_file("coco", instances(GOOD + crowds), crowds="keep", rows=["detection", "counting"])
    by_id = {row["id"]: row["answer"] for row in read.valid}
    assert by_id["11-cat-detection"]["crowds"] == [[0, 0, 50, 50]]
    assert len(by_id["11-cat-detection"]["boxes"]) == 2 and "11-cat-counting" not in by_id
    assert by_id["12-traffic_light-detection"]["boxes"] == []


def test_categories_that_an_image_has_none_of_are_asked_for(read_file, instances):
    read = read_file("coco", instances(GOOD[:2]), absent=True)
    empty = {row["id"]: row["category_id"] for row in read.valid if not row["answer"]["boxes"]}
    assert empty == {"11-traffic_light-detection": 17, "12-traffic_light-detection": 17}
    assert {row["image_id"] for row in read.valid} == {11, 12}


def test_only_verified_absences_of_lvis_are_asked_for(read_file, instances):
    path = instances(GOOD[:2])
    data = json.loads(path.read_text())
    for image, absent in zip(data["images"], ([17], []), strict=True):
        image["neg_category_ids"] = absent
    path.write_text(json.dumps(data))
    empty = [r["id"] for r in read_file("coco", path, absent=True).valid if not r["answer"]["boxes"]]
    assert empty == ["11-traffic_light-detection"]
