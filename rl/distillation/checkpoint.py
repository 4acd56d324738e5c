"""A checkpoint as teacher: one forward pass without gradient over the policy's own packed micro-batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from core.processes.watchdog import renew
from engines.samples import Group
from engines.tokens import suppressed_token_ids
from rl.distillation.config import CheckpointTeacherConfig
from rl.update.packing import pack
from rl.update.policy_gradient import policy_gradient
from vlm.families import family_of_checkpoint, family_of_processor
from vlm.load import check_checkpoint, load_processor, without_zero3


class CheckpointTeacher:
    """`rl.distillation.teacher.Teacher` in this process. It is given the policy's token ids, pixels and positions as they
    are, so both models see the same.

    processor: the policy's. temperature: of the rollouts; the teacher's logits are divided by it too. max_tokens: of a
    micro-batch.

    Raises ValueError if the checkpoint is of another family than the policy, or has another vocabulary.
    """

    def __init__(
        self,
        config: CheckpointTeacherConfig,
        processor: Any,
        *,
        temperature: float,
        max_tokens: int,
        device: torch.device,
    ) -> None:
        folder = check_checkpoint(config.path)
        family, own = family_of_checkpoint(folder), family_of_processor(processor)
        if family.name != own.name:
            raise ValueError(
                f"distillation.teacher.path: expected a checkpoint of the policy's family, {own.name}, got one of"
                f" {family.name}: {folder}"
            )
        check_vocabulary(
            processor.tokenizer.get_vocab(), load_processor(folder).tokenizer.get_vocab(), str(folder)
        )
        with without_zero3():  # each process asks its own copy
            model = family.model_class().from_pretrained(folder, dtype=getattr(torch, config.dtype))
        self._model = model.requires_grad_(False).eval().to(device)
        self._suppressed = suppressed_token_ids(processor, model.config.text_config.vocab_size)
        self._temperature, self._max_tokens = temperature, max_tokens

    @torch.no_grad()
    def logprobs(self, groups: Sequence[Group]) -> list[tuple[Tensor, ...]]:
        everything = [
            replace(group, coefficients=tuple(torch.ones(len(r.loss_mask)) for r in group.rollouts))
            for group in groups
        ]
        batches = pack(everything, max_tokens=self._max_tokens)
        found: dict[int, Tensor] = {}
        for i, batch in enumerate(batches):
            renew(f"the teacher's micro-batch {i + 1} of {len(batches)}")
            out = policy_gradient(
                self._model,
                batch,
                total_tokens=1,
                temperature=self._temperature,
                suppressed_ids=self._suppressed,
            )
            found |= {id(r): logprobs for r, logprobs in zip(batch.rollouts, out.logprobs, strict=True)}
        # a rollout that is not packed has no trained token
        return [
            tuple(found.get(id(r), torch.zeros(len(r.loss_mask))) for r in group.rollouts) for group in groups
        ]

    def close(self) -> None:
        """Nothing to close."""


def check_vocabulary(policy: dict[str, int], teacher: dict[str, int], folder: str) -> None:
    """Raise ValueError unless every token of the policy has the same id in the teacher's vocabulary."""
    other = next((token for token, id_ in policy.items() if teacher.get(token) != id_), None)
    if other is not None:
        raise ValueError(
            f"distillation.teacher.path: expected the policy's tokenizer, but {other!r} is id {policy[other]} of the"
            f" policy's and {teacher.get(other, 'no token')} of the teacher's in {folder}"
        )
