"""Dense captions of videos by a scripted teacher (see endpoints.py): times are checked, events cross windows, reasons are counted."""

from __future__ import annotations

import json
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.rows import check_row
from data_recipes.operations import OPERATIONS
from data_recipes.records import Context, Removed
from data_recipes.synthetic.world import encoded_video
from data_recipes.teacher.attempts import Verdict
from data_recipes.teacher.dense_captions import windows
from data_recipes.teacher.dense_events import Event, covered, read_events, times_fault
from tests.data_recipes.endpoints import scripted_teacher, text_of

SECONDS = 8


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("videos") / "grey.mp4"
    frames = (np.full((64, 64, 3), 9 * i, np.uint8) for i in range(2 * SECONDS))
    path.write_bytes(encoded_video(frames, 2))
    return str(path)


def row(medium: Any, **more: Any) -> dict[str, Any]:
    content = [{"type": "video"}, {"type": "text", "text": "Describe the video."}]
    return {
        "id": "r",
        "task": "caption",
        "prompt": [{"role": "user", "content": content}],
        "images": [],
        "videos": [medium],
        "answer": None,
        "trace": [{"role": "assistant", "content": "It gets lighter."}],
        "source": None,
    } | more


def event(start: float, end: float, label: str = "it gets lighter", **more: Any) -> dict[str, Any]:
    return {
        "start": start,
        "end": end,
        "label": label,
        "caption": f"Between frames {start} and {end} {label}.",
    } | more


WHOLE = json.dumps([event(0, 2), event(2, 4, "it stays grey")])


def dense(rows: list[dict], replies: list[Any], folder: Path, **options: Any):
    """(rows out, counts, the teacher) when the teacher plays these replies, the last one for ever."""
    with scripted_teacher(lambda body, number: replies[min(number, len(replies) - 1)]) as teacher:
        operation = OPERATIONS["dense_captions"]
        settings = {"teacher": {"base_url": teacher.url, "model": "big"}, "window_s": 4} | options
        context = Context(folder)
        out = list(operation.apply(iter(rows), operation.options(**settings), context))
        return out, context.counts, teacher


def test_windows_cover_a_video_once():
    assert windows(8, 4, None) == [(0, 4), (4, 8)]
    assert windows(9.9, 4, None) == [(0, 4), (4, 9.9)]  # the rest is below half a window
    assert windows(10, 4, None) == [(0, 4), (4, 8), (8, 10)]
    assert windows(1.5, 4, None) == [(0, 1.5)]
    assert windows(100, 10, 3) == [(0, 10), (40, 50), (90, 100)]
    for length in np.linspace(0.3, 50, 60):
        every = windows(float(length), 7.0, None)
        assert every[0][0] == 0 and every[-1][1] == length
        assert all(a[1] == b[0] for a, b in pairwise(every))


def test_events_of_all_windows_stand_in_the_videos_time(video, tmp_path):
    (out,), counts, teacher = dense([row(video)], [WHOLE], tmp_path)
    assert [(e["start"], e["end"]) for e in out["dense_captions"]] == [(0, 2), (2, 4), (4, 6), (6, 8)]
    assert (out["captioned"], out["duration"]) == ([[0, 8]], 8)
    assert out["teacher"] == {"model": "big", "tries": 2}
    assert (counts["accepted"], counts["windows"], counts["events"], counts["replies"]) == (1, 2, 4, 2)
    check_row(out, tmp_path)
    first, second = (request["messages"][0]["content"] for request in teacher.requests)
    for content in (first, second):
        assert sum(part["type"] == "image_url" for part in content) == 8
        assert re.findall(r"^(\d\.\d) s$", text_of(content), re.MULTILINE) == [
            f"{i / 2:.1f}" for i in range(8)
        ]
        assert "of 4 seconds" in text_of(content)
    assert first[2] != second[2]  # other frames
    assert "Labels used so far" not in text_of(first)
    assert "it gets lighter; it stays grey" in text_of(second) and "frames 2 and 4" in text_of(second)


def test_an_event_that_goes_on_in_the_next_window_is_one(video, tmp_path):
    more = json.dumps([event(0, 1, continues=True), event(1, 4)])
    (out,), counts, _ = dense([row(video)], [WHOLE, more], tmp_path)
    assert [(e["start"], e["end"]) for e in out["dense_captions"]] == [(0, 2), (2, 5), (5, 8)]
    assert out["dense_captions"][1]["label"] == "it stays grey"
    assert counts["events_continued"] == 1 and all("continues" not in e for e in out["dense_captions"])


def test_a_part_of_a_video_is_captioned_in_its_own_time(video, tmp_path):
    (out,), _, teacher = dense([row({"path": video, "start": 2.0, "end": 6.0})], [WHOLE], tmp_path)
    assert (out["duration"], len(out["dense_captions"])) == (4, 2)
    (whole,), _, _ = dense([row(video)], [WHOLE], tmp_path / "whole", window_s=8, min_coverage=0.5)
    assert len(teacher.requests) == 1 and whole["duration"] == 8


def test_sampled_windows_are_named(video, tmp_path):
    half = json.dumps([event(0, 2)])
    (out,), _, teacher = dense([row(video)], [half], tmp_path, window_s=2, max_windows=2)
    assert out["captioned"] == [[0, 2], [6, 8]] and len(out["dense_captions"]) == 2
    assert "follows directly" not in teacher.text(1)


