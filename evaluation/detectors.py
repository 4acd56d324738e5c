"""Object detectors beside the policies: COCO results files, and transformers' object-detection checkpoints (DETR, RT-DETR, …)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ijson
import torch
from tqdm import tqdm

from core.errors import UserError
from core.media.images import load_image
from core.text import short
from evaluation.config import EvaluationConfig
from evaluation.data_sets import DataSet, entry
from evaluation.detection import Question, ScoredBox, Truth
from evaluation.measuring import Meter
from vlm.checkpoint import resolve_checkpoint

Found = dict[Question, list[ScoredBox]]


class DetectorError(UserError, ValueError):
    """A detector cannot be compared on a data set; the message says what was expected, what was found, and where."""


def detector_entries(
    config: EvaluationConfig, sets: Sequence[DataSet], *, show: bool
) -> list[dict[str, Any]]:
    """A line of `data_sets.entry` for each detector and data set with boxes. show: a progress bar.

    Raises DetectorError, CheckpointError.
    """
    with_boxes = [data_set for data_set in sets if data_set.truth.boxes]
    entries = []
    for name, settings in config.detectors.items():
        for data_set in with_boxes:
            if path := settings.results.get(data_set.name):
                found = read_results(Path(path), data_set.truth)
                entries.append(entry(data_set, name, None, found=found))
        if unused := sorted(settings.results.keys() - {data_set.name for data_set in with_boxes}):
            raise DetectorError(
                f"detectors.{name}.results: expected data sets with boxes, but {unused[0]!r} has none"
            )
        if settings.path is not None:
            if not with_boxes:
                raise DetectorError(f"detectors.{name}: expected a data set with boxes, got none")
            detector = Detector(resolve_checkpoint(settings.path), settings.names)
            for data_set in with_boxes:
                meter = Meter()
                found = detector.find(data_set.truth, settings.batch_size, meter, show=show)
                entries.append(entry(data_set, name, meter, found=found))
    return entries


def read_results(path: Path, truth: Truth) -> Found:
    """The boxes of a COCO results file: `[{"image_id", "category_id", "bbox": [x, y, width, height], "score"}, …]`.

    image_id and category_id are those of the data set's own annotations, as numbers or text. Boxes in images or of categories
    that the data set does not ask for are in the result; `detection_metrics` counts them.

    Raises DetectorError, naming file, entry and field, for an entry that cannot be read, and if no entry belongs to the data set.
    """
    names = {key: name for name, key in truth.category_ids.items()}
    if not names:
        raise DetectorError(
            f"{path}: expected a data set whose annotations have ids of categories (coco, open_images), got one without"
        )
    found: Found = {}
    index = -1
    try:
        with path.open("rb") as file:
            for index, entry in enumerate(ijson.items(file, "item", use_float=True)):
                try:
                    question, box = _result(entry, names)
                except ValueError as error:
                    raise DetectorError(f"{path}: entry {index}: {error}") from None
                found.setdefault(question, []).append(box)
    except OSError as error:
        raise DetectorError(f"{path}: expected a readable results file, got: {error.strerror}") from None
    except ijson.JSONError as error:
        raise DetectorError(
            f"{path}: expected a JSON array of results, got no valid JSON ({error})"
        ) from None
    if not found.keys() & truth.boxes.keys():
        raise DetectorError(
            f"{path}: expected results for the data set's images and categories, got none among {index + 1} entries"
        )
    return found


def _result(entry: Any, names: Mapping[str, str]) -> tuple[Question, ScoredBox]:
    if not isinstance(entry, dict):
        raise ValueError(f"expected an object, got {short(entry)}")
    for name in ("image_id", "category_id"):
        if not isinstance(entry.get(name), int | str) or isinstance(entry[name], bool):
            raise ValueError(f"field '{name}': expected a number or a text, got {short(entry.get(name))}")
    image, category = str(entry["image_id"]), str(entry["category_id"])
    bbox: Any = entry.get("bbox")
    score: Any = entry.get("score")
    if not isinstance(bbox, list) or len(bbox) != 4 or not all(map(_is_number, bbox)):
        raise ValueError(f"field 'bbox': expected [x, y, width, height], got {short(bbox)}")
    if not _is_number(score):
        raise ValueError(f"field 'score': expected a number, got {short(score)}")
    x, y, width, height = bbox
    return (image, names.get(category, category)), ((x, y, x + width, y + height), float(score))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


class Detector:
    """A transformers checkpoint for object detection, as its authors use it: its own image processor, every box it gives."""

    def __init__(self, folder: Path, names: Mapping[str, str], device: str | None = None) -> None:
        """names: the data set's name of a label, for labels that are called otherwise. Raises DetectorError."""
        from transformers import AutoImageProcessor, AutoModelForObjectDetection

        self.folder = folder
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        try:
            self.processor = AutoImageProcessor.from_pretrained(folder)
            self.model = AutoModelForObjectDetection.from_pretrained(folder).to(self.device).eval()
        except (OSError, ValueError) as error:  # how transformers says that it is no such checkpoint
            raise DetectorError(
                f"{folder}: expected an object-detection checkpoint of transformers, got: {error}"
            ) from None
        self.labels = {i: names.get(name, name) for i, name in self.model.config.id2label.items()}

    def find(self, truth: Truth, batch_size: int, meter: Meter, *, show: bool = False) -> Found:
        """Boxes of all images of a data set, timed by `meter` from reading the image to the boxes. show: a progress bar.

        Raises DetectorError if none of the data set's categories is among the labels, or an image is missing.
        """
        categories = {name.casefold(): name for name in truth.categories}
        known = {
            i: categories[name.casefold()] for i, name in self.labels.items() if name.casefold() in categories
        }
        if not known:
            raise DetectorError(
                f"{self.folder}: expected labels among the data set's categories ({short(truth.categories)}), got"
                f" {short(list(self.labels.values()))}; `names` maps them"
            )
        found: Found = {}
        images = list(truth.images.items())
        batches = [images[i : i + batch_size] for i in range(0, len(images), batch_size)]
        for batch in tqdm(batches, desc=f"evaluate {self.folder.name}", unit="batch", disable=not show):
            with meter:
                for (image, _), boxes in zip(
                    batch, self._boxes([source for _, source in batch]), strict=True
                ):
                    for label, box in boxes:
                        if label in known:
                            found.setdefault((image, known[label]), []).append(box)
        return found

    @torch.inference_mode()
    def _boxes(self, sources: Sequence[Any]) -> Iterator[list[tuple[int, ScoredBox]]]:
        """(label, box) of each image."""
        images = [load_image(source) for source in sources]
        inputs = self.processor(images=images, return_tensors="pt").to(self.device)
        outputs = self.model(**inputs)
        sizes = [(image.height, image.width) for image in images]
        for found in self.processor.post_process_object_detection(outputs, threshold=0.0, target_sizes=sizes):
            triples = zip(
                found["labels"].tolist(), found["boxes"].tolist(), found["scores"].tolist(), strict=True
            )
            yield [(label, (tuple(box), score)) for label, box, score in triples]
