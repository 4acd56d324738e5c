"""A benchmark as its YAML file in `tasks/` states it: what to read, what to ask, how an answer is read and scored.

A file of your own has the same fields; its functions may be `module:function` or `path/to/file.py:function`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import jinja2.sandbox
from pydantic import Field, field_validator

from core.config import Section, read_config
from core.errors import UserError
from core.plugins import Plugins

TASKS = Path(__file__).parent / "tasks"
RULES = "evaluation.benchmarks.rules"
FORMS = {".tsv": "tsv", ".txt": "text"}
"""The form of a file by its ending; everything else is `json`: JSON of any layout, Parquet, folders of shards."""
_FUNCTION = Plugins("rule", "onsight.rules")


class BenchmarkError(UserError, ValueError):
    """A benchmark, its files or predictions for it cannot be used; the message names file, row and field."""


class Form(Section):
    """A form in which a benchmark's questions are published."""

    fields: dict[str, str] = {}
    """Field of a question -> column of the file, or several (`query|question`), of which the first that is there is taken.
    `@key`: the key or number of the record in its file."""
    required: list[str] = []
    """Columns that every record must have, besides those of `fields`."""
    derived: dict[str, str] = {}
    """Fields made of others (Jinja), as text."""
    constants: dict[str, Any] = {}
    """Fields with the same value in every question."""
    lists: list[str] = []
    """Fields that may be the text of a list (`"['1', '2']"`), as columnar copies have it."""
    xywh: list[str] = []
    """Fields with boxes as x, y, width, height, which become corners."""
    lettered: bool = False
    """Columns A, B, C, … hold the options; they become the field `options`."""
    images: str | list[str] = []
    """Columns with an image or a list of them; `image|img_path` is the first that is there, `image_*` every one that is not
    empty."""
    image_folder: str = ""
    """Folder of the images, from the file's own."""
    video: str | None = None
    """Path of the video, from the file's folder; {column} is replaced."""
    section: str | None = None
    """Key of a JSON file's object under which the records are."""
    line: str | None = None
    """Regular expression of a text file's lines; its named groups are the columns."""
    numbers: list[str] = []
    """Columns of text files that are numbers."""
    spread: dict[str, str] = {}
    """List columns of a record that holds several questions -> column of one; the record's key and the place make the id."""
    windows: list[str] = []
    """Columns of which `windows` is made: one with all [start, end], or start and end."""


class Predictions(Section):
    """The columns of a file of predictions, the first that is there."""

    id: list[str] = ["id", "row_id", "index", "question_id"]
    """The question's id."""
    answer: list[str] = ["response", "prediction", "answer", "text"]
    """What the model answered."""
    extracted: str | None = None
    """A column with what was extracted from the answer already; it is taken where it is there."""
    section: str | None = None
    """Key of a JSON file's object under which the predictions are."""


class Metric(Section):
    """A figure over all questions."""

    score: str = "correct"
    """The rule's score that it is the mean of."""
    all_of: list[str] = []
    """Fields; questions with the same values form a group that counts once, with its lowest score (circular evaluation)."""
    leave_out: dict[str, Any] = {}
    """Values of fields whose questions do not count, e.g. {category: VS, figure_id: "0"}."""


class Judge(Section):
    """What an LLM does officially, where rules are not enough."""

    official: str
    """The official judge, in words."""
    without: str
    """What is measured without one."""
    when: Literal["unread", "always"] = "unread"
    """`unread`: it is asked where the rules find no answer. `always`: for every answer."""
    prompt: str | None = None
    """Its prompt (Jinja; the question's fields and `response`). null: no judge can be asked."""
    gives: Literal["prediction", "extraction", "score"] = "prediction"
    """`prediction`: the reply is read as an answer. `extraction`: the reply is what the model answered. `score`: it holds a number
    in [0, 1], or a word of `words`."""
    words: dict[str, str] = {}
    """Score of each word in a reply (Jinja, with the question's fields); the longest word found counts."""


class Benchmark(Section):
    """One benchmark."""

    name: str = Field(pattern=r"^[a-z0-9_]+$")
    """Name on the command line; that of its file."""
    title: str
    """Name in tables."""
    version: int = Field(ge=1)
    """Raised when figures change: a prompt, an extraction, a rule."""
    source: str
    """Where the official rule is: repository, commit, file."""
    paper: str = ""
    """The paper that the benchmark comes from."""
    data: str
    """Where its files are published."""
    task: str
    """The kind of question, as in rows."""
    files: dict[Literal["json", "tsv", "text"], Form]
    """How the questions are read, by the form of the file."""
    prompt: str = "{{question}}"
    """What is asked (Jinja; the question's fields). `<image>` stands for the next image; those without one come first."""
    extract: str
    """Function that reads the prediction from an answer: `module.function` in `evaluation.benchmarks.rules`."""
    rule: str
    """Function that scores a prediction."""
    metrics: dict[str, Metric] = {"accuracy": Metric()}
    """Figures by name; the first is the main one."""
    groups: list[str] = []
    """Fields by whose values the figures are also given."""
    predictions: Predictions = Predictions()
    """Files of predictions."""
    max_tokens: int = Field(default=1024, ge=1)
    """Length of an answer, unless a config says otherwise."""
    judge: Judge | None = None
    """The official LLM judge; null: the benchmark needs none."""

    @field_validator("prompt")
    @classmethod
    def _template(cls, text: str) -> str:
        try:
            template(text)
        except jinja2.TemplateSyntaxError as error:
            raise ValueError(f"expected a Jinja template, got: {error}") from None
        return text

    def ask(self, question: Mapping[str, Any]) -> str:
        """The text of a question's prompt. Raises BenchmarkError where a field that it needs is missing."""
        try:
            return template(self.prompt).render(question).strip()
        except jinja2.UndefinedError as error:
            raise BenchmarkError(f"{self.title}: question {question['id']!r}: {error.message}") from None

    def form(self, path: Path) -> Form:
        """How a file is read. Raises BenchmarkError for a form in which this benchmark is not published."""
        kind = FORMS.get(path.suffix.lower(), "json")
        if kind not in self.files:
            raise BenchmarkError(
                f"{path}: expected {self.title} as {' or '.join(self.files)}, got a file of the form '{kind}'"
            )
        return self.files[kind]


def names() -> list[str]:
    """All benchmarks in `tasks/`."""
    return sorted(path.stem for path in TASKS.glob("*.yaml"))


@lru_cache
def load(name: str) -> Benchmark:
    """The benchmark of this name, or of a YAML file. Raises BenchmarkError, ConfigError, PluginError."""
    path = Path(name) if name.endswith((".yaml", ".yml")) else TASKS / f"{name}.yaml"
    if not path.is_file():
        near = difflib.get_close_matches(name, names(), 1)
        hint = f"; did you mean '{near[0]}'?" if near else f". Known: {', '.join(names())}"
        raise BenchmarkError(f"benchmark '{name}': there is none of this name{hint}")
    benchmark = read_config(Benchmark, path)
    for function in (benchmark.extract, benchmark.rule):
        rule(function)
    return benchmark


@lru_cache
def rule(name: str) -> Any:
    """The function that a benchmark names. Raises PluginError."""
    return _FUNCTION.load(f"{RULES}.{name}" if re.fullmatch(r"\w+\.\w+", name) else name)


@lru_cache(maxsize=256)
def template(text: str) -> jinja2.Template:
    """A prompt's template; a field that is missing is an error, not an empty text."""
    environment = jinja2.sandbox.SandboxedEnvironment(undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.globals["letters"] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    return environment.from_string(text)
