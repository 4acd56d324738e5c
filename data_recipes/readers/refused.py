"""Common kinds of files that cannot be read as rows: recognised by name, with advice on what to do instead."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from data_recipes.readers.chat import preference_field


@dataclass(frozen=True)
class Refused:
    """looks_like: as in a Format. remedy: what to do instead."""

    name: str
    looks_like: Callable[[Path, Any], bool]
    remedy: str


def _has(*fields: str) -> Callable[[Path, Any], bool]:
    return lambda path, first: isinstance(first, dict) and set(fields) <= set(first)


def _xml_has(*marks: bytes) -> Callable[[Path, Any], bool]:
    """True if the first XML file of a path contains all marks near its beginning."""

    def look(path: Path, first: Any) -> bool:
        files = [path] if path.suffix.lower() == ".xml" else []
        if path.is_dir():
            folders = (path, path / "Annotations", path / "annotations")
            files = list(islice((f for folder in folders for f in sorted(folder.glob("*.xml"))), 1))
        for file in files:
            if file.is_file():
                with file.open("rb") as opened:
                    head = opened.read(1 << 16)
                return all(mark in head for mark in marks)
        return False

    return look


_YOLO = re.compile(r"\d+(?: [\d.]+){4,}\s*")


def _is_yolo(path: Path, first: Any) -> bool:
    if path.is_dir():
        labels = islice(
            (
                f
                for name in ("labels", "labels/train", "train/labels", "")
                for f in (path / name).glob("*.txt")
            ),
            20,
        )
        texts = [
            f.read_text(errors="replace")[:200].split("\n")[0] for f in labels if f.name != "classes.txt"
        ]
        return any(_YOLO.fullmatch(text) for text in texts)
    if path.suffix in (".yaml", ".yml"):
        text = path.read_text(errors="replace")[:10_000]
        return "names:" in text and "train:" in text
    return isinstance(first, str) and _YOLO.fullmatch(first) is not None


def _is_archive(*endings: str) -> Callable[[Path, Any], bool]:
    def look(path: Path, first: Any) -> bool:
        files = [path] if path.is_file() else list(islice(path.iterdir(), 1000))
        visible = [f for f in files if not f.name.startswith(".")]
        return bool(visible) and any(f.name.lower().endswith(endings) for f in visible)

    return look


def _of_folder(path: Path, first: Any) -> bool:
    """True for LabelMe's JSON, one file per image."""
    return _has("shapes", "imagePath")(path, first)


REFUSED = (
    Refused(
        "preference data of single answers (KTO)",
        lambda path, first: (
            isinstance(first, dict)
            and preference_field(first) in ("label", "kto_tag")
            and "chosen" not in first
        ),
        "SFT and RL rows have one correct answer, and reward models are trained on pairs; write the rows labelled true to a"
        " file of messages, and read that as `sharegpt` or `alpaca`",
    ),
    Refused(
        "COCO results",
        _has("image_id", "category_id", "score"),
        "these are a detector's predictions; read the annotations (instances_*.json) as `coco`",
    ),
    Refused(
        "LabelMe annotations",
        lambda path, first: (
            _of_folder(path, first) or _xml_has(b"<annotation", b"<polygon>", b"<pt>")(path, first)
        ),
        "convert them to COCO (`labelme2coco FOLDER`) and read that as `coco`",
    ),
    Refused(
        "CVAT annotations",
        _xml_has(b"<annotations>", b"<version>"),
        "export the task from CVAT as “COCO 1.0” and read that as `coco`",
    ),
    Refused(
        "YOLO labels",
        _is_yolo,
        "convert them to COCO (supervision: `DetectionDataset.from_yolo(…).as_coco(…)`) and read that as `coco`",
    ),
    Refused("an archive", _is_archive(".tar.gz", ".tgz", ".zip", ".7z", ".rar"), "unpack it first"),
)


def refused(path: Path, first: Any) -> Refused | None:
    """The known kind of unreadable file that a path is; None if it is none of them."""
    try:
        return next((kind for kind in REFUSED if kind.looks_like(path, first)), None)
    except OSError:
        return None  # opening the path will raise an error with the reason
