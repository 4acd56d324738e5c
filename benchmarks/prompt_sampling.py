"""CPU time of drawing prompts, by the number of rows and the share of them in the easy pool.

python -m benchmarks.prompt_sampling
"""

from __future__ import annotations

import json
import time

from rl.prompts.sampling import PromptSampler

STEPS, PROMPTS = 30, 128


def measure(rows: int, solved: int) -> dict[str, float]:
    """Simulate `STEPS` steps with dynamic sampling: the first `solved` rows are always solved, half of the others have a
    signal."""
    sampler = PromptSampler([{"id": str(i)} for i in range(rows)], PROMPTS, dynamic=True, alpha=0.1)
    for row in range(solved):
        sampler._set_easy(row, True)
    seconds, drawn = [], 0
    for _ in range(STEPS):
        began = time.process_time()
        while sampler.wanted:
            ids = [int(row["id"]) for row in sampler.next_rows()]
            drawn += len(ids)
            sampler.accept(["solved" if i < solved else "signal" if i % 2 else "zero_signal" for i in ids])
        sampler.finish()
        seconds.append(time.process_time() - began)
    return {
        "draw_us": sum(seconds) / drawn * 1e6,
        "worst_step_ms": max(seconds) * 1e3,
        "state_kb": len(json.dumps(sampler.state_dict())) / 1e3,
    }


def main() -> None:
    print(f"{'rows':>9} {'solved':>9} {'us a draw':>10} {'worst step, ms':>15} {'state, KB':>10}")
    for rows in (4_000, 100_000, 500_000):
        for solved in (0, rows // 2, rows * 99 // 100, rows - 20, rows):
            m = measure(rows, solved)
            print(
                f"{rows:>9,} {solved:>9,} {m['draw_us']:>10.0f} {m['worst_step_ms']:>15.0f} {m['state_kb']:>10.1f}"
            )


if __name__ == "__main__":
    main()
