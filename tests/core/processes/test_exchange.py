"""Two processes, each with its own vLLM: data parallel, and DeepSpeed ZeRO-3, which must compute the same."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file

from tests.rl import small_run
from tests.rl.small_run import metrics, rollouts, small_config, write_small_world

ROOT = Path(__file__).parents[3]
LAUNCHERS = {
    "ddp": ["torch.distributed.run", "--standalone", "--nproc_per_node=2"],
    "zero3": [
        *("accelerate.commands.launch", "--num_processes=2", "--num_machines=1", "--dynamo_backend=no"),
        *("--main_process_port=0", "--use_deepspeed", "--deepspeed_config_file=launch/deepspeed/zero3.json"),
    ],
}


def launch(kind: str, config: Path, out: Path) -> Path:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}
    environment.pop("ACCELERATE_USE_CPU", None)
    if kind == "ddp":  # with it accelerate would leave DeepSpeed out
        environment["ACCELERATE_USE_CPU"] = "true"
    command = [sys.executable, "-m", *LAUNCHERS[kind], "grpo.py", f"--config={config}", f"output_dir={out}"]
    log = out.with_suffix(".log")
    with log.open("w") as file:
        # its own session: a launcher that is killed would leave its processes behind
        run = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            status = run.wait(timeout=420)
        finally:
            if run.poll() is None:
                os.killpg(run.pid, signal.SIGKILL)
    assert status == 0, log.read_text()[-4000:]
    return out


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Path]:
    pytest.importorskip("vllm")
    folder = write_small_world(tmp_path_factory.mktemp("world"))
    config = folder / "config.yaml"
    engine = {"kind": "vllm", "max_model_len": 96, "max_num_seqs": 16, "cpu_kvcache_gb": 0.1}
    run = small_config(
        folder,
        folder / "unused",
        engine=engine,
        rewards={
            "grammar": "none",
            "tasks": {"digits": [{"function": f"{small_run.__file__}:digits_of_some", "isolate": False}]},
        },
        steps=2,
        rollout={"prompts_per_step": 4, "completions_per_prompt": 4, "max_tokens": 12},
    )
    config.write_text(yaml.safe_dump(run.model_dump(mode="json")))
    return {kind: launch(kind, config, folder / kind) for kind in LAUNCHERS}


@pytest.mark.slow
@pytest.mark.parametrize("kind", LAUNCHERS)
def test_each_process_samples_its_own_prompts_on_policy(runs, kind):
    kept = rollouts(runs[kind])
    assert len(kept) == 2 * 4 * 4
    for step in (1, 2):
        assert len({r["row_id"] for r in kept if r["step"] == step}) == 4
    for step in metrics(runs[kind]):
        assert step["policy_version"] == step["step"] and step["processes"] == 2
        assert step["parallel"] == {"ddp": "MULTI_CPU", "zero3": "DEEPSPEED"}[kind]
        assert step["logprob_gap/mean"] < 1e-4 and step["logprob_gap/max"] < 5e-2


@pytest.mark.slow
@pytest.mark.parametrize("kind", LAUNCHERS)
def test_metrics_are_those_of_all_rollouts_of_both_processes(runs, kind):
    kept = rollouts(runs[kind])
    for step in metrics(runs[kind]):
        mine = [r for r in kept if r["step"] == step["step"]]
        scored = [r["reward"] for r in mine if r["reward"] is not None]
        assert 0 < len(scored) < len(mine)
        assert step["reward/mean"] == pytest.approx(sum(scored) / len(scored))
        assert step["rollouts/unscored"] == len(mine) - len(scored)
        assert step["length/mean"] == pytest.approx(sum(r["tokens"] for r in mine) / len(mine))
        assert step["rollouts/cut_off"] == sum(r["finish"] == "length" for r in mine) / len(mine)
        assert step["tokens/sampled"] == sum(r["tokens"] for r in mine)


@pytest.mark.slow
def test_zero3_takes_the_same_steps_as_data_parallel(runs):
    ddp, zero3 = metrics(runs["ddp"]), metrics(runs["zero3"])
    for a, b in zip(ddp, zero3, strict=True):
        for name in ("loss", "grad_norm", "reward/mean", "entropy"):
            assert a[name] == pytest.approx(b[name], rel=1e-4, abs=1e-7), name
    ours, theirs = (load_file(runs[kind] / "final" / "model.safetensors") for kind in ("ddp", "zero3"))
    assert ours.keys() == theirs.keys()
    for name, weight in ours.items():
        # Adam turns rounding of a gradient near zero into a step of up to the learning rate (1e-3), so: in the mean
        assert (weight - theirs[name]).abs().mean() < 2e-6, name
