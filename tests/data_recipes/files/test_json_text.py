"""Cutting JSON text into entries: as a parser would where it is valid, losing one entry where it is not."""

from __future__ import annotations

import io
import json
import random
from typing import Any

import pytest

from data_recipes.files import json_text
from data_recipes.files.json_text import parse_json

STYLES = ({}, {"indent": 0}, {"indent": 2}, {"separators": (",", ":")}, {"ensure_ascii": False})


def made_value(rng: random.Random, depth: int = 0) -> Any:
    kind = rng.random()
    if depth < 3 and kind < 0.3:
        return {
            rng.choice('abé"\\{}[],:') * rng.randint(1, 3): made_value(rng, depth + 1)
            for _ in range(rng.randint(0, 4))
        }
    if depth < 3 and kind < 0.5:
        return [made_value(rng, depth + 1) for _ in range(rng.randint(0, 4))]
    return rng.choice([1, -2.5, None, True, "x", 'a"b', "[{", "\\", "é\u2028", "", "}],{", 1e9, "\n"])


def read(split, text: str) -> list[Any]:
    """Values of the pieces; a piece that is no JSON is its problem."""
    found = []
    for piece in split(io.BytesIO(text.encode())):
        try:
            found.append(piece.problem or parse_json(piece.content))
        except ValueError:
            found.append("no JSON")
    return found


@pytest.mark.parametrize("chunk", [7, 64, 1 << 20])
def test_valid_text_is_cut_as_a_parser_would(chunk, monkeypatch):
    monkeypatch.setattr(json_text, "CHUNK", chunk)
    rng = random.Random(0)
    for _ in range(400):
        values = [made_value(rng) for _ in range(rng.randint(0, 6))]
        style = rng.choice(STYLES)
        assert read(json_text.items, json.dumps(values, **style)) == values
        assert (
            read(json_text.pairs, json.dumps({f"k{i}": v for i, v in enumerate(values)}, **style)) == values
        )
        some = [v for v in values if isinstance(v, dict | list)]
        assert read(json_text.values, "\n".join(json.dumps(v, **style) for v in some)) == some


RECORDS = [{"id": i, "q": "what is [it]?", "a": {"v": [1, 2]}} for i in range(10)]
BROKEN = (
    '{"id": 1, "x": nope}', '{"id": 1, "q": "abc', '{"id": 1, "q": [1, 2}', '{"id": 1, "q": {"v": 1}', '{"id": 1]}',
    "nope", "}", "]", "[1", '{"id": "\xff', '{"id"' + ":1" * 3, "[" * 20_000, '{"a":' * 20_000, '{"id": 1, "q": "a"b"}',
)  # fmt: skip


@pytest.mark.parametrize("at", [0, 4, 9])
@pytest.mark.parametrize("broken", BROKEN, ids=range(len(BROKEN)))
def test_a_broken_entry_costs_nothing_but_itself(broken, at):
    for indent, between in ((None, ",\n"), (1, ",\n"), (None, ",")):
        texts = ["\n ".join(json.dumps(r, indent=indent).split("\n")) for r in RECORDS]
        texts.insert(at, broken)
        lead = "\n " if between == ",\n" else ""
        got = read(json_text.items, f"[{lead}{(between + lead[1:]).join(texts)}{lead[:1]}]")
        if between == "," and at == 0:
            # the start of entries is not known yet
            assert [r for r in got if r in RECORDS][-8:] == RECORDS[-8:]
        else:
            assert [r for r in got if r in RECORDS] == RECORDS and len(got) == 11


def test_pieces_know_their_line_and_place():
    pieces = list(json_text.items(io.BytesIO(b'[\n {"a": 1},\n\n {"a":\n 2}\n]')))
    assert [(p.at, p.line) for p in pieces] == [(0, 2), (1, 4)]
    named = list(json_text.sections(io.BytesIO(b'{"x": {"y": []}, "b": [1, 2], "c": [3]}'), ("b", "c")))
    assert [(name, p.at, p.content) for name, p in named] == [("b", 0, b"1"), ("b", 1, b"2"), ("c", 0, b"3")]


def test_nesting_is_bounded():
    limit = json_text.MAX_DEPTH
    assert parse_json("[" * limit + "]" * limit)
    with pytest.raises(ValueError, match="levels deep"):
        parse_json("[" * (limit + 1) + "]" * (limit + 1))
    assert parse_json(json.dumps("[" * 5000)) == "[" * 5000  # brackets in text are none
