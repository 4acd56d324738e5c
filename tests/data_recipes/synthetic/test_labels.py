"""Labels of synthetic worlds checked against the pixels by independent code: boxes, counts, spans, referents, details."""

from __future__ import annotations

import random
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from scipy import ndimage

from data_recipes.synthetic import counting
from data_recipes.synthetic.figures import Figure, background, figure_mask, paint
from data_recipes.synthetic.shapes.scenes import ALL_SHAPES, PALETTE, Look, Thing, draw, random_scene
from data_recipes.synthetic.typeset import Page, Style, font, typeset
from tests.data_recipes.synthetic.made import made
from vlm.media import load_image, load_video


def components(image: np.ndarray, least: int = 12) -> list[tuple[list[int], tuple[int, ...]]]:
    """(box, colour in its largest part) of everything that differs from the corner's colour."""
    marks, _ = ndimage.label((image != image[0, 0]).any(axis=2), np.ones((3, 3)))
    found = []
    for number, (rows, columns) in enumerate(ndimage.find_objects(marks), 1):
        pixels = image[rows, columns][marks[rows, columns] == number]
        if len(pixels) >= least:
            colours = Counter(map(tuple, pixels.tolist()))
            found.append(([columns.start, rows.start, columns.stop, rows.stop], colours.most_common(1)[0][0]))
    return found


# --------------------------------------------------------------------------------------------------- shapes, grounding


@pytest.mark.parametrize("shape", ALL_SHAPES)
def test_boxes_of_shapes_are_tight(shape):
    for thing in (Thing("red", shape, 1, 2, inset=3), Thing("blue", shape, 0, 1, inset=9, cell_px=40)):
        ((box, colour),) = components(np.asarray(draw(3, 4, (thing,), thing.cell_px)))
        assert (box, colour) == (thing.box, PALETTE[thing.colour])
    rng = random.Random(1)
    for _ in range(5):
        figure = Figure(
            "red",
            shape,
            rng.uniform(40, 60),
            rng.uniform(40, 60),
            rng.uniform(6, 30),
            angle=rng.uniform(-12, 12),
        )
        image = Image.new("RGB", (100, 100), (200, 200, 200))
        paint(image, figure, outline=rng.random() < 0.5)
        ((box, _),) = components(np.asarray(image))
        assert box == figure.box


def test_one_thing_of_a_harder_scene_can_always_be_named():
    look = Look(rows=5, columns=6, things=(8, 12), repeats=0.8, sizes=(("small", 9), ("large", 2)))
    for seed in range(50):
        names = Counter(t.name for t in random_scene(random.Random(seed), look).things)
        assert 1 in names.values()


def test_every_figure_is_where_its_box_says(tmp_path):
    rows = made("synthetic_grounding", tmp_path, rows=8, things=12, roughness=0, noise=0)
    for row in rows:
        found = components(np.asarray(load_image(row["images"][0])))
        declared = [(o["box"], PALETTE[o["colour"]]) for o in row["objects"]]
        assert sorted(found) == sorted(declared)
        assert all(box in [o["box"] for o in row["objects"]] for box in row["answer"]["boxes"])


SIDES = {
    "to the left of": lambda a, b: a[0] + a[2] < b[0] + b[2],
    "to the right of": lambda a, b: a[0] + a[2] > b[0] + b[2],
    "above": lambda a, b: a[1] + a[3] < b[1] + b[3],
    "below": lambda a, b: a[1] + a[3] > b[1] + b[3],
}
ENDS = {
    "leftmost": lambda b: b[0] + b[2],
    "rightmost": lambda b: -b[0] - b[2],
    "topmost": lambda b: b[1] + b[3],
    "bottommost": lambda b: -b[1] - b[3],
}


def alike(words: str, objects: list[dict]) -> list[dict]:
    """Objects that every word of a noun phrase holds for, singular or plural."""
    names = {s: s for s in ALL_SHAPES} | {f"{s}s": s for s in ALL_SHAPES} | {f"{s}es": s for s in ALL_SHAPES}

    def holds(word: str, o: dict) -> bool:
        if word in ("figure", "figures"):
            return True
        return names.get(word, word) in (o["size"], o["colour"], o["shape"])

    return [o for o in objects if all(holds(word, o) for word in words.split())]


def referents(expression: str, objects: list[dict]) -> list[dict]:
    """What a referring expression can mean, by the sides on which centres lie; written apart from the generator."""
    for relation, side in SIDES.items():
        if f" {relation} the " in expression:
            noun, other = expression.split(f" {relation} the ")
            (anchor,) = referents(other, objects)
            return [o for o in alike(noun, objects) if o != anchor and side(o["box"], anchor["box"])]
    first, _, rest = expression.partition(" ")
    if first in ENDS:
        return sorted(alike(rest, objects), key=lambda o: ENDS[first](o["box"]))[:1]
    return alike(expression, objects)


