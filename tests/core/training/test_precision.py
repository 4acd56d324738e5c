"""Precision is the config's, however the processes were started; a launch that says otherwise is an error."""

from __future__ import annotations

import json

import pytest

from core.errors import LaunchError
from core.training.precision import Launch, check_launch, deepspeed_settings, training_precision
from core.training.zero import ZeroValues


def values(precision: str) -> ZeroValues:
    return ZeroValues(
        precision=precision,
        processes=1,
        micro_batch=1,
        accumulation=1,
        learning_rate=1e-6,
        betas=(0.9, 0.95),
        epsilon=1e-8,
        weight_decay=0.0,
        max_grad_norm=1.0,
        hidden_size=lambda: pytest.fail("the width is not needed"),
    )


def test_float16_is_refused_for_training():
    with pytest.raises(
        LaunchError, match="model.dtype: expected float32 or bfloat16 for training, got float16"
    ):
        training_precision("float16")


@pytest.mark.parametrize(
    ("dtype", "autocast", "expected"),
    [("float32", "none", "float32"), ("bfloat16", "none", "bfloat16"), ("float32", "bfloat16", "bfloat16")],
)
def test_a_run_computes_in_bfloat16_if_dtype_or_autocast_say_so(dtype, autocast, expected):
    assert training_precision(dtype, autocast) == expected


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("asked", ["no", "bf16", "fp16", "fp8"])
def test_a_launch_that_asks_for_another_precision_is_an_error(precision, asked):
    launch = Launch.of_environment({"ACCELERATE_MIXED_PRECISION": asked})
    if asked == "no" or (asked, precision) == ("bf16", "bfloat16"):
        check_launch(launch, precision, "model.dtype")
        return
    with pytest.raises(
        LaunchError, match=f"mixed_precision is '{asked}'.* the config for {precision}"
    ) as caught:
        check_launch(launch, precision, "model.dtype")
    assert ("set model.dtype=bfloat16" in str(caught.value)) == (asked == "bf16")


def test_what_the_launcher_told_is_read_from_the_environment(tmp_path):
    assert Launch.of_environment({}) == Launch(1, "no", False, None)
    told = {
        "WORLD_SIZE": "2",
        "ACCELERATE_USE_DEEPSPEED": "true",
        "ACCELERATE_DEEPSPEED_CONFIG_FILE": "zero3.json",
        "ACCELERATE_MIXED_PRECISION": "bf16",
    }
    assert Launch.of_environment(told) == Launch(2, "bf16", True, "zero3.json")


def test_a_deepspeed_file_that_cannot_be_read_is_one_clear_error(tmp_path):
    for text, expected in (
        (None, "No such file"),
        ("{", "expected a DeepSpeed config in JSON"),
        ("[]", "list"),
    ):
        file = tmp_path / "zero.json"
        if text is not None:
            file.write_text(text)
        launch = Launch(deepspeed=True, deepspeed_file=str(file))
        with pytest.raises(LaunchError, match=expected):
            deepspeed_settings(launch, values("bfloat16"))


def test_accelerates_flags_without_a_file_are_filled_too(monkeypatch):
    pytest.importorskip("deepspeed")
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_ZERO_STAGE", "3")
    settings = deepspeed_settings(Launch(deepspeed=True), values("bfloat16"))
    assert settings["zero_optimization"]["stage"] == 3 and settings["bf16"]["enabled"] is True
    assert '"auto"' not in json.dumps(settings)
    monkeypatch.setenv("ACCELERATE_GRADIENT_CLIPPING", "0.3")
    with pytest.raises(LaunchError, match="accelerate's DeepSpeed settings: gradient_clipping: expected 1.0"):
        deepspeed_settings(Launch(deepspeed=True), values("bfloat16"))
