"""Rows made of a Hub data set in another form, without a recipe file."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from core.errors import RowError
from core.files.hub.ids import HubError, hub_id
from core.files.hub.paths import at_commit, fetch, made_rows, rows_files


def rows_of_hub(settings: Mapping[str, str | None], split: str | None = None) -> None:
    """Have rows of every Hub data set that a program will read, {setting: path or Hub id}: a data set in another form that a
    reader knows is made into rows, with that reader's own options, where `core.rows.read_rows` looks for them.

    Of several processes on a machine one makes them. split: as in `core.files.hub.rows_files`.
    Raises HubError, beginning with the setting's name, and RowError where no row can be made.
    """
    fetch({}, settings, split)
    for name, text in settings.items():
        if text is not None and hub_id(text, "dataset") is not None:
            try:
                make_rows(text, split)
            except ValueError as error:
                raise RowError(f"{name}: {error}") from None


def make_rows(text: str, split: str | None = None, format: str | None = None) -> Path | None:  # noqa: A002
    """The folder of rows made of a Hub data set; None if it holds rows already, or is of no known format.

    format: in place of the likeliest that its first record fits.
    """
    from huggingface_hub.utils import WeakFileLock

    from data_recipes.config import Recipe  # takes seconds, and most runs have rows of their own
    from data_recipes.inspection import guess
    from data_recipes.runner import run_recipe

    wanted = hub_id(text, "dataset")
    if wanted is None:
        raise HubError(
            f"expected a data set of the Hub as owner/name, owner/name@revision or owner/name:split, got {text!r}"
        )
    files = rows_files(text, split, made=False)
    kinds = [format] if format else [kind.name for kind in guess(files[0])]
    if not kinds or kinds[0] == "rows":
        return None
    name = re.sub(r"[^\w.-]", "-", wanted.repo.split("/")[1])
    source = {"name": name, "format": kinds[0], "path": str(at_commit(wanted, split))}
    out = made_rows(wanted, split)
    recipe = Recipe.model_validate({"name": name, "sources": [source], "output_dir": str(out), "tasks": 4})
    quiet = os.environ.get("RANK", "0") != "0"
    out.parent.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(out.with_name(f"{out.name}.lock")):
        return run_recipe(recipe, say=(lambda line: None) if quiet else print)
