"""The card of a trained model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from core.files.model_card import Training, write_card

ROWS = [
    {"id": f"r{i}", "task": "math" if i else "chat", "source": {"dataset": "Geometry3K", "licence": "MIT"}}
    for i in range(5)
]


def training(base: Path, **changes) -> Training:
    values = {
        "method": "GRPO",
        "base": str(base),
        "base_folder": base,
        "data": {"prompts.rows": "/home/ann/secret/rows.jsonl", "data.eval_rows": None},
        "rows": ROWS,
        "steps": 40,
        "settings": {"learning rate": 1e-6},
        "rewards": {"math": ["math (1)"], "chat": ["judge|a (0.5)"]},
    }
    return Training(**(values | changes))


@pytest.fixture
def base(tmp_path) -> Path:
    folder = tmp_path / "runs" / "sft" / "final"
    folder.mkdir(parents=True)
    return folder


def card_of(folder: Path, training: Training, metrics: Path) -> ModelCard:
    write_card(folder, training, metrics)
    return ModelCard.load(folder / "README.md")


def test_a_card_says_data_rewards_settings_and_figures(base, tmp_path):
    metrics = tmp_path / "metrics.jsonl"
    lines = [{"step": i, "reward/mean": i / 4, "eval_loss": None, "seconds/step": 3.0} for i in range(4)]
    metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))
    card = card_of(tmp_path, training(base), metrics)
    for line in (
        "# GRPO of sft/final",
        "| math | 4 |",
        "| Geometry3K, MIT | 5 |",
        "| math | math (1) |",
        "| chat | judge\\|a (0.5) |",
        "| steps | 40 |",
        "| learning rate | 1e-06 |",
        "| `reward/mean` | 0.125 | 0.625 |",
        "Licence of the base model: not known; see its own card.",
    ):
        assert line in card.text.splitlines(), line
    assert "`rows.jsonl` (prompts.rows): 5 rows to train on." in card.text
    assert "secret" not in card.content and "torch " in card.text
    assert card.data.to_dict() == {
        "library_name": "transformers",
        "pipeline_tag": "image-text-to-text",
        "tags": ["onsight", "grpo"],
    }


def test_licence_base_model_and_data_sets_are_passed_on_from_run_to_run(base, tmp_path):
    (base / "README.md").write_text(
        "---\nlicense: apache-2.0\nbase_model: Qwen/Qwen2.5-VL-7B-Instruct\ndatasets: [me/traces]\ntags: [onsight]\n---\n# SFT\n"
    )
    data = card_of(tmp_path, training(base), tmp_path / "none.jsonl").data
    assert (data.license, data.base_model, data.datasets) == (
        "apache-2.0",
        "Qwen/Qwen2.5-VL-7B-Instruct",
        ["me/traces"],
    )


@pytest.mark.parametrize("text", ["no front matter", "---\n[1, 2]\n---\n", "---\na: [\n---\n", "---\n---\n"])
def test_a_base_card_that_cannot_be_read_costs_nothing_but_its_facts(base, tmp_path, text):
    (base / "README.md").write_text(text)
    assert card_of(tmp_path, training(base), tmp_path / "none.jsonl").data.license is None
