"""Config of an assembled model, limited to what `Qwen2_5_VLForConditionalGeneration` represents exactly.

Any other setting of the language model is an error that names the field: a model that loads but computes different
position encodings than its source would be wrong without any sign of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlm.checkpoint import CheckpointError
from vlm.vocabulary import Vocabulary

if TYPE_CHECKING:
    from transformers import PretrainedConfig, Qwen2_5_VLConfig

# model_type -> transformers' config class. MiMo is Qwen2 with MTP layers; transformers has no class of its own for it.
FAMILIES = {"qwen2": "Qwen2Config", "mimo": "Qwen2Config", "llama": "LlamaConfig"}
# RoPE types for which transformers computes the same with three position axes as with one. vLLM 0.31 supports only the
# default one with three axes: its YaRN uses four times the original length when it selects the frequencies to scale
# (log-probs are off by several nats), and the others crash it at the first prompt.
ROPE_TYPES = ("default", "yarn", "llama3", "linear")
ROPE_TYPES_VLLM = ("default",)


def read_language_config(folder: Path, config: dict[str, Any], *, need_vllm: bool) -> PretrainedConfig:
    """The language model's transformers config; CheckpointError if Qwen2.5-VL cannot represent it exactly."""
    import transformers

    family = config.get("model_type")
    if family not in FAMILIES:
        raise CheckpointError(
            f"{folder}: expected a causal language model of the Qwen2 or Llama family (model_type"
            f" {', '.join(FAMILIES)}), got model_type {family!r}, architectures {config.get('architectures')}"
        )
    if "quantization_config" in config:
        raise CheckpointError(
            f"{folder}: quantised weights are not supported; use the unquantised checkpoint"
        )
    fields = {k: v for k, v in config.items() if k not in ("model_type", "auto_map", "transformers_version")}
    language = getattr(transformers, FAMILIES[family]).from_dict(fields)

    def refuse(field: str, why: str) -> None:
        raise CheckpointError(f"{folder}: {field}: {why}")

    heads, hidden = language.num_attention_heads, language.hidden_size
    head_dim = config.get("head_dim") or hidden // heads
    if head_dim * heads != hidden:
        refuse(
            "head_dim",
            f"{head_dim} x {heads} heads is not hidden_size {hidden}, and Qwen2.5-VL has no head_dim of its own",
        )
    if language.hidden_act != "silu":
        refuse("hidden_act", f"expected 'silu', got {language.hidden_act!r}")
    if "sliding_attention" in (getattr(language, "layer_types", None) or ()):
        refuse(
            "use_sliding_window", "sliding-window layers are not supported (vLLM's Qwen2 rejects a mixture)"
        )
    for field in ("attention_bias", "mlp_bias"):
        if family == "llama" and config.get(field):
            refuse(field, "Qwen2.5-VL has biases on q, k and v only, not on o_proj or the MLP")
    rope = language.rope_parameters
    kind = rope["rope_type"]
    if rope.get("partial_rotary_factor", 1.0) != 1.0:
        refuse(
            "partial_rotary_factor", f"Qwen2.5-VL rotates whole heads, got {rope['partial_rotary_factor']}"
        )
    if kind not in ROPE_TYPES:
        refuse("rope_scaling", f"RoPE type {kind!r} is not supported; {', '.join(ROPE_TYPES)} are")
    if kind not in ROPE_TYPES_VLLM and need_vllm:
        refuse(
            "rope_scaling",
            f"vLLM computes RoPE type {kind!r} wrongly with three position axes, so rollouts would not come from the"
            " policy. transformers computes it exactly; --without-vllm (need_vllm=False) assembles a model for it alone",
        )
    return language


def read_vision_config(folder: Path, config: dict[str, Any]) -> PretrainedConfig:
    """Config of the ViT in a Qwen2.5-VL checkpoint; CheckpointError if it is of another family."""
    from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLVisionConfig

    vision = config.get("vision_config")
    if config.get("model_type") != "qwen2_5_vl" or not isinstance(vision, dict):
        raise CheckpointError(
            f"{folder}: the vision source must be a Qwen2.5-VL checkpoint (model_type 'qwen2_5_vl' with a"
            f" vision_config), whose ViT is taken; got model_type {config.get('model_type')!r},"
            f" architectures {config.get('architectures')}"
        )
    return Qwen2_5_VLVisionConfig.from_dict(vision)


def mrope_section(head_dim: int) -> list[int]:
    """Numbers of rotary frequencies for time, height and width, in the proportions of Qwen's 16, 24, 24 (head_dim 128).

    Height and width get equal numbers, time the remainder. Text tokens have the same position on all three axes, so the
    split does not change a language model's outputs on text.
    """
    pairs = head_dim // 2
    if head_dim % 2 or pairs < 3:
        raise CheckpointError(f"head_dim {head_dim}: three position axes need an even head_dim of at least 6")
    space = pairs * 3 // 8
    return [pairs - 2 * space, space, space]


def build_config(
    language: PretrainedConfig, vision: PretrainedConfig, vocabulary: Vocabulary
) -> Qwen2_5_VLConfig:
    """Config of the assembled model; the projector's output width is the language model's hidden size."""
    from transformers import Qwen2_5_VLConfig

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
    section = mrope_section(language.hidden_size // language.num_attention_heads)
    text["rope_parameters"] = {**language.rope_parameters, "mrope_section": section}
    text["vocab_size"] = vocabulary.size
    text["bos_token_id"] = language.bos_token_id
    text["eos_token_id"] = vocabulary.id("<|im_end|>")
    text["use_sliding_window"] = False
    return Qwen2_5_VLConfig(
        text_config=text,
        vision_config={**vision.to_dict(), "out_hidden_size": language.hidden_size},
        image_token_id=vocabulary.id("<|image_pad|>"),
        video_token_id=vocabulary.id("<|video_pad|>"),
        vision_start_token_id=vocabulary.id("<|vision_start|>"),
        vision_end_token_id=vocabulary.id("<|vision_end|>"),
        tie_word_embeddings=language.tie_word_embeddings,
        architectures=["Qwen2_5_VLForConditionalGeneration"],
        dtype=language.dtype,
    )
