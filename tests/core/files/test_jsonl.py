"""Append-only logs: valid lines, and what a killed run leaves behind."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from core.files.jsonl import append, keep_until, read

BREAKS = ["\u2028", "\u2029", "\u0085", "\x0b", "\x0c", "\x1c", "\r", "\r\n", "\n"]


@pytest.mark.parametrize("character", BREAKS)
def test_line_breaks_of_unicode_inside_a_text_are_not_line_breaks_of_the_file(tmp_path, character):
    path = tmp_path / "rollouts.jsonl"
    records = [{"step": step, "completion": f"a{character}b"} for step in (1, 2, 3)]
    append(path, records)
    assert keep_until(path, 2) == 0
    assert list(read(path)) == records[:2]


def test_a_lone_surrogate_and_what_json_lacks_are_written(tmp_path):
    append(tmp_path / "log.jsonl", [{"step": 1, "completion": "a\ud800b", "loss": float("nan")}])
    assert list(read(tmp_path / "log.jsonl")) == [{"step": 1, "completion": "a\ud800b", "loss": None}]


def test_lines_that_a_kill_cut_off_are_dropped_and_counted(tmp_path):
    path = tmp_path / "metrics.jsonl"
    append(path, [{"step": 1}, {"step": 2}])
    with path.open("a") as file:
        file.write('7\n{"loss": 1}\n{"step": 3, "lo')
    assert keep_until(path, 2) == 3
    assert list(read(path)) == [{"step": 1}, {"step": 2}]


def test_a_whole_log_is_not_touched(tmp_path):
    path = tmp_path / "metrics.jsonl"
    append(path, [{"step": 1}, {"step": 2}])
    before = path.stat()
    keep_until(path, 2)
    assert path.stat().st_ino == before.st_ino and path.stat().st_mtime_ns == before.st_mtime_ns


def test_a_kill_while_records_are_dropped_leaves_the_old_log(tmp_path):
    path = tmp_path / "metrics.jsonl"
    append(path, [{"step": step} for step in range(100)])
    before = path.read_bytes()
    child = os.fork()
    if not child:  # dies when the new file is written, and before it takes the old one's place
        os.fsync = lambda descriptor: os._exit(9)
        keep_until(path, 50)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert path.read_bytes() == before
    keep_until(path, 50)
    assert [record["step"] for record in read(path)] == list(range(51))
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_a_log_larger_than_memory_is_never_held(tmp_path):
    import resource

    path = tmp_path / "rollouts.jsonl"
    text = "x" * 100_000
    append(path, ({"step": step, "completion": text} for step in range(2000)))  # 200 MB
    child = os.fork()
    if not child:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (used + 50_000_000,) * 2)
        try:
            keep_until(path, 1500)
        finally:
            os._exit(0 if path.stat().st_size < 170_000_000 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_broken_line_is_named_when_a_log_is_read(tmp_path):
    (tmp_path / "log.jsonl").write_text(json.dumps({"step": 1}) + "\n{\n")
    with pytest.raises(ValueError, match=r"log.jsonl:2: expected a JSON object"):
        list(read(tmp_path / "log.jsonl"))