@pytest.mark.parametrize("difficulty", [0.0, 0.6, 1.0])
def test_expressions_mean_exactly_the_boxes_of_the_answer(tmp_path, difficulty):
    rows = made(
        "synthetic_grounding", tmp_path, rows=16, difficulty=difficulty, width=480, height=400, unit=14
    )
    for row in rows:
        meant = referents(row["expression"], row["objects"])
        assert [o["box"] for o in meant] == row["answer"]["boxes"], row["expression"]
        assert row["expression"] in row["prompt"][0]["content"][-1]["text"]
        assert (row["task"] == "detection") == (len(meant) > 1) == (row["kind"] == "all")
        if row["kind"] in ("relation", "extreme"):  # needed, not decoration
            noun = row["expression"]
            for relation in SIDES:
                noun = noun.split(f" {relation} ")[0]
            assert len(alike(re.sub(r"^\w+most ", "", noun), row["objects"])) > 1


def test_backgrounds_keep_away_from_every_colour_of_things():
    rng = random.Random(0)
    for _ in range(8):
        pixels = np.asarray(background(rng, 120, 90, 1.0)).reshape(-1, 3).astype(int)
        for name, colour in PALETTE.items():
            assert np.linalg.norm(pixels - colour, axis=1).min() > 50, name


# ------------------------------------------------------------------------------------------------------------ counting


def test_counts_are_those_of_connected_components(tmp_path):
    rows = made(
        "synthetic_counting",
        tmp_path,
        rows=9,
        overlap=0,
        roughness=0,
        difficulty=0.0,
        most=12,
        distractors=10,
    )
    for row in rows:
        found = components(np.asarray(load_image(row["images"][0])))
        assert len(found) == len(row["objects"])
        boxes = [box for box, _ in found]
        assert all(box in boxes for box in row["boxes"]) and len(row["boxes"]) == row["answer"]["value"]
        if row["kind"] == "colour":
            colour = row["prompt"][0]["content"][-1]["text"].split()[2]
            assert sum(c == PALETTE[colour] for _, c in found) == row["answer"]["value"]
        words = row["prompt"][0]["content"][-1]["text"].removeprefix("How many ").split(" are there")[0]
        assert len(alike(words, [o | {"size": ""} for o in row["objects"]])) == row["answer"]["value"]


@pytest.mark.parametrize("overlap", [0.1, 0.4])
def test_no_figure_is_covered_beyond_the_limit_and_some_are_covered(overlap):
    options = counting.CountingOptions(difficulty=0.9, overlap=overlap, width=300, height=300)
    shares = []
    for seed in range(2):
        planned = None
        rng = random.Random(seed)
        while planned is None:
            planned = counting.plan("shape", rng, options)
        top = Image.new("I", (300, 300), -1)
        for number, figure in enumerate(planned.figures):
            mask, left, tops = figure_mask(figure)
            top.paste(number, (left, tops), mask.point(lambda v: 255 * (v > 0)))
        seen = Counter(np.asarray(top).ravel().tolist())
        for number, figure in enumerate(planned.figures):
            whole = int((np.asarray(figure_mask(figure)[0]) > 0).sum())
            shares.append(1 - seen[number] / whole)
    assert max(shares) <= overlap + 1e-9
    assert sum(s > 0 for s in shares) > 3


# ----------------------------------------------------------------------------------------------------------------- ocr

STYLES = [
    Style(size=20),
    Style(size=30, spacing=4, turn=12, shear=0.25, tilt=(0.2, -0.2)),
    Style(size=17, turn=-14, shear=-0.3, tilt=(-0.25, 0.25)),
    Style(size=24, curl=(12, 150, 1.0), sway=(8, 90, 2.0)),
    Style(size=24, turn=-9, shear=0.2, tilt=(0.2, 0.2), curl=(14, 260, 0.0), sway=(6, 120, 4.0)),
]
PAGE = (("Glyph", "jumping", "$4.99"), ("AV-37", "fog"), ("quartz",))


@pytest.mark.parametrize("style", STYLES)
def test_boxes_of_words_hold_all_ink_and_no_smaller_ones_do(style):
    setting = typeset(Page(PAGE, style, (0, 24, 0)))
    ink = np.asarray(setting.ink) > 0
    outside = ink.copy()
    for word in setting.words:
        x1, y1, x2, y2 = word.box
        outside[y1:y2, x1:x2] = False
        own = word.ink > 0
        assert own[0].any() and own[-1].any() and own[:, 0].any() and own[:, -1].any(), "an inset loses ink"
        assert (ink[y1:y2, x1:x2] | ~own).all(), "the ink is on the page"
    assert not outside.any()
    assert [w.text for w in setting.words] == [w for line in PAGE for w in line]
    assert not ink[0].any() and not ink[-1].any() and not ink[:, 0].any() and not ink[:, -1].any()


def test_undistorted_words_are_drawn_as_the_font_draws_them():
    setting = typeset(Page((("Harbour",),), Style(size=32)))
    reference = Image.new("L", (300, 60))
    ImageDraw.Draw(reference).text((10, 5), "Harbour", fill=255, font=font(None, 32))
    box = reference.point(lambda v: 255 * (v >= 64)).getbbox()
    (word,) = setting.words
    difference = np.asarray(reference.crop(box)).astype(int) - np.asarray(setting.ink.crop(tuple(word.box)))
    assert np.abs(difference).max() < 64


