"""Reward and metrics for spans of time in videos.

Accepted forms: two times in brackets (`[00:01,00:03]`, `(1.5s, 3s)`, JSON lists, nested or quoted `"00:01"`), with a word or
a dash between them (`1.5s to 3 seconds`, `00:01 - 00:03`, `between 1 and 3`, `3.2 → 8`, `3.2秒到8秒`), named (`{"start": 1, "end": 3}`,
"starts at 1 s … ends at 3 s"), or two times that are the whole text. A time is `75`, `01:15`, `00:01:15.5`, `1m15s`, `1 minute 15
seconds`; in "2 to 9 minutes" the unit applies to both.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any

from rewards.geometry.overlap import Span, is_span, span_iou
from rewards.reading.final_answer import marked_answer, standing, without_markup
from rewards.reading.gold import field, gold_check, number, numbers, sequence
from rewards.reading.text import tail

MAX_SPANS = 256
"""An answer with more spans than this scores 0."""

_UNITS = {
    **dict.fromkeys(("hours", "hour", "hrs", "hr", "h", "小时", "时"), 3600.0),
    **dict.fromkeys(("minutes", "minute", "mins", "min", "m", "分钟", "分"), 60.0),
    **dict.fromkeys(("seconds", "second", "secs", "sec", "s", "秒钟", "秒"), 1.0),
}
_UNIT = rf"(?:{'|'.join(sorted(_UNITS, key=len, reverse=True))})(?![A-Za-z])\.?"
_SHORT_UNIT = r"(?:[hm](?=[0-9]))"  # 1m2s
_DECIMAL = r"[0-9]{1,9}(?:\.[0-9]{0,20})?"
_CLOCK = r"(?:[0-9]{1,4}:){1,2}[0-9]{1,2}(?:\.[0-9]{0,20})?"
_PART = rf"{_DECIMAL}\s?(?:{_UNIT}|{_SHORT_UNIT})"
# A clock time, one to three parts with units, or a number.
_TIME = rf"(?:{_CLOCK}(?:\s?{_UNIT})?|{_PART}(?:[\s,]{{0,2}}(?:and\s)?{_PART}){{0,2}}|{_DECIMAL})"
_BEFORE = r"(?:(?:at|about|around|approximately|roughly|the|time|t|timestamp|second|seconds|~|≈|第|=|:)\s{0,2}){0,3}"
_AFTER = r"(?:\s?(?:marks?|timestamp|处|开始|结束)\b)?"
_T = rf"{_BEFORE}[\"']?({_TIME})[\"']?{_AFTER}"
_EDGE = r"(?<![0-9.:\-+])(?<![0-9][eE])"  # not inside a longer number, nor after a sign
_END = r"(?![0-9:%]|\.[0-9]|[eE][-+]?[0-9]|\s?%)"
_TO = r"\s{0,9}(?:-{1,3}>?|–|—|―|~|～|→|⟶|➔|➜|⇒|=>|\.{2,3}|to|and|until|till?|thr(?:ough|u)|up\sto|to\sabout|至|到|和)\s{0,9}"
_START = r"(?<![A-Za-z])[\"']?(?:start|begin|beginn|from|onset|开始|起始)(?:s|ing|ning)?(?:[_\s]?(?:time|sec(?:ond)?s?|timestamp|stamp|时间)){0,2}[\"']?"
_STOP = r"(?<![A-Za-z])[\"']?(?:ends?|ending|stops?|stopping|finish(?:es)?|finishing|until|(?<=[\"'])to(?=[\"'])|offset|结束|终止)(?:[_\s]?(?:time|sec(?:ond)?s?|timestamp|stamp|时间)){0,2}[\"']?"
_IS = r"\s{0,3}(?:is|at|from|on|by|[:=>于是为在])?\s{0,3}"
_GAP = r"[^0-9\[\](){}-]{0,40}?"
_SPAN = re.compile(
    rf"[\[(]\s{{0,20}}{_T}\s{{0,20}}(?:[,;]|{_TO})\s{{0,20}}{_T}\s{{0,20}}[\])]"
    rf"|{_START}{_IS}{_T}{_END}{_GAP}{_STOP}{_IS}{_T}{_END}"
    rf"|{_EDGE}[\"']?({_TIME})[\"']?{_AFTER}{_TO}{_T}{_END}",
    re.IGNORECASE,
)
_REVERSED = re.compile(rf"{_STOP}{_IS}{_T}{_END}{_GAP}{_START}{_IS}{_T}{_END}", re.IGNORECASE)
_WHOLE = re.compile(
    rf"\s{{0,20}}{_T}\s{{0,20}}(?:[,;]\s{{0,20}}|\s){_T}\s{{0,20}}\.?\s{{0,20}}", re.IGNORECASE
)
_MORE = re.compile(rf"\s{{0,3}}{_TO}{_T}", re.IGNORECASE)  # "3 to 8 to 12"
_AND_ANOTHER = re.compile(rf"\s{{0,3}}(?:and|和)\s{{0,3}}(?:from\s)?{_T}{_TO}{_T}", re.IGNORECASE)
_NOT_SECONDS = re.compile(
    r"(?:\bframes?|images?|steps?|pages?|shots?|clips?|scenes?|帧)\s{0,3}[(\[\"']{0,2}\Z", re.IGNORECASE
)
_PART_OF_TIME = re.compile(
    rf"({_DECIMAL})\s?({'|'.join(sorted(_UNITS, key=len, reverse=True))})?", re.IGNORECASE
)
_QUOTED_NUMBERS = re.compile(
    rf"[\[(]\s{{0,20}}(?:.{{0,30}}[,;]\s{{0,20}})?[\"']{_DECIMAL}[\"']"
)  # not times: ["1", "3"]
_N = r"\s{0,9}([0-9]{1,9}(?:\.[0-9]{0,20})?|[0-9]{1,4}:[0-9]{1,2})\s{0,9}"
_PLAIN_SPAN = re.compile(rf"\s?\[{_N},{_N}\]\s?")


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
    """The spans in an answer in order, without duplicates; None if there are none or too many, or one is invalid or left open."""
    text = tail(completion)
    plain = _PLAIN_SPAN.fullmatch(text)
    if plain:  # the usual form, read quickly
        start, end = seconds(plain.group(1)), seconds(plain.group(2))
        return [(start, end)] if start is not None and end is not None and is_span((start, end)) else None
    text = without_markup(marked_answer(completion)).strip("$ \n")
    whole = _WHOLE.fullmatch(text)
    matches = [whole] if whole else list(_SPAN.finditer(text))
    backwards = [] if matches else list(_REVERSED.finditer(text))  # {"end": 3, "start": 1}
    found: dict[Span, None] = {}
    for match in matches or backwards:
        before, after = text[: match.start()][-100:], text[match.end() :][:80]
        how = standing(re.sub(r"\bbetween\b", "", before, flags=re.IGNORECASE), after)
        if how == "denied" or _QUOTED_NUMBERS.match(match.group()):
            continue
        times = [group for group in match.groups() if group is not None]
        span = _span(*(reversed(times) if backwards else times))
        chained = match.group()[-1] not in "])" and _MORE.match(after) and not _AND_ANOTHER.match(after)
        if how == "open" or span is None or chained or _NOT_SECONDS.search(before) or len(found) >= MAX_SPANS:
            return None
        found[span] = None
    return list(found) or None


def _span(first: str, second: str) -> Span | None:
    """The span between two times as written, in seconds; None if invalid. A first number without a unit takes the second's."""
    start, end = _time(first), _time(second)
    if start is None or end is None:
        return None
    scale = end[1] if start[1] is None and end[1] is not None else 1.0
    span = (start[0] * scale, end[0])
    return span if is_span(span) else None


