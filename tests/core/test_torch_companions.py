"""torchvision imports beside a CPU build of torch, in whatever order packages look for it."""

from __future__ import annotations

import subprocess
import sys

LOOKED_FOR_FIRST = """
import core, importlib.util
importlib.util.find_spec("torchvision")  # as transformers does to learn whether it is there
core.adapt_torch_companions()
import torchvision
"""


def test_torchvision_imports_after_it_was_looked_for():
    run = subprocess.run([sys.executable, "-c", LOOKED_FOR_FIRST], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]
