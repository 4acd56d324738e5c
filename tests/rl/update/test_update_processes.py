"""Two processes together compute the gradient of one, under DDP and under ZeRO-3."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

WORKER = Path(__file__).with_name("worker.py")
REPOSITORY = Path(__file__).parents[3]


def run_two(*arguments: str) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {
        "PYTHONPATH": str(REPOSITORY),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "OMP_NUM_THREADS": "1",
    }
    processes = [
        subprocess.Popen(
            [sys.executable, str(WORKER), *arguments],
            env=environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        outputs = [p.communicate(timeout=240)[0] for p in processes]
    finally:
        for process in processes:
            process.kill()
    for process, output in zip(processes, outputs, strict=True):
        assert process.returncode == 0, output[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["ddp", "zero3"])
def test_two_processes_compute_the_gradient_of_one(lab, padded, same_gradients, tmp_path, mode):
    if mode == "zero3":
        pytest.importorskip("deepspeed")
    run_two(mode, str(lab.folder), str(tmp_path / "gradients.pt"))
    together = torch.load(tmp_path / "gradients.pt")

    model = lab.model()
    groups = [g for name in ("image", "video", "images", "text") for g in lab.groups(name)]
    _, expected, _ = padded(model, groups, 100, lab.suppressed)
    same_gradients(together, expected, 1e-5)
