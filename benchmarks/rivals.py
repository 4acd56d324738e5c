"""Updates to compare ours with, on the same rollouts: TRL's GRPO loss and the prefix-grouper package."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface

from engines.samples import Group
from vlm.packed.head import linear_cross_entropy


def trl_inputs(group: Group, image_id: int, pad_id: int = 0) -> dict:
    """A group as TRL 1.16's GRPOTrainer passes it to its loss: prompts and images repeated, completions padded."""
    prompt, size = group.rollouts[0].prompt, len(group.rollouts)
    longest = max(len(r.completion_ids) for r in group.rollouts)
    completion_ids = torch.full((size, longest), pad_id)
    completion_mask = torch.zeros(size, longest, dtype=torch.long)
    for i, rollout in enumerate(group.rollouts):
        completion_ids[i, : len(rollout.completion_ids)] = torch.tensor(rollout.completion_ids)
        completion_mask[i, : len(rollout.completion_ids)] = 1
    inputs = {
        "prompt_ids": prompt.input_ids.repeat(size, 1),
        "prompt_mask": torch.ones(size, len(prompt), dtype=torch.long),
        "completion_ids": completion_ids,
        "completion_mask": completion_mask,
        "advantages": torch.tensor(group.advantages),
        "num_items_in_batch": completion_mask.sum(),
    }
    if prompt.pixel_values is not None and prompt.image_grid_thw is not None:
        images = len(prompt.image_grid_thw)
        # placeholders of an image have type 1, as in the processor's mm_token_type_ids
        visual = torch.zeros(len(prompt) + longest, dtype=torch.long)
        visual[: len(prompt)] = (prompt.input_ids == image_id).long()
        inputs |= {
            "pixel_values": prompt.pixel_values.repeat(size, 1),
            "image_grid_thw": prompt.image_grid_thw.repeat(size, 1),
            "num_images": [images] * size,
            "mm_token_type_ids": visual.repeat(size, 1),
        }
    return inputs


def trl_trainer(
    model: nn.Module, processor, *, temperature: float = 1.0, bf16: bool = False, cpu: bool = True
):
    """TRL's GRPOTrainer for `model` with on-policy settings and token-normalised loss ("dapo"); only its loss is used."""
    from datasets import Dataset

    available: Any = import_module("trl.import_utils")
    has_vllm = available.is_vllm_available
    available.is_vllm_available = lambda *_, **__: False  # avoids importing vLLM, which is not needed here
    try:
        from trl import GRPOConfig, GRPOTrainer
    finally:
        available.is_vllm_available = has_vllm

    args = GRPOConfig(
        output_dir=tempfile.mkdtemp(),
        use_cpu=cpu,
        bf16=bf16,
        per_device_train_batch_size=8,
        num_generations=8,
        loss_type="dapo",
        beta=0.0,
        temperature=temperature,
        gradient_checkpointing=False,
        report_to=[],
    )
    trainer = GRPOTrainer(
        model=model,
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        args=args,
        train_dataset=Dataset.from_list([{"prompt": [{"role": "user", "content": "x"}]}] * 8),
        processing_class=processor,
    )
    trainer.current_gradient_accumulation_steps = 1
    trainer.model.train()
    return trainer


@contextmanager
def compact_head() -> Iterator[None]:
    """Context in which TRL's fused LM head computes only the completions' positions, as on CUDA; on CPU it would compute
    every position of the padded batch."""
    from trl.trainer import utils

    original = utils._use_triton
    # nothing else in that module depends on it: the kernel checks the device itself
    utils._use_triton = lambda device: True
    try:
        yield
    finally:
        utils._use_triton = original


def prefix_grouper_loss(
    model: nn.Module, group: Group, total_tokens: int, temperature: float = 1.0
) -> Tensor:
    """The published shared-prefix update (arXiv 2506.05433): the prompt's keys are repeated per completion and completions are
    padded, with the package's own attention on SDPA. Positions and LM head are ours and images are encoded once, so that only
    the attention differs from our update."""
    from prefix_grouper import PrefixGrouper
    from prefix_grouper.utils.register_transformers import register_attention

    if "prefix_grouper_attention" not in AttentionInterface._global_mapping:
        register_attention()
    prompt, rollouts = group.rollouts[0].prompt, group.rollouts
    lengths = [len(r.completion_ids) for r in rollouts]
    grouper = PrefixGrouper([[len(prompt), *lengths]], device=prompt.input_ids.device)
    # Replace the package's 2-d padding masks, which are for flash kernels, by SDPA masks: causal for the prompt.
    grouper.group_info.prefix_attn_mask = _NoMask()
    grouper.group_info.suffix_attn_mask = _causal_suffix_mask(len(prompt), lengths)

    ids = torch.cat([prompt.input_ids, *(torch.tensor(r.completion_ids) for r in rollouts)])[None]
    starts = [torch.arange(n) + prompt.next_position for n in lengths]
    positions = torch.cat([prompt.position_ids, *(s.expand(3, -1) for s in starts)], dim=1)[:, None]
    language_model = model.model.language_model
    before = language_model.config._attn_implementation
    language_model.config._attn_implementation = "prefix_grouper_attention"
    try:
        options: dict[str, Any] = {}
        if getattr(
            language_model.config, "layer_types", None
        ):  # by kind of layer; None: no mask but the grouper's
            options["attention_mask"] = {"full_attention": None}
        embeddings = model.model.get_input_embeddings()(ids)
        if prompt.image_grid_thw is not None:
            media = {"pixel_values": prompt.pixel_values, "image_grid_thw": prompt.image_grid_thw}
            visual = model.model.get_image_features(**media)
            features = torch.cat(list(visual.pooler_output))
            mask, _ = model.model.get_placeholder_mask(ids, embeddings, image_features=features)
            embeddings = embeddings.masked_scatter(mask, features)
            if hasattr(visual, "deepstack_features"):
                levels = visual.deepstack_features
                options |= {"visual_pos_masks": mask[..., 0], "deepstack_visual_embeds": levels}
        hidden = language_model(
            inputs_embeds=embeddings,
            position_ids=positions,
            use_cache=False,
            prefix_grouper=grouper,
            prefix_grouper_attn_func="sdpa",
            **options,
        ).last_hidden_state
    finally:
        language_model.config._attn_implementation = before
    _, _, suffix, suffix_mask = grouper.split_output(hidden, include_prefix_last=1)
    keep = suffix_mask[:, 1:].bool()
    targets = torch.cat([torch.tensor(r.completion_ids) for r in rollouts])
    advantages = torch.cat([torch.full((n,), a) for n, a in zip(lengths, group.advantages, strict=True)])
    loss, _, _ = linear_cross_entropy(
        suffix[:, :-1][keep], model.lm_head.weight, targets, advantages, temperature=temperature
    )
    return loss / total_tokens


class _NoMask:
    """Stands for "no mask, causal" where the package expects a tensor that can be moved to a device."""

    def to(self, device) -> None:
        return None


def _causal_suffix_mask(prompt: int, lengths: list[int]) -> Tensor:
    """(G, 1, longest, prompt + longest) bool: a token attends to its prompt and to its completion up to itself."""
    longest = max(lengths)
    own = torch.ones(longest, longest, dtype=torch.bool).tril()
    return torch.cat([torch.ones(longest, prompt, dtype=torch.bool), own], dim=1).expand(
        len(lengths), 1, -1, -1
    )
