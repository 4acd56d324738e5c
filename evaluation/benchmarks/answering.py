"""Asking a checkpoint a benchmark's questions, and scoring its answers.

Answers are greedy. Of an answer in the stage grammar the conclusion counts, of any other what `inference.conclusions.shown` makes of
it. Everything is written to `predictions/BENCHMARK/CHECKPOINT.jsonl`, which `python -m evaluation.benchmarks score` scores again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from core.errors import RowError
from core.files.jsonl import append
from core.rows import BrokenRow, Row, check_row
from core.statistics import RowReward, paired_difference
from engines.engine import Engine
from engines.rollout import Request, Rollout, Sampling
from evaluation.benchmarks.benchmark import Benchmark, BenchmarkError, load
from evaluation.benchmarks.config import BenchmarkConfig
from evaluation.benchmarks.judging import judged, read_endpoint
from evaluation.benchmarks.questions import Question, read_questions
from evaluation.benchmarks.scoring import Scored, figures, main_values, score_one
from evaluation.benchmarks.tables import unmeasured
from evaluation.measuring import Meter
from inference.conclusions import GRAMMARS, shown
from rewards.geometry.frames import sizes_of, with_model_limits
from vlm.inputs import encode_row
from vlm.load import pixel_limits

UNITS = {
    "pixel": "pixels of the image",
    "resized": "pixels",
    "norm1000": "thousandths of the image's width and height",
    "norm1": "fractions of the image's width and height",
}
_IMAGE = re.compile(r"<image>")


class Asked:
    """A benchmark's questions as rows, read before any engine starts."""

    def __init__(self, config: BenchmarkConfig) -> None:
        """Raises BenchmarkError, ConfigError, RowError: what is wrong with the benchmark's files."""
        self.config = config
        self.benchmark = load(config.benchmark)
        if config.judge is not None and (self.benchmark.judge is None or self.benchmark.judge.prompt is None):
            raise BenchmarkError(
                f"{self.benchmark.title}: expected no judge, which it does not need, got one"
            )
        self.judge = read_endpoint(Path(config.judge)) if config.judge is not None else None
        media = Path(config.media) if config.media is not None else None
        found = read_questions(self.benchmark, Path(config.questions), media=media, limit=config.limit)
        frame = {} if "frame" in found[0] else {"frame": config.frame}
        self.questions: list[Question] = [{**one, **frame, "unit": UNITS[config.frame]} for one in found]
        self.rows = [_row(self.benchmark, question) for question in self.questions]
        self._before: tuple[str, list[RowReward]] | None = (
            None  # the last checkpoint and its main figure's values
        )

    @property
    def title(self) -> str:
        """Name in tables; marked where only a part is asked."""
        part = f", first {len(self.rows)}" if self.config.limit is not None else ""
        return f"{self.config.name or self.benchmark.title}{part}"

    def file(self, output: Path, checkpoint: str) -> Path:
        """Where a checkpoint's answers go."""
        return output / "predictions" / (self.config.name or self.benchmark.name) / f"{checkpoint}.jsonl"

    def answered_by(
        self,
        engine: Engine,
        processor: Any,
        file: Path,
        *,
        judge_cache: Path,
        grammar: str = "stages",
        batch_rows: int = 256,
        max_frames: int = 256,
        show: bool = True,
    ) -> dict[str, Any]:
        """`scoring.figures` of a checkpoint's answers, with `tokens` (mean), `truncated` (answers cut off at the limit), and
        `difference` {"before", "mean", "ci95", "n"}: of the main figure to the checkpoint that answered before, paired; `seconds`,
        `tokens_per_s`, `images_per_s`, `peak_memory_gib` of encoding and answering; `notes`: what the figures leave out.

        file: gets the answers, one a line. judge_cache: folder of a judge's replies. grammar: name in `GRAMMARS`.
        """
        limits = pixel_limits(processor)
        sampling = Sampling(0.0, self.config.max_tokens or self.benchmark.max_tokens)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.unlink(missing_ok=True)
        answers: list[Scored] = []
        rollouts: list[Rollout] = []
        meter = Meter()
        rows = with_model_limits(self.rows, limits)
        bar = tqdm(total=len(rows), desc=f"{file.stem} on {self.title}", unit="question", disable=not show)
        with bar:
            for questions, batch in _batches(self.questions, rows, batch_rows):
                with meter:
                    prompts = [encode_row(processor, row, max_frames=max_frames) for row in batch]
                    requests = [Request(row, prompt) for row, prompt in zip(batch, prompts, strict=True)]
                    done = engine.generate(requests, sampling)
                scored = [
                    score_one(
                        self.benchmark,
                        _placed(question, row),
                        {"answer": shown(rollout.text, GRAMMARS[grammar])},
                    )
                    for question, row, rollout in zip(questions, batch, done, strict=True)
                ]
                answers += scored
                rollouts += done
                bar.update(len(batch))
        found: dict[str, Any] = {}
        if self.judge is not None:
            answers, counts = judged(self.benchmark, answers, self.judge, judge_cache)
            found["judge"] = counts
        append(file, map(_record, answers, rollouts))
        values = main_values(self.benchmark, answers)
        if self._before is not None:
            before, others = self._before
            found["difference"] = {"before": before, **paired_difference(others, values).as_json()}
        self._before = (file.stem, values)
        tokens = [len(rollout.completion_ids) for rollout in rollouts]
        measured = meter.as_json(sum(len(row["images"]) for row in rows))
        result = {**figures(self.benchmark, answers), **found}
        return {
            **result,
            "notes": unmeasured(self.benchmark, result, len(self.questions)),
            **measured,
            "tokens_per_s": sum(tokens) / measured["seconds"] if measured["seconds"] else None,
            "tokens": sum(tokens) / len(tokens),
            "truncated": sum(rollout.finish == "length" for rollout in rollouts),
            "version": self.benchmark.version,
        }


