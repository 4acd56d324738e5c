"""Preference pairs in the forms of the training tools, as rows with `chosen` and `rejected` (core/pairs.py).

    TRL, explicit prompt      {"prompt": [messages] | "…", "chosen": [messages] | "…", "rejected": …, "images": […], "margin": 0.5}
    TRL, implicit prompt      {"chosen": [messages], "rejected": [messages]}: the prompt is what both begin with
    HH-RLHF                   {"chosen": "\\n\\nHuman: …\\n\\nAssistant: …", "rejected": …}
    LLaMA-Factory ShareGPT    {"conversations": […], "chosen": {"from": "gpt", "value": "…"}, "rejected": {…}, "images": […]}
    LLaMA-Factory Alpaca      {"instruction": "…", "input": "…", "chosen": "…", "rejected": "…"}, or an "output" of two
    ms-swift                  {"messages": […, the chosen answer], "rejected_response": "…" | [messages]}

As in TRL 1.16 (docs/dataset_formats.md, data_utils.py), LLaMA-Factory (data/README.md) and ms-swift (docs on custom data sets).
Images that the prompt has no placeholder for stand at its beginning. The margin is the column `margin`, else the difference of
`score_chosen` and `score_rejected` (or `chosen_score`, `rejected_score`); a pair with equal scores is no preference and Rejected.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from core.rows import Row, count_placeholders
from data_recipes.readers.chat import SourceOptions, media_list, own_id, source, split_media
from data_recipes.readers.files import need, show
from data_recipes.readers.folders import records
from data_recipes.records import Format, Record, Rejected

Message = dict[str, Any]
_ROLES = {
    "human": "user",
    "gpt": "assistant",
    "observation": "tool",
    "function_call": "assistant",
    "llava": "assistant",
}
_TRANSCRIPT = re.compile(r"(?:^|\n\n)(Human|Assistant): ?")
SCORES = (("score_chosen", "score_rejected"), ("chosen_score", "rejected_score"))


class PreferenceOptions(SourceOptions):
    """Options of every reader of preference pairs."""

    task: str = "chat"
    """The rows' task."""


def read(path: Path, options: PreferenceOptions) -> Iterator[Record]:
    """Records of a .json, .jsonl or .parquet file."""
    return records(path, options.split)


def convert(record: Record, options: PreferenceOptions) -> Iterable[Row]:
    """One row per record."""
    data = record.data
    if not isinstance(data, dict):
        raise Rejected(f"expected a JSON object, got {show(data)}")
    for field in ("rejected_images", "audios"):
        if data.get(field):
            raise Rejected(
                f"field '{field}': expected one set of images for both responses, got {show(data[field])}"
            )
    folder = options.media or record.file.parent
    media = {kind: _media(data, kind, folder) for kind in ("image", "video")}
    prompt, chosen, rejected = _parts(data, media, folder)
    row = pair(prompt, chosen, rejected, media, margin=margin_of(data))
    return [
        {"id": own_id(record, "id", "prompt_id"), "task": options.task}
        | row
        | {"source": source(options, record.file.stem, "unknown")}
    ]


def pair(
    prompt: Sequence[Message],
    chosen: Any,
    rejected: Any,
    media: Mapping[str, list[Any]],
    *,
    margin: float | None = None,
) -> Row:
    """The columns of a preference row, missing placeholders put before the first question. `core.pairs` checks the responses."""
    messages = list(prompt)
    if not messages or messages[-1]["role"] == "assistant":
        raise Rejected(
            "field 'prompt': expected messages that end with a question, got none or an answer last"
        )
    for kind in ("video", "image"):
        missing = len(media[kind]) - count_placeholders(messages, kind)
        if missing < 0:
            raise Rejected(
                f"field '{kind}s': expected one per <{kind}> of the prompt, {len(media[kind]) - missing}, got {len(media[kind])}"
            )
        messages = _in_front(messages, kind, missing)
    return {
        "prompt": messages,
        "images": media["image"],
        "videos": media["video"],
        "chosen": chosen,
        "rejected": rejected,
        "margin": margin,
        "answer": None,
        "trace": None,
    }


def text_prompt(text: str) -> list[Message]:
    """A question as messages, `<image>` and `<video>` in it as media."""
    return [{"role": "user", "content": split_media(text)}]


def better(first: Any, second: Any, margin: float, where: str) -> tuple[Any, Any, float]:
    """(chosen, rejected, margin) of two responses whose scores differ by `margin`, first minus second. Rejected for a tie."""
    if margin == 0:
        raise Rejected(f"{where}: expected one response to be better, got a tie")
    return (first, second, margin) if margin > 0 else (second, first, -margin)


