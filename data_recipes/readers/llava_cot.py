"""LLaVA-CoT-100k: questions about images, answered by GPT-4o in four tagged stages.

Published as train.jsonl and image.zip at hf.co/datasets/Xkev/LLaVA-CoT-100k (Apache-2.0; the images belong to their sets); form as
in github.com/PKU-YuanGroup/LLaVA-CoT (train/datasets/cot_dataset.py, dataset_generation/generate.py):

    {"id": "…", "image": "chartqa/train/png/1.png", "conversations": [{"from": "human", "value": "…"},
        {"from": "gpt", "value": "<SUMMARY> … </SUMMARY>\\n\\n<CAPTION> … </CAPTION> … <CONCLUSION> … </CONCLUSION>"}, …]}

The data set's authors only checked that a conclusion exists. Here every trace is parsed strictly (`rewards.stages`), and one
that breaks a rule is Rejected with the rule's name. The conclusion is the only gold answer in the set: if it is a letter, a
number or a few words, it becomes the answer of a choice, math or text row; if it is longer, the row has no answer (task `chat`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from core.rows import Row
from data_recipes.readers.chat import SourceOptions, dialogue, front_placeholders, media_list, own_id, source
from data_recipes.readers.files import need
from data_recipes.readers.folders import records
from data_recipes.readers.llava import from_value
from data_recipes.records import Format, Record, Rejected
from rewards.functions.choice import read_choice
from rewards.reading.text import plain_number, without_lead
from rewards.stages import parse

MAX_WORDS = 5
"""Maximum number of words of a conclusion that is used as an answer; longer ones cannot be compared."""

FOLDERS = {
    "chartqa": "ChartQA",
    "sqa": "ScienceQA",
    "scienceqa": "ScienceQA",
    "geoqa+": "GeoQA+",
    "ai2d": "AI2D",
    "docvqa": "DocVQA",
    "pisc": "PISC",
    "aokvqa": "A-OKVQA",
    "a-okvqa": "A-OKVQA",
    "clevr-math": "CLEVR-Math",
    "clevr_math": "CLEVR-Math",
}
"""First folder of an image's path -> the data set of the question. See `subset_of` for folders that sets share."""


class LLaVACoTOptions(SourceOptions):
    """Options of `llava_cot`. `media`: where the images were unpacked; null: the file's folder."""

    turns: Literal["rows", "dialogue"] = "rows"
    """For several questions about one image: `rows` makes one row per question, with the earlier ones in its prompt;
    `dialogue` makes one row of task `chat`, whose trace is all messages from the first answer on."""


def read(path: Path, options: LLaVACoTOptions) -> Iterator[Record]:
    """Lines of train.jsonl."""
    return records(path, options.split)


def convert(record: Record, options: LLaVACoTOptions) -> Iterator[Row | Rejected]:
    """One row per question (or per dialogue). After a broken trace, the dialogue's remaining questions are Rejected."""
    data = record.data
    turns = from_value(need(data, "conversations", list, "a list of turns"), "conversations")
    image = need(data, "image", str, "a path")
    for i, (role, _) in enumerate(turns):
        if role != ("user", "assistant")[i % 2]:
            raise Rejected(f"field 'conversations[{i}].from': expected human and gpt in turn, got {role}")
    if not turns or len(turns) % 2:
        raise Rejected(f"field 'conversations': expected questions with answers, got {len(turns)} turns")
    images = media_list(image, "image", options.media or record.file.parent)
    texts = [text for _, text in front_placeholders(turns, images, [])]
    own = own_id(record, "id", unique=True)
    questions = texts[0::2]
    common = {
        "subset": subset_of(image, " ".join(questions)),
        "source": source(options, "LLaVA-CoT-100k", "Apache-2.0"),
    }
    dialogue_turns: list[tuple[str, str]] = []
    for i, (question, text) in enumerate(zip(questions, texts[1::2], strict=True)):
        parsed = parse(text)
        if parsed.stages is None:
            at = f"conversations[{2 * i + 1}].value"
            rest = f"; {len(questions) - i - 1} questions after it" if i + 1 < len(questions) else ""
            broken = Rejected(
                f"field '{at}': expected the four stages, got a text that breaks '{parsed.broken}'{rest}"
            )
            if options.turns == "dialogue":
                raise broken
            yield broken
            return
        conclusion = parsed.stages["CONCLUSION"]
        dialogue_turns += [("user", question), ("assistant", text)]
        if options.turns == "rows":
            task, answer = gold(question, conclusion)
            row = dialogue(dialogue_turns[:-1], images, [], "conversations")
            row["trace"] = {name.lower(): stage for name, stage in parsed.stages.items()}
            name = own if len(questions) == 1 else f"{own}-{i + 1}"
            yield {"id": name, "task": task, "answer": answer} | row | common
    if options.turns == "dialogue":
        row = dialogue(dialogue_turns, images, [], "conversations")
        task, answer = gold(questions[0], conclusion) if len(questions) == 1 else ("chat", None)
        yield {"id": own, "task": task, "answer": answer} | row | common


