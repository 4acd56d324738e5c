"""DeepSpeed's config is the run's: "auto" is filled, contradictions are errors, sums are in float32."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest

from core.errors import LaunchError
from core.training.zero import ZeroValues, run_settings
from vlm.checkpoint import hidden_size
from vlm.tiny import build_tiny_vlm

RUN = ZeroValues(
    precision="bfloat16",
    processes=2,
    micro_batch=2,
    accumulation=4,
    learning_rate=1e-5,
    betas=(0.9, 0.95),
    epsilon=1e-8,
    weight_decay=0.0,
    max_grad_norm=1.0,
    hidden_size=lambda: pytest.fail("the width is not needed"),
)
# the example in transformers' documentation
ALL_AUTO = {
    "fp16": {"enabled": "auto", "loss_scale": 0, "initial_scale_power": 16},
    "bf16": {"enabled": "auto"},
    "optimizer": {
        "type": "AdamW",
        "params": {"lr": "auto", "betas": "auto", "eps": "auto", "weight_decay": "auto"},
    },
    "scheduler": {"type": "WarmupLR", "params": {"warmup_max_lr": "auto", "warmup_num_steps": "auto"}},
    "zero_optimization": {
        "stage": 3,
        "reduce_bucket_size": "auto",
        "stage3_prefetch_bucket_size": "auto",
        "stage3_param_persistence_threshold": "auto",
    },
    "gradient_accumulation_steps": "auto",
    "gradient_clipping": "auto",
    "train_batch_size": "auto",
    "train_micro_batch_size_per_gpu": "auto",
}


def settings(**changes) -> dict:
    """A file that says the least, with changes."""
    return {"zero_optimization": {"stage": 2}} | changes


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_every_auto_is_filled_from_the_run(precision, tmp_path):
    build_tiny_vlm(tmp_path, ["a b c"], hidden=64, layers=1)
    filled = run_settings(
        ALL_AUTO,
        replace(RUN, precision=precision, hidden_size=partial(hidden_size, str(tmp_path))),
        source="zero.json",
    )
    assert filled["bf16"]["enabled"] == (precision == "bfloat16") and filled["fp16"]["enabled"] is False
    assert filled["train_batch_size"] == 2 * 4 * 2
    assert filled["train_micro_batch_size_per_gpu"] == 2 and filled["gradient_accumulation_steps"] == 4
    assert filled["gradient_clipping"] == 1.0
    assert filled["zero_optimization"]["reduce_bucket_size"] == 64 * 64
    assert filled["zero_optimization"]["stage3_gather_16bit_weights_on_model_save"] is True
    assert "optimizer" not in filled and "scheduler" not in filled
    assert ALL_AUTO["bf16"] == {"enabled": "auto"}  # the caller's is left as it is


def test_a_file_that_says_the_least_gets_the_runs_values_and_float32_sums():
    filled = run_settings(settings(), RUN, source="zero.json")
    assert filled["bf16"] == {"enabled": True}
    assert filled["data_types"] == {"grad_accum_dtype": "fp32"}
    assert filled["communication_data_type"] == "fp32"
    assert filled["train_batch_size"] == 16


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"train_batch_size": 32}, "train_batch_size: expected 16, which is the run's, or 'auto', got 32"),
        ({"gradient_accumulation_steps": 1}, "gradient_accumulation_steps: expected 4"),
        ({"bf16": {"enabled": False}}, "bf16.enabled: expected True"),
        ({"fp16": {"enabled": True}}, "fp16.enabled: expected False"),
        ({"torch_autocast": {"enabled": True}}, "torch_autocast.enabled: expected False"),
        ({"data_types": {"grad_accum_dtype": "bf16"}}, "data_types.grad_accum_dtype: expected 'fp32'"),
        ({"communication_data_type": "bf16"}, "communication_data_type: expected 'fp32'"),
        ({"gradient_clipping": 0.5}, "gradient_clipping: expected 1.0"),
        (
            {"optimizer": {"type": "AdamW", "params": {"lr": 3e-4}}},
            "optimizer.params.lr: expected 1e-05, which is the run's, or 'auto', got 0.0003",
        ),
        ({"optimizer": {"type": "Lamb", "params": {}}}, "optimizer.type: expected AdamW"),
        (
            {"scheduler": {"type": "WarmupLR", "params": {"warmup_num_steps": 9}}},
            "scheduler.params.warmup_num_steps: expected 'auto' (the schedule is the run's own), got 9",
        ),
        ({"zero_optimization": {"stage": 0}}, "zero_optimization.stage: expected 1, 2 or 3, got 0"),
        ({"zero_optimization": {}}, "zero_optimization.stage: expected 0, 1, 2 or 3, got None"),
        (
            {"zero_optimization": {"stage": 3, "stage3_gather_16bit_weights_on_model_save": False}},
            "stage3_gather_16bit_weights_on_model_save: expected True",
        ),
        ({"aio": {"block_size": "auto"}}, "aio.block_size: this program has no value for 'auto' here"),
    ],
)
def test_a_contradiction_names_file_key_and_both_values(changes, expected):
    with pytest.raises(LaunchError) as caught:
        run_settings(settings(**changes), RUN, source="zero.json")
    assert str(caught.value).startswith(
        f"zero.json: {expected}" if "stage3" not in expected else "zero.json: "
    )
    assert expected in str(caught.value)


def test_values_that_agree_with_the_run_are_no_contradiction():
    agreeing = settings(
        train_batch_size=16,
        gradient_clipping=1,
        bf16={"enabled": True},
        optimizer={"type": "AdamW", "params": {"lr": 1e-5, "betas": [0.9, 0.95], "torch_adam": True}},
    )
    assert run_settings(agreeing, RUN, source="zero.json")["train_batch_size"] == 16
