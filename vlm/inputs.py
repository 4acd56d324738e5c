"""Messages, images and videos to token ids, pixel tensors and M-RoPE positions; used by SFT, RL and evaluation alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vlm.media import IMAGE, MEDIA_TOKENS, VIDEO, Video, load_media
from vlm.positions import mrope_positions


@dataclass(frozen=True)
class Encoded:
    """One unpadded sequence: the model's inputs, and what a rollout engine needs to build the same inputs.

    input_ids: (T,) int64, one placeholder per merged visual token.
    position_ids: (3, T) int64, temporal / height / width (`vlm.positions`).
    pixel_values, pixel_values_videos: (patches, channels x 2 x 14 x 14) float, or None.
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
    fields: dict[str, Any] = {}
    lengths: dict[int, list[int]] = {}
    merge = processor.image_processor.merge_size**2
    image_id, video_id = (processor.tokenizer.convert_tokens_to_ids(t) for t in (IMAGE, VIDEO))
    seconds: list[float] = []
    if videos and not hasattr(processor, "tokens_per_second"):
        raise ValueError(
            "the processor lacks the model's tokens_per_second: load it with vlm.load.load_processor"
        )
    if images:
        out = processor.image_processor(list(images), return_tensors="pt")
        fields |= {"pixel_values": out["pixel_values"], "image_grid_thw": out["image_grid_thw"]}
        lengths[image_id] = (out["image_grid_thw"].prod(-1) // merge).tolist()
    if videos:
        out = processor.video_processor(
            videos=[v.frames for v in videos],
            video_metadata=[_without_sampling(v) for v in videos],
            do_sample_frames=False,
            return_tensors="pt",
        )
        fields |= {"pixel_values_videos": out["pixel_values_videos"], "video_grid_thw": out["video_grid_thw"]}
        lengths[video_id] = (out["video_grid_thw"].prod(-1) // merge).tolist()
        # float32 as in vLLM: positions are truncated products of this value, so its rounding matters.
        seconds = [float(np.float32(processor.video_processor.temporal_patch_size / v.fps)) for v in videos]

    input_ids = _expand(engine_ids, lengths)
    positions = mrope_positions(
        input_ids,
        image_token_id=image_id,
        video_token_id=video_id,
        image_grids=fields["image_grid_thw"].tolist() if images else (),
        video_grids=fields["video_grid_thw"].tolist() if videos else (),
        seconds_per_grid=seconds,
        tokens_per_second=getattr(processor, "tokens_per_second", 0.0),
        merge_size=processor.image_processor.merge_size,
    )
    return Encoded(
        input_ids=torch.tensor(input_ids),
        position_ids=positions,
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
    patches = sum(
        processor.image_processor.get_number_of_image_patches(image.height, image.width, {})
        for image in images
    )
    patches += sum(
        processor.video_processor.get_num_of_video_patches(*video.frames.shape[:3], {}) for video in videos
    )
    return len(engine_ids) + patches // processor.image_processor.merge_size**2 - len(images) - len(videos)


def prompt_length(processor: Any, row: Mapping[str, Any], *, max_frames: int = 256) -> int:
    """Length in tokens of a row's prompt. Decodes its media, and raises the same errors as `encode_row`."""
    images, videos = load_media(row, max_frames=max_frames)
    try:
        return expanded_length(processor, prompt_ids(processor, row["prompt"]), images, videos)
    except ValueError as error:
        raise ValueError(f"row {row.get('id')!r}: {error}") from None


def extend(encoded: Encoded, token_ids: Sequence[int]) -> Encoded:
    """Append text tokens (a completion); their positions continue from the prompt's largest position."""
    positions = torch.arange(len(token_ids)) + encoded.next_position
    return replace(
        encoded,
        input_ids=torch.cat([encoded.input_ids, torch.tensor(token_ids, dtype=torch.long)]),
        position_ids=torch.cat([encoded.position_ids, positions.expand(3, -1)], dim=1),
        engine_ids=encoded.engine_ids + tuple(token_ids),
    )


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
    for field in ("pixel_values", "image_grid_thw", "pixel_values_videos", "video_grid_thw"):
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
    for kind, token, media in (("image", IMAGE, images), ("video", VIDEO, videos)):
        expected = list(engine_ids).count(processor.tokenizer.convert_tokens_to_ids(token))
        if expected != len(media):
            raise ValueError(
                f"the prompt has {expected} {kind} placeholder(s), the row has {len(media)} {kind}(s)"
            )


def _without_sampling(video: Video) -> dict[str, Any]:
    return {k: v for k, v in video.metadata().items() if k != "do_sample_frames"}


def _expand(ids: Sequence[int], lengths: Mapping[int, Sequence[int]]) -> list[int]:
    """Repeat each media placeholder once per merged visual token of its medium."""
    remaining = {token: iter(counts) for token, counts in lengths.items()}
    expanded: list[int] = []
    for token in ids:
        expanded += [token] * (next(remaining[token]) if token in remaining else 1)
    return expanded
