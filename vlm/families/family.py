"""What differs between families of vision-language models, as one value: `vlm.families` lists those there are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

from PIL import Image
from torch import Tensor

from core.media.videos import Video
from vlm.families import patches

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
    expand_image: (processor, visual tokens) -> the same for an image; None: its placeholder once per visual token.
    positions: (processor, input_ids, image grids, video grids, videos) -> position ids (3, T) int64.
    encode_images, encode_videos: media to flat patches and grids; image_patches, video_patches: how many, without them.
    merge_size: patches along each side of a visual token.
    language_config: transformers' config class under which the language model is a text model of its own, with the same
        outputs on text; None: there is none that is known to be.
    model_inputs: (model's config, our inputs) -> what its forward takes.
    smallest: (model's config, kind) -> ids, patches and grid of the smallest medium, for `DummyMedia`.
    set_pixel_limits, pixel_limits: of the processor. engine_settings: the same as vLLM's `mm_processor_kwargs`.
    Those from `encode_images` on are the Qwen models' by default (`vlm.families.patches`), but for the last.
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
    expand_image: Callable[[Any, int], list[int]] | None = None
    encode_images: Callable[..., tuple[Tensor, Tensor]] = patches.encode_images
    encode_videos: Callable[[Any, Sequence[Video]], tuple[Tensor, Tensor]] = patches.encode_videos
    image_patches: Callable[[Any, Image.Image], int] = patches.image_patches
    video_patches: Callable[[Any, Video], int] = patches.video_patches
    merge_size: int = 2
    language_config: str | None = None
    model_inputs: Callable[[Any, Mapping[str, Tensor]], dict[str, Tensor]] = patches.model_inputs
    smallest: Callable[[Any, str], tuple[list[int], Tensor, patches.Grid]] = patches.smallest
    set_pixel_limits: Callable[[Any, Mapping[str, int | None], str], None] = patches.set_pixel_limits
    pixel_limits: Callable[[Any], dict[str, int]] = patches.pixel_limits
    engine_settings: Callable[[Any], dict[str, Any]] = patches.engine_settings

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
