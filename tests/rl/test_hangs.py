"""A GRPO run of two processes, one of which stops for good: the other ends by itself, and says why."""

from __future__ import annotations

import re
import signal
import time

import pytest
import yaml

from core.processes.watchdog import STALLED
from tests.rl.small_run import small_config, write_small_world
from tests.two_processes import REPOSITORY, output, started


@pytest.mark.slow
def test_a_stopped_rank_ends_the_run_with_rank_and_operation(tmp_path):
    (tmp_path / "world").mkdir()
    folder = write_small_world(tmp_path / "world")
    run = small_config(folder, tmp_path / "run", steps=10_000, timeouts={"exchange_s": 30.0})
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(run.model_dump(mode="json")))
    log, metrics = tmp_path / "log", tmp_path / "run" / "metrics.jsonl"
    environment = {"ACCELERATE_USE_CPU": "true"}
    with started(REPOSITORY / "grpo.py", [f"--config={config}"], log, environment) as processes:
        while not metrics.exists() or not metrics.read_text():
            assert all(p.poll() is None for p in processes), output(log, 0).read_text()[-2000:]
            time.sleep(0.2)
        processes[1].send_signal(signal.SIGSTOP)
        status = processes[0].wait(timeout=300)
    text = output(log, 0).read_text()
    assert "error: rank 0 of 2: '" in text
    # the watchdog's limit; or, in an exchange within an engine's longer phase, that of the process group
    assert "took longer than its limit of 30 s" in text or "Timed out waiting" in text, text[-2000:]
    assert status == STALLED, text[-2000:]
    assert re.search(r"rank 1: no sign of life \(stopped or dead\), (in|after) '[a-z ]+'", text), text[-2000:]
