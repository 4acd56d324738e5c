"""One process of several that run GRPO with rewards from a service.

python service_worker.py WORLD_FOLDER SERVICE_URL OUT_FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

from rl.loop import train
from tests.rl.small_run import small_config


def main() -> None:
    world, url, out = sys.argv[1:]
    remote = {"function": "http", "url": url, "name": "share_of_digits", "batch_size": 2}
    rewards = {"grammar": "none", "tasks": {"digits": [remote]}}
    train(small_config(Path(world), Path(out), rewards=rewards, steps=6, save_every=6))


if __name__ == "__main__":
    main()
