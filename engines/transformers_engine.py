"""The reference engine: plain transformers with a KV cache, for tests and for machines without vLLM.

Not `model.generate`: that computes M-RoPE positions by transformers' own rule, which differs from the trainer's for
videos (`vlm.positions`), and returns log-probs only as logits of the whole vocabulary.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from engines.config import TransformersConfig
from engines.engine import OnRollout
from engines.fingerprint import Fingerprint, weights_fingerprint
from engines.follow_ups import FollowUps, Ready, first_seed, follow_up_seed
from engines.prompts import check_fit
from engines.rollout import Request, Rollout, Sampling
from engines.tokens import stop_token_ids, stop_watch, suppress_, suppressed_token_ids
from engines.transformers_cache import Batch, joined
from vlm.families import family_of_checkpoint, model_inputs
from vlm.inputs import Encoded, behind, collate_media
from vlm.load import check_checkpoint, without_zero3


@dataclass
class _Sequence:
    """A completion under way. limit: its most tokens. position: M-RoPE position of the next one. draws: its own random
    numbers, so that they do not depend on what else is in the batch."""

    place: int
    request: Request
    limit: int
    position: int
    draws: Random
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class _Running:
    """Completions under way, what is cached of them, and the logits (S, vocabulary) of the next token of each."""

    sequences: list[_Sequence]
    batch: Batch
    logits: Tensor


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
        rollouts: dict[int, Rollout] = {}
        waiting = FollowUps()
        kept: dict[int, Batch] = {}  # caches of completions that may go on, by place
        queue = _queue(requests, self.config.max_num_seqs)
        running: list[_Running] = []
        completed = stop_watch(self._processor.tokenizer, sampling.stop) if sampling.stop else None
        while queue or running or waiting:
            for place, ready in waiting.ready(block=not running and not self._fits(queue, len(waiting))):
                cached = kept.pop(place)
                if ready is not None:
                    check_fit([ready.request], self.config)
                    running.append(self._go_on(rollouts[place], ready, cached, sampling))
            admitted: list[_Admitted] = []
            while self._fits(
                queue, len(waiting) + sum(len(one.sequences) for one in running) + _size(admitted)
            ):
                admitted.append(queue.popleft())
            if admitted:
                running.append(self._prefill(admitted, sampling))
            if not running:
                continue
            now = _together(running)
            finished = self._draw(now, sampling, completed)
            running = []
            for row, stopped in finished:
                rollout = self._rollout(now.sequences[row], stopped)
                place = now.sequences[row].place
                rollouts[place] = rollout
                answer = None if on_rollout is None else on_rollout(place, rollout)
                if waiting.add(place, answer):
                    kept[place] = now.batch.of(torch.tensor([row], device=self._device))
            if rest := _without(now, [row for row, _ in finished], self._device):
                running = [self._decode(rest)]
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
    def _prefill(self, admitted: Sequence[_Admitted], sampling: Sampling) -> _Running:
        """The forward over some prompts, each once for all of its completions."""
        prompts = [one.request.prompt for one in admitted]
        inputs = self._on_device(_left_padded(prompts))
        cache = self._empty_cache()
        out = self._forward(inputs, cache, logits_to_keep=1)
        owner = torch.tensor([i for i, one in enumerate(admitted) for _ in one.places], device=self._device)
        sequences = [
            self._sequence(
                place, one.request, sampling, self._draws(sampling, (one.index, place - one.first))
            )
            for one in admitted
            for place in one.places
        ]
        return _Running(sequences, Batch(cache, inputs["attention_mask"]).of(owner), out.logits[owner, -1])

    @torch.inference_mode()
    def _go_on(self, before: Rollout, ready: Ready, cached: Batch, sampling: Sampling) -> _Running:
        """The forward over what a follow-up adds to a finished completion; over all of it if it does not go on from there."""
        request, first = ready.request, before.prompt
        seed = None if sampling.seed is None else follow_up_seed(sampling.seed, ready.place, ready.turn)
        draws = Random(self._drawn() if seed is None else seed)
        known = torch.cat([first.input_ids, torch.tensor(before.completion_ids)])
        if not torch.equal(request.prompt.input_ids[: len(known)], known):
            cached, new = (
                Batch(self._empty_cache(), torch.zeros(1, 0, dtype=torch.long, device=self._device)),
                request.prompt,
            )
        else:  # the last sampled token is not in the cache
            new = behind(request.prompt, first, len(known) - 1)
        inputs = self._on_device(_left_padded([new]))
        mask = torch.cat([cached.mask, inputs["attention_mask"]], dim=1)
        out = self._forward(inputs | {"attention_mask": mask}, cached.cache, logits_to_keep=1)
        sequence = self._sequence(ready.place, request, sampling, draws)
        return _Running([sequence], Batch(cached.cache, mask), out.logits[:, -1])

    @torch.inference_mode()
    def _decode(self, running: _Running) -> _Running:
        """The forward over the last token of each sequence."""
        last = torch.tensor([[s.ids[-1]] for s in running.sequences], device=self._device)
        positions = torch.tensor([s.position for s in running.sequences], device=self._device)
        for sequence in running.sequences:
            sequence.position += 1
        mask = torch.cat([running.batch.mask, running.batch.mask.new_ones(len(last), 1)], dim=1)
        cache = running.batch.cache
        positions = positions.expand(3, -1)[..., None]
        inputs = {"input_ids": last, "attention_mask": mask, "position_ids": positions}
        out = self._forward(inputs, cache)
        return _Running(running.sequences, Batch(cache, mask), out.logits[:, -1])

    def _forward(self, inputs: dict[str, Tensor], cache: DynamicCache, **settings: Any) -> Any:
        inputs = model_inputs(self._model, inputs)
        return self._model(**inputs, past_key_values=cache, use_cache=True, **settings)

    def _empty_cache(self) -> DynamicCache:
        return DynamicCache(config=self._model.config.get_text_config())

    def _draw(
        self, running: _Running, sampling: Sampling, completed: Callable[..., list[bool]] | None
    ) -> list[tuple[int, bool]]:
        """One token more for each sequence. Returns those that are then finished: (row, stopped or else at its limit)."""
        tokens, logprobs = self._sample(running, sampling.temperature)
        for sequence, token, logprob in zip(
            running.sequences, tokens.tolist(), logprobs.tolist(), strict=True
        ):
            sequence.ids.append(token)
            sequence.logprobs.append(logprob)
        stopped = torch.isin(tokens, self._stop).tolist()
        if completed:
            texts = completed([sequence.ids for sequence in running.sequences])
            stopped = [a or b for a, b in zip(stopped, texts, strict=True)]
        return [
            (row, stop)
            for row, (sequence, stop) in enumerate(zip(running.sequences, stopped, strict=True))
            if stop or len(sequence.ids) >= sequence.limit
        ]

    @torch.inference_mode()
    def _sample(self, running: _Running, temperature: float) -> tuple[Tensor, Tensor]:
        """Token and its log-prob for each row of the logits; greedy at temperature 0."""
        logits = suppress_(running.logits.float(), self._suppressed)
        if temperature == 0:
            tokens = logits.argmax(-1)
            return tokens, logits.log_softmax(-1).gather(-1, tokens[:, None])[:, 0]
        logprobs = (logits / temperature).log_softmax(-1)
        shares = [sequence.draws.random() * _BELOW_1 for sequence in running.sequences]
        # the token in whose part of the cumulative distribution a uniform number falls; those of probability 0 have none
        cumulative = logprobs.double().exp().cumsum(-1)
        points = torch.tensor(shares, dtype=torch.float64, device=logits.device) * cumulative[:, -1]
        tokens = torch.searchsorted(cumulative, points[:, None], right=True)[:, 0]
        return tokens, logprobs.gather(-1, tokens[:, None])[:, 0]

    def _fits(self, queue: deque[_Admitted], under_way: int) -> bool:
        """Whether the head of the queue may join so many completions."""
        return bool(queue) and under_way + len(queue[0].places) <= self.config.max_num_seqs

    def _sequence(self, place: int, request: Request, sampling: Sampling, draws: Random) -> _Sequence:
        limit = min(sampling.max_tokens, self.config.max_model_len - len(request.prompt))
        return _Sequence(place, request, limit, request.prompt.next_position, draws)

    def _draws(self, sampling: Sampling, which: tuple[int, int]) -> Random:
        return Random(self._drawn() if sampling.seed is None else first_seed(sampling.seed, *which))

    def _drawn(self) -> int:
        """A fresh seed, where the call has none."""
        return int(torch.randint(2**62, (), generator=self._generator))

    def _on_device(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: tensor.to(self._device) for name, tensor in inputs.items()}

    def _rollout(self, sequence: _Sequence, stopped: bool) -> Rollout:
        return Rollout(
            row_id=sequence.request.row_id,
            prompt=sequence.request.prompt,
            completion_ids=tuple(sequence.ids),
            loss_mask=(1,) * len(sequence.ids),
            logprobs=tuple(sequence.logprobs),
            text=self._processor.tokenizer.decode(sequence.ids, skip_special_tokens=True),
            policy_version=self.version,
            finish="stop" if stopped else "length",
        )


_BELOW_1 = 1 - 2.0**-32
"""A cumulative sum times at most this is below the whole sum, however it is rounded."""


@dataclass(frozen=True)
class _Admitted:
    """Some completions of a request. index: of the request. first: place of its first completion."""

    request: Request
    index: int
    first: int
    places: range


def _queue(requests: Sequence[Request], most: int) -> deque[_Admitted]:
    """The requests in order, each divided where it has more than `most` completions."""
    queue: deque[_Admitted] = deque()
    first = 0
    for index, request in enumerate(requests):
        for start in range(first, first + request.n, most):
            places = range(start, min(start + most, first + request.n))
            queue.append(_Admitted(request, index, first, places))
        first += request.n
    return queue


def _size(admitted: Sequence[_Admitted]) -> int:
    return sum(len(one.places) for one in admitted)


def _together(running: Sequence[_Running]) -> _Running:
    sequences = [sequence for one in running for sequence in one.sequences]
    batch = joined([one.batch for one in running])
    return _Running(sequences, batch, torch.cat([one.logits for one in running]))


def _without(running: _Running, finished: Sequence[int], device: torch.device) -> _Running | None:
    """Those that are not finished; None if all are."""
    rest = [row for row in range(len(running.sequences)) if row not in set(finished)]
    if not rest:
        return None
    if not finished:
        return running
    rows = torch.tensor(rest, device=device)
    return _Running([running.sequences[row] for row in rest], running.batch.of(rows), running.logits[rows])


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
