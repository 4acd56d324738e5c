"""Moments in videos: recall at one, mean IoU, and QVHighlights' average precision.

| function | source |
|---|---|
| `best_recall`, `average_precision` | jayleicn/moment_detr, `standalone_eval/{eval,utils}.py` (QVHighlights) |
| `recall` | RenShuhuai-Andy/TimeChat, `metrics/tvg/eval_tvg.py` (Charades-STA) |
| `from_text` | EvolvingLMMs-Lab/lmms-eval at 75571cf, `tasks/charades_sta/eval_tvg.py` (`extract_time`, of VTimeLLM's) |

Records have `windows`, true [start, end] in seconds. Predictions are lists of [start, end] or, for average precision,
[start, end, score].
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

RECALL_AT = (0.3, 0.5, 0.7)
AP_AT = tuple(round(0.5 + 0.05 * i, 2) for i in range(10))
MAX_WINDOWS = 10
_KEYWORDS = ("starts", "ends", "happens in", "start time", "end time", "start", "end", "happen")
_RANGE = re.compile(r"(\d+(?:\.\d+)?)\s*[–-]\s*(\d+(?:\.\d+)?)")
_RANGE_S = re.compile(r"(\d+(?:\.\d+)?)\s*s?\s*[–-]\s*(\d+(?:\.\d+)?)\s*s?")
_NUMBER = re.compile(r"\b(\d+(?:\.\d+)?)\b")
_CLOCK = re.compile(r"\b(\d{1,2}):(\d{2}):(\d{2})\b")


def windows(answer: Any, record: Mapping[str, Any]) -> list[list[float]]:
    """Windows given as numbers as they are, those of a text as `from_text` reads them."""
    if isinstance(answer, str):
        return from_text(answer, record)
    return [[float(v) for v in window] for window in answer or () if _is_window(window)]


def from_text(response: str, record: Mapping[str, Any]) -> list[list[float]]:
    """The first window of the sentences that speak of a start, an end or a happening; [] without one."""
    text = response.lower().replace("a specific example is : 20.8 - 30.0 seconds", "").replace("to", "-")
    told = [s for s in re.split(r"[!?\n]", text) if any(word in s for word in _KEYWORDS)]
    pairs = next((found for s in told if (found := _RANGE.findall(s))), [])
    if not pairs:
        pairs = _paired([found[0] for s in told if (found := _NUMBER.findall(s))])
    if not pairs:
        clocks = [found[0] for s in told if (found := _CLOCK.findall(s))]
        pairs = _paired([str(int(h) * 3600 + int(m) * 60 + int(s)) for h, m, s in clocks])
    if not pairs:
        pairs = next((found for s in told if (found := _RANGE_S.findall(s))), [])
    return [sorted(float(v) for v in pair) for pair in pairs[:1]]


def recall(prediction: Sequence[Sequence[float]], record: Mapping[str, Any]) -> dict[str, float]:
    """`R1@t` (the first window's IoU with the first true one is at least t) and `mIoU`; an answer without a window is wrong."""
    overlap = _span_iou(prediction[0], record["windows"][0]) if prediction else 0.0
    return {**{f"R1@{at}": float(bool(prediction) and overlap >= at) for at in RECALL_AT}, "mIoU": overlap}


def best_recall(prediction: Sequence[Sequence[float]], record: Mapping[str, Any]) -> dict[str, float]:
    """`R1@0.5` and `R1@0.7` of the first window with the true one of the highest IoU, and `mAP`, `mAP@0.5`, `mAP@0.75`."""
    truth = record["windows"]
    best = max((_iou(prediction[0], window) for window in truth), default=0.0) if prediction else 0.0
    scores = {f"R1@{at}": float(best >= at) for at in (0.5, 0.7)}
    precisions = average_precision(prediction[:MAX_WINDOWS], truth)
    return {
        **scores,
        "mAP": float(precisions.mean()),
        "mAP@0.5": float(precisions[0]),
        "mAP@0.75": float(precisions[5]),
    }


def average_precision(prediction: Sequence[Sequence[float]], truth: Sequence[Sequence[float]]) -> np.ndarray:
    """(10,) interpolated average precision of one query at IoU 0.50, 0.55, … 0.95 (VOC 2011, as ActivityNet's and MMAction2's)."""
    ranked = sorted(prediction, key=lambda window: -(window[2] if len(window) > 2 else 0.0))
    if not ranked or not truth:
        return np.zeros(len(AP_AT))
    hits = np.zeros((len(AP_AT), len(ranked)))
    overlaps = np.array([[_iou(window, true) for true in truth] for window in ranked])
    for row, threshold in zip(hits, AP_AT, strict=True):
        taken: set[int] = set()
        for i, line in enumerate(overlaps):
            for j in np.argsort(line)[::-1]:
                if line[j] >= threshold and int(j) not in taken:
                    taken.add(int(j))
                    row[i] = 1.0
                    break
    found = hits.cumsum(axis=1)
    precision = found / np.arange(1, len(ranked) + 1)
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    steps = np.diff(found / len(truth), axis=1, prepend=0.0)
    return (steps * envelope).sum(axis=1)


def _is_window(value: Any) -> bool:
    return (
        isinstance(value, Sequence)
        and not isinstance(value, str)
        and len(value) >= 2
        and all(isinstance(v, int | float) and np.isfinite(v) for v in value)
    )


def _paired(numbers: Sequence[str]) -> list[tuple[str, str]]:
    return list(zip(numbers[::2], numbers[1::2], strict=False))


def _span_iou(a: Sequence[float], b: Sequence[float]) -> float:
    """Intersection over the hull of both, as the official code has it (the union where they overlap)."""
    hull = max(a[1], b[1]) - min(a[0], b[0])
    return max(min(a[1], b[1]) - max(a[0], b[0]), 0.0) / hull if hull > 0 else 0.0


def _iou(a: Sequence[float], b: Sequence[float]) -> float:
    overlap = max(min(a[1], b[1]) - max(a[0], b[0]), 0.0)
    union = (a[1] - a[0]) + (b[1] - b[0]) - overlap
    return overlap / union if union > 0 else 0.0
