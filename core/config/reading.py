"""YAML files and `dotted.key=value` overrides as plain data, with the place of every key.

YAML is read by the rules of YAML 1.2: `1e-5` is a number and only `true` and `false` are booleans. A key written
twice is an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from core.errors import UserError
from core.text import short

KeyPath = tuple[str | int, ...]
"""Where a value stands in the config: ("rewards", "tasks", "math", 0, "weight")."""


class ConfigError(UserError, ValueError):
    """A config that cannot be used; the message holds one line per mistake."""


def read_yaml(path: str | Path) -> tuple[dict[str, Any], dict[KeyPath, str]]:
    """The mapping in a YAML file, and the place ("FILE:LINE") of each of its keys."""
    try:
        text = Path(path).expanduser().read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: expected a YAML config file, got: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            f"{path}:{line}: expected UTF-8 text, got the byte 0x{error.object[error.start]:02x} (the file is in another"
            " encoding, as Latin-1 or UTF-16 are: save it as UTF-8)"
        ) from None
    try:
        node = yaml.compose(text, Loader=_Loader)
        _bound(node)
        places = dict(_places(node, (), str(path)))
        data = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise ConfigError(f"{where}: expected YAML, got: {getattr(error, 'problem', error)}") from None
    except RecursionError:
        raise ConfigError(f"{path}: expected YAML, got one that is nested too deep") from None
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: expected `key: value` lines, got a {type(data).__name__}")
    return data, places


def override(data: dict[str, Any], places: dict[KeyPath, str], assignment: str) -> None:
    """Set one `dotted.key=value` in `data` in place, creating missing mappings."""
    where = f"command line, {short(assignment)}"
    names, equals, text = assignment.partition("=")
    if not equals or not all(names.split(".")):
        raise ConfigError(f"{where}: expected dotted.key=value")
    try:
        value = parse_value(text)
    except yaml.YAMLError as error:
        problem = getattr(error, "problem", error)
        raise ConfigError(f"{where}: expected a YAML value, got: {problem}") from None
    path: KeyPath = ()
    here: Any = data
    *parents, last = names.split(".")
    for name in parents:
        key = _key(here, name, path, where)
        if isinstance(here, dict) and here.get(key) is None:
            here[key] = {}
        here, path = here[key], (*path, key)
        places[path] = where
    key = _key(here, last, path, where)
    here[key], places[*path, key] = value, where


def _key(here: Any, name: str, path: KeyPath, where: str) -> str | int:
    """`name` as a key of the mapping, or an index of the list, that stands at `path`."""
    if isinstance(here, list):
        if not name.isdigit() or int(name) >= len(here):
            raise ConfigError(
                f"{where}: expected an index below {len(here)} after '{dotted(path)}', got {name!r}"
            )
        return int(name)
    if not isinstance(here, dict):
        raise ConfigError(f"{where}: '{dotted(path)}' holds {short(here)}, not keys")
    return name


def dotted(path: KeyPath) -> str:
    """ "rewards.tasks.math.0.weight"."""
    return ".".join(map(str, path))


class _Loader(yaml.SafeLoader):
    """SafeLoader without the surprises of YAML 1.1 (`no` -> False, `1e-5` -> "1e-5", `1:30` -> 90)."""


_Loader.yaml_implicit_resolvers = {
    first: [
        (tag, regexp) for tag, regexp in resolvers if tag.rpartition(":")[2] not in {"bool", "int", "float"}
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _tag, _pattern, _first in (
    ("bool", r"(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    ("int", r"[-+]?(?:[0-9][0-9_]*|0x[0-9a-fA-F]+)$", "-+0123456789"),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9][0-9_]*\.[0-9]*)(?:[eE][-+]?[0-9]+)?$|[-+]?[0-9]+[eE][-+]?[0-9]+$"
        + r"|[-+]?\.(?:inf|Inf|INF)$|\.(?:nan|NaN|NAN)$",
        "-+0123456789.",
    ),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), list(_first))


def _construct_int(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = loader.construct_scalar(node).replace("_", "")
    return int(text, 16 if "0x" in text else 10)  # 1.1 would read 010 as eight


_Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)


MAX_NODES = 100_000
"""Most values a YAML text may hold after its aliases are expanded."""


def _bound(node: yaml.Node | None) -> None:
    """Raise YAMLError for a text with a recursive alias, or with more than MAX_NODES values once expanded."""
    sizes: dict[int, int | None] = {}  # None: being computed

    def size(node: yaml.Node) -> int:
        if id(node) not in sizes:
            sizes[id(node)] = None
            inner: list[yaml.Node] = []
            if isinstance(node, yaml.MappingNode):
                inner = [part for pair in node.value for part in pair]
            elif isinstance(node, yaml.SequenceNode):
                inner = node.value
            sizes[id(node)] = 1 + sum(map(size, inner))
        found = sizes[id(node)]
        if found is None or found > MAX_NODES:
            what = "that holds itself" if found is None else f"that stands for more than {MAX_NODES:,} values"
            raise yaml.MarkedYAMLError(problem=f"an alias {what}", problem_mark=node.start_mark)
        return found

    if node is not None:
        size(node)


def parse_value(text: str) -> Any:
    """The value of a YAML text on the command line; raises yaml.YAMLError."""
    try:
        _bound(yaml.compose(text, Loader=_Loader))
        return yaml.load(text, Loader=_Loader)
    except RecursionError:
        raise yaml.YAMLError("nested too deep") from None


def _places(node: yaml.Node | None, path: KeyPath, file: str) -> Iterator[tuple[KeyPath, str]]:
    """(path, "FILE:LINE") of every key under `node`; a key written twice in one mapping raises."""
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if key.value in seen and key.tag != "tag:yaml.org,2002:merge":
                twice, first = dotted((*path, key.value)), seen[key.value]
                raise ConfigError(f"{file}:{line}: key '{twice}' is written twice, first in line {first}")
            seen[key.value] = line
            yield (*path, key.value), f"{file}:{line}"
            yield from _places(value, (*path, key.value), file)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield (*path, index), f"{file}:{value.start_mark.line + 1}"
            yield from _places(value, (*path, index), file)
