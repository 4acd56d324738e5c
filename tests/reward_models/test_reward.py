"""A reward model as a reward: behind the router and the service, on texts that its template holds and on others."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
import torch
import yaml
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from core.rows import read_rows
from reward_models import scoring
from reward_models.card import read_card
from reward_models.forward import packed_scores
from reward_models.reward import RewardModel
from rewards.config import RewardsConfig
from rewards.errors import PluginError, RewardDataError
from rewards.router import Router
from rl.prompts.sampling import result_of
from tests.reward_models.test_loop import scores_of, train
from tests.rewards.serving.test_service import Service


@pytest.fixture(scope="module")
def trained(tiny, pairs_file, tmp_path_factory) -> Path:
    return train(tiny, pairs_file, tmp_path_factory.mktemp("rm") / "run", steps=12)


@pytest.fixture(scope="module")
def text_model(tiny, text_pairs_file, tmp_path_factory) -> Path:
    return train(tiny, text_pairs_file, tmp_path_factory.mktemp("text") / "run", steps=12, kind="text")


def routed(*functions: dict, grammar: str = "none") -> Router:
    return Router(RewardsConfig(grammar=grammar, tasks={"chat": list(functions)}))


def ids(rows) -> list[str]:
    return [row["id"] for row in rows]


def test_a_reward_is_the_score_by_the_map_of_the_checkpoint(trained, pairs_file):
    rows = read_rows(pairs_file)
    with routed({"function": "reward_model", "path": str(trained)}) as router:
        router.check_rows(rows)
        scores = router.score(rows, [row["chosen"] for row in rows], group_ids=ids(rows))
        metrics = router.pop_metrics()
    card, raw = read_card(trained), scores_of(trained, pairs_file)[0::2]
    for score, expected in zip(scores, raw, strict=True):
        assert score.reward == pytest.approx(card.reward(expected), abs=1e-5)
    assert metrics["reward_model/score"].value == pytest.approx(sum(raw) / len(raw), abs=1e-4)


def test_a_reward_model_is_never_shown_a_text_outside_its_template(trained, pairs_file, monkeypatch):
    rows = read_rows(pairs_file)[:4]
    texts = ["", "red <|im_end|> red", "red " * 5000, "a red tile"]
    function = RewardModel(str(trained))
    shown = []

    def recorded(model, packed):
        shown.append(packed.layout.continuations)
        return packed_scores(model, packed)

    monkeypatch.setattr(scoring, "packed_scores", recorded)
    results = function(
        texts, [r["prompt"] for r in rows], [r["images"] for r in rows], [r["videos"] for r in rows]
    )
    assert [r.get("reason") for r in results] == ["empty", "special_token", "too_long", None]
    assert [r["reward"] for r in results[:3]] == [0.0, 0.0, 0.0] and 0 < results[3]["reward"] < 1
    assert [len(group) for batch in shown for group in batch] == [1]
    with routed({"function": "reward_model", "path": str(trained)}, grammar="stages") as router:
        (broken, whole) = router.score(rows[:2], ["no stages", stages("a red tile")], group_ids=ids(rows[:2]))
        assert broken.reward == 0.0  # not called
        (alone,) = function(["a red tile"], [rows[1]["prompt"]], [rows[1]["images"]], [rows[1]["videos"]])
        assert whole.reward == pytest.approx(alone["reward"], abs=1e-5)  # of the conclusion alone


def test_equal_completions_of_a_prompt_get_equal_rewards(trained, pairs_file, monkeypatch):
    """What larger models' scores do by rounding, this one's are made to do: they depend a little on the place in the batch."""

    def rounded(model, packed):
        scores = packed_scores(model, packed)
        return scores + 1e-6 * torch.arange(len(scores))

    monkeypatch.setattr(scoring, "packed_scores", rounded)
    rows = list({row["images"][0]: row for row in read_rows(pairs_file) if row["images"]}.values())[:2]
    groups = [["a red tile", "red", "a red tile", "red", "blue"], ["a red tile"] * 5]
    asked = [(row, text) for row, texts in zip(rows, groups, strict=True) for text in texts]
    mixed = asked[1::2] + asked[::2]  # the groups of a step come in any order
    with routed({"function": "reward_model", "path": str(trained)}) as router:
        several = [row for row, _ in mixed]
        scores = router.score(several, [text for _, text in mixed], group_ids=ids(several))
    by_place = dict(zip([*range(1, 10, 2), *range(0, 10, 2)], scores, strict=True))
    rewards = [by_place[place].reward for place in range(10)]
    assert rewards[0] == rewards[2] and rewards[1] == rewards[3]
    assert len(set(rewards[:5])) == 3 and rewards[0] != rewards[5]  # other texts, and another image
    assert [result_of(group) for group in (rewards[:5], rewards[5:])] == ["signal", "zero_signal"]


def stages(conclusion: str) -> str:
    return f"<SUMMARY>s</SUMMARY><CAPTION>c</CAPTION><REASONING>r</REASONING><CONCLUSION>{conclusion}</CONCLUSION>"


def test_rows_that_it_cannot_be_asked_about_are_errors_before_the_run(trained, text_model, pairs_file):
    row = read_rows(pairs_file)[0]
    router = routed({"function": "reward_model", "path": str(text_model)})
    with router, pytest.raises(RewardDataError, match=r"row 'pair0': .*expected text alone"):
        router.check_rows([row])
    with routed({"function": "reward_model", "path": str(trained)}) as router:
        long = row | {"prompt": [{"role": "user", "content": "red " * 5000}], "images": []}
        with pytest.raises(
            RewardDataError, match="expected room for a response within the reward model's 4096 tokens"
        ):
            router.check_rows([long])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"path": "/nowhere"}, "no such folder"),
        ({"path": "/tmp", "dtype": "int8"}, "expected dtype float32, bfloat16 or float16"),
        ({"path": "/tmp", "std": 0}, "expected a std above 0"),
        ({"path": "/tmp", "devise": "cuda"}, "did you mean 'device'"),
    ],
)
def test_a_wrong_configuration_is_an_error_at_the_start(arguments, message):
    with pytest.raises(PluginError, match=message):
        routed({"function": "reward_model", **arguments})


def test_any_text_classifier_with_one_label_is_loaded_from_its_path(text_model, text_pairs_file, tmp_path):
    """One without our card, asked as its authors do: the whole chat template, batch by batch, padded."""
    folder = tmp_path / "classifier"
    model = AutoModelForSequenceClassification.from_pretrained(text_model)
    tokenizer = AutoTokenizer.from_pretrained(text_model)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    rows = read_rows(text_pairs_file)
    function = RewardModel(str(folder), mean=1.0, std=2.0)
    results = function([row["rejected"] for row in rows], [row["prompt"] for row in rows])
    for row, result in zip(rows, results, strict=True):
        turns = [{"role": "user", "content": row["prompt"][0]["content"][0]["text"]}]
        turns.append({"role": "assistant", "content": row["rejected"]})
        text = tokenizer.apply_chat_template(turns, tokenize=False)
        ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")
        with torch.no_grad():
            expected = float(model(**ids).logits[0, 0])
        assert result["score"] == pytest.approx(expected, abs=1e-5)
        assert result["reward"] == pytest.approx(
            1 / (1 + torch.tensor(-(expected - 1) / 2).exp().item()), abs=1e-5
        )
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"id2label": {"0": "a", "1": "b"}}))
    with pytest.raises(PluginError, match="expected a sequence classifier with one label, got 2 labels"):
        routed({"function": "reward_model", "path": str(folder)})


@pytest.mark.slow
def test_scores_stay_right_while_the_service_is_killed_and_restarted(trained, pairs_file, tmp_path):
    rows = read_rows(pairs_file) * 4
    texts = [row[field] for row, field in zip(rows, ["chosen", "rejected"] * len(rows))]
    with routed({"function": "reward_model", "path": str(trained)}) as router:
        expected = [score.reward for score in router.score(rows, texts, group_ids=ids(rows))]
    file = tmp_path / "service.yaml"
    file.write_text(yaml.safe_dump({"functions": [{"function": "reward_model", "path": str(trained)}]}))
    service = Service((), "--config", str(file))
    try:
        remote = {"function": "http", "url": service.url, "name": "reward_model", "batch_size": 8}
        with routed(remote) as router:
            router.check_rows(rows)
            found: list[list[float | None]] = []

            def score() -> None:
                for _ in range(6):
                    found.append([one.reward for one in router.score(rows, texts, group_ids=ids(rows))])

            thread = threading.Thread(target=score)
            thread.start()
            while not found:
                thread.join(0.05)
            service.kill()
            service.start()
            thread.join()
    finally:
        service.stop()
    assert len(found) == 6
    assert all(one == pytest.approx(expected, abs=1e-6) for one in found)
