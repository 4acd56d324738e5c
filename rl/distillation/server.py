"""A vLLM server as teacher: it is sent token ids, and answers with the log-prob of each (`prompt_logprobs`).

vLLM's endpoint for ids in and ids out, /inference/v1/generate, takes what its chat endpoint would build from text: the ids
with one placeholder per image, and the images. So the teacher judges the tokens that were sampled, not those that their text
would be split into. Its answer holds the ids that it made of them, which must be the trainer's, expanded placeholders included:
a server with other limits on pixels sees another image, and is refused.
"""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import tenacity
import torch
from PIL import Image
from torch import Tensor

from core.errors import RunError
from core.processes.watchdog import renew
from core.rows import Row
from engines.rollout import Rollout
from engines.samples import Group
from rl.distillation.config import ServerTeacherConfig
from vlm.inputs import extend

PROBE = "Two cats, 12.5 % of 80: naïve? [10, 20]\n"
"""A text that other tokenizers are likely to split otherwise."""
BUSY = (429, 502, 503, 504)


class TeacherError(RunError):
    """A server that cannot be reached, refuses a request, or sees something else than the policy."""


class ServerTeacher:
    """`rl.distillation.teacher.Teacher` behind HTTP.

    rows: of the run. processor: the policy's. longest: prompt and completion, tokens.

    Raises ValueError for rows with videos, which the server would sample by its own rule, and TeacherError if the server does
    not answer, splits text into other tokens, or has a shorter context.
    """

    def __init__(
        self, config: ServerTeacherConfig, rows: Sequence[Row], processor: Any, *, longest: int
    ) -> None:
        with_video = next((row["id"] for row in rows if row["videos"]), None)
        if with_video is not None:
            raise ValueError(
                f"row {with_video!r}: a teacher behind a vLLM server is for text and images, and this row has a video;"
                " use distillation.teacher.kind: checkpoint"
            )
        self._config, self._where = config, f"teacher {config.model} at {config.url}"
        headers = {}
        if config.api_key_env is not None:
            if not os.environ.get(config.api_key_env):
                raise TeacherError(f"{self._where}: the environment variable {config.api_key_env} is not set")
            headers["Authorization"] = f"Bearer {os.environ[config.api_key_env]}"
        self._client = httpx.Client(
            base_url=config.url,
            headers=headers,
            timeout=httpx.Timeout(config.timeout_s, connect=10.0, pool=None),
            limits=httpx.Limits(max_connections=config.concurrency),
            trust_env=False,
        )
        self._threads = ThreadPoolExecutor(config.concurrency, thread_name_prefix="teacher")
        try:
            self._check(processor.tokenizer, longest)
        except BaseException:
            self.close()
            raise

    def _check(self, tokenizer: Any, longest: int) -> None:
        answer = self._post("/tokenize", {"prompt": PROBE, "add_special_tokens": False})
        expected = tokenizer(PROBE, add_special_tokens=False)["input_ids"]
        if answer.get("tokens") != expected:
            raise TeacherError(
                f"{self._where}: expected the policy's tokenizer, but {PROBE!r} becomes {answer.get('tokens')}, not {expected}"
            )
        if (context := answer.get("max_model_len") or 0) <= longest:
            raise TeacherError(
                f"{self._where}: its context is {context} tokens, expected more than engine.max_model_len = {longest}"
            )

    def logprobs(self, groups: Sequence[Group]) -> list[tuple[Tensor, ...]]:
        rollouts = [rollout for group in groups for rollout in group.rollouts]
        found: list[Tensor] = []
        for values in self._threads.map(self._logprobs, rollouts):
            renew(f"the teacher's log-probs of rollout {len(found) + 1} of {len(rollouts)}")
            found.append(values)
        rest = iter(found)
        return [tuple(next(rest) for _ in group.samples) for group in groups]

    def close(self) -> None:
        """Close the connections."""
        self._threads.shutdown(cancel_futures=True)
        self._client.close()

    def _logprobs(self, rollout: Rollout) -> Tensor:
        mask = torch.tensor(rollout.loss_mask)
        if not mask.any():
            return torch.zeros(len(mask))
        sequence = rollout.sequence or extend(rollout.prompt, rollout.completion_ids)
        ids = sequence.input_ids.tolist()
        request = {
            "token_ids": list(sequence.engine_ids),
            "sampling_params": {"max_tokens": 1, "temperature": 0.0, "prompt_logprobs": 0},
            "return_token_ids": True,
        }
        if sequence.images:
            request["content_parts"] = [
                {"type": "image_url", "url": _as_url(image)} for image in sequence.images
            ]
        answer = self._post("/inference/v1/generate", request)
        seen = answer.get("prompt_token_ids")
        if seen != ids:
            counts = f"{len(seen)} tokens" if isinstance(seen, list) else "none"
            raise TeacherError(
                f"{self._where}: row {rollout.row_id!r} has {len(ids)} tokens for the policy and {counts} for the server, or"
                " others; start it with the policy's min_pixels and max_pixels (--mm-processor-kwargs)"
            )
        values = self._values(answer.get("prompt_logprobs"), ids, rollout)
        return torch.tensor(values[len(rollout.prompt) :]) * mask

    def _values(self, given: Any, ids: Sequence[int], rollout: Rollout) -> list[float]:
        """The log-prob of each id; of the first, which nothing predicts, 0."""
        try:
            if len(given) != len(ids):
                raise ValueError(f"{len(given)} entries for {len(ids)} tokens")
            # JSON knows no infinity, so vLLM writes the log of a probability of 0 as -9999
            return [0.0, *(float(one[str(i)]["logprob"]) for one, i in zip(given[1:], ids[1:], strict=True))]
        except (TypeError, KeyError, ValueError) as error:
            raise TeacherError(
                f"{self._where}: row {rollout.row_id!r}: expected prompt_logprobs with each token's own, got another form"
                f" ({type(error).__name__}: {error})"
            ) from None

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """The answer, asked for again while the server cannot be reached or is busy. Raises TeacherError."""
        attempts = tenacity.Retrying(
            stop=tenacity.stop_after_delay(self._config.retry_for_s),
            wait=tenacity.wait_random_exponential(multiplier=0.1, max=5.0),
            retry=tenacity.retry_if_exception_type((httpx.TransportError, _Busy)),
            reraise=True,
        )
        try:
            return attempts(self._once, path, body | {"model": self._config.model})
        except (httpx.TransportError, _Busy) as error:
            raise TeacherError(
                f"{self._where}: no answer for {self._config.retry_for_s:g} s; last: {type(error).__name__}: {error}"
            ) from None

    def _once(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = self._client.post(path, json=body)
        if answer.status_code in BUSY:
            raise _Busy(f"status {answer.status_code}")
        if answer.status_code != 200:
            hint = " (start the server with --enable-scale-out)" if answer.status_code == 404 else ""
            raise TeacherError(f"{self._where}: {answer.status_code} from {path}{hint}: {answer.text[:300]}")
        try:
            return dict(answer.json())
        except (ValueError, TypeError) as error:
            raise TeacherError(
                f"{self._where}: expected a JSON object from {path}, got {answer.text[:100]!r}"
            ) from error


class _Busy(Exception):
    """The request should be repeated later."""


def _as_url(image: Image.Image) -> str:
    """The image without loss, as a data URL."""
    data = io.BytesIO()
    image.save(data, "PNG")
    return f"data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}"
