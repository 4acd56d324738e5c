"""The short form of the crash campaign: killed and stopped runs equal unbroken ones."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [["--kills=6", "--stops=2", "--processes=1"], ["--kills=2", "--stops=2", "--processes=2"]],
    ids=["one process", "two processes"],
)
def test_runs_that_are_killed_or_stopped_equal_unbroken_ones(arguments):
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.crash_campaign", *arguments],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    summary = json.loads(done.stdout.strip().rpartition("\n")[2])
    assert summary["equal"] == summary["runs"] and summary["kills"] >= 2
