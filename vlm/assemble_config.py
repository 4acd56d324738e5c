"""Config of an assembled model, limited to what the vision tower's family represents exactly.

Any other setting of the language model is an error that names the field: a model that loads but computes different
position encodings than its source would be wrong without any sign of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlm.checkpoint import CheckpointError
from vlm.families import FAMILIES
from vlm.families.family import Family
from vlm.vocabulary import Vocabulary

if TYPE_CHECKING:
    from transformers import PretrainedConfig


@dataclass(frozen=True)
class Tower:
    """A vision tower that can be assembled, and what it can be joined to.

    family: the tower's and the result's. config: transformers' class for the result. languages: model_type of a language
    model -> transformers' class for its config. has_head_dim: the result has a head_dim of its own. sections: shares of
    the rotary frequencies for time, height and width, in 1/64. interleaved: they alternate, instead of three stretches.
    video_processor: class. normalisation: of pixels, where the checkpoint has no processor. written_names: prefixes of
    weights in the result's files, for those that the sources use (`visual.…`, `model.…`).
    """

    family: Family
    config: str
    languages: Mapping[str, str]
    has_head_dim: bool
    sections: tuple[int, int, int]
    interleaved: bool
    video_processor: str
    normalisation: Mapping[str, list[float]]
    written_names: Mapping[str, str]


TOWERS = {
    tower.family.model_type: tower
    for tower in (
        Tower(
            family=FAMILIES["qwen2_5_vl"],
            config="Qwen2_5_VLConfig",
            # MiMo is Qwen2 with MTP layers; transformers has no class of its own for it
            languages={"qwen2": "Qwen2Config", "mimo": "Qwen2Config", "llama": "LlamaConfig"},
            has_head_dim=False,
            sections=(16, 24, 24),
            interleaved=False,
            video_processor="Qwen2VLVideoProcessor",
            normalisation={},
            written_names={},
        ),
        Tower(
            family=FAMILIES["qwen3_vl"],
            config="Qwen3VLConfig",
            languages={"qwen3": "Qwen3Config"},
            has_head_dim=True,
            sections=(24, 20, 20),
            interleaved=True,
            video_processor="Qwen3VLVideoProcessor",
            normalisation={"image_mean": [0.5] * 3, "image_std": [0.5] * 3},
            written_names={"visual.": "model.visual.", "model.": "model.language_model."},
        ),
    )
}
# RoPE types for which transformers computes the same with three position axes as with one. vLLM 0.31 supports only the
# default one with three axes: its YaRN uses four times the original length when it selects the frequencies to scale
# (log-probs are off by several nats), and the others crash it at the first prompt.
ROPE_TYPES = ("default", "yarn", "llama3", "linear")
ROPE_TYPES_VLLM = ("default",)


def read_language_config(
    folder: Path, config: dict[str, Any], *, tower: Tower, need_vllm: bool
) -> PretrainedConfig:
    """The language model's transformers config; CheckpointError if the tower's family cannot represent it exactly."""
    import transformers

    kind, result = str(config.get("model_type")), tower.family.name
    if kind not in tower.languages:
        raise CheckpointError(
            f"{folder}: expected a causal language model that a {result} tower can be joined to (model_type"
            f" {', '.join(tower.languages)}), got model_type {kind!r}, architectures {config.get('architectures')}"
        )
    if "quantization_config" in config:
        raise CheckpointError(
            f"{folder}: quantised weights are not supported; use the unquantised checkpoint"
        )
    fields = {k: v for k, v in config.items() if k not in ("model_type", "auto_map", "transformers_version")}
    language = getattr(transformers, tower.languages[kind]).from_dict(fields)

    def refuse(field: str, why: str) -> None:
        raise CheckpointError(f"{folder}: {field}: {why}")

    heads, hidden = language.num_attention_heads, language.hidden_size
    head_dim = config.get("head_dim") or hidden // heads
    if head_dim * heads != hidden and not tower.has_head_dim:
        refuse(
            "head_dim",
            f"{head_dim} x {heads} heads is not hidden_size {hidden}, and {result} has no head_dim of its own",
        )
    if language.hidden_act != "silu":
        refuse("hidden_act", f"expected 'silu', got {language.hidden_act!r}")
    if "sliding_attention" in (getattr(language, "layer_types", None) or ()):
        refuse(
            "use_sliding_window", "sliding-window layers are not supported (vLLM's Qwen2 rejects a mixture)"
        )
    for field in ("attention_bias", "mlp_bias"):
        if kind in ("llama", "qwen3") and config.get(field):
            refuse(field, f"{result} as vLLM computes it has no bias on o_proj or in the MLP")
    rope = language.rope_parameters
    rope_type = rope["rope_type"]
    if rope.get("partial_rotary_factor", 1.0) != 1.0:
        refuse("partial_rotary_factor", f"{result} rotates whole heads, got {rope['partial_rotary_factor']}")
    if rope_type not in ROPE_TYPES:
        refuse("rope_scaling", f"RoPE type {rope_type!r} is not supported; {', '.join(ROPE_TYPES)} are")
    if rope_type not in ROPE_TYPES_VLLM and need_vllm:
        refuse(
            "rope_scaling",
            f"vLLM computes RoPE type {rope_type!r} wrongly with three position axes, so rollouts would not come from the"
            " policy. transformers computes it exactly; --without-vllm (need_vllm=False) assembles a model for it alone",
        )
    return language


def read_vision_config(folder: Path, config: dict[str, Any]) -> tuple[Tower, PretrainedConfig]:
    """The tower in a checkpoint and its config; CheckpointError if it is of another family."""
    import transformers

    vision = config.get("vision_config")
    tower = TOWERS.get(str(config.get("model_type")))
    if tower is None or not isinstance(vision, dict):
        names = " or ".join(t.family.name for t in TOWERS.values())
        raise CheckpointError(
            f"{folder}: the vision source must be a {names} checkpoint (model_type {', '.join(TOWERS)}, with a"
            f" vision_config), whose ViT is taken; got model_type {config.get('model_type')!r},"
            f" architectures {config.get('architectures')}"
        )
    fields = {name: value for name, value in vision.items() if name != "model_type"}
    return tower, getattr(transformers, tower.config).sub_configs["vision_config"].from_dict(fields)


def mrope_section(tower: Tower, head_dim: int) -> list[int]:
    """Numbers of rotary frequencies for time, height and width, in the proportions of the family's for head_dim 128.

    Height and width get equal numbers, time the remainder. Text tokens have the same position on all three axes, so the
    split does not change a language model's outputs on text.
    """
    pairs = head_dim // 2
    if head_dim % 2 or pairs < 3:
        raise CheckpointError(f"head_dim {head_dim}: three position axes need an even head_dim of at least 6")
    space = pairs * tower.sections[1] // sum(tower.sections)
    return [pairs - 2 * space, space, space]


def build_config(
    tower: Tower, language: PretrainedConfig, vision: PretrainedConfig, vocabulary: Vocabulary
) -> PretrainedConfig:
    """Config of the assembled model; the projector's output width is the language model's hidden size."""
    import transformers

    text = {
        field: getattr(language, field)
        for field in (
            "hidden_size",
            "intermediate_size",
            "num_hidden_layers",
            "num_attention_heads",
            "num_key_value_heads",
            "hidden_act",
            "max_position_embeddings",
            "initializer_range",
            "rms_norm_eps",
            "attention_dropout",
            "tie_word_embeddings",
            "dtype",
        )
    }
    head_dim = getattr(language, "head_dim", None) or language.hidden_size // language.num_attention_heads
    text["rope_parameters"] = {**language.rope_parameters, "mrope_section": mrope_section(tower, head_dim)}
    if tower.interleaved:
        text["rope_parameters"]["mrope_interleaved"] = True
    if tower.has_head_dim:
        text["head_dim"] = head_dim
    else:
        text["use_sliding_window"] = False
    text["vocab_size"] = vocabulary.size
    text["bos_token_id"] = language.bos_token_id
    text["eos_token_id"] = vocabulary.id("<|im_end|>")
    return getattr(transformers, tower.config)(
        text_config=text,
        vision_config={**vision.to_dict(), "out_hidden_size": language.hidden_size},
        image_token_id=vocabulary.id("<|image_pad|>"),
        video_token_id=vocabulary.id("<|video_pad|>"),
        vision_start_token_id=vocabulary.id("<|vision_start|>"),
        vision_end_token_id=vocabulary.id("<|vision_end|>"),
        tie_word_embeddings=language.tie_word_embeddings,
        architectures=[tower.family.model],
        dtype=language.dtype,
    )