# --------------------------------------------------------------------------------------------------------------- gold


def gold(question: str, conclusion: str) -> tuple[str, dict[str, Any] | None]:
    """(task, answer) for a conclusion as the gold answer: choice, math, text, or chat with None."""
    options = listed_options(question)
    letter = read_choice(conclusion, options)
    if letter and (options or re.fullmatch(r"\W*[A-Z]\W*", conclusion)):
        return "choice", {"letter": letter} | ({"options": options} if options else {})
    answer = without_lead(conclusion).strip().rstrip(".").strip()
    if options or not answer:
        return "chat", None  # the chosen option cannot be identified
    if plain_number(answer):
        return "math", {"value": answer}
    if len(answer.split()) <= MAX_WORDS and "\n" not in answer:
        return "text", {"value": answer}
    return "chat", None


_MARKER = re.compile(r"(?:(?<=\n)|(?<=[\s:,;])|\A)(?:\(([A-H])\)|([A-H])[.:)])(?=\s)\s*")
_AFTER = re.compile(r"\s*(?:\n|\b(?:Answer with|Please answer|Choose)\b).*", re.DOTALL)


def listed_options(question: str) -> list[str] | None:
    """Texts of a question's lettered options, written `A. …`, `(A) …`, `A: …` or `A) …`; None if there are none."""
    markers = []
    for match in _MARKER.finditer(question):
        letter = match.group(1) or match.group(2)
        if letter == "A":
            markers = [match]
        elif markers and ord(letter) == ord("A") + len(markers):
            markers.append(match)
    if len(markers) < 2:
        return None
    ends = [m.start() for m in markers[1:]] + [len(question)]
    texts = [question[m.end() : end] for m, end in zip(markers, ends, strict=True)]
    texts[-1] = _AFTER.sub("", texts[-1])
    texts = [text.strip().rstrip(",;").strip() for text in texts]
    return texts if all(texts) else None


def subset_of(image: str, question: str) -> str:
    """The data set of a question, determined by its image's path.

    COCO's folder is shared by A-OKVQA, whose questions have options, and ShareGPT4V; CLEVR's is shared by CLEVR-Math, whose
    questions add and subtract objects. ShareGPT4V's images come from many folders (sam, vg, gqa, ocr_vqa, textvqa, wikiart, …).
    """
    folder = image.lstrip("./").split("/")[0].lower()
    if folder in FOLDERS:
        return FOLDERS[folder]
    if folder.startswith("clevr"):
        return "CLEVR-Math" if re.search(r"\b(?:subtract|add)\b", question, re.IGNORECASE) else "CLEVR"
    if folder == "coco" and listed_options(question):
        return "A-OKVQA"
    return "ShareGPT4V"


def looks_like(path: Path, first: Any) -> bool:
    """True for LLaVA's format with a stage tag in the first answer."""
    if (
        not isinstance(first, dict)
        or not isinstance(first.get("conversations"), list)
        or "image" not in first
    ):
        return False
    return any("<SUMMARY>" in str(t.get("value")) for t in first["conversations"] if isinstance(t, dict))


FORMATS = (Format("llava_cot", "LLaVA-CoT-100k train.jsonl", read, convert, looks_like, LLaVACoTOptions),)
