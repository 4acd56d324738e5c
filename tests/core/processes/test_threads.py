"""OpenMP threads spin only briefly while they wait, in every program, unless the user wants otherwise."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from core.processes.threads import CHOICES

ROOT = Path(__file__).parents[3]
PROGRAMS = [
    "sft.py",
    "grpo.py",
    "evaluate.py",
    "launch/demo.py",
    "inference/__main__.py",
    "evaluation/report.py",
]
LOOK = """
import os, runpy, sys

class AtTorch:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            print("policy", os.environ.get("OMP_WAIT_POLICY"), os.environ.get("GOMP_SPINCOUNT"), flush=True)
            os._exit(0)

sys.meta_path.insert(0, AtTorch())
runpy.run_path(sys.argv[1], run_name="imported")
import torch
"""


def policy_when_torch_is_imported(program: str, **environment: str) -> str:
    """OMP_WAIT_POLICY and GOMP_SPINCOUNT when the program would load torch, and with it OpenMP."""
    clean = {name: value for name, value in os.environ.items() if name not in CHOICES}
    done = subprocess.run(
        [sys.executable, "-c", LOOK, program],
        cwd=ROOT,
        env=clean | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split("policy ")[1].strip()


@pytest.mark.parametrize("program", PROGRAMS)
def test_it_is_set_before_a_program_loads_openmp(program):
    assert policy_when_torch_is_imported(program) == "passive 1000"


def test_what_the_user_has_set_stays():
    assert policy_when_torch_is_imported("grpo.py", OMP_WAIT_POLICY="active") == "active None"
    assert policy_when_torch_is_imported("grpo.py", GOMP_SPINCOUNT="100") == "None 100"
