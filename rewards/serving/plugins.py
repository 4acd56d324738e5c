"""Finding reward functions by name and loading them.

A name is looked up in this order: `path/to/file.py:function`; `package.module:function`; a built-in's short name; an entry
point of the group `onsight.rewards`; a dotted path `package.module.function`. Plugins need not import anything of this project.
A class is a function with state: it is instantiated once with the configured keyword arguments, and the instance is called.
"""

from __future__ import annotations

import difflib
import functools
import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rewards.errors import PluginError
from rewards.functions.builtins import BUILTINS
from rewards.serving.adapters import adapt
from rewards.serving.signatures import (
    Bound,
    Style,
    check_arguments,
    guess_style,
    is_async,
    read_signature,
    with_attributes,
)

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

ENTRY_POINT_GROUP = "onsight.rewards"


@dataclass(frozen=True)
class Available:
    """A function that has a short name."""

    name: str
    target: str  # module:function
    origin: str  # "built-in", or the package that provides the entry point


def builtins() -> dict[str, str]:
    """Short names of this package's own functions: name -> `module:function`."""
    return {**BUILTINS, "http": "rewards.serving.client:Remote"}


def available() -> list[Available]:
    """Every function that has a short name: built-ins, then entry points of installed packages."""
    ours = [Available(name, target, "built-in") for name, target in sorted(builtins().items())]
    theirs = [Available(e.name, e.value, _package(e)) for e in _entry_points()]
    return ours + sorted(theirs, key=lambda found: (found.name, found.origin))


def is_builtin(name: str) -> bool:
    """True for short names of this package's own functions, which are trusted not to hang."""
    return ":" not in name and name in builtins()


def load(name: str) -> Callable[..., Any]:
    """The function or class that `name` refers to. PluginError says what was looked for and where."""
    file, _, attribute = name.rpartition(":")
    if file.endswith(".py"):
        return _attribute(_module_from_file(Path(file)), attribute, name)
    if ":" in name:
        return _attribute(_import(file, name), attribute, name)
    if name in builtins():
        return load(builtins()[name])
    found = [e for e in _entry_points() if e.name == name]
    if len({(e.value, _package(e)) for e in found}) > 1:
        packages = ", ".join(sorted(_package(e) for e in found))
        raise PluginError(
            f"reward '{name}': several installed packages provide it ({packages}); use module:function"
        )
    if found:
        return load(found[0].value.split("[")[0].strip().replace(" ", ""))
    if "." in name:
        module, _, attribute = name.rpartition(".")
        return _attribute(_import(module, name), attribute, name)
    known = [entry.name for entry in available()]
    near = difflib.get_close_matches(name, known, 1)
    raise PluginError(
        f"reward '{name}': no built-in or entry point of the group '{ENTRY_POINT_GROUP}' has this name"
        + (f"; did you mean '{near[0]}'?" if near else ".")
        + f" Known: {', '.join(known)}. Otherwise give module:function or file.py:function."
    )


def bind(name: str, style: str, arguments: Mapping[str, Any]) -> Bound:
    """Load `name` and bind the configured arguments, refusing those that it does not take.

    A class is instantiated with the arguments. Functions written for EasyR1 and verl are adapted.
    """
    loaded: Any = load(name)
    if inspect.isclass(loaded):
        check_arguments(loaded, arguments, name)
        try:
            loaded, arguments = loaded(**arguments), {}
        except Exception as error:  # the plugin's constructor may raise anything
            raise PluginError(
                f"reward '{name}': creating it failed: {type(error).__name__}: {error}"
            ) from error
    if not callable(loaded):
        raise PluginError(f"reward '{name}': expected a function, got {type(loaded).__name__}")
    kind: Style = guess_style(loaded, name) if style == "auto" else style  # type: ignore[assignment]
    native = adapt(loaded, kind, arguments, name)
    if native is loaded:
        check_arguments(loaded, arguments, name)
    else:
        arguments = {}
    signature = read_signature(native, "batch" if kind in ("batch", "easyr1") else "sample", arguments)
    signature = with_attributes(replace(signature, asynchronous=is_async(native)), loaded)
    if signature.whole_groups and signature.style == "sample":
        raise PluginError(f"reward '{name}': only batch functions can get whole groups")
    many = getattr(loaded, "many", None) if signature.style == "sample" and not arguments else None
    return Bound(functools.partial(native, **arguments), signature, getattr(loaded, "check_gold", None), many)


def _attribute(module: Any, attribute: str, name: str) -> Any:
    target = module
    for part in attribute.split("."):
        if not hasattr(target, part):
            known = [
                key for key in vars(module) if not key.startswith("_") and callable(getattr(module, key))
            ]
            near = difflib.get_close_matches(attribute, known, 1)
            hint = (
                f"; did you mean '{near[0]}'?"
                if near
                else f"; it has: {', '.join(sorted(known)) or 'no functions'}"
            )
            raise PluginError(f"reward '{name}': {module.__name__} has no '{attribute}'{hint}")
        target = getattr(target, part)
    return target


def _import(module: str, name: str) -> Any:
    try:
        return importlib.import_module(module)
    except Exception as error:  # importing runs the plugin's code, which may raise anything
        raise PluginError(
            f"reward '{name}': importing '{module}' failed: {type(error).__name__}: {error}"
        ) from error


def _module_from_file(file: Path) -> Any:
    path = file.expanduser().resolve()
    if not path.is_file():
        raise PluginError(f"reward '{file}': expected a Python file at {path}, found none")
    # One module per file and process, with a name that cannot shadow a real one. Its folder goes last on the path, so
    # that it can import modules beside it.
    name = f"onsight_reward_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None, path
    module = importlib.util.module_from_spec(spec)
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # running the plugin's code may raise anything
        del sys.modules[name]
        raise PluginError(
            f"reward '{file}': importing {path} failed: {type(error).__name__}: {error}"
        ) from error
    return module


def _entry_points() -> list[EntryPoint]:
    from importlib.metadata import entry_points  # slow to import

    return list(entry_points(group=ENTRY_POINT_GROUP))


def _package(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else "unknown package"
