"""Models and data sets of the Hugging Face Hub, named in a config as `owner/name`, downloaded into the Hub's own cache.

    owner/name                  the default branch
    owner/name@revision         a branch, a tag or a commit
    owner/name:split            of a data set; `:folder/split` where its files lie in several folders
    owner/name@revision:split

A path that exists is always meant as a path. Downloads are `huggingface_hub`'s, and so are the settings (HF_HOME,
HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE); files that are complete are not fetched again.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from glob import escape
from pathlib import Path
from typing import Any, Literal

from core.errors import RunError, UserError
from core.files.disk import disk_explained, disk_of
from core.files.shards import ROWS, SPLITS, SplitError, files_of_split, name_of_split, splits

Kind = Literal["model", "dataset"]
_ID = re.compile(
    r"(?P<repo>[^/@:]+/[^/@:]+)(@(?P<revision>[^@:\s]+))?(:(?P<split>[\w.-]+(/[\w.-]+)*))?", re.ASCII
)
_FILE = re.compile(
    r"\.(jsonl?|parquet|arrow|csv|gz|zst|ya?ml|txt|safetensors|bin|pt|zip|tar)$", re.IGNORECASE
)
_MODEL_FILES = (".json", ".safetensors", ".jinja", ".txt", ".model", ".md")
_FORMS = {
    "model": "a folder, or a model of the Hub as owner/name or owner/name@revision",
    "dataset": "a file, a folder, or a data set of the Hub as owner/name, owner/name@revision or owner/name:split",
}


TRAIN = "train"
"""The split to train on, where a data set has several and its id names none."""


PIN = "the Hub has changed while the processes were starting: start again, or pin the commit (owner/name@commit)"
FOREIGN = (*ROWS, ".json", ".arrow")
"""Files of data sets in other forms, too, which recipes read."""
ALL = "*"
"""In place of a split: all of them."""


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


@dataclass(frozen=True)
class Copy:
    """A repository in the cache. folder: of the snapshot. commit: its full hash. names: the files that are there."""

    folder: Path
    commit: str
    names: tuple[str, ...]


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


def model_folder(text: str | Path) -> Path:
    """A path that exists as it is; of a Hub id the folder in the cache, downloaded where it is not there. Raises HubError."""
    path = Path(text).expanduser()
    return path if path.exists() else fetched(_needed(text, "model"), "model").folder


def rows_files(text: str | Path, split: str | None = None, *, made: bool = True) -> list[Path]:
    """Where rows are: `[path]` if it exists; of a Hub id the files of one split, downloaded where they are not there, or the
    folder of rows that a recipe has made of them.

    split: which one, where the id names none and the data set has several. made: look for what a recipe has made.
    Raises HubError.
    """
    path = Path(text).expanduser()
    if path.exists():
        return [path]
    wanted = _needed(text, "dataset")
    copy = fetched(wanted, "dataset", split)
    if made and (made_rows(wanted, split) / "data_card.json").is_file():
        return [made_rows(wanted, split)]
    with _about_splits(wanted):
        names = files_of_split(copy.names, wanted.split, split, ROWS if made else FOREIGN)
    return [copy.folder / name for name in names]


def made_rows(wanted: HubId, split: str | None) -> Path:
    """Where the rows lie that a recipe makes of a data set in another form: in `$ONSIGHT_CACHE`, or `~/.cache/onsight`."""
    root = Path(os.environ.get("ONSIGHT_CACHE") or Path.home() / ".cache" / "onsight")
    pinned = at_commit(wanted, split)
    name = f"{wanted.repo}/{pinned.revision}/{pinned.split or 'all'}"
    return root / "rows" / name.replace("/", "--")


def at_commit(wanted: HubId, split: str | None) -> HubId:
    """The id with the commit and the split that it stands for."""
    copy = fetched(wanted, "dataset", split)
    with _about_splits(wanted):
        name = name_of_split(copy.names, wanted.split, split, FOREIGN)
    return HubId(wanted.repo, copy.commit, name or None)


def whole_repository(wanted: HubId, split: str | None = None) -> Path:
    """The folder of a data set for a recipe: all its files, but the rows of other splits where one is named."""
    return fetched(replace(wanted, split=wanted.split or split), "dataset", ALL).folder


def fetch(
    models: Mapping[str, str | None], rows: Mapping[str, str | None] | None = None, split: str | None = None
) -> None:
    """Have everything here that a program is about to read: {setting: path or Hub id}, None for one that is not set.

    Of several processes on a machine one downloads, and the others wait for it. split: as in `rows_files`.
    Raises HubError, which begins with the name of the setting.
    """
    work: list[tuple[str, str | None, Callable[[str], object]]] = [
        (name, text, model_folder) for name, text in models.items()
    ]
    work += [(name, text, partial(rows_files, split=split)) for name, text in (rows or {}).items()]
    for name, text, get in work:
        try:
            if text is not None:
                get(text)
        except HubError as error:
            raise HubError(f"{name}: {error}") from None


def folder_of_rows(text: str | Path) -> Path:
    """The folder under which the media of a file's rows lie: its own; of a Hub data set its copy in the cache."""
    wanted = hub_id(text, "dataset")
    if wanted is not None:
        rows = rows_files(text, TRAIN)[0]
        return (rows if rows.is_dir() else fetched(wanted, "dataset", TRAIN).folder).resolve()
    path = Path(text).expanduser().resolve()
    return path if path.is_dir() else path.parent


