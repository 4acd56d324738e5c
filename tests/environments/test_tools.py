"""Plain functions as tools: what is read of them, which arguments they take, and how their results are shown."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from core.errors import PluginError
from environments.tools import as_tool, content_of, load_tool
from environments.types import CallError

from . import tools_of_a_user

FILE = tools_of_a_user.__file__


def test_a_trl_tool_works_unchanged_and_is_described_as_transformers_describes_it():
    from transformers.utils import get_json_schema

    tool = load_tool(f"{FILE}:multiply")
    expected = get_json_schema(tools_of_a_user.multiply)
    expected["function"].pop("return")  # no template shows it
    assert tool.signature.schema == expected
    assert tool.call({"a": 3}) == ("6.0",)
    assert tool.call({"a": 3, "b": 0.5}) == ("1.5",)


def test_async_tools_are_awaited():
    assert load_tool(f"{FILE}:slow_echo").call({"text": "again"}) == ("again",)


def test_an_image_parameter_is_a_name_for_the_policy():
    tool = load_tool(f"{FILE}:mirrored")
    assert tool.signature.parameters == {"picture": "image"}
    assert tool.signature.schema["function"]["parameters"]["properties"]["picture"]["type"] == "string"
    pixels = np.arange(4 * 2 * 3, dtype=np.uint8).reshape(2, 4, 3)
    text, image = tool.call({"picture": Image.fromarray(pixels)})
    assert text == "mirrored:" and (np.asarray(image) == pixels[:, ::-1]).all()


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [({}, "argument a: Field required"), ({"a": "x"}, "argument a"), ({"a": 1, "c": 2}, "argument c")],
)
def test_arguments_that_do_not_fit_are_named(arguments, problem):
    with pytest.raises(CallError, match=problem):
        load_tool(f"{FILE}:multiply").call(arguments)


def test_functions_that_describe_no_tool_are_refused_when_they_are_loaded():
    def undocumented(a: int) -> str:
        return ""

    def untyped(a) -> str:
        """Something.

        Args:
            a: A value.
        """
        return ""

    def open_ended(*values: int) -> str:
        """Something.

        Args:
            values: Values.
        """
        return ""

    for function, problem in (
        (undocumented, "docstring"),
        (untyped, "type hint"),
        (open_ended, "named parameters"),
    ):
        with pytest.raises(PluginError, match=problem):
            as_tool(function)
    with pytest.raises(PluginError, match="did you mean 'zoom'"):
        load_tool("zom")
    with pytest.raises(PluginError, match="expected a function, got type"):
        load_tool(f"{FILE}:Countdown")


def test_results_become_texts_and_images():
    image = Image.new("RGB", (3, 2))
    assert content_of("a") == ("a",)
    assert content_of(image) == (image,)
    assert content_of(("a", image)) == ("a", image)
    assert content_of({"rows": 2}) == ("{'rows': 2}",)
    assert content_of([]) == ("(nothing)",)
    assert content_of("\ud800") == ("?",)
    with pytest.raises(CallError, match="characters"):
        content_of("x" * 30_000)
