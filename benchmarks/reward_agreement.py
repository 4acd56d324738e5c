"""Agreement of the rewards with published verdicts on real model outputs.

    python -m benchmarks.reward_agreement [--data FOLDER]

Prints one table, and each item whose verdict differs with what was read; the last line is JSON. Exit status 1 if agreement is below
the limit in the table. The data sets (FOLDER, default ../shared/data beside the repository, or $ONSIGHT_SHARED/data) are public:
Qwen2.5-Math's 8 samples per prompt, Math-Verify's own test pairs, OmniParser's ScreenSpot-Pro log, Moment-DETR's predictions
on QVHighlights, TimeChat's on Charades-STA and Time-R1's training rows. Each folder's README names its commit and licence.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rewards.functions.math_answer import math_many, math_reward
from rewards.functions.pointing import point_in_box_reward
from rewards.functions.temporal import recall_at_1, temporal_iou_reward
from rewards.mathematics.pool import math_pool


@dataclass(frozen=True)
class Agreement:
    """One line of the table: `agree` of `n` items; `limit`: share that must agree; `differ`: the items that do not."""

    data: str
    reward: str
    what: str
    agree: int
    n: int
    limit: float
    differ: list[str] = field(default_factory=list)

    @property
    def share(self) -> float:
        return self.agree / self.n if self.n else 0.0


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Rows of a JSON-lines file."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def rollouts_math8(data: Path) -> list[Agreement]:
    """8 sampled answers per MATH prompt. The recorded verdicts used the field `gt`, in which one truth is garbled ("4:30p.." for
    "4:30 p.m."); with the data set's own `answer` the eight correct answers to that prompt count as correct."""
    rows = list(read_lines(data / "rollouts_math8" / "math_cot.jsonl"))
    result = []
    for name, limit in (("gt", 0.996), ("answer", 0.96)):
        answers = [{"value": row[name]} for row in rows for _ in row["response"]]
        responses = [response for row in rows for response in row["response"]]
        verdicts = [verdict for row in rows for verdict in row["score"]]
        scores = math_many(responses, answers, [{}] * len(answers))
        differ = [
            f"truth {answer['value']!r}, ours {score:g}, recorded {verdict}: …{response[-60:]!r}"
            for answer, response, score, verdict in zip(answers, responses, scores, verdicts, strict=True)
            if bool(score) != verdict
        ]
        total = len(responses)
        what = f"recorded verdicts, truth = `{name}`"
        result.append(Agreement("rollouts_math8", "math", what, total - len(differ), total, limit, differ))
    return result


def answer_equivalence(data: Path) -> list[Agreement]:
    """Pairs of Math-Verify's regression tests with the expected verdict."""
    rows = list(read_lines(data / "answer_equivalence" / "pairs.jsonl"))
    differ = []
    for row in rows:
        score = math_reward(row["pred"], {"value": row["gold"]})
        if score != row["expected"]:
            differ.append(
                f"{row['source']}: truth {row['gold']!r}, predicted {row['pred'][-80:]!r}, ours {score:g}"
            )
    return [
        Agreement(
            "answer_equivalence", "math", "expected verdicts", len(rows) - len(differ), len(rows), 1.0, differ
        )
    ]


def gui_points(data: Path) -> list[Agreement]:
    """The published verdict of every ScreenSpot-Pro prediction in the log."""
    rows = list(read_lines(data / "gui_points" / "logs_sspro_omniv2.jsonl"))
    differ = []
    for row in rows:
        x, y = row["pred"]
        score = point_in_box_reward(f"({x}, {y})", {"box": row["bbox"], "frame": "pixel"})
        if bool(score) != (row["correctness"] == "correct"):
            differ.append(
                f"idx {row['idx']}: point {row['pred']}, box {row['bbox']}, recorded {row['correctness']}, ours {score:g}"
            )
    return [
        Agreement(
            "gui_points",
            "point_in_box",
            "ScreenSpot-Pro verdicts",
            len(rows) - len(differ),
            len(rows),
            1.0,
            differ,
        )
    ]


