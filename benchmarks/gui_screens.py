"""Screens a minute for one core: pages drawn by Chromium with all elements read from the DOM, as `synthetic_gui` makes them.

    python -m benchmarks.gui_screens [--screens 100] [--runs 5] [--format jpeg]

Prints the medians over the runs of screens for a minute of processor time (this process's and all of the browser's), which other
load on the machine hardly changes, and for a minute of the clock with one browser.
"""

from __future__ import annotations

import argparse
import statistics
import time

import psutil

from data_recipes.synthetic.gui.world import GuiOptions, browser, draw


def cpu_seconds() -> float:
    """Processor time of this process and its browser so far."""
    shell = psutil.Process(browser().browser.process.pid)
    used = 0.0
    for process in (psutil.Process(), shell, *shell.children(recursive=True)):
        times = process.cpu_times()
        used += times.user + times.system
    return used


def measure(screens: int, first: int, options: GuiOptions) -> dict[str, float]:
    """Figures of `screens` screens, from number `first`."""
    cpu, began, size = cpu_seconds(), time.perf_counter(), 0
    for index in range(first, first + screens):
        size += len(draw(index, options).image)
    return {
        "screens_per_cpu_minute": 60 * screens / (cpu_seconds() - cpu),
        "screens_per_minute": 60 * screens / (time.perf_counter() - began),
        "kilobytes": size / screens / 1000,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--screens", type=int, default=100, help="of one run")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--format", choices=("png", "jpeg"), default="png")
    args = parser.parse_args()
    options = GuiOptions(image_format=args.format)
    measure(11, 0, options)  # the browser starts, and compiles what it draws with
    found = [measure(args.screens, 100 + run * args.screens, options) for run in range(args.runs)]
    for name in found[0]:
        values = sorted(run[name] for run in found)
        print(f"{name}: {statistics.median(values):.0f} ({values[0]:.0f} to {values[-1]:.0f})")


if __name__ == "__main__":
    main()
