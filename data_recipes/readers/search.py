"""Visual search: questions of VisualProbe and DeepEyes, and Mini-o3's cold-start dialogues.

Questions (github.com/Mini-o3/Mini-o3, docs/mini_o3_demo.md; hf.co/datasets/Mini-o3/{VisualProbe_train, DeepEyes_train_4K, …}):

    [{"images": ["a.jpg"], "doc_id": "7", "problem": "<image>\\nWhat …?", "solution": "…", "data_source": "visual_probe_train"}]

Cold start (hf.co/datasets/Mini-o3/Mini-o3-Coldstart-Dataset; scripts/preprocess_coldstart.py): Parquet with the columns
images, image_names, conversations, data_source, sample_index, rollout_index, or the ShareGPT JSON that the script writes
(images, conversations). `conversations` is a list written as text, which the script evaluates and which is only parsed here.
A dialogue has a system prompt, a question, thoughts that end in `<grounding>…</grounding>`, each answered by a crop, and a last
one that ends in `<answer>…</answer>`. Data under CC BY-NC 4.0.

DeepEyes (github.com/Visual-Agent/DeepEyes, hf.co/datasets/ChenShawn/DeepEyes-Datasets-47k): Parquet in verl's layout with the columns
data_source (vstar, chart, thinklite_eureka), prompt (a system message that describes image_zoom_in_tool in Qwen's format, and the
question between "<image>" and an instruction), images, env_name, reward_model.ground_truth, extra_info (question, answer, index).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

from core.rows import Row
from data_recipes.readers.chat import SourceOptions, dialogue, front_placeholders, media_list, own_id, source
from data_recipes.readers.easyr1 import VerlOptions, convert_verl, looks_like_verl
from data_recipes.readers.files import need, show
from data_recipes.readers.folders import records
from data_recipes.readers.llava import from_value
from data_recipes.readers.ms_swift import literal
from data_recipes.records import Format, Record, Rejected

LICENCE = "CC BY-NC 4.0"
_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)


def read(path: Path, options: SourceOptions) -> Iterator[Record]:
    """Records of a .json, .jsonl or .parquet file."""
    return records(path, options.split)


def convert(record: Record, options: SourceOptions) -> Iterable[Row]:
    """One row of task `search`; `difficulty` comes from the name of the data set if it contains one."""
    data = record.data
    problem = need(data, "problem", str, "a text")
    solution = need(data, "solution", str, "a text").strip()
    name = need(data, "data_source", str, "a text")
    if not solution:
        raise Rejected("field 'solution': expected the true answer, got ''")
    images = media_list(
        need(data, "images", list, "a list of paths"), "images", options.media or record.file.parent
    )
    difficulty = re.search(r"_(easy|medium|hard)$", name)
    return [
        {"id": own_id(record, "doc_id"), "task": "search", "answer": {"value": solution}}
        | dialogue([("user", problem)], images, [], "problem")
        | {"source": source(options, name, LICENCE), "data_source": name}
        | ({"difficulty": difficulty.group(1)} if difficulty else {})
    ]


def looks_like(path: Path, first: Any) -> bool:
    """True for a problem with a solution, images and the name of its data set."""
    return isinstance(first, dict) and {"problem", "solution", "images", "data_source"} <= set(first)


class ColdStartOptions(SourceOptions):
    """Options of `mini_o3_coldstart`. `media`: where relative paths start from; null: the file's folder."""

    keep: Literal["all", "answered"] = "all"
    """`answered`: only dialogues that end with an `<answer>`. The data set also has beginnings of these dialogues as separate
    rows; training on both repeats the first turns."""


def convert_coldstart(record: Record, options: ColdStartOptions) -> Iterable[Row]:
    """One row of task `search`: the question as the prompt, the dialogue from the first thought on as the trace."""
    data = record.data
    conversation = need(data, "conversations", (str, list), "a list of turns, or one written as a text")
    if isinstance(conversation, str):
        conversation = literal(conversation, "conversations")
        if not isinstance(conversation, list):
            raise Rejected(f"field 'conversations': expected a list of turns, got {show(conversation)}")
    turns = from_value(conversation, "conversations")
    if not turns or turns[-1][0] != "assistant":
        raise Rejected("field 'conversations': expected a dialogue that ends with gpt, got none")
    answer = _ANSWER.search(turns[-1][1])
    if not answer and options.keep == "answered":
        raise Rejected("field 'conversations': expected a last turn with <answer>…</answer>, got none")
    images = media_list(
        need(data, "images", list, "a list of images"), "images", options.media or record.file.parent
    )
    index = "_r".join(str(data[k]) for k in ("sample_index", "rollout_index") if data.get(k) is not None)
    kept = {
        k: data[k]
        for k in ("data_source", "sample_index", "rollout_index", "image_names")
        if data.get(k) is not None
    }
    return [
        {"id": f"{index}@{record.at}" if index else str(record.at), "task": "search"}
        | {"answer": {"value": answer.group(1).strip()} if answer and answer.group(1).strip() else None}
        | dialogue(turns, images, [], "conversations")
        | {"turns": sum(role == "assistant" for role, _ in turns)}
        | kept
        | {"source": source(options, "Mini-o3 cold start", LICENCE)}
    ]


def looks_like_coldstart(path: Path, first: Any) -> bool:
    """True for conversations written as text with image names, or dialogues with `<grounding>` calls."""
    if not isinstance(first, dict) or "conversations" not in first or "images" not in first:
        return False
    conversation = first["conversations"]
    return (isinstance(conversation, str) and "image_names" in first) or "<grounding>" in str(conversation)


class DeepEyesOptions(VerlOptions):
    """Options of `deepeyes`. `media`: where relative paths start from; null: the file's folder."""

    task: str = "search"
    """Task of rows whose `data_source` is not in `tasks`."""
    tasks: dict[str, str] = {"thinklite_eureka": "math"}
    """`data_source` -> task."""
    prompt: Literal["question", "published"] = "question"
    """`question`: the images and the question alone, so that the run's own environment says how to call and answer. `published`: the
    messages as they are, which ask for image_zoom_in_tool in Qwen's format."""


def convert_deepeyes(record: Record, options: DeepEyesOptions) -> Iterable[Row]:
    """One row; data_source, ability, env_name and extra_info are kept."""
    (row,) = convert_verl(record, options)
    row["source"] = source(options, record.data["data_source"], "unknown")
    if options.prompt == "published":
        return [row]
    extra = need(record.data, "extra_info", dict, "an object with the question")
    question = need(extra, "question", str, "a text").replace("<image>", "").strip()
    if not question:
        raise Rejected("field 'extra_info.question': expected the question, got ''")
    asked = front_placeholders([("user", question)], row["images"], row["videos"])
    return [row | dialogue(asked, row["images"], row["videos"], "extra_info.question")]


def looks_like_deepeyes(path: Path, first: Any) -> bool:
    """True for verl's layout with a visual toolbox as its environment."""
    return looks_like_verl(path, first) and str(first.get("env_name")).startswith("visual_toolbox")


FORMATS = (
    Format(
        "visual_search",
        "VisualProbe and DeepEyes questions, JSON of Mini-o3",
        read,
        convert,
        looks_like,
        SourceOptions,
    ),
    Format(
        "mini_o3_coldstart",
        "Mini-o3 cold start, Parquet or ShareGPT",
        read,
        convert_coldstart,
        looks_like_coldstart,
        ColdStartOptions,
    ),
    Format(
        "deepeyes",
        "DeepEyes' own Parquet files (verl's layout)",
        read,
        convert_deepeyes,
        looks_like_deepeyes,
        DeepEyesOptions,
    ),
)
