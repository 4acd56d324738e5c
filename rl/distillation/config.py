"""Configuration of on-policy distillation: who the teacher is, and what it weighs beside the rewards."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from core.config import Section
from core.files.paths import PathText

_KIND = (
    "checkpoint: loaded beside the policy, a copy in every process. vllm_server: a running vLLM server, for teachers that"
    " do not fit there."
)


class CheckpointTeacherConfig(Section):
    """A checkpoint of the policy's family, with the same tokenizer. It sees the policy's own inputs."""

    kind: Literal["checkpoint"] = Field(default="checkpoint", description=_KIND)
    path: PathText
    """Folder of a checkpoint, or a Hub id (docs/hub.md)."""
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    """Of its weights."""


class ServerTeacherConfig(Section):
    """A vLLM server (0.31 or later) of a model with the policy's tokenizer, started with --enable-scale-out and the
    policy's limits on pixels. For text and images, at a temperature of 1."""

    kind: Literal["vllm_server"] = Field(default="vllm_server", description=_KIND)
    url: str
    """Address without a path, e.g. http://10.0.0.7:8000."""
    model: str
    """Name under which the server serves the model."""
    api_key_env: str | None = None
    """Name of the environment variable that holds the server's API key; null: it has none."""
    concurrency: int = Field(default=16, ge=1)
    """Requests under way at once, from each process."""
    timeout_s: float = Field(default=600.0, gt=0)
    """Limit of one request."""
    retry_for_s: float = Field(default=300.0, ge=0)
    """How long a request that finds no server, or a busy one, is repeated before the run stops."""


def _kind(value: Any) -> Any:
    return value.get("kind", "checkpoint") if isinstance(value, dict) else getattr(value, "kind", None)


TeacherConfig = Annotated[
    Annotated[CheckpointTeacherConfig, Tag("checkpoint")]
    | Annotated[ServerTeacherConfig, Tag("vllm_server")],
    Discriminator(_kind),
]
"""The teacher; `kind` says which, checkpoint where it is left out."""


class DistillationConfig(Section):
    """On-policy distillation: every sampled token has the advantage log pi_teacher - log pi (docs/distillation.md)."""

    teacher: TeacherConfig
    """Whose log-probs are learned from."""
    weight: float = Field(default=1.0, gt=0)
    """Factor of the teacher's advantages."""
    reward_weight: float = Field(default=0.0, ge=0)
    """Factor of the rewards' advantages beside them. 0: rewards are computed and logged, and the policy learns from the
    teacher alone."""
