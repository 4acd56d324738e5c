"""One process of several that train in the search world: `episodes_worker.py WORLD_FOLDER OUT_FOLDER`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from rl.loop import train
from tests.rl.search_world import search_config


def main(world: str, out: str) -> None:
    train(search_config(Path(world), Path(out)))


if __name__ == "__main__":
    main(*sys.argv[1:])
    sys.stdout.flush()
    os._exit(0)  # without the interpreter's own clean-up, in which gloo's threads have been seen to hang
