"""A local task runs through the real lmms-eval on a tiny checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

TASK = """
task: local_colours
dataset_path: json
dataset_kwargs: {data_files: {test: FOLDER/test.jsonl}}
test_split: test
output_type: generate_until
doc_to_visual: !function utils.visual
doc_to_text: !function utils.text
doc_to_target: answer
generation_kwargs: {max_new_tokens: 6, temperature: 0, do_sample: false}
process_results: !function utils.results
metric_list:
  - {metric: answered, aggregation: mean, higher_is_better: true}
"""
UTILS = """
from PIL import Image

def visual(doc):
    return [Image.open(doc["image"])]

def text(doc, lmms_eval_specific_kwargs=None):
    return doc["question"]

def results(doc, results):
    return {"answered": float(isinstance(results[0], str))}
"""


@pytest.fixture
def task(tmp_path: Path) -> Path:
    folder = tmp_path / "tasks" / "local_colours"
    folder.mkdir(parents=True)
    Image.new("RGB", (32, 32), "red").save(tmp_path / "red.png")
    docs = [
        {"image": str(tmp_path / "red.png"), "question": f"Colour {i}?", "answer": "red"} for i in range(3)
    ]
    (folder / "test.jsonl").write_text("".join(json.dumps(doc) + "\n" for doc in docs))
    (folder / "local_colours.yaml").write_text(TASK.replace("FOLDER", str(folder)))
    (folder / "utils.py").write_text(UTILS)
    return folder.parent


def test_a_local_task_runs_on_a_checkpoint(bench, task: Path, monkeypatch) -> None:
    from lmms_eval.evaluator import simple_evaluate
    from lmms_eval.tasks import TaskManager

    from evaluation.lmms.__main__ import register

    monkeypatch.chdir(task)
    register()
    found = simple_evaluate(
        model="onsight",
        model_args=f"checkpoint={bench.one},engine=transformers,max_pixels=50176,grammar=none",
        tasks=["local_colours"],
        task_manager=TaskManager(include_path=str(task), include_defaults=False),
        batch_size=1,
    )
    assert found["results"]["local_colours"]["answered,none"] == 1.0
    samples = found["samples"]["local_colours"]
    assert len(samples) == 3
    assert all(isinstance(one["filtered_resps"][0], str) for one in samples)


def test_unknown_arguments_are_errors(bench) -> None:
    from pydantic import ValidationError

    from evaluation.lmms.model import OnsightChat

    with pytest.raises(ValidationError, match="max_pixel"):
        OnsightChat(str(bench.one), engine="transformers", max_pixel=1)
