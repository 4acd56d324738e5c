"""Loading models and processors: settings that take effect, and errors that say what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from tests.vlm import tiny_sources as sources
from vlm.checkpoint import CheckpointError
from vlm.inputs import encode
from vlm.load import ModelConfig, load_model, load_processor


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return sources.qwen_vl(tmp_path_factory.mktemp("model"))


def test_settings_of_the_config_take_effect(checkpoint):
    config = ModelConfig(
        path=str(checkpoint),
        dtype="bfloat16",
        trainable="projector",
        attention="eager",
        gradient_checkpointing=True,
    )
    model = load_model(config)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert all(p.requires_grad == ("visual.merger" in n) for n, p in model.named_parameters())
    assert model.config._attn_implementation == "eager"
    assert model.is_gradient_checkpointing
    assert load_model(config, dtype="float16").dtype == torch.float16


def test_checkpointed_gradients_equal_plain_ones(checkpoint):
    gradients = []
    for checkpointing in (False, True):
        model = load_model(checkpoint, gradient_checkpointing=checkpointing, trainable="projector").train()
        image = model.config.image_token_id
        ids = torch.tensor([[5, image, image, 7]])
        output = model(
            input_ids=ids,
            pixel_values=torch.ones(8, 1176),
            image_grid_thw=torch.tensor([[1, 2, 4]]),
            position_ids=torch.arange(4).expand(3, 1, 4),
            labels=ids,
        )
        output.loss.backward()
        gradients.append(model.model.visual.merger.mlp[0].weight.grad)
    assert gradients[0].abs().sum() > 0
    torch.testing.assert_close(*gradients)


def visual_tokens(processor, size: tuple[int, int]) -> int:
    image = Image.fromarray(np.zeros((size[1], size[0], 3), "uint8"))
    message = {"role": "user", "content": [{"type": "image"}]}
    return int(encode(processor, [message], [image]).image_grid_thw.prod()) // 4


def test_pixel_limits_decide_the_number_of_visual_tokens(checkpoint):
    token = 28 * 28
    assert visual_tokens(load_processor(checkpoint), (112, 112)) == 16
    assert visual_tokens(load_processor(checkpoint, max_pixels=4 * token), (112, 112)) == 4
    assert visual_tokens(load_processor(checkpoint, min_pixels=36 * token), (112, 112)) == 36
    config = ModelConfig(path=str(checkpoint), min_pixels=token, max_pixels=9 * token)
    assert visual_tokens(load_processor(config), (112, 112)) == 9
    assert visual_tokens(load_processor(config, max_pixels=4 * token), (112, 112)) == 4  # the keyword wins


def test_video_limits_are_their_own_and_survive_saving(checkpoint, tmp_path):
    sources.qwen_vl(tmp_path / "model")
    file = tmp_path / "model" / "processor_config.json"
    saved = json.loads(file.read_text())
    saved["video_processor"].pop("size")  # transformers' default enlarges small frames
    file.write_text(json.dumps(saved))

    def frame_patches(processor) -> list[int]:
        frames = torch.zeros(2, 3, 112, 112, dtype=torch.uint8)
        return processor.video_processor(videos=[frames], return_tensors="pt")["video_grid_thw"][0].tolist()

    assert frame_patches(load_processor(tmp_path / "model")) == [1, 24, 24]  # 336 px
    limited = load_processor(tmp_path / "model", video_min_pixels=28 * 28, video_max_pixels=112 * 112)
    assert frame_patches(limited) == [1, 8, 8]
    assert visual_tokens(limited, (112, 112)) == 16
    limited.save_pretrained(tmp_path / "model")
    assert frame_patches(load_processor(tmp_path / "model")) == [1, 8, 8]


def test_setting_limits_of_one_processor_leaves_others_alone(checkpoint):
    untouched = load_processor(checkpoint).image_processor.size
    load_processor(checkpoint, min_pixels=28 * 28, max_pixels=28 * 28)
    assert load_processor(checkpoint).image_processor.size == untouched


def test_wrong_configs_are_refused():
    with pytest.raises(ValidationError, match="min_pixels .2000. is larger than max_pixels .1000."):
        ModelConfig(path="x", min_pixels=2000, max_pixels=1000)
    with pytest.raises(ValidationError, match="video_min_pixels .2000. is larger"):
        ModelConfig(path="x", video_min_pixels=2000, video_max_pixels=1000)
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        ModelConfig(path="x", dtyp="float32")
    with pytest.raises(ValidationError, match="trainable"):
        ModelConfig(path="x", trainable="vision")


def test_every_field_is_described():
    for name, field in ModelConfig.model_fields.items():
        assert field.description, name


def test_limits_that_cross_the_checkpoints_own_are_refused(checkpoint):
    with pytest.raises(ValueError, match=r"images: the lower pixel limit .* is larger than the upper one"):
        load_processor(checkpoint, min_pixels=10**7)


def test_limits_below_one_visual_token_are_refused(checkpoint):
    with pytest.raises(
        CheckpointError, match="images: expected a pixel limit of at least 784, one visual token"
    ):
        load_processor(checkpoint, min_pixels=100)


def broken(build):
    return lambda folder: build(sources.qwen_vl(folder))


def _remove(name):
    return lambda folder: (folder / name).unlink() or folder


def _lose_shard(folder):
    index = {"weight_map": {"lm_head.weight": "model-00001-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def _truncate(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    return folder


BAD_MODELS = {
    "no folder": (lambda f: f / "nowhere" / "x", "no such folder"),
    "unknown Hub id": (lambda f: "some-owner/some-model", "there is no whole copy of it in the cache"),
    "a file": (broken(lambda f: f / "config.json"), "expected a checkpoint folder, got a file"),
    "no config": (broken(_remove("config.json")), "config.json is missing"),
    "no weights": (broken(_remove("model.safetensors")), "no weights"),
    "weights cut short": (broken(_truncate), "not a readable safetensors file"),
    "a shard missing": (broken(_lose_shard), "names files that are missing: model-00001-of-00002"),
    "another architecture": (
        lambda f: sources.qwen2(f),
        r"expected a model of one of the families qwen2_5_vl.* model_type 'qwen2', architectures"
        r" \['Qwen2ForCausalLM'\]. docs/families.md says what adding a family takes",
    ),
    "a mixture of experts": (
        broken(lambda f: sources.edit_config(f, model_type="qwen3_vl_moe")),
        "qwen3_vl_moe is a mixture of experts, which cannot be trained here yet.*Dense models of Qwen3-VL can",
    ),
    "weights that do not cover the model": (
        broken(
            lambda f: sources.edit_weights(
                f, lambda w: {n: t for n, t in w.items() if "merger.mlp.2" not in n}
            )
        ),
        r"weights do not fit config.json; missing: model.visual.merger.mlp.2.bias, .*; unexpected: none",
    ),
    "weights without a place": (
        broken(
            lambda f: sources.edit_weights(
                f, lambda w: w | {"model.layers.7.mlp.up_proj.weight": torch.ones(2)}
            )
        ),
        "missing: none; unexpected: .*layers.7.mlp.up_proj.weight",
    ),
}


@pytest.mark.parametrize("case", BAD_MODELS)
def test_a_model_that_cannot_be_loaded_says_why(case, tmp_path):
    build, message = BAD_MODELS[case]
    with pytest.raises(CheckpointError, match=message):
        load_model(build(tmp_path / "model"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tokenizer.json", "no tokenizer .expected tokenizer.json"),
        ("processor_config.json", "no usable Qwen2.5-VL processor"),
        ("chat_template.jinja", "no chat template"),
    ],
)
def test_a_processor_that_cannot_be_loaded_says_why(name, message, tmp_path):
    folder = sources.qwen_vl(tmp_path / "model")
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=message):
        load_processor(folder)
