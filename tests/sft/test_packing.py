"""Packed rows have the loss and the gradient of the plain padded batch, whatever they share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from sft.data import Example, encode_example
from sft.packing import empty_batch, micro_batches, shared
from tests.sft.conftest import COLOURS, trace, write_clip
from tests.sft.plain import padded_loss
from vlm.load import ModelConfig, load_model, load_processor, load_trainable
from vlm.lora import LoraSettings
from vlm.packed.forward import packed_forward
from vlm.packed.layout import DummyMedia

WORDS = ["Which colour?", "When does it change?", "is it a tile", "and one", "Look"]


class World:
    """Rows about a few files."""

    def __init__(self, folder: Path) -> None:
        rng = np.random.default_rng(0)
        self.images = [str(folder / f"{i}.png") for i in range(3)]
        for i, path in enumerate(self.images):
            Image.fromarray(rng.integers(0, 255, (56, 84 if i else 56, 3), dtype=np.uint8)).save(path)
        self.clips = [str(folder / "a.mp4"), str(folder / "b.mp4")]
        write_clip(Path(self.clips[0]), COLOURS["red"], COLOURS["blue"])
        write_clip(Path(self.clips[1]), COLOURS["green"], COLOURS["red"], frames=8)

    def row(self, number: int, images=(), videos=(), text_first: bool = False) -> dict:
        content = [{"type": "image"}] * len(images) + [{"type": "video"}] * len(videos)
        text = {"type": "text", "text": " ".join(WORDS[: 1 + number % 5])}
        content = [text, *content] if text_first else [*content, text]
        return {
            "id": f"{number}",
            "images": list(images),
            "videos": list(videos),
            "prompt": [{"role": "user", "content": content}],
            "trace": trace("a tile " * (1 + number % 3), list(COLOURS)[number % 3]),
        }

    def multi_turn(self, number: int, image: str, crop: str) -> dict:
        turns = [
            {"role": "assistant", "content": "Look " * (1 + number)},
            {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "and one"}]},
            {"role": "assistant", "content": "It must be red."},
        ]
        row = self.row(number, [image])
        return row | {"images": [image, crop], "trace": turns}

    def rows(self, kind: str) -> list[dict]:
        a, b, c = self.images
        if kind == "one question an image":
            return [self.row(i, [image]) for i, image in enumerate(self.images)]
        if kind == "five questions an image":
            return [self.row(i, [a if i % 2 else b]) for i in range(10)]
        if kind == "text":
            return [self.row(i) for i in range(4)]
        if kind == "several images":
            return [self.row(0, [a, b]), self.row(1, [a, b]), self.row(2, [a, c]), self.row(3, [a])]
        if kind == "video":
            return [self.row(i, videos=[self.clips[i % 3 == 2]]) for i in range(5)]
        if kind == "image and video":
            return [self.row(i, [a], [self.clips[0]]) for i in range(3)]
        if kind == "text first":
            return [self.row(i, [a], text_first=True) for i in (0, 5, 1)]
        if kind == "the same row twice":
            return [self.row(1, [a]), self.row(1, [a])]
        if kind == "turns":
            return [self.multi_turn(i, a, crop) for i, crop in enumerate([b, c, b])]
        if kind == "mixed":
            kinds = ["five questions an image", "text", "several images", "video", "text first", "turns"]
            return [row for one in kinds for row in self.rows(one)[:4]]
        raise ValueError(kind)


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> World:
    return World(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def processor(tiny):
    return load_processor(tiny)


def gradients(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def packed_gradients(model: nn.Module, examples: Sequence[Example], **options) -> tuple[float, dict]:
    model.zero_grad()
    batches = micro_batches(examples, **options)
    targets = sum(len(batch.stages) for batch in batches)
    total = 0.0
    for batch in batches:
        loss = packed_forward(model, batch.packed).loss / targets
        if loss.requires_grad:
            loss.backward()
        total += float(loss)
    return total, gradients(model)


def assert_packed_equals_padded(model: nn.Module, examples: Sequence[Example], **options) -> None:
    """Relative error of the whole gradient and of each parameter's, against those that matter."""
    model.zero_grad()
    loss = padded_loss(model, examples)
    loss.backward()
    expected = gradients(model)
    ours, found = packed_gradients(model, examples, **options)
    assert ours == pytest.approx(float(loss), abs=1e-5)
    norm = torch.stack([g.norm() for g in expected.values()]).norm()
    assert norm > 0
    zero = {name for name in expected.keys() - found.keys() if not expected[name].any()}
    assert found.keys() == expected.keys() - zero
    for name, gradient in found.items():
        assert (gradient - expected[name]).norm() <= 1e-5 * norm, name


