"""Repositories of the Hub in its cache: looked up, and downloaded where files are missing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from glob import escape
from pathlib import Path
from typing import Any

from core.errors import RunError
from core.files.disk import disk_explained, disk_of
from core.files.hub.errors import explained
from core.files.hub.ids import HubError, HubId, Kind, about_splits
from core.files.shards import ROWS, files_of_split, splits

_MODEL_FILES = (".json", ".safetensors", ".jinja", ".txt", ".model", ".md")
FOREIGN = (*ROWS, ".json", ".arrow")
"""Files of data sets in other forms, too, which recipes read."""
ALL = "*"
"""In place of a split: all of them."""


@dataclass(frozen=True)
class Copy:
    """A repository in the cache. folder: of the snapshot. commit: its full hash. names: the files that are there."""

    folder: Path
    commit: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class Found:
    """A repository as the Hub or the cache has it. wanted_files: {file: bytes} of those that are read. folder: of the
    snapshot in the cache, if all of them are there."""

    revision: Any
    wanted_files: Mapping[str, int]
    folder: Path | None

    @property
    def bytes(self) -> int:
        return sum(self.wanted_files.values())


def found(wanted: HubId, kind: Kind, split: str | None = None) -> Found:
    """Look a repository up without downloading it. Raises HubError."""
    from huggingface_hub import HfApi, constants

    with explained(wanted, kind):
        ask: dict[str, Any] = {"repo_type": kind, "revision": wanted.revision}
        revision = HfApi().resolve_revision(wanted.repo, local_files_only=constants.HF_HUB_OFFLINE, **ask)
        sizes = _listed(wanted, kind, revision)
        names = _chosen(wanted, kind, tuple(sizes), split)
        folder = _snapshot(wanted, kind, revision, names)
    return Found(revision, {name: sizes[name] for name in names}, folder)


@cache  # the same commit throughout a process, whatever happens on the Hub
def fetched(wanted: HubId, kind: Kind, split: str | None = None) -> Copy:
    """A repository's files in the cache, the missing ones downloaded. Raises HubError, or RunError for a full disk."""
    seen = found(wanted, kind, split)
    folder, names = seen.folder, tuple(seen.wanted_files)
    if folder is None:
        with explained(wanted, kind):
            _refuse_offline()
            with _alone(wanted, kind):  # another process may have downloaded it meanwhile
                folder = _snapshot(wanted, kind, seen.revision, names) or _download(wanted, kind, seen)
    _used[str(wanted)] = seen.revision.resolved
    if os.environ.get("RANK", "0") == "0":
        _say(f"{wanted}: commit {seen.revision.resolved} of the Hub, in {folder}")
    return Copy(folder, seen.revision.resolved, names)


_used: dict[str, str] = {}


def used_commits() -> dict[str, str]:
    """{Hub id: commit} of everything that this process has taken from the Hub or its cache."""
    return dict(_used)


def _chosen(wanted: HubId, kind: Kind, names: Sequence[str], split: str | None) -> list[str]:
    """The files to have: of a model what transformers and vLLM read, of a data set all but the rows of other splits."""
    if kind == "model":
        chosen = [n for n in names if "/" not in n and n.endswith(_MODEL_FILES)]
        if not any(n.endswith(".safetensors") for n in chosen):
            others = ", ".join(sorted(n for n in names if not n.startswith("."))[:5]) or "nothing"
            raise HubError(f"{wanted}: expected a model with weights in .safetensors files, got {others}")
        return sorted(chosen)
    if split == ALL and not wanted.split:
        return sorted(names)
    with about_splits(wanted):
        rows = files_of_split(names, wanted.split, split, FOREIGN)
    left_out = {name for files in splits(names, FOREIGN).values() for name in files}.difference(rows)
    return sorted(set(names) - left_out)


def _listed(wanted: HubId, kind: Kind, revision: Any) -> dict[str, int]:
    """{file: bytes} of a commit, without a request if the cache knows it."""
    import httpx
    from huggingface_hub import HfApi, get_cached_repo_tree
    from huggingface_hub.errors import CachedRepoTreeNotFoundError, OfflineModeIsEnabled
    from huggingface_hub.hf_api import RepoFile

    ask: dict[str, Any] = {"repo_type": kind, "revision": revision}
    try:
        tree = get_cached_repo_tree(wanted.repo, **ask)
    except CachedRepoTreeNotFoundError:
        try:
            ask["revision"] = revision.resolved
            tree = [
                f
                for f in HfApi().list_repo_tree(wanted.repo, recursive=True, **ask)
                if isinstance(f, RepoFile)
            ]
        except (httpx.TransportError, OfflineModeIsEnabled):  # a cache that an older client has filled
            folder = _repository(wanted, kind) / "snapshots" / revision.resolved
            here = {
                p.relative_to(folder).as_posix(): p.stat().st_size for p in folder.rglob("*") if p.is_file()
            }
            if not here:
                raise
            return here
    return {file.path: file.size for file in tree}


def _snapshot(wanted: HubId, kind: Kind, revision: Any, names: Sequence[str]) -> Path | None:
    """The folder in the cache, if it has all these files."""
    folder = _repository(wanted, kind) / "snapshots" / revision.resolved
    return folder if all((folder / name).is_file() for name in names) else None


def _repository(wanted: HubId, kind: Kind) -> Path:
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    return Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=wanted.repo, repo_type=kind)


def _refuse_offline() -> None:
    from huggingface_hub import constants
    from huggingface_hub.errors import OfflineModeIsEnabled

    if constants.HF_HUB_OFFLINE:
        raise OfflineModeIsEnabled


def _download(wanted: HubId, kind: Kind, seen: Found) -> Path:
    from huggingface_hub import constants, snapshot_download

    advice = "; free some space, or set HF_HOME to a larger disk"
    cache_folder = Path(constants.HF_HUB_CACHE)
    snapshot = _repository(wanted, kind) / "snapshots" / seen.revision.resolved
    missing = sum(size for name, size in seen.wanted_files.items() if not (snapshot / name).is_file())
    with disk_explained(cache_folder, advice):
        if missing > shutil.disk_usage(cache_folder).free:
            raise RunError(
                f"{wanted}: needs {missing:,} bytes in {cache_folder}, and {disk_of(cache_folder)}{advice}"
            )
        _say(f"{wanted}: downloading {missing:,} bytes to {cache_folder}")
        names = [escape(name) for name in seen.wanted_files]
        return Path(
            snapshot_download(wanted.repo, repo_type=kind, revision=seen.revision, allow_patterns=names)
        )


@contextmanager
def _alone(wanted: HubId, kind: Kind) -> Iterator[None]:
    """One process of a machine at a time; where the cache cannot be written, nothing can be downloaded anyway."""
    from huggingface_hub.utils import WeakFileLock

    repository = _repository(wanted, kind)
    file = repository.parent / ".locks" / f"{repository.name}.lock"
    with disk_explained(file):
        file.parent.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(file):
        yield


def _say(text: str) -> None:
    if os.environ.get("ONSIGHT_QUIET") != "1":
        print(text, flush=True)
