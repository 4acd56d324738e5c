"""What the result of a recipe depends on besides its own text: files, the media that rows name, and this code.

Two kinds of files, two ways to notice a change:

- Files that the recipe itself names (sources with all files of a folder, files named in options) are known before the
  work starts. Their contents are part of the key under which work is kept, so another content is other work.
- Media, and files looked for in vain, are known only once records are read. Every task notes what it looked at; the
  next run compares the notes with what is there now.

Contents are compared, not only times: an archive unpacked or a repository cloned again has new times and the same
contents, and tools that restore times (`tar`, `rsync`, `cp -p`) may leave a new content under the old time and size. As
reading everything for every run would be slow, a file whose size, time of modification and time of inode change are
those of the note counts as unchanged without being read.
"""

from __future__ import annotations

import glob
import hashlib
import importlib.util
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pydantic import BaseModel

import core
import data_recipes
import rewards
import vlm
from core.files.replacing import writing_together
from core.rows import Row

State = Any
"""JSON-able: None (not there), "folder", [size, modified, changed, digest] of a file, or {"found": paths} of a pattern."""

IMAGE_ENDINGS = (
    ".avif",
    ".bmp",
    ".gif",
    ".heic",
    ".jfif",
    ".jpeg",
    ".jpg",
    ".png",
    ".ppm",
    ".tif",
    ".tiff",
    ".webp",
)
CLIP_ENDINGS = (
    ".avi",
    ".h264",
    ".m2ts",
    ".m4v",
    ".mkv",
    ".mov",
    ".mp4",
    ".mpeg",
    ".mpg",
    ".ts",
    ".webm",
    ".wmv",
)
MEDIA_ENDINGS = frozenset((*IMAGE_ENDINGS, *CLIP_ENDINGS, ".flac", ".mp3", ".wav"))
"""Files of a source's folder that count only if a row names them."""
PACKAGES = (
    "av",
    "datasketch",
    "math-verify",
    "numpy",
    "pdfplumber",
    "pillow",
    "py3langid",
    "pyarrow",
    "pypdfium2",
    "resiliparse",
    "sympy",
    "transformers",
)
"""Other releases of these may read or judge the same row differently."""
NOT_READ = ("media", "root")  # options that name folders of media, which are noted one by one

_notes: list[dict[str, State]] = []


# --------------------------------------------------------------------------------------------------- states of files


def state_of(path: str | Path, known: State = None) -> State:
    """What is at a path now. known: an earlier state, whose digest is taken over where size and times are the same."""
    try:
        stat = os.stat(path)
        if os.path.isdir(path):
            return "folder"
        times = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
        if isinstance(known, list) and known[:3] == times:
            return known
        with open(path, "rb") as file:
            return [*times, hashlib.file_digest(file, "blake2b").hexdigest()[:32]]
    except (OSError, ValueError):  # ValueError: no path at all, such as one with a NUL
        return None


def is_now(path: str, state: State) -> bool:
    """Whether what was noted of a path is so still."""
    if isinstance(state, dict):
        return sorted(glob.glob(path)) == state["found"]
    now = state_of(path, state)
    return now == state or (isinstance(now, list) and isinstance(state, list) and now[3] == state[3])


def note(path: str | Path) -> None:
    """Remember the state of a file that the current work reads, whether or not it exists."""
    for notes in _notes[-1:]:
        if str(path) not in notes:
            notes[str(path)] = state_of(path)


def note_pattern(pattern: str, found: Iterable[str]) -> None:
    """Remember which files fitted a `glob` pattern."""
    for notes in _notes[-1:]:
        notes[pattern] = {"found": sorted(found)}


def note_all(notes: Mapping[str, State]) -> None:
    """Take over notes of earlier work whose result is used again."""
    for own in _notes[-1:]:
        own.update(notes)


def note_media(row: Row, folder: Path) -> None:
    """Remember the media that a row names; relative paths start from `folder`. Anything else in the fields is ignored."""
    for field in ("images", "videos"):
        media = row.get(field)
        for medium in media if isinstance(media, list) else ():
            path = medium.get("path") if isinstance(medium, dict) and not medium.get("bytes") else medium
            if isinstance(path, str):
                note(os.path.normpath(os.path.join(folder, path)))


@contextmanager
def noting() -> Iterator[dict[str, State]]:
    """Collects what `note` is told in the block: {path: state}."""
    notes: dict[str, State] = {}
    _notes.append(notes)
    try:
        yield notes
    finally:
        _notes.remove(notes)


