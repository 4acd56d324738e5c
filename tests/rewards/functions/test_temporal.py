"""Spans of time: the forms that models write are read, in seconds, and nothing else is."""

from __future__ import annotations

import pytest

from rewards.functions.temporal import read_spans, temporal_iou_reward

FROM_5_5_TO_21 = [
    '[5.5, 21]', '[5.5,21.0]', '(5.5, 21)', '5.5 to 21', '5.5s to 21s', 'from 5.5 to 21 seconds',
    '5.5 - 21', '5.5-21', '5.5–21', '5.5 — 21', '5.5~21', '5.5 ~ 21', '5.5 until 21',
    '5.5 seconds until 21 seconds', 'between 5.5s and 21s', 'Between 5.5 and 21 seconds.',
    'The event happens from 5.5s to 21s.', 'The event occurs between 00:05.5 and 00:21', '00:05.5-00:21',
    '[00:05.5, 00:21]', '["00:05.5", "00:21"]', "('00:05.5', '00:21')", '{"start": 5.5, "end": 21}',
    '{"start": "00:05.5", "end": "00:21"}', '{"start": "5.5s", "end": "21s"}',
    '{"start_time": "5.5", "end_time": "21"}', '{"start_sec": 5.5, "end_sec": 21.0}',
    '{"begin": 5.5, "end": 21}', '[{"start": 5.5, "end": 21}]', '{"timestamps": [[5.5, 21]]}',
    '{"span": [5.5, 21]}', '{"segment": [5.5, 21], "label": "jump"}', "{'start': 5.5, 'end': 21}",
    '{"end": 21, "start": 5.5}', 'starts at 5.5 and ends at 21',
    'It starts at 5.5 seconds and ends at 21 seconds.', 'The event starts at 5.5s. It ends at 21s.',
    'begins at 5.5 s and finishes at 21 s', 'Start: 5.5 End: 21', 'Start: 5.5\nEnd: 21',
    'start time: 5.5; end time: 21', 'Start time is 5.5 s and end time is 21 s',
    'starting at 5.5 seconds, ending at 21 seconds', '5.5秒到21秒', '从5.5秒到21秒', '5.5秒至21秒', '从第5.5秒到第21秒。',
    '5.5s到21s', '开始时间：5.5秒，结束时间：21秒', '开始于5.5秒，结束于21秒', '5.5→21', '5.5 -> 21', '5.5 --> 21', '5.5s → 21s',
    '5.5s - 21s', '5.5s-21s', '5.5 s – 21 s', '5.5sec to 21sec', '5.5 secs to 21 secs', '5.5 and 21',
    '5.5, 21', '5.5 21', r'\boxed{5.5, 21}', r'\boxed{[5.5, 21]}', r'\boxed{5.5 \text{ to } 21}',
    '<|time_start|>5.5<|time_end|> to <|time_start|>21<|time_end|>',
]  # fmt: skip
NOT_FROM_5_5_TO_21 = [
    '[21, 5.5]', '21 to 5.5', '5.5 to 21 to 30', '5.5 - 21 - 30', '[5.5, 21, 30]', '[5.5]', '5.5', '21',
    '5.5 to 21 minutes', '5.5 minutes to 21 minutes', '5.5 hours to 21 hours', '[5.5, 21] or [30, 40]',
    '5.5 to 21 or 30 to 40', '[5.5, 21], [30, 40]', '-5.5 to 21', '[-5.5, 21]', 'not [5.5, 21]',
    'not 5.5 to 21', 'maybe 5.5 to 21', '5.5 to 21?', '5.5 to 21 is wrong', 'frames 5.5 to 21',
    'frame 5.5 to frame 21', '5.5% to 21%', '55 to 210', '5.5 to 210', '5:5 to 21:00', '["5.5", "21"]',
    '[true, 21]', '[NaN, 21]', '[5.5, Infinity]', '[5.5, 1e999]', '', 'none', 'no', '5.5 to', 'to 21',
    'start: 5.5', 'end: 21', 'starts at 5.5', 'before 5.5 and after 21', '[0, 30]', '5.5.5 to 21',
    '00:75 to 00:80', '5.5 to 21e3', '5 to 21', 'at least 5.5 to 21.5', '[٥, ٢١]', 'between 5.5',
    '5.5 or 21', '[5.5 or 21]', '1. 5.5 2. 21', '5.5m to 21m', '5.5 m - 21 m',
]  # fmt: skip
FROM_95_TO_130 = [
    '1:35 to 2:10', '[01:35, 02:10]', '01:35-02:10', '00:01:35 - 00:02:10', '1m35s to 2m10s', '1m35s-2m10s',
    '1 min 35 s to 2 min 10 s', '1 minute 35 seconds to 2 minutes 10 seconds',
    '1 minute and 35 seconds to 2 minutes and 10 seconds', '[1m35s, 2m10s]', 'from 1:35 until 2:10',
    '1:35min to 2:10min', '1:35 min to 2:10 min', '95 to 130', '95s to 130s', '95-130 seconds',
    '1分35秒到2分10秒', '1分35秒至2分10秒', '{"start": "1:35", "end": "2:10"}', '{"start": "01:35", "end": "02:10"}',
    '["1:35", "2:10"]', 'starts at 1:35 and ends at 2:10', 'Start: 01:35, End: 02:10', '1:35 → 2:10',
    '"1:35" to "2:10"', '"01:35"-"02:10"', '(1:35, 2:10)', 'between 1:35 and 2:10', '95 s to 2:10',
    '1:35 to 130', '1m 35s to 2m 10s', '0h1m35s to 0h2m10s', '1 min 35 sec - 2 min 10 sec',
    '95 seconds to 2 minutes 10 seconds', '01:35 – 02:10', 'The event happens between 1:35 and 2:10.',
    '1:35--2:10',
]  # fmt: skip
NOT_FROM_95_TO_130 = [
    '1.35 to 2.10', '135 to 210', '1:35', '1:35 to 2:10 hours?', '35 to 10', '1:35 to 2:10 to 3:00',
    '1:35 or 2:10', '1:95 to 2:10', '2:10 to 1:35', '95 to 130 minutes', '35s1m to 10s2m', '1h35m to 2h10m',
    '1:35:00 to 2:10:00',
]  # fmt: skip


