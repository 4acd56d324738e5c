"""An episode as one rollout: what is sampled and what is shown, how budgets end it, and environments of users."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from core.errors import PluginError
from engines.rollout import Request, Sampling
from engines.samples import rollout_record, scored
from environments.config import EnvironmentConfig
from environments.episodes import Episodes
from environments.plugin import PluginEnvironment
from environments.types import Done, Observation
from rewards.config import RewardsConfig
from rewards.router import Router
from rl.config import GRPOConfig
from rl.scoring import Scorer
from vlm.inputs import encode

from . import tools_of_a_user


def noise(width: int, height: int) -> Image.Image:
    """The same picture in every process: what the policy samples depends on it."""
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


IMAGE = noise(84, 56)
LETTERS = tuple("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,?!:;<>|/-_ ")


class Always:
    """Shows the same after every turn, whatever it was, `most` times."""

    stop = LETTERS

    def __init__(self, *content, most=10**6, late=False):
        self._content, self._most, self._late = content, most, late
        self.rows, self.texts = [], []

    def reset(self, row):
        self.rows.append(row)
        return {"turns": 0}

    def respond(self, state, text):
        self.texts.append(text)
        state["turns"] += 1
        if state["turns"] > self._most:
            return Done("seconds" if self._late else None)
        return Observation(self._content, {"name": "look", "arguments": {}}, details={"turn": state["turns"]})

    def close(self):
        pass


def request(processor, n=1, images=(IMAGE,)):
    content = [{"type": "image"}] * len(images) + [{"type": "text", "text": "How many are left?"}]
    prompt = encode(processor, [{"role": "user", "content": content}], images)
    return Request({"id": "r", "task": "look", "prompt": [{"role": "user", "content": content}]}, prompt, n)


def play(engine, processor, environment, *, n=1, images=(IMAGE,), max_tokens=12, on_rollout=None, **budgets):
    episodes = Episodes(environment, processor, **budgets)
    made = [request(processor, n, images)]
    return episodes.generate(engine, made, Sampling(max_tokens=max_tokens, seed=1), on_rollout)


def test_the_policys_tokens_have_mask_1_and_everything_shown_has_mask_0(engine, processor):
    seen = []
    environment = Always("look", IMAGE, most=2)
    (rollout,) = play(engine, processor, environment, on_rollout=lambda place, r: seen.append((place, r)))
    assert seen == [(0, rollout)] and rollout.finish == "stop" and len(rollout.turns) == 3
    ids, decode = rollout.completion_ids, processor.tokenizer.decode
    sampled = [ids[turn.start : turn.end] for turn in rollout.turns]
    assert [token for turn in sampled for token in turn] == rollout.sampled_ids
    assert [decode(list(turn), skip_special_tokens=True) for turn in sampled] == environment.texts
    assert rollout.text == "\n".join(environment.texts)
    between = decode(list(ids[rollout.turns[0].end : rollout.turns[1].start]))
    assert between.startswith("<|im_end|>\n<|im_start|>user\nlook<|vision_start|><|image_pad|>")
    assert between.endswith("<|image_pad|><|vision_end|><|im_end|>\n<|im_start|>assistant\n")
    assert all(p == 0.0 for p, m in zip(rollout.logprobs, rollout.loss_mask, strict=True) if not m)
    assert rollout.sequence.images == (IMAGE,) * 3
    assert torch.equal(rollout.sequence.input_ids[len(rollout.prompt) :], torch.tensor(ids))
    assert environment.rows[0]["images"] == [IMAGE]
    record = rollout_record_of(rollout)
    assert record["turns"][0]["observation"] == "look[image]" and record["tokens"] == len(rollout.sampled_ids)
    assert record["turns"][0]["details"] == {"turn": 1} and record["over_turn"] is None


def rollout_record_of(rollout):
    from core.score import Score
    from engines.samples import Sample

    return rollout_record(Sample({"id": "r", "task": "look", "prompt": []}, rollout, Score(1.0, {}, True)))


def test_a_turn_that_ends_with_the_end_token_is_not_ended_twice(engine, processor):
    environment = Always("look", most=1)
    environment.stop = ()
    rollouts = play(engine, processor, environment, n=32, max_tokens=48)
    ended = [r for r in rollouts if len(r.turns) == 2]
    assert ended
    for rollout in ended:
        text = processor.tokenizer.decode(list(rollout.completion_ids))
        assert "<|im_end|><|im_end|>" not in text and "<|im_end|>\n<|im_start|>user\nlook" in text


def test_a_turn_cut_at_its_limit_ends_the_episode(engine, processor):
    environment = Always("look")
    environment.stop = ()
    rollouts = play(engine, processor, environment, n=8, max_tokens=1)
    cut = [r for r in rollouts if r.finish == "length"]
    assert cut and all(len(r.turns) == 1 and r.over_turn is None for r in cut)


@pytest.mark.parametrize("most", [1, 2, 4])
def test_over_the_budget_of_turns(engine, processor, most):
    (rollout,) = play(engine, processor, Always("look", IMAGE), max_turns=most)
    assert (rollout.finish, rollout.over_turn, len(rollout.turns)) == ("over_turn", "turns", most)
    assert rollout.turns[-1].call == {"name": "look", "arguments": {}} and rollout.turns[-1].observation == ()
    assert rollout.loss_mask[-1] == 1  # the last observation is not shown


class Failing(Always):
    """Every other call fails, the first of them first."""

    def respond(self, state, text):
        shown = super().respond(state, text)
        return replace(shown, error="no such region") if state["turns"] % 2 else shown


@pytest.mark.parametrize(("most", "turns"), [(0, 1), (1, 3), (2, 5)])
def test_one_failed_call_more_than_there_may_be_ends_an_episode_that_is_over_no_budget(
    engine, processor, most, turns
):
    (rollout,) = play(engine, processor, Failing("look"), max_turns=9, max_failed_calls=most)
    assert (rollout.finish, rollout.over_turn, len(rollout.turns)) == ("stop", None, turns)
    assert sum(turn.error is not None for turn in rollout.turns) == most + 1
    assert rollout.turns[-1].error == "no such region" and rollout.turns[-1].observation == ()
    assert rollout.loss_mask[-1] == 1  # what the failed call would have shown is not


def test_without_a_limit_calls_may_fail_until_the_turns_are_over(engine, processor):
    (rollout,) = play(engine, processor, Failing("look"), max_turns=5)
    assert (rollout.finish, rollout.over_turn, len(rollout.turns)) == ("over_turn", "turns", 5)


@pytest.mark.parametrize(("images", "budgets", "turns"), [((IMAGE,), {}, 4), ((), {"max_images": 2}, 3)])
def test_over_the_budget_of_images(engine, processor, images, budgets, turns):
    """The engine takes four images of a prompt, whatever the episode's own budget is."""
    (rollout,) = play(engine, processor, Always("look", IMAGE), images=images, **budgets)
    assert (rollout.finish, rollout.over_turn, len(rollout.turns)) == ("over_turn", "images", turns)
    assert len(rollout.sequence.images) == len(images) + turns - 1


