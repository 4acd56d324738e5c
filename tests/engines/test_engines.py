"""Both engines sample from exactly the policy they were given, for every kind of prompt, after every sync."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from engines.fingerprint import check_fingerprint, weights_fingerprint
from engines.rollout import Request, Rollout, Sampling
from engines.tokens import stop_token_ids, suppressed_token_ids
from rl.checks import GapLimits, OffPolicyError, check_gap, check_sampled, logprob_gap
from vlm.families import FAMILIES
from vlm.inputs import encode_ids

from .conftest import perturb, trainer_logprobs, weights


def gap_of(rollouts, policy, processor, temperature=1.0):
    engine = torch.cat([torch.tensor(r.logprobs) for r in rollouts])
    trainer = torch.cat([trainer_logprobs(policy, processor, r, temperature) for r in rollouts])
    return logprob_gap(engine, trainer)


def sync(engine, policy):
    engine.sync(weights(policy), engine.version + 1)


@pytest.mark.every_family
def test_logprobs_equal_a_plain_forward_for_every_kind_of_prompt_in_one_batch(
    engine, policy, processor, requests_of_all_kinds
):
    sync(engine, policy)
    rollouts = engine.generate(requests_of_all_kinds, Sampling(max_tokens=16, seed=1))
    assert [r.row_id for r in rollouts] == [r.row_id for r in requests_of_all_kinds for _ in range(2)]
    for rollout in rollouts:
        gap = gap_of([rollout], policy, processor)
        assert gap.mean < 1e-5, rollout.row_id
        assert gap.max < 1e-4, rollout.row_id


def test_logprobs_are_taken_at_the_sampling_temperature(engine, policy, processor, requests_of_all_kinds):
    sync(engine, policy)
    rollouts = engine.generate(requests_of_all_kinds[:2], Sampling(temperature=0.7, max_tokens=16, seed=1))
    assert gap_of(rollouts, policy, processor, temperature=0.7).mean < 1e-5
    assert gap_of(rollouts, policy, processor, temperature=1.0).mean > 1e-3


@pytest.mark.every_family
@pytest.mark.parametrize("part", ["visual", "language_model", "merger", ""])
def test_after_a_sync_the_engine_is_the_new_policy_on_media_it_has_seen_before(
    engine, policy, processor, requests_of_all_kinds, part
):
    sync(engine, policy)
    # fills prefix, multimodal and encoder caches
    engine.generate(requests_of_all_kinds, Sampling(max_tokens=2))
    perturb([p for name, p in policy.named_parameters() if part in name])
    sync(engine, policy)
    check_fingerprint(engine.fingerprint(), weights_fingerprint(weights(policy)))
    rollouts = engine.generate(requests_of_all_kinds, Sampling(max_tokens=16, seed=2))
    check_sampled(rollouts, engine.version)
    assert gap_of(rollouts, policy, processor).mean < 1e-5


@pytest.mark.every_family
def test_without_a_sync_fingerprint_and_gap_each_stop_the_run(
    engine, policy, processor, requests_of_all_kinds, monkeypatch
):
    sync(engine, policy)
    perturb(policy.parameters(), scale=0.01)
    monkeypatch.setattr(engine, "_load_weights", lambda named_weights: None)
    sync(engine, policy)
    with pytest.raises(OffPolicyError, match="did not reach the engine"):
        check_fingerprint(engine.fingerprint(), weights_fingerprint(weights(policy)))
    rollouts = engine.generate(requests_of_all_kinds, Sampling(max_tokens=16, seed=3))
    check_sampled(rollouts, engine.version)  # the version alone would not tell
    with pytest.raises(OffPolicyError, match="mean difference"):
        check_gap(gap_of(rollouts, policy, processor), GapLimits())


@pytest.mark.every_family
def test_a_tied_head_that_is_not_sent_under_its_own_name_is_found(vllm_engine, policy):
    sync(vllm_engine, policy)
    perturb(policy.parameters())
    without_head = ((n, w) for n, w in weights(policy) if n != "lm_head.weight")
    vllm_engine.sync(without_head, vllm_engine.version + 1)
    with pytest.raises(OffPolicyError, match="Only the LM head is old"):
        check_fingerprint(vllm_engine.fingerprint(), weights_fingerprint(weights(policy)))


@pytest.mark.every_family
def test_a_vision_tower_left_out_of_the_sync_is_found(vllm_engine, policy):
    sync(vllm_engine, policy)
    perturb(policy.parameters())
    without_vision = ((n, w) for n, w in weights(policy) if not n.startswith("model.visual."))
    vllm_engine.sync(without_vision, vllm_engine.version + 1)
    with pytest.raises(OffPolicyError, match="Only the vision tower is old"):
        check_fingerprint(vllm_engine.fingerprint(), weights_fingerprint(weights(policy)))


@pytest.mark.every_family
def test_a_clip_whose_frames_have_other_times_for_the_trainer_is_found(
    vllm_engine, policy, processor, requests_of_all_kinds, family, monkeypatch
):
    """Qwen3-VL writes the times into the prompt, which then differs; Qwen2.5-VL has them in the positions alone."""
    sync(vllm_engine, policy)
    (right,) = [r for r in requests_of_all_kinds if r.row_id == "video"]
    video = right.prompt.videos[0]
    slower = encode_ids(processor, right.prompt.engine_ids, videos=[replace(video, fps=video.fps / 4)])
    wrong = replace(right, prompt=replace(slower, videos=(video,)))
    if family != "qwen2_5_vl":
        with pytest.raises(
            ValueError, match="the policy would sample under another prompt than it trains on"
        ):
            vllm_engine.generate([wrong], Sampling(max_tokens=16, seed=3))
        return
    rollouts = vllm_engine.generate([wrong], Sampling(max_tokens=16, seed=3))
    with pytest.raises(OffPolicyError, match="mean difference"):
        check_gap(gap_of(rollouts, policy, processor), GapLimits())


def exchanged_rows(weight):
    changed = weight.clone()
    changed[[3, 9]] = weight[[9, 3]]
    return changed


PLANTED = {
    "k for v": ({"k_proj": "v_proj", "v_proj": "k_proj"}, None),
    "levels of DeepStack": ({"merger_list.0": "merger_list.1", "merger_list.1": "merger_list.0"}, None),
    "gate for up": ({"gate_proj": "up_proj", "up_proj": "gate_proj"}, None),
    "rows of q": ({}, "layers.1.self_attn.q_proj.weight"),
    "rows of the vision tower's qkv": ({}, "visual.blocks.0.attn.qkv.weight"),
    "rows of a linear layer's convolution": ({}, "linear_attn.conv1d.weight"),
    "rows of the head": ({}, "lm_head.weight"),
    "rows of the embedding": ({}, "embed_tokens.weight"),
}


ONLY = {"levels of DeepStack": "qwen3_vl", "rows of a linear layer's convolution": "qwen3_5"}
PLACES = [(f, what) for f in FAMILIES for what in PLANTED if ONLY.get(what, f) == f != "internvl"]


@pytest.mark.parametrize(("family", "what"), PLACES, indirect=["family"], scope="session")
def test_weights_that_arrive_in_another_place_are_found(engine, policy, what):
    names, rows = PLANTED[what]
    if rows == "embed_tokens.weight" and hasattr(engine, "_model"):
        rows = "lm_head.weight"  # one tensor there, the last one sent stays

    def misplaced():
        for name, weight in weights(policy):
            for old, new in names.items():
                if f"{old}." in name:
                    name = name.replace(old, new)
                    break
            yield name, exchanged_rows(weight) if rows and name.endswith(rows) else weight

    engine.sync(misplaced(), engine.version + 1)
    with pytest.raises(OffPolicyError, match="weights of the rollout engine are not the trainer's"):
        check_fingerprint(engine.fingerprint(), weights_fingerprint(weights(policy)))
    sync(engine, policy)
    check_fingerprint(engine.fingerprint(), weights_fingerprint(weights(policy)))


def test_a_sync_may_free_each_weight_before_the_next_is_asked_for(vllm_engine, policy):
    def gathered_one_by_one():
        for name, weight in weights(policy):
            whole = weight.clone()
            yield name, whole
            whole.fill_(torch.nan)

    perturb(policy.parameters())
    vllm_engine.sync(gathered_one_by_one(), vllm_engine.version + 1)
    check_fingerprint(vllm_engine.fingerprint(), weights_fingerprint(weights(policy)))


def test_greedy_completions_of_both_engines_are_the_same(
    vllm_engine, transformers_engine, policy, requests_of_all_kinds
):
    perturb(policy.parameters())
    completions = []
    for engine in (vllm_engine, transformers_engine):
        sync(engine, policy)
        rollouts = engine.generate(requests_of_all_kinds, Sampling(temperature=0, max_tokens=24))
        completions.append([(r.row_id, r.completion_ids, r.finish) for r in rollouts])
    assert completions[0] == completions[1]


def test_placeholders_and_unused_rows_are_never_sampled_even_when_the_head_wants_them(
    engine, policy, processor, requests_of_all_kinds
):
    suppressed = suppressed_token_ids(processor, policy.config.text_config.vocab_size)
    assert policy.config.image_token_id in suppressed
    # the vocabulary is padded to a multiple of 64
    assert policy.config.text_config.vocab_size - 1 in suppressed
    head = policy.get_output_embeddings().weight
    direction = torch.nn.functional.normalize(torch.randn(head.shape[1]), dim=0)
    with torch.no_grad():  # whatever the hidden state, half of these rows have by far the largest logits
        head[list(suppressed[::2])] = 30 * direction
        head[list(suppressed[1::2])] = -30 * direction
    sync(engine, policy)
    rollouts = engine.generate(requests_of_all_kinds, Sampling(max_tokens=16, seed=5))
    greedy = engine.generate(requests_of_all_kinds, Sampling(temperature=0, max_tokens=16))
    assert not any(set(r.completion_ids) & set(suppressed) for r in rollouts + greedy)
    assert gap_of(rollouts, policy, processor).mean < 1e-5


def test_a_completion_ends_with_its_end_token_or_at_the_limit(
    engine, policy, processor, model_path, requests_of_all_kinds
):
    sync(engine, policy)
    stops = set(stop_token_ids(processor, model_path))
    requests = [replace(r, n=24) for r in requests_of_all_kinds[:2]]
    rollouts = engine.generate(requests, Sampling(max_tokens=48, seed=6))
    assert {r.finish for r in rollouts} == {"stop", "length"}
    for rollout in rollouts:
        assert not stops & set(rollout.completion_ids[:-1])
        assert (rollout.completion_ids[-1] in stops) == (rollout.finish == "stop")
        assert rollout.finish == "stop" or len(rollout.completion_ids) == 48
        assert "<|im_end|>" not in rollout.text
        assert rollout.loss_mask == (1,) * len(rollout.completion_ids)


def test_a_seed_reproduces_the_call_and_another_one_does_not(engine, policy, requests_of_all_kinds):
    sync(engine, policy)
    requests = [replace(r, n=3) for r in requests_of_all_kinds]
    first, again, other = (
        [r.completion_ids for r in engine.generate(requests, Sampling(max_tokens=12, seed=seed))]
        for seed in (7, 7, 8)
    )
    assert first == again
    assert first != other
    assert len(set(first)) == len(first)  # completions of a group differ


def test_generation_leaves_the_trainers_random_numbers_and_threads_alone(
    engine, policy, requests_of_all_kinds
):
    torch.manual_seed(3)
    before, numpy_before, threads = torch.get_rng_state(), np.random.get_state()[1], torch.get_num_threads()
    first = engine.generate(requests_of_all_kinds, Sampling(max_tokens=4))
    second = engine.generate(requests_of_all_kinds, Sampling(max_tokens=4))
    assert [r.completion_ids for r in first] != [r.completion_ids for r in second]
    assert torch.equal(torch.get_rng_state(), before)
    assert (np.random.get_state()[1] == numpy_before).all()
    assert torch.get_num_threads() == threads
    torch.set_num_threads(threads + 1)
    assert torch.get_num_threads() == threads + 1
    torch.set_num_threads(threads)


def test_an_engine_prompt_that_differs_from_the_trainers_is_an_error(vllm_engine, requests_of_all_kinds):
    request = requests_of_all_kinds[1]
    expanded_twice = replace(request.prompt, engine_ids=tuple(request.prompt.input_ids.tolist()))
    with pytest.raises(ValueError, match=r"row 'image': the engine's prompt has \d+ tokens, the trainer's"):
        vllm_engine.generate([Request({"id": "image"}, expanded_twice)], Sampling(max_tokens=2))


def test_a_prompt_that_leaves_no_room_is_an_error(engine, requests_of_all_kinds):
    prompt = requests_of_all_kinds[0].prompt
    long = replace(prompt, input_ids=prompt.input_ids.repeat(40), engine_ids=prompt.engine_ids * 40)
    with pytest.raises(ValueError, match="row 'long': the prompt has .* max_model_len = 512"):
        engine.generate([Request({"id": "long"}, long)], Sampling(max_tokens=2))


def test_the_version_never_falls(engine, policy):
    sync(engine, policy)
    with pytest.raises(ValueError, match="already has version"):
        engine.sync(weights(policy), engine.version - 1)


def test_more_completions_than_fit_at_once_come_back_in_order(
    engine, policy, requests_of_all_kinds, monkeypatch
):
    sync(engine, policy)
    if hasattr(engine, "_model"):
        monkeypatch.setattr(engine, "config", engine.config.model_copy(update={"max_num_seqs": 4}))
    requests = [replace(r, n=n) for r, n in zip(requests_of_all_kinds, (3, 7, 1, 2, 5))]
    rollouts = engine.generate(requests, Sampling(max_tokens=3, seed=1))
    assert [r.row_id for r in rollouts] == [r.row_id for r in requests for _ in range(r.n)]


def test_every_rollout_is_handed_over_when_it_is_finished_and_the_result_is_the_same(
    engine, policy, requests_of_all_kinds
):
    sync(engine, policy)
    requests = [replace(r, n=n) for r, n in zip(requests_of_all_kinds, (12, 1, 3, 2, 4))]
    for sampling in (Sampling(max_tokens=48, seed=8), Sampling(temperature=0, max_tokens=8)):
        places: list[int] = []
        heard: list[Rollout] = []

        def hear(place: int, rollout: Rollout, places=places, heard=heard) -> None:
            places.append(place)
            heard.append(rollout)

        quiet = engine.generate(requests, sampling)
        rollouts = engine.generate(requests, sampling, hear)
        assert [(r.completion_ids, r.logprobs) for r in rollouts] == [
            (r.completion_ids, r.logprobs) for r in quiet
        ]
        assert sorted(places) == list(range(22))
        assert all(rollouts[place] is rollout for place, rollout in zip(places, heard, strict=True))
        if sampling.seed:  # of one prompt, all of whose completions begin together, the short ones come first
            lengths = [len(r.completion_ids) for place, r in zip(places, heard, strict=True) if place < 12]
            assert lengths == sorted(lengths) and len(set(lengths)) > 1


def test_completions_are_those_of_vllms_own_parallel_sampling(vllm_engine, policy, requests_of_all_kinds):
    from engines.follow_ups import first_seed
    from engines.vllm_engine import _vllm_prompt

    sync(vllm_engine, policy)
    requests = [replace(r, n=3) for r in requests_of_all_kinds]
    rollouts = vllm_engine.generate(requests, Sampling(max_tokens=24, seed=9))
    sampling = Sampling(max_tokens=24, seed=9)
    parameters = [vllm_engine._sampling_params(sampling, first_seed(9, i, 0)) for i in range(5)]
    for one in parameters:
        one.n = 3
    with vllm_engine._own_rng():
        prompts = [_vllm_prompt(r.prompt) for r in requests]
        outputs = vllm_engine._llm.generate(prompts, parameters, use_tqdm=False)
    completions = [completion for output in outputs for completion in output.outputs]
    assert [r.completion_ids for r in rollouts] == [tuple(c.token_ids) for c in completions]
    assert [r.logprobs for r in rollouts] == [tuple(c.logprobs.logprobs) for c in completions]


def test_an_error_while_generating_leaves_nothing_behind_for_the_next_call(
    engine, policy, requests_of_all_kinds
):
    def refuse(place: int, rollout: Rollout) -> None:
        raise RuntimeError("not wanted")

    sync(engine, policy)
    requests = [replace(r, n=3) for r in requests_of_all_kinds]
    sampling = Sampling(max_tokens=12, seed=4)
    expected = [r.completion_ids for r in engine.generate(requests, sampling)]
    with pytest.raises(RuntimeError, match="not wanted"):
        engine.generate(requests, sampling, refuse)
    assert [r.completion_ids for r in engine.generate(requests, sampling)] == expected
