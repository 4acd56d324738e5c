"""Search at inference time: best-of-N, self-consistency, beams by stage and sentence, retracing.

python -m inference --config launch/configs/….yaml             # answer rows by several methods, compare gains and costs
python -m inference calibrate --config …                       # thresholds of retracing, from the judge's scores
python -m inference ask --model … --image … --question …       # one question, shown stage by stage
python -m inference serve --config …                           # an OpenAI-compatible endpoint

`--help` after each explains its settings; with --config, `--dry-run` resolves and prints the config, checks it, and stops.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from core.config import load_config
from core.processes.explained import explained


def main(argv: Sequence[str] | None = None) -> None:
    """Command line; see `core.config.load_config` for overrides."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    commands = {"calibrate": _calibrate, "ask": _ask, "serve": _serve}
    if arguments and arguments[0] in commands:
        commands[arguments[0]](arguments[1:])
    else:
        _compare(arguments)


# The programs are imported when their config is known to be right: importing torch takes seconds.


def _compare(argv: Sequence[str]) -> None:
    from inference.config import InferenceConfig

    config, dry_run = load_config(InferenceConfig, argv)
    if dry_run:
        return
    with explained():
        from inference.run import run

        run(config)


def _calibrate(argv: Sequence[str]) -> None:
    from inference.calibrate import CalibrationConfig, calibrate

    config, dry_run = load_config(CalibrationConfig, argv)
    if dry_run:
        return
    with explained():
        calibrate(config)


def _ask(argv: Sequence[str]) -> None:
    from inference.ask import main as ask

    ask(argv)


def _serve(argv: Sequence[str]) -> None:
    from inference.serving.config import ServeConfig

    config, dry_run = load_config(ServeConfig, argv)
    if dry_run:
        return
    with explained():
        from inference.serving.service import serve

        serve(config)


if __name__ == "__main__":
    main()
