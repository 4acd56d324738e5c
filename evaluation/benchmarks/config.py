"""Configuration of a benchmark in `evaluate.py`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from core.config import Section
from core.files.paths import PathText


class BenchmarkConfig(Section):
    """An official benchmark (docs/benchmarks.md) and where its files are."""

    benchmark: str
    """Its name (`python -m evaluation.benchmarks list`), or a YAML file of your own."""
    name: str | None = Field(None, pattern=r"^[\w .+-]+$")
    """Name in tables and of the folder with the answers, where a benchmark is asked several times, e.g. on the splits of RefCOCO;
    null: the benchmark's own."""
    questions: PathText
    """The published file or folder with its questions."""
    media: PathText | None = None
    """Folder that relative image and video paths start from; null: as the benchmark is published."""
    limit: int | None = Field(None, ge=1)
    """Ask only the first `limit` records; null: all. Figures of a part are not those of the benchmark, and are marked so."""
    max_tokens: int | None = Field(None, ge=1)
    """Maximum length of an answer in tokens; null: the benchmark's own."""
    frame: Literal["pixel", "resized", "norm1000", "norm1"] = "pixel"
    """What the numbers of boxes and points mean that these checkpoints write: pixels of the image, pixels of the image as resized
    by the processor (Qwen2.5-VL), thousandths (Qwen3-VL), or fractions."""
    judge: PathText | None = None
    """YAML file of an endpoint (base_url, model, …): the LLM judge, where a benchmark officially needs one (`python -m evaluation.benchmarks list`); its replies are kept in
    `judge_cache` of the output folder. null: the rule-based part alone, and the table says so."""
