"""Scores of packed pairs are those of transformers' own forward, one sequence at a time; the loss is TRL's."""

from __future__ import annotations

import pytest
import torch
from datasets import Dataset

from core.pairs import check_pair
from core.rows import read_rows
from reward_models.encoding import encode_pairs, processor_of
from reward_models.forward import classifier_of, packed_scores
from reward_models.loss import bradley_terry
from reward_models.model import new_reward_model
from reward_models.packing import empty_batch, pair_batches
from vlm.checkpoint import CheckpointError
from vlm.inputs import extend
from vlm.load import ModelConfig, load_model
from vlm.tiny import build_tiny_vlm


def reward_model(kind, tiny, **settings):
    """With a head that is not zero."""
    model = new_reward_model(kind, ModelConfig(path=str(tiny), **settings))
    with torch.no_grad():
        torch.nn.init.normal_(classifier_of(model).score.weight, generator=torch.Generator().manual_seed(0))
    return model


def encoded(kind, tiny, file):
    processor = processor_of(kind, ModelConfig(path=str(tiny)), tiny)
    rows = read_rows(file, check=check_pair)
    return encode_pairs(processor, list(enumerate(rows)))


@pytest.fixture(params=["multimodal", "text"])
def kind(request):
    return request.param


@pytest.fixture
def file(kind, pairs_file, text_pairs_file):
    return pairs_file if kind == "multimodal" else text_pairs_file


def plain_score(model, kind, prompt, ids):
    """transformers' own classifier on one whole sequence."""
    whole = extend(prompt, ids)
    media = ("pixel_values", "image_grid_thw", "pixel_values_videos", "video_grid_thw")
    inputs = {name: getattr(whole, name) for name in media if getattr(whole, name) is not None}
    positions = whole.position_ids[:, None] if kind == "multimodal" else whole.position_ids[:1]
    return model(input_ids=whole.input_ids[None], position_ids=positions, **inputs).logits[0, 0]


def test_packed_scores_are_those_of_whole_sequences(kind, tiny, file):
    model, pairs = reward_model(kind, tiny), encoded(kind, tiny, file)
    with torch.no_grad():
        for batch in pair_batches(pairs, max_tokens=150):
            scores = packed_scores(model, batch.packed)
            for place, row in enumerate(batch.rows):
                for ids, score in (
                    (pairs[row].chosen, scores[batch.chosen[place]]),
                    (pairs[row].rejected, scores[batch.rejected[place]]),
                ):
                    expected = plain_score(model, kind, pairs[row].prompt, ids)
                    torch.testing.assert_close(score, expected, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl"])
def test_a_text_reward_model_is_the_language_model_of_a_vlm(family, text_pairs_file, tmp_path):
    """Its hidden states on text are those of the whole model, whose head has no part in them."""
    folder = build_tiny_vlm(
        tmp_path / "vlm", text_pairs_file.read_text().splitlines(), hidden=64, layers=2, family=family
    )
    model, whole = reward_model("text", folder), load_model(folder).eval()
    ids = encoded("text", folder, text_pairs_file)[0].prompt.input_ids[None]
    with torch.no_grad():
        ours = model.model(input_ids=ids).last_hidden_state
        theirs = whole(input_ids=ids, output_hidden_states=True).hidden_states[-1]
    torch.testing.assert_close(ours, theirs, atol=2e-6, rtol=1e-5)


def test_a_family_whose_language_model_is_not_known_as_a_text_model_is_refused(text_pairs_file, tmp_path):
    folder = build_tiny_vlm(
        tmp_path / "vlm", text_pairs_file.read_text().splitlines(), hidden=64, layers=2, family="internvl"
    )
    with pytest.raises(
        CheckpointError, match=r"language model of Qwen2\.5-VL or Qwen3-VL, or .* got InternVL"
    ):
        reward_model("text", folder)


def test_every_pair_is_in_one_batch_and_shared_responses_are_computed_once(tiny, pairs_file):
    pairs = encoded("multimodal", tiny, pairs_file)
    for budget in (1, 100, 10_000):
        batches = pair_batches(pairs, budget)
        assert sorted(row for batch in batches for row in batch.rows) == list(range(len(pairs)))
        assert all(batch.packed.layout.total <= budget or len(batch.rows) == 1 for batch in batches)
    (whole,) = batches
    alone = sum(2 * len(p.prompt) + len(p.chosen) + len(p.rejected) for p in pairs)
    assert whole.packed.layout.total < 0.55 * alone  # two pairs about a prompt, with the same chosen response
    assert len(whole.packed.layout.prefixes) == len({pair.key for pair in pairs})


def test_a_batch_without_pairs_has_a_gradient_of_zero(tiny):
    model = reward_model("multimodal", tiny)
    scores = packed_scores(model, empty_batch().packed)
    assert scores.shape == (0,)
    scores.sum().backward()
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())


def test_the_head_starts_at_zero_and_computes_in_float32(tiny, pairs_file):
    model = new_reward_model("multimodal", ModelConfig(path=str(tiny), dtype="bfloat16"))
    scores = packed_scores(model, pair_batches(encoded("multimodal", tiny, pairs_file)[:2], 500)[0].packed)
    assert scores.dtype == torch.float32 and not scores.any()


@pytest.mark.parametrize("margin_scale", [0.0, 0.5])
def test_loss_and_gradient_are_those_of_trl(tiny, text_pairs_file, tmp_path, margin_scale):
    """TRL pads each response behind its own copy of the prompt; its loss takes margins as they are."""
    from trl import RewardConfig, RewardTrainer

    pairs = encoded("text", tiny, text_pairs_file)[:6]
    ours, theirs = reward_model("text", tiny), reward_model("text", tiny)
    theirs.score.__class__ = torch.nn.Linear
    prompts = [pair.prompt.input_ids.tolist() for pair in pairs]
    records = [
        {"chosen_ids": [*p, *pair.chosen], "rejected_ids": [*p, *pair.rejected]}
        | ({"margin": pair.margin * margin_scale} if margin_scale else {})
        for p, pair in zip(prompts, pairs, strict=True)
    ]
    options = {"report_to": "none", "use_cpu": True, "bf16": False, "per_device_train_batch_size": 6}
    config = RewardConfig(str(tmp_path), center_rewards_coefficient=0.01, max_length=None, **options)
    tokenizer = processor_of("text", ModelConfig(path=str(tiny)), tiny).tokenizer
    trainer = RewardTrainer(
        theirs, config, train_dataset=Dataset.from_list(records), processing_class=tokenizer
    )
    expected = trainer.compute_loss(theirs, trainer.data_collator(records))
    expected.backward()

    (batch,) = pair_batches(pairs, 10_000)
    scores = packed_scores(ours, batch.packed)
    losses = bradley_terry(scores[batch.chosen], scores[batch.rejected], batch.margins * margin_scale, 0.01)
    losses.mean().backward()
    torch.testing.assert_close(losses.mean(), expected, atol=1e-5, rtol=1e-5)
    for (name, a), (other, b) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        assert name == other and a.grad is not None
        torch.testing.assert_close(a.grad, b.grad, atol=1e-5, rtol=1e-4)