def _row(benchmark: Benchmark, question: Question) -> Row:
    """The row that asks a question: images and videos where the prompt marks them, the rest before the text."""
    text = benchmark.ask(question)
    images, videos = question["images"], question["videos"]
    marked = len(_IMAGE.findall(text))
    if marked > len(images):
        raise BenchmarkError(
            f"{benchmark.title}: question {question['id']!r}: expected {marked} images, as the prompt marks, got {len(images)}"
        )
    parts: list[dict[str, Any]] = [{"type": "video"} for _ in videos]
    parts += [{"type": "image"} for _ in range(len(images) - marked)]
    for i, piece in enumerate(_IMAGE.split(text)):
        if i:
            parts.append({"type": "image"})
        if piece.strip():
            parts.append({"type": "text", "text": piece.strip("\n")})
    row = {
        "id": question["id"],
        "task": benchmark.task,
        "prompt": [{"role": "user", "content": parts}],
        "images": images,
        "videos": videos,
    }
    try:
        return check_row({**row, "answer": None}, Path.cwd())
    except BrokenRow as error:
        raise RowError(f"{benchmark.title}: question {question['id']!r}: {error}") from None


def _placed(question: Question, row: Row) -> Question:
    """The question with the sizes that its frame needs."""
    if question.get("frame") in (None, "pixel") or not row["images"]:
        return question
    size, resized = sizes_of({}, row, of_model=True)
    return {**question, "image_size": size, "resized_size": resized}


def _record(scored: Scored, rollout: Rollout) -> dict[str, Any]:
    return {
        "id": scored.question["id"],
        "response": scored.answer,
        "completion": rollout.text,
        "extracted": scored.prediction,
        "scores": dict(scored.scores),
        "tokens": len(rollout.completion_ids),
        "finish": rollout.finish,
    }


def _batches(
    questions: Sequence[Question], rows: Sequence[Row], size: int
) -> Iterator[tuple[Sequence[Question], Sequence[Row]]]:
    for start in range(0, len(rows), size):
        yield questions[start : start + size], rows[start : start + size]
