"""Preference rows: two different responses of text, by the assistant, to a prompt that asks."""

from __future__ import annotations

import pytest

from core.pairs import check_pair, is_pair, response_text
from core.rows import BrokenRow

ROW = {
    "id": "r",
    "task": "chat",
    "prompt": [{"role": "user", "content": "Which?"}],
    "chosen": "Red.",
    "rejected": "Blue.",
}
TURNS = [
    {"role": "assistant", "content": "Hm."},
    {"role": "user", "content": "So?"},
    {"role": "assistant", "content": "Red."},
]


def test_responses_are_texts_or_turns(tmp_path):
    row = check_pair(ROW | {"rejected": TURNS, "margin": 2}, tmp_path)
    assert row["chosen"] == "Red." and row["rejected"] == TURNS and row["margin"] == 2 and is_pair(row)
    assert response_text(TURNS) == "Hm.\nRed."
    parts = [
        {"role": "assistant", "content": [{"type": "text", "text": "Red"}, {"type": "text", "text": "."}]}
    ]
    assert check_pair(ROW | {"chosen": parts}, tmp_path)["chosen"] == "Red."


WRONG = [
    ({"chosen": None}, "field 'chosen': expected a text or a list of messages, got None"),
    ({"chosen": []}, "field 'chosen': expected a text or a list of messages"),
    ({"rejected": "Red."}, "field 'rejected': expected another response than 'chosen', got the same"),
    ({"rejected": TURNS[:2]}, "field 'rejected': expected messages that begin and end with the assistant's"),
    ({"rejected": [{"role": "assistant", "content": [{"type": "image"}]}]}, "expected text alone"),
    ({"rejected": "<|image_pad|>"}, r"field 'rejected': expected text, got <\|image_pad\|> in it"),
    ({"rejected": 3}, "field 'rejected': expected a text or a list of messages, got 3"),
    ({"margin": float("nan")}, "field 'margin': expected a number of at least 0 or null, got nan"),
    ({"margin": True}, "field 'margin'"),
    (
        {"prompt": [*ROW["prompt"], {"role": "assistant", "content": "x"}]},
        "field 'prompt': expected it to end with a question",
    ),
]


@pytest.mark.parametrize(("change", "message"), WRONG)
def test_other_rows_are_broken(tmp_path, change, message):
    with pytest.raises(BrokenRow) as error:
        check_pair(ROW | change, tmp_path)
    assert message.replace(r"\|", "|") in str(error.value)
