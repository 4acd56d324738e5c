"""Sources that cannot be assembled, each named with what was expected."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from core.files.hub.ids import HubError
from tests.vlm import tiny_sources as sources
from vlm.assemble import assemble
from vlm.checkpoint import CheckpointError


@pytest.fixture(scope="module")
def vision(tmp_path_factory) -> Path:
    return sources.qwen_vl(tmp_path_factory.mktemp("vision"))


@pytest.fixture(scope="module")
def qwen3_vision(tmp_path_factory) -> Path:
    return sources.qwen3_vl(tmp_path_factory.mktemp("qwen3_vision"))


def without(*names):
    return lambda weights: {n: w for n, w in weights.items() if n not in names}


def reshaped(name, *shape):
    return lambda weights: weights | {name: torch.zeros(*shape)}


O_BIAS = "model.layers.1.self_attn.o_proj.bias"
BAD_LANGUAGES = {
    "gemma": (
        lambda f: sources.edit_config(
            sources.qwen2(f), model_type="gemma2", architectures=["Gemma2ForCausalLM"]
        ),
        r"expected a causal language model that a Qwen2.5-VL tower can be joined to \(model_type qwen2, mimo, llama\), got"
        r" model_type 'gemma2'.*Gemma2ForCausalLM",
    ),
    "head_dim": (
        lambda f: sources.edit_config(sources.llama(f), head_dim=64),
        "head_dim: 64 x 4 heads is not hidden_size 128",
    ),
    "sliding window": (
        lambda f: sources.qwen2(f, use_sliding_window=True, sliding_window=32, max_window_layers=1),
        "use_sliding_window",
    ),
    "attention bias": (lambda f: sources.llama(f, attention_bias=True), "attention_bias: .*o_proj"),
    "o_proj bias in the weights": (
        lambda f: sources.edit_weights(sources.llama(f), reshaped(O_BIAS, 128)),
        f"1 tensors of the language model do not exist in Qwen2.5-VL: {O_BIAS}",
    ),
    "rope": (
        lambda f: sources.qwen2(
            f, rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}
        ),
        "RoPE type 'dynamic' is not supported",
    ),
    "activation": (lambda f: sources.qwen2(f, hidden_act="gelu"), "hidden_act: expected 'silu', got 'gelu'"),
    "quantised": (
        lambda f: sources.edit_config(sources.qwen2(f), quantization_config={"quant_method": "awq"}),
        "quantised weights are not supported",
    ),
    "a missing weight": (
        lambda f: sources.edit_weights(sources.qwen2(f), without("model.layers.1.mlp.up_proj.weight")),
        "1 weights of the language model are missing: model.layers.1.mlp.up_proj.weight",
    ),
    "a missing bias": (
        lambda f: sources.edit_weights(sources.qwen2(f), without("model.layers.1.self_attn.k_proj.bias")),
        "1 weights of the language model are missing: model.layers.1.self_attn.k_proj.bias",
    ),
    "no head, not tied": (
        lambda f: sources.edit_weights(sources.qwen2(f), without("lm_head.weight")),
        "missing: lm_head.weight",
    ),
    "a wrong shape": (
        lambda f: sources.edit_weights(
            sources.qwen2(f), reshaped("model.layers.0.mlp.up_proj.weight", 128, 160)
        ),
        r"model.layers.0.mlp.up_proj.weight: expected shape \(160, 128\), got \(128, 160\)",
    ),
    "fewer rows in the head": (
        lambda f: sources.edit_weights(sources.qwen2(f), reshaped("lm_head.weight", 100, 128)),
        r"lm_head.weight: expected shape \(\d+, 128\), got \(100, 128\)",
    ),
    "integer weights": (
        lambda f: sources.edit_weights(
            sources.qwen2(f), lambda w: w | {"model.norm.weight": torch.zeros(128, dtype=torch.int8)}
        ),
        "model.norm.weight: expected weights of type .*, got I8",
    ),
    "no weights": (
        lambda f: (sources.qwen2(f) / "model.safetensors").unlink() or f,
        "no weights .expected model.safetensors",
    ),
    "no tokenizer": (
        lambda f: (sources.qwen2(f) / "tokenizer.json").unlink() or f,
        "no tokenizer .expected tokenizer.json",
    ),
}


def test_a_language_model_that_is_not_there_is_named(vision, tmp_path):
    with pytest.raises(HubError, match=r"^--language: .*/nothing/here: no such folder"):
        assemble(vision, tmp_path / "nothing/here", tmp_path / "out", quiet=True)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("case", BAD_LANGUAGES)
def test_a_language_model_that_does_not_fit_is_named(case, vision, tmp_path):
    build, message = BAD_LANGUAGES[case]
    folder = build(tmp_path / "lm")
    with pytest.raises(CheckpointError, match=message) as caught:
        assemble(vision, folder, tmp_path / "out" / "model", quiet=True)
    assert str(tmp_path / "lm") in str(caught.value)
    assert not (tmp_path / "out" / "model").exists()


BAD_FOR_QWEN3_VL = {
    "an older Qwen": (
        lambda f: sources.qwen2(f),
        r"a Qwen3-VL tower can be joined to \(model_type qwen3\), got model_type 'qwen2'",
    ),
    "attention bias": (
        lambda f: sources.qwen3(f, attention_bias=True),
        "attention_bias: .*no bias on o_proj",
    ),
    "no norm of q": (
        lambda f: sources.edit_weights(sources.qwen3(f), without("model.layers.1.self_attn.q_norm.weight")),
        "1 weights of the language model are missing: model.layers.1.self_attn.q_norm.weight",
    ),
}


@pytest.mark.parametrize("case", BAD_FOR_QWEN3_VL)
def test_a_language_model_that_does_not_fit_a_qwen3_vl_tower_is_named(case, qwen3_vision, tmp_path):
    build, message = BAD_FOR_QWEN3_VL[case]
    with pytest.raises(CheckpointError, match=message):
        assemble(qwen3_vision, build(tmp_path / "lm"), tmp_path / "out", quiet=True)
    assert not (tmp_path / "out").exists()


BAD_VISIONS = {
    "another family of ViT": (
        lambda f: sources.edit_config(
            f, model_type="qwen2_vl", architectures=["Qwen2VLForConditionalGeneration"]
        ),
        "must be a Qwen2.5-VL or Qwen3-VL checkpoint .*got model_type 'qwen2_vl'",
    ),
    "a plain language model": (
        lambda f: sources.qwen2(f),
        "must be a Qwen2.5-VL or Qwen3-VL checkpoint .*got model_type 'qwen2'",
    ),
    "missing weights": (
        lambda f: sources.edit_weights(f, without("visual.blocks.2.attn.proj.bias")),
        "1 weights of the vision model are missing: visual.blocks.2.attn.proj.bias",
    ),
    "a config of another depth": (
        lambda f: sources.edit_config(
            f, vision_config=json.loads((f / "config.json").read_text())["vision_config"] | {"depth": 2}
        ),
        "tensors of the vision model do not exist in Qwen2.5-VL: visual.blocks.2",
    ),
}


@pytest.mark.parametrize("case", BAD_VISIONS)
def test_a_vision_model_that_does_not_fit_is_named(case, tmp_path):
    build, message = BAD_VISIONS[case]
    folder = build(sources.qwen_vl(tmp_path / "vision"))
    with pytest.raises(CheckpointError, match=message):
        assemble(folder, sources.qwen2(tmp_path / "lm"), tmp_path / "out", quiet=True)
    assert not (tmp_path / "out").exists()
