"""Rows with traces → sequences with labels: the loss falls on the trace's tokens and the end token only."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from xxhash import xxh3_128

from core.errors import UserError
from core.rows import Row
from rewards.stages import STAGES, render, stage_spans
from vlm.families import family_of_processor
from vlm.inputs import (
    Encoded,
    check_texts,
    encode_ids,
    encode_row,
    expanded_length,
    extend,
    prompt_ids,
    special_tokens,
    spread,
)
from vlm.media import load_media

IGNORE = -100
"""Label of tokens without a loss."""
STAGE_NAMES: tuple[str, ...] = ("none", *(s.lower() for s in STAGES), "turns", "end")
"""Names of `stage_ids`: 0 is no target; `turns` is text of a multi-turn trace outside the grammar; `end` the end token."""
PromptMedia = tuple[tuple[str, Hashable], ...]
END_ID, TURNS_ID = STAGE_NAMES.index("end"), STAGE_NAMES.index("turns")


class TraceError(UserError, ValueError):
    """A row that cannot be trained on; the message names the row and what is wrong with its trace."""


@dataclass(frozen=True)
class Example:
    """One training sequence. labels: (T,) int64, the token's own id where it is a target, else IGNORE.
    stage_ids: (T,) int64 into STAGE_NAMES, 0 where there is no target.

    media: those of the prompt (`prompt_media`). media_end: number of tokens up to the last of them, that included.
    """

    sequence: Encoded
    labels: Tensor
    stage_ids: Tensor
    media: PromptMedia = ()
    media_end: int = 0

    def __len__(self) -> int:
        return len(self.sequence)


def encode_example(processor: Any, row: Row, *, max_frames: int = 256) -> Example:
    """A row's prompt and trace as one training sequence, media decoded.

    Raises TraceError for a row without a trace or with one that cannot be a target, MediaError for bad media.
    """
    if isinstance(row.get("trace"), list):
        return _encode_turns(processor, row, max_frames)
    ids, stages = target(processor.tokenizer, row)
    prompt = encode_row(processor, row, max_frames=max_frames)
    nothing = len(prompt)
    return _example(processor, row, extend(prompt, ids), torch.tensor([0] * nothing + stages))


def target(tokenizer: Any, row: Row) -> tuple[list[int], list[int]]:
    """Token ids of a four-stage trace in the grammar, end token last, and the stage of each (into STAGE_NAMES).

    A token across a border of stages (`><`) belongs to the stage in which it starts.
    """
    trace = row.get("trace")
    if trace is None:
        raise TraceError(f"row {row.get('id')!r}: field 'trace': expected a trace to train on, got none")
    try:
        text = render(trace)
    except ValueError as error:
        raise TraceError(f"row {row.get('id')!r}: {error}") from None
    ids, stages = _tokens(tokenizer, text, f"row {row.get('id')!r}: field 'trace'")
    return [*ids, tokenizer.eos_token_id], [*stages, END_ID]


def check_end_token(processor: Any) -> None:
    """Raise ValueError unless the chat template ends an assistant's turn with the tokenizer's end token.

    The model would learn to end with one token while generation waits for another.
    """
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    text = processor.apply_chat_template(turns, tokenize=False).rstrip()
    if not text.endswith(processor.tokenizer.eos_token):
        raise ValueError(
            f"expected the chat template to end an assistant's turn with the tokenizer's eos_token"
            f" {processor.tokenizer.eos_token!r}, got …{text[-20:]!r}; set eos_token in tokenizer_config.json"
        )


def _tokens(tokenizer: Any, text: str, where: str) -> tuple[list[int], list[int]]:
    """Ids of a text that the model should write, and the stage of each token."""
    out = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    special = [token for token in special_tokens(tokenizer) if token in text]
    if special:
        raise TraceError(f"{where}: expected plain text, got the special token {', '.join(special)} in it")
    stage_of = np.full(len(text) + 1, TURNS_ID)
    for name, start, end in stage_spans(text):
        stage_of[start:end] = STAGE_NAMES.index(name.lower())
    return out["input_ids"], [int(stage_of[start]) for start, _ in out["offset_mapping"]]


def _encode_turns(processor: Any, row: Row, max_frames: int) -> Example:
    """A multi-turn trace: all its assistant turns are targets, the observations between them are not."""
    engine_ids, stages = turn_ids(processor, row)
    images, videos = load_media(row, max_frames=max_frames)
    sequence = encode_ids(processor, engine_ids, images, videos)
    return _example(processor, row, sequence, torch.tensor(spread(processor, sequence, stages)))


def _example(processor: Any, row: Row, sequence: Encoded, stage_ids: Tensor) -> Example:
    labels = torch.where(stage_ids > 0, sequence.input_ids, IGNORE)
    family = family_of_processor(processor)
    ids = torch.tensor(processor.tokenizer.convert_tokens_to_ids([family.image_token, family.video_token]))
    before = sequence.input_ids[: int(stage_ids.ne(0).int().argmax())]
    places = torch.isin(before, ids).nonzero()
    media_end = int(places[-1]) + 1 if len(places) else 0
    return Example(sequence, labels, stage_ids, prompt_media(row), media_end)


def turn_ids(processor: Any, row: Row) -> tuple[list[int], list[int]]:
    """Ids before expansion of a row's prompt and multi-turn trace, and the stage of each (into STAGE_NAMES).

    Each assistant's turn is tokenised on its own, since that is how a policy samples it: after the tokens of what stands
    before it, whatever its first characters would merge with. Raises TraceError, and ValueError for the prompt.
    """
    tokenizer, where = processor.tokenizer, f"row {row.get('id')!r}: field 'trace'"
    prompt, turns = row["prompt"], row["trace"]
    if turns[0]["role"] != "assistant" or turns[-1]["role"] != "assistant":
        raise TraceError(f"{where}: expected a multi-turn trace to begin and end with an assistant's turn")
    _check_prompt(processor, row)
    try:
        check_texts(tokenizer, [turn for turn in turns if turn["role"] != "assistant"])
    except ValueError as error:
        raise TraceError(f"{where}: {error}") from None
    ids, stages, written = [], [], ""
    for number, turn in enumerate(turns):
        if turn["role"] != "assistant":
            continue
        before = processor.apply_chat_template(
            [*prompt, *turns[:number]], add_generation_prompt=True, tokenize=False
        )
        if not before.startswith(written):
            raise TraceError(f"{where}: the chat template changes an assistant's turn once others follow it")
        between = tokenizer(before[len(written) :], add_special_tokens=False)["input_ids"]
        text = _text_of(turn, f"{where}[{number}]")
        own, labels = _tokens(tokenizer, text, where)
        ids += [*between, *own, tokenizer.eos_token_id]
        stages += [*[0] * len(between), *labels, END_ID]
        written = before + text + tokenizer.eos_token
    return ids, stages


def _text_of(turn: Mapping[str, Any], where: str) -> str:
    """Text of an assistant's turn, as the chat template writes it."""
    if isinstance(turn["content"], str):
        return turn["content"]
    if any(part["type"] != "text" for part in turn["content"]):
        raise TraceError(f"{where}: expected text alone in an assistant's turn, got an image or video")
    return "".join(part["text"] for part in turn["content"])