@pytest.mark.parametrize("text", FROM_5_5_TO_21)
def test_a_span_in_seconds_is_read_in_the_forms_that_models_write(text: str) -> None:
    assert read_spans(text) == [(5.5, 21.0)]


@pytest.mark.parametrize("text", FROM_95_TO_130)
def test_clocks_and_minutes_are_read(text: str) -> None:
    assert read_spans(text) == [(95.0, 130.0)]


@pytest.mark.parametrize("text", NOT_FROM_5_5_TO_21)
def test_anything_else_is_not_that_span(text: str) -> None:
    assert temporal_iou_reward(text, {"spans": [[5.5, 21]]}) < 1.0


@pytest.mark.parametrize("text", NOT_FROM_95_TO_130)
def test_anything_else_is_not_that_span_in_minutes(text: str) -> None:
    assert temporal_iou_reward(text, {"spans": [[95, 130]]}) < 1.0


@pytest.mark.parametrize("text", ["2 to 9 minutes", "2-9 min", "between 2 and 9 minutes", "2m to 9m", "[2 min, 9 min]", "2分钟到9分钟", "2:00 to 9:00"])  # fmt: skip
def test_a_unit_counts_for_both_times(text: str) -> None:
    assert read_spans(text) == [(120.0, 540.0)]


@pytest.mark.parametrize(
    "text",
    ["[1, 3], [5, 6]", "1 to 3 and 5 to 6", "[[1, 3], [5, 6]]", "1-3, 5-6", '[{"start": 1, "end": 3}, {"start": 5, "end": 6}]', "1s-3s; 5s-6s"]
    + ["not 0 to 9, but 1 to 3 and 5 to 6"],
)  # fmt: skip
def test_several_spans_are_read(text: str) -> None:
    assert read_spans(text) == [(1.0, 3.0), (5.0, 6.0)]


@pytest.mark.parametrize(
    "text",
    ['{"from": 4.5, "to": 9}', "<start>4.5</start><end>9</end>", "4.5 ⟶ 9", "between the 4.5 and 9 second marks", "seconds 4.5 to 9", '{"startTime": 4.5, "endTime": 9}']
    + ['{"time": "4.5 - 9"}', '{"answer": "4.5 to 9"}', "[4.5, 9] seconds", "The clip runs from 4.5 to 9", "在4.5秒到9秒之间", "起始4.5秒,结束9秒", "[00:04.5-00:09]", "４.５ to ９"],
)  # fmt: skip
def test_rarer_forms_of_a_span_are_read(text: str) -> None:
    assert read_spans(text) == [(4.5, 9.0)]


@pytest.mark.parametrize(
    "text",
    ["4.5, 9, 12", "4.5-9-12", "neither 4.5 nor 9", "4.5 ms to 9 ms", "4.5k to 9k", "4.5 + 9", "4.5 to -9", "(4.5, 9) or so to 12", "4.5% - 9%", "$4.5 to $9", "4.5°-9°", "for 4.5 seconds", "perhaps 4.5 to 9"],
)  # fmt: skip
def test_what_is_no_span_of_seconds(text: str) -> None:
    assert temporal_iou_reward(text, {"spans": [[4.5, 9]]}) < 1.0
