"""Visual search: a large image full of signs, and a question about a detail that is legible only after zooming in.

In the image as the model sees it, the sign can be recognised but not what is on it: after downscaling to `max_pixels` the
detail is at most `seen_px` pixels high, in the file at least three times that. The trace is a dialogue that zooms in
(`zoom.py`), with the zoomed regions as further images.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from PIL import Image
from pydantic import Field, ValidationInfo, field_validator, model_validator

from data_recipes.synthetic import zoom
from data_recipes.synthetic.figures import Box, Figure, apart, background, blemish, inside, paint, place
from data_recipes.synthetic.shapes.scenes import ALL_SHAPES, PALETTE
from data_recipes.synthetic.signs import DETAILS, Kind, details_of, draw_detail
from data_recipes.synthetic.world import DraftRow, WorldOptions, knob, whole_knob, world
from environments.dialogue import GO_ON, SYSTEM, pixels_of, shown
from rewards.geometry.frames import smart_resize

LEGIBLE_PX = 8  # minimum height in the file for a detail to be legible after enlarging
# shapes with room for text in the middle
SHAPES = tuple(s for s in ALL_SHAPES if s not in ("star", "cross"))


class SearchOptions(WorldOptions):
    """Options of `synthetic_search`."""

    image_format: Literal["png", "jpeg"] = "jpeg"
    """`png` keeps every pixel; `jpeg` (quality 95, 4:4:4) is smaller where backgrounds are textured."""
    kinds: tuple[Kind, ...] = ("number", "letter", "arrow")
    """Kinds of question, in turn: the number or the letter on a sign, the direction of its arrow, or the colour of its dot."""
    width: int = Field(2000, ge=600)
    """Of the image, in pixels."""
    height: int = Field(1500, ge=600)
    """Of the image, in pixels."""
    max_pixels: int = Field(28 * 28 * 512, ge=28 * 28 * 16)
    """The processor's limit for one image, which makes the detail illegible; set it as in the run that uses the rows."""
    seen_px: float = Field(3.2, gt=1.0, le=6.0)
    """Maximum height of the detail in pixels after downscaling."""
    signs: int | None = Field(None, ge=2, le=400)
    """Number of signs; 12 to 120 by difficulty."""
    sign_px: int | None = Field(None, ge=24)
    """Side of a sign in pixels of the file; 84 to 44 by difficulty, or larger if the detail needs it."""
    grid: int | None = Field(None, ge=2, le=12)
    """Signs stand in the middle of cells of a grid of so many rows and columns, which traces name: b1 is the second cell of the first
    row; none: anywhere."""
    roughness: float | None = Field(None, ge=0.0, le=1.0)
    """How strong the background's texture is; 0.3 to 1 by difficulty. 0: one colour, which is drawn much faster."""
    zooms: int | None = Field(None, ge=0, le=2)
    """Number of zooms in the trace: 1, directly to the sign, or 2, first to its surroundings; 2 from difficulty 0.5 on. 0: the image
    is the region around the sign, where it is legible, and the question is about "this sign", with the words that follow a region in
    a dialogue: rows to begin a cold start with."""
    colours: tuple[str, ...] = Field(tuple(PALETTE), min_length=2)
    """Colours of signs; fewer than all leave the others to the dots alone."""
    asked: tuple[str, ...] | None = Field(None, min_length=1)
    """Colours of the sign asked about; none: any of `colours`. One, with `alike: 0`: it can be told without reading the question."""
    shapes: tuple[str, ...] = Field(SHAPES, min_length=2)
    """Shapes of signs."""
    alike: float = Field(0.25, ge=0.0, lt=1.0)
    """Probability for each other sign to have the target's colour, and to have its shape. 0: only the target has its colour."""
    misses: int = Field(0, ge=0, le=4)
    """Most regions in the trace that show another sign, of the same colour if there is one, before the one asked about: 1 to `misses`
    in half of the rows, none in the others. The trace then sees that it is another sign and looks again. With `zooms: 1`; with
    `zooms: 0` the region itself may show another sign, the question names the one asked about, and the trace then answers "unknown"."""
    empty: float = Field(0.0, ge=0.0, lt=1.0)
    """With `zooms: 0`, `misses` and `grid`: probability that the region is a cell without a sign, which the trace says before it
    answers "unknown"."""
    scan: bool = False
    """Whether the trace names the cells of all signs of the target's colour, row by row, and zooms into one after the other until it
    sees the one asked about. With `grid`, and either `zooms: 1` or `at_once`, which names them and does not zoom."""
    at_once: bool = False
    """Whether the trace says where the sign is in the whole image and answers in its only turn: rows that teach to see where things
    are, and for a policy of one turn to compare with."""
    gives_up: bool = False
    """With `at_once`: whether the trace says that it cannot read the detail and answers "unknown": a bad habit, for RL to remove."""
    close: tuple[float, float] = (0.3, 0.8)
    """Margins of the last region around the sign's square, in multiples of its side; drawn between these two."""
    wide: tuple[float, float] = (2.0, 3.5)
    """Margins of the region before it, with `zooms: 2`."""
    instructions: bool = True
    """Whether a system message says how to zoom; false: for a policy that has it from its cold start alone, with shorter prompts."""
    box_digits: int = Field(4, ge=2, le=4)
    """Decimals of the fractions in the trace's calls."""
    trace: bool = True
    """Whether the row has the dialogue and its regions; false: only the question and its image, for RL and evaluation."""
    answers: Literal["text", "choice"] = "text"
    """`text`: the answer is the text, {"value": "47"}, for the rewards exact_text or anls. `choice`: four options, and
    {"value": "B", "letter": "B", "options": […]}, for the rewards choice or exact_text."""

    @field_validator("colours", "asked", "shapes")
    @classmethod
    def _known(cls, names: tuple[str, ...] | None, info: ValidationInfo) -> tuple[str, ...] | None:
        known = SHAPES if info.field_name == "shapes" else tuple(PALETTE)
        if unknown := [name for name in names or () if name not in known]:
            raise ValueError(f"expected some of {', '.join(known)}, got {unknown[0]!r}")
        return names

    @model_validator(mode="after")
    def _legible(self) -> SearchOptions:
        if detail_px(self) < LEGIBLE_PX:
            raise ValueError(
                f"seen_px: expected a detail of at least {LEGIBLE_PX} pixels in the file, got {detail_px(self)} for"
                f" {self.width} x {self.height} pixels reduced to {self.max_pixels}; enlarge the image or lower max_pixels"
            )
        if self.misses and (self.zooms not in (0, 1) or self.at_once):
            raise ValueError(f"misses: expected 0 without zooms: 1 or 0, got {self.misses}")
        if self.misses and not self.trace:
            raise ValueError(f"misses: expected 0 with trace: false, got {self.misses}")
        room = self.grid and (self.signs or 0) < self.grid**2
        if self.empty and not (self.zooms == 0 and self.misses and room):
            raise ValueError(
                f"empty: expected 0 without zooms: 0, misses and a grid with room, got {self.empty}"
            )
        if self.scan and (not self.grid or self.misses or not (self.zooms == 1 or self.at_once)):
            raise ValueError(
                "scan: expected a grid, no misses, and zooms: 1 or at_once: true with scan: true"
            )
        if self.at_once and self.zooms is not None:
            raise ValueError(f"zooms: expected none where the trace answers at once, got {self.zooms}")
        if self.gives_up and not self.at_once:
            raise ValueError("gives_up: expected false without at_once: true, got true")
        if self.grid and (self.signs or self.grid**2 + 1) > self.grid**2:
            raise ValueError(
                f"signs: expected a number of at most {self.grid**2}, the cells of the grid, got {self.signs}"
            )
        return self


