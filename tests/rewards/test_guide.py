"""The guide is true: its plugin package is installed from the text of `docs/rewards.md` and used as it says."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from rewards.config import RewardsConfig
from rewards.stages import render

GUIDE = Path(__file__).parents[2] / "docs" / "rewards.md"


def blocks() -> dict[str, str]:
    """Texts of the guide's blocks that carry a file name."""
    found = re.findall(
        r"^```\w+ file=(\S+)\n(.*?)^```$", GUIDE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    return dict(found)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """The package of the guide, installed into a scratch folder without network; (its source, environment)."""
    source = tmp_path_factory.mktemp("plugin")
    for name, text in blocks().items():
        (source / name).write_text(text, encoding="utf-8")
    site = tmp_path_factory.mktemp("site")
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-build-isolation",
        "--no-deps",
        "--no-index",
    ]
    subprocess.run([*pip, "--disable-pip-version-check", "--target", str(site), str(source)], check=True)
    path = os.pathsep.join([str(site), str(GUIDE.parents[1])])
    return source, {**os.environ, "PYTHONPATH": path}


def run(installed: tuple[Path, dict[str, str]], *command: str) -> str:
    source, environment = installed
    done = subprocess.run(
        [sys.executable, *command], cwd=source, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_package_takes_twenty_lines_or_fewer_of_python() -> None:
    assert len(blocks()["brevity_reward.py"].strip().splitlines()) <= 20


def test_the_guides_own_check_command_finds_nothing_wrong(installed: tuple[Path, dict[str, str]]) -> None:
    command = blocks()["try.sh"].strip().splitlines()[-1].split()
    assert command[0] == "python"
    table = run(installed, *command[1:])
    assert "brevity: 2 rows, 0 answers it cannot read" in table
    rows = {line.split()[0]: line.split() for line in table.splitlines()}
    assert rows["answer"][1:5] == ["2", "1.000", "1.000", "1.000"]
    assert rows["adversarial"][4] == "0.000"


def test_the_package_is_listed(installed: tuple[Path, dict[str, str]]) -> None:
    assert re.search(
        r"^brevity +brevity-reward 0.1.0 ", run(installed, "-m", "rewards", "list"), re.MULTILINE
    )


def test_the_guides_configuration_scores_with_the_installed_plugin(
    installed: tuple[Path, dict[str, str]],
) -> None:
    script = (
        "import json, sys, yaml\nfrom rewards.config import RewardsConfig\nfrom rewards.router import Router\n"
        "rows = [json.loads(line) for line in open('rows.jsonl')]\n"
        "config = RewardsConfig.model_validate(yaml.safe_load(open('rewards.yaml')))\n"
        "with Router(config) as router:\n"
        "    router.check_rows(rows)\n"
        "    print(json.dumps([score.reward for score in router.score(rows, sys.argv[1:])]))\n"
    )
    trace = {"summary": "s", "caption": "c", "reasoning": "r", "conclusion": "a cat"}
    good = render(trace)
    assert json.loads(run(installed, "-c", script, good, "heron")) == [1.0, 0.0]


def test_every_yaml_field_of_the_guide_is_real() -> None:
    config = RewardsConfig.model_validate(yaml.safe_load(blocks()["rewards.yaml"]))
    assert config.tasks["naming"][0].arguments == {"max_words": 5}