def folder_with_config(text: str | Path) -> Path:
    """The folder of a model's config.json; of a Hub id nothing else is downloaded. Raises HubError."""
    from huggingface_hub import HfApi, constants, hf_hub_download

    path = Path(text).expanduser()
    if path.exists():
        return path
    wanted = _needed(text, "model")
    with _explained(wanted, "model"):
        offline = constants.HF_HUB_OFFLINE
        revision = HfApi().resolve_revision(wanted.repo, revision=wanted.revision, local_files_only=offline)
        return Path(hf_hub_download(wanted.repo, "config.json", revision=revision)).parent


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

    with _explained(wanted, kind):
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
        with _explained(wanted, kind):
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


def _needed(text: str | Path, kind: Kind) -> HubId:
    found = hub_id(text, kind)
    if found is None:
        missing = f"{text}: no such folder" if kind == "model" else f"rows not found: {text}"
        raise HubError(f"{missing}; expected {_FORMS[kind]}")
    return found


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
    with _about_splits(wanted):
        rows = files_of_split(names, wanted.split, split, FOREIGN)
    left_out = {name for files in splits(names, FOREIGN).values() for name in files}.difference(rows)
    return sorted(set(names) - left_out)


@contextmanager
def _about_splits(wanted: HubId) -> Iterator[None]:
    try:
        yield
    except SplitError as error:
        raise HubError(f"{wanted}: {error}; a split is named as {wanted.repo}:SPLIT") from None


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


@contextmanager
def _explained(wanted: HubId, kind: Kind) -> Iterator[None]:
    """What `huggingface_hub` raises, as a HubError that says what to do."""
    import httpx
    from huggingface_hub import constants, errors

    name = f"{wanted}: "
    noun = "model" if kind == "model" else "data set"
    try:
        yield
    except errors.GatedRepoError:
        page = f"{constants.ENDPOINT}/{'datasets/' if kind == 'dataset' else ''}{wanted.repo}"
        raise HubError(
            f"{name}a gated {noun}: ask for access at {page}, then log in (`hf auth login`, or HF_TOKEN)"
        ) from None
    except errors.RevisionNotFoundError:
        hint = (
            f" (its split is named as {wanted.repo}:{wanted.revision})" if wanted.revision in SPLITS else ""
        )
        raise HubError(
            f"{name}no revision {wanted.revision!r} of this {noun}; expected a branch, a tag or a commit{hint}"
        ) from None
    except (
        errors.OfflineModeIsEnabled,
        errors.RevisionResolutionError,
        errors.LocalEntryNotFoundError,
    ) as error:
        raise HubError(f"{name}{_unreachable(error)}") from None
    except errors.HfHubHTTPError as error:
        raise HubError(f"{name}{_refused(error, kind)}") from None
    except httpx.HTTPError as error:
        raise HubError(
            f"{name}the connection to {constants.ENDPOINT} failed ({_short(error)}); the same command goes on with the"
            " files that are still missing"
        ) from None
    except OSError as error:  # the cache cannot be written, or a file came with another size than announced
        raise HubError(f"{name}{_short(error)}") from None


def _refused(error: Any, kind: Kind) -> str:
    from huggingface_hub import constants

    status, said = error.response.status_code, error.server_message or ""
    if "Invalid credentials" in said:
        return f"{constants.ENDPOINT} does not know the token of this machine: log in again (`hf auth login`, or HF_TOKEN)"
    if status in (401, 404):  # strangers are not told what does not exist from what is private
        noun = "model" if kind == "model" else "data set"
        return (
            f"no such path here, and no {noun} of that name at {constants.ENDPOINT}; expected {_FORMS[kind]} (a private"
            " one needs `hf auth login`, or HF_TOKEN)"
        )
    allowed = (
        ", no access with the token of this machine (`hf auth login`, or HF_TOKEN)" if status == 403 else ""
    )
    return f"{constants.ENDPOINT} answered with status {status}{allowed}"


def _unreachable(error: Exception) -> str:
    from huggingface_hub import constants

    where = f"no whole copy of it in the cache ({constants.HF_HUB_CACHE})"
    if constants.HF_HUB_OFFLINE:
        return f"HF_HUB_OFFLINE is set, and there is {where}; run the command once without HF_HUB_OFFLINE"
    causes = [error]
    while causes[-1].__cause__ is not None:
        causes.append(causes[-1].__cause__)  # type: ignore[arg-type]
    return f"the Hub at {constants.ENDPOINT} cannot be reached ({_short(causes[-1])}), and there is {where}"


def _say(text: str) -> None:
    if os.environ.get("ONSIGHT_QUIET") != "1":
        print(text, flush=True)


def _short(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:200]}"
