"""Rows to requests: all rows are checked before the run; a row that fails later is left out, and named.

All processes leave out the same rows, since otherwise some would wait for others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from accelerate import Accelerator
from accelerate.utils import gather_object
from tqdm import tqdm

from core.processes.exchange import dealt
from core.rows import Row, RowError
from engines.prompts import encode_prompt, look_at_prompts
from engines.rollout import Request
from rl.config import GRPOConfig
from rl.prompts.sampling import PromptSampler
from vlm.inputs import Encoded
from vlm.preflight import usable_rows


def look_before(
    accelerator: Accelerator, processor: Any, config: GRPOConfig, rows: Sequence[Row]
) -> set[str]:
    """Check all rows. Returns the ids of those that cannot be used with `prompts.bad_rows: drop`; else raises RowError."""
    prompts = config.prompts
    looked = look_at_prompts(rows, processor, config.engine, prompts.max_frames)
    drop = prompts.bad_rows == "drop"
    _, message = usable_rows(rows, looked.problems, prompts.rows, drop=drop, most=prompts.max_bad_rows)
    if message and accelerator.is_main_process:
        tqdm.write(message)
    return set(looked.problems)


def draw(
    sampler: PromptSampler, accelerator: Accelerator, processor: Any, config: GRPOConfig
) -> list[Request]:
    """This process's share of the next prompts, as requests for G completions of each.

    A row that turns out to be unusable (its file has changed since the start) is left out by all processes, named and
    counted, and another one drawn in its place. RowError if too many are.
    """
    rows = sampler.next_rows()
    encoded: dict[str, Encoded] = {}
    while True:
        mine = dealt(rows, accelerator)
        problems: dict[str, str] = {}
        for row in mine:
            if row["id"] not in encoded:
                try:
                    encoded[row["id"]] = encode_prompt(
                        processor, row, config.engine, config.prompts.max_frames
                    )
                except ValueError as error:  # a MediaError, or a prompt that has become too long
                    problems[row["id"]] = str(error)
        everyone = {name: text for one in gather_object([problems]) for name, text in one.items()}
        if not everyone:
            size = config.rollout.completions_per_prompt
            return [Request(row, encoded[row["id"]], n=size) for row in mine]
        if accelerator.is_main_process:
            for problem in everyone.values():
                tqdm.write(f"left out: {problem}")
        _check_share(sampler, everyone, config.prompts.max_bad_rows)
        rows = sampler.replace(everyone)


def _check_share(sampler: PromptSampler, problems: Mapping[str, str], most: float) -> None:
    count, total = sampler.left_out_count + len(problems), sampler.row_count
    if count > most * total:
        raise RowError(
            f"{count} of {total} rows had to be left out, more than the share prompts.max_bad_rows = {most:g}; the last:"
            f" {list(problems.values())[-1]}"
        )
