"""One way to configure every program: a YAML file, dotted overrides, a typed pydantic model.

An entry point has one model class (`extra="forbid"`, a docstring under every field) and one call:

    from core.config import load_config
    from rl.config import GRPOConfig

    def main(argv: list[str] | None = None) -> None:
        config, dry_run = load_config(GRPOConfig, argv)      # argv None: the command line
        if dry_run:                                          # the resolved config is already printed
            return

which gives the command line

    accelerate launch grpo.py --config run.yaml optim.lr=1e-6 data.0.path=rows.jsonl --dry-run

Overrides are `dotted.key=value`; the value is read as YAML (`null`, `[1, 2]`, `{a: 1}`, `"007"` for a string of
digits), a number walks into a list. `--help` prints every field with its type, default and docstring.

A wrong config ends the program with exit code 2 and one line per mistake: where, which key, what was expected, what
came; for an unknown key, the nearest known one. `read_config` is the same without a command line and raises
`ConfigError` instead.

YAML is read by the rules of YAML 1.2: `1e-5` is a number and only `true` and `false` are booleans. A key written
twice is an error.
"""

from __future__ import annotations

import argparse
import difflib
import math
import os
import re
import sys
import types
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, PydanticUndefined

from core.errors import UserError
from core.text import dump, short

C = TypeVar("C", bound=BaseModel)
KeyPath = tuple[str | int, ...]
"""Where a value stands in the config: ("rewards", "tasks", "math", 0, "weight")."""


class ConfigError(UserError, ValueError):
    """A config that cannot be used; the message holds one line per mistake."""


def load_config(model: type[C], argv: Sequence[str] | None = None) -> tuple[C, bool]:
    """Read the command line `[--config FILE] [--dry-run] [dotted.key=value ...]` into `model`.

    Returns the config and whether `--dry-run` was given; with it, the resolved config is printed as YAML first.
    Exits with code 2 and the mistakes on stderr when the config is wrong, with 0 after `--help`.
    """
    parser = argparse.ArgumentParser(
        usage="%(prog)s [--config FILE.yaml] [--dry-run] [dotted.key=value ...]",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"fields of {model.__name__}:\n{describe(model)}",
        allow_abbrev=False,
    )
    parser.add_argument("--config", type=Path, metavar="FILE.yaml", help="the YAML file")
    parser.add_argument("--dry-run", action="store_true", help="print the resolved config and stop")
    parser.add_argument("overrides", nargs="*", metavar="dotted.key=value", help="replace single values")
    arguments = parser.parse_intermixed_args(argv)
    try:
        config = read_config(model, arguments.config, arguments.overrides)
    except ConfigError as error:
        _stop(str(error))
    if arguments.dry_run and _speaks():
        print(dump(config), end="", flush=True)
    return config, arguments.dry_run


def read_config(model: type[C], path: str | Path | None, overrides: Sequence[str] = ()) -> C:
    """`model` from the YAML file `path` (None: from overrides and defaults alone) with `dotted.key=value` overrides.

    Raises `ConfigError` for a missing or malformed file, an unknown or doubled key, a missing or ill-typed value.
    """
    data, places = ({}, {}) if path is None else read_yaml(path)
    for override in overrides:
        _override(data, places, override)
    values = [_ill_number(model, data, places, key) for key in _keys(data)]
    if mistakes := [line for line in values if line]:
        raise ConfigError("\n".join(mistakes))
    try:
        return model.model_validate(data)
    except ValidationError as error:
        origin = str(path) if path is not None else "command line"
        lines = [_explain(model, data, places, origin, mistake) for mistake in error.errors()]
        raise ConfigError("\n".join(dict.fromkeys(lines))) from None


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


def describe(model: type[BaseModel]) -> str:
    """Every field of `model`, nested ones with their dotted path: type, default, docstring."""
    lines = []
    for path, field in _fields(model):
        default = field.default
        if field.default_factory is not None:
            default = field.default_factory()
        if isinstance(default, BaseModel):
            continue  # its fields follow
        ending = "  (required)" if default is PydanticUndefined else f" = {default!r}"
        lines.append(f"  {path}: {_type_name(field.annotation)}{ending}")
        if field.description:
            lines.append("      " + " ".join(field.description.split()))
    return "\n".join(lines)


# ---------------------------------------------------------------------------------------------- YAML by the 1.2 rules


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
"""Values that a YAML text may hold once its aliases are written out."""


