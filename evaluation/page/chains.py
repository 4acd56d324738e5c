"""Episodes turn by turn: the image that each turn looked at, with the box it asked for and where its attention lay.

A run's files hold the calls, not the images they gave: those of built-in tools are made again from the prompt's images.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from PIL import Image

from core.media.images import load_image
from core.media.sources import MediaError
from environments.tools import TOOLS, load_tool
from environments.types import CallError
from evaluation.page.marks import answer_text
from evaluation.page.pictures import Marks, MediaStore, Picture, describe, draw_image
from evaluation.page.run_folder import Chain
from evaluation.page.values import is_number
from evaluation.tables import percent

HEAT = (226, 28, 92)  # colour of attention
MOST_HEAT = 0.72  # opacity where it is largest
MAX_TURNS, MAX_TEXT = 16, 2_000  # shown of an episode, and characters of a turn
ENDS = {"stop": "ended by the policy", "length": "its last turn was cut off", "error": "ended by an error"}


def chain_view(chain: Chain, media: MediaStore, labels: Mapping[str, str]) -> dict[str, Any]:
    """The template's variables for one episode."""
    record = chain.record
    finish, reward = record.get("finish"), record.get("reward")
    turns = record.get("turns") or []
    return {
        "label": labels.get(str(record.get("checkpoint")), str(record.get("checkpoint"))),
        "row_id": record.get("row_id"),
        "prompt": str(record.get("prompt") or "")[-MAX_TEXT:],
        "gold_text": answer_text(record.get("answer")),
        "reward_text": "not scored" if reward is None else f"{reward:.2f}",
        "end": f"over its budget of {record.get('over_turn')}"
        if finish == "over_turn"
        else ENDS.get(str(finish), str(finish)),
        "turns": turn_views(record, chain.maps, media),
        "left_out": max(0, len(turns) - MAX_TURNS),
    }


def turn_views(
    record: Mapping[str, Any], maps: Sequence[Mapping[str, Any] | None], media: MediaStore
) -> list[dict[str, Any]]:
    """The template's variables for the turns of a rollout, as `engines.samples.rollout_record` and the evaluation write them.

    maps: of each turn (`evaluation.attention.Look.as_json`); may be shorter than the turns.
    """
    views: dict[str, Picture | str] = {}
    images: dict[str, Image.Image] = {}
    paths = record.get("images") or ()
    seen: str | None = None  # the image shown last
    for number, source in enumerate(paths, start=1):
        name = "original_image" if len(paths) == 1 else f"original_image_{number}"
        views[name], seen = media.image(source), name
        try:
            images[name] = load_image(source)
        except (MediaError, ValueError) as error:
            views[name] = str(error)
    if len(paths) > 1:
        views["original_image"] = views["original_image_1"]
        images |= {"original_image": images["original_image_1"]} if "original_image_1" in images else {}
    found = []
    for number, turn in enumerate(record.get("turns") or (), start=1):
        if number > MAX_TURNS:
            break
        heat = maps[number - 1] if number <= len(maps) else None
        details = turn.get("details") or {}
        named = next((v for v in details.values() if isinstance(v, str) and v in views), None)
        looked_at = (heat or {}).get("image") or named or seen
        found.append(_turn(number, turn, heat, looked_at, views.get(str(looked_at))))
        for picture, image in _observed(record, turn, images, media, number):
            seen = f"observation_{sum(key.startswith('observation_') for key in views) + 1}"
            views[seen] = picture
            if image is not None:
                images[seen] = image
    return found


