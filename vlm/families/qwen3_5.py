"""Qwen3.5, dense: Qwen3-VL's inputs without DeepStack, and linear attention (Gated DeltaNet) in three layers of four.

vLLM's CPU build has kernels for linear attention in bfloat16 only; in float32 the transformers engine is what runs there.
"""

from __future__ import annotations

from dataclasses import replace

from vlm.families import qwen3_vl

FAMILY = replace(
    qwen3_vl.FAMILY,
    name="Qwen3.5",
    model_type="qwen3_5",
    language_config=None,
    model="Qwen3_5ForConditionalGeneration",
    engine="vllm.model_executor.models.qwen3_5:Qwen3_5ForConditionalGeneration",
    parts={**qwen3_vl.FAMILY.parts, "projector": ("visual.merger.",)},
    lora_targets={
        "language": r".*language_model\.layers\.\d+\.(self_attn\.(q|k|v|o)_proj|mlp\.(gate|up|down)_proj"
        r"|linear_attn\.(in_proj_(qkv|z|a|b)|out_proj))",
        "vision": qwen3_vl.FAMILY.lora_targets["vision"],
    },
)
