"""From the config: the environment, and rows whose prompts describe its tools."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from core.errors import PluginError
from core.rows import Row
from environments.config import EnvironmentConfig, ToolConfig
from environments.messages import signature_from_json
from environments.plugin import PluginEnvironment
from environments.tool_use import Runnable, ToolEnvironment
from environments.tools import TOOLS, load_tool
from environments.types import Environment
from environments.workers import Workers
from vlm.inputs import special_tokens

_TOOLS = """# Tools

You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>
{signatures}
</tools>

For each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:
<tool_call>
{{"name": <function-name>, "arguments": <args-json-object>}}
</tool_call>"""  # as in Qwen2.5's chat template


def build_environment(config: EnvironmentConfig, processor: Any) -> Environment:
    """The configured environment. Raises PluginError for a tool or class that cannot be loaded."""
    return environment_of(config, special_tokens(processor.tokenizer))


def environment_of(config: EnvironmentConfig, special: tuple[str, ...]) -> Environment:
    """The same, for a model whose control tokens are `special`. Raises PluginError as above."""
    common: dict[str, Any] = {
        "special": special,
        "pixels": (config.min_pixels, config.max_pixels),
        "seconds_per_call": config.seconds_per_call,
        "late_call_ends": config.late_call == "over_turn",
    }
    if config.name is not None:
        return PluginEnvironment(config.name, config.arguments, workers=config.workers, **common)
    return ToolEnvironment(load_tools(config), frame=config.frame, **common)


def load_tools(config: EnvironmentConfig) -> list[Runnable]:
    """The configured tools, in order; those that are isolated share worker processes. Raises PluginError if one cannot be loaded,
    or two have one name."""
    isolated = [tool.tool for tool in config.tools if _isolated(tool)]
    found: dict[str, Runnable] = {}
    if isolated:
        workers = Workers({"tools": isolated}, f"tools {', '.join(isolated)}", size=config.workers)
        signatures = map(signature_from_json, workers.describe())
        found = {n: Runnable(s, workers=workers) for n, s in zip(isolated, signatures, strict=True)}
    tools = [found.get(tool.tool) or _here(tool.tool) for tool in config.tools]
    names = [tool.signature.name for tool in tools]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise PluginError(
            f"environment.tools: expected tools of different names, got {', '.join(twice)} twice"
        )
    return tools


def with_tools(rows: Sequence[Row], config: EnvironmentConfig | None) -> list[Row]:
    """The rows; with `describe_tools` their prompts' system messages (a new one where there is none) describe the tools."""
    if config is None or not config.tools or not config.describe_tools:
        return list(rows)
    tools = load_tools(config)
    text = _TOOLS.format(signatures="\n".join(json.dumps(tool.signature.schema) for tool in tools))
    for tool in tools:
        if tool.workers is not None:
            tool.workers.close()
    return [{**row, "prompt": _with_system(row["prompt"], text)} for row in rows]


def _isolated(config: ToolConfig) -> bool:
    return not TOOLS.is_builtin(config.tool) if config.isolate is None else config.isolate


def _here(name: str) -> Runnable:
    tool = load_tool(name)
    return Runnable(tool.signature, tool=tool)


def _with_system(prompt: Sequence[Mapping[str, Any]], text: str) -> list[dict[str, Any]]:
    messages = [dict(message) for message in prompt]
    if not messages or messages[0]["role"] != "system":
        return [{"role": "system", "content": f"You are a helpful assistant.\n\n{text}"}, *messages]
    content = messages[0]["content"]
    messages[0]["content"] = (
        f"{content}\n\n{text}"
        if isinstance(content, str)
        else [*content, {"type": "text", "text": f"\n\n{text}"}]
    )
    return messages
