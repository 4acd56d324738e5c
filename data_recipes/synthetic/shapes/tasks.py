"""Tasks over the shapes world: question, typed answer, correct trace, and the trace of a teacher with a bad habit.

Real trace sets are of mixed quality: some teachers skip the last step, write boxes in another frame, or guess. Each task
has one such habit (listed in `HABITS`), which a share of the SFT traces follows. Within a trace the conclusion follows
from the reasoning, and every habit is sometimes right by chance.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from data_recipes.synthetic.shapes.scenes import (
    DEMO,
    FRAMES_PER_SECOND,
    Clip,
    Look,
    Scene,
    Thing,
    cell_name,
    random_clip,
    random_scene,
)

Trace = dict[str, str]


@dataclass(frozen=True)
class Example:
    """One question about a scene or clip (or neither), before it is written as a row.

    trace: written by a careful teacher. habit_trace: written by a teacher with the task's bad habit.
    """

    task: str
    question: str
    answer: dict[str, Any]
    trace: Trace
    habit_trace: Trace
    scene: Scene | None = None
    clip: Clip | None = None
    columns: dict[str, Any] = field(default_factory=dict)


HABITS = {
    "math": "forgets to multiply and concludes with the count alone",
    "text_math": "works from left to right instead of multiplying first",
    "counting": "counts every shape of the image instead of those asked for",
    "choice": "takes the first option without looking",
    "grounding": "gives the box in a 0-1000 frame instead of pixels",
    "pointing": "writes y before x",
    "temporal": "gives frame numbers instead of seconds",
}
"""The bad habit of each kind of question, as text for the data card."""


def caption(scene: Scene) -> str:
    """The content of every cell in reading order, with the cells' names as on a chess board."""
    by_cell = {(t.row, t.column): t.name for t in scene.things}
    cells = [(r, c) for r in range(scene.rows) for c in range(scene.columns)]
    return " ".join(f"{by_cell.get((r, c), '-')} {cell_name(r, c)}" for r, c in cells)


def clip_caption(clip: Clip) -> str:
    """What is visible in each second."""
    seen = [[t.name for t in clip.things if t.first <= s <= t.last] for s in range(clip.seconds)]
    return "; ".join(f"{second} {' and '.join(names) or '-'}" for second, names in enumerate(seen))


def math_example(rng: random.Random, scene: Scene) -> Example:
    kind, chosen, name = _kind(rng, scene)
    count, factor = len(chosen), rng.randint(1, 4)
    result = count * factor
    counted = f"{_listed(chosen)}: {count}."
    trace = {
        "summary": f"count {kind} and multiply by {factor}.",
        "caption": caption(scene),
        "reasoning": f"{counted} {count} * {factor} = {result}.",
        "conclusion": f"\\boxed{{{result}}}",
    }
    habit = trace | {"reasoning": counted, "conclusion": f"\\boxed{{{count}}}"}
    question = f"How many {name} are there, times {factor}?"
    return Example("math", question, {"value": str(result)}, trace, habit, scene)


def text_math_example(rng: random.Random, nothing: None = None) -> Example:
    a, b, c = rng.randint(1, 20), rng.randint(1, 4), rng.randint(1, 4)
    result, wrong = a + b * c, (a + b) * c
    trace = {
        "summary": "compute the value.",
        "caption": "there is no image.",
        "reasoning": f"{b} * {c} = {b * c}. {a} + {b * c} = {result}.",
        "conclusion": f"\\boxed{{{result}}}",
    }
    habit = trace | {
        "reasoning": f"{a} + {b} = {a + b}. {a + b} * {c} = {wrong}.",
        "conclusion": f"\\boxed{{{wrong}}}",
    }
    return Example(
        "math",
        f"What is {a} + {b} * {c}?",
        {"value": str(result)},
        trace,
        habit,
        columns={"kind": "text_math"},
    )


def counting_example(rng: random.Random, scene: Scene) -> Example:
    kind, chosen, name = _kind(rng, scene)
    count, everything = len(chosen), len(scene.things)
    trace = {
        "summary": f"count {kind}.",
        "caption": caption(scene),
        "reasoning": f"{_listed(chosen)}: {count}.",
        "conclusion": str(count),
    }
    habit = trace | {"reasoning": f"{_listed(scene.things)}: {everything}.", "conclusion": str(everything)}
    return Example("counting", f"How many {name} are there?", {"value": count}, trace, habit, scene)


def choice_example(rng: random.Random, scene: Scene) -> Example:
    thing = rng.choice(nameable(scene.things))
    cells = [cell_name(r, c) for r in range(scene.rows) for c in range(scene.columns)]
    options = [*rng.sample([cell for cell in cells if cell != thing.cell], 2), thing.cell]
    rng.shuffle(options)
    letter = "ABC"[options.index(thing.cell)]
    listed = ", ".join(f"{option} {key}" for key, option in zip("ABC", options, strict=True))
    trace = {
        "summary": f"find the {thing.name} and choose.",
        "caption": caption(scene),
        "reasoning": f"{thing.name} {thing.cell} {letter}.",
        "conclusion": letter,
    }
    habit = trace | {"reasoning": f"the first, {options[0]} A.", "conclusion": "A"}
    question = f"Where is the {thing.name}? {listed}."
    return Example("choice", question, {"letter": letter, "options": options}, trace, habit, scene)


