"""The boxes and points of a row, wherever they stand: in its answer, in its columns and in its texts.

`rewrite` walks over all of them in a fixed order and puts in place of each what a function gives for it, in the same frame
and as it was written: whole numbers stay whole. What cannot be read with certainty is refused by name rather than left as it
was: a box that does not move with its image is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from core.rows import Row
from rewards.geometry.frames import Size, extent, frames_of, sizes_of
from rewards.reading.coordinates import named_values
from rewards.reading.text import NUMBER

Move = Callable[[tuple[float, ...]], Sequence[float]]
"""Of a box (x1, y1, x2, y2) or point (x, y) in fractions of the image, the same in fractions of the new image."""


class Refused(ValueError):
    """A row whose coordinates cannot be moved. Arguments: why in a few words, the same for all such rows, and the detail."""


_COLUMN = re.compile(r"(?:.*_)?(?:box|boxes|point|points)")
_UNREAD = re.compile(r"(?:.*_)?(?:bbox|bboxes|bbox_2d|point_2d|polygons?|segmentation|masks?|keypoints|rle)")
_NOT_COLUMNS = ("id", "task", "prompt", "trace", "images", "videos", "source", "answer")

_THOUSANDS = r"[0-9]{1,3}(?:,[0-9]{3}){1,4}(?![\w,])"  # 4,656 is one number
_LIST = re.compile(rf"[\[(]\s{{0,9}}({NUMBER}(?:\s{{0,9}},\s{{0,9}}{NUMBER}){{1,15}})\s{{0,9}}[\])]")
_TAGGED = re.compile(
    rf"(?<=<box>|oint>)\s{{0,9}}({NUMBER}(?:(?:\s{{0,9}},\s{{0,9}}|\s{{1,9}}){NUMBER}){{1,15}})\s{{0,9}}(?=</)"
)
_WHOLE = re.compile(rf"\s*(?!{_THOUSANDS})({NUMBER}(?:\s{{0,9}},\s{{0,9}}{NUMBER}){{1,15}})\s*\.?\s*")
_PAIR = rf"[\[(]\s?{NUMBER}\s?,\s?{NUMBER}\s?[\])]"
_CORNERS = re.compile(rf"{_PAIR}(?:\s?,\s?|\s|\s?-\s?| to | and )?{_PAIR}")
_BARE = re.compile(
    rf"(?<![\w.,])(?!{_THOUSANDS}){NUMBER}(?:\s{{0,9}}[,;]\s{{0,9}}{NUMBER}){{1,15}}|{NUMBER}\s?(?:px|pixels)\b"
)
_NUMBER = re.compile(NUMBER)
_ZOOM = re.compile(r"<grounding>.*?</grounding>", re.DOTALL)
_TOOL = re.compile(r"<tool_call>.*?</tool_call>", re.DOTALL)
_NAMES = re.compile(
    r"x|y|[xy]_?(?:[0-9]|min|max)|[xy](?:min|max)|w|h|left|right|top|bottom|width|height|cx|cy"
)


def rewrite(row: Row, move: Move) -> Row:
    """The row with every box and point moved. Raises Refused, and ValueError for frames that are unknown."""
    new = dict(row)
    answer = row.get("answer")
    if answer is not None:
        new["answer"] = _columns(answer, _frame(row, "answer"), move, "answer.")
    pixels = Frame(*_pixel_size(row)) if _has_columns(row) else None
    for name, value in row.items():
        if name not in _NOT_COLUMNS and pixels:
            new |= _columns({name: value}, pixels, move, "")
    new["prompt"] = [_message(row, message, move) for message in row["prompt"]]
    trace = row.get("trace")
    if isinstance(trace, Mapping):
        new["trace"] = {stage: _text(row, text, move) for stage, text in trace.items()}
    elif isinstance(trace, list):
        new["trace"] = [_message(row, message, move) for message in trace]
    return new


class Frame:
    """width, height: of the whole image in the unit of the coordinates."""

    def __init__(self, width: float, height: float) -> None:
        self.extent = (width, height)

    def moved(self, values: Sequence[float], move: Move, decimals: int) -> list[float]:
        """A box or point moved, rounded to `decimals` places. Raises Refused if it does not lie in the image."""
        fractions = tuple(value / self.extent[i % 2] for i, value in enumerate(values))
        if not all(-1e-3 <= fraction <= 1.001 for fraction in fractions):
            raise Refused("coordinates outside the image", f"{list(values)} of {list(self.extent)}")
        if len(values) == 4 and not (values[0] <= values[2] and values[1] <= values[3]):
            raise Refused("a box that is not x1, y1, x2, y2", f"{list(values)}")
        return [round(value * self.extent[i % 2], decimals) for i, value in enumerate(move(fractions))]

    def decimals(self, written: int) -> int:
        """Places to write, where the numbers had `written`: at least those that make a thousandth of the image."""
        return max(written, 3) if max(self.extent) <= 1 else written


def _frame(row: Row, what: str) -> Frame:
    """The frame of the answer, or (`text`) the one that a model is asked to answer in."""
    answer = row.get("answer") or {}
    out, gold = frames_of(answer, row)
    size, resized = sizes_of(answer, row, of_model=what == "text")
    return Frame(*extent(gold if what == "answer" else out, size, resized))


def _declared(row: Row) -> bool:
    """Whether the row says in which frame the coordinates of its texts are."""
    answer = row.get("answer") or {}
    return bool(row.get("frame_out")) or any(
        answer.get(name) is not None for name in ("box", "boxes", "point", "points")
    )


def _pixel_size(row: Row) -> Size:
    size, _ = sizes_of(row.get("answer") or {}, row)
    return extent("pixel", size)


# ------------------------------------------------------------------------------------------------------------- columns


def _has_columns(row: Row) -> bool:
    def walk(value: Any) -> Iterator[str]:
        if isinstance(value, Mapping):
            for name, one in value.items():
                yield str(name)
                yield from walk(one)
        elif isinstance(value, list):
            for one in value:
                yield from walk(one)

    names = walk({name: value for name, value in row.items() if name not in _NOT_COLUMNS})
    return any(_COLUMN.fullmatch(name) or _UNREAD.fullmatch(name) for name in names)


def _columns(values: Mapping[str, Any], frame: Frame, move: Move, above: str) -> dict[str, Any]:
    """The mapping with all that its names call boxes or points moved, however deep."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if value is not None and _UNREAD.fullmatch(str(name)):
            raise Refused("a column whose layout is not declared", f"{above}{name}")
        if isinstance(value, str) and above and (_LIST.search(value) or _WHOLE.fullmatch(value)):
            raise Refused("coordinates in the text of an answer, which are not moved", f"{above}{name}")
        inside = f"{above}{name}."
        found[name] = value
        if _COLUMN.fullmatch(str(name)) and _is_numbers(value):
            found[name] = _numbers(value, frame, move)
        elif (
            isinstance(value, list | tuple)
            and value
            and _COLUMN.fullmatch(str(name))
            and all(map(_is_numbers, value))
        ):
            found[name] = [_numbers(one, frame, move) for one in value]
        elif isinstance(value, Mapping):
            found[name] = _columns(value, frame, move, inside)
        elif isinstance(value, list | tuple):
            found[name] = [
                _columns(one, frame, move, inside) if isinstance(one, Mapping) else one for one in value
            ]
    return found


