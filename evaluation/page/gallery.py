"""The gallery of a report: groups of answers, drawn on their media and split into stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evaluation.page.chains import turn_views
from evaluation.page.marks import answer_text, gold_marks, model_marks
from evaluation.page.pictures import Marks, MediaStore, describe, draw_image, draw_strip, outside
from evaluation.page.run_folder import AnswerGroup
from rewards.stages import STAGES, THINK, parse

MAX_CHARACTERS = 8_000  # shown of one stage or answer


def group_view(group: AnswerGroup, media: MediaStore, labels: Mapping[str, str]) -> dict[str, Any]:
    """The template's variables for one group. `labels`: checkpoint name -> name in the page."""
    first = group.members[0]
    return {
        "kind": group.kind,
        "task": group.task,
        "row_id": group.row_id,
        "why": group.why,
        "left_out": group.left_out,
        "prompt": _cut(_prompt_text(first.get("prompt"))),
        "gold_text": _cut(answer_text(first.get("answer"))),
        "wide": bool(first.get("videos")),
        "members": [card_view(group, record, media, labels) for record in group.members],
    }


def card_view(
    group: AnswerGroup, record: Mapping[str, Any], media: MediaStore, labels: Mapping[str, str]
) -> dict[str, Any]:
    """The template's variables for one answer."""
    text = str(record.get("completion") or "")
    parsed = next((p for p in (parse(text, STAGES), parse(text, THINK)) if p.stages), parse(text))
    reward, advantage = record.get("reward"), record.get("advantage")
    # With the grammar `none` the whole text is the answer and counts as in the grammar.
    in_grammar = record.get("in_grammar", parsed.stages is not None or bool(reward))
    turns = turn_views(record, (), media)
    whole = turns[-1]["text"] if turns else text
    conclusion = parsed.conclusion if parsed.stages else whole if in_grammar else None
    gold, model, problems = _marks(record, conclusion)
    description = describe(gold, model)
    figures, missing, beyond = _figures(record, gold, model, description, media)
    if turns:  # each looked at an image, and asked for a region of it
        figures = [turn["figure"] for turn in turns if turn["figure"]]
        missing = [turn["missing"] for turn in turns if turn["missing"]]
    checkpoint = record.get("checkpoint")
    return {
        "label": labels.get(str(checkpoint), str(checkpoint)) if group.kind == "held-out" else None,
        "when": str(checkpoint) if group.kind == "held-out" else str(group.step),
        "reward": reward,
        "reward_text": "not scored" if reward is None else f"{reward:.2f}",
        "percent": round(100 * min(1.0, max(0.0, reward or 0.0))),
        "advantage": advantage or 0.0,
        "advantage_text": _advantage_text(group, advantage),
        "conclusion": _cut(conclusion if conclusion is not None else _beginning(text)) or "(empty)",
        "broken": not in_grammar,
        "stages": [(stage, _cut(words)) for stage, words in (parsed.stages or {}).items()]
        or [(f"turn {turn['number']}", turn["text"]) for turn in turns],
        "text": _cut(text) or "(empty)",
        "tokens": record.get("tokens", "?"),
        "facts": _facts(record, None if in_grammar else parsed.broken),
        "figures": figures,
        "missing": [*problems, *missing],
        "beyond": beyond,
        "description": description,
    }


def _advantage_text(group: AnswerGroup, advantage: float | None) -> str | None:
    if group.kind != "training":
        return None
    # A group with equal rewards has no advantages and is left out of the update.
    return "none (no signal in the group)" if advantage is None else f"{advantage:+.2f}".replace("-", "−")


def _marks(record: Mapping[str, Any], conclusion: str | None) -> tuple[Marks, Marks, list[str]]:
    """Gold marks, the model's marks, and why something was not drawn (a frame that needs an unknown image size)."""
    try:
        return gold_marks(record), model_marks(record, conclusion), []
    except (ValueError, TypeError) as error:
        return Marks(), Marks(), [f"not drawn: {error}"]


def _figures(
    record: Mapping[str, Any], gold: Marks, model: Marks, description: str, media: MediaStore
) -> tuple[list[Any], list[str], str | None]:
    """Figures of a rollout's media, with marks on the one the answer is about; why media are missing; and a note if the
    model's answer reaches outside its medium."""
    figures, problems, beyond = [], [], None
    images: Sequence[Any] = record.get("images") or ()
    videos: Sequence[Any] = record.get("videos") or ()
    answer = record.get("answer") or {}
    about = int(answer.get("image") or 0)
    for i, source in enumerate(images):
        picture = media.image(source)
        marks = (gold, model) if i == about and not gold.spans else (Marks(), Marks())
        if isinstance(picture, str):
            problems.append(picture)
            continue
        figures.append(draw_image(picture, *marks, description))
        if outside(picture, marks[1]):
            beyond = "answer reaches outside the image"
    for i, source in enumerate(videos):
        picture = media.strip(source)
        if isinstance(picture, str):
            problems.append(picture)
            continue
        marks = (gold, model) if i == int(answer.get("video") or 0) else (Marks(), Marks())
        figures.append(draw_strip(picture, *marks, description))
        if outside(picture, marks[1]):
            beyond = "answer reaches beyond the end of the video"
    return figures, problems, beyond


def _facts(record: Mapping[str, Any], broken: str | None) -> str:
    """Reward components and how the answer ended, in one line."""
    parts = []
    for name, value in (record.get("components") or {}).items():
        parts.append(f"{name} {'not scored' if value is None else f'{value:.3f}'}")
    if broken:
        parts.append(f"grammar: {broken}")
    if record.get("reason") and record.get("reason") != broken:
        parts.append(f"reason: {_cut(str(record['reason']), 300)}")
    if record.get("finish"):
        parts.append(
            {"stop": "finished", "length": "cut off at the token limit"}.get(
                record["finish"], f"ended: {record['finish']}"
            )
        )
    if record.get("policy_version") is not None:
        parts.append(f"policy version {record['policy_version']}")
    return " · ".join(parts)


def _prompt_text(prompt: Any) -> str:
    """Text of a prompt; of chat messages the joined texts, with media as [image] or [video]."""
    if not isinstance(prompt, list):
        return str(prompt or "")
    parts = []
    for message in prompt:
        content = message.get("content")
        pieces = [{"type": "text", "text": content}] if isinstance(content, str) else content or []
        parts.append(" ".join(p["text"] if p.get("type") == "text" else f"[{p.get('type')}]" for p in pieces))
    return "\n".join(parts)


def _beginning(text: str) -> str:
    text = text.strip()
    return text if len(text) <= 160 else text[:160] + "…"


def _cut(text: str, length: int = MAX_CHARACTERS) -> str:
    return text if len(text) <= length else f"{text[:length]} … ({len(text) - length} more characters)"
