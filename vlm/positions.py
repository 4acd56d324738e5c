"""M-RoPE positions, for training, evaluation and the check against the rollout engine.

transformers 5.17 and vLLM 0.31 disagree on videos: transformers truncates the seconds per temporal patch to an integer
(0.5 s becomes 0, so all frames get the same time) and continues text after max(height, width); vLLM, like the original
Qwen2.5-VL code, scales by the fractional value and continues after the largest position. Rollouts are sampled with
vLLM's positions, so training uses them too.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch


def mrope_positions(
    input_ids: Sequence[int],
    *,
    image_token_id: int,
    video_token_id: int,
    image_grids: Sequence[Sequence[int]] = (),
    video_grids: Sequence[Sequence[int]] = (),
    seconds_per_grid: Sequence[float] = (),
    tokens_per_second: float,
    merge_size: int = 2,
) -> torch.Tensor:
    """Temporal, height and width position of each token (Qwen2.5-VL, arXiv 2502.13923, §2.1.3; rounded as in vLLM).

    input_ids: T ids, with media placeholders expanded.
    image_grids, video_grids: (t, h, w) in patches, in reading order.
    seconds_per_grid: seconds between two temporal patches, one per video.
    tokens_per_second: temporal positions per second (2 in Qwen2.5-VL).

    Returns (3, T) int64. Raises ValueError if a placeholder run and its grid differ in length.
    """
    ids = np.asarray(input_ids)
    images, videos, seconds = iter(image_grids), iter(video_grids), iter(seconds_per_grid)
    parts: list[np.ndarray] = []
    start, position = 0, 0

    while start < len(ids):
        token = ids[start]
        if token not in (image_token_id, video_token_id):
            media = np.flatnonzero(np.isin(ids[start:], (image_token_id, video_token_id)))
            length = int(media[0]) if len(media) else len(ids) - start
            parts.append(np.broadcast_to(np.arange(length), (3, length)) + position)
        else:
            is_video = token == video_token_id
            grid = next(videos if is_video else images, None)
            if grid is None:
                raise ValueError("the prompt has more media placeholders than media")
            t, h, w = (int(n) for n in grid)
            indices = np.indices((t, h // merge_size, w // merge_size))
            if is_video:
                indices[0] = (indices[0] * (next(seconds) * tokens_per_second)).astype(np.int64)
            length = indices[0].size
            if not (ids[start : start + length] == token).all() or start + length > len(ids):
                raise ValueError(
                    f"a medium of grid {(t, h, w)} needs {length} placeholders in a row at token {start}"
                )
            parts.append(indices.reshape(3, -1) + position)
        position = int(parts[-1].max()) + 1
        start += length

    if next(images, None) is not None or next(videos, None) is not None:
        raise ValueError("the prompt has fewer media placeholders than media")
    return torch.from_numpy(np.concatenate(parts, axis=1).astype(np.int64))
