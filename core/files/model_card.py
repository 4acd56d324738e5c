"""The README.md of a trained model: what it was trained from, on what, by which rewards, and what that did to the figures.

Its front matter is what the Hub reads (`huggingface_hub.ModelCard`), so that a run's `final/` can be uploaded as it is:
`hf upload owner/name runs/grpo/final`. Paths of this machine are left out, but for their last part.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import yaml

from core.files.disk import disk_explained
from core.files.hub.cache import fetched
from core.files.hub.ids import HubId, hub_id
from core.files.jsonl import read
from core.files.record import software
from core.rows import Row

FILE = "README.md"
TAG = "onsight"
MEAN_OF = 10
"""Lines at the beginning and at the end of metrics.jsonl whose means the card shows (at most half of them each)."""
FIGURES = ("reward/", "loss", "eval_loss", "length/", "entropy", "logprob_gap/mean", "in_grammar")


@dataclass(frozen=True)
class Training:
    """What a card says.

    method: "SFT" or "GRPO". base: the config's model.path, and its folder. data: {setting: path or Hub id}. rows: those that
    were trained on. settings: {name: value} of the training. rewards: {task: ["function (weight)", …]}; empty for SFT.
    amount: of what was trained on, where `rows` are not held in memory.
    """

    method: str
    base: str
    base_folder: Path
    data: Mapping[str, str | None]
    rows: Sequence[Row]
    steps: int
    settings: Mapping[str, Any]
    rewards: Mapping[str, Sequence[str]] = field(default_factory=dict)
    amount: str = ""


def write_card(folder: Path, training: Training, metrics: Path) -> None:
    """Write README.md into the model's `folder`. metrics: the run's metrics.jsonl, which may be missing."""
    from huggingface_hub import ModelCard, ModelCardData

    inherited = _inherited(training.base_folder)
    own = (
        inherited if TAG in inherited.get("tags", []) else {}
    )  # of an earlier run, which this one goes on from
    base = hub_id(training.base, "model")
    sets = [wanted.repo for text in training.data.values() if text and (wanted := hub_id(text, "dataset"))]
    data = ModelCardData(
        base_model=base.repo if base else own.get("base_model"),
        datasets=sorted({*sets, *own.get("datasets", [])}) or None,
        license=inherited.get("license"),
        license_name=inherited.get("license_name"),
        license_link=inherited.get("license_link"),
        library_name="transformers",
        pipeline_tag="image-text-to-text",
        tags=[TAG, training.method.lower()],
    )
    text = "\n".join(_text(training, base, data, metrics))
    with disk_explained(folder):
        (folder / FILE).write_text(str(ModelCard(f"---\n{data.to_yaml()}\n---\n\n{text}")), encoding="utf-8")


def _inherited(folder: Path) -> dict[str, Any]:
    """The front matter of the base model's own card; empty where it has none that can be read."""
    from huggingface_hub import ModelCard

    if not (folder / FILE).is_file():
        return {}
    try:
        return ModelCard.load(folder / FILE, ignore_metadata_errors=True).data.to_dict()
    except (ValueError, OSError, yaml.YAMLError):  # no YAML, or none that stands for a mapping
        return {}


def _text(training: Training, base: HubId | None, data: Any, metrics: Path) -> list[str]:
    lines = [f"# {training.method} of {_shown(training.base, base)}", ""]
    if training.method == "GRPO":
        lines += [
            "Trained fully on-policy: one optimizer step on the rollouts of each version of the weights.",
            "",
        ]
    if base is not None:
        lines += [f"Base model: `{base.repo}`, commit `{fetched(base, 'model').commit}`.", ""]
    lines += [f"Licence of the base model: {data.license or 'not known; see its own card'}.", ""]
    lines += ["## Data", "", *_data(training), ""]
    if training.rewards:
        rows = [[task, ", ".join(functions)] for task, functions in sorted(training.rewards.items())]
        lines += ["## Rewards", "", *_table(["task", "functions (weights)"], rows), ""]
    settings = {"steps": training.steps, **training.settings}
    lines += ["## Training", "", *_table(["setting", "value"], [[k, v] for k, v in settings.items()]), ""]
    if figures := _figures(metrics):
        lines += ["## Figures of the training", "", *figures, ""]
    lines += ["## Use", "", *_USE, ""]
    lines += ["## Software", "", ", ".join(f"{name} {release}" for name, release in software().items()), ""]
    return lines


_USE = [
    "```python",
    "from transformers import AutoModelForImageTextToText, AutoProcessor",
    "",
    'model = AutoModelForImageTextToText.from_pretrained("FOLDER_OR_NAME", dtype="auto")',
    'processor = AutoProcessor.from_pretrained("FOLDER_OR_NAME")',
    "```",
    "",
    "`vllm serve FOLDER_OR_NAME` serves it.",
]


def _data(training: Training) -> list[str]:
    named = [f"`{_shown(t, hub_id(t, 'dataset'))}` ({name})" for name, t in training.data.items() if t]
    tasks = Counter(str(row.get("task")) for row in training.rows)
    lines = [f"{', '.join(named)}: {training.amount or f'{len(training.rows):,} rows to train on'}.", ""]
    lines += _table(["task", "rows"], [[task, f"{count:,}"] for task, count in tasks.most_common()])
    if sources := Counter(filter(None, (_source(row.get("source")) for row in training.rows))):
        lines += ["", *_table(["source", "rows"], [[s, f"{count:,}"] for s, count in sources.most_common()])]
    return lines


def _source(source: Any) -> str:
    """A row's source in words: the data set and its licence."""
    if isinstance(source, Mapping):
        name = source.get("dataset") or source.get("name")
        licence = source.get("licence") or source.get("license")
        return ", ".join(str(part) for part in (name, licence) if part)
    return str(source or "")


def _figures(metrics: Path) -> list[str]:
    records = list(read(metrics)) if metrics.is_file() else []
    if not records:
        return []
    count = min(MEAN_OF, max(1, len(records) // 2))
    rows = []
    for name in dict.fromkeys(key for record in records for key in record if key.startswith(FIGURES)):
        values = [r[name] for r in records if isinstance(r.get(name), int | float)]
        if values:
            few = min(count, len(values))
            rows.append([f"`{name}`", f"{fmean(values[:few]):.4g}", f"{fmean(values[-few:]):.4g}"])
    return _table(["figure", f"first {count} lines of metrics.jsonl", f"last {count}"], rows) if rows else []


def _shown(text: str, wanted: HubId | None) -> str:
    """A Hub id as it is; of a path only its last part, or two where that is the name of a run's result."""
    path = Path(text)
    if wanted is not None:
        return str(wanted)
    return f"{path.parent.name}/{path.name}" if path.name in ("final", "merged") else path.name


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    cells = [[str(cell).replace("|", "\\|").replace("\n", " ") for cell in row] for row in (head, *rows)]
    lines = [f"| {' | '.join(row)} |" for row in cells]
    return [lines[0], f"|{'---|' * len(head)}", *lines[1:]]
