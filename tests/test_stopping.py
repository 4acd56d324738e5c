"""Real programs that receive a signal to stop, or run out of disk space."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from core.files.run_folder import checkpoints
from tests.rl.small_run import metrics, small_config, write_small_world

ROOT = Path(__file__).parents[1]
SLOW_REWARD = """
import time
def slow(completion, answer, **row):
    time.sleep(0.1)
    return sum(c.isdigit() for c in completion) / max(1, len(completion))
def endless(completion, answer, **row):
    time.sleep(600)
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = write_small_world(tmp_path_factory.mktemp("world"))
    (folder / "plugin.py").write_text(SLOW_REWARD)
    return folder


def start(world: Path, out: Path, reward: str, *launcher: str, **settings) -> subprocess.Popen:
    """grpo.py in a session of its own, its output in `<out>.log`."""
    rewards = {"function": f"{world}/plugin.py:{reward}", "isolate": False}
    config = small_config(
        world, out, rewards={"grammar": "none", "tasks": {"digits": [rewards]}}, **settings
    ).model_dump(mode="json")
    out.with_suffix(".yaml").write_text(yaml.safe_dump(config))
    with out.with_suffix(".log").open("w") as log:
        return subprocess.Popen(
            [sys.executable, *launcher, "grpo.py", f"--config={out.with_suffix('.yaml')}"],
            cwd=ROOT,
            env=os.environ
            | {
                "OMP_NUM_THREADS": "1",
                "ACCELERATE_USE_CPU": "true",
                "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "300",  # torch's 30 s are too few on a busy machine
            },
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def wait_for(what, run: subprocess.Popen, out: Path) -> None:
    """Until `what()`; fails with the run's log where the run has ended before."""
    until = time.monotonic() + 300
    while not what():
        assert run.poll() is None and time.monotonic() < until, out.with_suffix(".log").read_text()[-3000:]
        time.sleep(0.05)


def end(run: subprocess.Popen) -> None:
    try:
        os.killpg(run.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


@pytest.mark.slow
def test_ctrl_c_saves_and_leaves_and_a_second_one_leaves_at_once(world, tmp_path):
    out = tmp_path / "run"
    run = start(world, out, "slow", steps=1000, save_every=1000)
    try:
        wait_for(lambda: (out / "metrics.jsonl").exists(), run, out)
        os.kill(run.pid, signal.SIGINT)
        assert run.wait(timeout=300) == 128 + signal.SIGINT
    finally:
        end(run)
    log = out.with_suffix(".log").read_text()
    assert "SIGINT: saving, then leaving" in log and "the same command continues from there" in log
    assert "Traceback" not in log
    assert checkpoints(out)[-1].name == f"checkpoint-{metrics(out)[-1]['step']}"

    run = start(world, out, "endless", steps=1000, resume="never", output_dir=str(tmp_path / "stuck"))
    try:
        log_file = out.with_suffix(".log")
        wait_for(lambda: "grpo:" in log_file.read_text(), run, out)
        time.sleep(2)  # into the reward that never ends
        os.kill(run.pid, signal.SIGINT)
        wait_for(lambda: "SIGINT: saving" in log_file.read_text(), run, out)
        time.sleep(1.5)  # a signal within a second counts as the same
        os.kill(run.pid, signal.SIGINT)
        assert run.wait(timeout=60) == -signal.SIGINT
    finally:
        end(run)


@pytest.mark.slow
def test_a_launcher_that_is_terminated_leaves_a_checkpoint_of_both_processes(world, tmp_path):
    out = tmp_path / "run"
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")
    run = start(world, out, "slow", *launcher, steps=1000, save_every=1000)
    try:
        wait_for(lambda: (out / "metrics.jsonl").exists(), run, out)
        os.kill(run.pid, signal.SIGTERM)
        assert run.wait(timeout=300) != 0
    finally:
        end(run)
    found = checkpoints(out)
    assert len(found) == 1, out.with_suffix(".log").read_text()[-3000:]
    (checkpoint,) = found
    assert checkpoint.name == f"checkpoint-{metrics(out)[-1]['step']}"
    assert {p.name for p in (checkpoint / "trainer_state").glob("random_states_*")} == {
        "random_states_0.pkl",
        "random_states_1.pkl",
    }


def test_a_full_disk_ends_a_run_in_one_line_and_it_goes_on_when_there_is_room(world, tmp_path):
    """A file size limit simulates the full disk: the second checkpoint does not fit."""
    from rl.loop import train

    out = tmp_path / "run"
    train(small_config(world, out, steps=2))
    size = (out / "checkpoint-2/model.safetensors").stat().st_size
    config = small_config(world, out).model_dump(mode="json")
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config))
    done = subprocess.run(
        [sys.executable, "grpo.py", f"--config={tmp_path / 'run.yaml'}"],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, size // 2)),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr[-3000:]
    said = done.stderr.strip().rpartition("\n")[2]
    assert said.startswith(f"error: {out}/checkpoint-4: could not be written (")
    assert (
        "the disk mounted at /" in said and "bytes free; the newest checkpoint, checkpoint-2, takes" in said
    )
    assert not (out / ".partial").exists()
    train(small_config(world, out))
    assert [step["step"] for step in metrics(out)] == [1, 2, 3, 4] and (out / "finished.json").exists()
