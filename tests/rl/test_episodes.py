"""GRPO on episodes of visual search: the on-policy checks hold on every token of every turn, and mistakes stop the run."""

from __future__ import annotations

import itertools
import json
import time
from dataclasses import replace

import pytest

import environments.episodes
import rl.update.packing
from engines import transformers_engine, vllm_engine
from engines.rollout import Request
from rl.checks import OffPolicyError
from rl.loop import train
from tests.rl.search_world import search_config, write_search_world
from tests.rl.small_run import metrics, rollouts
from vlm.inputs import encode_ids
from vlm.load import load_processor


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return write_search_world(tmp_path_factory.mktemp("search"))


def check_run(out):
    for step in metrics(out):
        assert step["logprob_gap/mean"] < 1e-5 and step["logprob_gap/max"] < 1e-4
        assert 1 < step["turns/mean"] <= 2 and step["turns/images"] > 0
        assert step["over_turn/share"] == step["over_turn/turns"]
    lines = rollouts(out)
    turns = [turn for line in lines for turn in line["turns"]]
    assert any(turn["details"].get("box") and not turn["error"] for turn in turns)
    assert any(turn["error"] for turn in turns)
    assert {line["finish"] for line in lines} >= {"stop", "over_turn"}
    return lines


def test_a_run_in_the_search_world(world, tmp_path):
    train(search_config(world, tmp_path, steps=3))
    lines = check_run(tmp_path)
    over = [line for line in lines if line["finish"] == "over_turn"]
    assert all(line["advantage"] is None and line["over_turn"] == "turns" for line in over)
    assert any(line["advantage"] for line in lines)
    assert not any(
        "Observation" in line["completion"] for line in lines
    )  # rewards read what the policy wrote


@pytest.mark.parametrize(("form", "masked"), [("loss_only", True), ("none", False)])
def test_the_other_forms_of_the_over_turn_mask(world, tmp_path, form, masked):
    train(search_config(world, tmp_path, over_turn=form, steps=1))
    over = [line for line in rollouts(tmp_path) if line["finish"] == "over_turn"]
    assert over and all((line["advantage"] is None) == masked for line in over)


@pytest.mark.slow
def test_a_run_in_the_search_world_on_vllm(world, tmp_path):
    engine = {"kind": "vllm", "max_model_len": 900, "max_num_seqs": 16}
    train(search_config(world, tmp_path, engine=engine))
    check_run(tmp_path)


# ------------------------------------------------------------------------------------------------- planted mistakes


def stale_image(monkeypatch, world):
    """Every observation is encoded as the first one."""
    padded, kept = transformers_engine._left_padded, []

    def stale(sequences):
        batch = padded(sequences)
        if (
            len(sequences) == 1 and not sequences[0].images and "pixel_values" in batch
        ):  # a follow-up's new part
            kept.append(batch["pixel_values"])
            batch["pixel_values"] = kept[0].roll(1, 0) if len(kept) == 1 else kept[0]
        return batch

    monkeypatch.setattr(transformers_engine, "_left_padded", stale)


def shifted_observation(monkeypatch, world):
    """The trainer puts everything from the first observation on one position further than the engine."""
    behind = rl.update.packing.behind

    def shifted(sequence, prompt, start):
        rest = behind(sequence, prompt, start)
        positions = rest.position_ids.clone()
        image = (positions[0].diff() != 1).nonzero()
        positions[:, int(image[0]) if len(image) else 0 :] += 1
        return replace(rest, position_ids=positions)

    monkeypatch.setattr(rl.update.packing, "behind", shifted)


def retokenised_turn(monkeypatch, world):
    """The engine goes on behind the text of the turns before, one character to a token, not behind what was sampled."""
    processor = load_processor(world / "model", max_pixels=28 * 28 * 16)
    tokenizer = processor.tokenizer

    def other_tokens(row, prompt):
        text = tokenizer.decode(list(prompt.engine_ids))
        before, turn, after = text.rpartition("<grounding>")
        ids = tokenizer(before)["input_ids"]
        for character in turn:
            ids += tokenizer(character)["input_ids"]
        return Request(row, encode_ids(processor, ids + tokenizer(after)["input_ids"], prompt.images))

    monkeypatch.setattr(environments.episodes, "Request", other_tokens)


@pytest.mark.parametrize("fault", [stale_image, shifted_observation, retokenised_turn])
def test_a_mistake_in_a_later_turn_stops_the_run(world, tmp_path, monkeypatch, fault):
    fault(monkeypatch, world)
    with pytest.raises(OffPolicyError, match="between the log-probs of engine and trainer"):
        train(search_config(world, tmp_path))
    assert not (tmp_path / "metrics.jsonl").exists()


@pytest.mark.slow
def test_a_stale_image_in_vllms_cache_stops_the_run(world, tmp_path, monkeypatch):
    """Observations of one hash: vLLM takes the embedding, and the KV cache, of another one."""
    concatenated = vllm_engine._concatenated

    def one_hash(first, sampled, second):
        hashes = {kind: ["observation"] * len(h) for kind, h in dict(second.get("mm_hashes", {})).items()}
        return concatenated(first, sampled, {**second, **({"mm_hashes": hashes} if hashes else {})})

    monkeypatch.setattr(vllm_engine, "_concatenated", one_hash)
    engine = {"kind": "vllm", "max_model_len": 900, "max_num_seqs": 16}
    with pytest.raises(OffPolicyError, match="between the log-probs of engine and trainer"):
        train(search_config(world, tmp_path, engine=engine))


def test_what_a_seed_writes_does_not_depend_on_when_tools_answer(world, tmp_path, monkeypatch):
    train(search_config(world, tmp_path / "a", steps=1))
    monkeypatch.setattr(environments.episodes.ThreadPoolExecutor, "submit", late(monkeypatch))
    train(search_config(world, tmp_path / "b", steps=1))
    first, second = (
        [json.dumps([line["completion"], line["advantage"]]) for line in rollouts(tmp_path / name)]
        for name in "ab"
    )
    assert first == second


def late(monkeypatch):
    """`submit` that lets every other task begin later."""
    submit, numbers = environments.episodes.ThreadPoolExecutor.submit, itertools.count()

    def delayed(self, function, *arguments):
        wait = 0.05 * (next(numbers) % 2)
        return submit(self, lambda: (time.sleep(wait), function(*arguments))[1])

    return delayed
