"""Names of models and data sets on the Hugging Face Hub."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from core.errors import UserError
from core.files.shards import SplitError

Kind = Literal["model", "dataset"]
_ID = re.compile(
    r"(?P<repo>[^/@:]+/[^/@:]+)(@(?P<revision>[^@:\s]+))?(:(?P<split>[\w.-]+(/[\w.-]+)*))?", re.ASCII
)
_FILE = re.compile(
    r"\.(jsonl?|parquet|arrow|csv|gz|zst|ya?ml|txt|safetensors|bin|pt|zip|tar)$", re.IGNORECASE
)
FORMS = {
    "model": "a folder, or a model of the Hub as owner/name or owner/name@revision",
    "dataset": "a file, a folder, or a data set of the Hub as owner/name, owner/name@revision or owner/name:split",
}


class HubError(UserError, ValueError):
    """What a setting names is neither here nor to be had from the Hub; the message says why, and what to do."""


@dataclass(frozen=True)
class HubId:
    """revision: branch, tag or commit; None: the default branch. split: of a data set, with its folder if it has one."""

    repo: str
    revision: str | None = None
    split: str | None = None

    def __str__(self) -> str:
        revision, split = (self.revision and f"@{self.revision}"), (self.split and f":{self.split}")
        return f"{self.repo}{revision or ''}{split or ''}"


def hub_id(text: str | Path, kind: Kind) -> HubId | None:
    """The Hub id that a setting names; None for a path: one that exists, or a text that cannot be an id."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    text = str(text)
    match = _ID.fullmatch(text)
    if not match or os.path.lexists(text) or _FILE.search(match["repo"]):
        return None
    if kind == "model" and match["split"]:
        return None
    try:
        validate_repo_id(match["repo"])
    except HFValidationError:
        return None
    return HubId(match["repo"], match["revision"], match["split"])


def needed_id(text: str | Path, kind: Kind) -> HubId:
    """The Hub id that a setting names. HubError for anything else."""
    found = hub_id(text, kind)
    if found is None:
        missing = f"{text}: no such folder" if kind == "model" else f"rows not found: {text}"
        raise HubError(f"{missing}; expected {FORMS[kind]}")
    return found


@contextmanager
def about_splits(wanted: HubId) -> Iterator[None]:
    """A SplitError of the block, as a HubError that says how a split is named."""
    try:
        yield
    except SplitError as error:
        raise HubError(f"{wanted}: {error}; a split is named as {wanted.repo}:SPLIT") from None
