"""Published mathematics sets: MATH-V, MathVista, Geometry3K, GSM8K.

MATH-V      github.com/mathllm/MATH-V, data/test.jsonl (MIT). A public test set: keep it out of training.
MathVista   github.com/lupantech/MathVista, data/testmini.json (an object, problem id -> problem, also as model outputs with
            these fields), or the Parquet of hf.co/datasets/AI4Math/MathVista (`decoded_image`) (CC BY-SA 4.0). A test set.
Geometry3K  github.com/lupantech/InterGPS, data/geometry3k/{train,val,test}/<id>/{data.json, img_diagram.png, …}, or the
            Parquet hf.co/datasets/hiyouga/geometry3k (images, problem, answer; MIT) that EasyR1 and verl train on.
GSM8K       github.com/openai/grade-school-math, grade_school_math/data/{train,test}.jsonl (MIT).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from core.rows import Row
from data_recipes.files.json_text import parse_json
from data_recipes.readers import easyr1
from data_recipes.readers.chat import (
    SourceOptions,
    locate,
    media_list,
    options_text,
    own_id,
    source,
    split_media,
)
from data_recipes.readers.files import file_record, need, show
from data_recipes.readers.folders import records
from data_recipes.records import Format, Record, Rejected


def _question(text: str, choices: list[str] | None) -> list[dict[str, Any]]:
    """The user's message: the text with its media placeholders, followed by the options."""
    if choices:
        text = f"{text.rstrip()}\nOptions:\n{options_text(choices)}"
    return [{"role": "user", "content": split_media(text)}]


def _letter(letter: str, choices: list[str]) -> dict[str, Any]:
    if len(letter) != 1 or not "A" <= letter < chr(65 + len(choices)):
        raise Rejected(f"field 'answer': expected a letter of the {len(choices)} options, got {letter!r}")
    return {"letter": letter, "options": choices}


# ------------------------------------------------------------------------------------------------------------- MATH-V


def read_file(path: Path, options: SourceOptions) -> Iterator[Record]:
    """Entries of a .jsonl, .json or .parquet file."""
    return records(path, options.split)


def convert_mathv(record: Record, options: SourceOptions) -> Iterable[Row]:
    """One row: `choice` if there are options, else `math`.

    A question may refer to several figures (`<image1>`, `<image2>`); one image file contains all of them. It is placed at the
    first reference, later references become "(image 2)".
    """
    data = record.data
    question = need(data, "question", str, "a text")
    answer = need(data, "answer", str, "a text").strip()
    choices = need(data, "options", list, "a list of options, empty for free-form answers")
    image = data.get("image")
    if image is not None:
        image = need(data, "image", str, "a path")
        question = re.sub(r"<image1>", "<image>", question, count=1)
        if "<image>" not in question:
            question = f"<image>\n{question}"
        choices = [re.sub(r"<image(\d+)>", r"(image \1)", str(choice)) for choice in choices]
    question = re.sub(r"<image(\d+)>", r"(image \1)", question)
    folder = options.media or record.file.parent
    return [
        {
            "id": own_id(record, "id", unique=True),
            "task": "choice" if choices else "math",
            "prompt": _question(question, choices),
            "images": [] if image is None else [locate(image, "image", folder)],
            "answer": _letter(answer, choices) if choices else {"value": answer},
            "source": source(options, "MATH-V", "MIT"),
            "subject": data.get("subject"),
            "level": data.get("level"),
            "solution": data.get("solution"),
        }
    ]


def looks_like_mathv(path: Path, first: Any) -> bool:
    """True for questions with options, a level and a subject."""
    return isinstance(first, dict) and {"question", "options", "answer", "level", "subject"} <= set(first)


# ---------------------------------------------------------------------------------------------------------- MathVista


class MathVistaOptions(SourceOptions):
    """Options of `mathvista`. `media`: the folder that holds `images/`; null: the file's folder."""

    prompt: Literal["query", "question"] = "query"
    """`query`: the authors' prompt with a hint on the form of the answer, built if the file has none; `question`: only the
    question and its options."""


