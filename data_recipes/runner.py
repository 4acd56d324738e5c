"""Running a recipe: stages over all workers, decisions between them, then the report.

The workers are datatrove's (its executor gives ranks to processes, remembers which are complete, and starts the others
again after a crash). It was chosen over Ray Data because a recipe is long-lived file work, not a stream into a trainer:
completed parts survive a kill without a cluster service, the same command goes on, and machines need no more in common
than a file system.

On several machines, every one runs the same command with `--machine I/N`; each takes its share of the tasks, the first
also decides between the stages, and all wait for each other's files.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from datatrove.executor.local import LocalPipelineExecutor
from datatrove.pipeline.base import PipelineStep

from data_recipes.bars import bar
from data_recipes.card import write_card
from data_recipes.config import Recipe
from data_recipes.mixture import allot
from data_recipes.output import SHARD, WriteOutput
from data_recipes.records import Context, Signature
from data_recipes.stages import (
    Segment,
    Stage,
    operation_folder,
    part,
    segments,
    stage_folder,
    verdicts_file,
    whole_file,
    write_json,
)
from data_recipes.verdicts import Position, Verdicts, signed_rows

WAIT_SECONDS = 1.0  # between looks at what other machines have finished
LISTED_ERRORS = 20
FINISHED = "finished"  # in the work folder


class RecipeError(ValueError):
    """A recipe that cannot be run to its end; the message says what was expected and what came."""


def run_recipe(
    recipe: Recipe, *, machine: tuple[int, int] = (0, 1), say: Callable[[str], None] = print
) -> Path:
    """Make the recipe's data set and return its folder; goes on where an interrupted run of the same recipe stopped.

    machine: (which, of how many) machines that run this recipe on a common file system.

    Raises:
        RecipeError: a source is missing, no row is left, or with `strict` a row was rejected.
    """
    out, digest = recipe.output.path.resolve(), work_digest(recipe)
    recipe = recipe.model_copy(update={"output": recipe.output.model_copy(update={"path": out})})
    work = out / ".work" / digest
    if finished(out, work):
        say(f"{out}: made by this recipe already ({digest})")
        return out
    work.mkdir(parents=True, exist_ok=True)
    parts = segments(recipe)
    for segment in parts:
        run_stage(recipe, Stage(recipe, segment, work, _alone(recipe)), work, machine, say)
        if segment.number == 0 and recipe.strict:
            refuse_rejected(work, recipe.tasks)
        between_machines(verdicts_file(work, segment.number), machine, partial(decide, recipe, segment, work))
    last = parts[-1].number
    run_stage(recipe, WriteOutput(recipe, last, work, _alone(recipe)), work, machine, say)
    between_machines(work / FINISHED, machine, partial(finish, recipe, work, last))
    say((out / "DATA_CARD.md").read_text(encoding="utf-8"))
    return out


def work_digest(recipe: Recipe) -> str:
    """Hash of the recipe and of the sizes and times of the files it reads: when these change, work starts anew."""
    states = []
    for source in recipe.sources:
        if not source.path.exists():
            if source.kind.generates:
                continue
            raise RecipeError(
                f"source '{source.name}': expected a file or folder, found nothing at {source.path}"
            )
        stat = source.path.stat()
        states.append(
            [source.name, stat.st_size, stat.st_mtime_ns] if source.path.is_file() else [source.name]
        )
    return hashlib.sha256((recipe.digest() + json.dumps(states)).encode()).hexdigest()[:16]


def finished(out: Path, work: Path) -> bool:
    """Whether the output folder holds what this recipe made last."""
    card = out / "data_card.json"
    if not ((work / FINISHED).is_file() and card.is_file()):
        return False
    made = json.loads(card.read_text(encoding="utf-8"))
    return made["made_by"] == work.name and all((out / name).is_file() for name in made["files"])


def run_stage(
    recipe: Recipe, step: PipelineStep, work: Path, machine: tuple[int, int], say: Callable[[str], None]
) -> None:
    """All tasks of a stage: this machine's are run, the others' waited for."""
    which, machines = machine
    first, end = recipe.tasks * which // machines, recipe.tasks * (which + 1) // machines
    logs = work / "log" / step.name.replace(" ", "")
    began = time.perf_counter()
    workers = min(recipe.workers or os.cpu_count() or 1, max(1, end - first))
    executor = LocalPipelineExecutor(
        [step],
        tasks=recipe.tasks,
        workers=workers,
        logging_dir=str(logs),
        local_tasks=end - first,
        local_rank_offset=first,
    )
    with progress(executor, step.name, shown=not _alone(recipe)):
        if end > first:
            executor.run()
        while executor.get_incomplete_ranks():
            time.sleep(WAIT_SECONDS)
    say(f"{step.name}: {recipe.tasks} tasks done, {time.perf_counter() - began:.1f} s")


@contextmanager
def progress(executor: LocalPipelineExecutor, name: str, *, shown: bool) -> Iterator[None]:
    """A bar of the stage's tasks on all machines, while the block runs."""
    ended = threading.Event()

    def follow() -> None:
        with bar(total=executor.tasks, desc=name, unit="task", disable=not shown) as tasks:
            while True:
                last = ended.wait(WAIT_SECONDS)
                tasks.update(executor.tasks - len(executor.get_incomplete_ranks()) - tasks.n)
                if last:
                    return

    thread = threading.Thread(target=follow, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def between_machines(made: Path, machine: tuple[int, int], make: Callable[[], None]) -> None:
    """Have the first machine make a file that all need; the others wait for it."""
    if machine[0] == 0 and not made.exists():
        make()
    while not made.exists():
        time.sleep(WAIT_SECONDS)


def decide(recipe: Recipe, segment: Segment, work: Path) -> None:
    """Write the verdicts of the segment's set operation (or of the mixture, at the end) on its rows."""
    files = [stage_folder(work, segment.number) / "signatures" / part(rank) for rank in range(recipe.tasks)]
    repeated: set[Position] = set()
    with Verdicts.written(verdicts_file(work, segment.number)) as verdicts:
        for signed in signed_rows(files):
            if not verdicts.enter(signed):
                repeated.add(signed.position)

        def unique() -> Iterator[Any]:
            return (s for s in signed_rows(files) if s.position not in repeated)

        def signatures() -> Iterator[Signature]:
            return (s.signature for s in unique())

        if segment.ends is None:
            scratch = stage_folder(work, segment.number) / "mixture.sqlite"
            for position, verdict in allot(unique, recipe.mixture, recipe.seed, scratch):
                verdicts.add(position, verdict)
        else:
            index, name, operation, options = segment.ends
            context = Context(operation_folder(work, recipe, index), recipe.seed)
            for decision in operation.decide(signatures, options, context):
                verdicts.remove(decision, name)
            counts = {f"{name}/{key}": value for key, value in context.counts.items()}
            write_json(stage_folder(work, segment.number) / "decided.json", counts)


def refuse_rejected(work: Path, tasks: int) -> None:
    """RecipeError with the first rejected records, if there are any."""
    lines: list[str] = []
    count = 0
    for rank in range(tasks):
        with (stage_folder(work, 0) / "rejected" / part(rank)).open(encoding="utf-8") as file:
            for line in file:
                count += 1
                if len(lines) < LISTED_ERRORS:
                    entry = json.loads(line)
                    lines.append(f"{entry['origin']}: {entry['reason']}")
    if count:
        more = [f"and {count - len(lines)} more"] if count > len(lines) else []
        raise RecipeError("\n".join([f"{count} records rejected (strict):", *lines, *more]))


def finish(recipe: Recipe, work: Path, last: int) -> None:
    """Collect what was rejected and removed, write the card, and clear the work folder but for the caches."""
    out = recipe.output.path
    shards = [
        SHARD.format(rank=r, tasks=recipe.tasks, suffix=recipe.output.format) for r in range(recipe.tasks)
    ]
    for name, stages in (("rejected", [0]), ("removed", range(last + 2))):
        with whole_file(out / f"{name}.jsonl") as file:
            for number in stages:
                for rank in range(recipe.tasks):
                    found = stage_folder(work, number) / name / part(rank)
                    if found.is_file():
                        with found.open(encoding="utf-8") as lines:
                            shutil.copyfileobj(lines, file)
    for old in out.glob("rows-*"):
        if old.name not in shards:
            old.unlink()  # of an earlier recipe; a reader of the folder would take it in
    if not write_card(recipe, work, last, shards)["rows"]:
        raise RecipeError(f"no row is left; rejected.jsonl and removed.jsonl in {out} say why")
    (work / FINISHED).touch()
    for stage in work.glob("stage*"):
        shutil.rmtree(stage)


def _alone(recipe: Recipe) -> bool:
    """Whether a stage is one task, which then shows its rows go by."""
    return recipe.tasks == 1
