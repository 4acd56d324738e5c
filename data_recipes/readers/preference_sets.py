"""Published preference sets, as rows with `chosen` and `rejected` (core/pairs.py).

    rlhf_v         RLHF-V: `text`, a JSON text of question, chosen and rejected, and `image`
    rlaif_v        RLAIF-V: question, chosen, rejected, image
    mm_rlhf        MM-RLHF, dpo_pairs.jsonl: prompt, chosen, rejected, and an image or a video
    llava_rlhf     LLaVA-RLHF's human preferences: conversations, output_1, output_2, and which is preferred (1 or 2)
    vlfeedback     VLFeedback: prompt, image, and responses of several models with ratings of three aspects
    ultrafeedback  UltraFeedback: instruction, and four completions with scores

Fields as in the authors' own code: openbmb/RLHF-V, RLAIF-V and UltraFeedback, Kwai-YuanQi/MM-RLHF (scripts/convert_to_swift.py),
llava-rlhf/LLaVA-RLHF (RLHF/data_utils/data_utils_rm.py) and vlf-silkie/VLFeedback. Where several responses were rated, every pair of
them makes a row, or a rejection if both have the same rating.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

from core.rows import Row
from data_recipes.readers.chat import media_list, own_id, source
from data_recipes.readers.files import need, show
from data_recipes.readers.folders import records
from data_recipes.readers.preferences import PreferenceOptions, better, margin_of, number, pair, text_prompt
from data_recipes.records import Format, Record, Rejected

NO_MEDIA: dict[str, list[Any]] = {"image": [], "video": []}
_SPEAKERS = {"human": "user", "gpt": "assistant"}


class RatedOptions(PreferenceOptions):
    """Options of sets in which several responses to a prompt were rated."""

    pairs: Literal["all", "extremes"] = "all"
    """all: every pair of responses. extremes: the best and the worst (the first of equals)."""


class VLFeedbackOptions(RatedOptions):
    """Options of `vlfeedback`."""

    aspects: tuple[str, ...] = ("Helpfulness", "Visual Faithfulness", "Ethical Considerations")
    """Aspects whose mean rating decides."""


class UltraFeedbackOptions(RatedOptions):
    """Options of `ultrafeedback`."""

    score: Literal["fine-grained_score", "overall_score"] = "fine-grained_score"
    """What decides: the mean of the ratings by aspect, or the critique's overall score, which is wrong for some completions (10
    for 1)."""


def read(path: Path, options: PreferenceOptions) -> Iterator[Record]:
    """Records of a .json, .jsonl or .parquet file, or of a folder of them."""
    return records(path, options.split)


def made_row(
    record: Record, options: PreferenceOptions, row: Row, dataset: str, licence: str, *ids: str
) -> Row:
    about = {"id": own_id(record, *ids), "task": options.task}
    return about | row | {"source": source(options, dataset, licence)}


def _media(
    data: Mapping[str, Any], record: Record, options: PreferenceOptions, *fields: str
) -> dict[str, list[Any]]:
    """The medium in the first of these fields that has one, an image unless the field is called video."""
    folder = options.media or record.file.parent
    field = next((field for field in fields if data.get(field) is not None), None)
    found = media_list(data.get(field), field, folder) if field else []
    return {"image": [] if field == "video" else found, "video": found if field == "video" else []}


# -------------------------------------------------------------------------------------------------------- one pair each


def rlhf_v(record: Record, options: PreferenceOptions) -> Iterable[Row]:
    """One row per record."""
    data = record.data
    text = data.get("text") if isinstance(data, dict) else None
    try:
        fields = json.loads(text) if isinstance(text, str) else text
    except ValueError:
        raise Rejected(
            f"field 'text': expected JSON with question, chosen and rejected, got {show(text)}"
        ) from None
    return [_visual(record, options, fields, "question", "RLHF-V", "cc-by-nc-4.0")]


def rlaif_v(record: Record, options: PreferenceOptions) -> Iterable[Row]:
    """One row per record."""
    return [_visual(record, options, record.data, "question", "RLAIF-V", "cc-by-nc-4.0")]


def mm_rlhf(record: Record, options: PreferenceOptions) -> Iterable[Row]:
    """One row per record."""
    return [_visual(record, options, record.data, "prompt", "MM-RLHF", "unknown")]


def _visual(
    record: Record, options: PreferenceOptions, fields: Any, question: str, dataset: str, licence: str
) -> Row:
    prompt = text_prompt(need(fields, question, str, "a text"))
    chosen, rejected = (need(fields, name, str, "a text") for name in ("chosen", "rejected"))
    media = _media(record.data, record, options, "video", "image", "image_path")
    row = pair(prompt, chosen, rejected, media, margin=margin_of(record.data))
    if record.data.get("origin_dataset") is not None:
        row["origin_dataset"] = record.data["origin_dataset"]
    return made_row(record, options, row, dataset, licence, "idx", "id")


def llava_rlhf(record: Record, options: PreferenceOptions) -> Iterable[Row]:
    """One row per record."""
    data = record.data
    turns = need(data, "conversations", list, "a list of turns")
    if len(turns) == 1 and isinstance(turns[0], list):  # some of the published records are nested
        turns = turns[0]
    if turns and isinstance(turns[-1], dict) and turns[-1].get("from") == "gpt":
        turns = turns[:-1]  # its text stands for either output
    prompt = []
    for i, turn in enumerate(turns):
        speaker = _SPEAKERS.get(str(turn.get("from"))) if isinstance(turn, dict) else None
        if speaker is None:
            raise Rejected(f"field 'conversations[{i}].from': expected human or gpt, got {show(turn)}")
        prompt += [text_prompt(need(turn, "value", str, "a text"))[0] | {"role": speaker}]
    outputs = [
        need(need(data, name, dict, "an object"), "value", str, "a text") for name in ("output_1", "output_2")
    ]
    preference = data.get("preference")
    if preference not in (1, 2) or isinstance(preference, bool):
        raise Rejected(f"field 'preference': expected 1 or 2, got {show(preference)}")
    chosen, rejected = outputs if preference == 1 else outputs[::-1]
    row = pair(prompt, chosen, rejected, _media(data, record, options, "image"))
    return [made_row(record, options, row, "LLaVA-Human-Preference-10K", "unknown", "id")]


# -------------------------------------------------------------------------------------------------------- rated responses


def _equally_long(columns: Iterable[Any]) -> bool:
    columns = list(columns)
    return (
        all(isinstance(values, list) for values in columns) and len({len(values) for values in columns}) == 1
    )


def vlfeedback(record: Record, options: VLFeedbackOptions) -> Iterable[Row | Rejected]:
    """A row per pair of responses."""
    data = record.data
    prompt = text_prompt(need(data, "prompt", str, "a text"))
    media = _media(data, record, options, "image", "img_path")
    completions = data.get("completions")
    if isinstance(completions, dict) and _equally_long(completions.values()):
        # as `datasets` stores a list of objects
        names = list(completions)
        completions = [dict(zip(names, values)) for values in zip(*completions.values(), strict=True)]
    if not isinstance(completions, list) or len(completions) < 2:
        raise Rejected(f"field 'completions': expected two or more responses, got {show(completions)}")

    def rating(i: int) -> float:
        at = f"completions[{i}].annotations"
        notes = need(completions[i], "annotations", dict, "ratings")
        ratings = [need(notes, aspect, dict, "a rating").get("Rating") for aspect in options.aspects]
        values = [number(r, f"{at}.{a}.Rating") for r, a in zip(ratings, options.aspects, strict=True)]
        return sum(values) / len(values)

    responses = [need(c, "response", str, "a text") for c in completions]
    about = ("VLFeedback", "cc-by-4.0", "id")
    return rated_rows(record, options, prompt, media, responses, rating, about)


def ultrafeedback(record: Record, options: UltraFeedbackOptions) -> Iterable[Row | Rejected]:
    """A row per pair of completions."""
    prompt = text_prompt(need(record.data, "instruction", str, "a text"))
    completions = need(record.data, "completions", list, "a list of completions")
    if len(completions) < 2:
        raise Rejected(f"field 'completions': expected two or more, got {len(completions)}")

    def rating(i: int) -> float:
        return number(completions[i].get(options.score), f"completions[{i}].{options.score}")

    responses = [need(c, "response", str, "a text") for c in completions]
    return rated_rows(record, options, prompt, NO_MEDIA, responses, rating, ("UltraFeedback", "mit"))


def rated_rows(
    record: Record,
    options: RatedOptions,
    prompt: list[dict[str, Any]],
    media: Mapping[str, list[Any]],
    responses: Sequence[str],
    rating: Any,
    names: tuple[str, ...],
) -> Iterator[Row | Rejected]:
    """Rows of rated responses; a rating that cannot be read costs its pairs alone."""
    ratings: dict[int, float | Rejected] = {}
    for i in range(len(responses)):
        try:
            ratings[i] = rating(i)
        except Rejected as error:
            ratings[i] = error
    indices = list(combinations(range(len(responses)), 2))
    if options.pairs == "extremes":
        known = [i for i, value in ratings.items() if isinstance(value, float)]
        if len(known) < 2:
            raise next(value for value in ratings.values() if isinstance(value, Rejected))
        by_rating = sorted(known, key=lambda i: ratings[i])  # type: ignore[arg-type,return-value]
        indices = [(by_rating[-1], by_rating[0])]
    for i, j in indices:
        first, second = ratings[i], ratings[j]
        try:
            for value in (first, second):
                if isinstance(value, Rejected):
                    raise value
            assert not isinstance(first, Rejected) and not isinstance(second, Rejected)
            at = f"responses {i + 1} and {j + 1}"
            chosen, rejected, margin = better(responses[i], responses[j], first - second, at)
            row = made_row(record, options, pair(prompt, chosen, rejected, media, margin=margin), *names)
            yield row | {"id": f"{row['id']}-{i + 1}-{j + 1}"}
        except Rejected as error:
            yield Rejected(str(error))


# ---------------------------------------------------------------------------------------------------------------- formats


def _fields(*names: str) -> Any:
    return lambda path, first: isinstance(first, dict) and set(names) <= set(first)


def _is_rlhf_v(path: Path, first: Any) -> bool:
    text = first.get("text") if isinstance(first, dict) else None
    return isinstance(text, str | dict) and all(
        f'"{name}"' in json.dumps(first["text"]).replace("\\", "")
        for name in ("question", "chosen", "rejected")
    )


def _is_mm_rlhf(path: Path, first: Any) -> bool:
    texts = isinstance(first, dict) and all(
        isinstance(first.get(f), str) for f in ("prompt", "chosen", "rejected")
    )
    return texts and any(isinstance(first.get(f), str) for f in ("image", "video"))


def _is_rated(*names: str) -> Any:
    def look(path: Path, first: Any) -> bool:
        completions = first.get("completions") if _fields(*names, "completions")(path, first) else None
        one = completions[0] if isinstance(completions, list) and completions else completions
        return isinstance(one, dict) and "response" in one

    return look


FORMATS = (
    Format("rlhf_v", "RLHF-V: human corrections", read, rlhf_v, _is_rlhf_v, PreferenceOptions),
    Format(
        "rlaif_v",
        "RLAIF-V",
        read,
        rlaif_v,
        _fields("question", "chosen", "rejected", "image"),
        PreferenceOptions,
    ),
    Format("mm_rlhf", "MM-RLHF, dpo_pairs.jsonl", read, mm_rlhf, _is_mm_rlhf, PreferenceOptions),
    Format(
        "llava_rlhf",
        "LLaVA-RLHF's human preferences",
        read,
        llava_rlhf,
        _fields("conversations", "output_1", "output_2", "preference"),
        PreferenceOptions,
    ),
    Format("vlfeedback", "VLFeedback", read, vlfeedback, _is_rated("prompt"), VLFeedbackOptions),
    Format(
        "ultrafeedback", "UltraFeedback", read, ultrafeedback, _is_rated("instruction"), UltraFeedbackOptions
    ),
)
