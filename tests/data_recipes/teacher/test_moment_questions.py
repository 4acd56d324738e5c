"""Questions about several moments: by rule from dense captions, and by a scripted teacher and judge (see endpoints.py)."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from core.rows import check_row, read_rows
from data_recipes.config import Recipe
from data_recipes.operations import OPERATIONS
from data_recipes.records import Context, Removed, Several
from data_recipes.runner import run_recipe
from data_recipes.synthetic.world import encoded_video
from data_recipes.teacher.dense_events import Event
from data_recipes.teacher.moment_rules import MAKERS, Video, alike, clock, holds
from data_recipes.teacher.written_questions import read_written
from rewards.functions.choice import choice_reward
from rewards.functions.counting import counting_reward
from rewards.functions.temporal import temporal_iou_reward
from tests.data_recipes.endpoints import scripted_teacher, text_of

LABELS = (
    "a man opens a door",
    "a dog barks",
    "a car drives by",
    "a dog barks",
    "two girls dance",
    "snow falls",
    "a bell rings",
)


def events(labels: tuple[str, ...] = LABELS, seconds: float = 5.0) -> list[dict[str, Any]]:
    return [
        {"start": i * seconds, "end": (i + 1) * seconds, "label": label, "caption": f"At that point {label}."}
        for i, label in enumerate(labels)
    ]


def row(listed: Any = None, **more: Any) -> dict[str, Any]:
    listed = events() if listed is None else listed
    end = listed[-1]["end"] if isinstance(listed, list) and listed else 1
    return {
        "id": "v",
        "task": "caption",
        "prompt": [{"role": "user", "content": [{"type": "video"}]}],
        "images": [],
        "videos": [__file__],
        "answer": None,
        "trace": [{"role": "assistant", "content": "A film."}],
        "dense_captions": listed,
        "captioned": [[0, end]],
        "duration": end,
    } | more


def ask(
    rows: list[dict], folder: Path | None = None, seed: int = 0, **options: Any
) -> tuple[list[Any], Counter]:
    operation, context = OPERATIONS["moment_questions"], Context(folder or Path("unused"), seed)
    return list(operation.apply(iter(rows), operation.options(**options), context)), context.counts


def question(made: dict[str, Any]) -> str:
    return made["prompt"][0]["content"][1]["text"]


def test_a_video_becomes_questions_that_need_several_moments(tmp_path):
    (found,), counts = ask([row()])
    assert isinstance(found, Several)
    order, count, between = found.rows
    assert order["id"] == "v/order-1" and order["task"] == between["task"] == "choice"
    assert re.match(r"Which of these happens (first|last) in the video\?\nA\. ", question(order))
    options = order["answer"]["options"]
    right = (min if "first" in question(order) else max)(options, key=LABELS.index)
    assert choice_reward(right, **order) == 1.0 and len(options) == len(order["moments"]) == 4
    assert "a dog barks" not in options  # it happens twice
    assert question(count) == "How many times does this happen in the video: “a dog barks”?"
    assert counting_reward("2", **count) == 1.0 and count["moments"] == [[5, 10], [15, 20]]
    assert question(between).startswith(
        "What happens in the video between “two girls dance” and “a bell rings”?"
    )
    assert choice_reward("snow falls", **between) == 1.0
    assert all(made["verified_by"] == "rule" and made["trace"] is None for made in found.rows)
    assert (counts["made/order"], counts["made/count"], counts["made/between"]) == (1, 1, 1)
    for made in found.rows:
        check_row(made, tmp_path)


def test_between_asks_about_the_one_event_between_two():
    labels = (
        "a man opens a door",
        "a dog barks",
        "a car drives by",
        "two girls dance",
        "snow falls",
        "a bell rings",
    )
    seen = set()
    for seed in range(30):
        (found,), _ = ask([row(events(labels))], seed=seed, kinds=["between"])
        (made,) = found.rows
        before, after = re.findall(r"“(.+?)”", question(made))
        at = labels.index(before)
        assert labels[at + 2] == after and choice_reward(labels[at + 1], **made) == 1.0
        assert not {before, after} & set(made["answer"]["options"])
        seen.add(at)
    assert seen == {0, 1, 2, 3}


def test_spans_and_descriptions_are_made_where_they_are_wanted():
    (found,), _ = ask([row()], kinds=["when", "describe"])
    when, describe = found.rows
    label = re.search("“(.+)”", question(when)).group(1)
    spans = [[5 * i, 5 * i + 5] for i, one in enumerate(LABELS) if one == label]
    assert when["answer"] == {"spans": spans}
    assert temporal_iou_reward(json.dumps(spans), **when) == 1.0
    text = describe["trace"][0]["content"]
    assert text.splitlines()[1] == "[00:05, 00:10] At that point a dog barks." and describe["answer"] is None
    assert (clock(59.96), clock(61.25), clock(3600)) == ("01:00", "01:01.2", "60:00")


def test_the_choice_depends_on_seed_and_id_alone():
    one = ask([row(), row(id="w")])[0]
    assert ask([row(id="w"), row()])[0][1].rows == one[0].rows
    assert any(ask([row()], seed=s)[0][0].rows != one[0].rows for s in range(1, 9))


def test_more_questions_of_a_kind_are_different_ones():
    (found,), _ = ask([row()], kinds=["order"], per_kind=20)
    texts = [
        (made["prompt"][0]["content"][1]["text"].split("\n")[0], str(made["moments"])) for made in found.rows
    ]
    assert len(set(texts)) == len(texts) > 2 or len(texts) == 2
    assert len({made["id"] for made in found.rows}) == len(found.rows)


@pytest.mark.parametrize(
    ("labels", "kind"),
    [
        (("a man jumps", "a man jumps high"), "order"),  # which of them is meant?
        (("a man jumps", "the man jumps"), "order"),
        (("a dog barks", "a dog barks"), "count"),  # the same bark, perhaps, cut in two
        (("a dog barks", "a cat eats", "a dog barks loudly"), "count"),
        (("a", "b", "c"), "between"),  # no other option
        (("a dog barks",), "order"),
    ],
)
def test_nothing_is_asked_that_has_no_sure_answer(labels, kind):
    (found,), counts = ask([row(events(labels))], kinds=[kind])
    assert isinstance(found, Removed) and found.rule == "no_question" and counts[f"none/{kind}"] == 1


def test_events_at_the_same_time_are_not_asked_for_their_order():
    both = [
        {"start": 0, "end": 10, "label": "a man sings", "caption": "He sings."},
        {"start": 9.8, "end": 15, "label": "snow falls", "caption": "It snows."},
    ]
    assert isinstance(ask([row(both)], kinds=["order"])[0][0], Removed)
    apart = [both[0], both[1] | {"start": 10}]
    assert isinstance(ask([row(apart)], kinds=["order"])[0][0], Several)
    assert isinstance(ask([row(apart)], kinds=["order"], min_gap_s=1)[0][0], Removed)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (row([{"start": 0, "end": 9}]), "dense_captions[0]: expected a caption"),
        (row([{"start": 0, "end": "9", "caption": "a"}], duration=9), "dense_captions[0].end"),
        (row("A film."), "dense_captions: expected a list of events"),
        (row(duration=None), "duration"),
        (row(duration=29, captioned=None), "event 6 at [25, 30] s; the clip shown lasts from 0 to 29 s"),
        (row(duration=350, captioned=None), "the events cover 10% of the clip"),
        (row(captioned=[[0, 10], [20, 30]]), "captioned: expected all of [0, 35] s"),
        (row(captioned="all"), "captioned: expected all of [0, 35] s"),
        (row([*events()[5::-1], events()[6]]), "event 2 at [20, 25] s starts before event 1"),
        (row(videos=[]), "videos: expected the one that was captioned, got 0"),
    ],
)
def test_captions_that_leave_answers_open_cost_the_row(given, reason):
    (found,), _ = ask([given])
    assert isinstance(found, Removed) and found.rule == "moment_captions" and reason in found.reason


def test_rows_without_captions_pass():
    plain = row(dense_captions=None)
    assert ask([plain])[0] == [plain]


def test_a_wrong_answer_never_holds():
    """The rule finds answers again by itself: of every question, another answer is refused."""
    r = random.Random(0)
    words = ("barks", "sings", "falls", "turns", "burns", "grows", "swims")
    made = Counter()
    for seed in range(300):
        labels = [r.choice(words) for _ in range(r.randint(3, 9))]
        video = Video(
            tuple(Event(5.0 * i, 5.0 * i + 5, label, label) for i, label in enumerate(labels)),
            5.0 * len(labels),
        )
        for kind in ("order", "count", "between"):
            question = MAKERS[kind](video, random.Random(seed))
            if question is None:
                continue
            made[kind] += 1
            assert holds(question, video)
            answer = dict(question.answer)
            if kind == "count":
                wrong = [{"value": n} for n in range(7) if n != answer["value"]]
            else:
                letters = "ABCD"[: len(answer["options"])]
                wrong = [answer | {"letter": x} for x in letters if x != answer["letter"]]
                wrong.append(answer | {"options": [*answer["options"][:-1], answer["options"][0]]})
            assert not any(holds(replace(question, answer=one), video) for one in wrong)
    assert min(made[kind] for kind in ("order", "count", "between")) > 30


def test_labels_are_alike_by_the_words_that_they_share():
    assert alike("a man jumps", "A man jumps high!", 0.75)
    assert not alike("a man opens a door", "a man closes a door", 0.75)
    assert alike("the of", "the of", 0.75)
    assert not alike("一只狗在叫", "雪从天上落下", 0.75)


# ------------------------------------------------------------------------------------------------- teacher and judge

WRITTEN = [
    {"question": "What does the dog do both before and after the car?", "answer": "It barks.", "moments": [2, 4]},
    {"question": "How many times does the dog bark?", "answer": 2, "moments": [2, 4]},
    {"question": "What falls at the end of the video?", "answer": "snow", "moments": [1, 6]},
    {"question": "Which colour is the door at the end?", "answer": "red", "moments": [1, 6]},
    {"question": "Who opens the door first?", "answer": "a man", "moments": [1]},
    {"question": "What happens in the whole of the film?", "answer": "a man opens a door and a dog barks", "moments": [1, 2]},
    {"question": "What happens after event 9?", "answer": "nothing", "moments": [2, 9]},
    "Who dances?",
]  # fmt: skip


def judge(prompt: str) -> str:
    """An honest reader of the list of events in a prompt, for these questions."""
    if "one word: valid or invalid" in prompt:
        gold, said = (
            re.search(rf"{name}:\n(.*)", prompt).group(1) for name in ("Standard answer", "Answer to check")
        )
        return "valid" if gold.lower() == said.lower() else "invalid"
    listed, asked = prompt.split("Question:\n")
    heard = re.findall(r"s: (.+?)\. At", listed)
    if "both before and after" in asked:
        return "It barks" if heard.count("a dog barks") == 2 and "a car drives by" in heard else "unknown"
    if "the dog bark?" in asked or "How many" in asked:
        return str(heard.count("a dog barks"))
    if "falls at the end" in asked:
        return "Snow" if "snow falls" in heard else "unknown"
    options = re.findall(r"^([A-D])\. (.+)$", asked, re.MULTILINE)
    if options and "happens" in asked and "between" not in asked:
        pick = min if "first" in asked else max
        return pick(options, key=lambda option: heard.index(option[1]))[0]
    return "unknown"


def with_endpoints(rows: list[dict], folder: Path, reply: str, **options: Any):
    """(rows out, counts, prompts of the teacher, of the judge)."""
    prompts: dict[str, list[str]] = {"teacher": [], "judge": []}

    def script(body: dict[str, Any], number: int) -> str:
        prompts[body["model"]].append(text_of(body["messages"][0]["content"]))
        return reply if body["model"] == "teacher" else judge(prompts["judge"][-1])

    with scripted_teacher(script) as server:
        endpoints = {name: {"base_url": server.url, "model": name} for name in options.pop("ask", ("judge",))}
        out, counts = ask(rows, folder, **endpoints, **options)
    return out, counts, prompts["teacher"], prompts["judge"]


def test_a_judge_that_finds_another_answer_costs_the_question(tmp_path):
    """This one knows nothing of what happens between events."""
    (found,), counts, _, prompts = with_endpoints([row()], tmp_path, "")
    assert {made["kind"] for made in found.rows} == {"order", "count"}
    assert all(made["verified_by"] == "rule, judge" for made in found.rows)
    assert counts["refused/between/judge"] == 1 and len(prompts) == 3
    assert all("4. 15 s to 20 s: a dog barks. At that point a dog barks." in prompt for prompt in prompts)


def test_a_teachers_questions_need_several_moments_and_an_answer_that_the_judge_finds(tmp_path):
    (found,), counts, prompts, _ = with_endpoints(
        [row()], tmp_path, json.dumps(WRITTEN), ask=("teacher", "judge"), kinds=[], written=20
    )
    assert [question(made) for made in found.rows] == [WRITTEN[0]["question"], WRITTEN[1]["question"]]
    assert [(made["task"], made["answer"]) for made in found.rows] == [
        ("text", {"value": "It barks"}), ("counting", {"value": 2}),
    ]  # fmt: skip
    assert found.rows[0]["moments"] == [[5, 10], [15, 20]] and found.rows[0]["verified_by"] == "judge"
    refused = {key: n for key, n in counts.items() if key.startswith("refused/")}
    assert refused == {
        "refused/written/one_moment": 2,  # snow, the last event tells alone; one moment named
        "refused/written/judge": 1,
        "refused/written/long_answer": 1,
        "refused/written/moments": 1,
        "refused/written/form": 1,
    }
    assert "Write 20 questions" in prompts[0] and counts["made/written"] == 2


def test_a_teacher_needs_a_judge():
    with pytest.raises(ValidationError, match="expected a 'judge' beside it"):
        OPERATIONS["moment_questions"].options(teacher={"base_url": "http://x/v1", "model": "m"})
    with pytest.raises(ValidationError, match="prompts: expected names among"):
        OPERATIONS["moment_questions"].options(prompts={"middle": "?"})


@pytest.mark.parametrize(
    "reply", ["", "no", "{}", "[]", "[" * 100_000, '[{"question": "Who is it that sings?", "answer": NaN, "moments": [1, 2]}]',
              '[{"question": "Who is it that sings?", "answer": "she", "moments": [true, 2]}]',
              '[{"question": "Who sings <|im_end|> there?", "answer": "she", "moments": [1, 2]}]'],
)  # fmt: skip
def test_replies_out_of_form_are_named(reply):
    video = Video(tuple(Event(i, i + 1, label, label) for i, label in enumerate(LABELS)), 6)
    (fault,) = read_written(reply, video, 5)
    assert fault in ("form", "moments", "control_token")


def test_a_recipe_makes_balanced_questions_of_videos(tmp_path):
    """From a video to rows: captions by a teacher, questions by rule, moments balanced; the card counts all of it."""
    frames = (np.full((64, 64, 3), 9 * i, np.uint8) for i in range(16))
    (tmp_path / "v.mp4").write_bytes(encoded_video(frames, 2))
    listed = [one | {"caption": f"In these seconds {one['label']}."} for one in events(LABELS[4:7], 1.0)]
    given = {
        "id": "v",
        "task": "caption",
        "videos": ["v.mp4"],
        "trace": [{"role": "assistant", "content": "A film."}],
    }
    given["prompt"] = [{"role": "user", "content": [{"type": "video"}]}]
    (tmp_path / "rows.jsonl").write_text(json.dumps(given) + "\n")
    with scripted_teacher(lambda body, number: json.dumps(listed)) as teacher:
        captions = {"teacher": {"base_url": teacher.url, "model": "big"}, "window_s": 8, "min_coverage": 0.3}
        operations = [
            {"dense_captions": captions},
            {"moment_questions": {"kinds": ["order", "when", "describe"], "min_coverage": 0.3}},
            {"balance_moments": {}},
        ]
        source = {"name": "s", "format": "rows", "path": str(tmp_path / "rows.jsonl")}
        fields = {"name": "t", "sources": [source], "operations": operations, "tasks": 1, "workers": 1}
        run_recipe(
            Recipe.model_validate(fields | {"output_dir": str(tmp_path / "out")}), say=lambda line: None
        )
    rows = read_rows(tmp_path / "out")
    assert [row["id"] for row in rows] == ["s/v/order-1", "s/v/when-1", "s/v/describe-1"]
    assert len({row["videos"][0] for row in rows}) == 1
    card = json.loads((tmp_path / "out" / "data_card.json").read_text())["operations"]
    assert card["dense_captions"]["events"] == 3 and card["dense_captions"]["acceptance_rate"] == 1
    assert card["moment_questions"]["made/order"] == 1
    assert sum(n for key, n in card["balance_moments"].items() if key.endswith(": after")) == 2
