"""A run of two processes does not notice that the reward service, in a third process, was killed and started again."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.rewards.serving.test_service import Service
from tests.rl import small_run
from tests.rl.small_run import metrics, rollouts, write_small_world
from tests.two_processes import output, run, started

WORKER = Path(__file__).with_name("service_worker.py")
TIMING = ("seconds/", "tokens_per_second")


@pytest.mark.slow
def test_metrics_equal_those_of_an_undisturbed_run(tmp_path):
    world, log = write_small_world(tmp_path / "world"), tmp_path / "log"
    calm, disturbed = tmp_path / "calm", tmp_path / "disturbed"
    environment = {"ACCELERATE_USE_CPU": "true"}
    service = Service((f"{small_run.__file__}:share_of_digits",))
    try:
        run(WORKER, [str(world), service.url, str(calm)], log, environment)
        with started(WORKER, [str(world), service.url, str(disturbed)], log, environment) as processes:
            while not _steps(disturbed) and all(process.poll() is None for process in processes):
                time.sleep(0.02)
            service.kill()
            time.sleep(2)  # the run has used up what was scored by then
            waited = _steps(disturbed)
            service.start()
            statuses = [process.wait(400) for process in processes]
        for rank, status in enumerate(statuses):
            assert status == 0, output(log, rank).read_text()[-3000:]
    finally:
        service.stop()
    assert 1 <= waited < 6  # the service was away while the run needed it
    assert _untimed(disturbed) == _untimed(calm) and len(metrics(calm)) == 6
    assert rollouts(disturbed) == rollouts(calm)
    assert {record["reward"] for record in rollouts(calm)} - {0.0, None}
    one, other = (load_file(out / "final" / "model.safetensors") for out in (calm, disturbed))
    assert all(torch.equal(one[name], other[name]) for name in one)


def _steps(out: Path) -> int:
    return len(metrics(out)) if (out / "metrics.jsonl").is_file() else 0


def _untimed(out: Path) -> list[dict]:
    return [{k: v for k, v in record.items() if not k.startswith(TIMING)} for record in metrics(out)]
