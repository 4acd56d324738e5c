"""Which files hold which split."""

from __future__ import annotations

import pytest

from core.files.shards import SplitError, files_of_split, splits

PUSHED = [f"data/{name}" for name in ("test-00000-of-00001.parquet", "train-00000-of-00002.parquet", "train-00001-of-00002.parquet")]  # fmt: skip


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (PUSHED, {"test": PUSHED[:1], "train": PUSHED[1:]}),
        (["rows-00000-of-00002.jsonl", "rows-00001-of-00002.jsonl", "rejected.jsonl"], {"": ["rows-00000-of-00002.jsonl", "rows-00001-of-00002.jsonl"]}),
        (["train.jsonl", "test_v2.jsonl", "images/a.png"], {"train": ["train.jsonl"], "test": ["test_v2.jsonl"]}),
        (["a/train/0.parquet", "b/train/0.parquet"], {"a/train": ["a/train/0.parquet"], "b/train": ["b/train/0.parquet"]}),
        (["some.parquet", ".hidden/x.parquet"], {"": ["some.parquet"]}),
        (["README.md"], {}),
    ],
)  # fmt: skip
def test_splits_by_name(names, expected):
    assert splits(names) == expected


def test_a_split_is_the_only_one_or_named_or_the_default():
    assert files_of_split(["x.jsonl"], None) == ["x.jsonl"]
    assert files_of_split(PUSHED, "test") == PUSHED[:1]
    assert files_of_split(PUSHED, None, "train") == PUSHED[1:]
    assert files_of_split(["a/train/0.parquet", "b/test/0.parquet"], "test") == ["b/test/0.parquet"]


@pytest.mark.parametrize(
    ("names", "split", "says"),
    [
        (PUSHED, None, "there are several: test, train"),
        (PUSHED, "dev", "expected one of the splits test, train, got 'dev'"),
        (["a/train/0.parquet", "b/train/0.parquet"], "train", "expected one of the splits a/train, b/train"),
        (PUSHED[:2], "train", "expected 2 files of train, as their names say, got 1"),
        (
            ["README.md", "a.csv"],
            None,
            r"expected files of rows \(.parquet, .jsonl, .jsonl.gz\), got README.md, a.csv",
        ),
    ],
)
def test_anything_else_is_an_error_that_lists_the_splits(names, split, says):
    with pytest.raises(SplitError, match=says):
        files_of_split(names, split)
