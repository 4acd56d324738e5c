"""Rows a second and memory of the mixture's reader, by number of rows and of processes that share them.

    python -m benchmarks.stream [--rows 10000 100000 1000000] [--processes 1 2] [--read 20000]

Rows of about 300 bytes in .jsonl shards are read, shuffled and checked as `pretrain.py` reads them, without encoding. Each
process reads its share until all together have read `--read` rows; memory is the largest resident size of a process, less
what it had before it opened the files. Flat figures mean that nothing depends on how many rows there are.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

from core.rows import check_document
from pretraining.stream import stream_of

SHARDS = 10
WORDS = "A red circle stands left of a blue square, and a green triangle lies below both of them. "


def write(folder: Path, rows: int) -> None:
    """`rows` documents in shards."""
    for shard in range(SHARDS):
        with (folder / f"rows-{shard:05d}-of-{SHARDS:05d}.jsonl").open("w") as file:
            for i in range(shard, rows, SHARDS):
                record = {"id": str(i), "task": "document", "document": f"{i}. {WORDS * 2}"}
                file.write(json.dumps(record) + "\n")


def read(folder: Path, rank: int, ranks: int, rows: int, results: Any) -> None:
    """Read this process's share of `rows` rows; puts seconds until the first row, seconds for all, and bytes."""
    import datasets  # noqa: F401 not counted as the reader's memory

    before, began = _memory(), time.perf_counter()
    first, share = 0.0, rows // ranks
    for number, ((_, record, media), _) in enumerate(
        stream_of(folder, seed=0, rank=rank, ranks=ranks).read(), 1
    ):
        check_document(record, media)
        if number == 1:
            first = time.perf_counter() - began
        if number == share:
            break
    results.put((first, time.perf_counter() - began, _memory() - before))


def _memory() -> int:
    """Largest resident size of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(folder: Path, ranks: int, rows: int) -> dict[str, float]:
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    processes = [context.Process(target=read, args=(folder, r, ranks, rows, results)) for r in range(ranks)]
    for process in processes:
        process.start()
    found = [results.get() for _ in processes]
    for process in processes:
        process.join()
    firsts, seconds, memory = zip(*found, strict=True)
    return {
        "first_row_s": max(firsts),
        "rows_per_second": rows / max(seconds),
        "memory_mb": max(memory) / 1e6,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--read", type=int, default=20_000, help="rows to read, over all processes")
    args = parser.parse_args()
    print(f"{'rows':>10} {'processes':>9} {'first row, s':>12} {'rows/s':>9} {'memory, MB':>10}")
    for rows in args.rows:
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder), rows)
            for ranks in args.processes:
                m = measure(Path(folder), ranks, args.read)
                print(
                    f"{rows:>10,} {ranks:>9} {m['first_row_s']:>12.2f} {m['rows_per_second']:>9,.0f} {m['memory_mb']:>10.1f}"
                )


if __name__ == "__main__":
    main()