def convert_mathvista(record: Record, options: MathVistaOptions) -> Iterable[Row]:
    """One row: `choice` for multiple choice, else `math`."""
    data = record.data
    kind = need(data, "question_type", str, "multi_choice or free_form")
    question = need(data, "question", str, "a text")
    answer = need(data, "answer", str, "a text").strip()
    if not answer:
        raise Rejected(
            "field 'answer': expected the true answer, got '' (those of the test split are not published)"
        )
    row: Row = {"id": own_id(record, "pid", unique=True)}
    choices = None
    if kind == "multi_choice":
        choices = need(data, "choices", list, "a list of options")
        if choices.count(answer) != 1:
            raise Rejected(f"field 'answer': expected exactly one of the choices {choices}, got {answer!r}")
        row |= {"task": "choice", "answer": _letter(chr(65 + choices.index(answer)), choices)}
    elif kind == "free_form":
        row |= {"task": "math", "answer": {"value": answer}}
    else:
        raise Rejected(f"field 'question_type': expected multi_choice or free_form, got {kind!r}")
    decoded = data.get("decoded_image")
    if decoded is not None:
        images = media_list(decoded, "decoded_image", record.file.parent)
    else:
        image = need(data, "image", str, "a path")
        images = media_list(image, "image", options.media or record.file.parent)
    if options.prompt == "query":
        text, listed = (
            need(data, "query", str, "a text") if "query" in data else _query(data, question, choices),
            None,
        )
    else:
        text, listed = question + (f" (Unit: {data['unit']})" if data.get("unit") else ""), choices
    metadata = need(data, "metadata", dict, "an object") if data.get("metadata") else {}
    return [
        row
        | {
            "prompt": _question(f"<image>\n{text}", listed),
            "images": images,
            "source": source(options, "MathVista", "CC BY-SA 4.0"),
            "unit": data.get("unit"),
            "precision": data.get("precision"),
            "answer_type": data.get("answer_type"),
            "subject": metadata.get("task"),
            "level": metadata.get("grade"),
            "subset": metadata.get("source"),
            "language": metadata.get("language"),
            "split": metadata.get("split"),
        }
    ]


_HINTS = {
    ("text", None): "and provide the correct option letter, e.g., A, B, C, D, at the end",
    ("integer", None): "requiring an integer answer and provide the final value, e.g., 1, 2, 3, at the end",
    ("float", 1): "requiring a floating-point number with one decimal place and provide the final value, e.g., 1.2, 1.3, 1.4, at the end",
    ("float", 2): "requiring a floating-point number with two decimal places and provide the final value, e.g., 1.23, 1.34, 1.45, at the end",
    ("list", None): "requiring a Python list as an answer and provide the final list, e.g., [1, 2, 3], [1.2, 1.3, 1.4], at the end",
}  # fmt: skip
"""The authors' hints by answer type and precision (evaluation/build_query.py)."""


def _query(data: dict[str, Any], question: str, choices: list[str] | None) -> str:
    """The authors' prompt, which is not in testmini.json but built by their script."""
    kind, precision = data.get("answer_type"), data.get("precision")
    hints = [h for (name, digits), h in _HINTS.items() if name == kind and digits in (None, precision)]
    lines = [f"Hint: Please answer the question {hints[0]}."] if hints else []
    lines.append(f"Question: {question}" + (f" (Unit: {data['unit']})" if data.get("unit") else ""))
    if choices:
        lines += ["Choices:", *(f"({chr(65 + i)}) {choice}" for i, choice in enumerate(choices))]
    return "\n".join(lines)


def looks_like_mathvista(path: Path, first: Any) -> bool:
    """True for problems with a pid, a question type and an answer type."""
    return isinstance(first, dict) and {"pid", "question_type", "answer_type", "answer"} <= set(first)


# --------------------------------------------------------------------------------------------------------- Geometry3K


class Geometry3KOptions(SourceOptions):
    """Options of `geometry3k`. Images lie in each problem's own folder; `media` is not used."""

    answer: Literal["value", "choice"] = "value"
    """`value`: free form, with the correct option's text as the answer; `choice`: its letter, with the options in the question."""
    image: str = "img_diagram.png"
    """Which image of the problem's folder to use: the diagram, `img_diagram_point.png` (points marked), or `img_problem.png`."""


def read_geometry3k(path: Path, options: Geometry3KOptions) -> Iterator[Record]:
    """Problems of a folder (`geometry3k/train`, or `geometry3k` with its splits), sorted by number.

    `file` is the problem's data.json, `at` its folder's name (with the split if there are several).
    """
    files = path.glob("**/data.json") if path.is_dir() else [path]
    order = sorted(files, key=lambda f: (str(f.parent.parent), f.parent.name.zfill(12)))
    for file in order:
        at = str(file.parent.relative_to(path)) if path.is_dir() else file.parent.name
        yield file_record(file, at, parse_json, "JSON")


