"""A process that hangs, or whose peer is gone, ends with an error that names rank and operation."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from core.processes import watchdog
from core.processes.watchdog import STALLED, RankLost, operation, renew
from tests.two_processes import REPOSITORY, output, started

WORKER = Path(__file__).with_name("watchdog_worker.py")


def wait_for(text: str, file: Path, seconds: float = 120) -> None:
    for _ in range(int(seconds * 10)):
        if text in file.read_text():
            return
        time.sleep(0.1)
    raise AssertionError(f"no {text!r} in {file}:\n{file.read_text()[-2000:]}")


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("what", [signal.SIGSTOP, signal.SIGKILL])
def test_a_rank_that_is_stopped_or_killed_ends_the_other_with_its_name(tmp_path, rank, what):
    log, other = tmp_path / "log", 1 - rank
    with started(WORKER, ["8"], log) as processes:
        wait_for(f"rank {other}: step 3", output(log, other))
        processes[rank].send_signal(what)
        status = processes[other].wait(timeout=180)
    text = output(log, other).read_text()
    assert status == (STALLED if what == signal.SIGSTOP else 1), text
    assert f"error: rank {other} of 2: 'exchange outcomes'" in text
    if rank == 1:  # rank 0 keeps the rendezvous, and where it hangs nobody can be asked
        assert re.search(r"rank 1: no sign of life \(stopped or dead\), (in|after) '", text), text
    else:
        assert "does not answer" in text or "rank 0: no sign of life" in text
    if what == signal.SIGSTOP:
        assert "all_reduce" in text  # the stack


def run_python(code: str) -> subprocess.CompletedProcess:
    header = "import time\nfrom core.processes.watchdog import operation, renew\n"
    return subprocess.run(
        [sys.executable, "-c", header + code], cwd=REPOSITORY, capture_output=True, text=True, timeout=120
    )


def test_a_single_process_that_hangs_ends_with_operation_and_stack():
    done = run_python(
        "def hangs(): time.sleep(600)\nwith operation('update', 900), operation('sync', 1): hangs()"
    )
    assert done.returncode == STALLED
    assert "'sync' took longer than its limit of 1 s (in 'update' > 'sync')" in done.stderr
    assert "in hangs" in done.stderr


def test_an_operation_that_gets_on_is_not_late():
    done = run_python(
        "with operation('update', 3):\n    for i in range(10): time.sleep(0.5); renew(f'micro-batch {i}')"
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_finished_operations_leave_nothing_behind():
    with operation("outer", 100), operation("inner", 100):
        renew("detail")
    with pytest.raises(ValueError, match="as it was"), operation("fails", 100):
        raise ValueError("as it was")
    assert watchdog._running == []
    assert sum(t.name == "watchdog" for t in threading.enumerate()) == 1


def test_errors_of_several_processes_carry_rank_and_operation(monkeypatch):
    pytest.importorskip("torch.distributed")  # whose errors are only known once it is there
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    ends: list[bool] = []
    # it would end the process of the tests
    monkeypatch.setattr(watchdog, "end_soon", lambda: ends.append(True))
    with pytest.raises(ValueError) as caught, operation("update", 100), operation("inner", 100):
        raise ValueError("wrong")
    assert caught.value.__notes__ == ["(rank 1 of 2, in 'inner')"]
    with (
        pytest.raises(RankLost, match=r"rank 1 of 2: 'sync' failed: .*Connection closed by peer"),
        operation("sync", 9),
    ):
        raise RuntimeError("[gloo/transport/tcp/pair.cc:525] Connection closed by peer [127.0.0.1]:1")
    with pytest.raises(RankLost, match="'sync' failed: .*Timed out") as timed_out, operation("sync", 9):
        raise RuntimeError("[gloo/transport/tcp/buf.cc:76] Timed out waiting 90000ms for recv operation")
    assert (RankLost.exit_code, timed_out.value.exit_code) == (1, STALLED)
    assert ends == [True, True]


@pytest.mark.slow
@pytest.mark.parametrize("when", ["at its start", "between operations"])
def test_a_rank_that_stops_outside_its_operations_is_named_with_the_last_one(tmp_path, when):
    log = tmp_path / "log"
    environment = {"STOP": when}
    with started(WORKER, ["6"], log, environment) as processes:
        status = processes[0].wait(timeout=180)
    text = output(log, 0).read_text()
    assert status == STALLED, text
    last = "join" if when == "at its start" else "generate"
    assert f"rank 1: no sign of life (stopped or dead), after '{last}' for " in text, text


@pytest.mark.slow
def test_a_wait_that_the_process_group_ends_first_has_the_same_exit_code(tmp_path):
    log = tmp_path / "log"
    with started(WORKER, ["600", "6"], log, {"STOP": "between operations"}) as processes:
        status = processes[0].wait(timeout=180)
    text = output(log, 0).read_text()
    assert status == STALLED, text
    assert "error: rank 0 of 2: 'exchange outcomes' failed: " in text
    assert "rank 1: no sign of life (stopped or dead), after 'generate' for " in text, text
