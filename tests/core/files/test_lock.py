"""Two runs in one folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from core.errors import RunError
from core.files import lock

HOLD = """
import os, sys, time
from pathlib import Path
from core.files.lock import locked
with locked(Path(sys.argv[1])):
    if os.fork() == 0:  # a worker that outlives the run for a while, as data loaders do
        time.sleep(30)
        os._exit(0)
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_second_run_is_told_who_has_the_folder_and_a_killed_one_lets_go(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "PATIENCE", 0.5)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        cwd=Path(__file__).parents[3],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        said = rf"another run is going on in this folder \(process {holder.pid} on "
        with pytest.raises(RunError, match=said), lock.locked(tmp_path):
            pass
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        monkeypatch.setattr(lock, "PATIENCE", 60.0)
        with lock.locked(tmp_path):
            pass
    finally:
        try:
            os.killpg(holder.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def test_a_folder_is_free_again_when_its_run_ends(tmp_path):
    for _ in range(2):
        with lock.locked(tmp_path / "run"):
            busy = pytest.raises(RunError, match="this process has a run going on there")
            with busy, lock.locked(tmp_path / "run"):
                pass
