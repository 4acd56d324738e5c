"""Pascal VOC folders: BCCD and raccoon as published, and files with one thing wrong."""

from __future__ import annotations

from collections import Counter

import pytest
from PIL import Image

from data_recipes.readers import voc

XML = """<annotation><filename>{name}</filename><size><width>{width}</width><height>{height}</height></size>{objects}</annotation>"""
OBJECT = """<object><name>{name}</name><difficult>{difficult}</difficult><bndbox><xmin>{0}</xmin><ymin>{1}</ymin><xmax>{2}</xmax>
<ymax>{3}</ymax></bndbox></object>"""


@pytest.fixture
def folder(tmp_path):
    """A VOC folder with one 40 x 30 image; call it with (class, box, difficult) of the objects."""
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "JPEGImages").mkdir()
    Image.new("RGB", (40, 30)).save(tmp_path / "JPEGImages" / "a.png")

    def write(*objects, name="a.png", width=40, height=30):
        shown = "".join(OBJECT.format(*box, name=label, difficult=hard) for label, box, hard in objects)
        text = XML.format(name=name, width=width, height=height, objects=shown)
        (tmp_path / "Annotations" / "a.xml").write_text(text)
        return tmp_path

    return write


def test_bccd_gives_every_box_and_every_row_is_valid(read_file, shared_data):
    read = read_file(
        "voc", shared_data / "bccd", rows=["detection", "counting"], names={"RBC": "red blood cell"}
    )
    assert (read.records, len(read.rejected), len(read.invalid)) == (42, 0, 0)
    boxes = Counter()
    for row in read.valid:
        if row["task"] == "detection":
            boxes[row["category"]] += len(row["answer"]["boxes"])
    assert boxes == {"RBC": 472, "WBC": 42, "Platelets": 39}
    counts = {row["id"]: row["answer"]["value"] for row in read.valid if row["task"] == "counting"}
    assert sum(counts.values()) == 553
    text = next(r for r in read.valid if r["category"] == "RBC")["prompt"][0]["content"][1]["text"]
    assert "red blood cell" in text


def test_raccoon_grounding_rows_are_those_with_one_raccoon(read_file, shared_data):
    read = read_file("voc", shared_data / "raccoon", rows=["grounding"])
    assert read.records == 35
    assert (len(read.valid), len(read.invalid)) == (34, 0)
    assert read.rejected == [
        "field 'objects': expected a category with exactly one object, got ['raccoon'] (list)"
    ]
    assert all(row["task"] == "grounding" and len(row["answer"]["boxes"]) == 1 for row in read.valid)


def test_a_box_over_the_whole_image_is_the_whole_image(read_file, folder):
    read = read_file("voc", folder(("cat", (1, 1, 40, 30), 0)))
    assert read.valid[0]["answer"] == {"boxes": [[0, 0, 40, 30]], "frame": "pixel"}
    assert read_file("voc", folder(("cat", (0, 0, 40, 30), 0)), origin=0).valid[0]["answer"]["boxes"] == [
        [0, 0, 40, 30]
    ]


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        ((0, 1, 20, 20), "bndbox.xmin': expected at least 1 (pixels from 1), got 0"),
        ((9, 9, 8, 20), "expected [x1, y1, x2, y2] with x1 < x2"),
        (("x", 1, 2, 3), "expected a number, got 'x'"),
        (("nan", 1, 2, 3), "expected four finite numbers"),
    ],
)
def test_a_broken_box_rejects_its_class_and_leaves_the_others(read_file, folder, box, reason):
    read = read_file("voc", folder(("dog", (5, 5, 20, 20), 0), ("cat", box, 0), ("cat", (2, 2, 9, 9), 0)))
    assert [row["category"] for row in read.valid] == ["dog"]
    assert len(read.rejected) == 1
    assert read.rejected[0].startswith("class 'cat': field 'object[1]")
    assert reason in read.rejected[0]


def test_what_disagrees_with_the_image_is_found_by_the_validation(read_file, folder):
    assert (
        "expected boxes inside the image of 40 x 30"
        in read_file("voc", folder(("cat", (5, 5, 41, 20), 0))).invalid[0]
    )
    path = folder(("cat", (5, 5, 30, 20), 0), width=30, height=40)
    assert read_file("voc", path).invalid == [
        "field 'image_size': expected the file's [40, 30], got [30, 40] (list)"
    ]
    assert (
        "expected an existing file"
        in read_file("voc", folder(("cat", (5, 5, 30, 20), 0), name="b.png")).invalid[0]
    )


def test_difficult_objects_are_kept_or_reject_their_class(read_file, folder):
    path = folder(("cat", (5, 5, 20, 20), 1), ("cat", (9, 9, 30, 30), 0))
    assert len(read_file("voc", path).valid[0]["answer"]["boxes"]) == 2
    read = read_file("voc", path, difficult="reject")
    assert not read.rows
    assert "field 'object[0].difficult': expected 0, got 1" in read.rejected[0]


def test_files_that_are_no_annotation_are_named(read_file, folder, tmp_path):
    path = folder(("cat", (5, 5, 20, 20), 0))
    (path / "Annotations" / "b.xml").write_text("<annotation><object>")
    (path / "Annotations" / "c.xml").write_text("<html></html>")
    (path / "Annotations" / "d.xml").write_text("<annotation><filename>a.png</filename></annotation>")
    read = read_file("voc", path)
    assert (read.records, len(read.valid)) == (4, 1)
    assert "no valid XML" in read.rejected[0]
    assert "expected an <annotation>" in read.rejected[1]
    assert "expected at least one object" in read.rejected[2]


def test_folders_are_recognised(shared_data, tmp_path):
    assert voc.looks_like(shared_data / "bccd", None)
    assert voc.looks_like(shared_data / "raccoon" / "annotations", None)
    assert not voc.looks_like(shared_data / "tvg", None)
    assert not voc.looks_like(tmp_path, None)