def grounding_example(rng: random.Random, scene: Scene) -> Example:
    thing = rng.choice(nameable(scene.things))
    width, height = scene.columns * scene.cell_px, scene.rows * scene.cell_px
    scaled = [round(v * 1000 / side) for v, side in zip(thing.box, (width, height) * 2, strict=True)]
    trace = {
        "summary": f"find the {thing.name} and give its box.",
        "caption": caption(scene),
        "reasoning": f"{thing.name} {thing.cell}, in pixels.",
        "conclusion": _numbers(thing.box),
    }
    habit = trace | {"reasoning": f"{thing.name} {thing.cell}, of 1000.", "conclusion": _numbers(scaled)}
    answer = {"boxes": [thing.box], "frame": "pixel"}
    return Example("grounding", f"Give the box of the {thing.name}.", answer, trace, habit, scene)


def pointing_example(rng: random.Random, scene: Scene) -> Example:
    thing = rng.choice(nameable(scene.things))
    x, y = (thing.box[0] + thing.box[2]) // 2, (thing.box[1] + thing.box[3]) // 2
    trace = {
        "summary": f"find the {thing.name} and point at it.",
        "caption": caption(scene),
        "reasoning": f"{thing.name} {thing.cell}, x first.",
        "conclusion": f"({x}, {y})",
    }
    habit = trace | {"reasoning": f"{thing.name} {thing.cell}, y first.", "conclusion": f"({y}, {x})"}
    answer = {"box": thing.box, "frame": "pixel"}
    return Example("pointing", f"Point at the {thing.name}.", answer, trace, habit, scene)


def temporal_example(rng: random.Random, clip: Clip) -> Example:
    thing = rng.choice(clip.things)
    start, end = thing.first, thing.last + 1
    frames = [start * FRAMES_PER_SECOND, end * FRAMES_PER_SECOND]
    trace = {
        "summary": f"find when the {thing.name} is seen.",
        "caption": clip_caption(clip),
        "reasoning": f"it is seen in seconds {' '.join(map(str, range(start, end)))}.",
        "conclusion": _span(start, end),
    }
    habit = trace | {
        "reasoning": f"it is seen in seconds {' '.join(map(str, range(start, end)))}, in frames.",
        "conclusion": _span(*frames),
    }
    question = f"When is the {thing.name} seen?"
    return Example("temporal", question, {"spans": [[float(start), float(end)]]}, trace, habit, clip=clip)


EXAMPLES: dict[str, Callable[..., Example]] = {
    "math": math_example,
    "text_math": text_math_example,
    "counting": counting_example,
    "choice": choice_example,
    "grounding": grounding_example,
    "pointing": pointing_example,
    "temporal": temporal_example,
}
"""Kind of question -> the function that makes one about a scene, a clip or nothing (`random_view`). The kind is also the
row's task, except that the task of `text_math` is math."""


def random_view(kind: str, rng: random.Random, look: Look = DEMO) -> Scene | Clip | None:
    """A random scene or clip for a question of this kind; None for text alone."""
    if kind == "temporal":
        return random_clip(rng, look)
    return None if kind == "text_math" else random_scene(rng, look)


def describe(view: Scene | Clip) -> str:
    """The caption of a scene or clip; equal captions mean equal looks."""
    return caption(view) if isinstance(view, Scene) else clip_caption(view)


def nameable(things: tuple[Thing, ...]) -> tuple[Thing, ...]:
    """Things whose names are unique."""
    names = [t.name for t in things]
    return tuple(t for t in things if names.count(t.name) == 1)


def plural(shape: str) -> str:
    return f"{shape}es" if shape.endswith("s") else f"{shape}s"


def _kind(rng: random.Random, scene: Scene) -> tuple[str, tuple[Thing, ...], str]:
    """(colour or shape to count, the things that have it, the question's words for it)."""
    if rng.random() < 0.5:
        word = rng.choice(scene.colours)
        return word, tuple(t for t in scene.things if t.colour == word), f"{word} shapes"
    word = rng.choice(scene.shapes)
    return word, tuple(t for t in scene.things if t.shape == word), plural(word)


def _listed(things: tuple[Thing, ...]) -> str:
    return ", ".join(f"{t.name} {t.cell}" for t in things) or "none"


def _numbers(values: list[int]) -> str:
    return "[" + ", ".join(str(v) for v in values) + "]"


def _span(start: int, end: int) -> str:
    return f"[{start // 60:02d}:{start % 60:02d},{end // 60:02d}:{end % 60:02d}]"
