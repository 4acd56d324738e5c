"""Two processes, by DDP and ZeRO, train as one does: same losses, same gradient norms, same weights; every row once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from core.rows import read_rows, write_rows
from tests import two_processes
from tests.matrix import of_the_matrix
from tests.sft.test_loop import SMOOTH, assert_same_weights, metrics, settings, train

REPOSITORY = Path(__file__).parents[2]
ZERO = {"zero_optimization": {"stage": 0, "reduce_bucket_size": "auto"}, "bf16": {"enabled": "auto"}}
KINDS = ["DDP", "ZeRO-3", pytest.param("ZeRO-2", marks=of_the_matrix)]
RUN = SMOOTH | {"rows_per_step": 5, "steps": 6, "max_tokens_per_microbatch": 120, "data__rows_together": 2}
"""12 rows in steps of 5, 5 and 2, in one to three micro-batches: processes have unequal shares, some of text alone."""


@pytest.fixture(scope="module")
def shared_rows(rows_file, tmp_path_factory) -> Path:
    """Rows of every kind; half of them ask another question about the media of another one."""
    rows = read_rows(rows_file)[:6]
    again = [row | {"id": f"{row['id']} again"} for row in rows]
    for row in again:
        row["prompt"] = [
            {"role": "user", "content": [*row["prompt"][0]["content"], {"type": "text", "text": " Look."}]}
        ]
    return write_rows([*rows, *again], tmp_path_factory.mktemp("shared") / "rows.jsonl")


@pytest.fixture(scope="module")
def alone(tiny, shared_rows, tmp_path_factory) -> Path:
    return train(tiny, shared_rows, tmp_path_factory.mktemp("alone"), **RUN)


def two(kind: str, config: dict, folder: Path) -> None:
    environment = {"CUDA_VISIBLE_DEVICES": ""}
    if kind != "DDP":
        file = folder / "zero.json"
        stage = {"stage": int(kind[-1])} | (
            {"stage3_param_persistence_threshold": 0} if kind == "ZeRO-3" else {}
        )
        file.write_text(json.dumps(ZERO | {"zero_optimization": ZERO["zero_optimization"] | stage}))
        config["deepspeed"] = str(file)
    (folder / "two.yaml").write_text(yaml.safe_dump(config))
    two_processes.run(
        REPOSITORY / "sft.py", ["--config", str(folder / "two.yaml")], folder / "log", environment
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_train_as_one(tiny, shared_rows, alone, tmp_path, kind):
    """The last step of an epoch has two rows, and both processes together train on each of them once."""
    two(kind, settings(tiny, shared_rows, tmp_path / "run", save_every=4, **RUN), tmp_path)
    for one, other in zip(metrics(alone.parent), metrics(tmp_path / "run"), strict=True):
        for name in one.keys() - {"tokens_per_second", "tokens/shared"}:
            assert other[name] == pytest.approx(one[name], abs=2e-5), (one["step"], name)
    assert_same_weights(alone, tmp_path / "run/final", atol=1e-5, rtol=1e-4)


@pytest.mark.slow
def test_adapters_and_what_trains_beside_them_are_saved_whole_and_go_on(tiny, shared_rows, tmp_path):
    """ZeRO-3, where no process has a whole weight; a run of four steps, then of six: the weights are those of one process
    that took six at once."""
    changes = RUN | {"model__lora": {"r": 4}, "save_every": 4, "optimizer__schedule": "constant"}
    single = train(tiny, shared_rows, tmp_path / "one", **changes)
    config = settings(tiny, shared_rows, tmp_path / "run", **changes)
    two("ZeRO-3", config | {"steps": 4}, tmp_path)
    two("ZeRO-3", config | {"resume": "auto"}, tmp_path)
    assert_same_weights(single, tmp_path / "run/merged", atol=1e-5, rtol=1e-4)
    for name in ("adapter_model.safetensors", "trained_base.safetensors"):
        assert (tmp_path / "run/adapter" / name).stat().st_size == (
            tmp_path / "one/adapter" / name
        ).stat().st_size