def test_over_the_context_image_and_tokens_are_dropped_together(engine, processor):
    wide = noise(224, 224)  # 64 tokens
    (rollout,) = play(engine, processor, Always("look", wide))
    assert (rollout.finish, rollout.over_turn) == ("over_turn", "context")
    whole = rollout.sequence
    pads = processor.tokenizer.convert_tokens_to_ids("<|image_pad|>")
    assert len(whole) < 256 and rollout.loss_mask[-1] == 1
    assert int((whole.input_ids == pads).sum()) == int(whole.image_grid_thw.prod(-1).sum()) // 4
    assert len(whole.images) == len(whole.image_grid_thw) == len(rollout.turns)


def test_a_turn_that_fills_the_context_is_over_it(engine, processor):
    environment = Always("look " * 60)
    environment.stop = ()
    rollouts = play(engine, processor, environment, n=8, max_tokens=250)
    assert any(len(r.prompt) + len(r.completion_ids) == 256 and r.over_turn == "context" for r in rollouts)


def test_an_environment_may_end_an_episode_over_its_time(engine, processor):
    (rollout,) = play(engine, processor, Always("look", most=1, late=True))
    assert (rollout.finish, rollout.over_turn, len(rollout.turns)) == ("over_turn", "seconds", 2)


def test_what_an_environment_raises_ends_the_call(engine, processor):
    class Broken(Always):
        def respond(self, state, text):
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        play(engine, processor, Broken(), n=3)