def test_ink_of_the_image_lies_in_the_declared_boxes(tmp_path):
    rows = made("synthetic_ocr", tmp_path, rows=8, difficulty=0.0, distortion=0.8)
    for row in rows:
        pixels = np.asarray(load_image(row["images"][0])).astype(int)
        marked = np.abs(pixels - pixels[0, 0]).max(axis=2) > 8
        for word in row["words"]:
            x1, y1, x2, y2 = word["box"]
            assert marked[y1, x1:x2].any() and marked[y2 - 1, x1:x2].any()
            assert marked[y1:y2, x1].any() and marked[y1:y2, x2 - 1].any()
        for word in row["words"]:
            x1, y1, x2, y2 = word["box"]
            marked[y1:y2, x1:x2] = False
        assert not marked.any()
        texts = [w["text"] for w in row["words"]]
        if row["kind"] == "find":
            (box,) = row["answer"]["boxes"]
            word = next(w for w in row["words"] if w["box"] == box)
            assert f"'{word['text']}'" in row["prompt"][0]["content"][-1]["text"]
            assert [t.casefold() for t in texts].count(word["text"].casefold()) == 1


def test_occlusion_stays_below_its_limit_and_happens(tmp_path):
    rows = made("synthetic_ocr", tmp_path, rows=12, difficulty=0.8, lines=3, occlusion=0.2)
    assert max(row["occluded"] for row in rows) <= 0.2
    assert sum(row["occluded"] > 0 for row in rows) >= 4


def test_fonts_of_the_user_are_used(tmp_path):
    fonts = sorted(Path("/usr/share/fonts").rglob("DejaVuSerif-Bold.ttf"))
    if not fonts:
        pytest.skip("no DejaVu fonts on this machine")
    own = made("synthetic_ocr", tmp_path, rows=1, difficulty=0.0)
    other = made("synthetic_ocr", tmp_path, rows=1, difficulty=0.0, fonts=[fonts[0]])
    assert own[0]["answer"] == other[0]["answer"] and own[0]["images"] != other[0]["images"]


# -------------------------------------------------------------------------------------------------------------- events


def region(frames: np.ndarray, event: dict) -> np.ndarray:
    x1, y1, x2, y2 = event["place"]
    return frames[:, y1:y2, x1:x2].astype(int)


def reach(frames: np.ndarray, colour: str) -> np.ndarray:
    """(N, H, W): where each frame has nearly this colour."""
    return np.abs(frames - np.array(PALETTE[colour])).max(axis=3) < 40


@pytest.mark.parametrize("difficulty", [0.2, 0.9])
def test_every_frame_shows_what_the_spans_say(tmp_path, difficulty):
    rows = made("synthetic_events", tmp_path, rows=5, difficulty=difficulty, seconds=12)
    for row in rows:
        rate = row["video_fps"]
        video = load_video(row["videos"][0], fps=rate, max_frames=10_000)
        assert len(video.frames) == row["duration"] * rate and video.duration == row["duration"]
        happens = {}
        for event in row["events"]:
            colour = event["name"].split()[0]
            crop = region(video.frames, event)
            own = reach(crop, colour)
            if event["event"] == "seen":
                shows = own.sum(axis=(1, 2)) > 30
            elif event["event"] == "turns":
                shows = reach(crop, event["other"]).sum(axis=(1, 2)) > 30
                assert (shows != (own.sum(axis=(1, 2)) > 30)).all(), "it has one of its two colours at a time"
            else:
                centre = np.array([np.nonzero(mask)[1].mean() for mask in own])
                shows = np.array([False] + [abs(b - a) > 1 for a, b in pairwise(centre)])
            happens[event["name"]] = shows
            assert np.array_equal(shows, during(event["spans"], len(shows), rate)), event
        asked = [name for name in happens if f"the {name} " in row["prompt"][0]["content"][-1]["text"]]
        answer = during(row["answer"]["spans"], len(video.frames), rate)
        if row["kind"] == "both":
            assert np.array_equal(answer, happens[asked[0]] & happens[asked[1]])
        elif row["kind"] == "nth":
            runs, count = ndimage.label(happens[asked[0]])
            ordinal = re.search(r"for the (\w+) time", row["prompt"][0]["content"][-1]["text"])[1]
            number = ("first", "second", "third", "fourth", "fifth").index(ordinal) + 1
            assert count >= 2 and np.array_equal(answer, runs == number)
        else:
            assert np.array_equal(answer, happens[asked[0]])


def during(spans: list[list[float]], count: int, rate: int) -> np.ndarray:
    times = np.arange(count) / rate
    return np.any([(start <= times) & (times < end) for start, end in spans], axis=0)


def test_two_frames_a_second_show_every_begin_and_end(tmp_path):
    (row,) = made("synthetic_events", tmp_path, rows=1, difficulty=0.5, seconds=10, kinds=["seen"])
    spans = row["answer"]["spans"]
    assert all(t * 2 == int(t * 2) for span in spans for t in span)
    assert all(end - start >= 1.0 for start, end in spans)
    assert spans[0][0] > 0 and spans[-1][1] < row["duration"]
