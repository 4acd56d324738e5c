"""A checkpoint of `reward_model.py` in vLLM's pooling runner, for both kinds: vLLM makes a sequence classifier of each generating
architecture that it knows, named as transformers names it, and reads the head's weights from the same file.

Prompts go in as token ids with one placeholder per medium, as to the rollout engine, so the model sees exactly the sequence of
training; its scores equal transformers' (tests/reward_models/test_pooling.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from core.rows import Row
from engines.vllm_start import prepare_vllm
from reward_models.model import is_multimodal
from reward_models.questions import Question, Verdict
from reward_models.template import Template
from vlm.checkpoint import read_config
from vlm.families import family_of_checkpoint
from vlm.inputs import Encoded


class Pooling:
    """As `reward_models.scoring.Packed`, by vLLM. max_tokens: scheduled at a time."""

    def __init__(self, folder: Path, *, dtype: str, max_tokens: int) -> None:
        self.template = Template.of(folder)
        self.card = self.template.card
        self._llm = _start(folder, dtype, self.template.longest, max_tokens)

    def check_prompt(self, row: Row) -> None:
        self.template.prompt(row)

    def judge(self, questions: Sequence[Question]) -> list[Verdict]:
        from vllm import PoolingParams

        asked, refused = self.template.ask(questions)
        verdicts: dict[int, Verdict] = dict(refused)
        places = [place for one in asked for place in one.places]
        if places:
            outputs = self._llm.encode(
                [_prompt(one.prompt, ids) for one in asked for ids in one.ids],
                pooling_params=PoolingParams(use_activation=False),  # the head's output, not its sigmoid
                pooling_task="classify",
                use_tqdm=False,
            )
            scores = [float(output.outputs.data.view(-1)[0]) for output in outputs]
            verdicts |= zip(places, scores, strict=True)
        return [verdicts[i] for i in range(len(questions))]


def _prompt(prompt: Encoded, response: Sequence[int]) -> dict[str, Any]:
    media: dict[str, Any] = {}
    if prompt.images:
        media["image"] = list(prompt.images)
    if prompt.videos:
        media["video"] = [(video.frames, video.metadata()) for video in prompt.videos]
    ids: dict[str, Any] = {"prompt_token_ids": [*prompt.engine_ids, *response]}
    return ids | ({"multi_modal_data": media} if media else {})


def _start(folder: Path, dtype: str, longest: int | None, max_tokens: int) -> Any:
    on_cpu = prepare_vllm()
    from vllm import LLM

    _register(folder)
    arguments: dict[str, Any] = {
        "model": str(folder),
        "runner": "pooling",
        "convert": "classify",
        "dtype": dtype,
        "max_model_len": longest,
        "max_num_batched_tokens": max(max_tokens, longest or 0),
        "use_tqdm_on_load": False,
        "enforce_eager": on_cpu,
        "hf_overrides": {"head_dtype": "float32"},
        "enable_prefix_caching": False,
    }
    if on_cpu:
        arguments |= {"kv_cache_memory_bytes": 2**30, "block_size": 32}
        arguments["enable_chunked_prefill"] = False
    if is_multimodal(folder):
        arguments |= {"skip_mm_profiling": on_cpu, "mm_processor_cache_gb": 0}
    return LLM(**arguments)


def _register(folder: Path) -> None:
    """Tell vLLM of the class to make a classifier of; it would inspect it in a child process, which takes seconds."""
    from vllm import ModelRegistry

    if not is_multimodal(folder):
        (name,) = read_config(folder)["architectures"]
        base = name.replace("ForSequenceClassification", "ForCausalLM")
        ModelRegistry.register_model(base, ModelRegistry.models[base].load_model_cls())
        return
    from vllm.model_executor.models.utils import WeightsMapper

    family = family_of_checkpoint(folder)
    engine = family.engine_class()
    # vLLM puts the head of a vision-language model on the language model inside
    head = WeightsMapper(orig_to_new_prefix={"score.": "language_model.score."})
    classified = type(engine.__name__, (engine,), {"hf_to_vllm_mapper": engine.hf_to_vllm_mapper | head})
    ModelRegistry.register_model(family.model, classified)