def tvg(data: Path) -> list[Agreement]:
    """Time-R1's recorded IoU (its `difficulty`, in percent) against the IoU of its recorded prediction, read from text."""
    rows = json.loads((data / "tvg" / "timer1_train_2k5.subset.json").read_text(encoding="utf-8"))
    differ = []
    for row in rows:
        start, end = row["pred"]
        score = temporal_iou_reward(f"[{start}, {end}]", {"spans": [row["timestamp"]]})
        if abs(100.0 * score - row["difficulty"]) > 1e-9:
            differ.append(
                f"{row['video']}: true {row['timestamp']}, predicted {row['pred']}, recorded {row['difficulty']}"
            )
    return [
        Agreement(
            "tvg (Time-R1)",
            "temporal_iou",
            "recorded IoU, equal to 1e-11",
            len(rows) - len(differ),
            len(rows),
            1.0,
            differ,
        )
    ]


def retrieval_figures(data: Path) -> list[tuple[str, str, str]]:
    """R@1 as (data, ours on these rows, the published figure for the full set). The rows here are parts of the full sets."""
    folder = data / "tvg"
    truths = list(read_lines(folder / "qvhighlights_val.subset.jsonl"))
    predictions = {
        row["qid"]: row["pred_relevant_windows"]
        for row in read_lines(folder / "qvhighlights_sample_val_preds.subset.jsonl")
    }
    best = [tuple(predictions[row["qid"]][0][:2]) if predictions[row["qid"]] else None for row in truths]
    windows = [[tuple(window) for window in row["relevant_windows"]] for row in truths]
    highlights = " / ".join(f"{100 * recall_at_1(best, windows, t):.1f}" for t in (0.5, 0.7))
    annotations = json.loads((folder / "timechat_tvg_gt.json").read_text(encoding="utf-8"))["annotations"]
    answers = json.loads((folder / "timechat_tvg_pred.json").read_text(encoding="utf-8"))
    spans = [answers[str(row["id"])]["timestamp"] for row in annotations]
    top = [tuple(span[0]) if span else None for span in spans]
    true = [[tuple(row["timestamp"])] for row in annotations]
    timechat = " / ".join(f"{100 * recall_at_1(top, true, t):.1f}" for t in (0.3, 0.5, 0.7))
    empty = sum(span is None for span in top)
    return [
        (f"QVHighlights, {len(truths)} of 1,550 queries, R@1 at 0.5 / 0.7", highlights, "53.9 / 34.8"),
        (f"TimeChat, {len(annotations)} of 500 queries ({empty} unanswered), R@1 at 0.3 / 0.5 / 0.7", timechat, "9.0 / 3.4 / 1.4"),
    ]  # fmt: skip


def measured(folder: Path) -> tuple[list[Agreement], list[tuple[str, str, str]], list[str]]:
    """Agreements and retrieval figures of the data sets found, and the names of missing files."""
    lines: list[Agreement] = []
    figures: list[tuple[str, str, str]] = []
    absent: list[str] = []
    for part, into in (
        *((part, lines) for part in (rollouts_math8, answer_equivalence, gui_points, tvg)),
        (retrieval_figures, figures),
    ):
        try:
            into += part(folder)  # type: ignore[arg-type, operator]
        except FileNotFoundError as error:
            absent.append(str(error.filename))
    return lines, figures, absent


def main(argv: list[str] | None = None) -> int:
    """Print the table; returns 1 if any agreement is below its limit, or nothing could be measured."""
    default = Path(os.environ.get("ONSIGHT_SHARED", Path(__file__).parents[2] / "shared")) / "data"
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=default, help="folder of the recorded outputs")
    folder = parser.parse_args(argv).data
    if not folder.is_dir():
        parser.error(f"--data: no folder {folder} (set ONSIGHT_SHARED to the folder that holds data/)")
    lines, figures, absent = measured(folder)
    math_pool().close()

    print("| recorded outputs | reward | compared with | agree | of | share | at least |")
    print("|---|---|---|---:|---:|---:|---:|")
    for line in lines:
        share = f"{100 * line.share:.1f} % | {100 * line.limit:.1f} %"
        print(f"| {line.data} | {line.reward} | {line.what} | {line.agree} | {line.n} | {share} |")
    print("\n| retrieval | these rows | recorded for the full set |\n|---|---:|---:|")
    for name, ours, recorded in figures:
        print(f"| {name} | {ours} | {recorded} |")
    for line in lines:
        for text in line.differ:
            print(f"\n{line.data} ({line.what}) differs: {text}", end="")
    for file in absent:
        print(f"\nnot measured, no file {file}", end="")
    passed = bool(lines) and all(line.share >= line.limit for line in lines)
    print(
        "\n\n"
        + json.dumps(
            {
                "passed": passed,
                "absent": absent,
                "agreement": {f"{line.data}: {line.what}": line.share for line in lines},
            }
        )
    )
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
