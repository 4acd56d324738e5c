"""A whole stage of the tiny model: what trains, what is logged, resuming at the very row, two processes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
import torch
import yaml
from accelerate.state import AcceleratorState
from PIL import Image

from core.errors import RunError
from core.files.jsonl import read
from core.files.records import read_records
from core.rows import RowError
from pretraining.config import PretrainConfig
from pretraining.documents import Documents
from pretraining.loop import train as run
from tests import two_processes
from tests.matrix import of_the_matrix
from tests.sft.test_loop import assert_same_weights
from vlm.load import load_model
from vlm.parts import part_of

REPOSITORY = Path(__file__).parents[2]
TOKENS = {"captions": 600, "interleaved": 1200, "instruction": 600}


def settings(tiny: Path, world: Path, output: Path, **changes: Any) -> dict[str, Any]:
    """Six steps of 400 tokens in windows of 200; `changes` are dotted keys with `__`."""
    sources = {
        kind: {
            "rows": f"{world / kind}.jsonl",
            "tokens": n,
            "eval_rows": f"{world / f'held_out_{kind}'}.jsonl",
        }
        for kind, n in TOKENS.items()
    }
    config: dict[str, Any] = {
        "model": {"path": str(tiny)},
        "data": {"sources": sources, "window": 200, "tokens_per_step": 400, "shuffle_rows": 8},
        "optimizer": {"learning_rate": 3e-3},
        "output_dir": str(output),
        "log_every": 1,
        "eval_every": 3,
    }
    for key, value in changes.items():
        *parents, last = key.split("__")
        section = config
        for name in parents:
            section = section[name]
        section[last] = value
    return config


def train(*args: Any, **changes: Any) -> Path:
    return run(PretrainConfig.model_validate(settings(*args, **changes)))


def metrics(output: Path) -> list[dict[str, Any]]:
    return [
        {k: v for k, v in line.items() if k != "tokens_per_second"} for line in read(output / "metrics.jsonl")
    ]


@pytest.fixture(scope="module")
def unbroken(tiny, world, tmp_path_factory) -> Path:
    return train(tiny, world, tmp_path_factory.mktemp("run"), save_every=2).parent


def test_losses_are_logged_by_kind_and_fall(unbroken):
    evaluations = [line for line in metrics(unbroken) if "eval_loss" in line]
    assert [line["step"] for line in evaluations] == [0, 3, 6]
    for kind in TOKENS:
        assert evaluations[-1][f"eval_loss/{kind}"] < evaluations[0][f"eval_loss/{kind}"]
    steps = [line for line in metrics(unbroken) if "loss" in line]
    assert [line["step"] for line in steps] == list(range(1, 7))
    assert all(line["tokens/padding"] == 0 and 0.5 < line["tokens/window_filled"] <= 1 for line in steps)
    assert all(line["rows/left_out"] == 0 and line["grad_norm"] > 0 for line in steps)


def test_every_kind_gets_its_tokens(unbroken):
    """To one sequence, which is at most a window."""
    last = metrics(unbroken)[-2]
    for kind, wanted in TOKENS.items():
        assert abs(last[f"tokens/{kind}"] - wanted) < 200, kind
    assert abs(sum(last[f"tokens/{kind}"] for kind in TOKENS) - sum(TOKENS.values())) < 200


def test_a_resumed_stage_equals_an_unbroken_one(tiny, world, unbroken, tmp_path):
    """Killed after step 4's checkpoint, with more in its log; every source goes on at the row where it was."""
    out = tmp_path / "run"
    shutil.copytree(unbroken, out, ignore=shutil.ignore_patterns("checkpoint-6", "final", "finished.json"))
    train(tiny, world, out, save_every=2)
    assert metrics(out) == metrics(unbroken)
    assert_same_weights(unbroken / "final", out / "final")


def test_a_finished_stage_is_left_as_it_is(tiny, world, unbroken, capfd):
    before = (unbroken / "metrics.jsonl").read_bytes()
    assert train(tiny, world, unbroken, save_every=2) == unbroken / "final"
    assert "finished already, at step 6" in "".join(capfd.readouterr())
    assert (unbroken / "metrics.jsonl").read_bytes() == before


