"""A config model from a YAML file and the command line."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn, TypeVar

from pydantic import BaseModel, ValidationError

from core.config.describing import describe
from core.config.mistakes import explained, ill_values, renamed_keys
from core.config.reading import ConfigError, override, read_yaml
from core.text import dump

C = TypeVar("C", bound=BaseModel)


def load_config(model: type[C], argv: Sequence[str] | None = None) -> tuple[C, bool]:
    """Read the command line `[--config FILE] [--dry-run] [dotted.key=value ...]` into `model`.

    Returns the config and whether `--dry-run` was given; with it, the resolved config is printed as YAML first.
    Exits with code 2 and the mistakes on stderr when the config is wrong, with 0 after `--help`.
    """
    parser = argparse.ArgumentParser(
        usage="%(prog)s [--config FILE.yaml] [--dry-run] [dotted.key=value ...]",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"fields of {model.__name__}:\n{describe(model)}",
        allow_abbrev=False,
    )
    parser.add_argument("--config", type=Path, metavar="FILE.yaml", help="the YAML file")
    parser.add_argument("--dry-run", action="store_true", help="print the resolved config and stop")
    parser.add_argument("overrides", nargs="*", metavar="dotted.key=value", help="replace single values")
    arguments = parser.parse_intermixed_args(argv)
    try:
        config = read_config(model, arguments.config, arguments.overrides)
    except ConfigError as error:
        _stop(str(error))
    if arguments.dry_run and _speaks():
        print(dump(config), end="", flush=True)
    return config, arguments.dry_run


def read_config(model: type[C], path: str | Path | None, overrides: Sequence[str] = ()) -> C:
    """`model` from the YAML file `path` (None: from overrides and defaults alone) with `dotted.key=value` overrides.

    Raises `ConfigError` for a missing or malformed file, an unknown, renamed or doubled key, a missing or ill-typed value.
    """
    data, places = ({}, {}) if path is None else read_yaml(path)
    for assignment in overrides:
        override(data, places, assignment)
    if lines := [*renamed_keys(model, data, places), *ill_values(model, data, places)]:
        raise ConfigError("\n".join(lines))
    try:
        return model.model_validate(data)
    except ValidationError as error:
        origin = str(path) if path is not None else "command line"
        raise ConfigError("\n".join(explained(model, data, places, origin, error.errors()))) from None


def _speaks() -> bool:
    """Under a launcher, one process of each machine speaks for all."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


def _stop(message: str) -> NoReturn:
    if _speaks():
        print(message, file=sys.stderr)
    raise SystemExit(2)
