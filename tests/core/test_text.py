"""Values in messages stay short."""

from __future__ import annotations

from core.text import short, short_words


def test_a_long_value_is_cut_and_its_length_told():
    said = short("data:image/png;base64," + "iVBORw0KGgo" * 40_000)
    assert len(said) < 250 and said.startswith("'data:image/png;base64,") and "(440,024 characters)" in said
    assert short({"a": 1}) == "{'a': 1}"


def test_only_endless_words_of_a_message_are_cut():
    text = "rows.jsonl:3: expected a path, got " + "A" * 5000 + " (str)\n" + "a few words " * 100
    said = short_words(text)
    assert len(said) < len(text) - 4700 and said.startswith("rows.jsonl:3: expected a path, got AAAA")
    assert said.endswith("(str)\n" + "a few words " * 100)