@dataclass(frozen=True)
class SearchPlan:
    """target: index of the sign asked about. details: what is on each sign."""

    kind: str
    signs: tuple[Figure, ...]
    details: tuple[str, ...]
    target: int

    @property
    def content(self) -> str:
        return " ".join(f"{f.name} {f.box} {d}" for f, d in zip(self.signs, self.details, strict=True))


def scale(options: SearchOptions) -> float:
    """Factor by which the model sees the image reduced."""
    height, width = smart_resize(options.height, options.width, max_pixels=options.max_pixels)
    return max(height / options.height, width / options.width)


def detail_px(options: SearchOptions) -> int:
    """Height of the detail in pixels of the file."""
    return math.floor(options.seen_px / scale(options))


def plan(kind: str, rng: random.Random, options: SearchOptions) -> SearchPlan | None:
    hard = options.difficulty
    count = whole_knob(options.signs, 12, 120, hard)
    half = max(whole_knob(options.sign_px, 84, 44, hard), 3 * detail_px(options)) / 2
    target_look = (rng.choice(options.asked or options.colours), rng.choice(options.shapes))
    looks = [target_look]
    colours = [colour for colour in options.colours if options.alike or colour != target_look[0]]
    while len(looks) < count:
        colour = target_look[0] if rng.random() < options.alike else rng.choice(colours)
        shape = target_look[1] if rng.random() < options.alike else rng.choice(options.shapes)
        if (colour, shape) != target_look:
            looks.append((colour, shape))

    cells = rng.sample(range(options.grid**2), count) if options.grid else []

    def one(number: int) -> Figure:
        if options.grid:
            return Figure(*looks[number], *_middle(cells[number], options), half=half)
        x, y = rng.uniform(half, options.width - half), rng.uniform(half, options.height - half)
        return Figure(*looks[number], x=round(x), y=round(y), half=half)

    def fits(figure: Figure, placed: list[Figure]) -> bool:
        return inside(figure.box, options.width, options.height, 8) and all(
            apart(figure.box, other.box, 6) for other in placed
        )

    signs = place(rng, count, one, fits)
    if signs is None:
        return None
    wanted = rng.choice(details_of(kind, signs[0]))
    # Other signs never show the target's detail, except for arrows, which have only four directions.
    details = [wanted] + [
        rng.choice([d for d in details_of(kind, sign) if d != wanted or kind == "arrow"])
        for sign in signs[1:]
    ]
    order = rng.sample(range(count), count)
    return SearchPlan(kind, tuple(signs[i] for i in order), tuple(details[i] for i in order), order.index(0))


