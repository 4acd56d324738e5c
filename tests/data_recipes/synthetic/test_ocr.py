"""Scripts, hands, waves and blur of text worlds; from a row to its reward. Boxes against pixels: test_labels.py."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from data_recipes.checks.validate import Validation, make_check
from data_recipes.readers import FORMATS
from data_recipes.records import SourceError
from data_recipes.synthetic import fonts
from data_recipes.synthetic.ocr import OcrOptions, _moving
from data_recipes.synthetic.scripts import SCRIPTS
from data_recipes.synthetic.typeset import Page, Style, _distortion, typeset
from rewards.functions.grounding import giou_reward
from rewards.functions.text import anls_reward
from vlm.media import load_image


def made(folder: Path, **options) -> list[dict]:
    world = FORMATS["synthetic_ocr"]
    typed = world.options(**options)
    return [row for record in world.read(folder, typed) for row in world.rows(record, typed)]


def needs(script: str, *, handwritten: bool = False) -> None:
    """Skip where no font of the script is installed; that the error then says so is a test of its own."""
    try:
        fonts.faces(script, handwritten=handwritten)
    except SourceError as error:
        pytest.skip(str(error))


def marked(row: dict) -> np.ndarray:
    pixels = np.asarray(load_image(row["images"][0])).astype(int)
    return np.abs(pixels - pixels[0, 0]).max(axis=2) > 8


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_is_set_within_its_boxes(script, tmp_path):
    needs(script)
    clean = {"blur": 0, "motion": 0, "noise": 0, "occlusion": 0, "contrast": 0.9}
    rows = made(
        tmp_path, rows=6, difficulty=0.0, distortion=0.5, curl=0.6, scripts=(script,), lines=3, **clean
    )
    check = make_check(Validation(rewards={"ocr": "anls"}))
    for row in rows:
        check(row)
        assert row["script"] == script
        ink = marked(row)
        for line in row["lines"]:
            x1, y1, x2, y2 = line["box"]
            assert ink[y1, x1:x2].any() and ink[y2 - 1, x1:x2].any(), "the line's box is tight"
            assert ink[y1:y2, x1].any() and ink[y1:y2, x2 - 1].any()
        for word in row["words"]:
            x1, y1, x2, y2 = word["box"]
            ink[y1:y2, x1:x2] = False
        assert not ink.any(), "no ink outside of the words' boxes"


def test_arabic_is_joined_and_begins_at_the_right():
    needs("arabic")
    path, face = fonts.faces("arabic", handwritten=False)[0]
    style = Style(path, face, 32)
    (first, second) = typeset(Page((("بحر", "كتاب"),), style, right_to_left=True)).words
    assert first.box[0] > second.box[2]
    apart = sum(typeset(Page(((letter,),), style)).words[0].ink.shape[1] for letter in "كتاب")
    assert second.ink.shape[1] < 0.95 * apart, "letters are joined, which makes them narrower"


def test_words_without_a_space_touch_and_numbers_never_do(tmp_path):
    needs("han")
    rows = made(tmp_path, rows=12, difficulty=0.6, codes=0.8, scripts=("han",))
    for row in rows:
        for number, line in enumerate(row["lines"]):
            words = [word["text"] for word in row["words"] if word["line"] == number]
            assert line["text"] == "".join(words)
            assert not any(a[-1].isdigit() and b[0].isdigit() for a, b in pairwise(words))


def test_handwriting_is_a_share_of_the_rows_and_off_the_line(tmp_path):
    needs("latin", handwritten=True)
    rows = made(tmp_path, rows=24, difficulty=0.3, handwriting=0.5, scripts=("latin", "greek"))
    hands = [row for row in rows if row["handwritten"]]
    assert 2 <= len(hands) < 20 and {row["script"] for row in hands} == {"latin"}
    assert all(row["font"] != "Aileron" for row in hands)


def test_a_font_that_is_not_there_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(fonts, "_installed", lambda family: ())
    for options, expected in (
        (
            {"scripts": ("devanagari",)},
            "font for devanagari .Noto Sans Devanagari.*on Debian install fonts-noto-core",
        ),
        ({"scripts": ("han",)}, "on Debian install fonts-noto-cjk"),
        ({"handwriting": 1.0}, "handwriting: expected an installed font for latin .*fonts-bwht"),
        ({"families": ("No Such Font",)}, "families: expected installed fonts, got No Such Font"),
        ({"handwriting": 0.5, "scripts": ("greek",)}, "handwriting: expected a script with such fonts"),
    ):
        with pytest.raises(SourceError, match=expected):
            made(tmp_path, rows=1, **options)


def test_a_font_without_the_letters_is_refused(tmp_path):
    found = sorted(Path("/usr/share/fonts").rglob("DejaVuSerif-Bold.ttf"))
    if not found:
        pytest.skip("no DejaVu fonts on this machine")
    with pytest.raises(
        SourceError, match="expected all letters of hangul in .*DejaVuSerif-Bold.ttf, but it lacks"
    ):
        made(tmp_path, rows=1, scripts=("hangul",), fonts=(found[0],))
    (row,) = made(tmp_path, rows=1, scripts=("cyrillic",), fonts=(found[0],))
    assert row["font"] == "DejaVuSerif-Bold.ttf"


def test_shaped_scripts_need_raqm(monkeypatch):
    monkeypatch.setattr(features, "check", lambda name: False)
    with pytest.raises(SourceError, match="expected Pillow with Raqm for arabic"):
        fonts.faces("arabic", handwritten=False)


def test_waves_move_ink_as_far_as_they_say():
    """A dash at u on a flat line must stand at v - curl(u), since pixels are looked up at v + curl(u)."""
    wave = (10.0, 200.0, 0.7)
    flat, curled = (typeset(Page((("-",) * 24,), Style(size=30, curl=c))) for c in ((0, 1, 0), wave))
    matrix = _distortion(Style(), (0, 0, 1, 1))
    assert np.allclose(matrix[:2, :2], np.eye(2))
    middles = np.array([[(w.box[0] + w.box[2]) / 2, (w.box[1] + w.box[3]) / 2] for w in flat.words])
    moved = np.array([(w.box[1] + w.box[3]) / 2 for w in curled.words])
    # where the typesetter's u = 0 lies is a common shift: the phase is found by fitting, amplitude and length are given
    shift = moved - middles[:, 1]
    spread = [
        -wave[0] * np.sin(math.tau / wave[1] * middles[:, 0] + phase)
        for phase in np.linspace(0, math.tau, 360)
    ]
    error = min(np.ptp(shift - s) for s in spread)
    assert error < 3 and np.ptp(shift) > wave[0]


def test_motion_blur_keeps_places_and_brightness():
    image = Image.new("RGB", (41, 41))
    image.putpixel((20, 20), (255, 255, 255))
    for length, angle in ((5, 0), (4, 0.7), (3, 2.0), (5, math.pi / 2)):
        grey = np.asarray(_moving(image, length, angle), float)[..., 0]
        y, x = np.indices(grey.shape)
        centre = np.array([(x * grey).sum(), (y * grey).sum()]) / grey.sum()
        assert np.allclose(centre, 20, atol=0.2) and 230 < grey.sum() < 280
        assert grey.max() < 200
    assert _moving(image, 0.0, 1.0) is image


def test_rows_are_rewarded_by_text_and_by_box(tmp_path):
    rows = made(tmp_path, rows=12, difficulty=0.5)
    assert {row["kind"] for row in rows} == set(OcrOptions.model_fields["kinds"].default)
    for row in rows:
        answer = row["answer"]
        if row["task"] == "ocr":
            text = answer["value"]
            assert anls_reward(text, **row) == anls_reward(f"The answer is **{text}**.", **row) == 1.0
            assert 0.5 < anls_reward(text[:-1], **row) < 1.0 or len(text) < 3
            assert anls_reward("something else entirely, which is long", **row) == 0.0
        else:
            ((x1, y1, x2, y2),) = answer["boxes"]
            size = {"image_size": row["image_size"]}
            assert giou_reward(str([x1, y1, x2, y2]), **row | size) == 1.0
            near = giou_reward(str([x1 + 2, y1, x2 + 2, y2]), **row | size)
            assert 0.5 < near < 1.0 and giou_reward("nowhere", **row | size) == 0.0
            asked = row["prompt"][0]["content"][-1]["text"]
            placed = row["lines"] if row["kind"] == "find_line" else row["words"]
            assert [p["box"] for p in placed if f"'{p['text']}'" in asked] == [answer["boxes"][0]]


def test_other_scripts_are_rewarded_too():
    for script in SCRIPTS.values():
        text = script.joint.join(script.words[:5])
        assert anls_reward(text, {"value": text}) == 1.0
        assert 0.5 < anls_reward(text[:-1], {"value": text}) < 1.0
