"""Whether a row's prompt fits the engine: checked for all rows before a run, and again when a row is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from core.rows import Row
from engines.config import EngineConfig
from engines.rollout import Request
from vlm.inputs import Encoded, encode_row, prompt_length
from vlm.preflight import Looked, look_at_rows


def look_at_prompts(rows: Sequence[Row], processor: Any, config: EngineConfig, max_frames: int) -> Looked:
    """Tokens of every row's prompt, and what is wrong with those that the engine could not answer."""
    measure = partial(prompt_length, processor, max_frames=max_frames)
    looked = look_at_rows(rows, measure, processor, what="prompts", max_frames=max_frames)
    unfit = {
        row["id"]: f"row {row['id']!r}: {problem}"
        for row, length in zip(rows, looked.lengths, strict=True)
        if (problem := misfit(length, len(row["images"]), len(row["videos"]), config))
    }
    return Looked(looked.lengths, looked.problems | unfit)


def encode_prompt(processor: Any, row: Row, config: EngineConfig, max_frames: int) -> Encoded:
    """The row's prompt, media decoded. ValueError names the row if it cannot be encoded, or does not fit the engine."""
    prompt = encode_row(processor, row, max_frames=max_frames)
    problem = misfit(len(prompt), len(prompt.images), len(prompt.videos), config)
    if problem:
        raise ValueError(f"row {row['id']!r}: {problem}")
    return prompt


def check_fit(requests: Sequence[Request], config: EngineConfig) -> None:
    """ValueError for a request that the engine cannot answer; it names the row."""
    for request in requests:
        prompt = request.prompt
        problem = misfit(len(prompt), len(prompt.images), len(prompt.videos), config)
        if problem:
            raise ValueError(f"row {request.row_id!r}: {problem}")


def misfit(tokens: int, images: int, videos: int, config: EngineConfig) -> str | None:
    """Why a prompt of this size cannot be given to the engine, or None."""
    if tokens >= config.max_model_len:
        return (
            f"the prompt has {tokens} tokens, which leaves no room for a completion within max_model_len ="
            f" {config.max_model_len}"
        )
    for kind, count, most in (
        ("images", images, config.images_per_prompt),
        ("videos", videos, config.videos_per_prompt),
    ):
        if count > most:
            return f"the prompt has {count} {kind}, expected at most engine.{kind}_per_prompt = {most}"
    return None
