"""A run folder: atomic checkpoints, which of them to resume from, and whether the run is finished.

config.yaml, identity.json   what the run is (core.files.record)
metrics.jsonl, …             one line per step (core.files.jsonl)
checkpoint-<step>/           with its own config.yaml and identity.json, and checksums.json for all its files
final/                       the result
finished.json                {"step", "result"}, once it is there
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from accelerate import PartialState

from core.errors import RunError
from core.files.checksums import FILE as CHECKSUMS
from core.files.checksums import damage, write_checksums
from core.files.disk import disk_explained, size_of
from core.files.jsonl import keep_until
from core.files.record import Record, changed_software, compare
from core.files.replacing import replacing
from core.processes.ranks import on_main

FINISHED = "finished.json"
PARTIAL = ".partial"
"""What is being written; no other program reads it."""
_NAME = re.compile(r"checkpoint-(\d+)")


@dataclass(frozen=True)
class Start:
    """checkpoint: verified, to resume from; None: start from step 0. finished: result folder of a finished run,
    else None."""

    checkpoint: Path | None = None
    finished: Path | None = None


def begin(
    run: Path, record: Record, resume: str, length: tuple[str, ...], say: Callable[[str], None]
) -> Start:
    """Where the run begins; all processes take part, and get the same answer or the same error.

    resume: "auto" (the newest checkpoint that is whole, if there is one), "never" (a run that is there is an error), or
        a checkpoint's path. length: keys of the config that say how long a run is: a finished one goes on if they differ.

    Raises FileExistsError (an old run, and "never"), FileNotFoundError (no such checkpoint), and RunError: damaged
    checkpoints, or a config that cannot go on.
    """
    on_main(lambda: shutil.rmtree(run / PARTIAL, ignore_errors=True))
    if resume == "never":
        on_main(lambda: _refuse_old(run))
        start = Start()
    else:
        start = _resumed(run, record, resume, length, say)
    if not start.finished:
        on_main(lambda: _open(run, record, start))
    return start


def step_of(checkpoint: Path) -> int:
    """The step in a checkpoint's name; ValueError for other folders."""
    found = _NAME.fullmatch(checkpoint.name)
    if not found:
        raise ValueError(f"{checkpoint}: expected a folder named checkpoint-<step>")
    return int(found.group(1))


def checkpoints(run: Path) -> list[Path]:
    """Complete checkpoints of a run, oldest first. Folders with other names (checkpoint-2-best) are the user's own."""
    found = [p for p in run.glob("checkpoint-*") if _NAME.fullmatch(p.name) and (p / CHECKSUMS).is_file()]
    return sorted(found, key=step_of)


@contextmanager
def writing_checkpoint(
    run: Path, step: int, record: Record, keep: int | None, best: int = 0
) -> Iterator[Path]:
    """A folder to write `checkpoint-<step>` into; all processes take part. When the block ends it gets record, checksums
    and its name, and all but the newest `keep` and that of step `best` go (keep None: none goes)."""
    there = checkpoints(run)
    advice = f"; the newest checkpoint, {there[-1].name}, takes {size_of(there[-1]):,} bytes" if there else ""
    with writing_folder(run / f"checkpoint-{step}", advice) as begun:
        yield begun
        PartialState().wait_for_everyone()  # each process writes its own part
        on_main(lambda: record.write(begun))
        write_checksums(begun)
    if PartialState().is_main_process and keep:
        for old in checkpoints(run)[:-keep]:
            if step_of(old) != best:
                _remove(old)
    PartialState().wait_for_everyone()


@contextmanager
def writing_folder(target: Path, advice: str = "") -> Iterator[Path]:
    """A folder to write into that replaces `target` when the block ends, and is deleted if the block fails; all
    processes take part. Raises RunError that names disk, path and bytes where the disk is full."""
    state = PartialState()
    begun = target.parent / PARTIAL / target.name
    advice += ". What was begun is removed; make room and start the same command again: it goes on from the last checkpoint"
    if state.is_main_process:
        shutil.rmtree(begun, ignore_errors=True)
        begun.mkdir(parents=True)
    state.wait_for_everyone()
    try:
        with disk_explained(target, advice):
            yield begun
    except BaseException:
        shutil.rmtree(begun.parent, ignore_errors=True)
        raise
    state.wait_for_everyone()
    if state.is_main_process:
        if target.exists():
            target.rename(begun.with_name(f"{target.name}.old"))
        begun.rename(target)
        shutil.rmtree(begun.parent)
    state.wait_for_everyone()