def test_other_rows_are_refused(tiny, world, unbroken, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(unbroken, out, ignore=shutil.ignore_patterns("final", "finished.json"))
    (tmp_path / "captions.jsonl").write_text((world / "captions.jsonl").read_text() + "\n")
    changed = settings(tiny, world, out, save_every=2)
    changed["data"]["sources"]["captions"]["rows"] = str(tmp_path / "captions.jsonl")
    with pytest.raises(RunError, match=r"data.sources.captions.rows: '1 files, .* then, '1 files, .* now"):
        run(PretrainConfig.model_validate(changed))


def test_only_the_projector_trains_in_stage_one(tiny, world, tmp_path):
    final = train(
        tiny, world, tmp_path / "run", model__trainable="projector", data__tokens_per_step=2400, eval_every=9
    )
    before, after = (load_model(path) for path in (tiny, final))
    from vlm.families import family_of_model

    family = family_of_model(before)
    after_by_name = dict(after.named_parameters())
    moved = {part_of(family, n) for n, p in before.named_parameters() if not p.equal(after_by_name[n])}
    assert moved == {"projector"}


@pytest.mark.parametrize(
    ("changes", "error", "expected"),
    [
        ({"data__window": 8192}, RunError, "data.window: expected at most 4096, the model's context"),
        ({"data__window": 16}, ValueError, "rows that this process has read"),
    ],
)
def test_what_does_not_fit_is_refused(tiny, world, tmp_path, changes, error, expected):
    with pytest.raises(error, match=expected):
        train(tiny, world, tmp_path / "run", **changes, data__sources={
            "instruction": {"rows": str(world / "instruction.jsonl"), "tokens": 400}})  # fmt: skip


def test_a_data_set_in_another_form_is_refused_by_name(tiny, world, tmp_path):
    (tmp_path / "llava.jsonl").write_text('{"id": "a", "image": "a.png", "conversations": []}\n')
    sources = {
        "text": {"rows": str(world / "text.jsonl"), "tokens": 9},
        "llava": {"rows": str(tmp_path / "llava.jsonl"), "tokens": 9},
    }
    with pytest.raises(
        RowError, match=r"^data\.sources\.llava\.rows: .*got the columns id, image, conversations"
    ):
        train(tiny, world, tmp_path / "run", data__sources=sources)
    assert not (tmp_path / "run").exists()


def test_rows_are_made_of_the_hubs_data_sets_of_every_source(monkeypatch, tiny, world, tmp_path):
    """Which ones are handed over, to stand-ins; tests/data_recipes/test_hub_rows.py makes rows of one."""
    import pretrain

    made: dict[str, Any] = {}
    monkeypatch.setattr(
        "data_recipes.hub_rows.rows_of_hub",
        lambda rows, split=None: made.update({k: (v, split) for k, v in rows.items()}),
    )
    monkeypatch.setattr("pretraining.loop.train", lambda config: made.update(trained=config.output_dir))
    config = settings(tiny, world, tmp_path / "run")
    config["data"]["sources"] = {
        "web": {"rows": "me/web:en", "tokens": 9},
        "ocr": {"rows": "me/ocr", "eval_rows": "me/held", "tokens": 9},
    }
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))
    monkeypatch.setattr("sys.argv", ["pretrain.py", f"--config={tmp_path / 'c.yaml'}"])
    pretrain.main()
    assert made == {
        "data.sources.web.rows": ("me/web:en", "train"),
        "data.sources.ocr.rows": ("me/ocr", "train"),
        "data.sources.web.eval_rows": (None, None),
        "data.sources.ocr.eval_rows": ("me/held", None),
        "trained": str(tmp_path / "run"),
    }


def test_an_unusable_held_out_row_is_refused(tiny, world, tmp_path):
    (tmp_path / "held.jsonl").write_text('{"id": "a", "task": "document", "document": "x<|im_end|>"}\n')
    with pytest.raises(RowError, match=r"held-out rows: .*held.jsonl:1: .*special token"):
        train(tiny, world, tmp_path / "run", data__sources={
            "text": {"rows": str(world / "text.jsonl"), "tokens": 400, "eval_rows": str(tmp_path / "held.jsonl")}})  # fmt: skip