def _middle(cell: int, options: SearchOptions) -> tuple[int, int]:
    """In pixels, of a cell of the grid, counted row by row from 0."""
    grid = options.grid or 1
    row, column = divmod(cell, grid)
    return round((column + 0.5) * options.width / grid), round((row + 0.5) * options.height / grid)


def make(planned: SearchPlan, rng: random.Random, options: SearchOptions) -> DraftRow:
    image, detail_boxes = draw(planned, rng, options)
    target, detail = planned.signs[planned.target], planned.details[planned.target]
    zooms = (2 if options.difficulty >= 0.5 else 1) if options.zooms is None else options.zooms
    looked_at = _looked_at(planned, rng, options)
    boxes: list[Box | None] = [target.box, detail_boxes[planned.target]]
    if zooms == 0:
        sign = looked_at[0]
        around = zoom.around(rng, sign.square, options.close, (0, 0), image.size, options.box_digits)
        region = pixels_of(around, image.size)
        crop = image.crop(region)
        image = shown(crop)  # as a zoom would show it
        boxes = [None, None]
        if sign in planned.signs:
            inside_image = (sign.box, detail_boxes[planned.signs.index(sign)])
            boxes = [_within(box, region, image.width / crop.width, image.size) for box in inside_image]
    name = f"the {target.name}" if zooms or options.misses else "this sign"
    what = {
        "number": f"What number is written on {name}",
        "letter": f"What letter is written on {name}",
        "arrow": f"Which way does the arrow on {name} point, left, right, up or down",
        "dot": f"What colour is the dot on {name}",
    }[planned.kind]
    answer, given, question = _answer(planned, detail, f"{what}?", rng, options)
    if zooms == 0:
        question += GO_ON  # so the answer is as far from the region as in a dialogue
    trace: list[dict[str, Any]] | None = None
    crops: list[Image.Image] = []
    if options.trace:
        trace, crops = _trace(planned, rng, image, given, looked_at, 0 if options.at_once else zooms, options)
    columns = {
        "target_box": boxes[0],
        "detail_box": boxes[1],
        "image_size": list(image.size),
        "max_pixels": options.max_pixels,
        "turns": len(crops) + 1 if options.trace else None,
    }
    system = SYSTEM if options.instructions else None
    return DraftRow("search", question, answer, trace, (image, *crops), system=system, columns=columns)


def _looked_at(planned: SearchPlan, rng: random.Random, options: SearchOptions) -> list[Figure]:
    """The signs that a dialogue looks at, one after the other, the one asked about last."""
    target = planned.signs[planned.target]
    if options.scan:
        alike = _alike(planned)
        return alike[: alike.index(target) + 1]
    if options.empty and rng.random() < options.empty:
        taken = {(sign.x, sign.y) for sign in planned.signs}
        middles = (_middle(cell, options) for cell in range((options.grid or 1) ** 2))
        x, y = rng.choice([middle for middle in middles if middle not in taken])
        return [Figure("", "square", x, y, target.half), target]
    if not options.misses or rng.random() >= 0.5:
        return [target]
    others = [sign for sign in _alike(planned) if sign is not target]  # what it is taken for
    others = others or [sign for sign in planned.signs if sign is not target]
    return [*rng.sample(others, rng.randint(1, min(options.misses, len(others)))), target]


def _alike(planned: SearchPlan) -> list[Figure]:
    """The signs of the colour of the one asked about, row by row."""
    colour = planned.signs[planned.target].colour
    return sorted((s for s in planned.signs if s.colour == colour), key=lambda sign: (sign.y, sign.x))


