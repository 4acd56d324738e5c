"""Moments in videos: the published annotations with their known errors, and one real video."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from data_recipes.readers import FORMATS
from rewards.functions.temporal import temporal_iou_reward

VIDEO = "v_rBMQFpHspmo"


def test_charades_ends_beyond_the_video_are_rejected(read_file, shared_data):
    path, lengths = (
        shared_data / "tvg" / "charades_sta_train.subset.txt",
        shared_data / "tvg" / "charades_lengths.csv",
    )
    read = read_file("charades_sta", path, validate=False, lengths=lengths, media=Path("/charades"))
    assert (read.records, len(read.rows), len(read.rejected)) == (580, 499, 81)
    assert all("expected an end within the video's" in reason for reason in read.rejected)
    assert read.rows[0]["videos"] == ["/charades/XDVAY.mp4"]
    assert read.rows[0]["answer"] == {"spans": [[0, 7.9]]}
    assert read.rows[0]["duration"] == 31.79


def test_charades_ends_slightly_beyond_can_be_cut(read_file, shared_data):
    path, lengths = (
        shared_data / "tvg" / "charades_sta_train.subset.txt",
        shared_data / "tvg" / "charades_lengths.csv",
    )
    read = read_file("charades_sta", path, validate=False, lengths=lengths, overshoot=1.5)
    assert (len(read.rows), read.rejected) == (580, [])
    assert all(row["answer"]["spans"][0][1] <= row["duration"] for row in read.rows)
    assert sum(row["answer"]["spans"][0][1] == row["duration"] for row in read.rows) >= 81
    unknown = read_file("charades_sta", path, validate=False)
    assert len(unknown.rows) == 580
    assert "duration" not in unknown.rows[0]


def test_activitynet_events_are_judged_one_by_one(read_file, shared_data):
    read = read_file(
        "activitynet_captions", shared_data / "tvg" / "activitynet_train.subset.json", validate=False
    )
    assert (read.records, len(read.rows), len(read.rejected)) == (201, 760, 1)
    assert read.rejected == ["field 'timestamps[1]': expected 0 <= start < end, got [4.97, 4.97] (list)"]
    assert all(row["query"] == row["query"].strip() for row in read.rows)


def test_qvhighlights_keeps_all_windows_of_a_query(read_file, shared_data):
    path = shared_data / "tvg" / "qvhighlights_val.subset.jsonl"
    read = read_file("qvhighlights", path, validate=False)
    assert (len(read.rows), read.rejected) == (200, [])
    windows = Counter(len(row["answer"]["spans"]) for row in read.rows)
    assert (windows[1], windows[2], max(windows)) == (141, 28, 14)
    for row in read.rows:
        spans = ", ".join(f"[{s}, {e}]" for s, e in row["answer"]["spans"])
        assert temporal_iou_reward(spans, **row) == 1.0


def test_timerft_rows_and_their_dirt(read_file, shared_data):
    path = shared_data / "tvg" / "timer1_train_2k5.subset.json"
    read = read_file("timerft", path, validate=False)
    assert (read.records, len(read.rows)) == (300, 298)
    assert "281.239 s, got [73.0, 8460.0]" in read.rejected[1]
    named = [
        row["videos"][0] for row in read.rows if "_00:07:21:000_00:08:00:200.mp4" in str(row["videos"][0])
    ]
    assert named == [str(path.parent / "sVXTVL-6kdM_00:07:21:000_00:08:00:200.mp4")]
    clips = [row["videos"][0] for row in read.rows if isinstance(row["videos"][0], dict)]
    assert len(clips) == 19
    assert {"path": str(path.parent / "FBQ7LfFFWMc.mp4"), "start": 21.6, "end": 68.7} in clips
    for cut, count in (("always", 72), ("never", 0)):
        rows = read_file("timerft", path, validate=False, cut=cut).rows
        assert sum(isinstance(row["videos"][0], dict) for row in rows) == count


def test_timechat_annotations(read_file, shared_data):
    path = shared_data / "tvg" / "timechat_tvg_gt.json"
    read = read_file("timechat_tvg", path, validate=False)
    assert (len(read.rows), read.rejected) == (253, [])
    assert read.rows[0]["answer"] == {"spans": [[0, 3.4]]}
    assert FORMATS["timechat_tvg"].looks_like(path, None)
    assert not FORMATS["timechat_tvg"].looks_like(shared_data / "tvg" / "activitynet_train.subset.json", None)


def test_a_real_video_with_its_real_annotation_gives_valid_rows(read_file, shared_data, tmp_path):
    read = read_file("activitynet_captions", shared_data / "tvg_videos" / "gt.json")
    assert (len(read.valid), read.invalid, read.rejected) == (3, [], [])
    shutil.copy(shared_data / "tvg_videos" / f"{VIDEO}.mp4", tmp_path / f"{VIDEO}.mp4")
    path = tmp_path / "sta.txt"
    path.write_text(f"{VIDEO} 1.0 20.0##a run.\n{VIDEO} 100.0 150.0##a jump.\nother 1.0 2.0##a walk.\n")
    read = read_file("charades_sta", path, video="{id}.*")
    assert len(read.valid) == 1
    assert "field 'answer.spans': expected spans inside the video of 144.67 s" in read.invalid[0]
    assert "field 'video': expected a file matching other.*" in read.rejected[0]


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("charades_sta", "AAA 1.0##a.", "expected 'VIDEO START END##SENTENCE'"),
        ("charades_sta", "AAA 1.0 1.2.3##a.", "expected START and END in seconds"),
        ("charades_sta", "AAA 5.0 5.0##a.", "field 'START END': expected 0 <= start < end"),
        ("charades_sta", "AAA 5.0 6.0## ", "expected a description"),
        ("activitynet_captions", {"v": {"duration": 9, "timestamps": [[0, 1]], "sentences": []}}, "got 0"),
        (
            "activitynet_captions",
            {"v": {"duration": 9, "timestamps": [[0]], "sentences": ["a"]}},
            "timestamps[0]",
        ),
        (
            "activitynet_captions",
            {"v": {"duration": 0, "timestamps": [[0, 1]], "sentences": ["a"]}},
            "'duration'",
        ),
        ("qvhighlights", {"qid": 1, "vid": "a", "query": "b", "duration": 150}, "test splits have none"),
        (
            "qvhighlights",
            {"qid": 1, "vid": "a", "query": "b", "duration": 150, "relevant_windows": [[0, 9], [9, 151]]},
            "field 'relevant_windows[1]': expected an end within the video's 150 s",
        ),
        (
            "timerft",
            [{"video": "a.mp4", "duration": 9, "sentence": "b", "timestamp": None}],
            "field 'timestamp'",
        ),
        (
            "timerft",
            [{"video": "a.mp4", "duration": 9, "sentence": "b", "timestamp": [True, 2]}],
            "field 'timestamp'",
        ),
        (
            "timerft",
            [{"duration": 9, "sentence": "b", "timestamp": [1, 2]}],
            "field 'video': expected the video's path",
        ),
    ],
)
def test_what_is_wrong_is_named(read_file, tmp_path, name, text, reason):
    endings = {"charades_sta": "txt", "qvhighlights": "jsonl"}
    path = tmp_path / f"file.{endings.get(name, 'json')}"
    path.write_text(text if isinstance(text, str) else json.dumps(text))
    read = read_file(name, path, validate=False)
    assert not read.rows
    assert reason in read.rejected[0]


def test_formats_are_told_apart_by_their_first_record(shared_data):
    files = {
        "charades_sta_train.subset.txt": "charades_sta",
        "activitynet_train.subset.json": "activitynet_captions",
        "qvhighlights_val.subset.jsonl": "qvhighlights",
        "timer1_train_2k5.subset.json": "timerft",
    }
    for file, name in files.items():
        path = shared_data / "tvg" / file
        kind = FORMATS[name]
        first = next(iter(kind.read(path, kind.options()))).data
        assert [n for n in files.values() if FORMATS[n].looks_like(path, first)] == [name]