def _time(text: str) -> tuple[float, float | None] | None:
    """(seconds, unit of a time that has exactly one, in seconds) as written; None if it is not a time (00:75, 5 s 2 min)."""
    if ":" in text:
        clock = re.match(_CLOCK, text)
        value = seconds(clock.group()) if clock else None
        return None if value is None else (value, None)
    parts = [(float(value), unit.lower()) for value, unit in _PART_OF_TIME.findall(text)]
    if len(parts) == 1:
        value, unit = parts[0]
        return value * _UNITS.get(unit, 1.0), _UNITS.get(unit)
    units = [_UNITS.get(unit, 0.0) for _, unit in parts]
    if any(after >= before for before, after in itertools.pairwise(units)):
        return None
    return sum(value * unit for (value, _), unit in zip(parts, units, strict=True)), None


def gold_spans(answer: Mapping[str, Any]) -> list[Span]:
    """True spans of an answer `{"spans": [[start, end], …]}` or `{"span": [start, end]}` in seconds. Raises ValueError if broken."""
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
    """Temporal IoU of the union of spans in the text and the union of true spans: in [0, 1], 1 only if they are equal.

    0 if the text has no span, or an inverted, empty or otherwise invalid one. Extra spans enlarge the union and lower the score.
    """
    truth = gold_spans(answer)
    spans = read_spans(completion)
    return span_iou(spans, truth) if spans else 0.0


def recall_at_1(best: Sequence[Span | None], truths: Sequence[Sequence[Span]], threshold: float) -> float:
    """R@1 at a threshold: share of queries whose top span has IoU >= threshold with one of its true spans.

    `best`: the top prediction of each query, None if missing (counts as a miss). Empty input gives 0.
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
