"""Rewards for actions on a screen (`rewards.reading.actions`): the whole action, and each of its fields.

Truth: the action's name, and what is asked of its fields:

    {"action": "click", "start_box": [x1, y1, x2, y2], "frame": "pixel"}        start_point in the box
    {"action": "drag", "start_box": […], "end_box": […], "frame": "norm1000"}
    {"action": "input", "text": "Berlin"}            {"action": "scroll", "direction": "down"}
    {"action": "press", "keys": ["ctrl", "c"]}       {"action": "open", "app": "Clock"}       {"action": "finished", "status": "success"}

A field that the truth does not name is not judged. Points may be in another frame (`frame_out`), as for the other rewards of
places. Without the right action no field is worth anything: a drag from the right button is not half a click on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rewards.functions.pointing import inside
from rewards.functions.text import anls
from rewards.geometry.frames import check_frames, to_gold_frame
from rewards.geometry.overlap import Box
from rewards.reading.actions import ACTIONS, DIRECTIONS, POINTS, Action, NoAction, normal_keys, read_action
from rewards.reading.gold import field, gold_check, numbers
from rewards.reading.unicode import plain_characters

BOXES = {"start_point": "start_box", "end_point": "end_box"}
WORDS = ("text", "app", "status")


def _check(answer: Mapping[str, Any], row: Mapping[str, Any]) -> None:
    """Raise ValueError unless the truth is one of an action's, with fields of the right type."""
    name = field(answer, "action")
    if name not in ACTIONS:
        raise ValueError(f"answer.action: expected one of {', '.join(ACTIONS)}, got {name!r:.80}")
    needed, free = ACTIONS[name]
    asked = {BOXES.get(key, key) for key in (*needed, *free)} - {"scroll_distance"}
    known = {*BOXES.values(), *WORDS, "direction", "keys"}
    if wrong := [key for key in sorted(known - asked) if answer.get(key) is not None]:
        raise ValueError(
            f"answer.{wrong[0]}: {name} has no such field; it has {', '.join(sorted(asked)) or 'none'}"
        )
    for key in BOXES.values():
        if answer.get(key) is not None:
            _box(answer, key)
            check_frames(answer, row, row.get("frame_out"))
    for key in WORDS:
        if answer.get(key) is not None and not (isinstance(answer[key], str) and answer[key].strip()):
            raise ValueError(f"answer.{key}: expected a text, got {answer[key]!r:.80}")
    if answer.get("direction") not in (None, *DIRECTIONS):
        raise ValueError(
            f"answer.direction: expected one of {', '.join(DIRECTIONS)}, got {answer['direction']!r:.80}"
        )
    if answer.get("keys") is not None:
        _keys(answer)


@gold_check(_check)
def action_reward(
    completion: str,
    answer: Mapping[str, Any],
    *,
    frame_out: str | None = None,
    threshold: float = 0.5,
    **row: Any,
) -> float:
    """1 if the action and all its judged fields are right; texts count by their ANLS, which multiplies. In [0, 1]."""
    action = _right(completion, answer)
    if action is None:
        return 0.0
    scores = [score for key in POINTS if (score := _point(action, key, answer, frame_out, row)) is not None]
    scores += [score for key in WORDS if (score := _text(action, key, answer, threshold)) is not None]
    scores += [score for score in (_direction(action, answer), _pressed(action, answer)) if score is not None]
    worth = 1.0
    for score in scores:
        worth *= score
    return worth


@gold_check(_check)
def action_type_reward(completion: str, answer: Mapping[str, Any], **row: Any) -> float:
    """1 if the one action in the text has the right name, and fields of the right types; else 0."""
    return 0.0 if _right(completion, answer) is None else 1.0


@gold_check(_check)
def action_point_reward(
    completion: str, answer: Mapping[str, Any], *, frame_out: str | None = None, **row: Any
) -> float | None:
    """Share of the true boxes (start_box, end_box) that hold the action's point, 0 for a wrong action; None without a box."""
    asked = [key for key in POINTS if answer.get(BOXES[key]) is not None]
    if not asked:
        return None
    action = _right(completion, answer)
    if action is None:
        return 0.0
    return sum(_point(action, key, answer, frame_out, row) or 0.0 for key in asked) / len(asked)


@gold_check(_check)
def action_text_reward(
    completion: str, answer: Mapping[str, Any], *, threshold: float = 0.5, **row: Any
) -> float | None:
    """ANLS of the action's text, app or status with the true one, 0 for a wrong action; None if the truth has none of them."""
    asked = [key for key in WORDS if answer.get(key) is not None]
    if not asked:
        return None
    action = _right(completion, answer)
    if action is None:
        return 0.0
    return sum(_text(action, key, answer, threshold) or 0.0 for key in asked) / len(asked)


@gold_check(_check)
def action_direction_reward(completion: str, answer: Mapping[str, Any], **row: Any) -> float | None:
    """1 for a scroll in the true direction, else 0; None if the truth has no direction."""
    if answer.get("direction") is None:
        return None
    action = _right(completion, answer)
    return 0.0 if action is None else _direction(action, answer)


@gold_check(_check)
def action_keys_reward(completion: str, answer: Mapping[str, Any], **row: Any) -> float | None:
    """1 if exactly the true keys are pressed, in any order, else 0; None if the truth has none."""
    if answer.get("keys") is None:
        return None
    action = _right(completion, answer)
    return 0.0 if action is None else _pressed(action, answer)


def _right(completion: object, answer: Mapping[str, Any]) -> Action | None:
    """The action in a completion, if it has the true name."""
    action = read_action(completion)
    return action if action is not None and action.name == answer.get("action") else None


def _point(
    action: Action, key: str, answer: Mapping[str, Any], frame_out: str | None, row: Mapping[str, Any]
) -> float | None:
    if answer.get(BOXES[key]) is None:
        return None
    if key not in action.fields:
        return 0.0
    x, y = to_gold_frame([action.fields[key]], answer, row, frame_out)[0]
    return float(inside((x, y), _box(answer, BOXES[key])))


def _text(action: Action, key: str, answer: Mapping[str, Any], threshold: float) -> float | None:
    truth = answer.get(key)
    return (
        None if truth is None else anls(str(action.fields.get(key, "")), plain_characters(truth), threshold)
    )


def _direction(action: Action, answer: Mapping[str, Any]) -> float | None:
    truth = answer.get("direction")
    return None if truth is None else float(action.fields.get("direction") == truth)


def _pressed(action: Action, answer: Mapping[str, Any]) -> float | None:
    return None if answer.get("keys") is None else float(action.fields.get("keys") == _keys(answer))


def _box(answer: Mapping[str, Any], key: str) -> Box:
    x1, y1, x2, y2 = numbers(answer[key], 4, f"answer.{key}")
    if x1 >= x2 or y1 >= y2:
        raise ValueError(
            f"answer.{key}: expected [x1, y1, x2, y2] with x1 < x2 and y1 < y2, got {answer[key]!r:.80}"
        )
    return x1, y1, x2, y2


def _keys(answer: Mapping[str, Any]) -> frozenset[str]:
    given = answer["keys"]
    try:
        return normal_keys(given if isinstance(given, str) else list(given))
    except (NoAction, TypeError):
        raise ValueError(f"answer.keys: expected names of keys, got {given!r:.80}") from None
