"""vLLM inside the trainer's process: one engine per rank, on CPU and on GPUs.

What it takes for vLLM (0.31) to sample from exactly the distribution the trainer differentiates:
- one placeholder per image or video goes in, vLLM expands it, and the prompt it reports back must be the trainer's;
- temperature is the only shaping, and log-probs are asked for after it (`processed_logprobs`);
- the tokens that must not be sampled have logits of -inf, not a large negative bias, so that both sides normalise over
  the same set;
- a sync replaces every weight, the tied LM head included (on CPU vLLM packs its own copy of it), and drops the prefix,
  multimodal and encoder caches, all of which hold values of the old weights.
"""

from __future__ import annotations

import os
import random
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed
from torch import Tensor

import vlm  # noqa: F401  adapts torch's companions before vLLM imports them
from engines.config import VLLMConfig
from engines.engine import OnRollout
from engines.fingerprint import Fingerprint, vllm_fingerprint
from engines.prompts import check_fit
from engines.rollout import Request, Rollout, Sampling
from engines.tokens import stop_length, stop_token_ids, suppressed_token_ids
from engines.vllm_groups import forget_dead_groups

_ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the engine core in this process: weights are handed over, not sent
    "VLLM_USE_V2_MODEL_RUNNER": "0",  # one runner on CPU and GPU; the logits processor below is for this one
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # pinned threads would pin the trainer's too
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
}
_CHANGED_BY_VLLM = ("LD_PRELOAD", "LOCAL_WORLD_SIZE", "NUMEXPR_MAX_THREADS", "TORCHINDUCTOR_COMPILE_THREADS")


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
        self._dtype = dtype
        self._stop = stop_token_ids(processor, model_path)
        self._asleep: set[str] = set()  # what of {"weights", "kv_cache"} has been given back
        self._rng: _RngState | None = None
        with _unchanged_process(), self._own_rng():
            self._llm = self._start(model_path, seed)
        self._on_cpu = self._llm.llm_engine.vllm_config.device_config.device_type == "cpu"
        self._threads = config.threads if self._on_cpu else torch.get_num_threads()

    def generate(
        self, requests: Sequence[Request], sampling: Sampling, on_rollout: OnRollout | None = None
    ) -> list[Rollout]:
        """`request.n` rollouts per request, in order; `on_rollout` hears of each as soon as it is finished.

        Raises:
            ValueError: a prompt leaves no room within max_model_len or holds too many media, or vLLM's expanded prompt is not the trainer's.
            RuntimeError: the weights were given back by `sleep` and no `sync` has brought new ones.
        """
        if "weights" in self._asleep:
            raise RuntimeError("the engine's weights were given back by sleep(); sync() before generate()")
        self._wake({"kv_cache"})
        check_fit(requests, self.config)
        rollouts: dict[int, Rollout] = {}
        with (
            self._own_rng(),
            _threads(self._threads),
            closing(self._completions(requests, sampling)) as completions,
        ):
            for request, places, output in completions:
                _check_prompt(request, output.prompt_token_ids)
                rollout = self._rollout(request, output.outputs[0], sampling.stop)
                for place in places:
                    rollouts[place] = rollout
                    if on_rollout is not None:
                        on_rollout(place, rollout)
        return [rollouts[place] for place in range(len(rollouts))]

    def _completions(
        self, requests: Sequence[Request], sampling: Sampling
    ) -> Generator[tuple[Request, range, Any], None, None]:
        """Each completion as it finishes: its request, its places in the result, and vLLM's output.

        Every completion is a request of its own to vLLM. `SamplingParams.n` comes to the same (vLLM makes n such
        requests of it, with these seeds), but hands over nothing before all n are finished.
        """
        llm = self._llm.llm_engine
        under_way: dict[str, tuple[Request, range]] = {}
        names: list[str] = []  # vLLM's own, by which it can be told to stop
        place = 0
        try:
            for index, request in enumerate(requests):
                prompt = self._llm._preprocess_cmpl_one(_vllm_prompt(request))  # images once, not n times
                copies = 1 if sampling.temperature > 0 else request.n  # greedy: all n are the same
                for i in range(request.n // copies):
                    name = str(place)
                    parameters = self._sampling_params(sampling, index, i)
                    names.append(llm.add_request(name, prompt, parameters))
                    under_way[name] = request, range(place, place + copies)
                    place += copies
            while llm.has_unfinished_requests():
                for output in llm.step():
                    yield *under_way.pop(output.request_id), output
        finally:
            if under_way:  # an error, here or where the completions go to: the next call must not find them
                llm.abort_request(names, internal=True)

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
        """Give the accelerator's memory back, if the config says so; the weights are discarded: sync follows."""
        if self.config.sleep and not self._on_cpu and not self._asleep:
            self._llm.sleep(level=2)
            self._asleep = {"weights", "kv_cache"}

    def wake(self) -> None:
        """Take all memory back. `sync` and `generate` take back what they need by themselves."""
        self._wake({"weights", "kv_cache"})

    def close(self) -> None:
        """Stop the engine and free its memory. vLLM ends every process group of the process with it, the trainer's too."""
        if self._llm is None:
            return
        llm, self._llm = self._llm, None
        forget_dead_groups()
        llm.llm_engine.engine_core.shutdown()

    def _start(self, model_path: str | Path, seed: int) -> Any:
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        from vllm.platforms import current_platform

        forget_dead_groups()
        on_cpu = current_platform.is_cpu()
        if on_cpu:
            # Two one-line kernels of the sampler; compiling them takes 15 s and gains nothing at these sizes.
            type(current_platform).simple_compile_backend = "eager"
        from transformers import AutoConfig
        from vllm import LLM, ModelRegistry
        from vllm.model_executor.models.qwen2_5_vl import Qwen2_5_VLForConditionalGeneration

        # vLLM would look at the class in a child process, which takes seconds and knows nothing of `import vlm`.
        ModelRegistry.register_model("Qwen2_5_VLForConditionalGeneration", Qwen2_5_VLForConditionalGeneration)
        vocab_size = AutoConfig.from_pretrained(model_path).get_text_config().vocab_size
        config = self.config
        arguments: dict[str, Any] = {
            "model": str(model_path),
            "dtype": str(self._dtype).removeprefix("torch."),
            "seed": seed,
            "max_model_len": config.max_model_len,
            "max_num_seqs": config.max_num_seqs,
            "max_num_batched_tokens": max(config.max_num_batched_tokens, config.max_num_seqs),  # vLLM's rule
            "limit_mm_per_prompt": {"image": config.images_per_prompt, "video": config.videos_per_prompt},
            "mm_processor_kwargs": _pixel_limits(self._processor),
            "mm_processor_cache_gb": 0,  # every step brings new images, and the completions of a group share one
            "use_tqdm_on_load": False,
            "generation_config": "vllm",  # nothing of the checkpoint's sampling habits (top-p, penalties)
            "logprobs_mode": "processed_logprobs",
            "logits_processors": [_suppressing(suppressed_token_ids(self._processor, vocab_size))],
            "enforce_eager": config.enforce_eager or on_cpu,
        }
        block_size = config.block_size or (32 if on_cpu else None)
        if block_size is not None:
            arguments["block_size"] = block_size
        if on_cpu:
            arguments |= {
                "kv_cache_memory_bytes": int(config.cpu_kvcache_gb * 2**30),
                "skip_mm_profiling": True,
                # A prompt that is split over two passes rewinds its random numbers, which CPU generators cannot do.
                "enable_chunked_prefill": False,
                "max_num_batched_tokens": max(arguments["max_num_batched_tokens"], config.max_model_len),
            }
        else:
            arguments |= {
                "gpu_memory_utilization": config.gpu_memory_utilization,
                "enable_sleep_mode": config.sleep,
            }
        if torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1:
            arguments["distributed_executor_backend"] = "external_launcher"
        return LLM(**arguments)

    def _sampling_params(self, sampling: Sampling, index: int, copy: int) -> Any:
        """For completion `copy` of the request at `index`."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        return SamplingParams(
            temperature=sampling.temperature,
            max_tokens=sampling.max_tokens,
            seed=None if sampling.seed is None else _derived_seed(sampling.seed, index) + copy,
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
        """vLLM draws from the process's global generators; lend it a stream of its own, so that neither generation
        changes the trainer's numbers nor the trainer generation's."""
        outside = _RngState.now()
        if self._rng is not None:
            self._rng.restore()
        try:
            yield
        finally:
            self._rng = _RngState.now()
            outside.restore()


def _vllm_prompt(request: Request) -> dict[str, Any]:
    prompt = request.prompt
    media: dict[str, Any] = {}
    if prompt.images:
        media["image"] = list(prompt.images)
    if prompt.videos:
        media["video"] = [(video.frames, video.metadata()) for video in prompt.videos]
    tokens: dict[str, Any] = {"prompt_token_ids": list(prompt.engine_ids)}
    return tokens | ({"multi_modal_data": media} if media else {})


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


def _pixel_limits(processor: Any) -> dict[str, Any]:
    """The trainer's pixel limits (areas) for vLLM's own copy of the processor."""

    def size(media_processor: Any) -> dict[str, Any]:
        limits = media_processor.size
        return {"size": {key: limits[key] for key in ("shortest_edge", "longest_edge")}}

    return {
        "images_kwargs": size(processor.image_processor),
        "videos_kwargs": size(processor.video_processor),
    }


def _suppressing(ids: Sequence[int]) -> type:
    """A vLLM logits processor that sets the logits of `ids` to -inf in every row of every batch."""
    from vllm.v1.sample.logits_processor import LogitsProcessor

    class Suppress(LogitsProcessor):
        def __init__(self, vllm_config: Any, device: torch.device, is_pin_memory: bool):
            self._ids = torch.tensor(ids, device=device)

        def apply(self, logits: Tensor) -> Tensor:
            return logits.index_fill_(-1, self._ids, -torch.inf)

        def is_argmax_invariant(self) -> bool:
            return False

        def update_state(self, batch_update: Any) -> None:
            pass

    return Suppress


def _derived_seed(seed: int, index: int) -> int:
    """Seed of the first completion of the request at `index`; 0, 1, … is added for the others, so requests lie far
    apart."""
    return int.from_bytes(blake2b(f"{seed}/{index}".encode(), digest_size=7).digest(), "big")


class _RngState:
    """States of the generators that vLLM seeds and draws from: Python's, NumPy's, torch's on CPU and on the GPU."""

    def __init__(self) -> None:
        self._python, self._numpy, self._torch = (
            random.getstate(),
            np.random.get_state(),
            torch.get_rng_state(),
        )
        self._cuda = torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None

    @classmethod
    def now(cls) -> _RngState:
        return cls()

    def restore(self) -> None:
        random.setstate(self._python)
        np.random.set_state(self._numpy)
        torch.set_rng_state(self._torch)
        if self._cuda is not None:
            torch.cuda.set_rng_state(self._cuda)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _unchanged_process() -> Iterator[None]:
    """vLLM's start sets torch to one thread, makes `torch.set_num_threads` a no-op (on CPU) and changes variables that
    child processes inherit; put all of it back for the trainer."""
    environment = {name: os.environ.get(name) for name in _CHANGED_BY_VLLM}
    threads, set_num_threads = torch.get_num_threads(), torch.set_num_threads
    try:
        yield
    finally:
        torch.set_num_threads = set_num_threads
        torch.set_num_threads(threads)
        for name, value in environment.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