def write_notes(path: Path, notes: Mapping[str, State]) -> None:
    """Notes as a file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with writing_together(path) as file:
        file.writelines(f"{json.dumps(item)}\n".encode() for item in notes.items())


def read_notes(path: Path) -> Iterator[tuple[str, State]]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            seen, state = json.loads(line)
            yield seen, state


def changes(notes: Iterable[tuple[str, State]]) -> list[str]:
    """ "PATH was not there", "PATH is gone" or "PATH has another content" for every note that is no longer so."""
    found = []
    for path, state in notes:
        if not is_now(path, state):
            then, now = bool(state and state != {"found": []}), state_of(path)
            what = "is new" if not then else "is gone" if now is None else "has another content"
            found.append(f"{path} {what}")
    return found


# ------------------------------------------------------------------------------------------- what a recipe names itself


def named_inputs(recipe: Any, known: Mapping[str, Any]) -> dict[str, dict[str, State]]:
    """{what it is for: {path: state}} of every file that a recipe reads by its own words. known: the last run's, for digests."""
    out = recipe.output_dir.resolve()
    inputs: dict[str, dict[str, State]] = {}

    def enter(label: str, path: Path, *, media: bool) -> None:
        before = known.get(label, {})
        states = inputs.setdefault(label, {})
        for file in files_of(path, out, media=media):
            states[str(file)] = state_of(file, before.get(str(file)))

    for source in recipe.sources:
        if not source.kind.generates:
            enter(f"source '{source.name}'", source.path, media=False)
        for path in _paths(source.typed_options, ""):
            enter(f"options of source '{source.name}'", path, media=False)
    for name, _, options in recipe.steps:
        for path in _paths(options, ""):
            enter(f"options of {name}", path, media=True)
    for path in _paths(recipe.validation, ""):
        enter("rewards of the validation", path, media=False)
    if recipe.output.tokenizer:
        enter("tokenizer", recipe.output.tokenizer, media=False)
    inputs["code"] = {"version": code_version()}
    return inputs


def files_of(path: Path, out: Path | None = None, *, media: bool) -> Iterator[Path]:
    """The file itself, or all files under a folder in the order of names: no hidden ones, no output; `media`: with media."""
    if not path.is_dir():
        yield path
        return
    for folder, folders, names in os.walk(path):
        here = Path(folder)
        folders[:] = sorted(n for n in folders if not n.startswith(".") and (here / n).resolve() != out)
        for name in sorted(names):
            if not name.startswith(".") and (media or Path(name).suffix.lower() not in MEDIA_ENDINGS):
                yield here / name


def _paths(value: Any, name: str) -> Iterator[Path]:
    """Files and folders that options name: paths, texts that are paths of files, and the files of reward plugins."""
    if isinstance(value, BaseModel):
        fields = {n: getattr(value, n) for n in type(value).model_fields} | (value.model_extra or {})
        value = {n: v for n, v in fields.items() if n not in NOT_READ}
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _paths(item, str(key))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _paths(item, name)
    elif isinstance(value, Path):
        yield value
    elif isinstance(value, str) and len(value) < 1000 and "\n" not in value:
        if name == "function" and ":" in value:
            yield from _plugin_file(value)
        elif (name == "path" and Path(value).exists()) or ("/" in value and Path(value).is_file()):
            yield Path(value)


def _plugin_file(function: str) -> Iterator[Path]:
    """The file that holds a reward plugin, `file.py:function` or `package.module:function`."""
    module = function.rpartition(":")[0]
    if module.endswith(".py"):
        yield Path(module)
        return
    try:
        found = importlib.util.find_spec(module)
    except (ImportError, ValueError, AttributeError):
        return  # loading the plugin says what is wrong with it
    if found and found.origin and Path(found.origin).is_file():
        yield Path(found.origin)


@lru_cache(maxsize=1)
def code_version() -> str:
    """Hash of the code that makes rows, and of the releases of the packages that it rests on."""
    content = hashlib.blake2b(digest_size=16)
    for package in (core, data_recipes, rewards, vlm):
        for folder in package.__path__:
            for file in sorted(Path(folder).rglob("*.py")):
                content.update(
                    f"{package.__name__}/{file.relative_to(folder)}\n".encode() + file.read_bytes()
                )
    for name in PACKAGES:
        try:
            content.update(f"{name} {version(name)}\n".encode())
        except PackageNotFoundError:
            content.update(f"{name} none\n".encode())
    return content.hexdigest()


def digest_of(inputs: Mapping[str, Mapping[str, State]]) -> str:
    """Hash of contents; times and sizes are no part of it."""
    contents = {
        label: {path: state[3] if isinstance(state, list) else state for path, state in states.items()}
        for label, states in inputs.items()
    }
    return hashlib.sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """A line for everything named that is other than in the last run, with the files' number and the first of them."""
    lines = []
    for label in dict.fromkeys([*before, *now]):
        old, new = before.get(label, {}), now.get(label, {})
        if label == "code":
            lines += ["the code that makes rows"] if old != new else []
            continue
        kinds = {
            "new": [path for path in new if path not in old or (old[path] is None and new[path] is not None)],
            "gone": [
                path for path in old if path not in new or (new[path] is None and old[path] is not None)
            ],
            "with another content": [
                path for path, state in new.items() if state and old.get(path) and state[3] != old[path][3]
            ],
        }
        for what, paths in kinds.items():
            if paths:
                more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
                lines.append(f"{label}: {paths[0]}{more} {what}")
    return lines
