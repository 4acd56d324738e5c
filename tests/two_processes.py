"""Starts the same script as several processes that find each other, as torchrun does, and collects what they print."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]


@contextmanager
def started(
    script: Path,
    arguments: Sequence[str],
    log: Path,
    environment: Mapping[str, str] | None = None,
    ranks: int = 2,
) -> Iterator[list[subprocess.Popen]]:
    """Within the block `ranks` processes run `script`; rank r writes to `log`.r. They are killed at its end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {
        "PYTHONPATH": str(REPOSITORY),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(ranks),
        "LOCAL_WORLD_SIZE": str(ranks),
        "OMP_NUM_THREADS": "1",
        "DS_ACCELERATOR": "cpu",
    }
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("ACCELERATE_")}
    if ranks == 1:  # as without a launcher
        shared = {name: value for name, value in shared.items() if name in ("PYTHONPATH", "OMP_NUM_THREADS")}
    processes = []
    try:
        for rank in range(ranks):
            with output(log, rank).open("w") as file:
                processes.append(
                    subprocess.Popen(
                        [sys.executable, str(script), *arguments],
                        cwd=REPOSITORY,
                        env=inherited | shared | dict(environment or {}) | numbered(rank, ranks),
                        stdout=file,
                        stderr=subprocess.STDOUT,
                    )
                )
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()


def run(
    script: Path,
    arguments: Sequence[str],
    log: Path,
    environment: Mapping[str, str] | None = None,
    ranks: int = 2,
    timeout_s: float = 400,
) -> None:
    """Run `script` in `ranks` processes to its end; fails with the end of a process's output if it fails."""
    with started(script, arguments, log, environment, ranks) as processes:
        statuses = [process.wait(timeout=timeout_s) for process in processes]
    for rank, status in enumerate(statuses):
        assert status == 0, f"rank {rank}: exit code {status}\n{output(log, rank).read_text()[-3000:]}"


def numbered(rank: int, ranks: int) -> dict[str, str]:
    return {"RANK": str(rank), "LOCAL_RANK": str(rank)} if ranks > 1 else {}


def output(log: Path, rank: int) -> Path:
    """Where a rank's output is."""
    return log.with_name(f"{log.name}.{rank}")
