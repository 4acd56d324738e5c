"""The thread that shows that a process runs."""

from __future__ import annotations

from pathlib import Path

from tests import two_processes

BEATS_ALL_THE_TIME = """
import time
import torch.distributed as dist
from core.processes import signs_of_life
signs_of_life.BEAT_S = 0.0
dist.init_process_group("gloo")
signs_of_life.tell("in 'a short run'")
time.sleep(0.3)
dist.destroy_process_group()
"""


def test_a_process_whose_thread_is_busy_ends_with_exit_code_0(tmp_path: Path):
    """It was ended inside the store's C++ code, which aborted the process in three of four such runs."""
    script = tmp_path / "worker.py"
    script.write_text(BEATS_ALL_THE_TIME)
    for run in range(3):
        two_processes.run(script, [], tmp_path / f"log{run}")
