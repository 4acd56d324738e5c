"""The report as a reader meets it: opened in a real browser, looked at pixel by pixel."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from evaluation.report import write_report
from tests.evaluation.browser import chromium, emulate, pixels
from tests.evaluation.mini_run import (
    GOLD_BOX,
    HOSTILE,
    MODEL_BOX,
    POINT,
    SIZE,
    SPAN,
    STEPS,
    TASKS,
    VIDEO_SECONDS,
    make_run_folder,
)

GOLD, MODEL = (255, 176, 0), (25, 168, 255)
CHARTS = [
    "Reward by task", "Reward over all rollouts", "Length by task", "Answers in the grammar", "Groups without signal",
    "vLLM against trainer", "Gradient norm", "Entropy", "Seconds per step", "Tokens per second", "Loss", "Loss by stage",
]  # fmt: skip


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory) -> Path:
    folder = make_run_folder(tmp_path_factory.mktemp("run") / "mini")
    write_report(folder)
    return folder


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture
def page(browser, run_folder):
    emulate(browser, width=1280)
    browser.get((run_folder / "report.html").as_uri())
    return browser


def select(page, **choices: str) -> int:
    """Choose filters by name and return how many cards are seen."""
    page.execute_script(
        """for (const [name, value] of Object.entries(arguments[0])) document.forms.filters[name].value = value;
        document.forms.filters.dispatchEvent(new Event('change'))""",
        choices,
    )
    return page.execute_script(
        "return [...document.querySelectorAll('.card')].filter(c => c.checkVisibility()).length"
    )


def figures(page, task: str, reward: str, kind: str = "training") -> list:
    """The figures of the cards seen under these filters."""
    select(page, kind=kind, task=task, reward=reward, when="")
    return page.find_elements("css selector", ".group:not([hidden]) .card:not([hidden]) .figure")


def is_near(colour: tuple[int, int, int], region: np.ndarray) -> bool:
    return bool((np.abs(region - np.array(colour)).max(axis=-1) < 60).any())


def line_at(image: np.ndarray, colour: tuple[int, int, int], x: float, y: float, reach: int = 3) -> bool:
    """True if a pixel of about this colour lies within `reach` of (x, y)."""
    x, y = round(x), round(y)
    return is_near(colour, image[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1])


def test_the_page_loads_nothing_and_logs_nothing(page):
    assert page.get_log("browser") == []
    assert (
        page.execute_script(
            "return performance.getEntriesByType('resource').filter(e => !e.name.startsWith('data:')).length"
        )
        == 0
    )


def test_what_a_model_writes_never_becomes_markup(page, run_folder):
    assert page.title == "mini · Onsight run report"  # the hostile completion would have set it to "owned"
    assert page.execute_script("return document.scripts.length") == 1
    assert page.execute_script("return document.images.length") == 0
    text = page.execute_script("return document.body.textContent")
    assert HOSTILE in text
    assert HOSTILE not in (run_folder / "report.html").read_text()


def test_every_curve_is_drawn(page):
    titles = page.execute_script(
        "return [...document.querySelectorAll('.chart figcaption b')].map(b => b.textContent)"
    )
    assert titles == CHARTS
    lengths = page.execute_script(
        """return [...document.querySelectorAll('.chart')].map(c =>
            Math.min(...[...c.querySelectorAll('path')].map(p => p.getTotalLength())))"""
    )
    assert min(lengths) > 50
    ends = page.execute_script(
        """const c = [...document.querySelectorAll('.chart')].map(c => JSON.parse(c.dataset.chart));
        return [c[0].series.map(s => s.name), c[0].x.length, document.querySelectorAll('.limit').length]"""
    )
    assert ends == [list(TASKS), STEPS, 2]


def test_curves_are_read_out_by_keyboard_and_can_be_hidden(page):
    chart = page.find_element("css selector", ".chart svg")
    chart.send_keys("\ue014")  # arrow right
    chart.send_keys("\ue014")
    readout = page.find_element("css selector", ".chart .readout")
    assert readout.is_displayed() and readout.text.startswith("step 1\ngrounding ")
    button = page.find_element("css selector", ".chart [data-toggle='0']")
    button.send_keys("\ue007")  # enter
    assert button.get_attribute("aria-pressed") == "false"
    assert not page.find_element("css selector", ".chart g[data-series='0']").is_displayed()
    chart.send_keys("\ue010")  # end
    assert readout.text.startswith(f"step {STEPS - 1}\nmath ")


def test_the_table_shows_what_the_evaluation_found(page, run_folder):
    evaluation = json.loads((run_folder / "eval.json").read_text())
    rows = page.execute_script(
        "return [...document.querySelectorAll('#results table')[0].tBodies[0].rows].map(r => [...r.cells].map(c => c.innerText))"
    )
    assert [row[0] for row in rows] == [*TASKS, "all rows"]
    for row in rows[:-1]:
        for text, name in zip(row[2:5], ("untrained", "sft", "rl"), strict=True):
            entry = evaluation["checkpoints"][name]["greedy"]["tasks"][row[0]]
            assert text.startswith(f"{entry['mean']:.2f} {entry['ci95'][0]:.2f} – {entry['ci95'][1]:.2f}")
    assert "better" in rows[-1][-1]


def test_the_gallery_shows_the_rollouts_of_the_files(page, run_folder):
    training = [json.loads(line) for line in (run_folder / "rollouts.jsonl").read_text().splitlines()]
    steps = {0, STEPS - 1, round((STEPS - 1) / 2)}
    first_rows = {
        (step, task, f"{task}-{10 * step + row}") for step in steps for task in TASKS for row in (0, 1)
    }
    expected = Counter(
        (one["task"], str(one["step"]), one["reward"])
        for one in training
        if (one["step"], one["task"], one["row_id"]) in first_rows
    )
    shown = page.execute_script(
        """return [...document.querySelectorAll('.card')].filter(c => c.dataset.kind === 'training')
            .map(c => [c.dataset.task, c.dataset.when, Number(c.dataset.reward)])"""
    )
    assert Counter(map(tuple, shown)) == expected
    held_out = page.execute_script("return document.querySelectorAll('.card[data-kind=held-out]').length")
    groups = page.execute_script(
        "return [...document.querySelectorAll('[data-group]')].filter(g => g.querySelector('[data-kind=held-out]')).length"
    )
    assert held_out == 3 * groups and groups >= 3 * len(TASKS)
    assert (
        f"{held_out + len(shown)} of {held_out + len(shown)} answers" in page.find_element("id", "count").text
    )
    assert f"{len(training):,} training rollouts" in page.find_element("css selector", "#gallery .about").text


def test_filters_leave_what_they_say(page):
    everything = select(page)
    assert select(page, task="math") == page.execute_script(
        "return document.querySelectorAll('.card[data-task=math]').length"
    )
    assert select(page, task="math", reward="one") + select(page, task="math", reward="zero") == select(
        page, task="math", reward=""
    )
    seen = page.execute_script(
        "return [...document.querySelectorAll('[data-group]')].filter(g => g.checkVisibility()).map(g => g.querySelector('.tag').textContent)"
    )
    assert set(seen) == {"math"}
    assert select(page, when=str(STEPS - 1), kind="held-out") == 0
    assert page.find_element("id", "nothing").is_displayed()
    page.find_element("css selector", "#filters [type=reset]").send_keys("\ue007")
    page.execute_async_script("setTimeout(arguments[0], 50)")
    assert page.find_element("id", "count").text == f"{everything} of {everything} answers"


def test_boxes_lie_on_the_right_pixels(page):
    figure = figures(page, "grounding", "high")[0]  # the wrong box has reward 0.72
    image = pixels(figure)
    scale = image.shape[1] / SIZE[0]
    assert image.shape[0] == pytest.approx(SIZE[1] * scale, abs=2)
    for box, colour in ((GOLD_BOX, GOLD), (MODEL_BOX, MODEL)):
        x1, y1, x2, y2 = (v * scale for v in box)
        for x, y in ((x1, (y1 + y2) / 2), (x2, (y1 + y2) / 2), ((x1 + x2) / 2, y1), ((x1 + x2) / 2, y2)):
            # gold is dashed: look along a stretch of its side
            assert any(line_at(image, colour, x + dx, y + dy) for dx, dy in ((0, 0), (0, 6), (6, 0))), (
                box,
                x,
                y,
            )
    assert not line_at(image, MODEL, 10 * scale, 10 * scale, reach=10)


def test_the_picture_lies_under_the_boxes(page, run_folder):
    from PIL import Image

    shown = pixels(figures(page, "grounding", "high")[0])
    name = page.find_element("css selector", ".group:not([hidden]) .id").text.removeprefix("row grounding-")
    original = np.asarray(Image.open(run_folder / f"media/{int(name) % 3}.png").convert("RGB")).astype(int)
    scale = shown.shape[1] / SIZE[0]
    for column in range(4):
        for row in range(3):
            x, y = column * 28 + 14, row * 28 + 14
            seen = shown[round(y * scale), round(x * scale)]
            near_line = any(abs(x - v) < 4 for v in (*GOLD_BOX[::2], *MODEL_BOX[::2])) or any(
                abs(y - v) < 4 for v in (*GOLD_BOX[1::2], *MODEL_BOX[1::2])
            )
            assert near_line or np.abs(seen - original[y, x]).max() < 12, (x, y)


def test_a_point_is_marked_where_it_points(page):
    marked = next(
        f for f in figures(page, "pointing", "zero") if "model point" in f.get_attribute("aria-label")
    )
    image = pixels(marked)
    scale = image.shape[1] / SIZE[0]
    x, y = POINT[0] * scale, POINT[1] * scale
    radius = 2.6 * SIZE[0] / 100 * scale
    for dx, dy in ((radius, 0), (-radius, 0), (0, radius), (0, -radius)):
        assert line_at(image, MODEL, x + dx, y + dy, reach=2)


def test_spans_are_bars_under_the_frames_they_name(page):
    figure = next(
        f for f in figures(page, "temporal", "high") if "model span" in f.get_attribute("aria-label")
    )
    image = pixels(figure)
    height, width = image.shape[:2]
    frames = image[: round(width / 6 * 72 / 96)]
    middle = frames.shape[0] // 2
    red = [
        bool(
            (frames[middle, round(width * (i + 0.5) / 6)] - [255, 0, 0] < 90).all()
            and frames[middle, round(width * (i + 0.5) / 6), 1] < 110
        )
        for i in range(6)
    ]
    assert red == [SPAN[0] <= i + 0.5 < SPAN[1] for i in range(6)]

    def extent(colour: tuple[int, int, int]) -> tuple[float, float]:
        below = np.abs(image[frames.shape[0] + 10 :] - np.array(colour)).max(axis=-1) < 30
        columns = np.flatnonzero(below.sum(axis=0) >= 4)
        return columns[0] / width * VIDEO_SECONDS, (columns[-1] + 1) / width * VIDEO_SECONDS

    assert extent(GOLD) == pytest.approx(SPAN, abs=0.05)
    assert extent(MODEL) == pytest.approx((1.0, 4.0), abs=0.05)
    assert height > frames.shape[0]


def test_an_answer_opens_larger_and_its_stages_fold(page):
    select(page, kind="training", task="grounding", reward="high")
    button = page.find_element("css selector", ".group:not([hidden]) .card:not([hidden]) .zoom")
    small = button.find_element("css selector", ".figure").size["width"]
    button.send_keys("\ue007")
    dialog = page.find_element("id", "large")
    assert dialog.is_displayed()
    assert dialog.find_element("css selector", ".figure").size["width"] > 1.5 * small
    stages = dialog.find_elements("css selector", ".stage")
    assert [stage.find_element("css selector", "summary").text for stage in stages] == [
        "Summary",
        "Caption",
        "Reasoning",
        "Conclusion",
    ]
    stages[2].find_element("css selector", "summary").send_keys("\ue007")
    assert not stages[2].find_element("css selector", "p").is_displayed()
    page.switch_to.active_element.send_keys("\ue00c")  # escape
    assert not dialog.is_displayed()
    assert page.switch_to.active_element == button


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [360, 1280])
def test_it_fits_the_window_and_its_text_has_contrast(page, width, dark):
    emulate(page, width=width, dark=dark)
    assert page.execute_script("return document.documentElement.scrollWidth") <= width
    ratios = page.execute_script(
        """const light = c => { const v = c.match(/[\\d.]+/g).slice(0, 3).map(x => { x /= 255; return x <= .03928 ? x / 12.92 : ((x + .055) / 1.055) ** 2.4; });
            return .2126 * v[0] + .7152 * v[1] + .0722 * v[2]; };
        const ground = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor; if (!/, 0\\)/.test(c)) return c; } };
        return ['.lead', '.about', '.tile dd', '.tile dt', '.ci', '.up b', '.why', '.conclusion.broken', '.tag', '.checkpoint', 'nav a', '#count', '.chart figcaption span']
            .map(s => { const e = document.querySelector(s); const a = light(getComputedStyle(e).color), b = light(ground(e));
                return [s, (Math.max(a, b) + .05) / (Math.min(a, b) + .05)]; })"""
    )
    assert [pair for pair in ratios if pair[1] < 4.5] == []