def number(value: Any, field: str) -> float:
    """A finite number, also one written as text. Rejected names the field."""
    try:
        found = float(value) if not isinstance(value, bool) else float("nan")
    except (TypeError, ValueError):
        found = float("nan")
    if found != found or abs(found) == float("inf"):
        raise Rejected(f"field '{field}': expected a number, got {show(value)}")
    return found


def margin_of(data: Mapping[str, Any]) -> float | None:
    """The margin of a record, None if it has neither a margin nor scores."""
    if data.get("margin") is not None:
        return number(data["margin"], "margin")
    for high, low in SCORES:
        if data.get(high) is not None and data.get(low) is not None:
            margin = number(data[high], high) - number(data[low], low)
            if margin < 0:
                raise Rejected(f"field '{high}': expected at least '{low}', {data[low]}, got {data[high]}")
            return better(None, None, margin, f"field '{high}'")[2]
    return None


# ---------------------------------------------------------------------------------------------------------------- forms


def _parts(
    data: Mapping[str, Any], media: dict[str, list[Any]], folder: Path
) -> tuple[list[Message], Any, Any]:
    """(prompt, chosen, rejected) of a record in any of the forms."""
    if data.get("instruction") is not None:
        return _alpaca(data)
    if data.get("rejected_response") is not None or data.get("rejected_messages") is not None:
        return _swift(data, media, folder)
    chosen, rejected = data.get("chosen"), data.get("rejected")
    if "conversations" in data:
        prompt = _messages(
            need(data, "conversations", list, "a list of turns"), "conversations", media, folder
        )
        return prompt, _answer(chosen, "chosen"), _answer(rejected, "rejected")
    both = isinstance(chosen, list) and isinstance(rejected, list)
    if both and chosen and rejected and _role(chosen[0]) != "assistant":
        first = _messages(chosen, "chosen", media, folder)
        return _split(first, _messages(rejected, "rejected", {"image": [], "video": []}, folder))
    prompt = data.get("prompt", data.get("question"))
    if prompt is None and isinstance(chosen, str) and isinstance(rejected, str):
        return _split(_transcript(chosen, "chosen"), _transcript(rejected, "rejected"))
    if isinstance(prompt, str):
        messages = text_prompt(prompt)
    else:
        messages = _messages(need(data, "prompt", list, "a text or messages"), "prompt", media, folder)
    return messages, _answer(chosen, "chosen"), _answer(rejected, "rejected")


def _alpaca(data: Mapping[str, Any]) -> tuple[list[Message], Any, Any]:
    question = need(data, "instruction", str, "a text")
    if data.get("input"):
        question = f"{question}\n{need(data, 'input', str, 'a text')}"
    messages = (
        [{"role": "system", "content": need(data, "system", str, "a text")}] if data.get("system") else []
    )
    for i, turn in enumerate(data.get("history") or ()):
        if not isinstance(turn, list) or len(turn) != 2 or not all(isinstance(text, str) for text in turn):
            raise Rejected(f"field 'history[{i}]': expected [question, answer], got {show(turn)}")
        messages += text_prompt(turn[0]) + [{"role": "assistant", "content": turn[1]}]
    ranked = data.get("output")
    if isinstance(ranked, list) and len(ranked) == 2:
        return messages + text_prompt(question), ranked[0], ranked[1]
    return (
        messages + text_prompt(question),
        _answer(data.get("chosen"), "chosen"),
        _answer(data.get("rejected"), "rejected"),
    )


def _swift(
    data: Mapping[str, Any], media: dict[str, list[Any]], folder: Path
) -> tuple[list[Message], Any, Any]:
    other = data.get("rejected_response")
    if "messages" not in data:  # older files
        question = need(data, "query" if "query" in data else "question", str, "a text")
        return text_prompt(question), need(data, "response", str, "a text"), other
    messages = _messages(need(data, "messages", list, "messages"), "messages", media, folder)
    if data.get("rejected_messages") is not None:
        return _split(
            messages,
            _messages(data["rejected_messages"], "rejected_messages", {"image": [], "video": []}, folder),
        )
    if messages[-1]["role"] != "assistant":
        raise Rejected("field 'messages': expected the chosen answer as the last message, got a question")
    rejected = _answer(other, "rejected_response")
    return messages[:-1], messages[-1]["content"], rejected


