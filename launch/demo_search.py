"""Visual search on a tiny VLM: `python -m launch.demo --world search` runs it.

Recipes make the rows; SFT in two stages teaches to read and then to zoom (Mini-o3, arXiv 2509.07969); GRPO goes on with episodes
of several turns; the evaluation compares a policy of one turn with those that zoom, under budgets of 1 to 12 turns.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from core.files.jsonl import read
from core.rows import read_rows
from core.statistics import interval_text
from evaluation.tables import OVERALL, difference_of
from launch.demo_phases import CONFIGS, CORES, LAUNCH, empty_folder, phase, run, write_report

HELD_OUT_ROWS, TEST_ROWS = 60, 150
SOURCES = {"1": 2, "2": 3, "rl": 1}  # of each recipe
PHASES = 7
# Its tower learns where a token is in the image. From the rotary positions of Qwen2.5-VL's alone, a model as small as this needs
# twice as many steps to say in which row and column a sign is, and does not learn to choose one of two.
FAMILY = "qwen3_vl"
ROPE_THETA = 10_000  # with a small base nothing can be found by its content a hundred tokens back, where earlier turns are


def run_search_demo(
    out: Path, seed: int = 0, more: Mapping[str, Sequence[str]] | None = None
) -> dict[str, Any]:
    """Run all phases and return what is written to `out/summary.json`.

    more: extra arguments for the programs of the phases `data` (every recipe), `sft` (both stages), `grpo` and `eval`.
    """
    extra = {name: list((more or {}).get(name, ())) for name in ("data", "sft", "grpo", "eval")}
    began = time.perf_counter()
    out = out.resolve()
    empty_folder(out)
    data, untrained = out / "data", out / "untrained"
    finals = {name: out / name / "final" for name in ("sft_1", "sft_2", "grpo")}

    phase(1, "Data: images of signs; what is on them is legible only after zooming in", PHASES)
    make_rows(data, seed, extra["data"])

    phase(2, "Building a tiny vision-language model with random weights", PHASES)
    corpus = data / "corpus.txt"
    corpus.write_text("\n".join(texts(data / "rows_1", data / "rows_2")))
    run("-m", "vlm.tiny", untrained, f"--family={FAMILY}", f"--corpus={corpus}", f"--rope-theta={ROPE_THETA}",
        f"--seed={seed}")  # fmt: skip

    before = untrained
    for number, words in ((1, "whole images and regions, answered in one turn"), (2, "dialogues that zoom")):
        phase(2 + number, f"SFT, stage {number} of 2: {words}", PHASES)
        run(*LAUNCH, "sft.py", f"--config={CONFIGS / f'sft_search_{number}_demo.yaml'}", f"model.path={before}",
            f"data.rows={data / f'rows_{number}'}", f"data.eval_rows={data / f'held_out_{number}'}",
            f"output_dir={out / f'sft_{number}'}", f"seed={seed}", *extra["sft"])  # fmt: skip
        before = finals[f"sft_{number}"]

    phase(5, "On-policy GRPO of episodes: vLLM samples every turn from the current weights", PHASES)
    run(*LAUNCH, "grpo.py", f"--config={CONFIGS / 'grpo_search_demo.yaml'}", f"model.path={before}",
        f"prompts.rows={data / 'rl'}", f"output_dir={out / 'grpo'}", f"seed={seed}", *extra["grpo"])  # fmt: skip

    phase(6, "Evaluation: one turn against several, budgets of 1 to 12 turns", PHASES)
    run("evaluate.py", f"--config={CONFIGS / 'eval_search_demo.yaml'}", f"checkpoints.single={finals['sft_1']}",
        f"checkpoints.sft={finals['sft_2']}", f"checkpoints.rl={finals['grpo']}",
        f"rows={data / 'test'}", f"output_dir={out / 'eval'}", *extra["eval"])  # fmt: skip

    phase(7, "Report", PHASES)
    shutil.copy(out / "sft_2" / "metrics.jsonl", out / "sft_metrics.jsonl")
    summary = write_report(out, began)
    print(conclusion(summary, out), flush=True)
    return summary


def make_rows(data: Path, seed: int, more: Sequence[str]) -> None:
    """The folders of rows, one for each recipe; as many at a time as there are cores. more: settings of recipes; what they say of
    source 0 is said of every source."""
    held_out = {"split": "test", "rows": HELD_OUT_ROWS, "seed": seed + 1}  # not the rows of the evaluation
    sets: dict[str, tuple[str, dict[str, Any]]] = {
        "rows_2": ("2", {}),
        "rows_1": ("1", {}),
        "rl": ("rl", {}),
        "test": ("rl", {"split": "test", "rows": TEST_ROWS}),
        "held_out_1": ("1", held_out),
        "held_out_2": ("2", held_out),
    }
    with ThreadPoolExecutor(CORES) as threads:
        running = []
        for name, (recipe, changes) in sets.items():
            options = {"seed": seed, **changes}
            config = CONFIGS / f"recipe_search_demo_{recipe}.yaml"
            changed = [f"name=search-{name}", f"output_dir={data / name}"]
            for source in range(SOURCES[recipe]):
                changed += [f"sources.{source}.options.{key}={value}" for key, value in options.items()]
                changed.append(f"sources.{source}.path={data / 'media'}")
                changed += [text.replace("sources.0.", f"sources.{source}.", 1) for text in more]
            running.append(threads.submit(run, "-m", "data_recipes", "run", config, *changed))
        for one in running:
            one.result()  # ends the demo if it failed


def texts(*folders: Path) -> Iterable[str]:
    """The texts of rows and their dialogues, from which the tokenizer is trained."""
    for row in (row for folder in folders for row in read_rows(folder)):
        for message in [*row["prompt"], *row["trace"]]:
            content = message["content"]
            parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
            yield from (part["text"] for part in parts if part["type"] == "text")


def conclusion(summary: Mapping[str, Any], out: Path) -> str:
    """The result as text for the terminal."""
    evaluation = json.loads((out / "eval" / "eval.json").read_text())
    overall = {name: one["greedy"]["overall"] for name, one in evaluation["checkpoints"].items()}
    budgets = evaluation["episodes"]["rl"]["rows"]["by_budget"]
    first = evaluation["episodes"]["rl"]["rows"]["so_far"].get("1")
    changes = "; ".join(
        f"against {words} {interval_text(difference_of(evaluation, name, 'rl', OVERALL), signed=True)}"
        for name, words in (("single", "one turn"), ("sft", "its cold start"))
    )
    by_budget = ", ".join(f"{budget}: {one['mean']:.2f}" for budget, one in budgets.items())
    gaps = [step["logprob_gap/mean"] for step in read(out / "metrics.jsonl") if "logprob_gap/mean" in step]
    gap = f"{max(gaps):.1e} at most" if gaps else "never compared, as no step had a signal"
    return (
        f"\nRight answers on held-out rows (greedy, at most 6 turns): in one turn {interval_text(overall['single'])}, with zooms"
        f" after SFT {interval_text(overall['sft'])}, after GRPO {interval_text(overall['rl'])}; the last policy made to answer"
        f" in its first turn {interval_text(first)}.\n"
        f"After GRPO {changes} (same rows).\n"
        f"After GRPO, by budget of turns: {by_budget}.\n"
        f"Mean difference of vLLM's and the trainer's log-probs in a step: {gap}.\n"
        f"{summary['seconds_total'] / 60:.1f} minutes in all. Open {out / 'report.html'} in a browser."
    )
