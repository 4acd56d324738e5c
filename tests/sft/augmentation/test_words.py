"""Which changes of an image a row's words forbid."""

from __future__ import annotations

import re

import pytest

from sft.augmentation.words import CROP, FLIP, JITTER, forbidden


def row(question: str, reply: str = "", task: str = "chat", **more) -> dict:
    content = [{"type": "image"}, {"type": "text", "text": question}]
    trace = [{"role": "assistant", "content": reply}] if reply else None
    return {"id": "r", "task": task, "prompt": [{"role": "user", "content": content}], "trace": trace} | more


@pytest.mark.parametrize(
    ("change", "why", "word", "text"),
    [
        (FLIP, "a side", "left", "What is left of the dog?"),
        (FLIP, "a side", "Right", "Which car turns? Right one."),
        (FLIP, "a side", "counter-clockwise", "Does the wheel turn counter-clockwise?"),
        (FLIP, "a side", "gauche", "What does the man with gauche hands do?"),
        (FLIP, "a clock", "clock", "What does the clock show?"),
        (FLIP, "a clock", "what time", "So what time is it?"),
        (FLIP, "a clock", "10:45", "The hands are at 10:45."),
        (FLIP, "written text", "written", "What is written there?"),
        (FLIP, "written text", "sign", "Where is the sign?"),
        (FLIP, "written text", "plate", "What is on the license plate?"),
        (FLIP, "written text", "chart", "What does the chart show?"),
        (CROP, "a place in the image", "corner", "What is in the corner?"),
        (CROP, "a place in the image", "second", "It is in the second row."),
        (CROP, "a count", "How many", "How many birds are there?"),
        (CROP, "a count", "three", "There are three birds."),
        (CROP, "a count", "4 birds", "There are 4 birds."),
        (CROP, "the whole image", "entire", "Describe the entire scene."),
        (JITTER, "a colour", "red", "Where is the red car?"),
        (JITTER, "a colour", "colour", "Which colour is it?"),
        (JITTER, "a colour", "greyish", "The greyish one over there."),
        (JITTER, "light", "darker", "Which of them is darker?"),
    ],
)
def test_a_word_forbids_a_change(change, why, word, text):
    found = forbidden(row(text), change)
    assert found == (why, word)
    # wherever it stands
    assert forbidden(row("What is there?", text), change) == (why, word)
    stages = {"summary": "I look.", "caption": text, "reasoning": "It is so.", "conclusion": "yes"}
    assert forbidden(row("What is there?") | {"trace": stages}, change) == (why, word)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (FLIP, "Where is the reduced, topical leaf under the table?"),
        (FLIP, "What animal is it? Answer with the letter of the option."),
        (FLIP, "Which colour is the dog in the middle?"),
        (CROP, "What does the man with the hat hold?"),
        (JITTER, "What is written in the second row, left of the clock?"),
        (JITTER, "Is the reduction shown?"),
    ],
)
def test_other_words_do_not(change, text):
    assert forbidden(row(text), change) is None


@pytest.mark.parametrize("change", [FLIP, CROP, JITTER])
@pytest.mark.parametrize(
    "text", ["图中的狗在做什么？", "Was macht der Hund auf dem Bild?", "Что делает the dog?"]
)
def test_a_text_that_may_be_in_another_language_is_refused(change, text):
    assert forbidden(row(text), change)[0] == "a text that is not known to be English"


@pytest.mark.parametrize(("task", "change"), [("ocr", FLIP), ("math", FLIP), ("counting", CROP)])
def test_some_tasks_are_refused_in_whatever_words(task, change):
    assert forbidden(row("What is it?", task=task), change)[1] == f"task {task}"


def test_options_and_values_are_read_system_messages_and_observations_are_not():
    assert forbidden(row("Where is it?", answer={"letter": "A", "options": ["to the left", "behind"]}), FLIP)
    assert forbidden(row("Where is it?", answer={"box": [0, 0, 1, 1], "frame": "norm1"}), FLIP) is None
    quiet = row("Where is it?")
    quiet["prompt"].insert(0, {"role": "system", "content": "Boxes are top left, bottom right corner."})
    quiet["trace"] = [
        {"role": "assistant", "content": "I look at it."},
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Written on the left."}]},
        {"role": "assistant", "content": "It is there."},
    ]
    assert forbidden(quiet, FLIP) is None and forbidden(quiet, CROP) is None


def test_a_user_may_forbid_more_words():
    more = re.compile("port", re.IGNORECASE)
    assert forbidden(row("Where is the ship's port side?"), FLIP) is None
    assert forbidden(row("Where is the ship's port side?"), FLIP, more) == ("a word of refuse_words", "port")
