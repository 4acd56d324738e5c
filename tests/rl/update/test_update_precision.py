"""In bfloat16 too the gradient does not depend on micro-batches: they are added up, and reduced, in float32."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from accelerate import Accelerator

from core.training.optimizer import OptimizerConfig, optimizer_for, prepare
from rl.update.packing import pack
from rl.update.policy_gradient import policy_gradient
from tests.matrix import of_the_matrix
from tests.rl.small_run import small_config
from tests.rl.update.precision_worker import MICRO_BATCHES, TEMPERATURE, TOTAL_TOKENS, small_groups

REPOSITORY = Path(__file__).parents[3]
WORKER = Path(__file__).with_name("precision_worker.py")
STARTS = [("plain", 1), ("ddp", 2), ("zero3", 2)]
STARTS += [pytest.param(*start, marks=of_the_matrix) for start in (("zero2", 2), ("zero2", 1), ("zero3", 1))]


@pytest.fixture(scope="module")
def exact(lab):
    """The float32 gradient of the same groups at the same, rounded, weights."""
    model = lab.model().bfloat16().float()
    (batch,) = pack(small_groups(lab), max_tokens=10**6)
    policy_gradient(model, batch, total_tokens=TOTAL_TOKENS, temperature=TEMPERATURE).loss.backward()
    return torch.cat([p.grad.flatten() for p in model.parameters()]), [n for n, _ in model.named_parameters()]


def start(kind: str, processes: int, lab, folder: Path) -> dict:
    config = small_config(folder, folder / "run", model={"path": str(lab.folder), "dtype": "bfloat16"})
    (folder / "config.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ACCELERATE_")}
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY), "DS_ACCELERATOR": "cpu"}
    if kind.startswith("zero"):
        zero = {"zero_optimization": {"stage": int(kind[-1]), "stage3_param_persistence_threshold": 0}}
        (folder / "zero.json").write_text(json.dumps(zero))
        environment["ACCELERATE_USE_DEEPSPEED"] = "true"
        environment["ACCELERATE_DEEPSPEED_CONFIG_FILE"] = str(folder / "zero.json")
    elif processes > 1:
        environment["ACCELERATE_USE_CPU"] = "true"
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    done = subprocess.run(
        [
            sys.executable,
            *([] if kind == "plain" else torchrun),
            *(str(WORKER), str(folder / "config.yaml"), str(folder / "gradients.pt")),
        ],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return torch.load(folder / "gradients.pt")


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "processes"), STARTS)
def test_bfloat16_gradients_do_not_depend_on_micro_batches(lab, exact, tmp_path, kind, processes):
    if kind.startswith("zero"):
        pytest.importorskip("deepspeed")
    gradients = start(kind, processes, lab, tmp_path)
    expected, names = exact

    def flat(by_name: dict) -> torch.Tensor:
        return torch.cat([by_name[name].float().flatten() for name in names])

    scale = expected.norm()
    for n in MICRO_BATCHES:
        together, alone = (flat(gradients[n][name]) for name in ("together", "alone"))
        # added up in bfloat16 they are off by 1e-3 to 1e-2
        assert float((together - alone).norm() / scale) < 1e-5, n
        # what bfloat16 rounds in forward and backward passes is there in any case, and the same for any number
        assert float((together - expected).norm() / scale) < 0.05, n
        assert float((together - flat(gradients[1]["together"])).norm() / scale) < 0.02, n


def test_a_bfloat16_policy_with_masters_follows_the_float32_run(lab):
    """12 steps of 1e-6 on the same rollouts, from the same weights; without masters most of the way is lost."""
    (batch,) = pack(small_groups(lab, 4), max_tokens=10**6)
    accelerator = Accelerator(cpu=True)

    def moved(dtype: torch.dtype, masters: bool) -> torch.Tensor:
        model = lab.model().bfloat16().to(dtype)
        start_weights = torch.cat([p.detach().float().flatten() for p in model.parameters()])
        optimizer = optimizer_for(model, OptimizerConfig(learning_rate=1e-6))
        if masters:
            _, optimizer = prepare(accelerator, model, optimizer)
        for _ in range(12):
            out = policy_gradient(model, batch, total_tokens=TOTAL_TOKENS, temperature=TEMPERATURE)
            out.loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        copies = dict(optimizer.optimizer.copies) if masters else {}
        end = [copies.get(p, p).detach().float().flatten() for p in model.parameters()]
        return torch.cat(end) - start_weights

    def distance(a: torch.Tensor, b: torch.Tensor) -> float:
        return float((a - b).norm() / b.norm())

    expected = moved(torch.float32, masters=False)
    ours, without = moved(torch.bfloat16, masters=True), moved(torch.bfloat16, masters=False)
    assert float((ours != 0).float().mean()) > 0.999 and float((without != 0).float().mean()) < 0.05
    # AdamW's first steps are almost the gradient's sign, which rounding flips where the gradient is almost zero
    assert distance(ours, expected) < 0.2 < 0.9 < distance(without, expected)
    assert float(torch.cosine_similarity(ours, expected, dim=0)) > 0.98
