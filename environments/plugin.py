"""A user's own environment: a class with `reset(row) -> state` and `respond(state, text)`, which needs no import of ours.

`respond` returns what the policy is shown next (text, image, or a list of both), or None when the episode is over. The state
is whatever `reset` returns, and `respond` may change it. It is pickled after each call, since calls run in worker processes.
A method `outcome(state)`, if there is one, says in the end what came of the episode, as a JSON value: rewards get it as the column
`outcome`. An attribute `stop`, a tuple of texts, names what ends a turn besides the end token.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from core.errors import PluginError
from core.plugins import Plugins
from core.rows import Row
from environments.dialogue import shown
from environments.messages import content_from_json, row_to_json
from environments.text import check_plain, plain
from environments.types import CallError, Content, Done, Observation
from environments.workers import Workers

ENVIRONMENTS = Plugins(kind="environment", group="onsight.environments")
"""Entry points of the group, files and dotted paths (`core.plugins`)."""


def load_environment(name: str, arguments: Mapping[str, Any]) -> Any:
    """An instance of the class of a name. Raises PluginError if there is none, or it lacks `reset` or `respond`."""
    found = ENVIRONMENTS.load(name)
    if not inspect.isclass(found):
        raise PluginError(f"environment '{name}': expected a class, got {type(found).__name__}")
    try:
        environment = found(**arguments)
    except Exception as error:  # the plugin's constructor may raise anything
        raise PluginError(
            f"environment '{name}': creating it failed: {type(error).__name__}: {error}"
        ) from error
    for method, parameters in (("reset", "row"), ("respond", "state, text")):
        if not callable(getattr(environment, method, None)):
            raise PluginError(f"environment '{name}': expected a method {method}({parameters}), found none")
    return environment


def stop_of(environment: Any, name: str) -> tuple[str, ...]:
    stop = getattr(environment, "stop", ())
    if not isinstance(stop, tuple | list) or not all(isinstance(text, str) and text for text in stop):
        raise PluginError(f"environment '{name}': expected `stop` to be a tuple of texts, got {stop!r:.80}")
    return tuple(stop)


class PluginEnvironment:
    """`environments.types.Environment` on a user's class, in worker processes.

    A call of `respond` that raises or exceeds `seconds_per_call` is an observation that says so, and changes no state.
    """

    def __init__(
        self,
        name: str,
        arguments: Mapping[str, Any],
        *,
        special: tuple[str, ...],
        pixels: tuple[int, int],
        workers: int,
        seconds_per_call: float,
        late_call_ends: bool,
    ) -> None:
        load = {"environment": name, "arguments": dict(arguments)}
        self._workers = Workers(load, f"environment '{name}'", size=workers)
        described = self._workers.describe()
        self.stop: tuple[str, ...] = tuple(described["stop"])
        self._has_outcome = bool(described["outcome"])
        self._name = name
        self._special, self._pixels = special, pixels
        self._seconds, self._late_call_ends = seconds_per_call, late_call_ends

    def reset(self, row: Row) -> dict[str, Any]:
        """Raises PluginError if the environment's `reset` fails: a row that cannot be played is not the policy's doing."""
        try:
            return self._workers.ask({"reset": row_to_json(row)}, self._seconds)
        except CallError as error:
            raise PluginError(f"environment '{self._name}': row {row['id']!r}: reset {error}") from None

    def respond(self, state: dict[str, Any], text: str) -> Observation | Done:
        try:
            answer = self._workers.ask({"respond": {"state": state["state"], "text": text}}, self._seconds)
            state["state"] = answer["state"]
            if answer["content"] is None:
                return Done()
            return Observation(self._shown(content_from_json(answer["content"])))
        except CallError as error:
            if error.late and self._late_call_ends:
                return Done("seconds")
            problem = plain(str(error), self._special)
            return Observation((f"error: {problem}",), error=problem)

    def outcome(self, state: dict[str, Any]) -> Any:
        """What came of the episode; None without such a method. Raises PluginError if it fails."""
        if not self._has_outcome:
            return None
        try:
            return self._workers.ask({"outcome": state["state"]}, self._seconds)
        except CallError as error:
            raise PluginError(f"environment '{self._name}': outcome {error}") from None

    def close(self) -> None:
        self._workers.close()

    def _shown(self, content: Content) -> Content:
        check_plain(content, self._special)
        low, high = self._pixels
        return tuple(
            part if isinstance(part, str) else shown(part, min_pixels=low, max_pixels=high)
            for part in content
        )
