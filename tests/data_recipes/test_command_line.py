"""The command line: options in any order, and input that would hang or crash a careless reader."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from core.config import ConfigError, read_yaml
from data_recipes.__main__ import main


@pytest.fixture
def source(tmp_path) -> Path:
    path = tmp_path / "rows.jsonl"
    row = {
        "id": "a",
        "task": "math",
        "prompt": [{"role": "user", "content": "1 + 1?"}],
        "answer": {"value": "2"},
    }
    path.write_text(json.dumps(row) + "\n")
    return path


@pytest.fixture
def recipe(source, tmp_path) -> Path:
    path = tmp_path / "r.yaml"
    path.write_text(
        f"name: t\ntasks: 1\nsources: [{{name: s, format: rows, path: {source}}}]\noutput_dir: {tmp_path / 'out'}\n"
    )
    return path


@pytest.mark.parametrize(
    "order",
    [
        ["run", "{recipe}", "--strict", "name=other", "--dry-run"],
        ["run", "--dry-run", "{recipe}", "name=other", "--strict"],
        ["run", "{recipe}", "name=other", "--strict", "seed=3", "--dry-run"],
        ["run", "--strict", "--dry-run", "{recipe}", "name=other"],
    ],
)
def test_overrides_and_flags_of_run_stand_in_any_order(order, recipe, capsys):
    main([part.format(recipe=recipe) for part in order])
    printed = capsys.readouterr().out
    assert "name: other" in printed and "strict: true" in printed


@pytest.mark.parametrize(
    "order",
    [
        ["inspect", "{file}", "--format", "easyr1", "task=counting", "prompt_key=q"],
        ["inspect", "{file}", "task=counting", "--format", "easyr1", "prompt_key=q", "--limit", "5"],
        ["inspect", "--format", "easyr1", "{file}", "task=counting", "prompt_key=q"],
    ],
)
def test_options_of_inspect_stand_in_any_order(order, tmp_path, capsys):
    file = tmp_path / "a.jsonl"
    file.write_text(json.dumps({"q": "How many?", "answer": "2"}) + "\n")
    main([part.format(file=file) for part in order])
    assert "(counting 1)" in capsys.readouterr().out


def test_a_recipe_is_made_and_made_anew_from_the_command_line(recipe, capsys):
    main(["run", str(recipe), "--strict", "description=one"])
    assert "1 rows" in capsys.readouterr().out
    main(["run", str(recipe), "description=one", "--strict"])
    assert "made by this recipe already" in capsys.readouterr().out
    main(["run", "--fresh", str(recipe), "description=one", "--strict"])
    assert "stage 0" in capsys.readouterr().out


BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n"
    for before, name in zip("abcdefghi", "bcdefghij", strict=True)
)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (BOMB, "stands for more than"),
        ("a: &a [*a]\n", "holds itself"),
        ("a: " + "[" * 3000, "nested too deep"),
    ],
)
def test_yaml_that_grows_without_end_is_refused(text, problem, tmp_path, capsys):
    path = tmp_path / "bomb.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=problem):
        read_yaml(path)
    with pytest.raises(SystemExit):
        main(["run", str(path)])
    assert "bomb.yaml" in capsys.readouterr().err


def test_a_bomb_among_the_options_is_refused(source, capsys):
    bomb = "{" + BOMB.replace("\n", ", ")[:-2] + "}"
    with pytest.raises(SystemExit):
        main(["inspect", str(source), f"split={bomb}"])
    assert "stands for more than" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["inspect", str(source), "split"])
    assert "expected option=value" in capsys.readouterr().err


def test_aliases_that_save_writing_are_kept(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("a: &a {x: 1, y: [1, 2]}\nb: {<<: *a, z: 3}\nc: [*a, *a]\n")
    data, _ = read_yaml(path)
    assert data["b"] == {"x": 1, "y": [1, 2], "z": 3} and data["c"][1]["x"] == 1
