"""Data sets of the Hub as sources of recipes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from core.files.hub.ids import HubError, hub_id
from core.files.hub.paths import whole_repository
from data_recipes.config import Recipe, Source
from data_recipes.records import Format


def local_sources(recipe: Recipe) -> Recipe:
    """The recipe with every source that is a Hub id replaced by its copy in the cache, downloaded where it is not there."""
    return recipe.model_copy(update={"sources": [_local(source) for source in recipe.sources]})


def _local(source: Source) -> Source:
    if source.kind.generates:
        return source
    path, options = local_path(source.path, source.kind, source.options, f"source '{source.name}': ")
    if path == source.path:
        return source
    return Source.model_validate(source.model_dump() | {"path": path, "options": options})


def local_path(
    path: Path, kind: Format | None, options: dict[str, Any], where: str = ""
) -> tuple[Path, dict[str, Any]]:
    """A source's path and options; of a Hub id the folder in the cache, and its split as the option `split`.

    Raises HubError, beginning with `where`.
    """
    wanted = hub_id(path, "dataset")
    if wanted is None:
        return path, options
    takes_split = kind is None or "split" in kind.options.model_fields
    if wanted.split and not takes_split:
        raise HubError(
            f"{where}{path}: the format '{kind and kind.name}' has no splits; expected {wanted.repo}"
        )
    try:
        folder = whole_repository(wanted, options.get("split"))
    except HubError as error:
        raise HubError(f"{where}{error}") from None
    if wanted.split and (folder / wanted.split).is_dir():
        return folder / wanted.split, options
    if wanted.split:
        within, _, split = wanted.split.rpartition("/")
        return folder / within, options | {"split": split}
    return folder, options
