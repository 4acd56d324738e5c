"""Where a policy looked: the attention of the tokens that it wrote to the visual tokens of an image, computed on demand.

One forward pass of the trainer's model over an episode as it was sampled, its own tokens and images, gives the maps of all its
turns. Kernels do not return their attention matrix; beside each layer's own kernel the rows of the tokens asked for are
computed, (heads, tokens asked for, T) at a time, never (T, T).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from core.files.jsonl import append
from engines.rollout import Rollout
from engines.samples import Sample
from evaluation.episodes import box_tokens
from vlm.families import family_of_processor, model_inputs
from vlm.inputs import Encoded, collate, extend
from vlm.load import LoadingConfig, load_model, load_processor

NAME = "recorded"
_IMAGE = re.compile(r"(original_image|observation)(?:_(\d+))?$")


@dataclass(frozen=True)
class Look:
    """Where a turn looked. image: the number of the image in its episode, from 0, and name: as calls name it.

    share: of the attention of the turn's tokens that falls on the image, 0 to 1; grid: the same by visual token, rows from top
    to bottom.
    """

    image: int
    name: str
    share: float
    grid: tuple[tuple[float, ...], ...]

    def as_json(self) -> dict[str, Any]:
        grid = [[float(f"{value:.3g}") for value in row] for row in self.grid]
        return {"image": self.name, "share": round(self.share, 5), "grid": grid}


@dataclass
class _Recording:
    """queries: positions whose rows are wanted. layers: of each layer (queries, T), the mean over its heads."""

    queries: Tensor
    layers: list[Tensor] = field(default_factory=list)


@torch.no_grad()
def attention_rows(model: PreTrainedModel, sequence: Encoded, queries: Sequence[int]) -> Tensor:
    """(len(queries), T) float32: how much the positions `queries` attend to each position, the mean over heads and layers of full
    attention; each row sums to 1."""
    device = next(model.parameters()).device
    inputs = {name: tensor.to(device) for name, tensor in collate([sequence], pad_id=0).items()}
    recording = _Recording(torch.tensor(list(queries), device=device))
    was_training = model.training
    model.eval()
    try:
        with _recorded(model.get_decoder(), recording):
            model(**model_inputs(model, inputs), use_cache=False, logits_to_keep=1)
    finally:
        model.train(was_training)
    if not recording.layers:
        raise ValueError("expected a model with full attention in some layer, got none")
    return torch.stack(recording.layers).mean(0)


def looks(model: PreTrainedModel, processor: Any, rollout: Rollout) -> list[Look | None]:
    """For each turn of an episode where it looked; None if it has no image to look at, or no token.

    The image is the one that the turn's call names, without a call the last one shown. The tokens are those that write the
    box of the call, else all of the turn; a token's attention is that of the position that predicts it.
    """
    sequence = rollout.sequence or extend(rollout.prompt, rollout.completion_ids)
    before = len(rollout.prompt)
    spans = box_tokens(processor.tokenizer, rollout)
    wanted: list[range] = []
    for turn, span in zip(rollout.turns, spans, strict=True):
        first, last = (turn.start, turn.end) if span is None else span
        wanted.append(range(before + first - 1, before + last - 1))
    queries = [position for some in wanted for position in some]
    if not queries or not sequence.images:
        return [None] * len(rollout.turns)
    rows = attention_rows(model, sequence, queries).split([len(some) for some in wanted])
    return [
        None
        if not len(some) or (image := _image_of(rollout, k)) is None
        else _look(processor, rollout, sequence, image, some.mean(0))
        for k, some in enumerate(rows)
    ]


def write_maps(
    file: Path, checkpoint: str, folder: Path, loading: LoadingConfig, samples: Sequence[Sample]
) -> None:
    """Add a line for each episode to a file: {"checkpoint", "row_id", "turns": [`Look.as_json` or null, …]}. folder: of the weights,
    which are loaded for it, onto a GPU if there is one."""
    model = load_model(folder, dtype=loading.dtype).to("cuda" if torch.cuda.is_available() else "cpu")
    processor = load_processor(folder, **loading.limits)
    for sample in samples:
        found = [None if look is None else look.as_json() for look in looks(model, processor, sample.rollout)]
        append(file, [{"checkpoint": checkpoint, "row_id": sample.rollout.row_id, "turns": found}])


def _look(processor: Any, rollout: Rollout, sequence: Encoded, image: int, row: Tensor) -> Look:
    values = row.cpu()[visual_tokens(processor, sequence)[image]]
    shown = len(rollout.prompt.images)
    name = f"observation_{image - shown + 1}"
    if image < shown:
        name = "original_image" if shown == 1 else f"original_image_{image + 1}"
    whole = values[-1]  # of several tiles the last is the whole image, reduced
    return Look(image, name, float(values.sum()), tuple(tuple(line) for line in whole.tolist()))


def visual_tokens(processor: Any, sequence: Encoded) -> list[Tensor]:
    """For each image the positions of its visual tokens in the sequence, (tiles, rows, columns); one tile in Qwen's families."""
    family = family_of_processor(processor)
    token = processor.tokenizer.convert_tokens_to_ids(family.image_token)
    places = (sequence.input_ids == token).nonzero()[:, 0]
    grids = [] if sequence.image_grid_thw is None else sequence.image_grid_thw.tolist()
    sizes = [(t, h // family.merge_size, w // family.merge_size) for t, h, w in grids]
    counts = [tiles * rows * columns for tiles, rows, columns in sizes]
    if sum(counts) != len(places):
        raise ValueError(f"expected {sum(counts)} visual tokens of {len(sizes)} images, got {len(places)}")
    return [part.view(size) for part, size in zip(places.split(counts), sizes, strict=True)]


def _image_of(rollout: Rollout, turn: int) -> int | None:
    """The number of the image that a turn looked at."""
    prompt = len(rollout.prompt.images)
    earlier = [part for one in rollout.turns[:turn] for part in one.observation if not isinstance(part, str)]
    there = prompt + len(earlier)
    for value in rollout.turns[turn].details.values():
        named = _IMAGE.match(value) if isinstance(value, str) else None
        if named:
            number = int(named[2] or 1) - 1
            found = number if named[1] == "original_image" else prompt + number
            return found if found < there else None
    return there - 1 if there else None


# ------------------------------------------------------------------------------------------------------------- recording

_active: ContextVar[_Recording | None] = ContextVar("recording of attention", default=None)


@contextmanager
def _recorded(decoder: nn.Module, recording: _Recording) -> Iterator[None]:
    config: Any = decoder.config
    before, config._attn_implementation = config._attn_implementation, NAME
    token = _active.set(recording)
    try:
        yield
    finally:
        _active.reset(token)
        config._attn_implementation = before


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """transformers' SDPA, with the rows of the active recording beside it. query (1, heads, T, head_dim), key (1, key heads, T, …)."""
    recording = _active.get()
    if recording is not None:
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        keys = repeat_kv(key, query.shape[1] // key.shape[1])[0].float()
        scores = query[0, :, recording.queries].float() @ keys.transpose(1, 2) * scale
        later = torch.arange(keys.shape[1], device=keys.device) > recording.queries[:, None]
        recording.layers.append(scores.masked_fill(later, float("-inf")).softmax(-1).mean(0))
    return sdpa_attention_forward(
        module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
    )


AttentionInterface.register(NAME, _attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
