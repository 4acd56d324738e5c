"""A checkpoint as a chat model of lmms-eval: its messages become a row, our engine answers, and the conclusion is what tasks score."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lmms_eval.api.instance import GenerationResult, Instance, TokenCounts
from lmms_eval.api.model import lmms
from lmms_eval.protocol import ChatMessages
from pydantic import TypeAdapter

from core.files.hub.paths import fetch
from core.rows import Row, check_row
from engines.build import build_engine
from engines.config import EngineConfig
from engines.rollout import Request, Rollout, Sampling
from inference.conclusions import GRAMMARS, shown
from vlm.inputs import encode_row
from vlm.load import LoadingConfig, check_checkpoint, load_processor

IGNORED = ("batch_size", "max_batch_size", "device")  # the engine batches by itself and knows its device
ENGINE_FIELDS = ("max_model_len", "max_num_seqs", "cpu_kvcache_gb", "images_per_prompt")


class OnsightChat(lmms):
    """`--model onsight --model_args checkpoint=…,max_pixels=…`.

    checkpoint: folder or Hub id. engine: `vllm` or `transformers`. grammar: of the conclusion that tasks see; an answer that breaks
    it is seen as `inference.conclusions.shown` has it. max_tokens: unless the task says how many. min_pixels, max_pixels, dtype:
    as in `evaluate.py`, the checkpoint's own by default. Other names are errors.
    """

    is_simple = False

    def __init__(
        self,
        checkpoint: str,
        engine: str = "vllm",
        grammar: str = "stages",
        max_tokens: int = 1024,
        max_frames: int = 256,
        **more: Any,
    ) -> None:
        super().__init__()
        more = {name: value for name, value in more.items() if name not in IGNORED}
        engine_config = {"kind": engine} | {name: more.pop(name) for name in ENGINE_FIELDS if name in more}
        if grammar not in GRAMMARS:
            raise ValueError(f"grammar: expected one of {', '.join(GRAMMARS)}, got {grammar!r}")
        loading = LoadingConfig.model_validate(more)  # unknown names are errors
        fetch({"checkpoint": checkpoint}, {})
        folder = check_checkpoint(checkpoint)
        self._grammar, self._max_tokens, self._max_frames = grammar, max_tokens, max_frames
        self._processor = load_processor(folder, **loading.limits)
        config: Any = TypeAdapter(EngineConfig).validate_python(engine_config)
        self._engine = build_engine(config, folder, self._processor, getattr(torch, loading.dtype), seed=0)

    def generate_until(self, requests: list[Instance]) -> list[GenerationResult]:
        """Greedy answers, or sampled ones where a task asks for a temperature; all requests of one sampling run together."""
        found: dict[int, GenerationResult] = {}
        groups: dict[tuple[float, int, tuple[str, ...]], list[int]] = {}
        for i, request in enumerate(requests):
            groups.setdefault(self._sampling(request.args[2]), []).append(i)
        for (temperature, max_tokens, until), places in groups.items():
            rows = [self._row(str(i), requests[i]) for i in places]
            prompts = [encode_row(self._processor, row, max_frames=self._max_frames) for row in rows]
            asked = [Request(row, prompt) for row, prompt in zip(rows, prompts, strict=True)]
            rollouts = self._engine.generate(asked, Sampling(temperature, max_tokens))
            for i, rollout in zip(places, rollouts, strict=True):
                found[i] = self._result(rollout, until)
        return [found[i] for i in range(len(requests))]

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """Not offered: tasks of this kind compare likelihoods of options, which a model that reasons first does not have."""
        raise NotImplementedError("onsight answers generate_until tasks; this task asks for loglikelihood")

    def generate_until_multi_round(self, requests: list[Instance]) -> list[str]:
        """Not offered."""
        raise NotImplementedError(
            "onsight answers generate_until tasks; this task asks for generate_until_multi_round"
        )

    def clean(self) -> None:
        """Stops the engine; lmms-eval calls it at the end."""
        self._engine.close()

    def _sampling(self, kwargs: Mapping[str, Any]) -> tuple[float, int, tuple[str, ...]]:
        until = kwargs.get("until") or ()
        sampled = bool(kwargs.get("do_sample", True)) and float(kwargs.get("temperature") or 0.0) > 0
        return (
            float(kwargs["temperature"]) if sampled else 0.0,
            int(kwargs.get("max_new_tokens") or self._max_tokens),
            (until,) if isinstance(until, str) else tuple(until),
        )

    def _row(self, name: str, request: Instance) -> Row:
        """The row of a request's messages."""
        _, to_messages, _, doc, task, split = request.args
        messages = ChatMessages(messages=to_messages(self.task_dict[task][split][doc])).messages
        prompt, images, videos = [], [], []
        for message in messages:
            parts = []
            for part in message.content:
                if part.type == "text":
                    parts.append({"type": "text", "text": part.text})
                elif part.type == "image":
                    parts.append({"type": "image"})
                    images.append(_image(part.url))
                elif part.type == "video":
                    parts.append({"type": "video"})
                    videos.append(_video(part))
                else:
                    raise NotImplementedError(
                        f"task {task}: expected text, images and videos, got {part.type}"
                    )
            prompt.append({"role": message.role, "content": parts})
        row = {"id": name, "task": task, "prompt": prompt, "images": images, "videos": videos, "answer": None}
        return check_row(row, Path.cwd())

    def _result(self, rollout: Rollout, until: Sequence[str]) -> GenerationResult:
        text = shown(rollout.text, GRAMMARS[self._grammar])
        for stop in until:
            text = text.split(stop)[0] if stop.strip() else text  # a line break would cut an answer short
        return GenerationResult(text, TokenCounts(output_tokens=len(rollout.completion_ids)))


def _image(source: Any) -> Any:
    """A path, or the PNG of an image in memory."""
    if isinstance(source, str):
        return source
    file = io.BytesIO()
    source.convert("RGB").save(file, "PNG")
    return {"bytes": file.getvalue()}


def _video(part: Any) -> Any:
    span = {"start": part.start_time, "end": part.end_time}
    return {"path": part.url} | {name: at for name, at in span.items() if at is not None}
