"""Packed sequences give the log-probs and gradients of the same sequences computed one by one, in any model family."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    PreTrainedModel,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3_5Config,
    Qwen3_5ForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)

from vlm.inputs import Encoded
from vlm.packed.forward import causal_lm_of, packed_forward
from vlm.packed.layout import DummyMedia
from vlm.packed.packing import PrefixTree, Segment, pack

START, IMAGE, VIDEO, VOCABULARY = 90, 91, 92, 100
TEXT: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "vocab_size": VOCABULARY,
    "rope_parameters": {"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 1e4},
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}
TOKENS = {"image_token_id": IMAGE, "video_token_id": VIDEO, "vision_start_token_id": START}


def qwen2_5_vl() -> PreTrainedModel:
    vision = {"depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "out_hidden_size": 32}
    vision |= {"fullatt_block_indexes": [1], "window_size": 112}
    return Qwen2_5_VLForConditionalGeneration(
        Qwen2_5_VLConfig(text_config=TEXT, vision_config=vision, tie_word_embeddings=True, **TOKENS)
    )


def qwen3_vl() -> PreTrainedModel:
    """With DeepStack: features of two vision layers are added to the first language layers."""
    vision = {"depth": 3, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "out_hidden_size": 32}
    vision |= {"deepstack_visual_indexes": [0, 1], "num_position_embeddings": 64}
    text = TEXT | {"rope_parameters": TEXT["rope_parameters"] | {"mrope_interleaved": True}}
    return Qwen3VLForConditionalGeneration(
        Qwen3VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=True, **TOKENS)
    )


def qwen3_5() -> PreTrainedModel:
    """Linear attention with a recurrent state in three layers, then full attention in one."""
    vision = {"depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "out_hidden_size": 32}
    rope = TEXT["rope_parameters"] | {"mrope_interleaved": True, "partial_rotary_factor": 1.0}
    text = TEXT | {"rope_parameters": rope, "linear_num_key_heads": 2, "linear_num_value_heads": 4}
    text |= {"linear_key_head_dim": 16, "linear_value_head_dim": 24}
    return Qwen3_5ForConditionalGeneration(
        Qwen3_5Config(
            text_config=text,
            vision_config=vision | {"num_position_embeddings": 64},
            tie_word_embeddings=False,
            **TOKENS,
        )
    )


FAMILIES = [qwen2_5_vl, qwen3_vl, qwen3_5]


@dataclass(frozen=True)
class Lab:
    """A tiny random model, and the sequences it takes."""

    model: PreTrainedModel

    @classmethod
    def of(cls, family: Callable[[], PreTrainedModel]) -> Lab:
        torch.manual_seed(0)
        model = family()
        # random weights of the usual size are so small that DeepStack would not be noticed
        std = {"conv1d": 0.5, "embed_tokens": 1.0, "": 0.1} if family is qwen3_5 else {"": 0.2}
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if parameter.ndim > 1:
                    parameter.normal_(std=next(std[part] for part in std if part in name))
                elif name.endswith(".A_log"):  # the usual ones forget everything within a few tokens
                    parameter.uniform_(0.05, 0.2).log_()
        return cls(model)

    def sequence(
        self, text: list[int], grids: tuple[tuple[int, int, int], ...] = (), seed: int = 0
    ) -> Encoded:
        """Media first, then text; positions are the model's own. grids: of images, or clips where t > 1."""
        vision = self.model.config.vision_config
        patch = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
        draw = torch.Generator().manual_seed(seed)
        ids, fields = [], {}
        for kind, token, suffix in (("image", IMAGE, ""), ("video", VIDEO, "_videos")):
            chosen = [g for g in grids if (g[0] > 1) == (kind == "video")]
            if not chosen:
                continue
            for t, h, w in chosen:
                frames = t if "qwen3" in self.model.config.model_type else 1
                for _ in range(frames):  # Qwen3-VL has text between the frames of a clip
                    ids += [START, *[token] * (t // frames * h * w // 4)]
            patches = sum(t * h * w for t, h, w in chosen)
            fields[f"pixel_values{suffix}"] = torch.randn(patches, patch, generator=draw)
            fields[f"{kind}_grid_thw"] = torch.tensor(chosen)
        input_ids = torch.tensor([*ids, *text])
        kinds = (input_ids == IMAGE).int() + 2 * (input_ids == VIDEO).int()
        positions, _ = self.model.model.get_rope_index(
            input_ids[None],
            mm_token_type_ids=kinds[None],
            **{k: v for k, v in fields.items() if k.endswith("thw")},
        )
        return Encoded(input_ids, positions[:, 0], engine_ids=(), **fields)

    def alone(self, sequence: Encoded) -> Tensor:
        """(T - 1,) log-probs of every token but the first, by the model's plain forward."""
        self.model.set_attn_implementation("sdpa")
        media = ("pixel_values", "image_grid_thw", "pixel_values_videos", "video_grid_thw")
        fields = {name: getattr(sequence, name) for name in media if getattr(sequence, name) is not None}
        logits = self.model(
            input_ids=sequence.input_ids[None],
            position_ids=sequence.position_ids[:, None],
            use_cache=False,
            **fields,
        ).logits[0]
        return logits[:-1].log_softmax(-1).gather(1, sequence.input_ids[1:, None])[:, 0]


def text(length: int, seed: int) -> list[int]:
    return torch.randint(0, 90, (length,), generator=torch.Generator().manual_seed(seed)).tolist()


def tree(
    lab: Lab, prefix: Encoded, lengths: list[int], seed: int, prefix_trained: bool = False
) -> PrefixTree:
    """Continuations of random text; every third token of the prefix too is trained if `prefix_trained`."""
    draw = torch.Generator().manual_seed(seed)
    segments = []
    for i, length in enumerate(lengths):
        positions = (torch.arange(length) + prefix.next_position).expand(3, -1)
        ids = torch.tensor(text(length, 100 * seed + i))
        trained = torch.rand(length, generator=draw) < 0.7
        segments.append(
            Segment(Encoded(ids, positions, engine_ids=()), trained, torch.randn(length, generator=draw))
        )
    trained = torch.zeros(len(prefix), dtype=torch.bool)
    if prefix_trained:
        trained[3::3] = True
    return PrefixTree(Segment(prefix, trained, torch.randn(len(prefix), generator=draw)), tuple(segments))


def separately(lab: Lab, trees: list[PrefixTree]) -> tuple[Tensor, Tensor]:
    """Loss and log-probs of the trained tokens, every sequence on its own, its prefix in it."""
    loss, values = torch.zeros(()), []
    for one in trees:
        prefix = one.prefix
        parts = [(prefix, lab.alone(prefix.sequence), 1)]
        for segment in one.continuations:
            joined = Encoded(
                **{name: getattr(prefix.sequence, name) for name in MEDIA},
                input_ids=torch.cat([prefix.sequence.input_ids, segment.sequence.input_ids]),
                position_ids=torch.cat([prefix.sequence.position_ids, segment.sequence.position_ids], 1),
                engine_ids=(),
            )
            parts.append((segment, lab.alone(joined)[len(prefix) - 1 :], 0))
        for segment, log_probs, first in parts:
            trained = segment.trained[first:]
            loss = loss - (segment.coefficients[first:] * log_probs)[trained].sum()
            values.append(log_probs[trained])
    return loss, torch.cat(values)


MEDIA = ("pixel_values", "image_grid_thw", "pixel_values_videos", "video_grid_thw")


def gradients(model: nn.Module) -> dict[str, Tensor]:
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def assert_same(ours: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Relative error of 1e-5; where a parameter hardly matters, relative to a thousandth of the typical gradient."""
    whole = torch.cat([g.flatten() for g in expected.values()]).norm()
    for name, gradient in expected.items():
        scale = max(float(gradient.norm()), 1e-3 * float(whole) / len(expected) ** 0.5)
        assert float((ours[name] - gradient).norm()) < 1e-5 * scale, name


@pytest.mark.parametrize("attention", ["merged", "explicit"])
@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.__name__)
def test_packed_equals_separate_sequences(family, attention):
    """Text, an image, two images and a clip; shared prefixes, a sequence alone, trained tokens in a prefix."""
    lab = Lab.of(family)
    trees = [
        tree(lab, lab.sequence(text(6, 1)), [7, 1, 4], 1),
        tree(lab, lab.sequence(text(9, 2), ((1, 4, 6),), 2), [5, 11, 3], 2, prefix_trained=True),
        tree(lab, lab.sequence(text(12, 3), ((1, 4, 4), (3, 4, 4)), 3), [], 3, prefix_trained=True),
        tree(lab, lab.sequence(text(4, 4), ((1, 2, 6), (1, 4, 4)), 4), [6], 4),
    ]
    loss, log_probs = separately(lab, trees)
    loss.backward()
    expected = gradients(lab.model)

    lab.model.zero_grad()
    packed = packed_forward(lab.model, pack(trees), attention=attention)
    packed.loss.backward()
    torch.testing.assert_close(packed.logprobs, log_probs.detach(), rtol=0, atol=1e-5)
    assert float(packed.loss.detach()) == pytest.approx(float(loss.detach()), rel=1e-5)
    ours = gradients(lab.model)
    assert ours.keys() == expected.keys()
    assert_same(ours, expected)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.__name__)
def test_dummy_media_add_exactly_zero_to_every_gradient(family):
    lab = Lab.of(family)
    trees = [tree(lab, lab.sequence(text(6, 1)), [7, 4], 1)]
    packed_forward(lab.model, pack(trees)).loss.backward()
    expected = gradients(lab.model)
    lab.model.zero_grad()
    dummy = DummyMedia.of_model(causal_lm_of(lab.model).config, ["image", "video"])
    packed_forward(lab.model, pack(trees, dummy)).loss.backward()
    ours = gradients(lab.model)
    assert len(ours) > len(expected)
    assert_same({name: ours[name] for name in expected}, expected)
    for name in ours.keys() - expected.keys():
        assert not ours[name].any(), name


def test_features_of_deepstack_take_part():
    """The comparison above means something: without DeepStack's mergers the log-probs are others."""
    lab = Lab.of(qwen3_vl)
    sequence = lab.sequence(text(9, 2), ((1, 4, 6),), 2)
    before = lab.alone(sequence)
    with torch.no_grad():
        for merger in lab.model.model.visual.deepstack_merger_list:
            merger.linear_fc2.weight.zero_()
    assert (lab.alone(sequence) - before).abs().max() > 1e-2


def test_a_sequences_first_token_cannot_be_trained():
    sequence = Encoded(torch.tensor([1, 2]), torch.arange(2).expand(3, -1), engine_ids=())
    with pytest.raises(ValueError, match="nothing predicts it"):
        pack([PrefixTree(Segment(sequence, torch.tensor([True, False]), torch.ones(2)))])


def test_other_than_full_attention_is_refused():
    lab = Lab.of(qwen2_5_vl)
    lab.model.config.text_config.layer_types = ["full_attention", *["sliding_attention"] * 3]
    with pytest.raises(
        ValueError, match="or Qwen3.5.s linear attention in every layer, got sliding_attention"
    ):
        packed_forward(lab.model, pack([]))


def test_a_model_without_a_head_is_refused():
    with pytest.raises(TypeError, match="expected a causal LM of transformers, plain or wrapped, got Linear"):
        causal_lm_of(nn.Linear(2, 2))


def test_a_forward_that_others_put_back_learns_it_again():
    """accelerate does it when it unwraps a model for a checkpoint."""
    lab = Lab.of(qwen2_5_vl)
    trees = [tree(lab, lab.sequence(text(6, 1)), [7, 4], 1)]
    before = lab.model.forward
    loss = packed_forward(lab.model, pack(trees)).loss
    lab.model.forward = before
    assert torch.equal(packed_forward(lab.model, pack(trees)).loss, loss)
    copied = deepcopy(lab.model)
    with torch.no_grad():
        copied.lm_head.weight.zero_()
    assert torch.equal(packed_forward(lab.model, pack(trees)).loss, loss)
    assert not torch.equal(packed_forward(copied, pack(trees)).loss, loss)