# --------------------------------------------------------------------------------------------- environments of users


def plugin(name="Countdown", **arguments):
    return PluginEnvironment(
        f"{tools_of_a_user.__file__}:{name}",
        arguments,
        special=("<|im_end|>",),
        pixels=(1, 10**6),
        workers=1,
        seconds_per_call=30.0,
        late_call_ends=False,
    )


@pytest.mark.slow
def test_an_environment_with_state_runs_in_a_process_that_can_be_killed():
    environment = plugin(unit="apples")
    try:
        assert environment.stop == ("!",)
        one, other = (environment.reset({"id": "r", "start": n, "images": [IMAGE]}) for n in (5, 9))
        first = environment.respond(one, "2")
        assert first.content[0] == "3 apples left" and first.content[1].size == IMAGE.size
        assert environment.respond(other, "1").content[0] == "8 apples left"
        assert environment.respond(one, "many").error.startswith("ValueError: invalid literal")
        environment._seconds = 0.3
        assert environment.respond(one, "hang").error == "took longer than 0.3 s"
        environment._seconds = 30.0
        assert environment.respond(one, "1").content[0] == "2 apples left"  # the failed calls changed nothing
        assert environment.respond(one, "2") == Done()
        with pytest.raises(PluginError, match="row 'x': reset KeyError"):
            environment.reset({"id": "x", "images": []})
    finally:
        environment.close()


def test_a_class_that_is_no_environment_is_refused():
    with pytest.raises(PluginError, match="unexpected keyword argument 'colour'"):
        plugin(colour="red")
    with pytest.raises(PluginError, match="expected a class, got function"):
        plugin("multiply")


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({}, "either `tools` or the `name`"),
        ({"tools": ["zoom"], "name": "a:B"}, "either `tools` or the `name`"),
        ({"tools": ["zoom"], "arguments": {"a": 1}}, "arguments"),
        ({"tools": ["zoom"], "min_pixels": 9, "max_pixels": 8}, "min_pixels"),
        ({"tools": ["zoom"], "frame": "pixels"}, "frame"),
        ({"tools": ["zoom"], "max_turns": 0}, "max_turns"),
    ],
)
def test_contradictory_settings_are_refused(values, problem):
    with pytest.raises(ValidationError, match=problem):
        EnvironmentConfig.model_validate(values)


def test_more_images_than_the_engine_takes_are_refused_before_the_run():
    values = {
        "model": {"path": "m"},
        "prompts": {"rows": "r"},
        "rewards": {"tasks": {"search": "exact_text"}},
        "environment": {"tools": ["zoom"], "max_images": 12},
        "steps": 1,
        "output_dir": "o",
    }
    with pytest.raises(ValidationError, match=r"max_images \(12\) is above engine.images_per_prompt \(8\)"):
        GRPOConfig.model_validate(values)


def test_what_the_environment_says_in_the_end_reaches_the_rewards(engine, processor):
    class Counting(Always):
        def outcome(self, state):
            return {"state": {"turns": state["turns"]}}

    (told,) = play(engine, processor, Counting("look", most=1))
    (cut,) = play(engine, processor, Counting("look"), max_turns=1)
    (silent,) = play(engine, processor, Always("look", most=1))
    assert (told.outcome, cut.outcome, silent.outcome) == (
        {"state": {"turns": 2}},
        {"state": {"turns": 1}},
        None,
    )
    row = {"id": "r", "task": "look", "answer": {"outcome": {"state": {"turns": 2}}}}
    assert told.judged(row)["outcome"] == told.outcome and silent.judged(row) is row
    assert rollout_record_of(told)["outcome"] == told.outcome
    rewards = RewardsConfig.model_validate({"grammar": "none", "tasks": {"look": "outcome"}})
    with Router(rewards) as router:
        requests = [Request(row, told.prompt, 3)]
        (group,) = scored(router.score, requests, [told, cut, silent])
        assert [sample.score.reward for sample in group.samples] == [1.0, 0.0, 0.0]
        with Scorer(router).round(requests) as scoring:
            for place, rollout in enumerate([told, cut, silent]):
                scoring.add(place, rollout)
            assert [score.reward for score in scoring.finish()] == [1.0, 0.0, 0.0]
