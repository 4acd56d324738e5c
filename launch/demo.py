"""The whole pipeline on a tiny VLM: data, SFT, on-policy GRPO with vLLM, evaluation, report. `make demo` runs it.

    python -m launch.demo [--out runs/demo] [--seed 0] [--family qwen3_vl] [--sft steps=500] [--grpo steps=20]
    python -m launch.demo --world search [--out runs/search] …       visual search in several turns (launch/demo_search.py)

Every phase prints and runs the command of the program that real runs use, with a config from `launch/configs/`;
only sizes and data differ.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from core.processes.explained import explained
from launch.demo_phases import CONFIGS, LAUNCH, empty_folder, phase, run, write_report
from launch.demo_search import FAMILY as SEARCH_FAMILY
from launch.demo_search import run_search_demo
from vlm.families import DEFAULT_FAMILY, FAMILIES

PHASES = ("data", "sft", "grpo", "eval")
COMPLETE = ("qwen2_5_vl", "qwen3_vl")  # families that take clips, and that vLLM's CPU build runs in float32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--world",
        choices=("shapes", "search"),
        default="shapes",
        help="search: visual search in several turns, in place of six tasks of one",
    )
    parser.add_argument(
        "--out", type=Path, help="run folder, runs/demo or runs/search; an earlier demo in it is replaced"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of weights, data, order and sampling")
    parser.add_argument(
        "--family",
        choices=COMPLETE,
        help=f"whose architecture the model has; {DEFAULT_FAMILY}, or {SEARCH_FAMILY} in the search world",
    )
    for name in PHASES:
        parser.add_argument(
            f"--{name}", action="append", default=[], metavar="ARG", help="extra argument for this phase"
        )
    args = parser.parse_args()
    more = {name: getattr(args, name) for name in PHASES}
    if args.world == "search":
        if args.family not in (None, SEARCH_FAMILY):
            parser.error(f"--family: the pixel limits of --world search are those of {SEARCH_FAMILY}")
        run_search_demo((args.out or Path("runs/search")).expanduser(), args.seed, more)
    else:
        run_demo((args.out or Path("runs/demo")).expanduser(), args.seed, more, args.family or DEFAULT_FAMILY)


def run_demo(
    out: Path, seed: int = 0, more: Mapping[str, Sequence[str]] | None = None, family: str = DEFAULT_FAMILY
) -> dict[str, Any]:
    """Run all phases and return what is written to `out/summary.json`.

    more: extra arguments for the programs of the phases `data`, `sft`, `grpo` and `eval`. family: of the model.
    """
    extra = {name: list((more or {}).get(name, ())) for name in PHASES}
    began = time.perf_counter()
    out = out.resolve()  # the programs run in the repository's root
    empty_folder(out)
    data, models = out / "data", {name: out / name / "final" for name in ("sft", "grpo")}
    untrained = out / "untrained"

    phase(1, "Data: coloured shapes, clips and sums; SFT traces of mixed quality, held-out rows")
    cell = f"--cell-px={FAMILIES[family].factor}"  # one visual token
    run("-m", "data_recipes.synthetic.shapes.write", data, f"--seed={seed}", cell, *extra["data"])

    phase(
        2,
        f"Building a tiny vision-language model of {FAMILIES[family].name}'s architecture, with random weights",
    )
    run(
        "-m", "vlm.tiny", untrained, f"--family={family}", f"--corpus={data / 'corpus.txt'}", f"--seed={seed}"
    )

    phase(3, "SFT: the model learns to see and to write the four stages, and copies its teachers' errors")
    run(*LAUNCH, "sft.py", f"--config={CONFIGS / 'sft_demo.yaml'}", f"model.path={untrained}",
        f"data.rows={data / 'sft.jsonl'}", f"output_dir={out / 'sft'}", f"seed={seed}", *extra["sft"])  # fmt: skip

    phase(4, "On-policy GRPO: vLLM samples every step from the current weights; right answers are rewarded")
    run(*LAUNCH, "grpo.py", f"--config={CONFIGS / 'grpo_demo.yaml'}", f"model.path={models['sft']}",
        f"prompts.rows={data / 'rl.jsonl'}", f"output_dir={out / 'grpo'}", f"seed={seed}", *extra["grpo"])  # fmt: skip

    phase(5, "Evaluation: the untrained, the SFT and the RL model answer the same held-out rows")
    run("evaluate.py", f"--config={CONFIGS / 'eval_demo.yaml'}", f"checkpoints.untrained={untrained}",
        f"checkpoints.sft={models['sft']}", f"checkpoints.rl={models['grpo']}",
        f"rows={data / 'test.jsonl'}", f"output_dir={out / 'eval'}", *extra["eval"])  # fmt: skip

    phase(6, "Report")
    summary = write_report(out, began)
    print(conclusion(summary, out), flush=True)
    return summary


def conclusion(summary: dict[str, Any], out: Path) -> str:
    """The result as text for the terminal."""
    overall, grpo = summary["overall"], summary["grpo"]
    gap = "no step had a signal, so vLLM's and the trainer's log-probs were never compared"
    if grpo["mean_logprob_gap"] is not None:
        gap = f"mean difference {grpo['mean_logprob_gap']:.1e}, largest {grpo['max_logprob_gap']:.1e}"
    return (
        f"\nMean reward on held-out rows (greedy): untrained {overall['untrained']:.3f}, after SFT"
        f" {overall['sft']:.3f}, after GRPO {overall['rl']:.3f}.\n"
        f"Log-probs of vLLM and trainer over {grpo['steps']} steps: {gap}.\n"
        f"{summary['seconds_total'] / 60:.1f} minutes in all. Open {out / 'report.html'} in a browser."
    )


if __name__ == "__main__":
    with explained():
        main()
