"""The GPU benchmark runs on a CPU at toy size, and its padded form is a correct one."""

from __future__ import annotations

import json
import sys

import pytest
import torch

from benchmarks import gpu_step
from benchmarks.random_vlm import image_prompt, processor, random_group
from rl.update.packing import pack
from rl.update.policy_gradient import policy_gradient


def test_the_padded_form_it_compares_with_has_the_same_gradient():
    proc = processor()
    model = gpu_step.build("tiny", "cpu", proc.tokenizer).float()
    groups = [random_group(image_prompt(proc, 56, seed=i), 3, lengths=(7, 4, 9), seed=i) for i in range(2)]
    (batch,) = pack(groups, max_tokens=10_000)

    def gradient(update) -> torch.Tensor:
        model.zero_grad()
        update()
        return torch.cat([p.grad.flatten() for p in model.parameters()])

    ours = gradient(lambda: policy_gradient(model, batch, total_tokens=40).loss.backward())
    theirs = gradient(lambda: gpu_step.padded_update(model, groups, 40, rows=2))
    assert float((ours - theirs).norm() / theirs.norm()) < 1e-5


@pytest.mark.slow
def test_it_runs_to_the_end_on_a_cpu(tmp_path, monkeypatch, capsys):
    pytest.importorskip("trl")
    sizes = [
        "--group",
        "3",
        "--prompts",
        "2",
        "--prompt-tokens",
        "60",
        "--image-side",
        "56",
        "--completion",
        "8",
    ]
    arguments = ["gpu_step", "--size", "tiny", "--device", "cpu", *sizes, "--rows", "2", "--repeats", "1"]
    monkeypatch.setattr(sys, "argv", [*arguments, "--out", str(tmp_path)])
    gpu_step.main()
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert report == json.loads((tmp_path / "gpu_step_tiny.json").read_text())
    assert report["kernel_error"] < 0.05
    for form in ("ours", "padded", "trl"):
        assert report[form]["tokens_per_second"] > 0 and report[form]["mfu"] >= 0


def test_operations_of_the_shared_form_approach_those_of_one_prompt():
    proc = processor()
    model = gpu_step.build("tiny", "cpu", proc.tokenizer)
    prompt = image_prompt(proc, 56, 200)
    groups = [random_group(prompt, 16, lengths=(2,))]
    shared, padded = (gpu_step.needed_flops(model, groups, shared=s) for s in (True, False))
    assert 10 < padded / shared < 16
