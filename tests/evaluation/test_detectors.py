"""Detectors beside the policies: results files that cannot be used, and small random checkpoints of transformers."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from evaluation.detection import Truth
from evaluation.detectors import Detector, DetectorError, read_results
from evaluation.measuring import Meter

GOOD = {"image_id": 7, "category_id": 1, "bbox": [1, 2, 30, 40], "score": 0.5}
TRUTH = Truth({("7", "cat"): [(1.0, 2.0, 31.0, 42.0)]}, category_ids={"cat": "1"})


def write(folder, content):
    path = folder / "results.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_a_results_file_is_read(tmp_path):
    other = {**GOOD, "category_id": 2}
    found = read_results(write(tmp_path, [GOOD, {**GOOD, "score": 1}, other]), TRUTH)
    box = (1, 2, 31, 42)
    assert found == {("7", "cat"): [(box, 0.5), (box, 1.0)], ("7", "2"): [(box, 0.5)]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([GOOD, 3], "entry 1: expected an object, got 3"),
        ([{**GOOD, "image_id": None}], "entry 0: field 'image_id': expected a number or a text"),
        ([{**GOOD, "category_id": True}], "field 'category_id'"),
        ([{**GOOD, "bbox": [1, 2, 3]}], r"field 'bbox': expected \[x, y, width, height\]"),
        ([{**GOOD, "bbox": [1, 2, 3, "4"]}], "field 'bbox'"),
        ([{**GOOD, "score": None}], "field 'score': expected a number"),
        ([{**GOOD, "image_id": 8}], "expected results for the data set's images and categories, got none among 1"),
        ([], "got none among 0 entries"),
        ({"annotations": []}, "got none among 0 entries"),
        ("[{", "got no valid JSON"),
    ],
)  # fmt: skip
def test_a_results_file_that_cannot_be_used_is_named(tmp_path, content, message):
    with pytest.raises(DetectorError, match=message) as error:
        read_results(write(tmp_path, content), TRUTH)
    assert "results.json" in str(error.value)


def test_a_data_set_without_ids_of_categories_cannot_be_compared(tmp_path):
    with pytest.raises(DetectorError, match="ids of categories"):
        read_results(write(tmp_path, [GOOD]), Truth({("7", "cat"): []}))


# ---------------------------------------------------------------------------------------------- transformers' checkpoints


def detr(folder):
    from transformers import DetrConfig, DetrForObjectDetection, DetrImageProcessor, ResNetConfig

    backbone = ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8, 16, 16], depths=[1] * 4, layer_type="basic", out_features=["stage4"]
    )  # fmt: skip
    sizes = {
        "d_model": 16,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "encoder_ffn_dim": 16,
        "decoder_ffn_dim": 16,
    }
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    plain = {"use_timm_backbone": False, "use_pretrained_backbone": False, "backbone": None}
    labels = {0: "Cat", 1: "dog"}
    config = DetrConfig(backbone_config=backbone, num_queries=5, id2label=labels, **sizes, **heads, **plain)
    DetrForObjectDetection(config).save_pretrained(folder)
    DetrImageProcessor(size={"shortest_edge": 64, "longest_edge": 96}).save_pretrained(folder)
    return folder


def rtdetr(folder):
    from transformers import RTDetrConfig, RTDetrForObjectDetection, RTDetrImageProcessor, RTDetrResNetConfig

    stages = ["stage2", "stage3", "stage4"]
    backbone = RTDetrResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8, 16, 16], depths=[1] * 4, layer_type="basic", out_features=stages
    )  # fmt: skip
    encoder = {
        "encoder_hidden_dim": 16,
        "encoder_in_channels": [8, 16, 16],
        "encoder_ffn_dim": 16,
        "encoder_attention_heads": 2,
    }
    decoder = {
        "decoder_in_channels": [16] * 3,
        "decoder_ffn_dim": 16,
        "decoder_layers": 1,
        "decoder_attention_heads": 2,
    }
    config = RTDetrConfig(
        backbone_config=backbone,
        d_model=16,
        num_queries=5,
        id2label={0: "cat", 1: "dog"},
        **encoder,
        **decoder,
    )
    RTDetrForObjectDetection(config).save_pretrained(folder)
    RTDetrImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)
    return folder


@pytest.fixture
def truth(tmp_path):
    """Three images of different sizes, in which cats and tvs are looked for."""
    truth = Truth()
    for name, size in (("a", (100, 80)), ("b", (60, 90)), ("c", (64, 64))):
        Image.effect_noise(size, 60).convert("RGB").save(tmp_path / f"{name}.png")
        truth.images[name] = str(tmp_path / f"{name}.png")
        truth.boxes.update({(name, "cat"): [(1.0, 1.0, 30.0, 30.0)], (name, "tv"): []})
    return truth


@pytest.mark.parametrize("build", [detr, rtdetr])
def test_boxes_are_those_of_the_checkpoint_by_the_data_sets_names(build, truth, tmp_path):
    """The same boxes as transformers' own pipeline gives, image by image, at a threshold of 0."""
    import torch
    from transformers import pipeline

    torch.manual_seed(0)
    folder = build(tmp_path / "detector")
    meter = Meter()
    found = Detector(folder, {"dog": "tv"}, "cpu").find(
        truth, 1, meter
    )  # DETR pads batches, which changes scores a little
    assert {category for _, category in found} <= {"cat", "tv"} and meter.seconds > 0 and meter.peak_bytes > 0
    pipe = pipeline("object-detection", model=str(folder), device="cpu")
    called = {"cat": "cat", "dog": "tv"}
    for image, path in truth.images.items():
        theirs = [
            (called[one["label"].lower()], one["score"])
            for one in pipe(path, threshold=0.0)
            if one["label"].lower() in called
        ]
        ours = [(name, score) for name in ("cat", "tv") for _, score in found.get((image, name), [])]
        assert len(ours) == len(theirs) > 0
        for (name, score), (label, expected) in zip(sorted(ours), sorted(theirs), strict=True):
            assert name == label and score == pytest.approx(expected, abs=1e-5)


def test_labels_that_fit_no_category_and_folders_without_a_detector_are_named(truth, tmp_path):
    folder = detr(tmp_path / "detector")
    named = Truth({(image, "zebra"): [] for image in truth.images}, images=truth.images)
    with pytest.raises(DetectorError, match="`names` maps them"):
        Detector(folder, {}, "cpu").find(named, 2, Meter())
    (tmp_path / "empty").mkdir()
    with pytest.raises(DetectorError, match="expected an object-detection checkpoint"):
        Detector(tmp_path / "empty", {})