def _split(chosen: list[Message], rejected: list[Message]) -> tuple[list[Message], Any, Any]:
    """The messages that two conversations have in common, and what follows in each, from the assistant's turn on."""
    same = 0
    while same < min(len(chosen), len(rejected)) and chosen[same] == rejected[same]:
        same += 1
    if same == len(chosen) == len(rejected):
        raise Rejected("field 'rejected': expected another conversation than 'chosen', got the same")
    while same and (same >= min(len(chosen), len(rejected)) or chosen[same]["role"] != "assistant"):
        same -= 1
    if not same:
        raise Rejected(
            "field 'chosen': expected it to begin with the same question as 'rejected', got another"
        )
    return chosen[:same], chosen[same:], rejected[same:]


def _transcript(text: str, field: str) -> list[Message]:
    """Turns of a text in the form of HH-RLHF."""
    pieces = _TRANSCRIPT.split(text)
    if len(pieces) < 3 or pieces[0].strip():
        raise Rejected(
            f"field '{field}': expected messages, a text beside a 'prompt', or a transcript that begins with 'Human:', got"
            f" {show(text)}"
        )
    roles = {"Human": "user", "Assistant": "assistant"}
    return [
        {"role": roles[role], "content": content.strip()}
        for role, content in zip(pieces[1::2], pieces[2::2], strict=True)
    ]


def _answer(value: Any, field: str) -> Any:
    """A response: a text, a message, or a list of messages."""
    if isinstance(value, Mapping):
        value = [value]
    if isinstance(value, str) or value is None:
        if value is None:
            raise Rejected(f"field '{field}': expected a response, got nothing")
        return value
    return _messages(value, field, {"image": [], "video": []}, Path())


def _role(turn: Any) -> Any:
    role = turn.get("role", turn.get("from")) if isinstance(turn, Mapping) else None
    return (
        _ROLES.get(role, role)
        if isinstance(role, str)
        else ("assistant" if isinstance(turn, Mapping) else None)
    )


def _messages(value: Any, field: str, media: dict[str, list[Any]], folder: Path) -> list[Message]:
    """Messages in the form of rows; media inside their parts go to `media`."""
    if not isinstance(value, list) or not value:
        raise Rejected(f"field '{field}': expected messages, got {show(value)}")
    messages = []
    for i, turn in enumerate(value):
        at = f"{field}[{i}]"
        role = _role(turn)
        if role not in ("system", "user", "assistant", "tool"):
            raise Rejected(f"field '{at}': expected a message with a role, got {show(turn)}")
        content = turn.get("content", turn.get("value"))
        if isinstance(content, str):
            content = split_media(content) if role != "assistant" else content
        elif isinstance(content, list):
            content = [_part(part, f"{at}.content[{j}]", media, folder) for j, part in enumerate(content)]
        else:
            raise Rejected(f"field '{at}': expected a text or parts, got {show(content)}")
        messages.append({"role": role, "content": content})
    return messages


def _part(part: Any, at: str, media: dict[str, list[Any]], folder: Path) -> dict[str, Any]:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind == "text" and isinstance(part.get("text"), str):
        return {"type": "text", "text": part["text"]}
    if kind not in ("image", "video"):
        raise Rejected(f"field '{at}': expected a part of text, image or video, got {show(part)}")
    media[kind] += media_list(part.get(kind), at, folder)
    return {"type": kind}


def _media(data: Mapping[str, Any], kind: str, folder: Path) -> list[Any]:
    field = f"{kind}s" if data.get(f"{kind}s") is not None else kind
    return media_list(data.get(field), field, folder)


def _in_front(messages: list[Message], kind: str, count: int) -> list[Message]:
    """The messages with `count` placeholders before the first question's text."""
    if not count:
        return messages
    first = next(i for i, message in enumerate(messages) if message["role"] != "system")
    content = messages[first]["content"]
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else list(content)
    changed = messages[first] | {"content": [{"type": kind}] * count + parts}
    return [*messages[:first], changed, *messages[first + 1 :]]


def looks_like(path: Path, first: Any) -> bool:
    """True for a pair of responses in one of the forms."""
    if not isinstance(first, dict):
        return False
    ranked = first.get("output")
    return (
        {"chosen", "rejected"} <= set(first)
        or any(first.get(key) is not None for key in ("rejected_response", "rejected_messages"))
        or ("instruction" in first and isinstance(ranked, list) and len(ranked) == 2)
    )


FORMATS = (
    Format(
        "preference",
        "preference pairs of TRL, LLaMA-Factory and ms-swift: chosen and rejected",
        read,
        convert,
        looks_like,
        PreferenceOptions,
    ),
)
