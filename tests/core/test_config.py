"""The command line and YAML of every program: what is read, and how mistakes are reported."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import pytest
from pydantic import Discriminator, Field, Tag, model_validator

from core.config import ConfigError, Section, describe, dump, load_config, read_config, read_yaml


class Optim(Section):
    lr: float = 1e-6
    """Peak learning rate."""
    schedule: Literal["constant", "cosine"] = "cosine"
    warmup_steps: int | None = None


class Rule(Section):
    function: str
    weight: float = 1.0
    extra: dict[str, Any] = Field(default_factory=dict)


class Config(Section):
    name: str = "run"
    steps: int
    """Optimizer steps."""
    optim: Optim = Optim()
    tasks: dict[str, list[Rule]] = Field(default_factory=dict)
    shuffle: bool = True

    @model_validator(mode="after")
    def check(self) -> Config:
        if self.steps < 0:
            raise ValueError("steps: expected 0 or more")
        return self


YAML = """\
steps: 10
optim: {lr: 1e-5}
tasks:
  math:
    - function: math
      extra: {tolerance: 1e-3, colour: no}
"""


@pytest.fixture
def yaml_file(tmp_path: Path):
    def write(text: str = YAML) -> Path:
        path = tmp_path / "config.yaml"
        path.write_text(text)
        return path

    return write


def message(path: Path | None, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read_config(Config, path, overrides)
    return str(caught.value).replace(f"{path}", "FILE")


def test_numbers_and_booleans_follow_yaml_1_2_everywhere(yaml_file):
    config = read_config(Config, yaml_file())
    assert config.optim.lr == 1e-5
    assert config.tasks["math"][0].extra == {"tolerance": 1e-3, "colour": "no"}  # untyped values too
    data, _ = read_yaml(
        yaml_file(
            "a: 1:30\nb: 1_000\nc: -2.5E+3\nd: .inf\ne: 010\nf: 0x1F\ng: on\nh: True\ni: null\nj: 1.\nk: 1.2.3\n"
        )
    )
    assert data == {
        "a": "1:30", "b": 1000, "c": -2500.0, "d": float("inf"), "e": 10, "f": 31, "g": "on", "h": True,
        "i": None, "j": 1.0, "k": "1.2.3",
    }  # fmt: skip


def test_overrides_reach_nested_keys_lists_and_new_mappings(yaml_file):
    config = read_config(
        Config,
        yaml_file(),
        ["optim.lr=3e-7", "tasks.math.0.weight=0.5", "tasks.counting=[{function: counting}]", "name=a=b"],
    )
    assert config.optim.lr == 3e-7
    assert config.tasks["math"][0].weight == 0.5
    assert config.tasks["counting"][0].function == "counting"
    assert config.name == "a=b"


def test_overrides_alone_are_a_config():
    assert read_config(Config, None, ["steps=3"]).steps == 3


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("steps: 1\noptim:\n  lrr: 1\n", "FILE:3: unknown key 'optim.lrr', did you mean 'optim.lr'?"),
        ("steps: 1\nlr: 1\n", "FILE:2: unknown key 'lr', did you mean 'optim.lr'?"),
        (
            "steps: 1\ntasks:\n  math:\n  - function: math\n    wieght: 2\n",
            "FILE:5: unknown key 'tasks.math.0.wieght', did you mean 'tasks.math.0.weight'?",
        ),
        ("steps: 1\nzzz: 1\n", "FILE:2: unknown key 'zzz'; known here: name, steps, optim, tasks, shuffle"),
        ("name: x\n", "FILE: key 'steps' is required: expected int, got nothing"),
        (
            "steps: many\n",
            "FILE:1: key 'steps': expected a valid integer, unable to parse string as an integer, got 'many' (str)",
        ),
        ("steps: true\n", "FILE:1: key 'steps': expected int, got True (bool)"),
        (
            "steps: 1\noptim: {lr: .inf}\n",
            "FILE:2: key 'optim.lr': expected a finite number, got inf (float)",
        ),
        (
            "steps: 1\noptim:\n  lr: 1e999\n",
            "FILE:3: key 'optim.lr': expected a finite number, got inf (float)",
        ),
        (
            "steps: 1\nname: [x, {y: .nan}]\n",
            "FILE:2: key 'name.1.y': expected a finite number, got nan (float)",
        ),
        ("steps: -1\n", "FILE: steps: expected 0 or more"),
        ("steps: 1\nsteps: 2\n", "FILE:2: key 'steps' is written twice, first in line 1"),
        (
            "steps: 1\noptim: {schedule: linear}\n",
            "FILE:2: key 'optim.schedule': expected 'constant' or 'cosine', got 'linear' (str)",
        ),
        ("- 1\n", "FILE: expected `key: value` lines, got a list"),
    ],
)
def test_each_mistake_is_one_line_with_its_place(yaml_file, text, expected):
    assert message(yaml_file(text)) == expected


def test_all_mistakes_are_told_at_once(yaml_file):
    lines = message(yaml_file("stps: 1\noptim: {lr: fast}\n")).splitlines()
    assert len(lines) == 3
    assert {line.split("'")[1] for line in lines} == {"stps", "steps", "optim.lr"}


def test_malformed_yaml_and_missing_files_are_named(yaml_file, tmp_path):
    assert message(yaml_file("steps: [1\n")).startswith("FILE:2: expected YAML, got: ")
    missing = tmp_path / "nowhere.yaml"
    assert message(missing) == "FILE: expected a YAML config file, got: No such file or directory"


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("optim.lrr=1", "command line, 'optim.lrr=1': unknown key 'optim.lrr', did you mean 'optim.lr'?"),
        ("steps", "command line, 'steps': expected dotted.key=value"),
        ("steps.x=1", "command line, 'steps.x=1': 'steps' holds 10, not keys"),
        (
            "tasks.math.1.weight=1",
            "command line, 'tasks.math.1.weight=1': expected an index below 1 after 'tasks.math', got '1'",
        ),
        (
            "name=7",
            "command line, 'name=7': key 'name': expected a valid string, got 7 (int); as a string: 'name=\"7\"'",
        ),
    ],
)
def test_mistakes_in_overrides_name_the_override(yaml_file, override, expected):
    assert message(yaml_file(), override) == expected


def test_dry_run_prints_a_config_that_reads_back_equal(yaml_file, capsys):
    config, dry_run = load_config(Config, ["--config", str(yaml_file()), "--dry-run", "steps=7"])
    assert dry_run and config.steps == 7
    printed = capsys.readouterr().out
    assert printed == dump(config)
    assert read_config(Config, yaml_file(printed)) == config


def test_the_command_line_exits_2_and_prints_the_mistake_alone(yaml_file, capsys):
    with pytest.raises(SystemExit) as stop:
        load_config(Config, ["--config", str(yaml_file("stepz: 1\n"))])
    assert stop.value.code == 2
    assert "did you mean 'steps'?" in capsys.readouterr().err


def test_describe_lists_every_field_with_its_docstring():
    text = describe(Config)
    assert "  steps: int  (required)\n      Optimizer steps." in text
    assert "  optim.lr: float = 1e-06\n      Peak learning rate." in text
    assert "  optim.warmup_steps: int | null = None" in text
    assert "  tasks.<name>.[i].weight: float = 1.0" in text


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_a_config_in_another_encoding_names_the_line(tmp_path, encoding):
    path = tmp_path / "run.yaml"
    path.write_bytes("steps: 1\n# ein Schlüssel\n".encode(encoding))
    with pytest.raises(ConfigError, match=r"run.yaml:[12]: expected UTF-8 text, got the byte 0x"):
        read_config(Config, path)


def test_a_long_value_is_not_quoted_whole():
    with pytest.raises(ConfigError) as caught:
        read_config(Config, None, ["steps=" + "a" * 100_000])
    assert len(str(caught.value)) < 1000


class Layer(Section):
    RENAMED: ClassVar[dict[str, str]] = {"size": "width"}

    width: int = 1


class Renamed(Section):
    RENAMED: ClassVar[dict[str, str]] = {
        "optim": "optimizer",
        "optim.max_steps": "steps",
        "optim.beta1": "optimizer.betas (both in one list)",
        "out": "output_dir",
    }

    steps: int = 1
    output_dir: str = "runs"
    optimizer: dict[str, Any] = {}
    layers: list[Layer] = []
    resume: Literal["auto", "never"] | str = "auto"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("steps: 1\nout: runs\n", "FILE:2: key 'out' is now called 'output_dir'"),
        ("optim:\n  lr: 1\n", "FILE:2: key 'optim.lr' is now called 'optimizer.lr'"),
        ("optim:\n  max_steps: 1\n", "FILE:2: key 'optim.max_steps' is now called 'steps'"),
        ("optim: {}\n", "FILE:1: key 'optim' is now called 'optimizer'"),
        (
            "optim:\n  beta1: 0.9\n",
            "FILE:2: key 'optim.beta1' is now called 'optimizer.betas' (both in one list)",
        ),
        ("layers:\n- size: 2\n", "FILE:2: key 'layers.0.size' is now called 'layers.0.width'"),
        (
            "optim: {lr: 1, max_steps: 2}\nout: x\n",
            "FILE:1: key 'optim.lr' is now called 'optimizer.lr'\n"
            "FILE:1: key 'optim.max_steps' is now called 'steps'\n"
            "FILE:2: key 'out' is now called 'output_dir'",
        ),
        ("resume: false\n", "FILE:1: key 'resume': expected 'auto' | 'never' | str, got False (bool)"),
        ("resume: 3\n", "FILE:1: key 'resume': expected 'auto' | 'never' | str, got 3 (int)"),
    ],
)
def test_a_former_name_is_an_error_that_names_the_new_one(yaml_file, text, expected):
    path = yaml_file(text)
    with pytest.raises(ConfigError) as caught:
        read_config(Renamed, path)
    assert str(caught.value).replace(f"{path}", "FILE") == expected


def test_a_former_name_on_the_command_line_names_the_override():
    with pytest.raises(ConfigError, match=r"^command line, 'optim.lr=1': key 'optim.lr' is now called 'opt"):
        read_config(Renamed, None, ["optim.lr=1"])


class Local(Section):
    kind: Literal["local"] = "local"
    """Where it runs."""
    threads: int = 1
    """Threads of this process."""
    length: int = 8
    """Longest text."""


class Remote(Section):
    kind: Literal["remote"] = "remote"
    """Where it runs."""
    url: str
    """Of the server."""
    length: int = 8
    """Longest text."""


class Tagged(Section):
    engine: Local | Remote = Field(default=Local(), discriminator="kind")
    """What runs."""


def kind_of(value: Any) -> str:
    return value.get("kind", "local") if isinstance(value, dict) else value.kind


class WithDefault(Section):
    engine: Annotated[
        Annotated[Local, Tag("local")] | Annotated[Remote, Tag("remote")], Discriminator(kind_of)
    ] = Local()
    """What runs."""


@pytest.mark.parametrize("model", [Tagged, WithDefault])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "engine:\n  kind: remote\n  url: x\n  threads: 2\n",
            "FILE:4: key 'engine.threads' is a setting of kind 'local'; engine.kind is 'remote'",
        ),
        (
            "engine:\n  kind: local\n  lenght: 2\n",
            "FILE:3: unknown key 'engine.lenght', did you mean 'engine.length'?",
        ),
        ("engine: {kind: remote}\n", "FILE:1: key 'engine.url' is required: expected str, got nothing"),
        (
            "engine: {kind: lokal}\n",
            "FILE:1: key 'engine.kind': expected 'local' | 'remote', got 'lokal' (str)",
        ),
    ],
)
def test_a_setting_of_another_kind_names_that_kind(yaml_file, model, text, expected):
    path = yaml_file(text)
    with pytest.raises(ConfigError) as caught:
        read_config(model, path)
    assert str(caught.value).replace(f"{path}", "FILE") == expected


def test_a_kind_may_have_to_be_named(yaml_file):
    assert read_config(WithDefault, yaml_file("engine: {threads: 3}\n")).engine == Local(threads=3)
    with pytest.raises(
        ConfigError, match="key 'engine.kind' is required: expected 'local' | 'remote', got nothing"
    ):
        read_config(Tagged, yaml_file("engine: {threads: 3}\n"))


@pytest.mark.parametrize("model", [Tagged, WithDefault])
def test_help_shows_which_kind_a_field_is_of(model):
    assert describe(model).splitlines() == [
        "  engine.kind: 'local' | 'remote' = 'local'",
        "      Where it runs.",
        "  engine.threads: int = 1  [kind: local]",
        "      Threads of this process.",
        "  engine.length: int = 8",
        "      Longest text.",
        "  engine.url: str  (required)  [kind: remote]",
        "      Of the server.",
    ]