def _is_numbers(value: Any) -> bool:
    return (
        isinstance(value, list | tuple)
        and len(value) in (2, 4)
        and all(isinstance(one, int | float) and not isinstance(one, bool) for one in value)
    )


def _numbers(values: Sequence[float], frame: Frame, move: Move) -> list[float]:
    whole = all(float(value).is_integer() for value in values) and frame.decimals(0) == 0
    moved = frame.moved(values, move, 0 if whole else 6)
    return (
        [int(value) for value in moved]
        if all(isinstance(value, int) for value in values) and whole
        else moved
    )


# --------------------------------------------------------------------------------------------------------------- texts


def _message(row: Row, message: Mapping[str, Any], move: Move) -> dict[str, Any]:
    if message["role"] == "system":
        return dict(message)
    content = message["content"]
    if isinstance(content, str):
        return dict(message) | {"content": _text(row, content, move)}
    parts = [
        part | {"text": _text(row, part["text"], move)} if part["type"] == "text" else part
        for part in content
    ]
    return dict(message) | {"content": parts}


def _text(row: Row, text: str, move: Move) -> str:
    """The text with its lists of two and four numbers moved: in calls of a zoom in fractions, elsewhere in the row's frame."""
    if (call := _TOOL.search(text)) and _LIST.search(call.group()):
        raise Refused("a <tool_call> with coordinates, whose frame is not known", call.group()[:60])
    out, at = [], 0
    for zoom in _ZOOM.finditer(text):
        out.append(_plain(row, text[at : zoom.start()], move))
        out.append(_replaced(_LIST, zoom.group(), Frame(1.0, 1.0), move))
        at = zoom.end()
    return "".join([*out, _plain(row, text[at:], move)])


