"""A reward model as a reward: the built-in `reward_model`, in a run's own process or behind `python -m rewards serve`.

    rewards:
      tasks:
        chat: [{function: reward_model, path: runs/reward_model/final, device: "cuda:7"}]

The value is sigmoid((score - mean) / std), with the checkpoint's statistics (`reward_models/card.py`). The raw score is logged
beside it. A response that the model's template cannot hold is not shown to the model: it gets 0, with the reason (`empty`,
`special_token`, `too_long`). A prompt that it cannot hold is an error before the run.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from core.errors import PluginError
from core.plugins import Plugins
from reward_models.questions import Question, ResponseError, Verdict

ADAPTERS = Plugins(
    kind="reward model adapter",
    group="onsight.reward_model_adapters",
    builtins={n: f"reward_models.adapters:{n}" for n in ("skywork_vl", "internlm_xcomposer")},
)
"""Functions that load other kinds of reward models (`reward_models/adapters.py`)."""


class RewardModel:
    """A reward model's judgement, in [0, 1].

    path                folder of a checkpoint of reward_model.py, of a text sequence classifier with one label, or whatever the
                        adapter takes
    device              e.g. cuda:7; null: the process's own GPU, else the CPU
    dtype               type of the loaded weights: float32, bfloat16 or float16
    engine              transformers, or vllm: its pooling runner
    max_tokens          tokens that go through the model at a time
    adapter             skywork_vl, internlm_xcomposer, file.py:function or module:function: loads a model of another kind
    mean, std           statistics of the map to [0, 1], for models whose checkpoint has none; default 0 and 1

    A call is a group, and equal completions in it are scored once. In another batch a completion gets a score that differs by
    rounding; as advantages have no epsilon, a group of equal completions would then count as one with a signal, which dynamic
    sampling keeps, and whose gradient, nothing but rounding, `pcgrad` projects on.
    """

    whole_groups = True

    def __init__(
        self,
        path: str,
        *,
        device: str | None = None,
        dtype: Literal["float32", "bfloat16", "float16"] = "float32",
        engine: Literal["transformers", "vllm"] = "transformers",
        max_tokens: int = 16384,
        adapter: str | None = None,
        mean: float | None = None,
        std: float | None = None,
    ) -> None:
        if dtype not in ("float32", "bfloat16", "float16") or engine not in ("transformers", "vllm"):
            raise PluginError(
                f"reward 'reward_model': expected dtype float32, bfloat16 or float16 and engine transformers or vllm, got"
                f" {dtype!r} and {engine!r}"
            )
        if std is not None and not std > 0:
            raise PluginError(f"reward 'reward_model': expected a std above 0, got {std}")
        import torch  # here, so that naming the function costs nothing

        from reward_models.scoring import load_scorer

        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        loader = None if adapter is None else ADAPTERS.load(adapter)
        self._scorer = load_scorer(
            path, device=device, dtype=dtype, engine=engine, max_tokens=max_tokens, adapter=loader
        )
        card = self._scorer.card
        self.card = replace(card, mean=card.mean if mean is None else mean, std=std or card.std)
        self._lock = threading.Lock()  # one batch at a time on the device

    def __call__(
        self,
        completions: Sequence[Any],
        prompts: Sequence[Any],
        images: Sequence[Any] | None = None,
        videos: Sequence[Any] | None = None,
    ) -> list[dict[str, Any]]:
        """One result per completion: `reward`, and `score` or `reason`."""
        count = len(completions)
        questions = [
            Question(_row(prompt, image, video), c if isinstance(c, str) else c[-1]["content"])
            for c, prompt, image, video in zip(
                completions, prompts, images or [None] * count, videos or [None] * count, strict=True
            )
        ]
        asked, places = _once(questions)
        with self._lock:
            verdicts = self._scorer.judge(asked)
        return [self._result(verdicts[place]) for place in places]

    def _result(self, verdict: Verdict) -> dict[str, Any]:
        if isinstance(verdict, ResponseError):
            return {"reward": 0.0, "reason": verdict.rule}
        # not a number is a failure of the model, which the caller sees as such
        reward = self.card.reward(verdict) if math.isfinite(verdict) else math.nan
        return {"reward": reward, "score": verdict}

    def check_gold(self, answer: Any, row: Mapping[str, Any]) -> None:
        """Raise ValueError for a row whose prompt the model cannot be asked about."""
        if row.get("prompt") is None:
            raise ValueError("prompt: expected chat messages, which the reward model reads, got none")
        self._scorer.check_prompt(_row(row["prompt"], row.get("images"), row.get("videos")))


def _once(questions: Sequence[Question]) -> tuple[list[Question], list[int]]:
    """The questions without repetitions, and the place of each among them."""
    asked: list[Question] = []
    places: list[int] = []
    known: dict[str, list[int]] = {}  # by response; rows hold lists, which have no hash
    for question in questions:
        alike = known.setdefault(question.response, [])
        place = next((i for i in alike if asked[i].row == question.row), len(asked))
        if place == len(asked):
            asked.append(question)
            alike.append(place)
        places.append(place)
    return asked, places


def _row(prompt: Any, images: Any, videos: Any) -> dict[str, Any]:
    return {"id": None, "prompt": prompt, "images": images or [], "videos": videos or []}