@pytest.mark.slow
@of_the_matrix
def test_two_processes_take_a_stage_together(tiny, world, unbroken, tmp_path):
    """Each reads its own rows; losses before the first step, on the same held-out rows, are those of one process."""
    (tmp_path / "two.yaml").write_text(yaml.safe_dump(settings(tiny, world, tmp_path / "run")))
    two_processes.run(
        REPOSITORY / "pretrain.py",
        ["--config", str(tmp_path / "two.yaml")],
        tmp_path / "log",
        {"CUDA_VISIBLE_DEVICES": ""},
    )
    one, two = metrics(unbroken), metrics(tmp_path / "run")
    assert two[0] == pytest.approx(one[0], rel=1e-5)
    assert two[-1]["eval_loss"] < two[0]["eval_loss"]
    last = two[-2]
    assert abs(sum(last[f"tokens/{kind}"] for kind in TOKENS) - sum(TOKENS.values())) < 2 * 200
    assert all(line["tokens/padding"] < 0.3 for line in two if "loss" in line)


@pytest.fixture
def equal_rows(processor, tmp_path) -> tuple[Path, int]:
    """Eight documents of as many tokens, each a piece of its own, and how many tokens. A step of all of them is the same whoever
    reads which."""
    words = ["red", "blue", "green", "circle", "square", "triangle", "left", "right", "above", "below"]
    rows = []
    for i in range(8):
        Image.new("RGB", (56, 56), (30 * i, 90, 200 - 20 * i)).save(tmp_path / f"{i}.png")
        text = "It shows " + " ".join(words[i % 10 :] + words[: i % 10]) + "."
        parts = [{"type": "image", "text": None}, {"type": "text", "text": text}]
        rows.append({"id": str(i), "task": "document", "document": parts, "images": [f"{i}.png"]})
    path = tmp_path / "rows.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=1)
    make = Documents(processor, 4096)
    lengths = {len(s) for _, record, folder in read_records(path) for s in make("here", record, folder)}
    assert len(lengths) == 1
    return path, lengths.pop()


@pytest.mark.slow
def test_two_processes_under_zero3_in_bfloat16_train_as_one(tiny, equal_rows, tmp_path):
    """No process has a whole weight, and each trains on half of the documents; losses, gradients and weights are those of one."""
    rows, length = equal_rows
    changes = {
        "data__sources": {"documents": {"rows": str(rows), "tokens": 3 * 8 * length}},
        "data__tokens_per_step": 8 * length,
        "data__window": 2 * length,
        "model__dtype": "bfloat16",
        "autocast": "bfloat16",
        "optimizer__epsilon": 1e-3,
    }
    AcceleratorState._reset_state(reset_partial_state=True)  # the precision of a process is settled once
    try:
        train(tiny, rows.parent, tmp_path / "one", **changes)
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
    config = settings(tiny, rows.parent, tmp_path / "run", **changes)
    stage = {"stage": 3, "stage3_param_persistence_threshold": 0, "reduce_bucket_size": "auto"}
    (tmp_path / "zero.json").write_text(json.dumps({"zero_optimization": stage, "bf16": {"enabled": "auto"}}))
    (tmp_path / "two.yaml").write_text(yaml.safe_dump(config | {"deepspeed": str(tmp_path / "zero.json")}))
    arguments = ["--config", str(tmp_path / "two.yaml")]
    two_processes.run(REPOSITORY / "pretrain.py", arguments, tmp_path / "log", {"CUDA_VISIBLE_DEVICES": ""})
    one, two = metrics(tmp_path / "one"), metrics(tmp_path / "run")
    assert [line["step"] for line in one] == [line["step"] for line in two] == [1, 2, 3]
    for a, b in zip(one, two, strict=True):
        assert (b["tokens/documents"], b["rows/documents"]) == (a["tokens/documents"], a["rows/documents"])
        assert b["tokens/padding"] == 0
        assert b["loss"] == pytest.approx(a["loss"], rel=5e-3)
        assert b["grad_norm"] == pytest.approx(a["grad_norm"], rel=5e-2)
    assert one[-1]["loss"] < 0.9 * one[0]["loss"]
    before, after, other = (
        torch.cat([p.detach().float().flatten() for p in load_model(path).parameters()])
        for path in (tiny, tmp_path / "one/final", tmp_path / "run/final")
    )
    assert float((other - after).norm()) < 0.2 * float((after - before).norm())
