"""What turns are good for: the figures from episodes by hand, and answers so far that continue exactly what the policy saw."""

from __future__ import annotations

import json

import pytest
import torch
from PIL import Image

from core.errors import RowError
from core.score import Score
from engines.build import build_engine
from engines.config import TransformersConfig
from engines.rollout import Request, Rollout, Sampling, Turn
from engines.samples import Sample
from environments.episodes import Episodes
from environments.types import Done, Observation
from evaluation.episodes import Played, answers_so_far, before_turn, box_logprobs, study
from evaluation.report import write_report
from evaluation.run import evaluate
from tests.evaluation.test_run import config_for
from vlm.inputs import encode
from vlm.load import load_processor

CROP = Image.effect_noise((56, 56), 90).convert("RGB")


def played(turns: int, reward: float, so_far: list[float | None], finish: str = "stop") -> Played:
    rollout = Rollout("a", None, (1,) * turns, (1,) * turns, (-1.0,) * turns, "", 0, finish, turns=tuple(Turn("", i, i + 1) for i in range(turns)))  # type: ignore[arg-type]  # fmt: skip
    return Played(Sample({"id": "a"}, rollout, Score(reward, {}, True)), tuple(so_far))


FOUR = [
    played(1, 1.0, [1.0]),  # right at once
    played(3, 1.0, [0.0, 1.0, 1.0]),  # went on at turn 2 although its answer was right
    played(3, 0.0, [0.0, 1.0, 0.0]),  # and lost it
    played(4, 1.0, [0.0, 0.0, None, 0.0], "over_turn"),  # what stands in it is no answer
]


def test_accuracy_by_budget_counts_answers_given_within_it():
    found = study(FOUR, [1, 2, 3, 8])
    assert {b: one["mean"] for b, one in found["by_budget"].items()} == {
        "1": 0.25,
        "2": 0.25,
        "3": 0.5,
        "8": 0.5,
    }
    assert found["over_turn"]["mean"] == 0.25 and found["turns"] == pytest.approx(7 / 3)
    assert found["right_by_turn"] == {"1": 0.5, "2": 0.0, "3": 0.5, "4": 0.0}


def test_the_decision_to_stop_and_the_worth_of_each_turn():
    found = study(FOUR, [8])
    assert {k: (one["mean"], one["n"]) for k, one in found["stopped_at"].items()} == {
        "1": (1.0, 1),
        "3": (0.5, 2),
    }
    # of the answers so far where it went on: episode 2 has 1 of 2 right, 3 has 1 of 2, 4 has 0 of 2
    assert found["went_on_though_right"]["mean"] == pytest.approx((0.5 + 0.5 + 0) / 3)
    assert {k: (one["mean"], one["n"]) for k, one in found["worth"].items()} == {
        "1": (pytest.approx(2 / 3), 3),
        "2": (-0.5, 2),
    }
    assert found["so_far"]["3"]["n"] == 2  # the answer that found no room in the context is in no mean


def test_without_episodes_there_is_no_figure():
    assert study([], [1])["by_budget"]["1"] == {"mean": None, "ci95": [None, None], "n": 0}


class Look:
    """Shows the same crop after each of the first two turns."""

    stop = ()

    def reset(self, row):
        return {"turns": 0}

    def respond(self, state, text):
        state["turns"] += 1
        box = {"name": "zoom", "arguments": {"bbox_2d": [0, 0, 1, 1]}}
        return Observation(("Here: ", CROP), box) if state["turns"] < 3 else Done()

    def close(self):
        pass


@pytest.fixture(scope="module")
def engine_and_processor(bench):
    processor = load_processor(bench.one)
    config = TransformersConfig(max_model_len=400, images_per_prompt=4)
    return build_engine(config, bench.one, processor, device="cpu"), processor


@pytest.fixture(scope="module")
def episode(engine_and_processor) -> tuple[Request, Rollout]:
    """A greedy episode of three turns, with an image in the prompt and one behind each of the first two."""
    engine, processor = engine_and_processor
    content = [{"type": "image"}, {"type": "text", "text": "Where is it?"}]
    prompt = encode(processor, [{"role": "user", "content": content}], [Image.new("RGB", (84, 56), "red")])
    request = Request(
        {"id": "r", "task": "search", "prompt": [{"role": "user", "content": content}], "answer": {}}, prompt
    )

    class Cut(Look):
        stop = tuple("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,?!:;<>|/-_ ")

    episodes = Episodes(Cut(), processor, max_turns=5)
    try:
        (rollout,) = episodes.generate(engine, [request], Sampling(0.0, 40))
    finally:
        episodes.close()
    assert len(rollout.turns) == 3 and len(rollout.sequence.images) == 3
    return request, rollout


