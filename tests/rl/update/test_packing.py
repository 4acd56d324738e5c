"""Packing as such: budgets, order, positions, fillers; no model."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.rollout import Rollout
from engines.samples import Group
from rl.update.packing import PackedBatch, fill, pack, trees
from tests.groups import group_of
from vlm.inputs import Encoded
from vlm.packed import packing
from vlm.packed.layout import DummyMedia, Layout


def tensors(batch: PackedBatch, dummy: DummyMedia | None = None) -> packing.Packed:
    return packing.pack(trees(batch), dummy)


def prompt_of(length: int, first: int = 100) -> Encoded:
    return Encoded(torch.arange(length) + first, torch.arange(length).expand(3, -1), engine_ids=())


def made_up(prompt: Encoded, lengths, row_id: str = "row", first: int = 1000) -> Group:
    rollouts = []
    for length in lengths:
        ids = tuple(range(first, first + length))
        rollouts.append(Rollout(row_id, prompt, ids, (1,) * length, (0.0,) * length, "", 0, "stop"))
        first += length
    advantages = tuple(float(i + 1) for i in range(len(rollouts)))
    return group_of(rollouts, advantages)


GROUPS = st.lists(
    st.tuples(st.integers(1, 30), st.lists(st.integers(1, 25), min_size=1, max_size=6)),
    min_size=1,
    max_size=6,
)


@settings(deadline=None)
@given(GROUPS, st.integers(1, 120))
def test_every_rollout_is_packed_once_with_its_advantage_within_the_budget(shapes, max_tokens):
    groups = [made_up(prompt_of(p), lengths, f"row{i}") for i, (p, lengths) in enumerate(shapes)]
    batches = pack(groups, max_tokens=max_tokens)
    expected = {id(r): a for g in groups for r, a in zip(g.rollouts, g.advantages, strict=True)}
    seen = [
        (id(r), a)
        for b in batches
        for part in b.parts
        for r, a in zip(part.rollouts, part.coefficients, strict=True)
    ]
    assert len(seen) == len(expected) and dict(seen) == expected
    for batch in batches:
        assert batch.tokens <= max_tokens or len(batch.rollouts) == 1
        assert all(r.prompt is part.prompt for part in batch.parts for r in part.rollouts)


@settings(deadline=None)
@given(GROUPS)
def test_every_trained_token_is_predicted_by_the_token_before_it(shapes):
    groups = [
        made_up(prompt_of(p, 100 * i), lengths, f"row{i}", 10_000 * (i + 1))
        for i, (p, lengths) in enumerate(shapes)
    ]
    (batch,) = pack(groups, max_tokens=10**6)
    packed = tensors(batch)
    ids, positions = packed.inputs["input_ids"][0], packed.inputs["position_ids"][0, 0]
    assert len(ids) == packed.layout.total == batch.tokens
    predictors = packed.predictors.split([sum(r.loss_mask) for r in batch.rollouts])
    for rollout, own in zip(batch.rollouts, predictors, strict=True):
        before = [int(rollout.prompt.input_ids[-1]), *rollout.completion_ids[:-1]]
        assert ids[own].tolist() == before
        # M-RoPE goes on from the prompt, wherever the completion lies
        assert positions[own].tolist() == [len(rollout.prompt) - 1 + t for t in range(len(before))]
    assert packed.targets.tolist() == [token for r in batch.rollouts for token in r.completion_ids]


def test_only_sampled_tokens_are_trained():
    prompt = prompt_of(4)
    rollout = Rollout("r", prompt, (7, 8, 9, 10), (1, 0, 0, 1), (0.0,) * 4, "", 0, "stop")
    (batch,) = pack([group_of([rollout], [2.0])], max_tokens=100)
    packed = tensors(batch)
    assert packed.targets.tolist() == [7, 10] and packed.predictors.tolist() == [3, 6]
    assert batch.trained_tokens == 2 and packed.coefficients.tolist() == [2.0, 2.0]


def test_the_largest_micro_batch_comes_first_and_fillers_last():
    groups = [made_up(prompt_of(5), [n], f"row{n}") for n in (3, 30, 10)]
    batches = pack(groups, max_tokens=20, count=4)
    assert [b.tokens for b in batches] == [35, 15, 8, 0]
    with pytest.raises(ValueError, match="cannot fill 4 micro-batches up to 3"):
        fill(batches, 3)


def test_a_filler_is_one_token_that_nothing_is_trained_on():
    packed = tensors(PackedBatch())
    assert packed.inputs["input_ids"].shape == (1, 1) and len(packed.targets) == 0
    assert packed.layout == Layout((), (), tail=1)


def test_dummy_media_complete_what_a_batch_lacks():
    patches = torch.zeros(4, 1176)
    dummy = DummyMedia({"image": ([1, 2], patches, (1, 2, 2)), "video": ([1, 3], patches, (1, 2, 2))})
    batch = pack([made_up(prompt_of(5), [3])], max_tokens=100)[0]
    packed = tensors(batch, dummy)
    assert packed.inputs["input_ids"][0, -4:].tolist() == [1, 2, 1, 3]
    assert packed.layout.tail == 4
    assert packed.inputs["image_grid_thw"].tolist() == packed.inputs["video_grid_thw"].tolist() == [[1, 2, 2]]
    assert packed.inputs["pixel_values"].shape == packed.inputs["pixel_values_videos"].shape == (4, 1176)
    # the rest is as without them
    torch.testing.assert_close(packed.predictors, tensors(batch).predictors)


def test_rollouts_of_one_group_must_share_the_prompt():
    a, b = made_up(prompt_of(5), [3]), made_up(prompt_of(5, first=7), [3])
    mixed = group_of(a.rollouts + b.rollouts, (-1.0, 1.0))
    with pytest.raises(ValueError, match="must have the same prompt"):
        pack([mixed], max_tokens=100)
