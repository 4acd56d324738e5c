"""What differs between families of vision-language models, as one value: `vlm.families` lists those there are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

from torch import Tensor

from core.media.videos import Video

Part = Literal["vision", "projector", "language"]
Grids = Sequence[Sequence[int]]
"""(t, h, w) of each image or video, in patches."""


@dataclass(frozen=True)
class Family:
    """A model family; docs/families.md says what adding one takes.

    name: for people. model_type: in config.json, by which the family is chosen.
    model, processor: names of transformers' classes. engine: vLLM's class for the same weights, `module:class`.
    image_token, video_token: the one placeholder that stands for a medium in a prompt before expansion.
    media_tokens: never sampled, as they would announce media that are not there.
    turn_tokens: that begin and end a turn of the chat.
    factor: sides of an image are multiples of it, in pixels; an area of factor x factor is one visual token.
    box_frame: coordinate frame in which the published models write boxes (rewards/geometry/frames.py).
    parts: beginnings of the names of a part's modules. The first that fits decides, in the order of the parts here.
    lora_targets: regular expression for the linear layers of a part that get adapters.
    stored_names: prefixes of tensors in checkpoint files, where they differ from the module's. engine_names: the same for
        vLLM's modules. Both: prefix there -> prefix in transformers.
    expand_video: (processor, video, visual tokens) -> the ids that the model sees in place of the video's placeholder.
    positions: (processor, input_ids, image grids, video grids, videos) -> position ids (3, T) int64.
    """

    name: str
    model_type: str
    model: str
    processor: str
    engine: str
    image_token: str
    video_token: str
    media_tokens: tuple[str, ...]
    turn_tokens: tuple[str, str]
    factor: int
    box_frame: str
    parts: Mapping[Part, tuple[str, ...]]
    lora_targets: Mapping[Part, str]
    stored_names: Mapping[str, str]
    engine_names: Mapping[str, str]
    expand_video: Callable[[Any, Video, int], list[int]]
    positions: Callable[[Any, Sequence[int], Grids, Grids, Sequence[Video]], Tensor]

    def model_class(self) -> Any:
        """transformers' model class."""
        return getattr(import_module("transformers"), self.model)

    def processor_class(self) -> Any:
        """transformers' processor class."""
        return getattr(import_module("transformers"), self.processor)

    def engine_class(self) -> Any:
        """vLLM's model class."""
        module, name = self.engine.split(":")
        return getattr(import_module(module), name)


def renamed(name: str, prefixes: Mapping[str, str]) -> str:
    """`name` with its prefix replaced by the one that `prefixes` gives for it; unchanged if there is none."""
    prefix = next((p for p in prefixes if name.startswith(p)), None)
    return name if prefix is None else prefixes[prefix] + name.removeprefix(prefix)
