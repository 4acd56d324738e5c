"""Running a recipe: stages over all workers, decisions between them, then the report.

The workers are datatrove's (its executor gives ranks to processes, remembers which are complete, and starts the others
again after a crash). It was chosen over Ray Data because a recipe is long-lived file work, not a stream into a trainer:
completed parts survive a kill without a cluster service, the same command goes on, and machines need no more in common
than a file system.

On several machines, every one runs the same command with `--machine I/N`; each takes its share of the tasks, the first
also decides between the stages, and all wait for each other's files.

What an earlier run left is used only if everything it was made from is still the same (see inputs.py): the recipe, the
files that it names and the code by the work folder's name, the media that rows name by the notes in its folder `seen`.
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
from multiprocess import set_forkserver_preload

from data_recipes.bars import bar
from data_recipes.config import Recipe
from data_recipes.files.card import write_card
from data_recipes.files.inputs import (
    changes,
    differences,
    digest_of,
    named_inputs,
    note,
    noting,
    read_notes,
    write_notes,
)
from data_recipes.files.output import SHARD, WriteOutput, WriteParquet, join_tasks, rows_written
from data_recipes.hub_sources import local_sources
from data_recipes.mixture import allot
from data_recipes.records import Context, Signature
from data_recipes.stages import (
    Segment,
    Stage,
    operation_folder,
    part,
    seen_file,
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
    recipe: Recipe,
    *,
    machine: tuple[int, int] = (0, 1),
    fresh: bool = False,
    say: Callable[[str], None] = print,
) -> Path:
    """Make the recipe's data set and return its folder; resumes an interrupted run of the same recipe.

    Results whose inputs have changed since are made again, and `say` is told what has changed.
    machine: (which, of how many) machines that run this recipe on a common file system.
    fresh: use nothing of earlier runs but the answers of models, which are kept by the whole text of their requests.

    Raises:
        HubError: a source's data set cannot be had from the Hub.
        RecipeError: a source is missing or changes while it is read, no row is left, or with `strict` a row was rejected.
    """
    out = recipe.output_dir.resolve()
    recipe = local_sources(recipe.model_copy(update={"output_dir": out}))
    if fresh:
        if machine != (0, 1):
            raise RecipeError(
                "--fresh: expected a run on one machine, since the others may be at work already"
            )
        forget(out / ".work")
    work = out / ".work" / work_key(recipe, machine, say)
    redo_changed(work, machine, say)
    if finished(out, work):
        say(
            f"{out}: made by this recipe already ({work.name}), and nothing that it was made from has changed"
        )
        return out
    work.mkdir(parents=True, exist_ok=True)
    parts = segments(recipe)
    for segment in parts:
        run_stage(recipe, Stage(recipe, segment, work, _alone(recipe)), work, machine, say)
        if segment.number == 0:
            refuse_changed(recipe, work)
        if segment.number == 0 and recipe.strict:
            refuse_rejected(work, recipe.tasks)
        between_machines(verdicts_file(work, segment.number), machine, partial(decide, recipe, segment, work))
    last = parts[-1].number
    run_stage(recipe, WriteOutput(recipe, last, work, _alone(recipe)), work, machine, say)
    if recipe.output.format == "parquet":
        run_stage(recipe, WriteParquet(recipe, last, work), work, machine, say)
    between_machines(work / FINISHED, machine, partial(finish, recipe, work, last))
    say((out / "DATA_CARD.md").read_text(encoding="utf-8"))
    return out


# --------------------------------------------------------------------------------------- what earlier runs have left


def work_key(recipe: Recipe, machine: tuple[int, int], say: Callable[[str], None]) -> str:
    """Name of the work: a hash of the recipe, of the files that it names and of the code. Says what has changed."""
    for source in recipe.sources:
        if not source.path.exists() and not source.kind.generates:
            raise RecipeError(
                f"source '{source.name}': expected a file or folder, found nothing at {source.path} (nor is that a data set of the"
                " Hub: owner/name, owner/name@revision or owner/name:split)"
            )
    file = recipe.output_dir / ".work" / "inputs.json"
    before = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    inputs = named_inputs(recipe, before)
    if before and (lines := differences(before, inputs)):
        say("\n  ".join(["changed since the last run, so made again:", *lines]))
    if machine[0] == 0 and inputs != before:
        write_json(file, inputs)
    return _key(recipe, inputs)


def _key(recipe: Recipe, inputs: dict[str, Any]) -> str:
    return hashlib.sha256((recipe.digest() + digest_of(inputs)).encode()).hexdigest()[:16]


def refuse_changed(recipe: Recipe, work: Path) -> None:
    """RecipeError if files that the recipe names changed since this run began to read them."""
    file = recipe.output_dir / ".work" / "inputs.json"
    before = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    inputs = named_inputs(recipe, before)
    if _key(recipe, inputs) != work.name:
        what = differences(before, inputs) or ["files that the recipe names"]
        raise RecipeError("\n  ".join(["changed while they were read; run the same command again:", *what]))


def redo_changed(work: Path, machine: tuple[int, int], say: Callable[[str], None]) -> None:
    """Forget what was made from media that have changed since, and say which; other machines wait until it is done."""
    changed = changed_notes(work)
    while changed and machine[0] != 0:
        time.sleep(WAIT_SECONDS)
        changed = changed_notes(work)
    if not changed:
        return
    paths = sorted({line for lines in changed.values() for line in lines})
    more = [f"and {len(paths) - LISTED_ERRORS} more"] if len(paths) > LISTED_ERRORS else []
    say("\n  ".join(["changed since the last run, so made again:", *paths[:LISTED_ERRORS], *more]))
    if (work / FINISHED).is_file():
        shutil.rmtree(work)
        return
    for name in changed:
        if name.isdigit():  # a task of the first stage; the others' rows are still right
            (work / "log" / "stage0" / "completions" / name).unlink(missing_ok=True)
        seen_file(work, name).unlink()
    verdicts_file(work, 0).unlink(missing_ok=True)
    later = [*work.glob("stage*"), *(work / "log").glob("*")]
    for folder in later:
        if folder.name != "stage0":
            shutil.rmtree(folder, ignore_errors=True)
    for file in (work / "seen").glob("*-*"):  # of the stages after the first
        file.unlink()


def changed_notes(work: Path) -> dict[str, list[str]]:
    """Which parts of the work looked at something that is no longer so, and what that is."""
    found = {path.stem: changes(read_notes(path)) for path in sorted((work / "seen").glob("*.jsonl"))}
    return {name: lines for name, lines in found.items() if lines}


def forget(folder: Path) -> None:
    """Remove what earlier runs left in a recipe's `.work`, but for the answers of models."""
    for entry in folder.iterdir() if folder.is_dir() else ():
        if entry.name == "cache":
            for index in entry.glob("*/*.sqlite*"):
                index.unlink()
        elif entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()


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
    set_forkserver_preload([__name__])  # workers of every stage start with all modules imported
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
    with noting() as notes, Verdicts.written(verdicts_file(work, segment.number)) as verdicts:
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
            workers = recipe.workers or os.cpu_count() or 1
            context = Context(operation_folder(work, recipe, index), recipe.seed, workers)
            for decision in operation.decide(signatures, options, context):
                verdicts.remove(decision, name)
            counts = {f"{name}/{key}": value for key, value in context.counts.items()}
            write_json(stage_folder(work, segment.number) / "decided.json", counts)
        write_notes(
            seen_file(work, f"decided-{segment.number}"), notes
        )  # before the verdicts have their name


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
    out = recipe.output_dir
    if recipe.output.format == "jsonl":
        shards = join_tasks(out, [rows_written(work, last + 1, rank) for rank in range(recipe.tasks)])
    else:
        names = [SHARD.format(rank=r, tasks=recipe.tasks, suffix="parquet") for r in range(recipe.tasks)]
        shards = [name for name in names if (out / name).is_file()]
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
    with noting() as notes:
        for name in shards:
            note(out / name)
    write_notes(seen_file(work, "output-files"), notes)
    (work / FINISHED).touch()
    others = [p for p in work.parent.iterdir() if p.is_dir() and p.name not in (work.name, "cache", "media")]
    for folder in [
        *work.glob("stage*"),
        *others,
    ]:  # others: of this output as earlier recipes would have made it
        shutil.rmtree(folder)


def _alone(recipe: Recipe) -> bool:
    """Whether a stage is one task, which then shows its rows go by."""
    return recipe.tasks == 1
