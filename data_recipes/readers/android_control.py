"""AndroidControl: people's episodes on Android phones, one row of task `action` for each step.

gs://gresearch/android_control (Apache-2.0), google-research/android_control/README.md: gzipped TFRecord files
`android_control-…-of-00020`, an episode a message with `goal`, `screenshots` (PNG), `screenshot_widths`, `screenshot_heights`,
`accessibility_trees`, `actions` (JSON) and `step_instructions`. Copies in Parquet or JSON with the same fields are read as well, with
screenshots as bytes, paths, or base64 (`screenshots_b64`).

A click is right in the box of the smallest visible node of the accessibility tree that holds the annotated point (as in the paper's
evaluation, arXiv 2406.03679), or without one in a square around it. `type` is a click and an input at once: its row asks for the
input. Steps that are not right leave out their row alone.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from core.rows import Row
from data_recipes.readers.chat import source
from data_recipes.readers.files import kind_of, show
from data_recipes.readers.folders import records
from data_recipes.readers.gui_actions import ActionOptions, json_object
from data_recipes.readers.places import ask, fill, image_size, media_path
from data_recipes.readers.tfrecord import example, fields, messages
from data_recipes.records import Format, Record, Rejected

NAME = "android_control-"
TEXTS, NUMBERS = ("goal", "actions", "step_instructions"), ("screenshot_widths", "screenshot_heights")
KEYS = {"navigate_home": "home", "navigate_back": "back"}
# field numbers of android_env/proto/a11y
WINDOWS, TREE, NODES, BOUNDS, VISIBLE = 1, 11, 1, 2, 23


class AndroidControlOptions(ActionOptions):
    """Options of the format android_control."""

    level: Literal["high", "low"] = "high"
    """What a row asks for: `high`, the next step towards the goal, with the steps so far; `low`, the step's own instruction."""
    finished: bool = True
    """Also make a row of each episode's last screen, where nothing is left to do; with `level: high` alone."""
    radius: float = Field(default=0.14, gt=0.0, le=1.0)
    """Half the side of the square around a point outside all nodes, in fractions of the screen."""


def read(path: Path, options: AndroidControlOptions) -> Iterator[Record]:
    """Episodes of a file, or of all files of a folder in the order of names."""
    files = sorted(path.glob(f"{NAME}*")) if path.is_dir() else [path] if _is_tfrecord(path) else []
    if not files:
        yield from records(path, options.split)
        return
    for file in files:
        number = 0
        try:
            for number, message in enumerate(messages(file), 1):
                try:
                    record = Record(_episode(message), file, number)
                except ValueError as error:
                    record = Record(None, file, number, f"expected a tf.train.Example: {error}")
                yield record.of_shard() if len(files) > 1 else record
        except ValueError as error:
            yield Record(None, file, f"behind {number}", f"expected a readable TFRecord file: {error}")


def _is_tfrecord(path: Path) -> bool:
    return path.name.startswith(NAME) or kind_of(path) == ".tfrecord"


def _episode(message: bytes) -> dict[str, Any]:
    """Features under the names of the dataset, texts decoded."""
    found: dict[str, Any] = example(message)
    for key in TEXTS:
        found[key] = [v.decode("utf-8", "replace") if isinstance(v, bytes) else v for v in found.get(key, [])]
    for key in ("goal", "episode_id"):
        values = found.get(key) or [None]
        found[key] = values[0]
    return found


def convert(record: Record, options: AndroidControlOptions) -> Iterator[Row | Rejected]:
    """One row for each step, and one for the end."""
    data = record.data
    if not isinstance(data, dict):
        raise Rejected(f"expected an episode, got {show(data)}")
    goal = data.get("goal")
    if not isinstance(goal, str) or not goal.strip():
        raise Rejected(f"field 'goal': expected a text, got {show(goal)}")
    actions, steps = _list(data, "actions"), _list(data, "step_instructions")
    shots = _list(data, "screenshots" if data.get("screenshots") is not None else "screenshots_b64")
    if len(steps) != len(actions) or len(shots) < len(actions):
        raise Rejected(
            f"field 'actions': expected as many as step_instructions, and a screenshot before each, got {len(actions)} actions,"
            f" {len(steps)} instructions, {len(shots)} screenshots"
        )
    for i, action in enumerate(actions):
        try:
            answer = _answer(json_object(action, f"actions[{i}]"), data, i, options)
            yield _row(record, options, i, answer, shots[i], steps)
        except Rejected as error:
            yield error
    if options.finished and options.level == "high" and len(shots) > len(actions):
        yield _row(record, options, len(actions), {"action": "finished"}, shots[len(actions)], steps)


def _answer(
    action: dict[str, Any], data: dict[str, Any], i: int, options: AndroidControlOptions
) -> dict[str, Any]:
    given = action.get("action_type")
    name = given if isinstance(given, str) else ""
    if name in ("click", "long_press"):
        kind = {"click": "click", "long_press": "longpress"}[name]
        return {"action": kind, "start_box": _target(action, data, i, options), "frame": "pixel"}
    if name == "type":
        text = _text(action, "text", i)
        return {
            "action": "input",
            "text": text,
            "start_box": _target(action, data, i, options),
            "frame": "pixel",
        }
    if name == "input_text":
        return {"action": "input", "text": _text(action, "text", i)}
    if name == "open_app":
        return {"action": "open", "app": _text(action, "app_name", i)}
    if name == "scroll":
        direction = _text(action, "direction", i).strip().lower()
        if direction not in ("up", "down", "left", "right"):
            raise Rejected(
                f"field 'actions[{i}].direction': expected up, down, left or right, got {show(direction)}"
            )
        return {"action": "scroll", "direction": direction}
    if name in KEYS:
        return {"action": "press", "keys": [KEYS[name]]}
    if name == "wait":
        return {"action": "wait"}
    raise Rejected(
        f"field 'actions[{i}].action_type': expected one of AndroidControl's actions, got {show(given)}"
    )


