"""pass@k of an evaluation: reads its answers, writes passk.json, passk.md and passk.csv beside them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from core.files.jsonl import read
from evaluation.config import EvaluationConfig
from evaluation.pass_at_k.curves import study
from evaluation.pass_at_k.tables import as_csv, crossings, markdown


def write_pass_at_k(config: EvaluationConfig, *, show: bool = True) -> dict[str, Any]:
    """Of the answers that `evaluate(config)` wrote; returns what passk.json holds. Raises RunError as `curves.study`."""
    assert config.pass_at_k is not None
    assert config.rewards is not None
    output = Path(config.output_dir)
    found = study(read(output / "eval_rollouts.jsonl"), config.pass_at_k, config.rewards.grammar, config.seed)
    (output / "passk.json").write_text(json.dumps(found) + "\n")
    (output / "passk.md").write_text(markdown(found))
    (output / "passk.csv").write_text(as_csv(found))
    if show:
        print("\n".join(crossings(found)))
        print(f"pass@k, maj@k, mean@k for k = 1 to {found['ks'][-1]}: {output / 'passk.md'}")
    return found
