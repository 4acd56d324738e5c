"""The data sets of an evaluation: rows to answer, and the true boxes by image and category.

Sources are those of recipes (`data_recipes.config.Source`): every format that `python -m data_recipes formats` lists is read as
published. Two defaults differ from a recipe's, because detection is measured as COCO does: every category of the file is looked
for in every image (`absent`), and regions with many objects are neither right nor wrong (`crowds`, `groups`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from core.errors import RowError
from core.rows import BrokenRow, Row, check_row, read_rows
from core.statistics import RowReward, mean_reward
from data_recipes.config import Source
from data_recipes.records import Record, Rejected, SourceError
from evaluation.boxes import pixel_boxes
from evaluation.config import EvaluationConfig
from evaluation.detection import Question, ScoredBox, Truth, detection_metrics
from evaluation.measuring import Meter, hardware
from rewards.functions.grounding import gold_boxes
from rewards.geometry.frames import check_frames

BOX_TASKS = ("detection", "grounding")
"""Tasks whose answers are boxes, ranked by their scores."""
DEFAULTS: Mapping[str, Any] = {"absent": True, "crowds": "keep", "groups": "keep"}
"""Options of formats of annotated objects, unless the source gives them."""
LISTED = 5


@dataclass(frozen=True)
class DataSet:
    """name: in tables. row_count: of its good rows. rows: those to be answered, empty where no policy is evaluated.
    truth: the boxes of those whose task is of BOX_TASKS."""

    name: str
    row_count: int
    rows: list[Row]
    truth: Truth = field(default_factory=Truth)

    @property
    def image_count(self) -> int:
        """Different images in the rows, or where rows were not kept, in the truth."""
        named = {str(image) for row in self.rows for image in row["images"]}
        return len(named) or len(self.truth.images)


def read_data_sets(config: EvaluationConfig) -> list[DataSet]:
    """The data sets of a config, its own rows first. Raises RowError."""
    need_images = bool(config.checkpoints) or any(detector.path for detector in config.detectors.values())
    sets = [rows_file(config.rows, config.limit)] if config.rows is not None else []
    for source in config.data_sets:
        sets.append(read_data_set(source, keep_rows=bool(config.checkpoints), need_images=need_images))
    return sets


def entry(
    data_set: DataSet,
    model: str,
    meter: Meter | None,
    *,
    reward: Iterable[RowReward] = (),
    found: Mapping[Question, Sequence[ScoredBox]] | None = None,
) -> dict[str, Any]:
    """The line of one data set and model: {"data_set", "model", "rows", "images", "reward", "detection", "seconds",
    "images_per_s", "peak_memory_gib", "hardware"}.

    meter: of its work; None if it was done elsewhere. reward: of its answers. found: its boxes; they count if the data set
    asks for boxes.
    """
    measured = meter.as_json(data_set.image_count) if meter else {}
    return {
        "data_set": data_set.name,
        "model": model,
        "rows": data_set.row_count,
        "images": data_set.image_count,
        "reward": mean_reward(reward).as_json(),
        "detection": detection_metrics(data_set.truth, found or {}) if data_set.truth.boxes else None,
        "seconds": measured.get("seconds"),
        "images_per_s": measured.get("images_per_s"),
        "peak_memory_gib": measured.get("peak_memory_gib"),
        "hardware": hardware() if meter else None,
    }


def rows_file(path: str, limit: int | None) -> DataSet:
    """The data set of a file of Onsight's own rows, named `rows`. Raises RowError."""
    rows, truth = read_rows(path, limit=limit), Truth()
    for row in rows:
        if row["task"] in BOX_TASKS and row["answer"] is not None:
            try:
                add_truth(truth, row)
            except ValueError as error:
                raise RowError(f"{path}: row {row['id']!r}: {error}") from None
    return DataSet("rows", len(rows), rows, truth)


def read_data_set(
    source: Source, *, keep_rows: bool, need_images: bool, say: Callable[[str], None] = print
) -> DataSet:
    """Read a source; rows' ids begin with its name, as in recipes. `say` is told what was rejected, with counts.

    keep_rows: False where no policy answers them, since an image has as many rows as there are categories. need_images:
    False where the images are not looked at; then they need not be there.

    Raises RowError if the source cannot be read or has no good row.
    """
    truth, rows, rejected, good = Truth(), [], [], 0
    try:
        for record, made in _made(source):
            row = _accepted(made, record, source, truth, need_images)
            if isinstance(row, str):
                rejected.append(row)
                continue
            good += 1
            if keep_rows:
                rows.append(row)
    except (SourceError, OSError) as error:
        raise RowError(f"{source.name}: {error}") from None
    if rejected:
        more = f", and {len(rejected) - LISTED} more" if len(rejected) > LISTED else ""
        say(f"{source.name}: {good} rows; {len(rejected)} rejected: " + "; ".join(rejected[:LISTED]) + more)
    if not good:
        raise RowError(f"{source.name}: {source.path}: expected at least one good row, got none")
    return DataSet(source.name, good, rows, truth)


def question_of(row: Row) -> Question:
    """The image and category that a row of BOX_TASKS asks for; a row without a category (a phrase) is a question of its own."""
    if row.get("category") is None:
        return row["id"], ""
    image = row.get("image_id")
    if image is None:
        image = next((medium for medium in row["images"] if isinstance(medium, str)), row["id"])
    return str(image), str(row["category"])


def add_truth(truth: Truth, row: Row) -> None:
    """Add the true boxes of a row to `truth`, in pixels.

    Raises ValueError if they cannot be read or converted, or the same is asked by another row.
    """
    answer, question = row["answer"], question_of(row)
    check_frames(answer, row, row.get("frame_out"))
    boxes = pixel_boxes(gold_boxes(answer), answer, row)
    crowds = pixel_boxes(gold_boxes({"boxes": answer.get("crowds") or []}), answer, row)
    if question in truth.boxes:
        raise ValueError(
            f"expected one row for the category {question[1]!r} of image {question[0]!r}, got another"
        )
    truth.boxes[question] = boxes
    if crowds:
        truth.crowds[question] = crowds
    truth.images.setdefault(question[0], next(iter(row["images"]), None))
    if row.get("category_id") is not None:
        truth.category_ids.setdefault(question[1], str(row["category_id"]))


def _made(source: Source) -> Iterator[tuple[Record, Row | Rejected]]:
    fields = source.kind.options.model_fields
    defaults = {name: value for name, value in DEFAULTS.items() if name in fields}
    options = source.kind.options.model_validate(defaults | source.options)
    for record in islice(source.kind.read(source.path, options), source.limit):
        for made in source.kind.rows(record, options):
            yield record, made


def _accepted(
    made: Row | Rejected, record: Record, source: Source, truth: Truth, need_images: bool
) -> Row | str:
    """The row with the source's name before its id, its boxes added to `truth`; or what is wrong with it and where."""
    if isinstance(made, Rejected):
        return f"{record.where}: {made}"
    try:
        row = check_row(made, record.file.parent.resolve()) if need_images else dict(made)
        if row.get("answer") is None:
            raise BrokenRow("answer", "expected the true answer, got null")
        row["id"] = f"{source.name}/{row['id']}"
        if row["task"] in BOX_TASKS:
            add_truth(truth, row)
    except ValueError as error:  # BrokenRow is one
        return f"{record.where}: {error}"
    return row