def _bound(node: yaml.Node | None) -> None:
    """YAMLError for a text whose aliases stand for themselves, or for more than MAX_NODES values (an "alias bomb")."""
    sizes: dict[int, int | None] = {}  # None: under way

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
                dotted = _dotted((*path, key.value))
                first = seen[key.value]
                raise ConfigError(f"{file}:{line}: key '{dotted}' is written twice, first in line {first}")
            seen[key.value] = line
            yield (*path, key.value), f"{file}:{line}"
            yield from _places(value, (*path, key.value), file)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield (*path, index), f"{file}:{value.start_mark.line + 1}"
            yield from _places(value, (*path, index), file)


def _override(data: dict[str, Any], places: dict[KeyPath, str], override: str) -> None:
    """Set one `dotted.key=value` in `data` in place, making mappings on the way."""
    where = f"command line, {short(override)}"
    dotted, equals, text = override.partition("=")
    if not equals or not all(dotted.split(".")):
        raise ConfigError(f"{where}: expected dotted.key=value")
    try:
        value = parse_value(text)
    except yaml.YAMLError as error:
        raise ConfigError(
            f"{where}: expected a YAML value, got: {getattr(error, 'problem', error)}"
        ) from None
    *parents, last = dotted.split(".")
    path: KeyPath = ()
    here: Any = data
    for name in (*parents, last):
        key: str | int = name
        if isinstance(here, list):
            if not name.isdigit() or int(name) >= len(here):
                raise ConfigError(
                    f"{where}: expected an index below {len(here)} after '{_dotted(path)}', got {name!r}"
                )
            key = int(name)
        elif not isinstance(here, dict):
            raise ConfigError(f"{where}: '{_dotted(path)}' holds {short(here)}, not keys")
        path = (*path, key)
        places[path] = where
        if len(path) == len(parents) + 1:
            here[key] = value
        elif isinstance(here, dict) and here.get(name) is None:
            here[key] = {}
        here = here[key]


# ----------------------------------------------------------------------------------------------------- error messages


def _explain(
    model: type[BaseModel], data: Any, places: dict[KeyPath, str], origin: str, mistake: ErrorDetails
) -> str:
    """One line for one of pydantic's errors."""
    kind, message = mistake["type"], mistake["msg"]
    # pydantic's location also names union members and "[key]"; what stands in the data is the path a user wrote
    path: KeyPath = ()
    here: Any = data
    for part in mistake["loc"]:
        inside = part in here if isinstance(here, dict) else isinstance(here, list) and isinstance(part, int)
        if inside:
            here, path = here[part], (*path, part)
    where = _place(places, path) or origin
    if kind == "missing":
        wanted = mistake["loc"][-1]
        expected = _type_name(_annotation(model, (*path, wanted)))
        return f"{where}: key '{_dotted((*path, wanted))}' is required: expected {expected}, got nothing"
    if kind == "extra_forbidden":
        return f"{where}: unknown key '{_dotted(path)}'{_suggest(model, path)}"
    if not path:
        return f"{where}: {message.removeprefix('Value error, ')}"
    if kind in {"value_error", "assertion_error"}:
        return f"{where}: key '{_dotted(path)}': {message.removeprefix('Value error, ')}"
    expected = message.removeprefix("Input should be ")
    hint = ""
    if kind == "string_type" and where.startswith("command line"):
        hint = f"; as a string: '{_dotted(path)}=\"{mistake['input']}\"'"
    value = mistake["input"]
    return f"{where}: key '{_dotted(path)}': expected {expected}, got {short(value)} ({type(value).__name__}){hint}"


def _place(places: dict[KeyPath, str], path: KeyPath) -> str | None:
    """Where the value at `path`, or the nearest one around it, was written."""
    return next((places[path[:n]] for n in range(len(path), 0, -1) if path[:n] in places), None)


def _suggest(model: type[BaseModel], path: KeyPath) -> str:
    """ ", did you mean 'a.b'?" for an unknown key: a neighbour with a near name, else the nearest field anywhere."""
    parent, name = path[:-1], str(path[-1])
    neighbours = {
        field: _dotted((*parent, field))
        for kind in _models(_annotation(model, parent))
        for field in kind.model_fields
    }
    everywhere = {dotted.rpartition(".")[2]: dotted for dotted, _ in _fields(model)}
    for known in (neighbours, everywhere):
        if near := difflib.get_close_matches(name, known, n=1, cutoff=0.6):
            return f", did you mean '{known[near[0]]}'?"
    return f"; known here: {', '.join(neighbours)}" if neighbours else ""


