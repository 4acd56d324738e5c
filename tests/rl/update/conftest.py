"""A tiny model, rollouts of every modality, and the plain padded gradient that the packed one must equal."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from transformers import PreTrainedModel, ProcessorMixin

from engines.rollout import Rollout
from engines.samples import Group
from tests.groups import group_of, with_rollouts
from vlm.inputs import Encoded, collate, encode, extend
from vlm.load import load_processor
from vlm.media import Video
from vlm.positions import mrope_positions
from vlm.tiny import build_tiny_vlm

TEMPERATURE = 0.8


def picture(seed: int, width: int = 84, height: int = 56) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def clip(seed: int, frames: int = 4, side: int = 56) -> Video:
    pixels = np.random.default_rng(seed).integers(0, 255, (frames, side, side, 3), dtype=np.uint8)
    return Video(pixels, fps=2.0)


@dataclass(frozen=True)
class Lab:
    """The tiny model's processor and folder, and makers of rollouts and groups."""

    folder: Path
    processor: ProcessorMixin

    def model(self, seed: int = 0) -> PreTrainedModel:
        torch.manual_seed(seed)
        return self.processor.family.model_class().from_pretrained(self.folder, dtype=torch.float32)

    @property
    def suppressed(self) -> list[int]:
        ids = self.processor.tokenizer.convert_tokens_to_ids
        return [ids(t) for t in ("<|image_pad|>", "<|video_pad|>", "<|vision_pad|>")]

    def prompt(self, text: str, images: Sequence[Image.Image] = (), videos: Sequence[Video] = ()) -> Encoded:
        content = [{"type": "image"}] * len(images) + [{"type": "video"}] * len(videos)
        content.append({"type": "text", "text": text})
        return encode(self.processor, [{"role": "user", "content": content}], images, videos)

    def rollout(self, prompt: Encoded, length: int, seed: int, row_id: str = "row") -> Rollout:
        """A text completion of random tokens."""
        draw = random.Random(seed)
        ids = tuple(draw.randrange(10, 300) for _ in range(length))
        return Rollout(row_id, prompt, ids, (1,) * length, (0.0,) * length, "", 0, "stop")

    def rollout_with_observation(
        self, prompt: Encoded, lengths: tuple[int, int], seed: int, row_id: str = "row"
    ) -> Rollout:
        """Text, an observed image (not trained on), text."""
        tokenizer, draw = self.processor.tokenizer, random.Random(seed)
        image = self.processor.image_processor([picture(seed, 56, 84)], return_tensors="pt")
        visual = int(image["image_grid_thw"].prod()) // 4
        before, after = ([draw.randrange(10, 300) for _ in range(n)] for n in lengths)
        pads = "<|image_pad|>" * visual
        observed = tokenizer(
            f"<|im_end|>\n<|im_start|>user\n<|vision_start|>{pads}<|vision_end|><|im_end|>\n"
        )["input_ids"]
        ids = before + observed + after
        has_image, has_video = prompt.image_grid_thw is not None, prompt.video_grid_thw is not None
        assert not has_video
        pixels = [prompt.pixel_values] if has_image else []
        grids = [prompt.image_grid_thw] if has_image else []
        pixels, grids = (
            torch.cat([*pixels, image["pixel_values"]]),
            torch.cat([*grids, image["image_grid_thw"]]),
        )
        all_ids = prompt.input_ids.tolist() + ids
        convert = tokenizer.convert_tokens_to_ids
        positions = mrope_positions(
            all_ids,
            image_token_id=convert("<|image_pad|>"),
            video_token_id=convert("<|video_pad|>"),
            image_grids=grids.tolist(),
            tokens_per_second=2,
        )
        sequence = Encoded(
            torch.tensor(all_ids), positions, engine_ids=(), pixel_values=pixels, image_grid_thw=grids
        )
        mask = (1,) * len(before) + (0,) * len(observed) + (1,) * len(after)
        return Rollout(row_id, prompt, tuple(ids), mask, (0.0,) * len(ids), "", 0, "stop", sequence)

    def group(self, prompt: Encoded, lengths: Sequence[int], seed: int = 0, row_id: str = "row") -> Group:
        draw = random.Random(seed + 1000)
        rollouts = [self.rollout(prompt, n, seed * 100 + i, row_id) for i, n in enumerate(lengths)]
        advantages = tuple(draw.gauss(0, 1) for _ in rollouts)
        return group_of(rollouts, advantages)

    def groups(self, kind: str) -> list[Group]:
        """The cases in which packed and padded must agree."""
        text = lambda: self.prompt("What is one and one?")  # noqa: E731
        if kind == "text":
            return [self.group(text(), [7, 3, 12])]
        if kind == "image":
            return [self.group(self.prompt("What is seen?", [picture(1)]), [7, 3, 12, 5])]
        if kind == "images":
            return [self.group(self.prompt("Compare.", [picture(1), picture(2, 56, 56)]), [7, 3, 9])]
        if kind == "video":
            return [self.group(self.prompt("What happens?", videos=[clip(1)]), [7, 3, 9])]
        if kind == "observations":
            prompt = self.prompt("Look closer.", [picture(3)])
            group = self.group(prompt, [6, 4, 3])
            with_image = tuple(self.rollout_with_observation(prompt, (4 + i, 5), 40 + i) for i in range(2))
            return [with_rollouts(group, [group.rollouts[0], *with_image])]
        if kind == "one_rollout":
            return [self.group(self.prompt("What?", [picture(4)]), [8])]
        if kind == "one_token":
            return [self.group(self.prompt("What?", [picture(4)]), [1, 6, 1])]
        if kind == "mixed":
            names = ["text", "image", "images", "video", "observations", "one_token"]
            return [group for name in names for group in self.groups(name)]
        raise ValueError(kind)


