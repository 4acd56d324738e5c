"""Tools: plain Python functions with type hints and a docstring in Google's style (the convention of transformers and TRL).

What a tool returns becomes an observation: text, a PIL image, a list or tuple of both, or content parts ({"type": "text" |
"image", …}). Anything else is shown as `str(value)`. `async` functions are awaited.

Three type hints stand for something that the policy names and the environment looks up:

    PIL.Image.Image    an image of the episode in full resolution: "original_image", "observation_2"
    VideoFile          a video of the row: "original_video"
    Box                [x1, y1, x2, y2] on the call's image; the tool gets whole pixels of it, whatever frame the policy writes in

All other arguments are checked against their hints.
"""

from __future__ import annotations

import asyncio
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NewType

from PIL import Image
from pydantic import BaseModel, ConfigDict, PydanticUserError, ValidationError, create_model

from core.errors import PluginError
from core.plugins import Plugins
from environments.types import CallError, Content

VideoFile = NewType("VideoFile", Mapping[str, Any])
"""A row's video: {"path" | "bytes", "start", "end"}, the last two in seconds where the row shows a part."""
Box = NewType("Box", tuple[int, int, int, int])
"""x1, y1, x2, y2 in pixels of the call's image, inside it and not empty."""

TOOLS = Plugins(
    kind="tool",
    group="onsight.tools",
    builtins={
        name: f"environments.builtins:{name}" for name in ("zoom", "rotate", "frames", "image_zoom_in_tool")
    },
)
"""Built-ins by short name, entry points of the group, files and dotted paths (`core.plugins`)."""

Kind = Literal["image", "video", "box", "value"]
MAX_TEXT = 20_000  # characters of a tool's texts


@dataclass(frozen=True)
class ToolSignature:
    """How a tool is called. parameters: kind of each. schema: as `transformers.utils.get_json_schema` gives it."""

    name: str
    parameters: Mapping[str, Kind]
    schema: Mapping[str, Any]


@dataclass(frozen=True)
class Tool:
    """A loaded tool. values: checks the arguments of kind "value"."""

    function: Callable[..., Any]
    signature: ToolSignature
    values: type[BaseModel]

    def call(self, arguments: Mapping[str, Any]) -> Content:
        """The result as content. Arguments of the kinds "image", "video" and "box" are already looked up.

        Raises CallError for arguments that do not fit, and whatever the function raises.
        """
        kinds = self.signature.parameters
        given = {name: value for name, value in arguments.items() if kinds.get(name, "value") == "value"}
        try:
            checked = self.values.model_validate(given)
        except ValidationError as error:
            problem = error.errors(include_url=False, include_input=False, include_context=False)[0]
            where = ".".join(str(part) for part in problem["loc"])
            raise CallError(f"argument {where}: {problem['msg']}") from None
        values = {name: getattr(checked, name) for name in checked.model_fields_set}
        looked_up = {name: value for name, value in arguments.items() if name not in given}
        result = self.function(**values, **looked_up)
        if inspect.isawaitable(result):
            result = asyncio.run(_awaited(result))
        return content_of(result)


def load_tool(name: str) -> Tool:
    """The tool of a name. Raises PluginError if there is none, or its hints and docstring do not describe it."""
    return as_tool(TOOLS.load(name), name)


def as_tool(function: Callable[..., Any], name: str | None = None) -> Tool:
    """A function as a tool. name: for messages. Raises PluginError as `load_tool`."""
    name = name or str(getattr(function, "__name__", repr(function)))
    if inspect.isclass(function) or not callable(function):
        raise PluginError(f"tool '{name}': expected a function, got {type(function).__name__}")
    try:
        hints, parameters = typing.get_type_hints(function), inspect.signature(function).parameters
    except Exception as error:  # hints are evaluated, which may raise anything
        raise PluginError(f"tool '{name}': its type hints cannot be read: {error}") from error
    for parameter in parameters.values():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise PluginError(f"tool '{name}': expected named parameters only, got {parameter}")
    kinds = {parameter: _kind(hints.get(parameter)) for parameter in parameters}
    if list(kinds.values()).count("image") > 1 and "box" in kinds.values():
        raise PluginError(f"tool '{name}': expected at most one image beside a box, got several")
    fields: dict[str, Any] = {
        parameter.name: (
            hints.get(parameter.name, Any),
            ... if parameter.default is parameter.empty else parameter.default,
        )
        for parameter in parameters.values()
        if kinds[parameter.name] == "value"
    }
    schema = _schema(function, name, hints, kinds)
    config = ConfigDict(extra="forbid", allow_inf_nan=False, protected_namespaces=())
    try:
        values = create_model("Arguments", __config__=config, **fields)
    except (PydanticUserError, NameError, ValueError) as error:
        raise PluginError(f"tool '{name}': arguments of these types cannot be checked: {error}") from error
    return Tool(function, ToolSignature(schema["function"]["name"], kinds, schema), values)


def content_of(result: Any) -> Content:
    """What a tool or environment returned, as texts and images."""
    parts: list[str | Image.Image] = []
    for part in result if isinstance(result, list | tuple) else [result]:
        if isinstance(part, Mapping) and part.get("type") in ("text", "image") and part["type"] in part:
            part = part[part["type"]]
        if isinstance(part, Image.Image):
            parts.append(part)
        else:
            text = part if isinstance(part, str) else str(part)
            parts.append(text.encode("utf-8", "replace").decode("utf-8"))
    if not any(parts):
        parts = ["(nothing)"]
    length = sum(len(part) for part in parts if isinstance(part, str))
    if length > MAX_TEXT:
        raise CallError(f"the result has {length} characters, expected at most {MAX_TEXT}")
    return tuple(parts)


def _kind(hint: Any) -> Kind:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        hint = next((h for h in typing.get_args(hint) if h is not type(None)), hint)
    if hint is VideoFile or hint is Box:
        return "video" if hint is VideoFile else "box"
    return "image" if inspect.isclass(hint) and issubclass(hint, Image.Image) else "value"


def _schema(
    function: Callable[..., Any], name: str, hints: Mapping[str, Any], kinds: Mapping[str, Kind]
) -> dict[str, Any]:
    """The JSON schema of a tool, in which images and videos are the strings that name them."""
    from transformers.utils import get_json_schema  # slow to import
    from transformers.utils.chat_template_utils import DocstringParsingException, TypeHintParsingException

    written = {"image": str, "video": str, "box": list[float]}

    def described() -> None: ...

    described.__doc__ = inspect.getdoc(function)
    described.__name__ = getattr(function, "__name__", name)
    described.__annotations__ = {
        parameter: written.get(kind) or hints[parameter]
        for parameter, kind in kinds.items()
        if parameter in hints
    }
    described.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            p.replace(annotation=described.__annotations__.get(p.name, p.empty))
            for p in inspect.signature(function).parameters.values()
        ]
    )
    try:
        schema: dict[str, Any] = get_json_schema(described)
    except (DocstringParsingException, TypeHintParsingException, ValueError) as error:
        raise PluginError(f"tool '{name}': {error}") from error
    optional = {parameter for parameter, kind in kinds.items() if kind in ("image", "video")}
    parameters = schema["function"]["parameters"]
    parameters["required"] = [p for p in parameters.get("required", ()) if p not in optional]
    return schema


async def _awaited(result: Any) -> Any:
    return await result
