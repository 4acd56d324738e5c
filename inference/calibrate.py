"""The threshold of a retracing search for a judge: scores of sampled reasonings, their mean and standard deviation.

    python -m inference calibrate --config FILE.yaml [share=0.4]

runs each retracing method of the config once over its rows, without going back, and writes `calibration_NAME.json` to the output
folder, which `threshold` of that method can name. Rows should be others than those that are compared later.
"""

from __future__ import annotations

import json
import re
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from inference.config import InferenceConfig, MethodConfig
from inference.retracing import calibrated
from inference.rounds import run_searches
from inference.run import encoded_batches, open_engine, open_run


class CalibrationConfig(InferenceConfig):
    """Settings of `python -m inference calibrate`: those of `python -m inference`, of whose methods the retracing ones count. Their
    thresholds are not read."""

    share: float = Field(0.4, gt=0, lt=1)
    """Share of reasonings that should score above the threshold; the paper's is 0.4."""

    @model_validator(mode="before")
    @classmethod
    def _no_thresholds(cls, value: Any) -> Any:
        if isinstance(value, dict) and isinstance(value.get("methods"), list):
            methods = [
                {**method, "threshold": 0.0}
                if isinstance(method, dict) and method.get("method") == "retracing"
                else method
                for method in value["methods"]
            ]
            return {**value, "methods": methods}
        return value

    @model_validator(mode="after")
    def _has_retracing(self) -> CalibrationConfig:
        if not self.retracing:
            raise ValueError(
                "methods: expected at least one retracing method, whose judge is to be calibrated"
            )
        return self

    @property
    def retracing(self) -> dict[str, MethodConfig]:
        """The first retracing method of each judge."""
        found: dict[str, MethodConfig] = {}
        for method in self.methods:
            if method.method == "retracing":
                found.setdefault(method.judge or "mean_logprob", method)
        return found


def calibrate(config: CalibrationConfig) -> list[Path]:
    """Write one file for each judge; returns their paths. Raises as `inference.run.run`, and ValueError if the judge gave all
    reasonings the same score."""
    output = Path(config.output_dir)
    output.mkdir(parents=True, exist_ok=True)
    scores: dict[str, list[float]] = {judge: [] for judge in config.retracing}
    with ExitStack() as stack:
        search, _, rows = open_run(stack, config)
        once = {
            judge: method.model_copy(update={"retraces": 0}) for judge, method in config.retracing.items()
        }
        methods = {judge: search.method(method) for judge, method in once.items()}
        engine = open_engine(stack, config, search.processor)
        assert search.names is not None, "SearchConfig.check_method has refused this"
        reasoning = search.names[-2]
        for start, batch, prompts in encoded_batches(config, search, rows):
            for judge, method in methods.items():
                questions = [
                    search.question(row, prompt, seed=config.seed + start, method=once[judge])
                    for row, prompt in zip(batch, prompts, strict=True)
                ]
                for answer in run_searches(engine, [(one, method(one)) for one in questions]):
                    nodes = [node for node in answer.tree if node.stage == reasoning]
                    scores[judge] += [node.score for node in nodes if node.score is not None]
    paths = []
    for judge, values in scores.items():
        found = {"judge": judge, "scores": len(values), **calibrated(values, config.share)}
        path = output / f"calibration_{re.sub(r'[^A-Za-z0-9_.-]+', '_', judge)}.json"
        path.write_text(json.dumps(found, indent=2) + "\n")
        paths.append(path)
        print(
            f"{judge}: {found['scores']} scores, mean {found['mean']:.4g}, standard deviation {found['std']:.4g}, threshold"
            f" {found['threshold']:.4g} -> {path}"
        )
    return paths
