"""Messages, images and videos to token ids, pixel tensors and positions; used by SFT, RL and evaluation alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from vlm.families import family_of_processor
from vlm.media import MEDIA_TOKENS, Video, load_media

MEDIA_FIELDS = ("pixel_values", "image_grid_thw", "pixel_values_videos", "video_grid_thw")
"""Of `Encoded`: tensors whose first dimension runs over patches or media, None where there are none."""


@dataclass(frozen=True)
class Encoded:
    """One unpadded sequence: the model's inputs, and what a rollout engine needs to build the same inputs.

    input_ids: (T,) int64, one placeholder per merged visual token.
    position_ids: (3, T) int64, temporal / height / width, by the family's rule.
    pixel_values, pixel_values_videos: (patches, channels x 2 frames x patch height x patch width) float, or None.
    image_grid_thw, video_grid_thw: (media, 3) int64 in patches, or None.
    engine_ids: the ids before expansion, one placeholder per medium (the engine expands them itself).
    images, videos: the decoded media, in reading order.
    """

    input_ids: Tensor
    position_ids: Tensor
    engine_ids: tuple[int, ...]
    pixel_values: Tensor | None = None
    image_grid_thw: Tensor | None = None
    pixel_values_videos: Tensor | None = None
    video_grid_thw: Tensor | None = None
    images: tuple[Image.Image, ...] = ()
    videos: tuple[Video, ...] = ()

    @property
    def next_position(self) -> int:
        """Position, on all three axes, of the next text token."""
        return int(self.position_ids.max()) + 1

    def __len__(self) -> int:
        return len(self.input_ids)


def encode(
    processor: Any,
    messages: Sequence[Mapping[str, Any]],
    images: Sequence[Image.Image] = (),
    videos: Sequence[Video] = (),
    *,
    add_generation_prompt: bool = True,
) -> Encoded:
    """Encode chat messages with media placeholders, and the media that fill them in order, as one sequence.

    Raises:
        ValueError: the number of placeholders differs from the number of media, or a text contains a special token.
    """
    ids = prompt_ids(processor, messages, add_generation_prompt=add_generation_prompt)
    return encode_ids(processor, ids, images, videos)


def prompt_ids(
    processor: Any, messages: Sequence[Mapping[str, Any]], *, add_generation_prompt: bool = True
) -> list[int]:
    """Token ids of chat messages before expansion: one placeholder per medium.

    Raises ValueError if a text contains a special token, which would be read as a medium or as the end of a turn.
    """
    plain = [_plain(m) for m in messages]
    check_texts(processor.tokenizer, plain)
    text = processor.apply_chat_template(plain, add_generation_prompt=add_generation_prompt, tokenize=False)
    return processor.tokenizer(text, add_special_tokens=False)["input_ids"]


def check_texts(tokenizer: Any, messages: Sequence[Mapping[str, Any]]) -> None:
    """Raise ValueError if any text of the messages contains a special token of the tokenizer."""
    for message in messages:
        parts = message["content"]
        texts = [parts] if isinstance(parts, str) else [p["text"] for p in parts if p["type"] == "text"]
        found = next((t for t in special_tokens(tokenizer) for text in texts if t in text), None)
        if found:
            raise ValueError(
                f"expected plain text in the {message['role']}'s message, got the special token {found}, which would be"
                " read as a medium or as the end of the turn"
            )


@lru_cache(maxsize=8)
def special_tokens(tokenizer: Any) -> tuple[str, ...]:
    """Texts that the tokenizer always converts to control tokens."""
    added = (token.content for token in tokenizer.added_tokens_decoder.values() if token.special)
    return tuple(dict.fromkeys([*MEDIA_TOKENS, *tokenizer.all_special_tokens, *added]))


def encode_ids(
    processor: Any,
    engine_ids: Sequence[int],
    images: Sequence[Image.Image] = (),
    videos: Sequence[Video] = (),
) -> Encoded:
    """Build one sequence from ids before expansion and the media that fill their placeholders in order.

    Raises ValueError if the number of placeholders differs from the number of media.
    """
    _check_placeholders(processor, engine_ids, images, videos)
    family = family_of_processor(processor)
    fields: dict[str, Tensor] = {}
    grids: dict[str, list[list[int]]] = {"image": [], "video": []}
    if images:
        fields["pixel_values"], fields["image_grid_thw"] = family.encode_images(processor, images)
        grids["image"] = fields["image_grid_thw"].tolist()
    if videos:
        fields["pixel_values_videos"], fields["video_grid_thw"] = family.encode_videos(processor, videos)
        grids["video"] = fields["video_grid_thw"].tolist()

    tokens = {kind: _visual_tokens(processor, of_kind) for kind, of_kind in grids.items()}
    expanded = _expand(processor, engine_ids, tokens["image"], tokens["video"], videos)
    input_ids = [token for ids in expanded for token in ids]
    return Encoded(
        input_ids=torch.tensor(input_ids),
        position_ids=family.positions(processor, input_ids, grids["image"], grids["video"], videos),
        engine_ids=tuple(engine_ids),
        images=tuple(images),
        videos=tuple(videos),
        **fields,
    )


def encode_row(processor: Any, row: Mapping[str, Any], *, max_frames: int = 256) -> Encoded:
    """Encode a row's prompt for generation, loading its media."""
    images, videos = load_media(row, max_frames=max_frames)
    try:
        return encode(processor, row["prompt"], images, videos)
    except ValueError as error:
        raise ValueError(f"row {row.get('id')!r}: {error}") from None


