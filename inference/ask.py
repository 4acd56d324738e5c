"""Ask a model one question, and watch the search.

    python -m inference ask --model runs/sft/final --image photo.jpg --question "How many red shapes are there?"

The stages appear on the terminal as they are chosen; what is printed is the conclusion alone, unless --stages asks for all.
Settings as for the other programs: --config FILE.yaml and `dotted.key=value` (`--help` lists them).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.text import Text

from core.config import ConfigError, describe, dump, read_config
from core.errors import RowError
from core.processes.explained import explained
from core.rows import BrokenRow, Row, check_row
from inference.conclusions import shown
from inference.config import AnswerConfig
from inference.types import Answer, Node, Question

SLICE_TOKENS = 32  # generated between two refreshes of the view


class AskConfig(AnswerConfig):
    """Settings of `python -m inference ask`."""

    seed: int = 0
    """Seed of the candidates."""
    task: str = "chat"
    """Task by which judges of kind `reward` are routed."""


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m inference ask",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"settings:\n{describe(AskConfig)}",
        allow_abbrev=False,
    )
    parser.add_argument("--question", required=True, help="the question")
    parser.add_argument(
        "--image", action="append", default=[], metavar="FILE", help="an image; may be repeated"
    )
    parser.add_argument(
        "--video", action="append", default=[], metavar="FILE", help="a video; may be repeated"
    )
    parser.add_argument("--stages", action="store_true", help="print all stages, not the conclusion alone")
    parser.add_argument("--tree", type=Path, metavar="FILE.json", help="write every candidate of the search")
    parser.add_argument("--config", type=Path, metavar="FILE.yaml", help="the YAML file")
    parser.add_argument("--dry-run", action="store_true", help="print the resolved settings and stop")
    short = {
        "--model": ("model.path", "folder of the checkpoint"),
        "--method": (
            "method.method",
            "greedy, best_of_n, self_consistency, stage_beam, sentence_beam or retracing",
        ),
        "--candidates": ("method.candidates", "candidates at each choice"),
        "--judge": ("method.judge", "who chooses"),
        "--grammar": ("grammar", "stages, think or none"),
        "--max-tokens": ("max_tokens", "longest answer, in tokens"),
    }
    for flag, (key, words) in short.items():
        parser.add_argument(flag, dest=key, metavar="VALUE", help=f"{words} ({key})")
    parser.add_argument("overrides", nargs="*", metavar="dotted.key=value", help="other settings")
    arguments = parser.parse_intermixed_args(argv)
    given = [f"{key}={value}" for key, _ in short.values() if (value := getattr(arguments, key)) is not None]
    try:
        config = read_config(AskConfig, arguments.config, [*given, *arguments.overrides])
    except ConfigError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None
    if arguments.dry_run:
        print(dump(config), end="")
        return
    with explained():
        row = row_of(arguments.question, arguments.image, arguments.video, config.task)
        answer, question = ask(config, row)
        if arguments.tree:
            arguments.tree.write_text(
                json.dumps(as_json(answer, question), indent=2, ensure_ascii=False) + "\n"
            )
        print(answer.rollout.text if arguments.stages else shown(answer.rollout.text, question.names))


def row_of(question: str, images: Sequence[str], videos: Sequence[str], task: str) -> Row:
    """The question as a row. Raises RowError for a file that is missing or a question that is not plain text."""
    media = [{"type": "image"}] * len(images) + [{"type": "video"}] * len(videos)
    content = [*media, {"type": "text", "text": question}]
    record = {"id": "question", "task": task, "prompt": [{"role": "user", "content": content}]}
    try:
        return check_row(record | {"images": list(images), "videos": list(videos)}, Path.cwd())
    except BrokenRow as error:
        raise RowError(f"the question: {error}") from None


def ask(config: AskConfig, row: Row, *, console: Console | None = None) -> tuple[Answer, Question]:
    """Search for the answer, with a live view of the stages on `console` (None: standard error, if it is a terminal).

    Raises CheckpointError, MediaError, RowError, RewardDataError, PluginError, CalibrationError for what is wrong with the input.
    """
    import torch  # after the settings are known to be right: this takes seconds

    from engines.build import build_engine
    from engines.prompts import misfit
    from inference.methods import open_search
    from inference.rounds import Rounds
    from vlm.inputs import encode_row
    from vlm.load import check_checkpoint, load_processor

    folder = check_checkpoint(config.model.path)
    processor = load_processor(config.model)
    try:
        prompt = encode_row(processor, row, max_frames=config.max_frames)
    except ValueError as error:
        raise RowError(f"the question: {error}") from None
    if problem := misfit(len(prompt), len(prompt.images), len(prompt.videos), config.engine):
        raise RowError(f"the question: {problem}")
    with ExitStack() as stack:
        search = open_search(stack, config, processor, config.grammar, None)
        method = search.method(config.method)
        search.check_row(config.method, row)
        question = search.question(row, prompt, config.method, seed=config.seed)
        dtype = getattr(torch, config.model.dtype)
        engine = build_engine(config.engine, folder, processor, dtype, seed=config.seed)
        stack.enter_context(closing(engine))
        rounds = Rounds(engine, SLICE_TOKENS)
        console = console or Console(stderr=True)
        live = stack.enter_context(Live(console=console, transient=True, auto_refresh=False))
        question.watch = lambda index: live.update(view(question.tree), refresh=True)
        question.partial = lambda text: live.update(view(question.tree, text), refresh=True)
        rounds.start(question, method(question))
        ended: list[tuple[int, Any]] = []
        while not ended:
            ended = rounds.round()
        if isinstance(ended[0][1], Exception):
            raise ended[0][1]
        return ended[0][1], question


def view(tree: Sequence[Node], growing: str | None = None) -> Group:
    """The search so far: a panel for each piece that was chosen, and the text of the one that grows."""
    panels = []
    for index, node in enumerate(tree):
        if node.kept:
            rivals = sum(other.parent == node.parent and other.stage == node.stage for other in tree)
            score = "" if node.score is None else f", score {node.score:.3g}"
            title = f"{node.stage}: 1 of {rivals}{score}" if rivals > 1 else node.stage
            panels.append(Panel(Text(node.text.strip()), title=f"{index} {title}", title_align="left"))
    waiting = sum(not node.kept and node.score is None for node in tree)
    if growing:
        panels.append(Panel(Text(growing), border_style="dim"))
    return Group(*panels, Text(f"{len(tree)} candidates, {waiting} not judged", style="dim"))


def as_json(answer: Answer, question: Question) -> dict[str, Any]:
    """The whole search."""
    text = answer.rollout.text
    return {
        "conclusion": shown(text, question.names),
        "text": text,
        "finish": answer.rollout.finish,
        "spent": answer.spent.as_json(),
        "chosen": list(answer.chosen),
        "tree": answer.tree_as_json(),
    }
