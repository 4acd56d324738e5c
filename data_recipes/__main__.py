"""Data recipes on the command line.

python -m data_recipes run RECIPE.yaml [key=value ...] [--strict] [--fresh] [--machine I/N]   make a data set; goes on after a kill
python -m data_recipes inspect FILE [--format NAME] [--sheet OUT.png] [option=value ...]    what a file is, three rows, what is wrong
python -m data_recipes rows owner/name[@revision][:split] [--format NAME]       rows of a Hub data set, where every program finds them
python -m data_recipes formats [NAME]                                     readers, or one reader's options
python -m data_recipes operations [NAME]                                  operations, or one's options
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import yaml

from core.config import ConfigError, describe, dump, parse_value, read_config
from core.errors import UserError
from core.rows import Row
from data_recipes.config import Recipe
from data_recipes.contact_sheet import contact_sheet
from data_recipes.hub_rows import make_rows
from data_recipes.inspection import inspect
from data_recipes.operations import OPERATIONS
from data_recipes.readers import FORMATS
from data_recipes.runner import RecipeError, run_recipe
from vlm.load import load_processor, pixel_limits


def main(argv: list[str] | None = None) -> None:
    """Exits with code 2 and a message for bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m data_recipes",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="make a data set")
    run.add_argument("recipe", type=Path)
    run.add_argument("overrides", nargs="*", metavar="key=value")
    run.add_argument(
        "--machine", type=_machine, default=(0, 1), metavar="I/N", help="which of N machines this is, from 0"
    )
    run.add_argument("--strict", action="store_true", help="bad rows end the run (strict=true)")
    run.add_argument("--fresh", action="store_true", help="use nothing of earlier runs but models' answers")
    run.add_argument("--dry-run", action="store_true", help="print the resolved recipe and stop")
    look = commands.add_parser("inspect", help="look at a file")
    look.add_argument("file", type=Path)
    look.add_argument("options", nargs="*", metavar="option=value")
    look.add_argument("--format", choices=sorted(FORMATS), metavar="NAME", help="in place of a guess")
    look.add_argument(
        "--sheet", type=Path, metavar="OUT.png", help="draw the first good rows as the model gets them"
    )
    look.add_argument("--sheet-rows", type=int, default=24, metavar="N", help="so many of them")
    look.add_argument("--model", type=Path, help="a checkpoint, for the pixel limits that --sheet resizes by")
    look.add_argument("--limit", type=int, help="records to read")
    look.add_argument("--root", type=Path, help="a further folder that media may lie in")
    made = commands.add_parser("rows", help="make rows of a data set of the Hub")
    made.add_argument("dataset")
    made.add_argument("--format", choices=sorted(FORMATS), metavar="NAME", help="in place of a guess")
    for name in ("formats", "operations"):
        commands.add_parser(name, help=f"list the {name}").add_argument("name", nargs="?")
    given = sys.argv[1:] if argv is None else argv
    if (
        given and given[0] in commands.choices
    ):  # options may stand before, between and after the other arguments
        arguments = commands.choices[given[0]].parse_intermixed_args(given[1:])
        arguments.command = given[0]
    else:
        arguments = parser.parse_args(given)
    try:
        if arguments.command == "run":
            strict = ["strict=true"] if arguments.strict else []
            recipe = read_config(Recipe, arguments.recipe, [*arguments.overrides, *strict])
            if arguments.dry_run:
                print(dump(recipe), end="")
            else:
                run_recipe(recipe, machine=arguments.machine, fresh=arguments.fresh)
        elif arguments.command == "inspect":
            options = dict(map(_option, arguments.options))
            good: list[Row] | None = [] if arguments.sheet else None
            for line in inspect(
                arguments.file,
                arguments.format,
                options,
                limit=arguments.limit,
                root=arguments.root,
                good=good,
            ):
                print(line.encode("utf-8", "backslashreplace").decode())
            if good is not None:
                _write_sheet(good[: arguments.sheet_rows], arguments.sheet, arguments.model)
        elif arguments.command == "rows":
            out = make_rows(arguments.dataset, format=arguments.format)
            print(out or f"{arguments.dataset}: holds rows already, or is of no known format (see inspect)")
        elif arguments.command == "formats":
            for line in _listed({f.name: (f.summary, f.options) for f in FORMATS.values()}, arguments.name):
                print(line)
        else:
            known = {n: (_first_line(o.options.__doc__), o.options) for n, o in OPERATIONS.items()}
            for line in _listed(known, arguments.name):
                print(line)
    except (ConfigError, RecipeError, UserError, ValueError, OSError) as error:
        print(str(error).encode("utf-8", "backslashreplace").decode(), file=sys.stderr)
        raise SystemExit(2) from None


def _write_sheet(rows: list[Row], out: Path, model: Path | None) -> None:
    if not rows:
        raise ValueError(f"{out}: there is no good row to draw")
    limits = pixel_limits(load_processor(model)) if model else None
    out.parent.mkdir(parents=True, exist_ok=True)
    contact_sheet(rows, limits).save(out)
    print(f"{out}: {len(rows)} rows as the model gets them")


def _option(text: str) -> tuple[str, Any]:
    """`name=value`, the value as in YAML."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ValueError(f"expected option=value, got {text!r}")
    try:
        return name, parse_value(value)
    except yaml.YAMLError as error:
        raise ValueError(f"option {name}: expected a YAML value, got: {error}") from None


def _listed(known: dict, name: str | None) -> list[str]:
    if name is None:
        return [f"{key:24} {summary}" for key, (summary, _) in sorted(known.items())]
    if name not in known:
        raise ValueError(f"unknown name '{name}'; known: {', '.join(sorted(known))}")
    summary, options = known[name]
    return [f"{name}: {summary}", describe(options)]


def _first_line(text: str | None) -> str:
    return (text or "").strip().split("\n")[0]


def _machine(text: str) -> tuple[int, int]:
    which, _, machines = text.partition("/")
    if not (which.isdigit() and machines.isdigit() and int(which) < int(machines)):
        raise argparse.ArgumentTypeError(f"expected I/N with 0 <= I < N, got {text!r}")
    return int(which), int(machines)


if __name__ == "__main__":
    main()