def expanded_length(
    processor: Any, engine_ids: Sequence[int], images: Sequence[Image.Image], videos: Sequence[Video]
) -> int:
    """Length in tokens of the sequence `encode_ids` would return, without computing pixels. Raises the same errors."""
    _check_placeholders(processor, engine_ids, images, videos)
    family = family_of_processor(processor)
    merged = family.merge_size**2
    image_tokens = [family.image_patches(processor, image) // merged for image in images]
    video_tokens = [family.video_patches(processor, video) // merged for video in videos]
    return sum(map(len, _expand(processor, engine_ids, image_tokens, video_tokens, videos)))


def prompt_length(processor: Any, row: Mapping[str, Any], *, max_frames: int = 256) -> int:
    """Length in tokens of a row's prompt. Decodes its media, and raises the same errors as `encode_row`."""
    images, videos = load_media(row, max_frames=max_frames)
    try:
        return expanded_length(processor, prompt_ids(processor, row["prompt"]), images, videos)
    except ValueError as error:
        raise ValueError(f"row {row.get('id')!r}: {error}") from None


def spread(processor: Any, encoded: Encoded, values: Sequence[int]) -> list[int]:
    """(T,) `values` of the ids before expansion, each repeated for all that its id has become in `input_ids`."""
    image_tokens, video_tokens = (
        _visual_tokens(processor, [] if grids is None else grids.tolist())
        for grids in (encoded.image_grid_thw, encoded.video_grid_thw)
    )
    expanded = _expand(processor, encoded.engine_ids, image_tokens, video_tokens, encoded.videos)
    return [value for ids, value in zip(expanded, values, strict=True) for _ in ids]


def extend(encoded: Encoded, token_ids: Sequence[int]) -> Encoded:
    """Append text tokens (a completion); their positions continue from the prompt's largest position."""
    positions = torch.arange(len(token_ids)) + encoded.next_position
    return replace(
        encoded,
        input_ids=torch.cat([encoded.input_ids, torch.tensor(token_ids, dtype=torch.long)]),
        position_ids=torch.cat([encoded.position_ids, positions.expand(3, -1)], dim=1),
        engine_ids=encoded.engine_ids + tuple(token_ids),
    )


def joined(first: Encoded, second: Encoded) -> Encoded:
    """`second` behind `first` as one sequence; its positions, which count from 0, go on from the first's largest."""
    fields: dict[str, Any] = {}
    for name in MEDIA_FIELDS:
        parts = [t for t in (getattr(first, name), getattr(second, name)) if t is not None]
        fields[name] = torch.cat(parts) if parts else None
    return Encoded(
        input_ids=torch.cat([first.input_ids, second.input_ids]),
        position_ids=torch.cat([first.position_ids, second.position_ids + first.next_position], dim=1),
        engine_ids=first.engine_ids + second.engine_ids,
        images=first.images + second.images,
        videos=first.videos + second.videos,
        **fields,
    )


def behind(sequence: Encoded, prefix: Encoded, start: int) -> Encoded:
    """What `sequence` has from token `start` on, where all media of `prefix`, with which it begins, lie before; positions stay.
    For the model, not for an engine: engine_ids, images and videos are left out."""
    fields: dict[str, Any] = {}
    for name in MEDIA_FIELDS:
        whole, before = getattr(sequence, name), getattr(prefix, name)
        rest = whole if whole is None or before is None else whole[len(before) :]
        fields[name] = rest if rest is not None and len(rest) else None
    return Encoded(sequence.input_ids[start:], sequence.position_ids[:, start:], engine_ids=(), **fields)


def reply_ids(processor: Any, message: Mapping[str, Any]) -> list[int]:
    """Token ids before expansion that come between the text of an assistant's turn and that of its next: the end of the
    turn, a message in reply, the beginning of the next turn. Raises ValueError as `prompt_ids` does."""
    plain = _plain(message)
    check_texts(processor.tokenizer, [plain])
    mark = "this-is-the-turn"
    before = [{"role": "user", "content": "?"}, {"role": "assistant", "content": mark}]
    text = processor.apply_chat_template([*before, plain], add_generation_prompt=True, tokenize=False)
    return processor.tokenizer(text.partition(mark)[2], add_special_tokens=False)["input_ids"]


def collate(sequences: Sequence[Encoded], pad_id: int) -> dict[str, Tensor]:
    """Right-padded keyword arguments for the model; text-only, multi-image and video rows may be mixed.

    Returns input_ids (B, T), attention_mask (B, T), position_ids (3, B, T), and, if any row has them, pixel_values,
    image_grid_thw, pixel_values_videos, video_grid_thw, concatenated over the batch.
    """
    longest = max(len(s) for s in sequences)
    batch = {
        "input_ids": torch.full((len(sequences), longest), pad_id),
        "attention_mask": torch.zeros(len(sequences), longest, dtype=torch.long),
        "position_ids": torch.zeros(3, len(sequences), longest, dtype=torch.long),
    }
    for i, sequence in enumerate(sequences):
        batch["input_ids"][i, : len(sequence)] = sequence.input_ids
        batch["attention_mask"][i, : len(sequence)] = 1
        batch["position_ids"][:, i, : len(sequence)] = sequence.position_ids
    return batch | collate_media(sequences)


def collate_media(sequences: Sequence[Encoded]) -> dict[str, Tensor]:
    """Pixel tensors and grids of all sequences, concatenated in order; fields that no sequence has are omitted."""
    batch = {}
    for field in MEDIA_FIELDS:
        tensors = [getattr(s, field) for s in sequences if getattr(s, field) is not None]
        if tensors:
            batch[field] = torch.cat(tensors)
    return batch


def _plain(message: Mapping[str, Any]) -> dict[str, Any]:
    """The message without the empty fields that columnar files add to content parts (`{"type": "text", "image": None}`)."""
    content = message["content"]
    if not isinstance(content, str):
        content = [
            {"type": "text", "text": part["text"]} if part["type"] == "text" else {"type": part["type"]}
            for part in content
        ]
    return {"role": message["role"], "content": content}


def _check_placeholders(
    processor: Any, engine_ids: Sequence[int], images: Sequence, videos: Sequence
) -> None:
    family = family_of_processor(processor)
    for kind, token, media in (("image", family.image_token, images), ("video", family.video_token, videos)):
        expected = list(engine_ids).count(processor.tokenizer.convert_tokens_to_ids(token))
        if expected != len(media):
            raise ValueError(
                f"the prompt has {expected} {kind} placeholder(s), the row has {len(media)} {kind}(s)"
            )


def _visual_tokens(processor: Any, grids: Sequence[Sequence[int]]) -> list[int]:
    """Visual tokens of each medium, from its grid in patches."""
    return [t * h * w // family_of_processor(processor).merge_size ** 2 for t, h, w in grids]


def _expand(
    processor: Any,
    engine_ids: Sequence[int],
    image_tokens: Sequence[int],
    video_tokens: Sequence[int],
    videos: Sequence[Video],
) -> list[list[int]]:
    """What the model sees in place of each id before expansion. image_tokens, video_tokens: visual tokens of each medium."""
    family = family_of_processor(processor)
    image, video = processor.tokenizer.convert_tokens_to_ids([family.image_token, family.video_token])
    clips = zip(videos, video_tokens, strict=True)
    replacements = {
        image: iter(
            [family.expand_image(processor, n) if family.expand_image else [image] * n for n in image_tokens]
        ),
        video: iter([family.expand_video(processor, clip, n) for clip, n in clips]),
    }
    return [next(replacements[token]) if token in replacements else [token] for token in engine_ids]