def _ill_number(model: type[BaseModel], data: Any, places: dict[KeyPath, str], path: KeyPath) -> str | None:
    """A complaint about what pydantic would let through: `true` where a number belongs (read as 1), and infinity or
    not-a-number anywhere, in free keys too."""
    for part in path:
        data = data[part]
    where = _place(places, path)
    if isinstance(data, float) and not math.isfinite(data):
        return f"{where}: key '{_dotted(path)}': expected a finite number, got {data} (float)"
    annotation = _annotation(model, path)
    kinds = set(_union(annotation))
    if isinstance(data, bool) and kinds & {int, float} and bool not in kinds:
        return f"{where}: key '{_dotted(path)}': expected {_type_name(annotation)}, got {data} (bool)"
    return None


def _keys(data: Any, path: KeyPath = ()) -> Iterator[KeyPath]:
    """The path of every value below `data`."""
    pairs = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in pairs:
        yield (*path, key)
        yield from _keys(value, (*path, key))


# ----------------------------------------------------------------------------------------------------- walking models


def _union(annotation: Any) -> list[Any]:
    """The members of a union (through Annotated), or the annotation alone."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _union(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        return [kind for member in typing.get_args(annotation) for kind in _union(member)]
    return [annotation]


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The pydantic models a value of this annotation may be."""
    return [kind for kind in _union(annotation) if isinstance(kind, type) and issubclass(kind, BaseModel)]


def _annotation(annotation: Any, path: KeyPath) -> Any:
    """The annotation of the value at `path` below a value annotated `annotation`; Any where nothing is known."""
    for part in path:
        below = []
        for kind in _union(annotation):
            args = typing.get_args(kind)
            if isinstance(kind, type) and issubclass(kind, BaseModel) and part in kind.model_fields:
                below.append(kind.model_fields[str(part)].annotation)
            elif typing.get_origin(kind) is dict:
                below.append(args[1])
            elif typing.get_origin(kind) in (list, tuple, Sequence) and isinstance(part, int):
                below.append(args[0])
        if not below:
            return Any
        annotation = typing.Union[tuple(below)]  # noqa: UP007 (built at run time)
    return annotation


def _fields(
    model: type[BaseModel], prefix: str = "", above: tuple[type, ...] = ()
) -> Iterator[tuple[str, Any]]:
    """(dotted path, pydantic field) of every field; <name> and [i] stand for free keys of mappings and lists."""
    for name, field in model.model_fields.items():
        yield prefix + name, field
        for kind, suffix in _nested(field.annotation):
            if kind not in above:
                yield from _fields(kind, f"{prefix}{name}{suffix}.", (*above, model, kind))


def _nested(annotation: Any, suffix: str = "") -> Iterator[tuple[type[BaseModel], str]]:
    """Models inside an annotation with the keys that lead to them."""
    for kind in _union(annotation):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield kind, suffix
        elif typing.get_origin(kind) is dict:
            yield from _nested(typing.get_args(kind)[1], suffix + ".<name>")
        elif typing.get_origin(kind) in (list, tuple, Sequence):
            yield from _nested(typing.get_args(kind)[0], suffix + ".[i]")


def _type_name(annotation: Any) -> str:
    """`int`, `list[str] | None`, "'a' | 'b'"; without module names."""
    if typing.get_origin(annotation) is typing.Literal:
        return " | ".join(map(repr, typing.get_args(annotation)))
    if len(kinds := _union(annotation)) > 1:
        return " | ".join(_type_name(kind) for kind in kinds)
    if annotation is type(None):
        return "null"
    if isinstance(annotation, type) and not typing.get_args(annotation):
        return annotation.__name__
    return re.sub(r"\b(?:\w+\.)+(?=\w)", "", str(annotation))


def _dotted(path: KeyPath) -> str:
    return ".".join(map(str, path))


def _speaks() -> bool:
    """Under a launcher, one process of each machine speaks for all."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


def _stop(message: str) -> NoReturn:
    if _speaks():
        print(message, file=sys.stderr)
    raise SystemExit(2)
