"""Official benchmarks on the command line.

python -m evaluation.benchmarks list                                            what there is, with sources
python -m evaluation.benchmarks show NAME                                       one benchmark's file
python -m evaluation.benchmarks score NAME --questions FILE --predictions FILE  figures of a file of predictions
python -m evaluation.benchmarks rules FOLDER                                    our figures beside published ones
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from core.files.jsonl import append
from core.processes.explained import explained
from core.text import dump
from evaluation.benchmarks.benchmark import load, names
from evaluation.benchmarks.judging import judged, read_endpoint
from evaluation.benchmarks.predictions import read_predictions
from evaluation.benchmarks.questions import read_questions
from evaluation.benchmarks.recorded import LIST, cells, compare, read_list
from evaluation.benchmarks.scoring import figures, score_all
from evaluation.benchmarks.tables import as_markdown, benchmark_cells, plain, unmeasured


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m evaluation.benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="what there is, with sources")
    show = commands.add_parser("show", help="one benchmark's file")
    show.add_argument("name")
    score = commands.add_parser("score", help="figures of a file of predictions")
    score.add_argument("name", help="a benchmark's name, or a YAML file of your own")
    score.add_argument("--questions", type=Path, required=True, help="the published file or folder")
    score.add_argument("--predictions", type=Path, required=True, help="JSON lines, JSON, TSV or CSV")
    score.add_argument("--partial", action="store_true", help="leave out questions without a prediction")
    score.add_argument("--frame", help="what the numbers of boxes and points mean: pixel, norm1, norm1000")
    score.add_argument(
        "--judge", type=Path, help="YAML file of an endpoint (base_url, model, …): the official LLM judge"
    )
    score.add_argument(
        "--judge-cache", type=Path, default=Path("runs/judge_cache"), help="folder of its replies"
    )
    score.add_argument("--output", type=Path, help="folder for scores.jsonl and figures.json")
    rules = commands.add_parser("rules", help="our figures beside published ones")
    rules.add_argument("folder", type=Path, help="folder with clones of the official repositories")
    rules.add_argument("--list", type=Path, default=LIST, help="another list than recorded.yaml")
    arguments = parser.parse_args(argv)
    run = {"list": _list, "show": _show, "score": _score, "rules": _rules}[arguments.command]
    status = 1
    with explained():
        status = run(arguments)
    return status


def _list(arguments: argparse.Namespace) -> int:
    lines = []
    for name in names():
        one = load(name)
        lines.append([name, one.title, ", ".join(one.files), "yes" if one.judge else "no", one.source])
    print(plain(["name", "benchmark", "files", "LLM judge", "official rule"], lines), end="")
    return 0


def _show(arguments: argparse.Namespace) -> int:
    print(dump(load(arguments.name)), end="")
    return 0


def _score(arguments: argparse.Namespace) -> int:
    benchmark = load(arguments.name)
    questions = read_questions(benchmark, arguments.questions, need_images=False)
    if arguments.frame:
        questions = [{**question, "frame": arguments.frame} for question in questions]
    predictions = read_predictions(benchmark, arguments.predictions)
    answers = score_all(benchmark, questions, predictions, partial=arguments.partial)
    verdicts: dict[str, int] | None = None
    if arguments.judge:
        answers, verdicts = judged(benchmark, answers, read_endpoint(arguments.judge), arguments.judge_cache)
    found = figures(benchmark, answers) | ({"judge": verdicts} if verdicts is not None else {})
    print(plain(*benchmark_cells({benchmark.title: {"predictions": found}})), end="")
    print("\n".join(unmeasured(benchmark, found, len(questions))))
    if arguments.output:
        arguments.output.mkdir(parents=True, exist_ok=True)
        scores = arguments.output / "scores.jsonl"
        scores.unlink(missing_ok=True)
        append(
            scores,
            (
                {"id": a.question["id"], "answer": a.answer, "prediction": a.prediction, "scores": a.scores}
                for a in answers
            ),
        )
        (arguments.output / "figures.json").write_text(json.dumps(found, indent=2) + "\n")
    return 0


def _rules(arguments: argparse.Namespace) -> int:
    """1 where a figure differs without a reason in the list, or nothing at all could be compared."""
    lines = [compare(entry, arguments.folder) for entry in read_list(arguments.list)]
    print(as_markdown(*cells(lines)), end="")
    compared = [line for line in lines if line.missing is None]
    missing = sorted({str(line.missing) for line in lines if line.missing})
    if missing:
        print(f"\n{len(missing)} files are not there, e.g. {missing[0]}")
    unexplained = [line for line in compared if not line.equal and not line.entry.note]
    print(f"\n{len(compared)} compared, {sum(line.equal for line in compared)} equal")
    return int(bool(unexplained) or not compared)


if __name__ == "__main__":
    sys.exit(main())
