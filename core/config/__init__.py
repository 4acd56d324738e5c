"""One way to configure every program: a YAML file, dotted overrides, a typed pydantic model.

A program has one model class, a `Section` with a docstring under every field, and one call:

    from core.config import load_config
    from rl.config import GRPOConfig

    config, dry_run = load_config(GRPOConfig)      # the command line; with --dry-run the resolved config is printed

which gives the command line

    accelerate launch grpo.py --config run.yaml optimizer.learning_rate=1e-6 prompts.rows=rows.jsonl --dry-run

Overrides are `dotted.key=value`; the value is read as YAML (`null`, `[1, 2]`, `{a: 1}`, `"007"` for a string of
digits), a number in a key is a list index. `--help` prints every field with its type, default and docstring.

A wrong config ends the program with exit code 2 and one line per mistake: where, which key, what was expected, what
was found; for an unknown key, the nearest known one; for a key of a former version, its new name (`Section.RENAMED`).
`read_config` is the same without a command line and raises `ConfigError` instead.
"""

from core.config.command_line import load_config, read_config
from core.config.describing import describe
from core.config.reading import ConfigError, parse_value, read_yaml
from core.config.section import Section
from core.text import dump

__all__ = [
    "ConfigError",
    "Section",
    "describe",
    "dump",
    "load_config",
    "parse_value",
    "read_config",
    "read_yaml",
]
