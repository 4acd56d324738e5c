"""Whether a row is fit for use: media decode, boxes lie in the image, spans in the video, and the reward reads the answer.

`core.rows.check_row` checks a row's form; this checks its content against its media. The answer is read by the very check
that the RL run makes (`check_gold` of the task's reward), so that what passes here starts there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import Field, field_validator

from core.pairs import check_responses, is_pair
from core.rows import BrokenRow, Row
from data_recipes.checks.probes import image_size, video_length
from data_recipes.readers.files import show
from data_recipes.records import Options, Rejected
from rewards.config import FunctionConfig
from rewards.functions.grounding import gold_boxes
from rewards.functions.temporal import gold_spans
from rewards.geometry.frames import convert, extent, sizes_of
from rewards.reading.gold import number, numbers
from rewards.serving.items import Limits
from rewards.serving.pool import Pool
from rewards.serving.runners import Runner, make_runner
from rewards.stages import parse, render
from vlm.media import MediaError, Size

DEFAULT_REWARDS: dict[str, str | None] = {
    "math": "math",
    "counting": "counting",
    "choice": "choice",
    "grounding": "giou",
    "detection": "box_set",
    "pointing": "point_in_box",
    "action": "action",
    "gui": "outcome",
    "temporal": "temporal_iou",
    "text": "exact_text",
    "ocr": "exact_text",
    "regression": "relaxed_numeric",
    "search": "exact_text",
    "chat": None,
}


class Validation(Options):
    """How strictly rows are looked at."""

    decode: bool = True
    """Decode every image and every frame of every video. false: read headers and packets alone, which finds missing and
    broken-off files but not damaged pixels."""
    rewards: dict[str, list[FunctionConfig] | None] = Field(default_factory=dict)
    """The reward (or list of rewards) that will judge a task, as in a run's `rewards.tasks`; null: none, its answers are
    not read. Given tasks replace or join the defaults: math, counting and choice by the rewards of these names, grounding
    by giou, detection by box_set, pointing by point_in_box, action by action, gui by outcome, temporal by temporal_iou, regression by
    relaxed_numeric, text, ocr and search by exact_text, chat by none."""
    need_answer: bool = False
    """Refuse rows without an answer, as RL and evaluation do. Else a row needs an answer, a trace, a
    document, or a preference pair (`chosen` and `rejected`)."""
    span_tolerance: float = Field(default=1.0, ge=0.0, allow_inf_nan=False)
    """Seconds by which a span may end after the video's last frame, and the annotated `duration` may differ from the file's.
    Containers commonly differ from annotations by 0.2 to 0.4 s."""
    box_tolerance: float = Field(default=0.02, ge=0.0, allow_inf_nan=False)
    """Pixels of the original image by which a box may exceed it: COCO's x, y, width and height are rounded to hundredths."""

    @field_validator("rewards", mode="before")
    @classmethod
    def _lists(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {task: [f] if isinstance(f, str | dict | FunctionConfig) else f for task, f in value.items()}


def make_check(options: Validation | None = None) -> Callable[[Row], None]:
    """A function that raises Rejected ("field 'x': expected …, got …") for a row unfit for use; media paths are absolute.

    The rewards are loaded here, once, and run in this process: PluginError for one that cannot be.
    """
    options = options or Validation()
    runners = _runners(options)

    def check(row: Row) -> None:
        pair = is_pair(row)
        if pair:
            _check_pair(row)
        learnt = row.get("trace") is not None or row.get("document") is not None or pair
        if row.get("answer") is None and (options.need_answer or not learnt):
            raise Rejected(
                "field 'answer': expected an answer, got null"
                if options.need_answer
                else "field 'answer': expected an answer, a trace, a document or a pair of responses, got none of them"
            )
        sizes = [_image(row, i, options) for i in range(len(row.get("images") or ()))]
        lengths = [_video(row, i, options) for i in range(len(row.get("videos") or ()))]
        _check_trace(row)
        answer = row.get("answer")
        if answer is None:
            return
        _check_gold(row, runners)
        try:
            _check_places(answer, row, sizes, options.box_tolerance)
            _check_times(answer, row, lengths, options.span_tolerance)
        except Rejected:
            raise
        except ValueError as error:  # readers of answers say "answer.boxes: expected …, got …"
            raise Rejected(_as_field(str(error))) from None

    return check


def _runners(options: Validation) -> dict[str, list[Runner]]:
    """The rewards by task; they run here, so that no worker process has to be started and ended."""
    given: dict[str, list[FunctionConfig] | None] = {
        task: None if name is None else [FunctionConfig(function=name)]
        for task, name in DEFAULT_REWARDS.items()
    }
    given |= options.rewards
    unused = Pool(1, 60.0)
    return {
        task: [
            make_runner(f.model_copy(update={"isolate": False}), Limits(60.0, *f.value_range), unused)
            for f in functions or ()
        ]
        for task, functions in given.items()
    }


def _check_gold(row: Row, runners: Mapping[str, list[Runner]]) -> None:
    if row["task"] not in runners:
        raise Rejected(
            f"field 'task': expected one with a reward ({', '.join(runners)}), got '{row['task']}'; name its reward under"
            " `rewards` of the validation, or null if none is to judge it"
        )
    for runner in runners[row["task"]]:
        (problem,) = runner.check([row])
        if problem:
            raise Rejected(_as_field(problem))


def _as_field(problem: str) -> str:
    """`answer.boxes: expected …` as `field 'answer.boxes': expected …`."""
    name, colon, rest = problem.partition(": ")
    return f"field '{name}': {rest}" if colon and " " not in name else f"field 'answer': {problem}"


def _check_pair(row: Row) -> None:
    try:
        check_responses(row)
    except BrokenRow as error:
        raise Rejected(str(error)) from None


def _image(row: Row, index: int, options: Validation) -> Size:
    try:
        return image_size(row["images"][index], decode=options.decode)
    except MediaError as error:
        raise Rejected(f"field 'images[{index}]': {error}") from None


def _video(row: Row, index: int, options: Validation) -> float:
    """Seconds of the clip as shown."""
    medium = row["videos"][index]
    try:
        length = video_length(medium, decode=options.decode)
    except MediaError as error:
        raise Rejected(f"field 'videos[{index}]': {error}") from None
    if not isinstance(medium, Mapping):
        return length
    start, end = float(medium.get("start") or 0.0), float(medium.get("end") or length)
    if not 0.0 <= start < end <= length + 1.0:  # as vlm.media
        raise Rejected(
            f"field 'videos[{index}]': expected 0 <= start < end <= {length:.2f} s, the file's length, got {start} to {end} s"
        )
    return min(end, length) - start


def _check_trace(row: Row) -> None:
    trace = row.get("trace")
    if isinstance(trace, list):  # SFT trains from the first assistant turn to the last one
        roles = [message.get("role") for message in trace]
        if not roles or {roles[0], roles[-1]} != {"assistant"}:
            raise Rejected(
                f"field 'trace': expected messages that begin and end with an assistant's, got the roles {roles}"
            )
    if not isinstance(trace, Mapping):
        return
    for stage, text in trace.items():
        if isinstance(text, str) and not text.strip():
            raise Rejected(f"field 'trace.{stage}': expected text, got an empty stage")
    try:
        broken = parse(render(trace)).broken
    except ValueError as error:
        raise Rejected(f"field 'trace': {error}") from None
    if broken:
        raise Rejected(
            f"field 'trace': expected the four stages, got a text that breaks the grammar ({broken})"
        )


def _check_places(answer: Mapping[str, Any], row: Row, sizes: list[Size], tolerance: float) -> None:
    """Boxes and points of the answer lie in their image, in the frame that they declare."""
    named = [key for key in ("boxes", "box", "point") if answer.get(key) is not None]
    if not named:
        return
    index = int(number(answer["image"], "answer.image")) if answer.get("image") is not None else 0
    if not 0 <= index < len(sizes):
        raise Rejected(
            f"field 'images': expected image {index}, which '{named[0]}' lies in, got {len(sizes)} images"
        )
    size = sizes[index]
    declared = answer.get("image_size") if answer.get("image_size") is not None else row.get("image_size")
    known, resized = sizes_of({**answer, "image_size": size if declared is None else declared}, row)
    if known != (float(size[0]), float(size[1])):
        raise Rejected(f"field 'image_size': expected the file's {list(size)}, got {show(declared)}")
    frame = answer.get("frame") or "pixel"
    width, height = extent(frame, size, resized)
    slack_x, slack_y = convert((tolerance, tolerance), "pixel", frame, size, resized)
    for x1, y1, x2, y2 in gold_boxes(answer) if named != ["point"] else ():
        if x1 < -slack_x or y1 < -slack_y or x2 > width + slack_x or y2 > height + slack_y:
            raise Rejected(
                f"field 'answer.{named[0]}': expected boxes inside the image of {width:g} x {height:g} (frame {frame}), got"
                f" {[x1, y1, x2, y2]}"
            )
    if answer.get("point") is not None:
        x, y = numbers(answer["point"], 2, "answer.point")
        if not (-slack_x <= x <= width + slack_x and -slack_y <= y <= height + slack_y):
            raise Rejected(
                f"field 'answer.point': expected a point inside the image of {width:g} x {height:g} (frame {frame}), got"
                f" {[x, y]}"
            )


def _check_times(answer: Mapping[str, Any], row: Row, lengths: list[float], tolerance: float) -> None:
    """Spans of the answer lie in their video."""
    if answer.get("spans") is None and answer.get("span") is None:
        return
    spans = gold_spans(answer)
    index = int(number(answer["video"], "answer.video")) if answer.get("video") is not None else 0
    if not 0 <= index < len(lengths):
        raise Rejected(
            f"field 'videos': expected video {index}, which the spans lie in, got {len(lengths)} videos"
        )
    length = lengths[index]
    given = answer.get("duration") if answer.get("duration") is not None else row.get("duration")
    if given is not None and abs(number(given, "duration") - length) > tolerance:
        raise Rejected(
            f"field 'duration': expected the video's {length:.2f} s within {tolerance:g} s, got {given} s: another cut?"
        )
    for start, end in spans:
        if start >= length or end > length + tolerance:
            raise Rejected(
                f"field 'answer.spans': expected spans inside the video of {length:.2f} s (tolerance {tolerance:g} s), got"
                f" {[start, end]}"
            )
