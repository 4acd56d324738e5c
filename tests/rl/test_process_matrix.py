"""Two processes take the steps of one, whatever trains, on whatever media, under every wrapper, and save its model.

Each wrapper is started once and trains all cells one after another (process_matrix.py). Here run the cells in which
processes or micro-batches differ in what they compute, under DDP and ZeRO-3; all of them with ONSIGHT_MATRIX=all.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.matrix import WHOLE, of_the_matrix
from tests.rl.process_matrix import MEDIA, PARTS
from tests.two_processes import REPOSITORY, run
from vlm.families.qwen2_5_vl import FAMILY
from vlm.parts import PRESETS, part_of
from vlm.tiny import build_tiny_vlm

WORKER = Path(__file__).with_name("process_matrix.py")
EVERY_CELL = [f"{p}/{m}/{d}" for d in ("float32", "bfloat16") for p in PARTS for m in MEDIA]
CELLS = (
    EVERY_CELL
    if WHOLE
    else ["all/text/float32"]
    + [f"{p}/mixed/float32" for p in ("all", "projector", "lora_all")]
    + ["all/one_rank/float32"]
    + [f"{p}/mixed/bfloat16" for p in ("all", "lora")]
    + ["tasks/mixed/float32"]
)
WRAPPERS = ("ddp", pytest.param("zero2", marks=of_the_matrix), "zero3")


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return make_model(tmp_path_factory, "qwen2_5_vl")


def make_model(tmp_path_factory: pytest.TempPathFactory, family: str) -> Path:
    """A tiny model whose weights bfloat16 holds exactly."""
    corpus = ["What is one and one?", "Compare the two pictures.", "Look closer at what happens."]
    folder = tmp_path_factory.mktemp("matrix") / "model"
    build_tiny_vlm(folder, corpus, family=family, hidden=64, layers=2)
    file = folder / "model.safetensors"
    save_file({n: w.bfloat16().float() for n, w in load_file(file).items()}, file, {"format": "pt"})
    return folder


def train(wrapper: str, model: Path, cells: Sequence[str] = CELLS) -> Path:
    out = model.parent / wrapper
    out.mkdir()
    cells = [cell for cell in cells if not refused(wrapper, cell)]
    environment: dict[str, str] = {}
    if wrapper.startswith("zero"):
        settings = json.loads((REPOSITORY / "launch" / "deepspeed" / "zero3.json").read_text())
        # several buckets, even at this size
        zero = {"stage": int(wrapper[-1]), "reduce_bucket_size": 100_000}
        if wrapper == "zero3":
            zero["stage3_param_persistence_threshold"] = 0  # every weight is partitioned, small ones too
        settings["zero_optimization"] = zero
        config = model.parent / f"{wrapper}.json"
        config.write_text(json.dumps(settings))
        environment |= {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_CONFIG_FILE": str(config)}
    else:
        environment["ACCELERATE_USE_CPU"] = "true"
    run(
        WORKER,
        [str(model), str(out), *cells],
        out / "log",
        environment,
        ranks=1 if wrapper == "one" else 2,
        timeout_s=3000,
    )
    return out


def refused(wrapper: str, cell: str) -> bool:
    """ZeRO-2 hides the gradients of single tasks (tests/rl/interference/test_processes.py)."""
    return wrapper == "zero2" and cell.startswith("tasks/")


@pytest.fixture(scope="module")
def one(model) -> Path:
    return train("one", model)


@pytest.fixture(scope="module", params=WRAPPERS)
def two(request, model, one) -> Path:
    if request.param.startswith("zero"):
        pytest.importorskip("deepspeed")
    return train(request.param, model)


def result(out: Path, cell: str) -> tuple[list[dict], dict[str, torch.Tensor]]:
    name = cell.replace("/", "-")
    return json.loads((out / f"{name}.json").read_text()), load_file(out / name / "model.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("cell", CELLS)
def test_one_process_moves_the_parts_that_train_and_no_others(model, one, cell):
    parts, media, _ = cell.split("/")
    before, (_, after) = load_file(model / "model.safetensors"), result(one, cell)
    moved = {
        part_of_saved(name) for name, weight in after.items() if not torch.equal(weight.float(), before[name])
    }
    trained = PRESETS[PARTS[parts]["trainable"]]
    assert before.keys() == after.keys()
    assert moved == set(trained) - ({"vision", "projector"} if media == "text" else set())


@pytest.mark.slow
@pytest.mark.parametrize("cell", CELLS)
def test_two_processes_take_the_steps_of_one(model, one, two, cell):
    if refused(two.name, cell):
        pytest.skip("such runs are refused")
    assert_same_steps(model, one, two, cell)
    if cell.startswith("tasks/"):
        assert_same_comparisons(one, two, cell)


@pytest.mark.slow
def test_two_processes_with_zero3_take_the_steps_of_one_on_qwen3_vl(tmp_path_factory):
    """DeepStack's mergers, partitioned, on one process alone or on none."""
    pytest.importorskip("deepspeed")
    model, cells = (
        make_model(tmp_path_factory, "qwen3_vl"),
        ("all/mixed/float32", "lora_all/one_rank/float32"),
    )
    one, two = (train(wrapper, model, cells) for wrapper in ("one", "zero3"))
    for cell in cells:
        assert_same_steps(model, one, two, cell)


def assert_same_steps(model: Path, one: Path, two: Path, cell: str) -> None:
    rounded = cell.endswith("bfloat16")
    before = load_file(model / "model.safetensors")
    (steps, weights), (steps_of_two, weights_of_two) = result(one, cell), result(two, cell)
    for a, b in zip(steps, steps_of_two, strict=True):
        for name in ("loss", "entropy", "grad_norm", "learning_rate"):
            # the loss is a sum of terms of both signs, so its own size says little about rounding
            least = 5e-2 if rounded and name == "loss" else 1e-6
            assert b[name] == pytest.approx(a[name], rel=5e-2 if rounded else 1e-5, abs=least), name
    assert weights.keys() == weights_of_two.keys()
    step = distance(weights, before)
    assert distance(weights, weights_of_two) <= (0.2 if rounded else 1e-3) * step
    # Adam turns rounding errors of gradients near zero into steps of up to the learning rate, so compare means.
    if not rounded:
        for name, weight in weights.items():
            assert (weight - weights_of_two[name]).abs().mean() < 1e-6, name


def assert_same_comparisons(one: Path, two: Path, cell: str) -> None:
    """Cosines, norms and coefficients of the projection; some step had a conflict."""
    (steps, _), (steps_of_two, _) = result(one, cell), result(two, cell)
    for a, b in zip(steps, steps_of_two, strict=True):
        names = [n for n in a if n.startswith(("interference/cosine", "interference/norm", "pcgrad/"))]
        assert len(names) > 8
        assert {n: b[n] for n in names} == pytest.approx({n: a[n] for n in names}, rel=1e-4, abs=1e-5)
    assert any(step["pcgrad/task0"] > 1 for step in steps)


def part_of_saved(name: str) -> str:
    """Part of a weight, under the names of published checkpoints."""
    return part_of(FAMILY, name if name.startswith("visual.") else f"model.language_model.{name}")


def distance(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    return float(torch.stack([(w.float() - b[name].float()).norm() for name, w in a.items()]).norm())
