"""What runs in a worker process (`workers.py`): it loads tools or an environment, and answers calls until its parent closes the
socket. Requests are JSON (`messages.py`), and so are the answers, {"answer": …} or {"error": text}:

    {"load": {"tools": [name, …]}}                the tools' signatures
    {"load": {"environment": name, "arguments"}}  {"stop", "outcome"}, outcome true where it has the method
    {"call": JSON of the arguments, "tool", "media", "boxes"}   the tool's result
    {"reset": row}                                {"state"}
    {"respond": {"state", "text"}}                {"state", "content"}, content null when the episode is over
    {"outcome": state}                            what the environment says of the episode, JSON

An environment's state is pickled here and unpickled here; its parent never does.
"""

from __future__ import annotations

import faulthandler
import json
import os
import pickle
import signal
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from core.errors import PluginError
from environments.messages import content_to_json, image_from_json, row_from_json
from environments.plugin import load_environment, stop_of
from environments.tools import Tool, content_of, load_tool
from environments.types import CallError
from rewards.serving import wire
from rewards.serving.process import Parent


def main(socket_fd: int, dump_fd: int) -> None:
    """Serve requests on the socket `socket_fd`; on SIGUSR1 write the stack to `dump_fd`."""
    faulthandler.register(signal.SIGUSR1, file=dump_fd, all_threads=False)
    os.set_inheritable(dump_fd, False)
    parent = Parent(socket_fd)
    home = os.getcwd()
    plugin: Any = None
    while (message := parent.request()) is not None:
        request = wire.loads(message)
        try:
            if "load" in request:
                plugin, answer = _loaded(request["load"])
            elif "call" in request:
                answer = _called(plugin, request)
            elif "reset" in request:
                answer = {"state": _pickled(plugin.reset(row_from_json(request["reset"])))}
            elif "outcome" in request:
                answer = plugin.outcome(pickle.loads(request["outcome"]))  # noqa: S301  a worker's own bytes
            else:
                answer = _responded(plugin, request["respond"])
            sent = wire.dumps({"answer": answer})
        except (PluginError, CallError) as error:
            sent = wire.dumps({"error": str(error)})
        except Exception as error:  # noqa: BLE001  whatever a plugin raises is its call's failure
            sent = wire.dumps({"error": f"{type(error).__name__}: {error}"})
        os.chdir(home)  # the plugin may have changed the directory
        parent.answer(sent)
    os.killpg(0, signal.SIGKILL)  # ends this process and everything that it started


def _loaded(request: Mapping[str, Any]) -> tuple[Any, Any]:
    if "tools" in request:
        tools = [load_tool(name) for name in request["tools"]]
        return {tool.signature.name: tool for tool in tools}, [asdict(tool.signature) for tool in tools]
    name = request["environment"]
    environment = load_environment(name, request["arguments"])
    has_outcome = callable(getattr(environment, "outcome", None))
    return environment, {"stop": list(stop_of(environment, name)), "outcome": has_outcome}


def _called(tools: Mapping[str, Tool], request: Mapping[str, Any]) -> Any:
    media = {
        name: image_from_json(value) if "pixels" in value else value
        for name, value in request["media"].items()
    }
    boxes = {name: tuple(box) for name, box in request["boxes"].items()}
    arguments = {**json.loads(request["call"]), **media, **boxes}
    return content_to_json(tools[request["tool"]].call(arguments))


def _responded(environment: Any, request: Mapping[str, Any]) -> Any:
    state = pickle.loads(request["state"])  # noqa: S301  a worker's own bytes
    result = environment.respond(state, request["text"])
    content = None if result is None else content_to_json(content_of(result))
    return {"state": _pickled(state), "content": content}


def _pickled(state: Any) -> bytes:
    try:
        return pickle.dumps(state)
    except Exception as error:  # noqa: BLE001  objects may raise anything
        raise CallError(f"the state that reset() returned cannot be pickled: {error}") from None
