"""Screens of generated pages, drawn by a real headless Chromium: where elements are, and what to do next on them."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

import jinja2
from pydantic import Field

from core.rows import Row
from data_recipes.records import Format, Record, Rejected, SourceError
from data_recipes.synthetic.gui import vocabulary
from data_recipes.synthetic.gui.content import PAGES, Content, Kind, page
from data_recipes.synthetic.gui.questions import Question, questions
from data_recipes.synthetic.gui.theme import theme
from data_recipes.synthetic.hold_out import is_held_out
from data_recipes.synthetic.world import DraftRow, WorldOptions, listed, never, numbers, row_of
from environments.gui.chromium import BrowserError, find_chromium
from environments.gui.screen import Element, Page, Screen, View
from rewards.geometry.frames import convert

NAME = "synthetic_gui"
ATTEMPTS = 60  # pages tried for one screen before giving up
NARROW = 500  # CSS pixels: narrower windows are laid out as on a phone
BOXES = {"start_box": "start_point", "end_box": "end_point"}
ASK = (
    'The task is: {task}\nWhat is the next action on this screen? Answer with one JSON object: {{"action": "click",'
    ' "start_point": [x, y]}}, or the action "hover", "drag" (with "end_point" as well), "input" (with "text"; with "start_point"'
    ' unless the cursor is in the field), "select" (with "text"), "scroll" (with "direction"), "press" (with "keys"), "wait", or'
    ' "finished" (with "status") if there is nothing left to do. Points are in {unit}.'
)


class ScreenOptions(WorldOptions):
    """Options of both formats of screens."""

    fonts: tuple[str, ...] = ()
    """Families of installed fonts, chosen with equal probability; empty: what the machine has for sans-serif, serif, monospace
    and system-ui."""
    sizes: tuple[tuple[int, int], ...] = (
        (1280, 720),
        (1366, 768),
        (1024, 768),
        (1440, 900),
        (800, 600),
        (390, 844),
        (412, 915),
    )
    """Sizes of the window in CSS pixels."""
    scales: tuple[float, ...] = (1.0, 1.0, 1.25, 1.5, 2.0)
    """Screenshot pixels for one CSS pixel; those that would exceed `max_pixels` are not drawn for a size."""
    max_pixels: int = Field(1_600_000, ge=100_000)
    """Area of a screenshot at most."""
    frame: Literal["pixel", "norm1000"] = "pixel"
    """Coordinate frame of boxes and points; `norm1000` is rounded to whole numbers."""


class GuiOptions(ScreenOptions):
    """Options of `synthetic_gui`. Rows are reproducible with the same release of Chromium and the same fonts; a machine makes them
    only where Chromium is installed (Debian: `apt-get install chromium`)."""

    kinds: tuple[Kind, ...] = get_args(Kind)
    """Kinds of question. Each screen is made for one of them, in turn, and its other questions are of any that it allows.
    `grounding` asks for the box of an element, `pointing` for a point in it; the others ask for the next action, as typed JSON
    (task `action`)."""
    questions: int = Field(3, ge=1, le=20)
    """Rows of one screen."""


@dataclass(frozen=True)
class Drawn:
    """A screen with its elements and the questions that are asked about it."""

    content: Content
    page: Page
    view: View
    image: bytes
    elements: list[Element]
    asked: list[Question]


def read(path: Path, options: GuiOptions) -> Iterator[Record]:
    """One record per screen. Raises SourceError where there is no browser."""
    need_chromium(NAME)
    screens = -(-options.rows // options.questions)
    return (Record({"index": index}, path, index) for index in range(screens))


def need_chromium(name: str) -> None:
    """Raise SourceError, naming what to install, where there is no browser."""
    try:
        find_chromium()
    except BrowserError as error:
        raise SourceError(f"{name}: {error}") from None


def convert_screen(record: Record, options: GuiOptions) -> Iterator[Row]:
    """The rows of one screen, which share its screenshot."""
    index = record.data["index"]
    drawn = draw(index, options)
    first = index * options.questions
    for i, question in enumerate(drawn.asked[: options.rows - first]):
        sample = _draft(drawn, question, options)
        yield row_of(
            NAME, sample, question.kind, first + i, options, record.file.absolute(), stem_index=index
        )


def draw(index: int, options: GuiOptions) -> Drawn:
    """Screen number `index`. Raises Rejected if the options leave no room for its kind of question."""
    lead = options.kinds[index % len(options.kinds)]
    for attempt in range(ATTEMPTS):
        rng = random.Random(f"{NAME}-{options.split}-{options.seed}-{index}-{attempt}")
        view = view_of(rng, options, NAME)
        content = page(
            rng, rng.choice(PAGES[lead]), lead, options.difficulty * rng.random(), view.width < NARROW
        )
        if is_held_out(json.dumps(content)) != (options.split == "test"):
            continue
        look = theme(rng, options.difficulty, options.fonts, view.height)
        shown = html(content, look)
        elements, image = _shown(shown, view, options.image_format)
        if asked := _asked(rng, lead, elements, content, options):
            return Drawn(content, shown, view, image, elements, asked)
    raise Rejected(
        f"field 'options': expected options that allow for kind {lead!r} and {options.questions} questions a screen, but {ATTEMPTS}"
        " pages did not; give it larger sizes, more kinds or fewer questions"
    )


def view_of(rng: random.Random, options: ScreenOptions, name: str) -> View:
    """A window that fits. Raises SourceError if none does."""
    fits = [
        View(w, h, scale)
        for w, h in options.sizes
        for scale in options.scales
        if w * h * scale * scale <= options.max_pixels
    ]
    if not fits:
        raise SourceError(f"{name}: max_pixels: expected room for one of `sizes`, got {options.max_pixels}")
    return rng.choice(fits)


def _asked(
    rng: random.Random, lead: str, elements: list[Element], content: Content, options: GuiOptions
) -> list[Question]:
    """`options.questions` different ones, the first of the kind `lead`, the kinds of the others as mixed as can be; or none."""
    kinds = [kind for kind in dict.fromkeys(options.kinds) if kind != lead]
    supply = {
        kind: questions(kind, rng, elements, content) for kind in (lead, *rng.sample(kinds, len(kinds)))
    }
    asked: list[Question] = []
    while supply and len(asked) < options.questions:
        for kind in list(supply):
            question = next(supply[kind], None)
            if question is None:
                if kind == lead and not asked:
                    return []
                del supply[kind]
            elif len(asked) < options.questions:
                asked.append(question)
    return asked if len(asked) == options.questions else []


# ----------------------------------------------------------------------------------------------------------- the browser

_open: dict[int, Screen] = {}
"""The browser of each process; one that was forked makes its own."""


def browser() -> Screen:
    """This process's browser, started when first needed. It ends with the process."""
    if os.getpid() not in _open:
        _open[os.getpid()] = Screen()
    return _open[os.getpid()]


