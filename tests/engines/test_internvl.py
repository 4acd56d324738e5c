"""InternVL: square tiles, plain positions, no videos. Inputs, both engines, syncs and the packed gradient, as for the others."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from engines.build import build_engine
from engines.config import TransformersConfig, VLLMConfig
from engines.fingerprint import OffPolicyError, check_fingerprint, weights_fingerprint
from engines.rollout import Request, Sampling
from tests.engines.conftest import CORPUS, perturb, weights
from vlm.checkpoint import CheckpointError
from vlm.families import model_inputs
from vlm.inputs import Encoded, collate, encode, expanded_length, extend
from vlm.load import load_model, load_processor, pixel_limits
from vlm.media import Video
from vlm.packed.forward import packed_forward
from vlm.packed.layout import DummyMedia
from vlm.packed.packing import PrefixTree, Segment, pack
from vlm.tiny import build_tiny_vlm

TILE = 56


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return build_tiny_vlm(tmp_path_factory.mktemp("internvl"), CORPUS, family="internvl", layers=2)


@pytest.fixture(scope="module")
def processor(folder):
    return load_processor(folder)


@pytest.fixture
def policy(folder):
    return load_model(folder)


def image(seed: int, width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8))


PROMPTS = {
    "text": [],
    "one tile": [image(1, 60, 50)],
    "tiles and the whole": [image(2, 150, 60)],
    "two images": [image(3, 56, 56), image(4, 70, 140)],
}


def encoded(processor, images, words="How many red circles are there?"):
    content = [*[{"type": "image"}] * len(images), {"type": "text", "text": words}]
    return encode(processor, [{"role": "user", "content": content}], images)


@pytest.fixture(scope="module")
def requests(processor) -> list[Request]:
    return [Request({"id": name}, encoded(processor, images), n=2) for name, images in PROMPTS.items()]


@pytest.fixture(scope="module")
def vllm(folder, processor):
    engine = build_engine(VLLMConfig(max_model_len=256), folder, processor)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def transformers(folder, processor):
    return build_engine(TransformersConfig(max_model_len=256), folder, processor, device="cpu")


@pytest.fixture(params=["vllm", "transformers"])
def engine(request):
    return request.getfixturevalue(request.param)


def logits_of(model, sequence):
    return model(**model_inputs(model, collate([sequence], pad_id=0))).logits[0]


def logprobs_of(model, processor, prompt, ids):
    """Of the completion `ids`, by a plain forward; tokens that are never sampled have no share."""
    media = processor.tokenizer.convert_tokens_to_ids(list(processor.family.media_tokens))
    unused = range(len(processor.tokenizer), model.config.text_config.vocab_size)
    logits = logits_of(model, extend(prompt, ids))[len(prompt) - 1 : -1]
    logits = logits.index_fill(-1, torch.tensor([*media, *unused]), -torch.inf)
    return logits.log_softmax(-1).gather(-1, torch.tensor(ids)[:, None])[:, 0]


@pytest.mark.parametrize("images", PROMPTS.values(), ids=PROMPTS)
def test_ids_and_tiles_are_the_processors_own(processor, policy, images):
    sequence = encoded(processor, images)
    content = [
        *[{"type": "image"}] * len(images),
        {"type": "text", "text": "How many red circles are there?"},
    ]
    text = processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
    )
    expected = processor(text=[text], images=images or None, return_tensors="pt")
    assert sequence.input_ids.tolist() == expected["input_ids"][0].tolist()
    assert expanded_length(processor, sequence.engine_ids, images, []) == len(sequence)
    taken = model_inputs(policy, collate([sequence], pad_id=0))
    assert taken["position_ids"].tolist() == [list(range(len(sequence)))]
    if images:
        assert torch.equal(taken["pixel_values"], expected["pixel_values"])
    assert "image_grid_thw" not in taken and ("pixel_values" in taken) == bool(images)


def test_logprobs_of_both_engines_equal_a_plain_forward_before_and_after_a_sync(
    engine, policy, processor, requests
):
    for seed, changed in enumerate((False, True)):
        if changed:
            perturb(policy.parameters())
        engine.sync(weights(policy), engine.version + 1)
        check_fingerprint(engine.fingerprint(), weights_fingerprint(weights(policy)))
        rollouts = engine.generate(requests, Sampling(max_tokens=12, seed=seed))
        assert len(rollouts) == 2 * len(requests)
        for rollout in rollouts:
            with torch.no_grad():
                ours = logprobs_of(policy, processor, rollout.prompt, rollout.completion_ids)
            gap = (ours - torch.tensor(rollout.logprobs)).abs()
            assert gap.mean() < 1e-5 and gap.max() < 1e-4, rollout.row_id


@pytest.mark.parametrize(
    ("left_out", "said"),
    [("model.vision_tower.", "Only the vision tower is old"), ("lm_head.", "Only the LM head is old")],
)
def test_weights_left_out_of_a_sync_are_found(vllm, policy, left_out, said):
    vllm.sync(weights(policy), vllm.version + 1)
    perturb(policy.parameters())
    vllm.sync(((n, w) for n, w in weights(policy) if not n.startswith(left_out)), vllm.version + 1)
    with pytest.raises(OffPolicyError, match=said):
        check_fingerprint(vllm.fingerprint(), weights_fingerprint(weights(policy)))


@pytest.mark.parametrize("attention", ["merged", "explicit"])
def test_packed_gradients_equal_those_of_separate_sequences(processor, policy, attention):
    draw = torch.Generator().manual_seed(0)
    trees, loss = [], torch.zeros(())
    for images in PROMPTS.values():
        prompt, segments = encoded(processor, images), []
        for length in (7, 1, 4):
            ids = torch.randint(20, 200, (length,), generator=draw)
            advantage = torch.randn(length, generator=draw)
            loss = loss - (advantage * plain_logprobs(policy, prompt, ids)).sum()
            rest = encoded_part(extend(prompt, ids.tolist()), len(prompt))
            segments.append(Segment(rest, torch.ones(length, dtype=torch.bool), advantage))
        trees.append(PrefixTree(Segment.untrained(prompt), tuple(segments)))
    loss.backward()
    expected = {name: p.grad.clone() for name, p in policy.named_parameters()}
    policy.zero_grad()
    packed = packed_forward(policy, pack(trees), attention=attention)
    packed.loss.backward()
    assert float(packed.loss.detach()) == pytest.approx(float(loss.detach()), rel=1e-5)
    for name, parameter in policy.named_parameters():
        assert (parameter.grad - expected[name]).norm() < 1e-5 * expected[name].norm(), name


def plain_logprobs(model, prompt, ids):
    logits = logits_of(model, extend(prompt, ids.tolist()))[len(prompt) - 1 : -1]
    return logits.log_softmax(-1).gather(-1, ids[:, None])[:, 0]


def encoded_part(sequence, start):
    return Encoded(sequence.input_ids[start:], sequence.position_ids[:, start:], engine_ids=())


def test_a_dummy_tile_adds_exactly_zero(processor, policy):
    prompt = encoded(processor, [])
    trained = torch.zeros(len(prompt), dtype=torch.bool)
    trained[3:] = True
    tree = PrefixTree(Segment(prompt, trained, torch.ones(len(prompt))))
    packed_forward(policy, pack([tree])).loss.backward()
    expected = {n: p.grad.clone() for n, p in policy.named_parameters() if p.grad is not None}
    policy.zero_grad()
    packed_forward(policy, pack([tree], DummyMedia.of_model(policy.config, ["image"]))).loss.backward()
    for name, parameter in policy.named_parameters():
        if name in expected:
            torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-4, atol=1e-6)
        else:
            assert not parameter.grad.any(), name


def test_max_pixels_limits_the_number_of_tiles(folder):
    wide = [image(2, 224, 56)]
    assert (
        len(encoded(load_processor(folder), wide))
        - len(encoded(load_processor(folder, max_pixels=2 * TILE**2), wide))
        == 2 * 4
    )
    limits = pixel_limits(load_processor(folder, max_pixels=3 * TILE**2 + 5))
    assert limits == {"min_pixels": TILE**2, "max_pixels": 3 * TILE**2, "factor": TILE}
    with pytest.raises(CheckpointError, match="expected max_pixels of at least a tile, 3136, got 3000"):
        load_processor(folder, max_pixels=3000)
    with pytest.raises(CheckpointError, match="min_pixels cannot be set for InternVL"):
        load_processor(folder, min_pixels=5000)


def test_videos_are_refused(processor):
    video = Video(np.zeros((4, 56, 56, 3), dtype=np.uint8), fps=2.0)
    with pytest.raises(ValueError, match="InternVL takes no videos here"):
        encode(processor, [{"role": "user", "content": [{"type": "video"}]}], videos=[video])