def _turn(
    number: int,
    turn: Mapping[str, Any],
    heat: Mapping[str, Any] | None,
    name: str | None,
    picture: Picture | str | None,
) -> dict[str, Any]:
    box = (turn.get("details") or {}).get("box")
    marks = Marks(boxes=(tuple(box),)) if box else Marks()
    figure = None
    if isinstance(picture, Picture):
        under = overlay(heat["grid"], picture) if heat else Markup("")
        description = f"turn {number}, {name}: {describe(Marks(), marks)}"
        figure = draw_image(picture, Marks(), marks, description, under)
    return {
        "number": number,
        "image": name,
        "figure": figure,
        "missing": picture if isinstance(picture, str) else None,
        "text": str(turn.get("text") or "(empty)")[:MAX_TEXT],
        "error": turn.get("error"),
        "facts": _facts(turn, heat),
    }


def _facts(turn: Mapping[str, Any], heat: Mapping[str, Any] | None) -> list[str]:
    """What was measured at a turn: attention, log-probabilities, and the answer it would have given."""
    facts = []
    if heat:
        facts.append(f"{percent(heat['share'])} of its attention lies on this image")
    if is_number(turn.get("box_logprob")):
        facts.append(f"box: mean log-prob {_signed(turn['box_logprob'])}")
    so_far = turn.get("so_far") or {}
    if so_far:
        reward, logprob = so_far.get("reward"), so_far.get("logprob")
        scored = "not scored" if reward is None else f"reward {reward:.2f}"
        sure = f", mean log-prob {_signed(logprob)}" if logprob is not None and is_number(logprob) else ""
        facts.append(f"answer if it had to stop here: {str(so_far.get('answer'))[:200]} ({scored}{sure})")
    return facts


def _signed(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")


def _observed(
    record: Mapping[str, Any],
    turn: Mapping[str, Any],
    images: Mapping[str, Image.Image],
    media: MediaStore,
    number: int,
) -> list[tuple[Picture | str, Image.Image | None]]:
    """The images that the turn's call gave; a text in place of a picture where it cannot be made again."""
    count = str(turn.get("observation") or "").count("[image]")
    if not count:
        return []
    made = _made_again(turn, images)
    if len(made) != count:
        return [("this image is not kept in the run's files", None)] * count
    calls = [one.get("call") for one in record["turns"][:number]]
    key = [record.get("images"), calls, [one.get("details") for one in record["turns"][:number]]]
    return [(media.made(json.dumps([*key, i]), image), image) for i, image in enumerate(made)]


def _made_again(turn: Mapping[str, Any], images: Mapping[str, Image.Image]) -> list[Image.Image]:
    """The images of a call of a built-in tool; none if it is another tool's, or what it needs is not there."""
    call, details = turn.get("call") or {}, turn.get("details") or {}
    name = str(call.get("name"))
    if not TOOLS.is_builtin(name):
        return []
    tool = load_tool(name)
    arguments: dict[str, Any] = {}
    for parameter, kind in tool.signature.parameters.items():
        if kind == "image":
            arguments[parameter] = images.get(str(details.get(parameter)))
        elif kind == "box":
            arguments[parameter] = details.get("box")
        elif kind == "video":
            return []
        elif parameter in (call.get("arguments") or {}):
            arguments[parameter] = call["arguments"][parameter]
    if None in arguments.values():
        return []
    try:
        content = tool.call(arguments)
    except (CallError, ValueError, TypeError):
        return []
    return [part for part in content if isinstance(part, Image.Image)]


def overlay(grid: Sequence[Sequence[float]], picture: Picture) -> Markup:
    """Attention as a coloured layer over a picture: the more, the less transparent; the largest value of the grid is the same
    in every picture."""
    values = np.asarray(grid, dtype=float)
    alpha = values / values.max() if values.max() > 0 else values
    layer = np.zeros((*values.shape, 4), dtype=np.uint8)
    layer[..., :3], layer[..., 3] = HEAT, (255 * MOST_HEAT * alpha).round()
    file = io.BytesIO()
    Image.fromarray(layer, "RGBA").save(file, "PNG", optimize=True)
    uri = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
    return Markup('<image class="heat" width="{}" height="{}" preserveAspectRatio="none" href="{}"/>').format(
        picture.width, picture.height, uri
    )
