"""The reference engine: plain transformers with a KV cache, for tests and for machines without vLLM.

Not `model.generate`: that computes M-RoPE positions by transformers' own rule, which differs from the trainer's for
videos (`vlm.positions`), and returns log-probs only as logits of the whole vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from engines.config import TransformersConfig
from engines.engine import OnRollout
from engines.fingerprint import Fingerprint, weights_fingerprint
from engines.prompts import check_fit
from engines.rollout import Request, Rollout, Sampling
from engines.tokens import stop_token_ids, stop_watch, suppress_, suppressed_token_ids
from vlm.families import family_of_checkpoint
from vlm.inputs import Encoded, collate_media
from vlm.load import check_checkpoint, without_zero3


@dataclass(frozen=True)
class _Running:
    """The S sequences of a batch that are not finished, T tokens long with padding.

    place: (S,) of the completion among those of the batch. limit: (S,) its most tokens. position: (S,) M-RoPE position of its
    next token. mask: (S, T) attention mask.
    """

    place: Tensor
    limit: Tensor
    position: Tensor
    mask: Tensor

    def of(self, rows: Tensor) -> _Running:
        """Those at `rows` alone."""
        return _Running(self.place[rows], self.limit[rows], self.position[rows], self.mask[rows])


class TransformersEngine:
    """`engines.engine.Engine` on transformers."""

    def __init__(
        self,
        config: TransformersConfig,
        model_path: str | Path,
        processor: Any,
        dtype: torch.dtype = torch.float32,
        *,
        seed: int = 0,
        device: torch.device | str | None = None,
    ):
        self.config = config
        self.version = 0
        self._processor = processor
        self._device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        folder = check_checkpoint(model_path)
        with without_zero3():  # each process generates by itself
            model = family_of_checkpoint(folder).model_class().from_pretrained(folder, dtype=dtype)
        self._model = model.requires_grad_(False).eval().to(self._device)
        vocab_size = model.config.text_config.vocab_size
        self._suppressed = torch.tensor(suppressed_token_ids(processor, vocab_size), device=self._device)
        self._stop = torch.tensor(stop_token_ids(processor, folder), device=self._device)
        self._generator = torch.Generator(self._device).manual_seed(seed)

    def generate(
        self, requests: Sequence[Request], sampling: Sampling, on_rollout: OnRollout | None = None
    ) -> list[Rollout]:
        """`request.n` rollouts per request, in order; `on_rollout` is called with each as soon as it is finished. Raises
        ValueError if a prompt leaves no room."""
        self.wake()
        check_fit(requests, self.config)
        if sampling.seed is not None:
            self._generator.manual_seed(sampling.seed)
        rollouts: dict[int, Rollout] = {}
        for batch in _batches(requests, self.config.max_num_seqs):
            first = len(rollouts)
            for i, rollout in self._generate_batch(batch, sampling):
                rollouts[first + i] = rollout
                if on_rollout is not None:
                    on_rollout(first + i, rollout)
        return [rollouts[place] for place in range(len(rollouts))]

    def sync(self, named_weights: Iterable[tuple[str, Tensor]], version: int) -> None:
        """Copy all weights; KeyError for an unknown name, ValueError for missing ones or a `version` that falls."""
        if version < self.version:
            raise ValueError(f"sync to version {version}, but the engine already has version {self.version}")
        self.wake()
        self._load_weights(named_weights)
        self.version = version

    def fingerprint(self) -> Fingerprint:
        """Sums over the bits of all weights (`engines.fingerprint`)."""
        return weights_fingerprint(self._model.named_parameters(remove_duplicate=False))

    def sleep(self) -> None:
        """Release accelerator memory, if the config says so."""
        if self.config.sleep:
            self._model.to("cpu")

    def wake(self) -> None:
        self._model.to(self._device)

    def close(self) -> None:
        del self._model

    def _load_weights(self, named_weights: Iterable[tuple[str, Tensor]]) -> None:
        own = dict(self._model.named_parameters(remove_duplicate=False))
        missing = set(own)
        for name, weight in named_weights:
            own[name].data.copy_(weight.detach())
            missing.discard(name)
        if missing:
            raise ValueError(f"the sync left out {len(missing)} weight(s), first {min(missing)}")

    @torch.inference_mode()
    def _generate_batch(
        self, requests: Sequence[Request], sampling: Sampling
    ) -> Iterator[tuple[int, Rollout]]:
        """One forward over the prompts, then one token at a time for all completions that are not finished. Yields each
        completion, with its place among them, when it is."""
        owners = [request for request in requests for _ in range(request.n)]
        ids: list[list[int]] = [[] for _ in owners]
        logprobs: list[list[float]] = [[] for _ in owners]
        completed = stop_watch(self._processor.tokenizer, sampling.stop) if sampling.stop else None
        running, cache, logits = self._prefill(requests, sampling.max_tokens)
        while True:
            tokens, sampled = self._sample(logits, sampling.temperature)
            stop = torch.isin(tokens, self._stop)
            places = running.place.tolist()
            for i, token, logprob in zip(places, tokens.tolist(), sampled.tolist(), strict=True):
                ids[i].append(token)
                logprobs[i].append(logprob)
            if completed:
                stop |= torch.tensor(completed([ids[i] for i in places]), device=self._device)
            lengths = torch.tensor([len(ids[i]) for i in places], device=self._device)
            finished = stop | (lengths >= running.limit)
            for i, end, done in zip(places, stop.tolist(), finished.tolist(), strict=True):
                if done:
                    yield i, self._rollout(owners[i], ids[i], logprobs[i], end)
            rest = (~finished).nonzero()[:, 0]
            if not len(rest):
                return
            if len(rest) < len(places):
                running, tokens = running.of(rest), tokens[rest]
                cache.batch_select_indices(rest)
            running, logits = self._decode(running, cache, tokens)

    def _prefill(self, requests: Sequence[Request], max_tokens: int) -> tuple[_Running, DynamicCache, Tensor]:
        """The forward over the prompts: one sequence for each completion to come, the cache, and logits (S, vocabulary)."""
        inputs = {k: v.to(self._device) for k, v in _left_padded([r.prompt for r in requests]).items()}
        cache = DynamicCache(config=self._model.config.get_text_config())
        out = self._model(**inputs, past_key_values=cache, use_cache=True, logits_to_keep=1)
        owner = torch.tensor([i for i, r in enumerate(requests) for _ in range(r.n)], device=self._device)
        room = torch.tensor(
            [self.config.max_model_len - len(r.prompt) for r in requests], device=self._device
        )
        position = torch.tensor([r.prompt.next_position for r in requests], device=self._device)
        cache.batch_select_indices(owner)
        running = _Running(
            place=torch.arange(len(owner), device=self._device),
            limit=room.clamp(max=max_tokens)[owner],
            position=position[owner],
            mask=inputs["attention_mask"][owner],
        )
        return running, cache, out.logits[owner, -1]

    def _decode(self, running: _Running, cache: DynamicCache, tokens: Tensor) -> tuple[_Running, Tensor]:
        """The forward over one token (S,) of each sequence, and logits (S, vocabulary) for the next."""
        mask = torch.cat([running.mask, running.mask.new_ones(len(tokens), 1)], dim=1)
        out = self._model(
            input_ids=tokens[:, None],
            attention_mask=mask,
            position_ids=running.position.expand(3, -1)[..., None],
            past_key_values=cache,
            use_cache=True,
        )
        return replace(running, mask=mask, position=running.position + 1), out.logits[:, -1]

    def _sample(self, logits: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        """Token and its log-prob for each row of `logits` (S, vocabulary); greedy at temperature 0."""
        logits = suppress_(logits.float(), self._suppressed)
        if temperature == 0:
            tokens = logits.argmax(-1)
            return tokens, logits.log_softmax(-1).gather(-1, tokens[:, None])[:, 0]
        logprobs = (logits / temperature).log_softmax(-1)
        noise = torch.empty_like(logprobs).exponential_(generator=self._generator)
        tokens = (logprobs.exp() / noise).argmax(-1)  # the smallest of exponentials with these rates
        return tokens, logprobs.gather(-1, tokens[:, None])[:, 0]

    def _rollout(
        self, request: Request, ids: Sequence[int], logprobs: Sequence[float], stopped: bool
    ) -> Rollout:
        return Rollout(
            row_id=request.row_id,
            prompt=request.prompt,
            completion_ids=tuple(ids),
            loss_mask=(1,) * len(ids),
            logprobs=tuple(logprobs),
            text=self._processor.tokenizer.decode(list(ids), skip_special_tokens=True),
            policy_version=self.version,
            finish="stop" if stopped else "length",
        )


def _batches(requests: Sequence[Request], most: int) -> Iterator[list[Request]]:
    """The requests in order, at most `most` completions at a time; a request may be divided."""
    batch: list[Request] = []
    for request in requests:
        left = request.n
        while left:
            n = min(left, most - sum(r.n for r in batch))
            batch.append(replace(request, n=n))
            left -= n
            if sum(r.n for r in batch) == most:
                yield batch
                batch = []
    if batch:
        yield batch


def _left_padded(sequences: Sequence[Encoded]) -> dict[str, Tensor]:
    """As `vlm.inputs.collate`, padded on the left: the last token of each row is in the last column."""
    longest = max(len(s) for s in sequences)
    batch = {
        "input_ids": torch.zeros(len(sequences), longest, dtype=torch.long),
        "attention_mask": torch.zeros(len(sequences), longest, dtype=torch.long),
        "position_ids": torch.zeros(3, len(sequences), longest, dtype=torch.long),
    }
    for i, sequence in enumerate(sequences):
        batch["input_ids"][i, longest - len(sequence) :] = sequence.input_ids
        batch["attention_mask"][i, longest - len(sequence) :] = 1
        batch["position_ids"][:, i, longest - len(sequence) :] = sequence.position_ids
    return batch | collate_media(sequences)
