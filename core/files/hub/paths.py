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
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from core.files.hub.cache import ALL, FOREIGN, fetched
from core.files.hub.errors import explained
from core.files.hub.ids import HubError, HubId, about_splits, hub_id, needed_id
from core.files.shards import ROWS, files_of_split, name_of_split

TRAIN = "train"
"""The split to train on, where a data set has several and its id names none."""
PIN = "the Hub has changed while the processes were starting: start again, or pin the commit (owner/name@commit)"


def model_folder(text: str | Path) -> Path:
    """A path that exists as it is; of a Hub id the folder in the cache, downloaded where it is not there. Raises HubError."""
    path = Path(text).expanduser()
    return path if path.exists() else fetched(needed_id(text, "model"), "model").folder


def rows_files(text: str | Path, split: str | None = None, *, made: bool = True) -> list[Path]:
    """Where rows are: `[path]` if it exists; of a Hub id the files of one split, downloaded where they are not there, or the
    folder of rows that a recipe has made of them.

    split: which one, where the id names none and the data set has several. made: look for what a recipe has made.
    Raises HubError.
    """
    path = Path(text).expanduser()
    if path.exists():
        return [path]
    wanted = needed_id(text, "dataset")
    copy = fetched(wanted, "dataset", split)
    if made and (made_rows(wanted, split) / "data_card.json").is_file():
        return [made_rows(wanted, split)]
    with about_splits(wanted):
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
    with about_splits(wanted):
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
    wanted = needed_id(text, "model")
    with explained(wanted, "model"):
        offline = constants.HF_HUB_OFFLINE
        revision = HfApi().resolve_revision(wanted.repo, revision=wanted.revision, local_files_only=offline)
        return Path(hf_hub_download(wanted.repo, "config.json", revision=revision)).parent
