"""Which files of a data set's repository hold the rows of which split, by their names as model hubs and recipes write them.

rows-00000-of-00004.jsonl            a recipe's output: no split
data/train-00000-of-00002.parquet    split train
default/train/0000.parquet           split train of the folder default
train.jsonl, test_v2.jsonl           splits train and test
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

ROWS = (".parquet", ".jsonl", ".jsonl.gz")
SPLITS = ("train", "training", "validation", "valid", "val", "dev", "test", "testing", "testmini", "eval")
_SHARD = re.compile(r"(.+?)-(\d{5})-of-(\d{5})")
_OWN = re.compile(r"rows-[^/]*\.(jsonl|jsonl\.gz|parquet)")


class SplitError(ValueError):
    """Not exactly one split is meant, or its files are not all there; the message says which splits there are."""


def split_of(name: str) -> str:
    """The split named by a file's name; "" if there is none."""
    if match := _SHARD.match(name):
        return "" if match.group(1) == "rows" else match.group(1)
    first = re.split(r"[-_]", name.split(".")[0])[0]
    return first if first in SPLITS else ""


def splits(names: Sequence[str], endings: Sequence[str] = ROWS) -> dict[str, list[str]]:
    """{"split", "folder/split", "folder" or "": files} of a repository's file names; hidden files are left out.

    A recipe's own shards, where there are any, are all that counts, then Parquet, then the other endings. A folder named
    data, or that holds everything, is not part of a split's name.
    """
    visible = sorted(n for n in names if not any(p.startswith(".") for p in PurePosixPath(n).parts))
    found = [n for n in visible if _OWN.fullmatch(n)] or [n for n in visible if n.endswith(".parquet")]
    found = found or [n for n in visible if n.lower().endswith(tuple(endings))]
    keys = {name: _folder_and_split(name) for name in found}
    one_folder = len({folder for folder, _ in keys.values()}) == 1
    groups: dict[str, list[str]] = {}
    for name, (folder, split) in keys.items():
        shown = "" if one_folder or folder == "data" else folder
        groups.setdefault("/".join(filter(None, (shown, split))), []).append(name)
    return groups


def files_of_split(
    names: Sequence[str], split: str | None, default: str | None = None, endings: Sequence[str] = ROWS
) -> list[str]:
    """The files of one split: the only one, `split`, or without it `default`. Raises SplitError."""
    return _whole(splits(names, endings)[name_of_split(names, split, default, endings)])


def name_of_split(
    names: Sequence[str], split: str | None, default: str | None = None, endings: Sequence[str] = ROWS
) -> str:
    """Its key in `splits`. Raises SplitError where it is not one of them."""
    groups = splits(names, endings)
    if not groups:
        others = ", ".join(sorted(names)[:5]) or "nothing"
        raise SplitError(f"expected files of rows ({', '.join(endings)}), got {others}")
    known = ", ".join(name or "(no name)" for name in groups)
    if split is not None:
        fitting = [g for g in groups if g == split] or [g for g in groups if g.split("/")[-1] == split]
        if len(fitting) != 1:
            raise SplitError(f"expected one of the splits {known}, got {split!r}")
        return fitting[0]
    if len(groups) == 1:
        return next(iter(groups))
    if default in groups:
        return str(default)
    raise SplitError(f"expected the name of a split, since there are several: {known}")


def _folder_and_split(name: str) -> tuple[str, str]:
    path = PurePosixPath(name)
    folder, split = path.parent.as_posix(), split_of(path.name)
    if not split and path.parent.name in SPLITS:
        folder, split = path.parent.parent.as_posix(), path.parent.name
    return ("" if folder == "." else folder), split


def _whole(files: list[str]) -> list[str]:
    """The files, if no shard of `NAME-00000-of-00003` is missing."""
    for name in files:
        if match := _SHARD.match(PurePosixPath(name).name):
            stem, total = match.group(1), int(match.group(3))
            there = [f for f in files if _SHARD.match(PurePosixPath(f).name)]
            if len(there) != total:
                raise SplitError(f"expected {total} files of {stem}, as their names say, got {len(there)}")
    return files
