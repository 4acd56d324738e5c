"""Loading reward functions by name (`core.plugins`), and binding their configured arguments.

A class is a function with state: it is instantiated once with the configured keyword arguments, and the instance is called.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from core.plugins import Plugins
from rewards.errors import PluginError
from rewards.functions.builtins import BUILTINS
from rewards.serving.adapters import adapt
from rewards.serving.signatures import (
    Bound,
    Style,
    check_arguments,
    check_constructor,
    guess_style,
    is_async,
    read_signature,
    with_attributes,
)

_CLASSES = {"http": "rewards.serving.client:Remote", "reward_model": "reward_models.reward:RewardModel"}
REWARDS = Plugins(kind="reward", group="onsight.rewards", builtins={**BUILTINS, **_CLASSES})
"""Built-ins by short name, entry points of the group, files and dotted paths (`core.plugins`)."""


def bind(name: str, style: str, arguments: Mapping[str, Any]) -> Bound:
    """Load `name` and bind the configured arguments, refusing those that it does not take.

    A class is instantiated with the arguments. Functions written for EasyR1 and verl are adapted.
    """
    loaded: Any = REWARDS.load(name)
    if inspect.isclass(loaded):
        check_constructor(loaded, arguments, name)
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
