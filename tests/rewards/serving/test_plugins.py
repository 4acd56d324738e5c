"""Finding functions by name, reading their signatures, and clear errors for everything that does not fit."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from rewards.config import FunctionConfig, RewardsConfig
from rewards.errors import PluginError
from rewards.serving.plugins import REWARDS, bind

FILE = Path(__file__).parents[1] / "plugin_functions.py"


def test_every_built_in_loads_and_is_listed() -> None:
    for name in REWARDS.builtins:
        assert callable(REWARDS.load(name))
    assert {"math", "counting", "choice", "giou", "point_in_box", "temporal_iou", "http"} <= set(
        REWARDS.builtins
    )
    assert {entry.name for entry in REWARDS.available() if entry.origin == "built-in"} == set(
        REWARDS.builtins
    )


@pytest.mark.parametrize(
    "name", ["plugins_demo.inner:judge", "plugins_demo.inner.judge", "plugins_demo.inner:Judge.score"]
)
def test_dotted_paths(name: str, tmp_path: Path, monkeypatch: Any) -> None:
    package = tmp_path / "plugins_demo"
    package.mkdir()
    (package / "__init__.py").write_text("")
    source = "def judge(completion): return 1.0\nclass Judge:\n    @staticmethod\n    def score(completion): return 1.0\n"
    (package / "inner.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    assert REWARDS.load(name)(completion="") == 1.0
    for module in ("plugins_demo", "plugins_demo.inner"):
        sys.modules.pop(module)


def test_a_file_can_import_its_neighbours(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "neighbour_of_reward.py").write_text("VALUE = 0.5\n")
    (tmp_path / "reward.py").write_text(
        "from neighbour_of_reward import VALUE\ndef f(completion): return VALUE\n"
    )
    assert REWARDS.load(f"{tmp_path}/reward.py:f")(completion="") == 0.5


def entry_point(
    folder: Path, package: str, name: str, source: str = "def f(completion): return 1.0\n"
) -> None:
    """An installed package as pip leaves it: a module and its metadata."""
    (folder / f"{package}.py").write_text(source)
    info = folder / f"{package}-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(f"[{REWARDS.group}]\n{name} = {package}:f\n")


def test_entry_points_of_installed_packages(tmp_path: Path, monkeypatch: Any) -> None:
    entry_point(tmp_path, "brevity_plugin", "brevity")
    monkeypatch.syspath_prepend(tmp_path)
    assert REWARDS.load("brevity")(completion="") == 1.0
    assert ("brevity", "brevity_plugin:f", "brevity_plugin 1.2") in [
        (entry.name, entry.target, entry.origin) for entry in REWARDS.available()
    ]


def test_a_name_that_two_packages_claim_is_refused(tmp_path: Path, monkeypatch: Any) -> None:
    entry_point(tmp_path, "first_plugin", "brevity")
    entry_point(tmp_path, "second_plugin", "brevity")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        PluginError, match=r"several installed packages provide it \(first_plugin 1.2, second_plugin 1.2\)"
    ):
        REWARDS.load("brevity")


def test_a_built_in_cannot_be_replaced_by_a_package(tmp_path: Path, monkeypatch: Any) -> None:
    entry_point(tmp_path, "greedy_plugin", "math")
    monkeypatch.syspath_prepend(tmp_path)
    assert REWARDS.load("math").__module__.startswith("rewards.")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        (
            "maths",
            r"no built-in or entry point of the group 'onsight.rewards' has this name; did you mean 'math'\?",
        ),
        ("no_such_package_at_all:f", "importing 'no_such_package_at_all' failed: ModuleNotFoundError"),
        ("rewards.stages:pars", r"rewards.stages has no 'pars'; did you mean 'parse'\?"),
        ("nowhere/reward.py:f", "expected a Python file at"),
        (f"{FILE}:says_anser", r"has no 'says_anser'; did you mean 'says_answer'\?"),
        ("rewards.stages:STAGES", "expected a function, got tuple"),
        (f"{FILE}:hidden", r"got parameters \(args, kwargs\).*functools.wraps"),
        (f"{FILE}:check_gold", r"expected one of f\(completion, answer, \*\*row\)"),
    ],
)
def test_errors_name_what_was_looked_for(name: str, says: str) -> None:
    with pytest.raises(PluginError, match=says):
        bind(name, "auto", {})


def test_a_file_that_does_not_run_is_an_error_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("x = 1 / 0\n")
    for _ in range(2):
        with pytest.raises(PluginError, match="ZeroDivisionError: division by zero"):
            REWARDS.load(f"{tmp_path}/broken.py:f")


def test_signatures_say_what_a_function_reads() -> None:
    def read(name: str, **arguments: Any) -> Any:
        return bind(f"{FILE}:{name}", "auto", arguments).signature

    assert (read("says_answer").columns, read("says_answer").required) == (None, ("answer",))
    assert read("only_even").columns == ("number",)
    assert read("with_threshold").columns == ("answer", "threshold")
    assert read("with_threshold", threshold=0.1).columns == ("answer",)
    assert read("best_of_group").whole_groups and read("best_of_group").wants == ("completions", "group_ids")
    assert read("async_says_answer").asynchronous and not read("says_answer").asynchronous
    assert read("full_text_length").whole_text
    assert read("says_answer").checks_gold and not read("only_even").checks_gold
    assert read("says_answer").summary == "1 if the answer's value is what was said."


def test_unknown_arguments_are_refused_with_the_nearest_name() -> None:
    with pytest.raises(PluginError, match="has no argument 'treshold'; did you mean 'threshold'"):
        bind(f"{FILE}:with_threshold", "auto", {"treshold": 1})
    with pytest.raises(PluginError, match=r"has no argument 'beta'; it takes \(start\)"):
        bind(f"{FILE}:Counting", "auto", {"beta": 1})


def test_short_forms_of_the_configuration() -> None:
    config = RewardsConfig.model_validate(
        {"tasks": {"math": "math", "x": ["giou", {"function": "a.b:c", "k": 3}]}}
    )
    assert config.tasks["math"] == [FunctionConfig(function="math")]
    assert config.tasks["x"][1].arguments == {"k": 3}
    assert [function.name for function in config.tasks["x"]] == ["giou", "c"]
    remote = FunctionConfig.model_validate({"function": "http", "url": "http://h", "name": "judge"})
    assert remote.name == "judge"


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"tasks": {}}, "at least 1 item"),
        ({"tasks": {"m": []}}, "tasks.m: expected at least one reward function"),
        ({"tasks": {"m": "math"}, "grammer": "none"}, "grammer"),
        ({"tasks": {"m": ["a:f", "b:f"]}}, "tasks.m: two functions named f"),
        ({"tasks": {"m": {"function": "math", "weight": 0}}}, "every weight is 0"),
        ({"tasks": {"m": {"function": "math", "weight": -1}}}, "greater than or equal to 0"),
        ({"tasks": {"m": {"function": "math", "weight": float("nan")}}}, "weight"),
        ({"tasks": {"m": {"function": "math", "value_range": [1, 0]}}}, "low < high"),
        ({"tasks": {"m": {"function": "math", "k": 1, "kwargs": {"k": 2}}}}, "arguments given twice"),
        ({"tasks": {"m": "math"}, "timeout_s": 0}, "greater than 0"),
    ],
)
def test_bad_configurations_are_refused(bad: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        RewardsConfig.model_validate(bad)


def test_every_field_of_the_configuration_is_documented() -> None:
    for model in (FunctionConfig, RewardsConfig):
        for name, info in model.model_fields.items():
            assert info.description, f"{model.__name__}.{name}"
