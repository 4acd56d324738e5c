"""Open Images CSV files, made in the published form."""

from __future__ import annotations

import pytest
from PIL import Image

from data_recipes.readers import FORMATS
from data_recipes.records import SourceError

HEADER = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside"
LINES = [
    "0001,xclick,/m/cup,1,0.10,0.50,0.20,0.75,0,0,0,0,0",
    "0002,xclick,/m/cup,1,0,1,0,1,0,0,1,0,0",
    "0001,xclick,/m/fish,1,0.5,0.75,0.5,1,1,0,0,0,0",
    "0001,xclick,/m/cup,1,0.6,0.9,0.1,0.4,0,1,0,0,0",
]


@pytest.fixture
def table(tmp_path):
    """validation-annotations-bbox.csv in the published layout; the lines of image 0001 do not stand together."""
    (tmp_path / "validation").mkdir()
    for name in ("0001", "0002", "0003"):
        Image.new("RGB", (100, 80)).save(tmp_path / "validation" / f"{name}.jpg")
    (tmp_path / "class-descriptions-boxable.csv").write_text('/m/cup,Cup\n/m/fish,"Fish, raw"\n')
    path = tmp_path / "validation-annotations-bbox.csv"
    path.write_text("\n".join([HEADER, *LINES]) + "\n")
    return path


def test_one_row_per_image_and_class_in_fractions(read_file, table):
    read = read_file("open_images", table, rows=["detection", "grounding", "counting"])
    assert [row["id"] for row in read.valid] == [
        "0001-Cup-detection",
        "0001-Cup-counting",
        "0001-Fish,_raw-detection",
        "0001-Fish,_raw-grounding",
        "0001-Fish,_raw-counting",
    ]
    cups = read.valid[0]
    assert cups["answer"] == {"boxes": [[0.1, 0.2, 0.5, 0.75], [0.6, 0.1, 0.9, 0.4]], "frame": "norm1"}
    assert (cups["image_id"], cups["category"], cups["category_id"]) == ("0001", "Cup", "/m/cup")
    assert "fractions of the image" in cups["prompt"][0]["content"][1]["text"]
    assert read.rejected == [
        "class 'Cup': field 'IsGroupOf': expected 0, got 1 (one box around many objects)"
    ]


def test_groups_are_kept_apart_or_ignored(read_file, table):
    kept = read_file("open_images", table, groups="keep").valid[-1]
    assert kept["answer"] == {"boxes": [], "crowds": [[0, 0, 1, 1]], "frame": "norm1"}
    ignored = read_file("open_images", table, groups="ignore")
    assert ignored.rejected == ["class 'Cup': field 'IsGroupOf': expected an object, got only groups"]


def test_classes_that_people_found_absent_are_asked_for(read_file, table):
    labels = table.with_name("validation-annotations-human-imagelabels-boxable.csv")
    labels.write_text(
        "ImageID,Source,LabelName,Confidence\n0001,verification,/m/cup,1\n0002,verification,/m/fish,0\n"
        "0003,verification,/m/fish,0\n0003,verification,/m/cup,0\n"
    )
    read = read_file("open_images", table, labels=labels, groups="keep")
    empty = [
        row["id"] for row in read.valid if row["answer"]["boxes"] == [] and "crowds" not in row["answer"]
    ]
    assert sorted(empty) == ["0002-Fish,_raw-detection", "0003-Cup-detection", "0003-Fish,_raw-detection"]


def test_files_that_cannot_be_used_are_named(read_file, table):
    other = table.with_name("other.csv")
    other.write_text("ImageID,LabelName\n")
    with pytest.raises(SourceError, match="got none named XMin"):
        read_file("open_images", other)
    table.with_name("class-descriptions-boxable.csv").unlink()
    with pytest.raises(SourceError, match="option `classes`"):
        read_file("open_images", table)


def test_it_is_recognised(table):
    assert FORMATS["open_images"].looks_like(table, "") and not FORMATS["coco"].looks_like(table, "")
