"""The launch scripts as users start them, on two CPU processes: bf16, DeepSpeed ZeRO-3, real vLLM, tiny sizes."""

from __future__ import annotations

import json
import math
import os
import signal
import socket
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from core.rows import write_rows
from vlm.tiny import build_tiny_vlm

ROOT = Path(__file__).parents[2]
STEPS = 3

SFT_SIZES = (
    "steps=3",
    "optimizer.warmup_steps=1",
    "optimizer.learning_rate=1e-3",
    "rows_per_step=4",
    "max_tokens_per_microbatch=100",
    "data.workers=0",
    "save_every=2",
    "log_every=1",
)
GRPO_SIZES = (
    f"steps={STEPS}",
    "save_every=2",
    "engine.max_model_len=96",
    "engine.max_num_seqs=16",
    "engine.max_num_batched_tokens=64",
    "engine.cpu_kvcache_gb=0.1",
    "rollout.prompts_per_step=4",
    "rollout.completions_per_prompt=4",
    "rollout.max_tokens=12",
    "max_tokens_per_microbatch=80",
    "optimizer.learning_rate=1e-4",
    "rewards.workers=1",
    # a reward that untrained completions earn more or less of
    "rewards.grammar=none",
    f"rewards.tasks.counting=[{{function: '{ROOT}/tests/rl/small_run.py:share_of_digits', isolate: false}}]",
)


def write_world(folder: Path) -> Path:
    """A random tiny model and eight counting rows with traces, text-only and one image in turn."""
    corpus = ["0 1 2 3 4 5 6 7 8 9 how many look count <SUMMARY> </SUMMARY>"] * 3
    build_tiny_vlm(folder / "model", corpus, hidden=64, layers=2, seed=1)
    rng = np.random.default_rng(0)
    rows = []
    for i in range(8):
        content: list[dict] = [{"type": "text", "text": f"how many {i}"}]
        images = []
        if i % 2:
            images = [str(folder / f"{i}.png")]
            Image.fromarray(rng.integers(0, 255, (56, 56, 3), dtype=np.uint8)).save(images[0])
            content.insert(0, {"type": "image"})
        trace = {"summary": "look", "caption": "look", "reasoning": "count", "conclusion": str(i)}
        rows.append(
            {
                "id": f"r{i}",
                "task": "counting",
                "prompt": [{"role": "user", "content": content}],
                "images": images,
                "videos": [],
                "answer": {"value": i},
                "trace": trace,
            }
        )
    write_rows(rows, folder / "rows.jsonl")
    return folder


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(script: str, out: Path, *overrides: str) -> list[dict]:
    """Run a script to its end and return its metrics."""
    environment = os.environ | {
        "GPUS_PER_NODE": "2",
        "DS_ACCELERATOR": "cpu",
        "OMP_NUM_THREADS": "1",
        "MASTER_PORT": str(free_port()),
    }
    environment.pop("ACCELERATE_USE_CPU", None)  # with it accelerate would leave DeepSpeed out
    log = out.with_suffix(".log")
    with log.open("w") as file:
        # its own session: a launcher that is killed would leave its processes behind
        run = subprocess.Popen(
            ["bash", str(ROOT / "launch" / script), f"output_dir={out}", *overrides],
            cwd=out.parent,
            env=environment,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            status = run.wait(timeout=600)
        finally:
            if run.poll() is None:
                os.killpg(run.pid, signal.SIGKILL)
    assert status == 0, log.read_text()[-6000:]
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_sft_then_grpo_from_its_checkpoint_in_bfloat16_on_two_processes(tmp_path):
    pytest.importorskip("vllm")
    pytest.importorskip("deepspeed")
    world = write_world(tmp_path)
    pixels = ("model.min_pixels=784", "model.max_pixels=12544")
    rows = world / "rows.jsonl"

    model = f"model.path={world / 'model'}"
    sft = start("sft_8xh100.sh", tmp_path / "sft", model, f"data.rows={rows}", *pixels, *SFT_SIZES)
    assert [line["step"] for line in sft] == [1, 2, 3]
    assert all(math.isfinite(line["loss"]) and line["grad_norm"] > 0 for line in sft)
    assert sft[-1]["loss"] < sft[0]["loss"] - 0.05
    policy = load_file(tmp_path / "sft/final/model.safetensors")
    assert {weight.dtype for weight in policy.values()} == {torch.bfloat16}

    model = f"model.path={tmp_path / 'sft/final'}"
    grpo = start("grpo_8xh100.sh", tmp_path / "grpo", model, f"prompts.rows={rows}", *pixels, *GRPO_SIZES)
    assert [line["step"] for line in grpo] == [1, 2, 3]
    for line in grpo:  # the run stops by itself where the engine's weights or log-probs are not the trainer's
        assert line["processes"] == 2 and line["parallel"] == "DEEPSPEED"
        assert line["policy_version"] == line["step"] and line["grad_norm"] > 0
        assert line["logprob_gap/kl"] < 1e-3
    trained = load_file(tmp_path / "grpo/final/model.safetensors")
    assert {weight.dtype for weight in trained.values()} == {torch.bfloat16}
    assert trained.keys() == policy.keys()
    moved = sum(not torch.equal(trained[name], policy[name]) for name in policy)
    assert moved > len(policy) / 2
