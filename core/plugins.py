"""Finding a function or class by the name that a config gives it: rewards, tools, environments.

A name is looked up in this order: `path/to/file.py:function`; `package.module:function`; a built-in's short name; an entry
point of the kind's group; a dotted path `package.module.function`. Plugins need not import anything of this project.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import PluginError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint


@dataclass(frozen=True)
class Available:
    """A plugin that has a short name."""

    name: str
    target: str  # module:function
    origin: str  # "built-in", or the package that provides the entry point


@dataclass(frozen=True)
class Plugins:
    """One kind of plugin.

    kind: for messages, e.g. "reward". group: entry points of installed packages. builtins: our own, short name ->
        `module:function`.
    """

    kind: str
    group: str
    builtins: Mapping[str, str] = field(default_factory=dict)

    def available(self) -> list[Available]:
        """Everything that has a short name: built-ins, then entry points of installed packages."""
        ours = [Available(name, target, "built-in") for name, target in sorted(self.builtins.items())]
        theirs = [Available(e.name, e.value, _package(e)) for e in self._entry_points()]
        return ours + sorted(theirs, key=lambda found: (found.name, found.origin))

    def is_builtin(self, name: str) -> bool:
        """True for short names of this project's own functions, which are trusted not to hang."""
        return ":" not in name and name in self.builtins

    def load(self, name: str) -> Any:
        """The function or class that `name` refers to. PluginError says what was looked for and where."""
        file, _, attribute = name.rpartition(":")
        if file.endswith(".py"):
            return self._attribute(self._module_from_file(Path(file)), attribute, name)
        if ":" in name:
            return self._attribute(self._import(file, name), attribute, name)
        if name in self.builtins:
            return self.load(self.builtins[name])
        found = [e for e in self._entry_points() if e.name == name]
        if len({(e.value, _package(e)) for e in found}) > 1:
            packages = ", ".join(sorted(_package(e) for e in found))
            raise PluginError(
                f"{self.kind} '{name}': several installed packages provide it ({packages}); use module:function"
            )
        if found:
            return self.load(found[0].value.split("[")[0].strip().replace(" ", ""))
        if "." in name:
            module, _, attribute = name.rpartition(".")
            return self._attribute(self._import(module, name), attribute, name)
        known = [entry.name for entry in self.available()]
        near = difflib.get_close_matches(name, known, 1)
        raise PluginError(
            f"{self.kind} '{name}': no built-in or entry point of the group '{self.group}' has this name"
            + (f"; did you mean '{near[0]}'?" if near else ".")
            + f" Known: {', '.join(known)}. Otherwise give module:function or file.py:function."
        )

    def _attribute(self, module: Any, attribute: str, name: str) -> Any:
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
                raise PluginError(f"{self.kind} '{name}': {module.__name__} has no '{attribute}'{hint}")
            target = getattr(target, part)
        return target

    def _import(self, module: str, name: str) -> Any:
        try:
            return importlib.import_module(module)
        except Exception as error:  # importing runs the plugin's code, which may raise anything
            raise PluginError(
                f"{self.kind} '{name}': importing '{module}' failed: {type(error).__name__}: {error}"
            ) from error

    def _module_from_file(self, file: Path) -> Any:
        path = file.expanduser().resolve()
        if not path.is_file():
            raise PluginError(f"{self.kind} '{file}': expected a Python file at {path}, found none")
        # One module per file and process, with a name that cannot shadow a real one. Its folder goes last on the path, so
        # that it can import modules beside it.
        name = f"onsight_plugin_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
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
                f"{self.kind} '{file}': importing {path} failed: {type(error).__name__}: {error}"
            ) from error
        return module

    def _entry_points(self) -> list[EntryPoint]:
        from importlib.metadata import entry_points  # slow to import

        return list(entry_points(group=self.group))


def _package(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else "unknown package"
