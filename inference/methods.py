"""Methods and judges as a config names them, ready to run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from core.errors import UserError
from core.rows import Row
from inference.best_of_n import best_of_n, greedy
from inference.conclusions import GRAMMARS
from inference.config import Grammar, JudgeConfig, MethodConfig, SearchConfig
from inference.judges import by_reward, by_selector, majority, mean_logprob
from inference.pairs import by_pairs
from inference.retracing import Retracing, retracing
from inference.stage_beam import sentence_beam, stage_beam
from inference.types import Budget, Judge, Method, Question
from rewards.router import Router
from rewards.serving.plugins import REWARDS
from vlm.inputs import Encoded


class CalibrationError(UserError, ValueError):
    """A threshold's file that cannot be used; the message names it."""


@dataclass(frozen=True)
class Search:
    """What all methods need. router: of the judge `reward`; None: no such judge. routers: of the judges of kind reward, by name."""

    config: SearchConfig
    processor: Any
    grammar: Grammar
    router: Router | None
    routers: dict[str, Router]

    @property
    def names(self) -> tuple[str, ...] | None:
        """Blocks of the grammar."""
        return GRAMMARS[self.grammar]

    def question(
        self,
        row: Row,
        prompt: Encoded,
        method: MethodConfig,
        *,
        seed: int | None,
        max_tokens: int | None = None,
        temperature: float | None = None,
    ) -> Question:
        """One row's question. max_tokens, temperature: None: the config's."""
        config = self.config
        room = config.engine.max_model_len - len(prompt)
        return Question(
            row=row,
            prompt=prompt,
            processor=self.processor,
            names=self.names,
            max_tokens=min(max_tokens or config.max_tokens, room),
            temperature=config.temperature if temperature is None else temperature,
            seed=seed,
            budget=Budget(**method.budget.model_dump()),
        )

    def method(self, config: MethodConfig) -> Method:
        """The method with its judge. Raises PluginError for an unknown function, CalibrationError for a threshold's file."""
        if config.method == "greedy":
            return greedy
        if config.method == "self_consistency":
            return partial(best_of_n, judge=majority, candidates=config.width)
        judge = self._judge(config.judge or "mean_logprob")
        if config.method == "retracing":
            return partial(retracing, judge=judge, settings=_retracing(config))
        search = {"best_of_n": best_of_n, "stage_beam": stage_beam, "sentence_beam": sentence_beam}[
            config.method
        ]
        return partial(search, judge=judge, candidates=config.width)

    def check_rows(self, rows: Sequence[Row]) -> None:
        """Raise RewardDataError for a row that a judge could not score."""
        for router in self.routers.values():
            router.check_rows(rows)

    def check_row(self, method: MethodConfig, row: Row) -> None:
        """Raise RewardDataError if the method's judge could not score the row."""
        if router := self.routers.get(method.judge or ""):
            router.check_rows([row])

    def _judge(self, name: str) -> Judge:
        config = self.config.judges.get(name)
        if config is None and name == "mean_logprob":
            return mean_logprob
        if config is None and name == "majority":
            return majority
        if name == "pairs" or (config and config.kind == "pairs"):
            settings = config or JudgeConfig(kind="pairs")
            return by_pairs(
                max_model_len=self.config.engine.max_model_len,
                both_orders=bool(settings.both_orders),
                max_tokens=settings.max_tokens or 256,
            )
        if name == "reward" or (config and config.kind == "reward"):
            router = self.routers.get(name) or self.router
            assert router is not None, "SearchConfig.check_method has refused this"
            return by_reward(router.score)
        return by_selector(REWARDS.load((config.function if config else None) or name))


def open_search(
    stack: ExitStack, config: SearchConfig, processor: Any, grammar: Grammar, router: Router | None
) -> Search:
    """Start the routers of the judges; `stack` closes them. Raises PluginError for an unknown function."""
    routers = {
        name: stack.enter_context(Router(judge.rewards))
        for name, judge in config.judges.items()
        if judge.rewards is not None
    }
    return Search(config, processor, grammar, router, routers)


def _retracing(config: MethodConfig) -> Retracing:
    constants = config.constants()
    if not isinstance(config.threshold, str):
        return constants
    return replace(constants, threshold=_threshold(config.threshold, config.judge or "mean_logprob"))


def _threshold(value: str, judge: str) -> float:
    """The threshold of a calibration's file for this judge."""
    try:
        found = json.loads(Path(value).expanduser().read_text())
        name, threshold = found["judge"], float(found["threshold"])
    except OSError:
        raise CalibrationError(
            f"threshold: expected a number or a file of `python -m inference calibrate`, found no {value}"
        ) from None
    except (ValueError, KeyError, TypeError):
        raise CalibrationError(f"{value}: expected a file of `python -m inference calibrate`") from None
    if name != judge:
        raise CalibrationError(f"{value}: calibrated for the judge '{name}', not for '{judge}'")
    return threshold
