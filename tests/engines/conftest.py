"""One tiny model and one transformers engine for all tests of this folder, and one vLLM engine for each file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from engines.build import build_engine
from engines.config import TransformersConfig, VLLMConfig
from engines.rollout import Request, Rollout
from engines.tokens import suppress_, suppressed_token_ids
from vlm.inputs import Encoded, collate, encode, extend
from vlm.load import load_model, load_processor
from vlm.media import Video
from vlm.tiny import build_tiny_vlm

CORPUS = [
    "How many red circles are there? Where is the blue square? When does it move? 0 1 2 3 4 5 6 7 8 9"
] * 20


@pytest.fixture(scope="session")
def model_path(tmp_path_factory, family):
    return build_tiny_vlm(tmp_path_factory.mktemp("tiny"), CORPUS, family=family, layers=2)


@pytest.fixture(scope="session")
def processor(model_path):
    return load_processor(model_path)


@pytest.fixture(scope="module")
def vllm_engine(model_path, processor):
    """Of one file: an engine that a file of another folder closes in between would take this one's process groups along."""
    engine = build_engine(VLLMConfig(max_model_len=512), model_path, processor)
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def transformers_engine(model_path, processor):
    config = TransformersConfig(max_model_len=512)
    return build_engine(config, model_path, processor, device="cpu")


@pytest.fixture(params=["vllm", "transformers"])
def engine(request, family):
    """Each engine in turn; its weights are whatever the last test left: sync first."""
    return request.getfixturevalue(f"{request.param}_engine")


@pytest.fixture
def policy(model_path):
    """The trainer's model, fresh for each test."""
    return load_model(model_path).eval()


@pytest.fixture(scope="session")
def requests_of_all_kinds(processor) -> list[Request]:
    """Text only, one image, two images of different sizes, a video at an odd rate, an image and a video: one batch."""
    rng = np.random.default_rng(0)

    def image(width: int, height: int) -> Image.Image:
        return Image.fromarray(rng.integers(0, 255, (height, width, 3), dtype=np.uint8))

    def request(name: str, images: Sequence[Image.Image] = (), videos: Sequence[Video] = ()) -> Request:
        parts = [{"type": "image"}] * len(images) + [{"type": "video"}] * len(videos)
        content = [*parts, {"type": "text", "text": "How many red circles are there?"}]
        return Request(
            {"id": name}, encode(processor, [{"role": "user", "content": content}], images, videos), n=2
        )

    video = Video(rng.integers(0, 255, (8, 56, 84, 3), dtype=np.uint8), fps=1.5)
    return [
        request("text"),
        request("image", [image(112, 112)]),
        request("images", [image(112, 56), image(84, 140)]),
        request("video", videos=[video]),
        request("image and video", [image(56, 56)], [video]),
    ]


def weights(model: torch.nn.Module) -> Iterator[tuple[str, Tensor]]:
    """All weights, the tied head under its own name too."""
    yield from model.state_dict().items()


def trainer_logprobs(model, processor, rollout: Rollout, temperature: float = 1.0) -> Tensor:
    """Log-probs of the completion by one plain forward over prompt and completion."""
    suppressed = torch.tensor(suppressed_token_ids(processor, model.config.text_config.vocab_size))
    sequence: Encoded = extend(rollout.prompt, rollout.completion_ids)
    with torch.no_grad():
        logits = model(**collate([sequence], pad_id=0)).logits[0, len(rollout.prompt) - 1 : -1]
    logprobs = (suppress_(logits, suppressed) / temperature).log_softmax(-1)
    return logprobs.gather(-1, torch.tensor(rollout.completion_ids)[:, None])[:, 0]


def perturb(parameters, scale: float = 0.03) -> None:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in parameters:
            parameter.add_(torch.randn(parameter.shape, generator=generator) * scale)
