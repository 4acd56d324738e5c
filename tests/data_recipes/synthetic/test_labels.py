"""Labels of synthetic worlds checked against the pixels by independent code: boxes, counts, spans, referents, details."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from scipy import ndimage

from data_recipes.readers import FORMATS
from data_recipes.synthetic import counting, search
from data_recipes.synthetic.figures import Figure, background, figure_mask, paint
from data_recipes.synthetic.shapes.scenes import ALL_SHAPES, PALETTE, Look, Thing, draw, random_scene
from data_recipes.synthetic.typeset import Page, Style, font, typeset
from environments.dialogue import pixels_of, shown
from rewards.geometry.frames import smart_resize
from vlm.media import load_image, load_video


def made(name: str, folder: Path, **options) -> list[dict]:
    world = FORMATS[name]
    typed = world.options(**options)
    return [row for record in world.read(folder, typed) for row in world.convert(record, typed)]


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


# -------------------------------------------------------------------------------------------------------------- search

LARGE = {"width": 1000, "height": 750, "max_pixels": 28 * 28 * 150, "image_format": "png", "signs": 20}


@pytest.mark.parametrize("zooms", [1, 2])
def test_regions_of_the_dialogue_are_those_that_its_calls_name(tmp_path, zooms):
    for row in made("synthetic_search", tmp_path, rows=3, zooms=zooms, **LARGE):
        original, *regions = [load_image(path) for path in row["images"]]
        sources, offsets = {"original_image": original}, {"original_image": (0, 0)}
        calls = [
            re.search(r'"bbox_2d": (\[.*?\]), "source": "(\w+)"', t["content"])
            for t in row["trace"]
            if t["role"] == "assistant" and "<grounding>" in t["content"]
        ]
        assert len(calls) == len(regions) == zooms == row["turns"] - 1
        for number, (call, region_shown) in enumerate(zip(calls, regions, strict=True), 1):
            box = [float(v) for v in call[1].strip("[]").split(",")]
            assert all(0 <= v <= 1 for v in box)
            source = sources[call[2]]
            x1, y1, x2, y2 = pixels_of(box, source.size)
            crop = source.crop((x1, y1, x2, y2))
            left, top = offsets[call[2]]
            sources[f"observation_{number}"], offsets[f"observation_{number}"] = crop, (left + x1, top + y1)
            assert np.array_equal(np.asarray(shown(crop)), np.asarray(region_shown))
            assert region_shown.width * region_shown.height >= 39_000
        left, top = offsets[f"observation_{zooms}"]
        x1, y1, x2, y2 = row["target_box"]
        last = sources[f"observation_{zooms}"]
        assert left <= x1 and top <= y1 and x2 <= left + last.width and y2 <= top + last.height


def test_without_a_zoom_the_image_is_the_region_around_the_sign_and_one_turn_answers(tmp_path):
    for row in made("synthetic_search", tmp_path, rows=3, zooms=0, **LARGE):
        (region,), (turn,) = [load_image(path) for path in row["images"]], row["trace"]
        assert list(region.size) == row["image_size"] and row["turns"] == 1
        assert turn["content"].endswith(f"<answer>{row['answer']['value']}</answer>")
        assert (
            "this sign" in row["prompt"][-1]["content"][-1]["text"] and "<grounding>" not in turn["content"]
        )
        x1, y1, x2, y2 = row["target_box"]
        assert x1 >= 0 and y1 >= 0 and x2 <= region.width <= 3 * (x2 - x1) and y2 <= region.height
        assert region.width * region.height >= 39_000  # as a zoom shows it
        dx1, dy1, dx2, dy2 = row["detail_box"]
        assert x1 < dx1 and y1 < dy1 and dx2 < x2 and dy2 < y2
        colour = re.search(r"This is the (\w+) \w+\.", turn["content"])[1]
        sign = np.asarray(region, float)[y1:y2, x1:x2]
        assert (np.abs(sign - PALETTE[colour]).max(axis=2) < 40).mean() > 0.3


def test_a_region_that_misses_shows_another_sign_and_the_next_turn_says_which(tmp_path):
    misses = Counter()
    for row in made("synthetic_search", tmp_path, rows=12, zooms=1, misses=2, **LARGE):
        turns = [turn["content"] for turn in row["trace"] if turn["role"] == "assistant"]
        asked = re.search(r"on the (\w+ \w+)", row["prompt"][-1]["content"][-1]["text"])[1]
        seen = [re.search(r"This is the (\w+ \w+)\.", text)[1] for text in turns[1:]]
        boxes = re.findall(r'"bbox_2d": (\[.*?\])', " ".join(turns))
        assert asked not in seen[:-1] and seen[-1] == asked and len(set(boxes)) == len(boxes) == len(seen)
        assert row["turns"] == len(row["images"]) == len(turns)
        for name, shown_region in zip(seen, map(load_image, row["images"][1:]), strict=True):
            colours = np.abs(np.asarray(shown_region, float) - PALETTE[name.split()[0]]).max(axis=2)
            assert (colours < 40).mean() > 0.05
        misses[len(seen) - 1] += 1
    assert set(misses) == {0, 1, 2}


def test_the_whole_image_is_answered_at_once_with_the_place_of_the_sign(tmp_path):
    options = {"at_once": True, "grid": 3} | LARGE | {"signs": 4, "sign_px": 100}
    for row in made("synthetic_search", tmp_path, rows=3, **options):
        (turn,), (image,) = row["trace"], row["images"]
        down, across = re.search(r"It is in row (\d), column (\d)\.", turn["content"]).groups()
        x1, y1, x2, y2 = row["target_box"]
        assert (int((y1 + y2) / 2 / 250) + 1, int((x1 + x2) / 2 / (1000 / 3)) + 1) == (int(down), int(across))
        assert load_image(image).size == (1000, 750) and row["turns"] == 1
        assert turn["content"].endswith(f"<answer>{row['answer']['value']}</answer>")


def test_a_teacher_that_gives_up_says_where_the_sign_is_and_answers_unknown(tmp_path):
    (row,) = made("synthetic_search", tmp_path, rows=1, at_once=True, gives_up=True, **LARGE)
    (turn,) = row["trace"]
    assert re.search(
        r"It is (in|at) the [a-z ]+, and what is on it is too small to read\. I give up\.", turn["content"]
    )
    assert turn["content"].endswith("<answer>unknown</answer>") and row["answer"]["value"] != "unknown"


def test_signs_of_one_colour_alone_are_asked_about(tmp_path):
    for row in made("synthetic_search", tmp_path, rows=6, asked=["cyan"], alike=0.0, trace=False, **LARGE):
        assert " on the cyan " in row["prompt"][-1]["content"][-1]["text"]
        image = np.asarray(load_image(row["images"][0]), float)
        x1, y1, x2, y2 = row["target_box"]
        cyan = np.abs(image - PALETTE["cyan"]).max(axis=2) < 30
        assert cyan[y1:y2, x1:x2].sum() > 0.98 * cyan.sum() > 0


def test_in_a_grid_signs_stand_in_the_middle_of_cells_and_the_trace_says_in_which(tmp_path):
    options = LARGE | {"signs": 6, "grid": 4, "sign_px": 100, "shapes": ["circle", "square"]}
    for row in made("synthetic_search", tmp_path, rows=6, zooms=1, box_digits=2, close=[0.0, 0.0], **options):
        width, height = row["image_size"]
        x1, y1, x2, y2 = row["target_box"]
        first = row["trace"][0]["content"]
        _, down, across = re.search(r"(circle|square)\. It is in row (\d), column (\d), and", first).groups()
        middle = ((int(across) - 0.5) * width / 4, (int(down) - 0.5) * height / 4)
        assert (x1 + x2) / 2 == pytest.approx(middle[0], abs=1)
        assert (y1 + y2) / 2 == pytest.approx(middle[1], abs=1)
        box = [float(v) for v in re.search(r'"bbox_2d": \[(.*?)\]', first)[1].split(",")]
        assert box == pytest.approx([x1 / width, y1 / height, x2 / width, y2 / height], abs=0.006)


def test_a_dot_has_the_answers_colour_and_never_its_signs(tmp_path):
    for row in made(
        "synthetic_search", tmp_path, rows=8, kinds=["dot"], roughness=0.0, difficulty=0.0, **LARGE
    ):
        x1, y1, x2, y2 = row["detail_box"]
        middle = np.asarray(load_image(row["images"][0]))[(y1 + y2) // 2, (x1 + x2) // 2]
        assert np.abs(middle - np.array(PALETTE[row["answer"]["value"]], float)).max() < 8
        assert f"the {row['answer']['value']} " not in row["prompt"][-1]["content"][-1]["text"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"misses": 1}, "misses: expected 0 without zooms: 1"),
        ({"misses": 1, "zooms": 2}, "misses: expected 0 without zooms: 1"),
        ({"at_once": True, "zooms": 1}, "zooms: expected none where the trace answers at once"),
        ({"grid": 3, "signs": 10}, "signs: expected a number of at most 9, the cells of the grid, got 10"),
        ({"grid": 3}, "signs: expected a number of at most 9, the cells of the grid, got None"),
        ({"gives_up": True, "zooms": 1}, "gives_up: expected false without at_once: true"),
        ({"asked": ["gold"]}, "expected some of red, .*, got 'gold'"),
        ({"shapes": ["circle", "star"]}, "expected some of square, .*, got 'star'"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options, expected):
    with pytest.raises(ValueError, match=expected):
        search.SearchOptions(**options)


def test_a_question_without_its_dialogue_has_its_image_alone(tmp_path):
    whole, alone = (
        made("synthetic_search", tmp_path, rows=2, trace=trace, **LARGE) for trace in (True, False)
    )
    for dialogue, question in zip(whole, alone, strict=True):
        assert question["trace"] is None and question["images"] == dialogue["images"][:1]
        assert question["prompt"] == dialogue["prompt"] and question["answer"] == dialogue["answer"]


def test_boxes_of_few_decimals_still_hold_the_sign(tmp_path):
    for row in made("synthetic_search", tmp_path, rows=3, zooms=1, box_digits=2, **LARGE):
        box = json.loads(re.search(r'"bbox_2d": (\[.*?\])', row["trace"][0]["content"])[1])
        assert [round(v, 2) for v in box] == box
        x1, y1, x2, y2 = row["target_box"]
        left, top, right, bottom = pixels_of(box, (1000, 750))
        assert left <= x1 and top <= y1 and x2 <= right and y2 <= bottom


def test_the_detail_is_too_small_as_the_model_sees_the_image_and_large_enough_in_the_last_region(tmp_path):
    for row in made("synthetic_search", tmp_path, rows=3, **LARGE):
        width, height = row["image_size"]
        seen_height, _ = smart_resize(height, width, max_pixels=row["max_pixels"])
        _, y1, _, y2 = row["detail_box"]
        assert (y2 - y1) * seen_height / height <= 3.2 < 7 <= y2 - y1
        x1, top, x2, bottom = row["target_box"]
        dx1, dy1, dx2, dy2 = row["detail_box"]
        assert x1 < dx1 and top < dy1 and dx2 < x2 and dy2 < bottom


def test_what_is_drawn_on_the_sign_is_the_answer_and_no_other_sign_could_be_meant(tmp_path):
    rows = made("synthetic_search", tmp_path, rows=6, difficulty=0.0, **LARGE)
    for row in rows:
        x1, y1, x2, y2 = row["detail_box"]
        pixels = np.asarray(load_image(row["images"][0]))[y1:y2, x1:x2].astype(float)
        question = row["prompt"][-1]["content"][-1]["text"]
        colour = next(c for c in PALETTE if f"the {c} " in question)
        ink = np.abs(pixels - PALETTE[colour]).mean(axis=2)
        options = search.SearchOptions(**LARGE)
        height = search.detail_px(options)
        likeness = {}
        for detail in search.DETAILS[row["kind"]]:
            mask = search._arrow(detail, height) if row["kind"] == "arrow" else search._text(detail, height)
            if (mask.height, mask.width) == ink.shape:
                likeness[detail] = np.corrcoef(np.asarray(mask).ravel(), ink.ravel())[0, 1]
        best = max(likeness, key=likeness.get)
        assert best == row["answer"]["value"] and likeness[best] > 0.97
    planned = None
    rng = random.Random(0)
    while planned is None:
        planned = search.plan("number", rng, search.SearchOptions(difficulty=1.0, signs=60))
    target = planned.signs[planned.target]
    assert Counter((s.colour, s.shape) for s in planned.signs)[target.colour, target.shape] == 1
    assert planned.details.count(planned.details[planned.target]) == 1


def test_choice_answers_name_the_detail(tmp_path):
    for row in made("synthetic_search", tmp_path, rows=3, answers="choice", difficulty=0.0, **LARGE):
        answer = row["answer"]
        detail = answer["options"]["ABCD".index(answer["letter"])]
        assert answer["value"] == answer["letter"] and len(set(answer["options"])) == 4
        assert f"{answer['letter']}. {detail}" in row["prompt"][-1]["content"][-1]["text"]
        assert detail in row["trace"][-1]["content"]