def convert_geometry3k(record: Record, options: Geometry3KOptions) -> Iterable[Row]:
    """One row of task `math` or `choice` (by option), with the LaTeX version of the text if there is one."""
    data = record.data
    annotated = isinstance(data, dict) and data.get("annotat_text")
    question = need(data, "annotat_text" if annotated else "problem_text", str, "a text")
    choices = need(data, "choices", list, "a list of options")
    letter = need(data, "answer", str, "a letter").strip()
    answer = _letter(letter, choices)
    free = options.answer == "value"
    return [
        {
            "id": str(record.at),
            "task": "math" if free else "choice",
            "prompt": _question(f"<image>\n{question.strip()}", None if free else choices),
            "images": [locate(options.image, "image", record.file.parent)],
            "answer": {"value": str(choices[ord(letter) - 65]).strip()} if free else answer,
            "source": source(options, "Geometry3K", "MIT"),
            "choices_text": choices,
            "subject": _joined(data, "problem_type_graph"),
            "goal": _joined(data, "problem_type_goal"),
            "split": data.get("data_type"),
        }
    ]


def _joined(data: dict[str, Any], field: str) -> str:
    """A list of texts as one."""
    texts = data.get(field) or []
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise Rejected(f"field '{field}': expected a list of texts, got {show(texts)}")
    return "; ".join(texts)


def looks_like_geometry3k(path: Path, first: Any) -> bool:
    """True for problems with LaTeX text, choices and the graph's kind, or a folder of such problems' folders."""
    if path.is_dir():
        return any((f.parent / "img_diagram.png").is_file() for f in islice(path.glob("**/data.json"), 1))
    return isinstance(first, dict) and {"problem_text", "choices", "answer", "problem_type_graph"} <= set(
        first
    )


class Geometry3KParquetOptions(easyr1.EasyR1Options):
    """Options of `geometry3k_parquet`, as those of `easyr1`."""

    dataset: str | None = "Geometry3K"
    """Name of the data set in the rows' `source`."""
    licence: str | None = "MIT"
    """Licence in the rows' `source`."""


def looks_like_geometry3k_parquet(path: Path, first: Any) -> bool:
    """True for EasyR1's columns in a file whose path names the data set."""
    return "geometry3k" in str(path).lower() and easyr1.looks_like(path, first)


# -------------------------------------------------------------------------------------------------------------- GSM8K

_MARK = re.compile(r"<<[^<>]*>>")
_FINAL = re.compile(r"\n?\s*####\s*(.+?)\s*\Z")


class GSM8KOptions(SourceOptions):
    """Options of `gsm8k`."""

    trace: Literal["none", "solution"] = "none"
    r"""`solution`: use the human solution as the trace, with its answer in \boxed{…} on the last line."""


def convert_gsm8k(record: Record, options: GSM8KOptions) -> Iterable[Row]:
    """One row of task `math`: the answer after `####`, and the solution without its calculator marks `<<48/2=24>>`."""
    question = need(record.data, "question", str, "a text").strip()
    text = need(record.data, "answer", str, "a solution that ends with '#### <answer>'")
    final = _FINAL.search(text)
    if not final or text.count("####") != 1:
        raise Rejected(
            f"field 'answer': expected a solution that ends with '#### <answer>', got {show(text[-50:])}"
        )
    solution = _MARK.sub("", text[: final.start()]).strip()
    answer = final.group(1)
    trace = [{"role": "assistant", "content": f"{solution}\n\\boxed{{{answer}}}"}]
    return [
        {
            "id": str(record.at),
            "task": "math",
            "prompt": [{"role": "user", "content": question}],
            "answer": {"value": answer},
            "trace": trace if options.trace == "solution" else None,
            "source": source(options, "GSM8K", "MIT"),
            "solution": solution,
        }
    ]


def looks_like_gsm8k(path: Path, first: Any) -> bool:
    """True for a question, and a solution with its answer after `####`."""
    return isinstance(first, dict) and "question" in first and "\n#### " in str(first.get("answer"))


FORMATS = (
    Format("mathv", "MATH-V test.jsonl", read_file, convert_mathv, looks_like_mathv, SourceOptions),
    Format(
        "mathvista",
        "MathVista testmini.json or Parquet",
        read_file,
        convert_mathvista,
        looks_like_mathvista,
        MathVistaOptions,
    ),
    Format(
        "geometry3k",
        "Geometry3K, a folder per problem",
        read_geometry3k,
        convert_geometry3k,
        looks_like_geometry3k,
        Geometry3KOptions,
    ),
    Format(
        "geometry3k_parquet",
        "Geometry3K as Parquet for EasyR1 and verl",
        read_file,
        easyr1.convert,
        looks_like_geometry3k_parquet,
        Geometry3KParquetOptions,
    ),
    Format(
        "gsm8k", "GSM8K train.jsonl, test.jsonl", read_file, convert_gsm8k, looks_like_gsm8k, GSM8KOptions
    ),
)
