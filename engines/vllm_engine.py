"""vLLM inside the trainer's process: one engine per rank, on CPU and on GPUs.

vLLM (0.31) samples from exactly the distribution that the trainer differentiates if
- one placeholder per image or video goes in, vLLM expands it, and the prompt it reports is the trainer's;
- temperature is the only shaping, and log-probs are those after it (`processed_logprobs`);
- tokens that must not be sampled have logits of -inf, not a large negative bias, so that both sides normalise over the
  same set;
- a sync replaces every weight, the tied LM head included (on CPU vLLM packs its own copy of it), and resets the prefix,
  multimodal and encoder caches, all of which hold values of the old weights.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engines.config import VLLMConfig
from engines.engine import OnRollout
from engines.fingerprint import Fingerprint, vllm_fingerprint
from engines.follow_ups import FollowUps, first_seed, follow_up_seed
from engines.prompts import check_fit
from engines.rollout import Request, Rollout, Sampling
from engines.tokens import stop_length, stop_token_ids
from engines.vllm_groups import forget_dead_groups
from engines.vllm_process import RngState, threads, unchanged_process
from engines.vllm_start import start_vllm
from vlm.inputs import Encoded


@dataclass(frozen=True)
class _Running:
    """A completion under way: its request, its places in the result, and vLLM's preprocessed prompt."""

    request: Request
    places: range
    prompt: dict[str, Any]