def _trace(
    planned: SearchPlan,
    rng: random.Random,
    image: Image.Image,
    given: str,
    looked_at: Sequence[Figure],
    zooms: int,
    options: SearchOptions,
) -> tuple[list[dict[str, Any]], list[Image.Image]]:
    """(turns after the question, images of the regions they show). looked_at: signs, the one asked about last."""
    target, detail = planned.signs[planned.target], planned.details[planned.target]
    size, grid = (options.width, options.height), options.grid
    looks_for, finds = f"I look for the {target.name}.", f"It is {zoom.place(target, size, grid)}"
    if options.scan and grid:
        cells = ", ".join(zoom.cell(sign, size, grid) for sign in _alike(planned))
        finds = f"{target.colour.capitalize()} signs are in {cells}"
    if not zooms and not options.at_once and not options.misses:
        looks_for = ""  # the question is about "this sign"
    sees = [f"This is the {s.name}." if s in planned.signs else "There is no sign here." for s in looked_at]
    if options.gives_up:
        return [zoom.final_answer(f"{looks_for} {finds}, {zoom.TOO_SMALL}. I give up.", "unknown")], []
    if not zooms and not options.at_once and looked_at[0] is not target:
        return [zoom.final_answer(f"{looks_for} {sees[0]} I have to look again.", "unknown")], []

    then = _goes_on(planned, looked_at, finds, options) if zooms else []
    before = [looks_for, *(f"{looks_for} {seen}" for seen in sees)][: len(then)]
    thoughts = [f"{one} {other}" for one, other in zip(before, then, strict=True)]
    looks = [(sign.square, thought) for sign, thought in zip(looked_at, thoughts, strict=False)]
    margins = (options.wide, options.close)[2 - zooms :]
    turns, crops = zoom.chain(rng, image, f"The {target.name}", looks, margins, options.box_digits)
    says = {"arrow": f"Its arrow points {detail}", "dot": f"Its dot is {detail}"}.get(
        planned.kind, f"It says {detail}"
    )
    option = f", which is option {given}" if given != detail else ""
    seen = f"{finds}." if options.at_once else sees[-1]
    return [*turns, zoom.final_answer(f"{looks_for} {seen} {says}{option}.".lstrip(), given)], crops


def _goes_on(
    planned: SearchPlan, looked_at: Sequence[Figure], finds: str, options: SearchOptions
) -> list[str]:
    """What is said right before each region, about where to look."""
    size = (options.width, options.height)
    if options.scan and options.grid:
        cells = [zoom.cell(sign, size, options.grid) for sign in _alike(planned)]
        # The rest of the list in every turn, so that no turn has to find anything further back than the one before it.
        rests = [f"After {cells[n - 1]}, {', '.join(cells[n:])} to go." for n in range(1, len(looked_at))]
        seen = [f"{finds}, {zoom.TOO_SMALL}.", *rests]
        return [f"{rest} I zoom into {cell}." for rest, cell in zip(seen, cells, strict=False)]
    first, *others = (zoom.place(sign, size, options.grid) for sign in looked_at)
    return [
        f"It is {first}, {zoom.TOO_SMALL}. I zoom in.",
        *(f"Another is {place}. I zoom in." for place in others),
    ]


def draw(planned: SearchPlan, rng: random.Random, options: SearchOptions) -> tuple[Image.Image, list[Box]]:
    """(image, boxes of the signs' details)."""
    hard = options.difficulty
    image = background(rng, options.width, options.height, knob(options.roughness, 0.3, 1.0, hard))
    boxes = []
    for sign, detail in zip(planned.signs, planned.details, strict=True):
        paint(image, sign)
        boxes.append(draw_detail(image, sign, detail, planned.kind, detail_px(options)))
    return blemish(image, rng, noise=4 * hard), boxes


def _answer(
    planned: SearchPlan, detail: str, question: str, rng: random.Random, options: SearchOptions
) -> tuple[dict[str, Any], str, str]:
    """(answer, text of the correct answer, question)."""
    if options.answers == "text":
        return {"value": detail}, detail, question
    others = sorted(set(DETAILS[planned.kind]) - {detail})
    choices = [detail, *rng.sample(others, 3)]
    rng.shuffle(choices)
    letter = "ABCD"[choices.index(detail)]
    lines = "\n".join(f"{key}. {choice}" for key, choice in zip("ABCD", choices, strict=True))
    answer = {"value": letter, "letter": letter, "options": choices}
    return answer, letter, f"{question}\n{lines}\nAnswer with the letter."


def _within(box: Box, region: tuple[int, int, int, int], scale: float, size: tuple[int, int]) -> Box:
    """A box in pixels of a region that holds it, up to a rounded edge, which is shown `scale` times as large, as `size`."""
    return [min(max(round((box[i] - region[i % 2]) * scale), 0), size[i % 2]) for i in range(4)]


FORMATS = (
    world(
        "synthetic_search",
        "Made: large images of signs, details legible by zooming alone, with dialogues",
        SearchOptions,
        plan,
        make,
    ),
)