@pytest.fixture(scope="session")
def lab(tmp_path_factory, family) -> Lab:
    corpus = ["What is one and one?", "Compare the two pictures.", "Look closer at what happens."]
    folder = build_tiny_vlm(tmp_path_factory.mktemp("tiny"), corpus, family=family, hidden=64, layers=3)
    return Lab(folder, load_processor(folder))


def gradients(model: nn.Module) -> dict[str, Tensor]:
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def padded_update(
    model: nn.Module,
    groups: Sequence[Group],
    total_tokens: int,
    suppressed: Sequence[int],
    temperature: float = TEMPERATURE,
    weights: Sequence[Tensor] | None = None,
) -> tuple[float, dict[str, Tensor], list[Tensor]]:
    """Loss, gradients and log-probs the plain way: every sequence in full, right-padded rows, all logits.

    weights: factors of the log-probs, one tensor per rollout.
    """
    model.zero_grad()
    loss = torch.zeros(())
    all_log_probs = []
    for group in groups:
        rows = [
            r.sequence if r.sequence is not None else extend(r.prompt, r.completion_ids)
            for r in group.rollouts
        ]
        batch = collate(rows, pad_id=0)
        logits = model(**batch, use_cache=False).logits / temperature
        if suppressed:
            logits[..., list(suppressed)] = -torch.inf
        log_probs = logits[:, :-1].log_softmax(-1)
        log_probs = log_probs.gather(-1, batch["input_ids"][:, 1:, None])[..., 0]
        for i, (rollout, advantage) in enumerate(zip(group.rollouts, group.advantages, strict=True)):
            start = len(rollout.prompt) - 1
            own = log_probs[i, start : start + len(rollout.completion_ids)]
            mask = torch.tensor(rollout.loss_mask)
            own = torch.where(mask == 1, own, torch.zeros(()))
            factor = 1 if weights is None else weights[len(all_log_probs)]
            loss = loss - advantage * (factor * own).sum() / total_tokens
            all_log_probs.append(own.detach())
    loss.backward()
    return float(loss.detach()), gradients(model), all_log_probs


@pytest.fixture(scope="session")
def padded() -> Callable:
    return padded_update


def assert_same_gradients(ours: dict[str, Tensor], theirs: dict[str, Tensor], tolerance: float) -> None:
    """Every parameter's gradient to a relative error in the norm; both must have the same parameters."""
    assert ours.keys() == theirs.keys()
    total = torch.sqrt(sum(g.square().sum() for g in theirs.values()))
    assert total > 0
    for name, expected in theirs.items():
        # parameters whose gradient is rounding error only (biases of keys) are measured against the whole
        scale = max(float(expected.norm()), 1e-3 * float(total) / len(theirs) ** 0.5)
        error = float((ours[name] - expected).norm()) / scale
        # float32 forms of the delta rule, packed or not, are up to 1e-5 from one in float64, on either side
        allowed = 2 * tolerance if ".linear_attn." in name else tolerance
        assert error < allowed, f"{name}: relative error {error:.1e} (norm {float(expected.norm()):.1e})"


@pytest.fixture(scope="session")
def same_gradients() -> Callable:
    return assert_same_gradients