BAD = {
    "no JSON": ("The video gets lighter.", "form"),
    "no events": ("[]", "form"),
    "another key": (json.dumps([event(0, 4) | {"score": 1}]), "form"),
    "a missing key": (json.dumps([{"start": 0, "end": 4, "caption": "It gets lighter."}]), "form"),
    "a time in words": (json.dumps([event(0, 4) | {"end": "4 s"}]), "form"),
    "a time that is no number": ('[{"start": 0, "end": NaN, "label": "a", "caption": "It gets lighter and lighter."}]', "form"),
    "a boolean time": (json.dumps([event(0, 4) | {"start": False}]), "form"),
    "a huge time": (json.dumps([event(0, 4) | {"end": 10**400}]), "form"),
    "deep nesting": ("[" * 100_000, "form"),
    "an end beyond the clip": (json.dumps([event(0, 9)]), "bounds"),
    "a negative start": (json.dumps([event(-1, 4)]), "bounds"),
    "an inverted event": (json.dumps([event(3, 1)]), "bounds"),
    "an empty event": (json.dumps([event(0, 4), event(4, 4)]), "bounds"),
    "out of order": (json.dumps([event(2, 4), event(0, 2)]), "order"),
    "overlap": (json.dumps([event(0, 3), event(1, 4)]), "overlap"),
    "an event within a long one": (json.dumps([event(0, 4), event(1, 2), event(2, 3)]), "overlap"),
    "little of the clip": (json.dumps([event(0, 1)]), "coverage"),
    "nothing to continue": (json.dumps([event(0, 4, continues=True)]), "continues"),
    "a short caption": (json.dumps([event(0, 4) | {"caption": "Grey."}]), "length"),
    "a control token": (json.dumps([event(0, 4, "it gets <|im_end|> lighter")]), "control_token"),
    "saw nothing": (json.dumps([event(0, 4) | {"caption": "I cannot see any video in this conversation."}]), "unseen_media"),
    "a refusal in words": ("I'm sorry, but I cannot view any video.", "unseen_media"),
    "loop": (json.dumps([event(0, 4) | {"caption": "The square is grey and it is small. " * 12}]), "repetition"),
    "no reply": (None, "refused"),
}  # fmt: skip


def test_every_bad_reply_is_told_what_is_wrong_and_counted(video, tmp_path):
    """One row, to which the teacher gives all of the bad replies and then a good one."""
    replies = [*(reply for reply, _ in BAD.values()), WHOLE]
    (out,), counts, teacher = dense(
        [row({"path": video, "end": 4.0})], replies, tmp_path, max_tries=len(replies)
    )
    assert len(out["dense_captions"]) == 2 and out["teacher"]["tries"] == len(replies)
    refused = {key.partition("/")[2]: n for key, n in counts.items() if key.startswith("replies_refused/")}
    assert refused == Counter(rule for _, rule in BAD.values())
    for name, request in zip(BAD, teacher.requests[1:], strict=True):
        last = request["messages"][-1]
        assert last["role"] == "user" and len(last["content"]) > 20, name
    told = {name: teacher.requests[i + 1]["messages"][-1]["content"] for i, name in enumerate(BAD)}
    assert "event 1 at [0, 9] s; the clip shown lasts from 0 to 4 s" in told["an end beyond the clip"]
    assert "cover 25% of the clip of 4 s, at least 70% expected" in told["little of the clip"]


def test_a_row_whose_replies_are_all_bad_leaves_with_the_reason(video, tmp_path):
    overlap, rule = BAD["overlap"]
    (out,), counts, teacher = dense([row(video)], [overlap], tmp_path, max_tries=2)
    assert isinstance(out, Removed) and out.rule == "dense_caption_overlap" and len(teacher.requests) == 2
    assert "0 to 4 s, after 2 tries: event 2 at [1, 4] s starts before 3 s" in out.reason
    assert (counts[f"refused/{rule}"], counts["accepted"]) == (1, 0)


def test_a_reply_as_a_block_of_code_is_read_and_a_late_end_is_cut(video, tmp_path):
    fenced = f"```json\n{json.dumps([event(0, 2), event(2, 4.3)])}\n```"
    (out,), counts, _ = dense([row({"path": video, "end": 4.0})], [fenced], tmp_path)
    assert out["dense_captions"][-1]["end"] == 4 and counts["ends_cut"] == 1


def test_captions_in_another_language_are_refused(video, tmp_path):
    chinese = json.dumps(
        [
            event(0, 4)
            | {"caption": "画面中的灰色方块随着时间慢慢变亮，背景一直没有变化，也没有其他物体出现。"}
        ]
    )
    (out,), _, _ = dense([row({"path": video, "end": 4.0})], [chinese], tmp_path, language="en", max_tries=1)
    assert isinstance(out, Removed) and out.rule == "dense_caption_language"


def test_other_rows_pass_and_a_video_that_is_no_video_leaves(video, tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    rows = [row(video, task="math"), row(video, videos=[]), row(str(tmp_path / "broken.mp4"))]
    out, counts, teacher = dense(rows, [WHOLE], tmp_path, tasks=["caption"])
    assert out[:2] == rows[:2] and counts["passed"] == 2 and teacher.requests == []
    assert isinstance(out[2], Removed) and out[2].rule == "dense_caption_video"


def test_coverage_counts_every_second_once():
    events = [Event(0, 5, "a", "b"), Event(1, 2, "a", "b"), Event(4, 6, "a", "b"), Event(8, 12, "a", "b")]
    assert covered(events, 10) == 8
    fault = times_fault(events[3:], 10, tolerance_s=2, max_overlap_s=0, min_coverage=0.3)
    assert isinstance(fault, Verdict) and fault.rule == "coverage" and "20%" in fault.reason
    assert isinstance(read_events('{"start": 0}'), Verdict)
