"""Recipes say what is wrong with them."""

from __future__ import annotations

import pytest

from core.config import ConfigError, read_config
from data_recipes.config import Recipe

BASE = """
name: t
sources:
  - {name: a, format: rows, path: a.jsonl}
output_dir: out
"""


def read(tmp_path, text: str, *overrides: str) -> Recipe:
    (tmp_path / "r.yaml").write_text(text)
    return read_config(Recipe, tmp_path / "r.yaml", overrides)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BASE.replace("rows,", "rowz,"), r"unknown format 'rowz', did you mean 'rows'\?"),
        (
            BASE.replace("a.jsonl}", "a.jsonl, options: {depth: 2}}"),
            r"source 'a', options: depth: Extra inputs",
        ),
        (BASE + "operations: [dedupe]", r"operations\[0\]: operation 'dedupe', did you mean 'dedup'\?"),
        (BASE + "operations: [{dedup: {thresold: 1}}]", r"operations\[0\].dedup: thresold: Extra inputs"),
        (BASE + "mixture: {weights: {source: {b: 2}}}", r"unknown source in mixture.weights.source 'b'"),
        (BASE + "output: {path: out}", r"yaml:6: key 'output.path' is now called 'output_dir'"),
        (BASE + "mixtur: {}", r"did you mean 'mixture'\?"),
        (BASE + "output: {media: embed}", r"media: embed needs format: parquet"),
        (
            BASE.replace("path: a.jsonl}", "path: a.jsonl}\n  - {name: a, format: rows, path: b.jsonl}"),
            r"expected unique names, got 'a' 2 times",
        ),
    ],
)
def test_mistakes_are_named(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message):
        read(tmp_path, text)


def test_the_digest_is_of_what_is_made_alone(tmp_path):
    digest = read(tmp_path, BASE).digest()
    assert read(tmp_path, BASE, "workers=7", "output_dir=elsewhere").digest() == digest
    for change in ("seed=1", "tasks=2", "sources.0.limit=3", "output.format=parquet", "operations=[dedup]"):
        assert read(tmp_path, BASE, change).digest() != digest, change