def _plain(row: Row, text: str, move: Move) -> str:
    pattern = _WHOLE if _WHOLE.fullmatch(text) else _LIST if _LIST.search(text) else _TAGGED
    _check_rest(text, pattern)
    found = pattern.search(text)
    if not found:
        return text
    if not _declared(row):
        raise Refused("numbers that may be coordinates, in no declared frame", found.group()[:60])
    frame = _frame(row, "text")
    if pattern is _LIST and _CORNERS.search(text) and not _answers_points(row):
        text = _replaced(_CORNERS, text, frame, move)
        # the corners are moved already; of what stands between them nothing is a list of four
        return _replaced(_LIST, text, frame, move, skip=_CORNERS)
    return _replaced(pattern, text, frame, move)


def _answers_points(row: Row) -> bool:
    answer = row.get("answer") or {}
    return row["task"] == "pointing" or any(answer.get(name) is not None for name in ("point", "points"))


def _check_rest(text: str, pattern: re.Pattern[str]) -> None:
    """Raise Refused for numbers outside the lists that look like coordinates as well."""
    rest = pattern.sub(" ", text)
    for named in named_values(rest):
        if _NAMES.fullmatch(named.name):
            raise Refused("coordinates by name, which are not moved", rest[named.start : named.end][:60])
    if found := _BARE.search(rest):
        raise Refused("numbers that may be coordinates, in no list", found.group()[:60])


def _replaced(
    pattern: re.Pattern[str], text: str, frame: Frame, move: Move, skip: re.Pattern[str] | None = None
) -> str:
    done = [match.span() for match in skip.finditer(text)] if skip else []

    def put(match: re.Match[str]) -> str:
        if any(start <= match.start() and match.end() <= end for start, end in done):
            return match.group()
        written = _NUMBER.findall(match.group())
        if len(written) not in (2, 4):
            raise Refused("a list that is neither a box nor a point", match.group()[:60])
        places = max(_places(number) for number in written)
        moved = iter(frame.moved([float(number) for number in written], move, frame.decimals(places)))
        return _NUMBER.sub(lambda _: _written(next(moved), places, frame), match.group())

    return pattern.sub(put, text)


def _places(number: str) -> int:
    return len(number.partition(".")[2])


def _written(value: float, places: int, frame: Frame) -> str:
    """With as many decimals as before, and more where they are needed."""
    text = f"{value:.{frame.decimals(places)}f}"
    while "." in text and (_places(text) > places and text.endswith("0")):
        text = text[:-1]
    return text.removesuffix(".")
