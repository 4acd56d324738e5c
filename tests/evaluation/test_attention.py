"""Attention maps: the rows are those of transformers' eager attention, and each turn's map lies on the image it looked at."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from PIL import Image

from engines.rollout import Rollout, Turn
from evaluation.attention import attention_rows, looks, visual_tokens
from vlm.families import model_inputs
from vlm.inputs import collate, encode, encode_ids, extend, joined
from vlm.load import load_model, load_processor
from vlm.packed.attention import use_packed_attention
from vlm.tiny import build_tiny_vlm

TURN = 'see [0.1, 0.2, 0.5, 0.75] "original_image"'
FAMILIES = ("qwen2_5_vl", "qwen3_vl", "internvl")


@pytest.fixture(scope="module", params=FAMILIES)
def policy(request, tmp_path_factory):
    """(model, processor) of two layers, with fewer key heads than query heads where the family has them."""
    folder = tmp_path_factory.mktemp(request.param)
    build_tiny_vlm(folder, [TURN, "Where is it? Here"] * 9, family=request.param, hidden=64, layers=2)
    return load_model(folder), load_processor(folder)


def episode(processor) -> Rollout:
    """Two turns, with an image in the prompt, one after the first turn, and a third of another shape shown with it."""
    content = [{"type": "image"}, {"type": "text", "text": "Where is it?"}]
    prompt = encode(
        processor, [{"role": "user", "content": content}], [Image.effect_noise((112, 56), 90).convert("RGB")]
    )
    reply = encode(
        processor,
        [{"role": "user", "content": [{"type": "image"}, {"type": "image"}]}],
        [Image.effect_noise(size, 90).convert("RGB") for size in ((56, 84), (84, 56))],
    )
    first, last = (tuple(processor.tokenizer.encode(text)) for text in (TURN, "Here"))
    whole = extend(joined(extend(prompt, first), reply), last)
    ids = tuple(whole.input_ids[len(prompt) :].tolist())
    mask = (1,) * len(first) + (0,) * len(reply) + (1,) * len(last)
    shown = ("Look: ", reply.images[0], reply.images[1])
    call = {"name": "zoom", "arguments": {"bbox_2d": [0.1, 0.2, 0.5, 0.75]}}
    turns = (
        Turn(TURN, 0, len(first), shown, call, details={"source": "original_image", "box": [1, 2, 3, 4]}),
        Turn("Here", len(ids) - len(last), len(ids)),
    )
    return Rollout("a", prompt, ids, mask, (-1.0,) * len(ids), "", 0, "stop", sequence=whole, turns=turns)


def eager_rows(model, sequence) -> torch.Tensor:
    """(T, T): the mean over layers and heads of what transformers' eager attention returns."""
    config = model.get_decoder().config
    before, config._attn_implementation = config._attn_implementation, "eager"
    with torch.no_grad():
        inputs = model_inputs(model, collate([sequence], 0))
        attentions = model(**inputs, output_attentions=True, use_cache=False).attentions
    config._attn_implementation = before
    assert len(attentions) == 2 and all(one is not None for one in attentions)
    return torch.stack([one[0] for one in attentions]).mean((0, 1))


def test_rows_equal_transformers_eager_attention(policy):
    model, processor = policy
    sequence = episode(processor).sequence
    queries = [0, 5, len(sequence) - 1]
    rows = attention_rows(model, sequence, queries)
    torch.testing.assert_close(rows, eager_rows(model, sequence)[queries], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(rows.sum(-1), torch.ones(3))
    assert not rows[0, 1:].any()  # nothing sees what comes later


def test_a_trained_models_attention_is_the_same_and_its_setting_stays(policy):
    model, processor = policy
    sequence = episode(processor).sequence
    before = attention_rows(model, sequence, [len(sequence) - 1])
    use_packed_attention(model.get_decoder())
    model.train()
    assert torch.equal(attention_rows(model, sequence, [len(sequence) - 1]), before)
    assert model.get_decoder().config._attn_implementation == "packed" and model.training
    model.get_decoder().config._attn_implementation = "sdpa"


def test_each_turn_has_a_map_over_the_image_it_looked_at(policy):
    model, processor = policy
    rollout = episode(processor)
    zoom, answer = looks(model, processor, rollout)
    assert (zoom.name, zoom.image) == ("original_image", 0)  # named by its call
    assert (answer.name, answer.image) == ("observation_2", 2)  # without a call: the last one shown
    rows = eager_rows(model, rollout.sequence)
    for look, tokens in ((zoom, "box"), (answer, "turn")):
        places = visual_tokens(processor, rollout.sequence)[look.image]
        turn = rollout.turns[0 if look is zoom else 1]
        text = processor.tokenizer.decode(rollout.completion_ids[turn.start : turn.end])
        assert text == turn.text
        start = len(rollout.prompt) + turn.start
        span = range(turn.end - turn.start)
        if tokens == "box":  # only the tokens between the brackets
            pieces = [processor.tokenizer.decode(rollout.completion_ids[turn.start : turn.start + i]) for i in range(len(span) + 1)]  # fmt: skip
            span = [i for i in span if len(pieces[i + 1]) > TURN.index("0.1") and len(pieces[i]) < TURN.index("]")]  # fmt: skip
        expected = rows[[start + i - 1 for i in span]].mean(0)[places]
        torch.testing.assert_close(torch.tensor(look.grid), expected[-1], rtol=1e-4, atol=1e-6)
        assert look.share == pytest.approx(float(expected.sum()), rel=1e-4)


def test_without_an_image_there_is_no_map(policy):
    model, processor = policy
    ids = processor.tokenizer.encode("Where is it?")
    prompt = encode_ids(processor, ids)
    rollout = replace(
        episode(processor),
        prompt=prompt,
        completion_ids=(1, 2),
        loss_mask=(1, 1),
        logprobs=(-1.0, -1.0),
        sequence=None,
        turns=(Turn("", 0, 2),),
    )
    assert looks(model, processor, rollout) == [None]
