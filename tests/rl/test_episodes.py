"""GRPO on episodes of visual search: the on-policy checks hold on every token of every turn, and mistakes stop the run."""

from __future__ import annotations

import itertools
import json
import time
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import pytest

import environments.episodes
import rl.update.packing
from engines import transformers_engine, vllm_engine
from engines.rollout import Request
from rl.checks import OffPolicyError
from rl.loop import train
from tests.rl.search_world import search_config, write_search_world
from tests.rl.small_run import metrics, rollouts
from tests.two_processes import run
from vlm.inputs import encode_ids
from vlm.load import load_processor

WORKER = Path(__file__).with_name("episodes_worker.py")


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


@pytest.mark.slow
def test_two_processes_write_one_log_of_whole_groups_whose_metrics_are_those_of_the_rollouts(world, tmp_path):
    """Two groups of six episodes, one on each process."""
    out = tmp_path / "out"
    run(WORKER, [str(world), str(out)], tmp_path / "log", {"ACCELERATE_USE_CPU": "true"}, timeout_s=900)
    steps, lines = metrics(out), rollouts(out)
    assert [step["step"] for step in steps] == [1, 2] and len(lines) == 2 * 2 * 6
    for step in steps:
        mine = [line for line in lines if line["step"] == step["step"]]
        assert step["processes"] == 2 and step["parallel"] == "MULTI_CPU"
        trained = any(line["advantage"] is not None for line in mine)
        assert {line["policy_version"] for line in mine} == {step["policy_version"] - trained}
        groups = mine[:6], mine[6:]
        assert all(len({line["row_id"] for line in group}) == 1 for group in groups)
        calls = [turn for line in mine for turn in line["turns"] if turn["call"] or turn["error"]]
        over = [line["finish"] == "over_turn" for line in mine]
        expected = {
            "reward/mean": fmean(line["reward"] for line in mine),
            "turns/mean": fmean(len(line["turns"]) for line in mine),
            "turns/most": max(len(line["turns"]) for line in mine),
            "over_turn/share": fmean(over),
            "tokens/sampled": sum(line["tokens"] for line in mine),
            "groups/drawn": 2,
        }
        assert {name: step[name] for name in expected} == pytest.approx(expected, rel=1e-6)
        assert calls and step["turns/images"] > 0
        assert not trained or (step["logprob_gap/mean"] < 1e-5 and step["logprob_gap/max"] < 1e-4)
        assert all(line["advantage"] is None for line, o in zip(mine, over, strict=True) if o)
    assert any(line["advantage"] for line in lines)


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