KINDS = [
    "one question an image",
    "five questions an image",
    "text",
    "several images",
    "video",
    "image and video",
    "text first",
    "the same row twice",
    "turns",
    "mixed",
]


@pytest.mark.parametrize("max_tokens", [10_000, 150])
@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_is_that_of_the_padded_rows(tiny, processor, world, kind, max_tokens):
    examples = [encode_example(processor, row) for row in world.rows(kind)]
    assert_packed_equals_padded(load_model(tiny), examples, max_tokens=max_tokens)


@pytest.mark.every_family
def test_so_it_is_in_every_family(tiny, processor, world):
    examples = [encode_example(processor, row) for row in world.rows("mixed")]
    assert_packed_equals_padded(load_model(tiny), examples, max_tokens=300)


@pytest.mark.parametrize("kind", ["five questions an image", "mixed"])
@pytest.mark.parametrize(
    "settings",
    [
        {"lora": LoraSettings(r=4), "trainable": "language"},
        {"lora": LoraSettings(r=4, targets="all")},
        {"trainable": "language"},
        {"trainable": "projector"},
        {"gradient_checkpointing": True},
    ],
    ids=["lora", "lora everywhere", "language", "projector", "checkpointed"],
)
def test_so_it_is_for_parts_of_the_model(tiny, processor, world, kind, settings):
    torch.manual_seed(0)
    model = load_trainable(ModelConfig(path=str(tiny), **settings))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            # zero in a fresh adapter, and so is the gradient of its other half
            nn.init.normal_(parameter, std=0.1)
    examples = [encode_example(processor, row) for row in world.rows(kind)]
    assert_packed_equals_padded(model, examples, max_tokens=10_000)


def test_what_rows_share_is_computed_once(processor, world):
    """Tokens and pixels of the packed sequence; a dummy for what is missing."""
    examples = [encode_example(processor, row) for row in world.rows("five questions an image")]
    (batch,) = micro_batches(examples, 10_000)
    assert len(batch.packed.inputs["image_grid_thw"]) == 2
    groups = shared(examples)
    assert [len(group.examples) for group in groups] == [5, 5]
    assert all(group.prefix >= group.examples[0].media_end for group in groups)
    rest = sum(len(example) for example in examples) - sum(4 * group.prefix for group in groups)
    assert batch.packed.layout.total == rest
    turns = [encode_example(processor, row) for row in world.rows("turns")]
    (batch,) = micro_batches(turns, 10_000)
    assert len(batch.packed.inputs["image_grid_thw"]) == 1 + 3  # the prompt's once, each observation's own


def test_rows_share_only_what_is_the_same_for_all_of_them(processor, world):
    """Not the image alone where the text before it differs, not text alone, and no target."""
    for kind, sizes in {
        "text first": [2, 1],  # "Which colour?" twice
        "text": [1, 1, 1, 1],
        "several images": [2, 1, 1],
        "video": [4, 1],
        "the same row twice": [2],
    }.items():
        groups = shared([encode_example(processor, row) for row in world.rows(kind)])
        assert sorted((len(g.examples) for g in groups), reverse=True) == sizes, kind
        for group in groups:
            for example in group.examples:
                assert not example.stage_ids[: group.prefix].any()
                assert len(example) > group.prefix


def test_micro_batches_hold_the_budget_and_every_row_once(processor, world):
    examples = [encode_example(processor, row) for row in world.rows("mixed")]
    longest = max(map(len, examples))
    batches = micro_batches(examples, longest)
    assert len(batches) > 2 and all(batch.packed.layout.total <= longest for batch in batches)
    targets = sum(int((example.stage_ids > 0).sum()) for example in examples)
    assert sum(len(batch.packed.targets) for batch in batches) == targets
    assert len(micro_batches(examples, 1)) == len(examples)


def test_positions_are_those_of_a_row_alone(processor, world):
    examples = [encode_example(processor, row) for row in world.rows("video")]
    (batch,) = micro_batches(examples, 10_000)
    alone = {
        tuple(column.tolist())
        for e in examples
        for column in torch.cat([e.sequence.input_ids[None], e.sequence.position_ids]).T
    }
    packed = torch.cat([batch.packed.inputs["input_ids"], batch.packed.inputs["position_ids"][:, 0]]).T
    assert {tuple(column.tolist()) for column in packed} == alone


def test_an_empty_micro_batch_has_a_zero_gradient_everywhere(tiny):
    """Dummy media included, for the vision tower of a process without images."""
    model = load_model(tiny)
    batch = empty_batch(DummyMedia.of_model(model.config, ("image", "video")))
    loss = packed_forward(model, batch.packed).loss
    loss.backward()
    assert float(loss) == 0 and len(batch.stages) == 0
    found = gradients(model)
    assert len(found) == len(list(model.parameters())) and not any(g.any() for g in found.values())
