"""Reward and metrics for spans of time in videos.

Read from the answer text: `[00:01,00:03]`, `[00:01:02.5, 00:01:10]`, `[1.5, 3]`, the same in round brackets, several of them
or nested lists, and `1.5s to 3 seconds`, `00:01 - 00:03`, `from 1 to 3`, `between 1 and 3`. Times are mm:ss, hh:mm:ss or seconds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from rewards.geometry import Span, is_span, span_iou
from rewards.gold import field, gold_check, number, numbers, sequence
from rewards.reading import tail

MAX_SPANS = 256
"""More spans than this in one answer are no answer: score 0."""

_TIME = r"((?:[0-9]{1,4}:){1,2}[0-9]{1,2}(?:\.[0-9]{0,20})?|[0-9]{1,9}(?:\.[0-9]{0,20})?)"
_UNIT = r"(?:\s?(?:seconds|second|secs|sec|s)\b\.?)?"
_EDGE = r"(?<![0-9.:\-+eE])"  # not inside a longer number, nor after a sign
_END = r"(?![0-9:]|\.[0-9]|[eE][-+]?[0-9])"
_T = rf"\s{{0,20}}{_TIME}{_UNIT}\s{{0,20}}"
_SPAN = re.compile(
    rf"\[{_T},{_T}\]|\({_T},{_T}\)|{_EDGE}{_TIME}{_UNIT}\s{{0,9}}(?:-|–|—|~|to|and|until)\s{{0,9}}{_TIME}{_END}{_UNIT}"
    rf"|\A{_T},{_T}\.?\Z"
)


def seconds(text: str) -> float | None:
    """Seconds of one time as written: `75`, `01:15`, `00:01:15.5`. None if minutes or seconds of a clock reach 60."""
    parts = text.split(":")
    if len(parts) == 1:
        return float(parts[0])
    value = 0.0
    for i, part in enumerate(parts):
        unit = float(part)
        if i and unit >= 60.0:
            return None
        value = value * 60.0 + unit
    return value


def read_spans(completion: object) -> list[Span] | None:
    """All spans in an answer text in order, equal ones once; None if there is none, too many, or an invalid one among them."""
    found: dict[Span, None] = {}
    for match in _SPAN.finditer(tail(completion)):
        start, end = (seconds(group) for group in match.groups() if group is not None)
        if start is None or end is None or not is_span((start, end)) or len(found) >= MAX_SPANS:
            return None
        found[start, end] = None
    return list(found) or None


def gold_spans(answer: Mapping[str, Any]) -> list[Span]:
    """True spans of an answer `{"spans": [[start, end], …]}` or `{"span": [start, end]}` in seconds; ValueError if broken."""
    value = field(answer, "spans", "span")
    items = sequence(value, "answer.spans") if answer.get("spans") is not None else [value]
    spans = []
    for item in items:
        start, end = numbers(item, 2, "answer.spans")
        if not is_span((start, end)):
            raise ValueError(
                f"answer.spans: expected [start, end] in seconds with 0 <= start < end, got {item!r:.80}"
            )
        spans.append((start, end))
    if not spans:
        raise ValueError("answer.spans: expected at least one span, got none")
    return spans


def _check_spans(answer: Mapping[str, Any], row: Mapping[str, Any]) -> None:
    spans = gold_spans(answer)
    duration = answer.get("duration") if answer.get("duration") is not None else row.get("duration")
    if duration is not None and max(start for start, _ in spans) >= number(duration, "duration"):
        raise ValueError(
            f"answer.spans: expected spans that start before the video's end at {duration} s, got {spans}"
        )


@gold_check(_check_spans)
def temporal_iou_reward(completion: str, answer: Mapping[str, Any], **row: Any) -> float:
    """Temporal IoU of the spans in the text and the true spans, both as unions: in [0, 1], 1 only for the same time.

    0 if the text holds no span, or an inverted, empty or otherwise invalid one. Spans beyond the true ones enlarge the union
    and so cost.
    """
    truth = gold_spans(answer)
    spans = read_spans(completion)
    return span_iou(spans, truth) if spans else 0.0


def recall_at_1(best: Sequence[Span | None], truths: Sequence[Sequence[Span]], threshold: float) -> float:
    """R@1 at a threshold: share of queries whose top span has IoU >= threshold with one of its true spans.

    `best`: the top prediction of each query, None where there is none (counts as a miss). Empty input gives 0.
    """
    return _mean([float(value >= threshold) for value in top_ious(best, truths)])


def mean_iou(best: Sequence[Span | None], truths: Sequence[Sequence[Span]]) -> float:
    """mIoU: mean over queries of the top span's IoU with the best of its true spans; a missing prediction counts 0."""
    return _mean(top_ious(best, truths))


def top_ious(best: Sequence[Span | None], truths: Sequence[Sequence[Span]]) -> list[float]:
    """IoU of each query's top span with the best of its true spans (0 where missing or invalid)."""
    return [
        max((span_iou([span], [true]) for true in true_spans), default=0.0) if span and is_span(span) else 0.0
        for span, true_spans in zip(best, truths, strict=True)
    ]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
