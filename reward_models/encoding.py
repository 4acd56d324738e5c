"""A prompt and a response as the sequence a reward model reads; the same in training, evaluation and scoring.

The prompt is rendered by the checkpoint's chat template up to the assistant's turn; the response follows as it is, and the end
token, at which the score is read. That is all a reward model ever sees: no other text can be scored.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer

from core.pairs import Response
from core.rows import Row
from reward_models.questions import ResponseError
from sft.data import prompt_media
from vlm.inputs import Encoded, check_texts, encode, expanded_length, prompt_ids, special_tokens
from vlm.load import CheckpointConfig, load_processor
from vlm.media import load_media


class TextProcessor:
    """A tokenizer and its chat template behind the interface of a processor, for models that read text alone."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.chat_template = tokenizer.chat_template

    def apply_chat_template(self, messages: Sequence[Mapping[str, Any]], **options: Any) -> Any:
        """As the tokenizer's; content parts are joined, since templates of text models take strings."""
        return self.tokenizer.apply_chat_template([_as_text(m) for m in messages], **options)

    def save_pretrained(self, folder: Path) -> None:
        self.tokenizer.save_pretrained(folder)

    @classmethod
    def of(cls, folder: Path) -> TextProcessor:
        return cls(AutoTokenizer.from_pretrained(folder))


def processor_of(kind: str, config: CheckpointConfig, folder: Path) -> Any:
    """What turns rows into inputs for a model of this kind."""
    return load_processor(config) if kind == "multimodal" else TextProcessor.of(folder)


def _as_text(message: Mapping[str, Any]) -> dict[str, Any]:
    content = message["content"]
    if not isinstance(content, str):
        content = "".join(part["text"] for part in content)
    return {**message, "content": content}


@dataclass(frozen=True)
class EncodedPair:
    """prompt: with its media. chosen, rejected: token ids, the end token last. key: equal for pairs of the same prompt and
    media. row: number of the row."""

    prompt: Encoded
    chosen: tuple[int, ...]
    rejected: tuple[int, ...]
    margin: float
    key: Hashable
    row: int


def encode_pairs(
    processor: Any, numbered: Sequence[tuple[int, Row]], *, max_frames: int = 256
) -> list[EncodedPair]:
    """Preference rows with their numbers, media decoded; those about one prompt share its encoding. Raises ValueError, naming the
    row."""
    prompts: dict[Hashable, Encoded] = {}
    pairs = []
    for number, row in numbered:
        key = prompt_key(row)
        if key not in prompts:
            prompts[key] = encode_prompt(processor, row, max_frames=max_frames)
        chosen, rejected = (response_ids(processor, row, field) for field in ("chosen", "rejected"))
        pairs.append(EncodedPair(prompts[key], chosen, rejected, row["margin"] or 0.0, key, number))
    return pairs


def prompt_key(row: Row) -> Hashable:
    """Equal for rows with the same prompt about the same media."""
    return repr(row["prompt"]), prompt_media(row)


def encode_prompt(processor: Any, row: Row, *, max_frames: int = 256) -> Encoded:
    """A row's prompt up to the beginning of the response. Raises ValueError, naming the row."""
    where = f"row {row.get('id')!r}: field 'prompt'"
    try:
        if isinstance(processor, TextProcessor):
            _refuse_media(row)
            ids = prompt_ids(processor, row["prompt"])
            return Encoded(torch.tensor(ids), torch.arange(len(ids)).expand(3, -1), engine_ids=tuple(ids))
        images, videos = load_media(row, max_frames=max_frames)
        return encode(processor, row["prompt"], images, videos)
    except ValueError as error:
        raise ValueError(str(error) if str(error).startswith("row ") else f"{where}: {error}") from None


def response_ids(processor: Any, row: Row, field: str) -> tuple[int, ...]:
    """Token ids of a row's `chosen` or `rejected`, the end token last. Raises ValueError, naming row and field."""
    response, where = row[field], f"row {row.get('id')!r}: field '{field}'"
    try:
        if isinstance(response, str):
            return text_ids(processor.tokenizer, response)
        return _turn_ids(processor, row["prompt"], response)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def text_ids(tokenizer: Any, text: str) -> tuple[int, ...]:
    """Token ids of one response, the end token last. Raises ResponseError for a text that the template cannot hold."""
    if not text.strip():
        raise ResponseError("empty", "expected a text that is not empty")
    if found := next((token for token in special_tokens(tokenizer) if token in text), None):
        raise ResponseError("special_token", f"expected plain text, got the special token {found} in it")
    return (*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id)


def _turn_ids(processor: Any, prompt: Sequence[Any], turns: Response) -> tuple[int, ...]:
    """Several turns behind a prompt, as the chat template writes them, up to the last end token."""
    assert not isinstance(turns, str)
    tokenizer = processor.tokenizer
    check_texts(tokenizer, turns)
    options = {"tokenize": False}
    before = processor.apply_chat_template(prompt, add_generation_prompt=True, **options)
    whole = processor.apply_chat_template([*prompt, *turns], **options)
    rest = whole.removeprefix(before).rstrip()
    if rest == whole or not rest.endswith(tokenizer.eos_token):
        raise ValueError("the chat template changes the prompt once an answer follows it")
    return tuple(tokenizer(rest, add_special_tokens=False)["input_ids"])


def _refuse_media(row: Row) -> None:
    for field in ("images", "videos"):
        if row.get(field):
            raise ValueError(
                f"expected text alone (the reward model has kind: text), got {len(row[field])} {field}"
            )


def pair_length(processor: Any, row: Row, *, max_tokens: int | None = None, max_frames: int = 256) -> int:
    """Tokens of a prompt and both responses; media are decoded. Raises ValueError, naming the row, for what `encode_pairs`
    refuses, and for a sequence of more than `max_tokens`."""
    where = f"row {row.get('id')!r}"
    if isinstance(processor, TextProcessor):
        prompt = len(encode_prompt(processor, row))
    else:
        images, videos = load_media(row, max_frames=max_frames)
        try:
            prompt = expanded_length(processor, prompt_ids(processor, row["prompt"]), images, videos)
        except ValueError as error:
            raise ValueError(f"{where}: field 'prompt': {error}") from None
    lengths = [len(response_ids(processor, row, field)) for field in ("chosen", "rejected")]
    if max_tokens and prompt + max(lengths) > max_tokens:
        raise ValueError(
            f"{where}: expected at most {max_tokens} tokens of prompt and response, got {prompt + max(lengths)}"
        )
    return prompt + sum(lengths)