def _check_prompt(processor: Any, row: Row) -> None:
    try:
        check_texts(processor.tokenizer, row["prompt"])
    except ValueError as error:
        raise TraceError(f"row {row.get('id')!r}: field 'prompt': {error}") from None


# ------------------------------------------------------------------------------------------------------------- length


def row_length(processor: Any, row: Row, *, max_frames: int = 256) -> int:
    """Tokens of a row's training sequence; its media are decoded. Raises what `encode_example` raises."""
    if isinstance(row.get("trace"), list):
        ids, _ = turn_ids(processor, row)
    else:
        written, _ = target(processor.tokenizer, row)
        _check_prompt(processor, row)
        ids = [*prompt_ids(processor, row["prompt"]), *written]
    images, videos = load_media(row, max_frames=max_frames)
    return expanded_length(processor, ids, images, videos)


# --------------------------------------------------------------------------------------------------------------- media


def prompt_media(row: Row) -> PromptMedia:
    """Kind and identity (path, or a hash of its bytes) of each medium of a row's prompt, in reading order."""
    media = {"image": iter(row["images"]), "video": iter(row["videos"])}
    parts = [
        part
        for message in row["prompt"]
        if not isinstance(message["content"], str)
        for part in message["content"]
    ]
    kinds = [part["type"] for part in parts if part["type"] in media]
    return tuple((kind, _identity(next(media[kind], None))) for kind in kinds)


