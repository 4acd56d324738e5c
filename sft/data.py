"""Rows with traces → sequences with labels → batches: the loss falls on the trace's tokens and the end token only."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from core.errors import UserError
from core.rows import Row
from rewards.stages import STAGES, render, stage_spans
from vlm.inputs import (
    Encoded,
    check_texts,
    collate,
    encode,
    encode_ids,
    encode_row,
    expanded_length,
    extend,
    prompt_ids,
    special_tokens,
)
from vlm.media import IMAGE, VIDEO, Video, load_media

IGNORE = -100
"""Label of tokens without a loss."""
STAGE_NAMES: tuple[str, ...] = ("none", *(s.lower() for s in STAGES), "turns", "end")
"""Names of `stage_ids`: 0 is no target; `turns` is text of a multi-turn trace outside the grammar; `end` the end token."""
END_ID, TURNS_ID = STAGE_NAMES.index("end"), STAGE_NAMES.index("turns")


class TraceError(UserError, ValueError):
    """A row that cannot be trained on; the message names the row and what is wrong with its trace."""


@dataclass(frozen=True)
class Example:
    """One training sequence. labels: (T,) int64, the token's own id where it is a target, else IGNORE.
    stage_ids: (T,) int64 into STAGE_NAMES, 0 where there is no target."""

    sequence: Encoded
    labels: Tensor
    stage_ids: Tensor

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
    return Example(
        sequence=extend(prompt, ids),
        labels=torch.tensor([IGNORE] * nothing + ids),
        stage_ids=torch.tensor([0] * nothing + stages),
    )


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
    stage_ids = torch.tensor(_expand_like(sequence.input_ids.tolist(), engine_ids, stages, processor))
    return Example(sequence, torch.where(stage_ids > 0, sequence.input_ids, IGNORE), stage_ids)


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


def _expand_like(input_ids: list[int], engine_ids: list[int], values: list[int], processor: Any) -> list[int]:
    """`values` of unexpanded ids repeated as the ids are in `input_ids` (media are runs of one placeholder)."""
    media = {processor.tokenizer.convert_tokens_to_ids(t) for t in (IMAGE, VIDEO)}
    expanded: list[int] = []
    for token, value in zip(engine_ids, values, strict=True):
        expanded.append(value)
        while token in media and input_ids[len(expanded)] == token:
            expanded.append(value)
    return expanded


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


# -------------------------------------------------------------------------------------------------------------- batch


BLANK = -1
"""Index of a row without labels, which only makes the shares of all processes equal."""


class Collator:
    """Indices of rows → a batch: encoded lazily, padded, with labels and stage ids; media kinds alike in all batches.

    A batch without images (videos), in a data set that has some, gets one extra row without labels that holds a
    smallest image (clip): the vision tower then runs equally often on every rank, without which ZeRO-3's gathers
    deadlock and DDP waits for gradients, and its parameters get a zero gradient as they would inside a larger batch.

    A row that turns out to be unusable (its file has changed since the start) is left out and named, and its index stands
    in the batch's `left_out`, (k,) int64, which the trainer takes out, counts and reports.

    The index BLANK is a short row without labels.
    trains_vision: the vision tower has trained parameters, so every batch needs an image even where no row has media.
    cache: keep encoded rows in memory (per process, and per worker).
    """

    def __init__(
        self,
        processor: Any,
        rows: Sequence[Row],
        *,
        max_frames: int = 256,
        cache: bool = False,
        trains_vision: bool = False,
    ) -> None:
        check_end_token(processor)
        self.processor = processor
        self.rows = rows
        self.max_frames = max_frames
        self.pad_id = processor.tokenizer.pad_token_id
        if self.pad_id is None:
            self.pad_id = processor.tokenizer.eos_token_id
        self.fillers = _fillers(processor, rows, trains_vision)
        self.blank = _without_labels(encode(processor, [{"role": "user", "content": "-"}]))
        self.palette = _palette(processor)
        self.cache: dict[int, Example] | None = {} if cache else None

    def __call__(self, features: Sequence[Mapping[str, int]]) -> dict[str, Tensor]:
        examples: list[Example] = []
        left_out: list[int] = []
        for feature in features:
            try:
                examples.append(self.example(feature["row"]))
            except ValueError as error:
                left_out.append(feature["row"])
                tqdm.write(f"left out: {error}", file=sys.stderr)  # by the process that encodes
        batch = self.batch(examples or [self.blank])
        return batch | ({"left_out": torch.tensor(left_out)} if left_out else {})

    def example(self, index: int) -> Example:
        """Row `index` encoded, from the cache where that is on."""
        if index == BLANK:
            return self.blank
        if self.cache is None:
            return encode_example(self.processor, self.rows[index], max_frames=self.max_frames)
        if index not in self.cache:
            example = encode_example(self.processor, self.rows[index], max_frames=self.max_frames)
            self.cache[index] = pack_pixels(example, self.palette)
        return unpack_pixels(self.cache[index], self.palette)

    def batch(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        """Model arguments of `vlm.inputs.collate` with labels and stage_ids (B, T)."""
        examples = list(examples)
        for field, filler in self.fillers.items():
            if all(getattr(e.sequence, field) is None for e in examples):
                examples.append(filler)
        batch = collate([e.sequence for e in examples], self.pad_id)
        shape = batch["input_ids"].shape
        batch["labels"] = torch.full(shape, IGNORE)
        batch["stage_ids"] = torch.zeros(shape, dtype=torch.long)
        for i, example in enumerate(examples):
            batch["labels"][i, : len(example)] = example.labels
            batch["stage_ids"][i, : len(example)] = example.stage_ids
        return batch


def _fillers(processor: Any, rows: Sequence[Row], trains_vision: bool) -> dict[str, Example]:
    """For each kind of media in the rows: its pixel field, and a row without labels that holds a smallest one."""
    fillers = {}
    videos = any(row["videos"] for row in rows)
    if any(row["images"] for row in rows) or (trains_vision and not videos):
        prompt = [{"role": "user", "content": [{"type": "image"}]}]
        fillers["pixel_values"] = encode(processor, prompt, [Image.new("RGB", (28, 28))])
    if videos:
        prompt = [{"role": "user", "content": [{"type": "video"}]}]
        clip = Video(frames=np.zeros((2, 28, 28, 3), np.uint8), fps=2.0)
        fillers["pixel_values_videos"] = encode(processor, prompt, [], [clip])
    return {field: _without_labels(sequence) for field, sequence in fillers.items()}


def _without_labels(sequence: Encoded) -> Example:
    return Example(
        sequence, torch.full_like(sequence.input_ids, IGNORE), torch.zeros_like(sequence.input_ids)
    )


# -------------------------------------------------------------------------------------------------------------- cache


def example_bytes(example: Example) -> int:
    """Memory an example takes in the cache, about."""
    sequence = example.sequence
    pixels = [p for p in (sequence.pixel_values, sequence.pixel_values_videos) if p is not None]
    return 64 * len(example) + sum(p.nbytes for p in pixels) + 2000


def _palette(processor: Any) -> Tensor:
    """(3, 256) float32: what the image processor makes of each 8-bit value of each channel."""
    levels = np.arange(28 * 28, dtype=np.uint8).reshape(28, 28)  # wraps around: every value occurs
    image = Image.fromarray(np.stack([levels] * 3, axis=-1))
    pixels = processor.image_processor([image], do_resize=False, return_tensors="pt")["pixel_values"]
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