def continue_logs(run: Path, names: Sequence[str], step: int, say: Callable[[str], None]) -> None:
    """Restore the run's JSONL files to their state after `step`; all processes take part."""
    for name in names:
        if broken := on_main(partial(keep_until, run / name, step)):
            say(f"{run / name}: {broken} lines were cut off and are left out")


def mark_finished(run: Path, step: int, result: Path) -> None:
    """Mark the run as finished; called by the main process."""
    with replacing(run / FINISHED) as file:
        file.write((json.dumps({"step": step, "result": result.name}) + "\n").encode())


# ------------------------------------------------------------------------------------------------------------ resuming


def _resumed(
    run: Path, record: Record, resume: str, length: tuple[str, ...], say: Callable[[str], None]
) -> Start:
    finished = on_main(lambda: _finished(run)) if resume == "auto" else None
    if finished:
        changed = on_main(lambda: compare(record, run))
        if not any(key in changed for key in length):
            say(f"{run}: finished already, at step {finished['step']}: {run / finished['result']}")
            return Start(finished=run / finished["result"])
    checkpoint = _newest(run, say) if resume == "auto" else _named(run, Path(resume))
    if checkpoint is None:
        if finished:
            raise RunError(
                f"{run}: holds a finished run of {finished['step']} steps and no checkpoint to go on from; choose another"
                " output_dir"
            )
        return Start()
    changed = on_main(lambda: compare(record, checkpoint) | changed_software(checkpoint))
    say(f"going on from {checkpoint}")
    for key, (then, now) in changed.items():
        say(f"  {key}: {then} until then, {now} from now on")
    return Start(checkpoint)


def _newest(run: Path, say: Callable[[str], None]) -> Path | None:
    """The newest undamaged checkpoint; damaged ones are reported and renamed."""
    there = on_main(lambda: checkpoints(run))
    for checkpoint in reversed(there):
        problem = damage(checkpoint)
        if problem is None:
            return checkpoint
        aside = on_main(partial(_set_aside, checkpoint, "damaged"))
        say(f"{checkpoint} is damaged: {problem}; set aside as {aside.name}")
    if there:
        raise RunError(
            f"{run}: no checkpoint is whole ({', '.join(p.name for p in there)} are damaged, set aside as"
            " checkpoint-*.damaged); to begin anew choose another output_dir, or remove metrics.jsonl and these folders"
        )
    return None


def _named(run: Path, checkpoint: Path) -> Path:
    if not on_main(checkpoint.is_dir):
        raise FileNotFoundError(f"resume: no checkpoint at {checkpoint}")
    if not _NAME.fullmatch(checkpoint.name):
        raise RunError(f"resume: expected a folder named checkpoint-<step>, got {checkpoint}")
    if problem := damage(checkpoint):
        raise RunError(f"resume: {checkpoint} is damaged: {problem}")
    others = on_main(lambda: checkpoints(run))
    if others and checkpoint.resolve().parent != run.resolve():
        raise RunError(f"resume: {checkpoint} is of another run than {others[-1]}; choose another output_dir")
    return checkpoint


def _refuse_old(run: Path) -> None:
    there = checkpoints(run)
    metrics = run / "metrics.jsonl"
    if there or (run / FINISHED).exists() or (metrics.exists() and metrics.stat().st_size):
        held = f"{there[-1].name} of an earlier run" if there else "an earlier run"
        raise FileExistsError(
            f"output_dir {run} holds {held}: set resume: auto to go on from it, remove it, or choose another output_dir"
        )


def _open(run: Path, record: Record, start: Start) -> None:
    """Make the folder this run's: what it is goes into it, and later checkpoints of what it replaces are set aside."""
    (run / FINISHED).unlink(missing_ok=True)
    if start.checkpoint is not None:
        for later in checkpoints(run):
            if step_of(later) > step_of(start.checkpoint):
                _set_aside(later, "replaced")
    record.write(run)


def _remove(folder: Path) -> None:
    """Delete a checkpoint; if killed half-way, nothing that looks like one is left."""
    going = folder.parent / PARTIAL / folder.name
    going.parent.mkdir(exist_ok=True)
    folder.rename(going)
    shutil.rmtree(going.parent)


def _set_aside(folder: Path, why: str) -> Path:
    """Rename the folder so that no run looks for it."""
    aside, number = folder.with_name(f"{folder.name}.{why}"), 1
    while aside.exists():
        number += 1
        aside = folder.with_name(f"{folder.name}.{why}-{number}")
    folder.rename(aside)
    return aside


def _finished(run: Path) -> dict[str, Any] | None:
    try:
        said = json.loads((run / FINISHED).read_text())
        return said if (run / said["result"]).is_dir() else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