def _shown(shown: Page, view: View, image_format: Literal["png", "jpeg"]) -> tuple[list[Element], bytes]:
    """Elements and screenshot of a page. A browser that crashed or was killed is replaced once."""
    try:
        return _look(shown, view, image_format)
    except BrowserError:
        close_browser()
    try:
        return _look(shown, view, image_format)
    except BrowserError as error:
        raise SourceError(f"{NAME}: {error}") from None


def _look(shown: Page, view: View, image_format: Literal["png", "jpeg"]) -> tuple[list[Element], bytes]:
    browser().show(shown, view)
    return browser().elements(), browser().screenshot(image_format)


def close_browser() -> None:
    """End this process's browser, if it has one."""
    if screen := _open.pop(os.getpid(), None):
        screen.close()


@cache
def _templates() -> jinja2.Environment:
    loader = jinja2.FileSystemLoader(Path(__file__).parent / "templates")
    made = jinja2.Environment(
        loader=loader,
        autoescape=lambda name: name != "theme.jinja",
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    made.globals["icons"] = vocabulary.ICONS
    return made


def html(content: Content, look: dict[str, Any]) -> Page:
    """The page of a content and a look."""
    body = _templates().get_template("page.jinja").render(page=content)
    return Page(_templates().get_template("theme.jinja").render(t=look), body)


# ----------------------------------------------------------------------------------------------------------------- rows


def _draft(drawn: Drawn, question: Question, options: GuiOptions) -> DraftRow:
    size = drawn.view.pixels
    unit = "pixels" if options.frame == "pixel" else "thousandths of the image's width and height"

    def framed(box: list[int]) -> list[int]:
        return in_frame(box, options.frame, size)

    answer: dict[str, Any] = {
        key: [framed(box) for box in value]
        if key == "boxes"
        else framed(value)
        if key.endswith("box")
        else value
        for key, value in question.answer.items()
    }
    if any(key == "boxes" or key.endswith("box") for key in answer):
        answer["frame"] = options.frame
    if question.task == "grounding":
        text = f"{question.text} Give its box as [x1, y1, x2, y2] in {unit}."
        conclusion = numbers(answer["boxes"][0])
    elif question.task == "pointing":
        text = f"{question.text}\nAnswer with the point as (x, y) in {unit}."
        conclusion = "({}, {})".format(*middle(answer["box"]))
    else:
        text = ASK.format(task=question.text, unit=unit)
        conclusion = json.dumps(_as_action(answer), ensure_ascii=False)
    trace = {
        "summary": f"I look at the screen and answer: {question.text}",
        "caption": _caption(drawn),
        "reasoning": question.reason,
        "conclusion": conclusion,
    }
    columns = {
        "image_size": list(size),
        "scale": drawn.view.scale,
        "elements": [_listed(e) for e in drawn.elements if e.whole],
    }
    return DraftRow(question.task, text, answer, trace, (drawn.image,), columns=columns)


def in_frame(box: list[int], frame: str, size: tuple[int, int]) -> list[int]:
    """A pixel box in the answer's frame."""
    return box if frame == "pixel" else [round(value) for value in convert(box, "pixel", frame, size)]


def middle(box: list[int]) -> list[int]:
    """A point in the middle of a box."""
    return [(box[0] + box[2]) // 2, (box[1] + box[3]) // 2]


def _as_action(answer: dict[str, Any]) -> dict[str, Any]:
    """The true action as the policy should write it: points in the middle of their boxes."""
    written = {
        BOXES.get(key, key): middle(value) if key in BOXES else value
        for key, value in answer.items()
        if key != "frame"
    }
    return {**written, "status": "success"} if answer["action"] == "finished" else written


def _caption(drawn: Drawn) -> str:
    headings = [repr(e.name) for e in drawn.elements if e.role == "heading" and e.whole]
    actions = [repr(e.name) for e in drawn.elements if e.role in ("button", "tab") and e.whole and not e.item]
    fields = [repr(e.name) for e in drawn.elements if e.role in ("textbox", "combobox") and e.whole]
    return (
        f"The screen shows a page of {drawn.content['top']['brand']}. Headings: {listed(headings)}."
        f" Fields: {listed(fields)}. Buttons: {listed(dict.fromkeys(actions))}."
    )


def _listed(element: Element) -> dict[str, Any]:
    state = {
        key: value for key, value in element.state.items() if key != "options" and value not in (False, "")
    }
    return {
        "role": element.role,
        "name": element.name,
        "box": element.box,
        "item": element.item,
        "state": json.dumps(state, ensure_ascii=False),
    }


FORMATS = (
    Format(
        NAME,
        "Made: screens drawn by Chromium; boxes of elements, points and next actions",
        read,
        convert_screen,
        never,
        GuiOptions,
        generates=True,
    ),
)