def _identity(medium: Any) -> Hashable:
    if isinstance(medium, bytes):
        return xxh3_128(medium).hexdigest()
    if isinstance(medium, Mapping):
        return tuple((name, _identity(medium[name])) for name in sorted(medium))
    return str(medium)


# -------------------------------------------------------------------------------------------------------------- cache


def example_bytes(example: Example) -> int:
    """Memory an example takes in the cache, about."""
    sequence = example.sequence
    pixels = [p for p in (sequence.pixel_values, sequence.pixel_values_videos) if p is not None]
    return 64 * len(example) + sum(p.nbytes for p in pixels) + 2000


def palette_of(processor: Any) -> Tensor:
    """(3, 256) float32: what the image processor makes of each 8-bit value of each channel."""
    family = family_of_processor(processor)
    side = family.factor
    levels = np.arange(side * side, dtype=np.uint8).reshape(side, side)  # wraps around: every value occurs
    image = Image.fromarray(np.stack([levels] * 3, axis=-1))
    pixels, _ = family.encode_images(processor, [image], resize=False)
    return torch.stack([channel.unique() for channel in pixels.view(len(pixels), 3, -1).unbind(1)])


def pack_pixels(example: Example, palette: Tensor) -> Example:
    """The example without decoded media and with 8-bit pixels wherever that loses nothing (a quarter of the memory)."""
    s = example.sequence
    packed = replace(
        s,
        images=(),
        videos=(),
        pixel_values=_pack(s.pixel_values, palette),
        pixel_values_videos=_pack(s.pixel_values_videos, palette),
    )
    return replace(example, sequence=packed)


def unpack_pixels(example: Example, palette: Tensor) -> Example:
    """Inverse of `pack_pixels`, exact."""
    s = example.sequence
    unpacked = replace(
        s,
        pixel_values=_unpack(s.pixel_values, palette),
        pixel_values_videos=_unpack(s.pixel_values_videos, palette),
    )
    return replace(example, sequence=unpacked)


def _pack(pixels: Tensor | None, palette: Tensor) -> Tensor | None:
    if pixels is None:
        return None
    by_channel = pixels.view(len(pixels), 3, -1)  # a patch is channel x time x height x width
    step = palette[:, 1] - palette[:, 0]
    levels = ((by_channel - palette[:, :1]) / step[:, None]).round().clamp(0, 255).to(torch.uint8)
    packed = levels.view(len(pixels), -1)
    restored = _unpack(packed, palette)
    return packed if restored is not None and torch.equal(restored, pixels) else pixels


def _unpack(pixels: Tensor | None, palette: Tensor) -> Tensor | None:
    if pixels is None or pixels.dtype != torch.uint8:
        return pixels
    levels = pixels.view(len(pixels), 3, -1).transpose(0, 1).reshape(3, -1).long()
    values = palette.gather(1, levels).view(3, len(pixels), -1)
    return values.transpose(0, 1).reshape(len(pixels), -1)
