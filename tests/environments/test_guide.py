"""The examples of docs/environments.md are what they say they are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from PIL import Image

from environments.calls import read_call
from environments.config import EnvironmentConfig
from environments.plugin import load_environment
from environments.tools import TOOLS, load_tool

GUIDE = (Path(__file__).parents[2] / "docs" / "environments.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", GUIDE, flags=re.DOTALL)


@pytest.fixture
def files(tmp_path):
    for block in blocks("python"):
        if name := re.match(r"# (\w+\.py)\n", block):
            (tmp_path / name.group(1)).write_text(block)
    return tmp_path


def test_the_tool(files):
    tool = load_tool(f"{files}/my_tools.py:ruler")
    assert tool.call({"source": Image.new("RGB", (30, 20)), "axis": "height"}) == ("20 pixels",)
    assert tool.signature.parameters == {"source": "image", "axis": "value"}


def test_the_environment(files):
    environment = load_environment(f"{files}/countdown.py:Countdown", {"unit": "apples"})
    state = environment.reset({"start": 5, "images": []})
    assert environment.respond(state, "2!") == "3 apples left"
    assert environment.respond(state, "3!") is None


def test_the_configs():
    configs = [EnvironmentConfig.model_validate(yaml.safe_load(b)["environment"]) for b in blocks("yaml")]
    assert [bool(config.tools) for config in configs] == [True, False, False]


def test_the_calls_and_the_table_of_built_ins():
    (calls,) = re.findall(r"```\n(<grounding>.*?)```", GUIDE, flags=re.DOTALL)
    read = [read_call(line) for line in calls.splitlines()]
    assert [call.name for call in read] == ["zoom", "zoom"]
    assert set(re.findall(r"^\| `(\w+)` \|", GUIDE, flags=re.MULTILINE)) == set(TOOLS.builtins)
