"""A recipe: sources, operations, mixture and output in one YAML file.

    name: rlvr
    sources:
      - {name: tabmwp, format: tabmwp, path: ../data/tabmwp/problems.json}
      - {name: shapes, format: synthetic_shapes, path: runs/shapes, options: {rows: 1000}}
    operations:
      - text_filter: {max_prompt_chars: 4000}
      - dedup: {}
    mixture: {weights: {source: {tabmwp: 2}}, caps: {math: 5000}}
    output_dir: runs/rlvr

Operations run in the order in which they are written.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, PrivateAttr, ValidationError, field_validator, model_validator

from data_recipes.checks.validate import Validation
from data_recipes.operations import OPERATIONS
from data_recipes.readers import FORMATS
from data_recipes.records import Format, Options, RowOperation, SetOperation


class Source(Options):
    """One file or folder in a public format."""

    name: str = Field(pattern=r"^[\w.-]+$")
    """Unique in the recipe; rows' ids begin with it, and mixture weights refer to it."""
    format: str
    """Name of the format; `python -m data_recipes formats` lists them."""
    path: Path
    """File or folder, relative to the working directory, or a data set of the Hub (docs/hub.md): `owner/name`,
    `owner/name@revision`, `owner/name:split`."""
    options: dict[str, Any] = {}
    """The format's own options; `python -m data_recipes formats NAME` describes them."""
    licence: str | None = None
    """Overrides the licence that the reader knows; it stands in the data card."""
    root: Path | None = None
    """A further folder that media may lie in. A row may name media under the source's own folder and the format's option
    `media`, links followed; others are rejected, so that a set from elsewhere cannot take along files of this machine.
    `root: /` lifts this for a set of your own."""
    limit: int | None = Field(default=None, ge=1)
    """Read so many records only, from the beginning."""

    _options: Options = PrivateAttr()

    @model_validator(mode="after")
    def _typed(self) -> Source:
        self._options = _parse(self.kind.options, self.options, f"source '{self.name}', options")
        return self

    @field_validator("format")
    @classmethod
    def _known(cls, name: str) -> str:
        return _member(name, FORMATS, "format")

    @property
    def kind(self) -> Format:
        return FORMATS[self.format]

    @property
    def typed_options(self) -> Options:
        """`options` as the format's own class."""
        return self._options


class Weights(Options):
    """Relative weights; what is not named has weight 1, and 0 leaves it out."""

    source: dict[str, float] = {}
    """By the source's name."""
    task: dict[str, float] = {}
    """By the row's task; multiplied with the source's."""


class Mixture(Options):
    """How many rows of each source and task the output has. Groups are the pairs of source and task.

    A group of n rows gets a share in proportion to n^(1/temperature) times its weights. Which of its rows are taken is
    decided by the seed and each row's id alone.
    """

    weights: Weights = Weights()
    """Weights of sources and tasks."""
    temperature: float = Field(default=1.0, ge=1.0)
    """1: by size. Larger: more even; groups of any size alike in the limit."""
    caps: dict[str, int] = {}
    """Most rows of a task."""
    rows: int | None = Field(default=None, ge=1)
    """Rows in all. None: as many as the shares allow without repeating a row."""
    max_repeats: int = Field(default=1, ge=1)
    """How often a row of a small group may be taken to reach its share of `rows`; copies get ids ending in #2, #3 …
    What a group cannot give goes to the others in proportion, and the report says so."""


class Output(Options):
    """How rows are written."""

    format: Literal["jsonl", "parquet"] = "jsonl"
    """JSON lines, or Parquet."""
    media: Literal["reference", "copy", "embed"] = "reference"
    """`reference`: paths of the media where they are. `copy`: files under `media/`, named by content. `embed`: bytes in
    the rows (Parquet)."""
    tokenizer: Path | None = None
    """Folder of a tokenizer; with it the card has lengths in tokens beside those in characters."""

    @model_validator(mode="after")
    def _holds_bytes(self) -> Output:
        if self.media == "embed" and self.format != "parquet":
            raise ValueError("media: embed needs format: parquet (JSON holds no bytes)")
        return self


class Recipe(Options):
    """A data set from public files, made the same way every time."""

    RENAMED: ClassVar[dict[str, str]] = {"output.path": "output_dir"}

    name: str
    """Of the data set, for its card."""
    description: str = ""
    """For the card."""
    seed: int = 0
    """Of every random choice."""
    sources: list[Source] = Field(min_length=1)
    """What is read, in this order."""
    validation: Validation = Validation()
    """Checks that every row passes before any operation."""
    operations: list[dict[str, dict[str, Any] | None] | str] = []
    """In order; each is a name, or a name with options. `python -m data_recipes operations` lists them."""
    mixture: Mixture = Mixture()
    """How many rows of each source and task the output has."""
    output_dir: Path
    """Folder for rows-*.jsonl or .parquet, data_card.json, DATA_CARD.md, rejected.jsonl and removed.jsonl."""
    output: Output = Output()
    """How rows are written."""
    strict: bool = False
    """Bad rows end the run with an error, in place of going to rejected.jsonl."""
    tasks: int = Field(default=8, ge=1)
    """Parts into which the work is cut, and most files of the output (JSONL files have at least 1,000 rows, if there are as
    many). Part of what is made: another number makes other files of the same rows."""
    workers: int = Field(default=0, ge=0)
    """Processes on this machine; 0: as many as cores, at most `tasks`. Changes nothing in the output."""

    _steps: list[tuple[str, RowOperation | SetOperation, Options]] = PrivateAttr(default_factory=list)

    @model_validator(mode="after")
    def _typed(self) -> Recipe:
        names = [source.name for source in self.sources]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"sources: expected unique names, got '{name}' {names.count(name)} times")
        for name in self.mixture.weights.source:
            _member(name, names, "source in mixture.weights.source")
        self._steps = []
        for i, entry in enumerate(self.operations):
            pairs = {entry: None} if isinstance(entry, str) else entry
            if len(pairs) != 1:
                raise ValueError(f"operations[{i}]: expected one name with its options, got {sorted(pairs)}")
            ((name, options),) = pairs.items()
            operation = OPERATIONS[_member(name, OPERATIONS, f"operations[{i}]: operation")]
            self._steps.append(
                (name, operation, _parse(operation.options, options or {}, f"operations[{i}].{name}"))
            )
        return self

    @property
    def steps(self) -> list[tuple[str, RowOperation | SetOperation, Options]]:
        """(name, operation, its typed options) in order."""
        return self._steps

    def digest(self) -> str:
        """Hash of what the recipe makes: every field but where it is written and by how many processes."""
        content = self.model_dump(mode="json", exclude={"workers", "output_dir"})
        content["operations"] = [[name, options.model_dump(mode="json")] for name, _, options in self.steps]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _member(name: str, known: Any, what: str) -> str:
    if name not in known:
        import difflib

        near = difflib.get_close_matches(name, list(known), n=1)
        hint = f", did you mean '{near[0]}'?" if near else f"; known: {', '.join(sorted(known))}"
        raise ValueError(f"unknown {what} '{name}'{hint}")
    return name


def _parse(model: type[Options], options: dict[str, Any], where: str) -> Options:
    try:
        return model.model_validate(options)
    except ValidationError as error:
        mistakes = [
            f"{'.'.join(map(str, m['loc'])) or 'options'}: {m['msg']}, got {m['input']!r:.60}"
            for m in error.errors()
        ]
        known = f" (known: {', '.join(model.model_fields)})" if "extra" in str(error) else ""
        raise ValueError(f"{where}: " + "; ".join(mistakes) + known) from None