class VLLMEngine:
    """`engines.engine.Engine` on vLLM; see `VLLMConfig` for the settings."""

    def __init__(
        self,
        config: VLLMConfig,
        model_path: str | Path,
        processor: Any,
        dtype: torch.dtype = torch.float32,
        *,
        seed: int = 0,
    ):
        self.config = config
        self.version = 0
        self._processor = processor
        self._stop = stop_token_ids(processor, model_path)
        self._asleep: set[str] = set()  # which of {"weights", "kv_cache"} have been released
        self._rng: RngState | None = None
        with unchanged_process(), self._own_rng():
            self._llm = start_vllm(config, model_path, processor, dtype, seed)
        self._on_cpu = self._llm.llm_engine.vllm_config.device_config.device_type == "cpu"
        self._threads = config.threads if self._on_cpu else torch.get_num_threads()

    def generate(
        self, requests: Sequence[Request], sampling: Sampling, on_rollout: OnRollout | None = None
    ) -> list[Rollout]:
        """`request.n` rollouts per request, in order; `on_rollout` is called with each as soon as it is finished.

        Raises:
            ValueError: a prompt leaves no room within max_model_len or has too many media, or vLLM's expanded prompt is not
                the trainer's.
            RuntimeError: `sleep` released the weights, and `sync` has not been called since.
        """
        if "weights" in self._asleep:
            raise RuntimeError("sleep() released the engine's weights; call sync() before generate()")
        self._wake({"kv_cache"})
        check_fit(requests, self.config)
        rollouts: dict[int, Rollout] = {}
        waiting = FollowUps()
        with (
            self._own_rng(),
            threads(self._threads),
            closing(self._completions(requests, sampling, waiting, rollouts)) as completions,
        ):
            for running, output in completions:
                _check_prompt(running.request, output.prompt_token_ids)
                rollout = self._rollout(running.request, output.outputs[0], sampling.stop)
                for place in running.places:
                    rollouts[place] = rollout
                    if on_rollout is not None:
                        waiting.add(place, on_rollout(place, rollout))
        return [rollouts[place] for place in range(len(rollouts))]

    def _completions(
        self,
        requests: Sequence[Request],
        sampling: Sampling,
        waiting: FollowUps,
        rollouts: Mapping[int, Rollout],
    ) -> Generator[tuple[_Running, Any], None, None]:
        """Each completion as it finishes, and vLLM's output. Follow-ups that come in join between two steps.

        Every completion is a request of its own to vLLM. `SamplingParams.n` comes to the same (vLLM makes n such
        requests of it, with these seeds), but hands over nothing before all n are finished.
        """
        llm = self._llm.llm_engine
        under_way: dict[str, _Running] = {}
        last: dict[int, dict[str, Any]] = {}  # prompt of the last completion at each place
        names: list[str] = []  # vLLM's own, by which it can be told to stop

        def begin(name: str, running: _Running, seed: int | None) -> None:
            parameters = self._sampling_params(sampling, seed)
            names.append(llm.add_request(name, running.prompt, parameters))
            under_way[name] = running

        try:
            place = 0
            for index, request in enumerate(requests):
                prompt = self._llm._preprocess_cmpl_one(_vllm_prompt(request.prompt))  # images once per group
                copies = 1 if sampling.temperature > 0 else request.n  # greedy: all n are the same
                for i in range(request.n // copies):
                    seed = None if sampling.seed is None else first_seed(sampling.seed, index, i)
                    begin(str(place), _Running(request, range(place, place + copies), prompt), seed)
                    place += copies
            while llm.has_unfinished_requests() or waiting:
                for place, ready in waiting.ready(block=not llm.has_unfinished_requests()):
                    before = last.pop(place)
                    if ready is not None:
                        check_fit([ready.request], self.config)
                        prompt = self._prompt_behind(before, rollouts[place], ready.request)
                        seed = (
                            None
                            if sampling.seed is None
                            else follow_up_seed(sampling.seed, place, ready.turn)
                        )
                        running = _Running(ready.request, range(place, place + 1), prompt)
                        begin(f"{place}/{ready.turn}", running, seed)
                for output in llm.step() if llm.has_unfinished_requests() else ():
                    running = under_way.pop(output.request_id)
                    last |= dict.fromkeys(running.places, running.prompt)
                    yield running, output
        finally:
            if under_way:  # an error, here or where the completions go to: the next call must not find them
                llm.abort_request(names, internal=True)

    def _prompt_behind(self, before: dict[str, Any], rollout: Rollout, request: Request) -> dict[str, Any]:
        """vLLM's input for a follow-up: what it made of the prompt before, the sampled ids, and what is new, of which alone
        media are preprocessed. A prompt that does not go on from there is preprocessed as a whole."""
        prompt, first, sampled = request.prompt, rollout.prompt, rollout.completion_ids
        known = first.engine_ids + sampled
        media = [*zip(first.images, prompt.images), *zip(first.videos, prompt.videos)]
        if prompt.engine_ids[: len(known)] != known or any(a is not b for a, b in media):
            return self._llm._preprocess_cmpl_one(_vllm_prompt(prompt))
        new = Encoded(
            prompt.input_ids[:0],
            prompt.position_ids[:, :0],
            engine_ids=prompt.engine_ids[len(known) :],
            images=prompt.images[len(first.images) :],
            videos=prompt.videos[len(first.videos) :],
        )
        rest = self._llm._preprocess_cmpl_one(_vllm_prompt(new))
        return _concatenated(before, sampled, rest)

    def sync(self, named_weights: Iterable[tuple[str, Tensor]], version: int) -> None:
        """Replace all weights and drop what was cached under the old ones.

        Each tensor is used up before the next is asked for, so weights that are gathered one by one (ZeRO-3) may be
        freed in between. Raises ValueError if `version` is below the present one.
        """
        if version < self.version:
            raise ValueError(f"sync to version {version}, but the engine already has version {self.version}")
        self._wake({"weights"})
        self._load_weights(named_weights)
        self._llm.reset_prefix_cache()
        self._llm.llm_engine.reset_mm_cache()
        self._llm.llm_engine.reset_encoder_cache()
        self.version = version

    def fingerprint(self) -> Fingerprint:
        """Sums over the bits of all weights (`engines.fingerprint`)."""
        return self._llm.apply_model(vllm_fingerprint)[0]

    def sleep(self) -> None:
        """Release accelerator memory, if the config says so. The weights are discarded: call `sync` next."""
        if self.config.sleep and not self._on_cpu and not self._asleep:
            self._llm.sleep(level=2)
            self._asleep = {"weights", "kv_cache"}

    def wake(self) -> None:
        """Allocate all memory again. `sync` and `generate` allocate what they need."""
        self._wake({"weights", "kv_cache"})

    def close(self) -> None:
        """Stop the engine and free its memory. vLLM ends every process group of the process with it, the trainer's too."""
        if self._llm is None:
            return
        llm, self._llm = self._llm, None
        forget_dead_groups()
        llm.llm_engine.engine_core.shutdown()

    def _sampling_params(self, sampling: Sampling, seed: int | None) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        return SamplingParams(
            temperature=sampling.temperature,
            max_tokens=sampling.max_tokens,
            seed=seed,
            stop_token_ids=list(self._stop),
            logprobs=0,  # of the sampled token alone
            flat_logprobs=True,
            detokenize=bool(sampling.stop),  # else once at the end, not at every token
            stop=list(sampling.stop),
            include_stop_str_in_output=True,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )

    def _rollout(self, request: Request, completion: Any, stop: Sequence[str]) -> Rollout:
        tokenizer = self._processor.tokenizer
        end = stop_length(tokenizer, completion.token_ids, stop) if stop else None
        ids = tuple(completion.token_ids[:end])
        return Rollout(
            row_id=request.row_id,
            prompt=request.prompt,
            completion_ids=ids,
            loss_mask=(1,) * len(ids),
            logprobs=tuple(completion.logprobs.logprobs[:end]),
            text=tokenizer.decode(list(ids), skip_special_tokens=True),
            policy_version=self.version,
            finish="stop" if end is not None or completion.finish_reason == "stop" else "length",
        )

    def _load_weights(self, named_weights: Iterable[tuple[str, Tensor]]) -> None:
        if self._on_cpu:
            # Linear weights are packed on CPU and cannot be written in place: reload_weights rebuilds each layer from
            # all of its tensors, so they must outlive their turn in the iterator.
            copies = ((name, weight.detach().clone()) for name, weight in named_weights)
            self._llm.collective_rpc("reload_weights", kwargs={"weights_iterator": copies})
        else:
            detached = ((name, weight.detach()) for name, weight in named_weights)
            self._llm.apply_model(lambda model: model.load_weights(detached) and None)

    def _wake(self, tags: set[str]) -> None:
        for tag in ("weights", "kv_cache"):
            if tag in tags & self._asleep:
                self._llm.wake_up(tags=[tag])
                self._asleep.discard(tag)

    @contextmanager
    def _own_rng(self) -> Iterator[None]:
        """vLLM draws from the process's global generators; it gets a state of its own, so that generation and
        training do not change each other's random numbers."""
        outside = RngState.now()
        if self._rng is not None:
            self._rng.restore()
        try:
            yield
        finally:
            self._rng = RngState.now()
            outside.restore()


def _vllm_prompt(prompt: Encoded) -> dict[str, Any]:
    media: dict[str, Any] = {}
    if prompt.images:
        media["image"] = list(prompt.images)
    if prompt.videos:
        media["video"] = [(video.frames, video.metadata()) for video in prompt.videos]
    tokens: dict[str, Any] = {"prompt_token_ids": list(prompt.engine_ids)}
    return tokens | ({"multi_modal_data": media} if media else {})


def _concatenated(first: dict[str, Any], sampled: Sequence[int], second: dict[str, Any]) -> dict[str, Any]:
    """vLLM's preprocessed inputs one behind the other, sampled ids between them."""
    offset = len(first["prompt_token_ids"]) + len(sampled)
    ids = [*first["prompt_token_ids"], *sampled, *second["prompt_token_ids"]]
    if "multimodal" not in (first["type"], second["type"]):
        return {"type": "token", "prompt_token_ids": ids}
    fields: dict[str, dict[str, list[Any]]] = {}
    for name in ("mm_kwargs", "mm_hashes", "mm_placeholders"):
        parts = [dict(prompt.get(name, {})) for prompt in (first, second)]
        if name == "mm_placeholders":
            parts[1] = {k: [replace(p, offset=p.offset + offset) for p in v] for k, v in parts[1].items()}
        fields[name] = {k: [*parts[0].get(k, ()), *parts[1].get(k, ())] for k in {**parts[0], **parts[1]}}
    return {"type": "multimodal", "prompt_token_ids": ids, **fields}


def _check_prompt(request: Request, engine_ids: Sequence[int]) -> None:
    expected = request.prompt.input_ids.tolist()
    if list(engine_ids) == expected:
        return
    first = next((i for i, (a, b) in enumerate(zip(expected, engine_ids)) if a != b), None)
    where = f"first difference at token {first}" if first is not None else "one is the beginning of the other"
    raise ValueError(
        f"row {request.row_id!r}: the engine's prompt has {len(engine_ids)} tokens, the trainer's {len(expected)}"
        f" ({where}); the policy would sample under another prompt than it trains on"
    )