def _target(
    action: dict[str, Any], data: dict[str, Any], i: int, options: AndroidControlOptions
) -> list[float]:
    """The box in which the click is right, in pixels."""
    width, height = _size(data, i)
    x: Any = action.get("x")
    y: Any = action.get("y")
    if not all(isinstance(v, int | float) and not isinstance(v, bool) for v in (x, y)):
        raise Rejected(f"field 'actions[{i}]': expected x and y in pixels, got {show([x, y])}")
    if not (0 <= x < width and 0 <= y < height):
        raise Rejected(
            f"field 'actions[{i}]': expected a point on the screen of {width} x {height}, got ({x}, {y})"
        )
    trees = data.get("accessibility_trees")
    tree = trees[i] if isinstance(trees, list) and i < len(trees) else None
    boxes = _nodes(tree, width, height) if isinstance(tree, bytes) else []
    around = [box for box in boxes if box[0] <= x < box[2] and box[1] <= y < box[3]]
    if around:
        return [float(v) for v in min(around, key=lambda b: (b[2] - b[0]) * (b[3] - b[1]))]
    rx, ry = options.radius * width, options.radius * height
    return [max(0.0, x - rx), max(0.0, y - ry), min(float(width), x + rx), min(float(height), y + ry)]


def _nodes(forest: bytes, width: int, height: int) -> list[list[int]]:
    """Boxes of the visible nodes of an AndroidAccessibilityForest, cut at the screen's edges; none of one that cannot be read."""
    found = []
    try:
        for window in _messages(forest, WINDOWS):
            for tree in _messages(window, TREE):
                for node in _messages(tree, NODES):
                    values = dict(fields(node))
                    edges = dict(fields(values[BOUNDS])) if isinstance(values.get(BOUNDS), bytes) else {}
                    x1, y1, x2, y2 = (_signed(edges.get(n, 0)) for n in (1, 2, 3, 4))
                    box = [max(0, x1), max(0, y1), min(width, x2), min(height, y2)]
                    if values.get(VISIBLE) and box[0] < box[2] and box[1] < box[3]:
                        found.append(box)
    except ValueError:
        return []
    return found


def _messages(message: bytes, number: int) -> list[bytes]:
    return [value for n, value in fields(message) if n == number and isinstance(value, bytes)]


def _signed(value: Any) -> int:
    whole = value if isinstance(value, int) else 0
    return whole - (1 << 64) if whole >> 63 else whole


def _size(data: dict[str, Any], i: int) -> tuple[int, int]:
    sizes: list[Any] = [
        data[key][i] if isinstance(data.get(key), list) and i < len(data[key]) else None for key in NUMBERS
    ]
    if not all(isinstance(v, int) and not isinstance(v, bool) and v > 0 for v in sizes):
        raise Rejected(
            f"field 'screenshot_widths': expected widths and heights of the screenshots in pixels, got {show(sizes)}"
        )
    return sizes[0], sizes[1]


def _row(
    record: Record,
    options: AndroidControlOptions,
    i: int,
    answer: dict[str, Any],
    screenshot: Any,
    steps: list[Any],
) -> Row:
    data = record.data
    done = "; ".join(str(step).strip() for step in steps[:i]) or "nothing"
    task = str(steps[i]).strip() if options.level == "low" and i < len(steps) else data["goal"].strip()
    prompt = fill(
        options.prompt, task=task, history=done if options.level == "high" else "nothing", unit=options.unit()
    )
    episode = data.get("episode_id")
    known = {"episode": str(episode)} if isinstance(episode, str | int) else {}
    size = image_size(*_size(data, i)) if all(isinstance(data.get(key), list) for key in NUMBERS) else {}
    return {
        "id": f"{record.at}-{i}",
        "task": "action",
        "prompt": ask(prompt),
        "images": [_image(screenshot, f"screenshots[{i}]", record, options)],
        "answer": answer,
        "source": source(options, "AndroidControl", "Apache-2.0"),
        "frame_out": options.frame_out or "pixel",
        "goal": data["goal"],
        "step": i,
        **known,
        **size,
    }


def _image(value: Any, field: str, record: Record, options: AndroidControlOptions) -> Any:
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, bytes):
        return {"bytes": value}
    if not isinstance(value, str) or not value:
        raise Rejected(f"field '{field}': expected a screenshot's bytes or path, got {show(value)}")
    if record.data.get("screenshots") is not None:
        return media_path(value, field, record, options.media)
    try:
        return {"bytes": base64.b64decode(value, validate=True)}
    except (binascii.Error, ValueError):
        raise Rejected(f"field '{field}': expected base64, got {show(value)}") from None


def _list(data: dict[str, Any], field: str) -> list[Any]:
    value = data.get(field)
    if not isinstance(value, list):
        raise Rejected(f"field '{field}': expected a list, got {show(value)}")
    return value


def _text(action: dict[str, Any], key: str, i: int) -> str:
    value = action.get(key)
    if not isinstance(value, str) or not value.strip():
        raise Rejected(f"field 'actions[{i}].{key}': expected a text, got {show(value)}")
    return value


def looks_like(path: Path, first: Any) -> bool:
    """True for an episode, or a file by the published names."""
    if isinstance(first, dict):
        return {"goal", "actions", "step_instructions"} <= set(first)
    return _is_tfrecord(path) if path.is_file() else any(path.glob(f"{NAME}*"))


FORMATS = (
    Format(
        "android_control",
        "AndroidControl: the next action of episodes on phones",
        read,
        convert,
        looks_like,
        AndroidControlOptions,
    ),
)
