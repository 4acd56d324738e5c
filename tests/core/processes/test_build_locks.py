"""Locks of PyTorch extensions' builds: those of dead processes go, those of living ones stay."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from torch.utils.file_baton import FileBaton

from core.processes import build_locks
from core.processes.build_locks import remove_stale_locks

HOLDER = """
import sys, time
from torch.utils.file_baton import FileBaton
assert FileBaton(sys.argv[1]).try_acquire()
print("holds", flush=True)
time.sleep(600)
"""


def lock_in(root: Path, *parts: str) -> Path:
    lock = root.joinpath(*parts, "lock")
    lock.parent.mkdir(parents=True)
    return lock


@pytest.mark.parametrize("parts", [("deepspeed_shm_comm",), ("py311_cpu", "deepspeed_shm_comm")])
def test_the_lock_of_a_killed_build_is_removed_and_named(tmp_path, capfd, parts):
    lock = lock_in(tmp_path, *parts)
    builder = subprocess.Popen([sys.executable, "-c", HOLDER, str(lock)], stdout=subprocess.PIPE)
    try:
        assert builder.stdout.readline() == b"holds\n"
        assert remove_stale_locks(tmp_path) == []
        assert lock.exists() and f"process {builder.pid}" in capfd.readouterr().err
    finally:
        builder.kill()
        builder.wait()
    assert remove_stale_locks(tmp_path) == [lock]
    assert not lock.exists() and str(lock) in capfd.readouterr().err
    assert FileBaton(str(lock)).try_acquire()  # what torch does next


def test_a_lock_on_a_shared_file_system_is_left_until_it_is_old(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(build_locks, "on_network", lambda path: True)
    lock = lock_in(tmp_path, "deepspeed_shm_comm")
    lock.touch()
    assert remove_stale_locks(tmp_path) == [] and "no other machine" in capfd.readouterr().err
    os.utime(lock, (0, 0))
    assert remove_stale_locks(tmp_path) == [lock]


def test_nothing_happens_without_extensions(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path / "none"))
    assert remove_stale_locks() == []
    assert not build_locks.on_network(Path("/proc"))