def test_the_episode_before_a_turn_is_what_the_policy_saw_there(engine_and_processor, episode):
    """Sampled greedily from it, the engine writes the turn again, with the same log-probabilities."""
    engine, processor = engine_and_processor
    request, rollout = episode
    assert torch.equal(before_turn(processor, rollout, 0).input_ids, rollout.prompt.input_ids)
    for k, turn in enumerate(rollout.turns):
        prompt = before_turn(processor, rollout, k)
        assert len(prompt.images) == 1 + k
        (again,) = engine.generate([Request(request.row, prompt)], Sampling(0.0, turn.end - turn.start))
        assert again.completion_ids == rollout.completion_ids[turn.start : turn.end]
        assert again.logprobs == pytest.approx(rollout.logprobs[turn.start : turn.end], abs=1e-5)


def test_answers_so_far_are_asked_for_at_every_turn_and_scored(engine_and_processor, episode):
    engine, processor = engine_and_processor
    request, rollout = episode
    seen: list[str] = []

    def score(rows, texts, ids, groups):
        seen.extend(texts)
        return [Score(float(i), {}, True) for i in range(len(texts))]

    sample = Sample(request.row, rollout, Score(0.0, {}, True))
    (one,), (records,) = answers_so_far(processor, engine, score, [sample], "<answer>", 4)
    assert one.so_far == (0.0, 1.0, 2.0) and all(text.startswith("<answer>") for text in seen)
    assert [record["answer"] for record in records] == seen and all(r["logprob"] < 0 for r in records)


def test_the_box_of_a_call_has_the_log_probability_of_its_tokens(engine_and_processor):
    tokenizer = engine_and_processor[1].tokenizer
    text = "look [0.1, 0.2, 0.5, 0.75] there"
    ids = tuple(tokenizer.encode(text))
    call = {"name": "zoom", "arguments": {"bbox_2d": [0.1, 0.2, 0.5, 0.75]}}
    turns = (Turn(text, 0, len(ids), call=call), Turn("", len(ids), len(ids)))
    rollout = Rollout("a", None, ids, (1,) * len(ids), tuple(-float(i) for i in range(len(ids))), text, 0, "stop", turns=turns)  # type: ignore[arg-type]  # fmt: skip
    score, nothing = box_logprobs(tokenizer, rollout)
    assert nothing is None and -len(ids) < score < 0


def test_an_evaluation_with_tools_has_figures_by_turn(bench, tmp_path):
    config = config_for(
        bench,
        tmp_path,
        checkpoints={"rl": str(bench.one)},
        limit=3,
        samples=0,
        environment={"tools": ["zoom"], "describe_tools": False},
        turn_budgets=[1, 2],
        attention_maps=3,
        engine={"kind": "transformers", "max_model_len": 512},
    )
    result = evaluate(config, show=False)
    found = result["episodes"]["rl"]["rows"]
    assert found["episodes"] == 3 and set(found["by_budget"]) == {"1", "2"}
    assert "| rows | rl |" in (tmp_path / "eval.md").read_text().split("<= 2")[1]
    lines = [json.loads(line) for line in (tmp_path / "eval_rollouts.jsonl").read_text().splitlines()]
    turns = [line for line in lines if line["mode"] == "turns"]
    assert len(turns) == 3 and turns[0]["turns"][0]["so_far"]["answer"].startswith("<answer>")
    maps = [json.loads(line) for line in (tmp_path / "attention.jsonl").read_text().splitlines()]
    assert [one["row_id"] for one in maps] == [one["row_id"] for one in turns]
    assert any(line["images"] for line in turns)
    for one, line in zip(maps, turns, strict=True):
        assert len(one["turns"]) == len(line["turns"])
        first = one["turns"][0]
        assert (first is None) == (not line["images"])
        assert first is None or (first["image"] == "original_image" and 0 < first["share"] < 1)
    page = write_report(tmp_path).read_text()
    assert page.count('class="group chain"') == 3 and 'class="heat"' in page


def test_attention_maps_need_rows_that_there_are(bench, tmp_path):
    environment = {"tools": ["zoom"], "describe_tools": False}
    with pytest.raises(ValueError, match="attention_maps: expected turn_budgets"):
        config_for(bench, tmp_path, environment=environment, attention_maps=2)
    config = config_for(
        bench, tmp_path, environment=environment, turn_budgets=[1], attention_maps=["no such row"]
    )
    with pytest.raises(RowError, match="expected ids of rows, got 'no such row'"):
        evaluate(config, show=False)


def test_budgets_need_an_environment(bench, tmp_path):
    with pytest.raises(ValueError, match="turn_budgets: expected an environment"):
        config_for(bench, tmp_path, turn_budgets=[1, 2])
