"""Imports go downwards only, nobody imports an entry point, and every package used is declared."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Container, Iterator, Mapping, Sequence
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
BELOW: dict[str, set[str]] = {
    "core": set(),
    "vlm": {"core"},
    "rewards": {"core"},
    "engines": {"core", "vlm"},
    # below data_recipes: the dialogues of a cold start are worded as in rollouts
    "environments": {"core", "vlm", "rewards", "engines"},
    "data_recipes": {"core", "vlm", "rewards", "environments"},
    "sft": {"core", "vlm", "rewards"},
    # the loop around fixed rows, and instruction rows, are SFT's
    "pretraining": {"core", "vlm", "rewards", "sft.data", "sft.supervised"},
    "reward_models": {
        "core",
        "vlm",
        "rewards",
        "engines",
        "sft.order",
        "sft.data",
        "sft.supervised",  # the loop around fixed rows
    },  # as rewards, named by a string
    "rl": {"core", "vlm", "rewards", "engines", "environments"},
    # inference searches on any engine, and knows no training
    "inference": {"core", "vlm", "rewards", "engines", "environments"},
    "evaluation": {"core", "vlm", "rewards", "data_recipes", "engines", "environments", "rl", "inference"},
    "launch": {
        "core",
        "vlm",
        "rewards",
        "engines",
        "environments",
        "sft",
        "pretraining",
        "reward_models",
        "rl",
        "evaluation",
    },
}
ROOMS = tuple(BELOW)
# not sft: `import sft` is the package; sft.py beside it cannot be imported
ENTRY_POINTS = {"grpo", "evaluate", "reward_model", "pretrain"}

CARRIED = {
    "torchvision",
    "tokenizers",
    "markupsafe",
    "starlette",
    "anyio",
    "uvicorn",
    "psutil",
    "pydantic-core",
}
"""Packages that come with declared ones, at the release those choose."""
WITHOUT_DEPENDENCIES = REPOSITORY / "evaluation" / "lmms" / "requirements.txt"
"""Packages of one optional program, whose own requirements contradict this project's."""


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """(absolute dotted module, line) of every import in a file, those inside functions too."""
    package = path.relative_to(REPOSITORY).parent.parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            yield ".".join([*base, *([node.module] if node.module else [])]), node.lineno


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (REPOSITORY / folder).rglob("*.py"))


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_rooms_below_it(room):
    for path in sources(room):
        for module, line in imports(path):
            top = module.split(".")[0]
            if top in ROOMS and top != room:
                allowed = BELOW[room] | ({"core.config"} if path.name == "__main__.py" else set())
                assert any(f"{module}.".startswith(f"{below}.") for below in allowed), (
                    f"{path.relative_to(REPOSITORY)}:{line}: {room} may not import {module}"
                )


def test_no_modules_import_each_other():
    """Neither at import time nor inside functions; imports under TYPE_CHECKING alone do not run."""
    modules = {module_name(path): path for path in sources(*ROOMS)}
    below = {name: sorted(imported_modules(path, modules) - {name}) for name, path in modules.items()}
    assert len(below) > 100 and below["rewards.cli"]  # the graph is not empty
    circles = circles_of(below)
    assert not circles, "; ".join(" -> ".join(circle) for circle in circles)


def test_circles_are_found():
    assert circles_of({"a": ["b"], "b": ["c"], "c": ["a"], "d": ["a"]}) == [["a", "b", "c", "a"]]
    assert circles_of({"a": ["b", "c"], "b": ["c"], "c": []}) == []


def module_name(path: Path) -> str:
    parts = path.relative_to(REPOSITORY).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_modules(path: Path, modules: Container[str]) -> set[str]:
    """Modules of ours that a file imports when it runs: `from a.b import c` is a.b.c where that is a module, else a.b."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            node.body = []
    package = path.relative_to(REPOSITORY).parent.parts
    found = set()
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            names = [".".join([*base, *filter(None, [node.module]), name]) for name in names]
        for name in names:
            while name and name not in modules:
                name = name.rpartition(".")[0]
            found.add(name)
    return found - {""}


def circles_of(below: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """Each circle that a depth-first walk closes, from a name back to itself."""
    circles, done, trail = [], set(), []

    def visit(name: str) -> None:
        if name in trail:
            circles.append([*trail[trail.index(name) :], name])
        elif name not in done:
            trail.append(name)
            for other in below[name]:
                visit(other)
            done.add(trail.pop())

    for name in sorted(below):
        visit(name)
    return circles


def test_nobody_imports_the_entry_points():
    for path in sources(*ROOMS, "benchmarks"):  # tests may: they run them
        for module, line in imports(path):
            assert module.split(".")[0] not in ENTRY_POINTS, f"{path}:{line} imports {module}"


def test_media_are_opened_in_one_place():
    allowed = {"core/media/images.py", "core/media/videos.py"}
    for path in sources(*ROOMS):
        name = str(path.relative_to(REPOSITORY))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and name not in allowed:
                call = ast.unparse(node)
                writes = call.startswith("av.open(") and "'w'" in call
                assert writes or not call.startswith(("Image.open(", "av.open(")), (
                    f"{name}:{node.lineno}: {call}"
                )


def test_every_third_party_import_is_declared():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    requirements = project["dependencies"] + [
        r for extra in project["optional-dependencies"].values() for r in extra
    ]
    requirements += re.findall(r"^[\w-]+==.*$", WITHOUT_DEPENDENCIES.read_text(), re.MULTILINE)
    declared = {normal(re.match(r"[\w.-]+", requirement).group()) for requirement in requirements}
    distributions = packages_distributions()
    missing = set()
    for path in [*sources(*ROOMS, "tests", "benchmarks"), *REPOSITORY.glob("*.py")]:
        for module, line in imports(path):
            top = module.split(".")[0]
            if (
                top in sys.stdlib_module_names
                or top in {*ROOMS, *ENTRY_POINTS, "tests", "benchmarks"}
                or not top
            ):
                continue
            if not {normal(name) for name in distributions.get(top, [top])} & (declared | CARRIED):
                missing.add(f"{path.relative_to(REPOSITORY)}:{line}: {module}")
    assert not missing, "not in pyproject.toml: " + ", ".join(sorted(missing))


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
