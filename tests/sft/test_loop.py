"""Whole SFT runs of the tiny model: what trains, what is saved, resuming, several processes, clear errors."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from accelerate.state import AcceleratorState
from PIL import Image
from safetensors.torch import load_file

import sft.rows
from core.errors import RunError
from core.files.jsonl import read
from core.rows import RowError, read_rows, write_rows
from sft.config import SFTConfig
from sft.data import TraceError, encode_example
from sft.loop import train as run
from tests.matrix import of_the_matrix
from tests.sft.plain import padded_batch, padded_loss
from vlm.checkpoint import CheckpointError
from vlm.families import family_of_checkpoint
from vlm.load import load_model, load_processor
from vlm.parts import PRESETS, part_of

REPOSITORY = Path(__file__).parents[2]


def settings(tiny, rows_file, output, **changes) -> dict:
    """A run of 4 steps, 4 rows each; `changes` are dotted keys with `__`."""
    config = {
        "model": {"path": str(tiny)},
        "data": {"rows": str(rows_file)},
        "optimizer": {"learning_rate": 3e-3},
        "steps": 4,
        "rows_per_step": 4,
        "output_dir": str(output),
        "log_every": 1,
        "resume": "never",
    }
    for key, value in changes.items():
        *parents, last = key.split("__")
        section = config
        for name in parents:
            section = section[name]
        section[last] = value
    return config


def train(tiny, rows_file, output, **changes) -> Path:
    return run(SFTConfig.model_validate(settings(tiny, rows_file, output, **changes)))


def metrics(output: Path) -> list[dict]:
    return list(read(output / "metrics.jsonl"))


def assert_same_weights(a: Path, b: Path, **tolerance) -> None:
    one, two = load_file(a / "model.safetensors"), load_file(b / "model.safetensors")
    assert one.keys() == two.keys()
    for name, weight in one.items():
        torch.testing.assert_close(two[name], weight, **(tolerance or {"atol": 0, "rtol": 0}))


def moved_parts(before: Path, after: Path) -> set[str]:
    old, new = (dict(load_model(path).named_parameters()) for path in (before, after))
    family = family_of_checkpoint(after)
    return {part_of(family, name) for name in old if not torch.equal(old[name], new[name])}


SMOOTH = {"optimizer__epsilon": 1e-3}
"""Adam's first steps are the gradient's sign, which rounding flips where it is almost zero; a large epsilon is not."""


@pytest.fixture(scope="module")
def finished(tiny, rows_file, tmp_path_factory):
    """An unbroken run with checkpoints at every second step and held-out rows."""
    output = tmp_path_factory.mktemp("run")
    changes = {"save_every": 2, "data__eval_rows": str(rows_file), "data__eval_limit": 4, "eval_every": 2}
    return train(tiny, rows_file, output, **changes)


@pytest.mark.every_family
def test_a_run_learns_and_leaves_a_checkpoint_that_loads(finished, tiny, rows_file):
    lines = metrics(finished.parent)
    training, held_out = [x for x in lines if "loss" in x], [x for x in lines if "eval_loss" in x]
    assert [x["step"] for x in training] == [1, 2, 3, 4] and [x["step"] for x in held_out] == [2, 4]
    assert training[-1]["loss"] < training[0]["loss"] - 0.2
    wanted = {"step", "loss", "learning_rate", "grad_norm", "tokens_per_second"}
    wanted |= {f"loss/{stage}" for stage in ("summary", "caption", "reasoning", "conclusion", "end")}
    assert wanted <= training[0].keys() and "eval_loss/caption" in held_out[0]
    processor, model = load_processor(finished), load_model(finished)
    loss = padded_loss(model, [encode_example(processor, row) for row in read_rows(rows_file)[:4]])
    assert loss.item() == pytest.approx(held_out[-1]["eval_loss"], abs=1e-4)
    saved = {path.name for path in finished.iterdir()}
    assert {"config.json", "tokenizer.json", "processor_config.json", "chat_template.jinja"} <= saved


@pytest.mark.every_family
def test_a_resumed_run_equals_an_unbroken_one(finished, tiny, rows_file, tmp_path):
    """Stopped in the middle of an epoch (12 rows, 4 a step): same rows, same optimiser, same weights, same log."""
    output = tmp_path / "run"
    shutil.copytree(finished.parent, output)
    shutil.rmtree(output / "checkpoint-4")
    shutil.rmtree(output / "final")
    changes = {"save_every": 2, "data__eval_rows": str(rows_file), "data__eval_limit": 4, "eval_every": 2}
    again = train(tiny, rows_file, output, resume="auto", **changes)
    assert_same_weights(finished, again)
    unbroken, resumed = metrics(finished.parent), metrics(output)
    assert [x["step"] for x in resumed] == [x["step"] for x in unbroken]
    assert [x.get("loss") for x in resumed] == [x.get("loss") for x in unbroken]


def test_an_old_run_is_not_mixed_with_a_fresh_one_or_with_other_rows(finished, tiny, rows_file):
    with pytest.raises(FileExistsError, match="holds checkpoint-4 of an earlier run: set resume: auto"):
        train(tiny, rows_file, finished.parent)
    with pytest.raises(
        RunError, match=r"other settings, .*: data.rows: .12 rows, content \w+. then, .8 rows, content"
    ):
        train(tiny, rows_file, finished.parent, resume="auto", data__limit=8)
    with pytest.raises(FileNotFoundError, match="resume: no checkpoint at"):
        train(tiny, rows_file, finished.parent, resume=str(finished.parent / "checkpoint-9"))


@pytest.mark.parametrize("preset", ["projector", "vision+projector", "language"])
def test_frozen_parts_do_not_move(tiny, rows_file, tmp_path, preset):
    final = train(tiny, rows_file, tmp_path, model__trainable=preset, steps=2)
    assert moved_parts(tiny, final) == set(PRESETS[preset])


def test_small_micro_batches_train_as_one_large_one(tiny, rows_file, tmp_path):
    """A row at a time against all of a step at once, to float32's rounding."""
    whole = train(tiny, rows_file, tmp_path / "a", **SMOOTH)
    pieces = train(tiny, rows_file, tmp_path / "b", max_tokens_per_microbatch=1, **SMOOTH)
    assert_same_weights(whole, pieces, atol=1e-5, rtol=1e-4)


@pytest.mark.every_family
def test_lora_saves_the_adapter_and_a_merged_model_with_the_same_logits(tiny, rows_file, tmp_path):
    """Preset `all`: adapters on the language model, vision and projector in full beside them, resumed half way."""
    changes = {"model__lora": {"r": 4}, "save_every": 2}
    merged = train(tiny, rows_file, tmp_path / "a", **changes)
    assert merged.name == "merged" and (merged.parent / "adapter/adapter_model.safetensors").is_file()

    import peft

    adapter = merged.parent / "adapter"
    wrapped = peft.PeftModel.from_pretrained(load_model(tiny), adapter)
    wrapped.load_state_dict(load_file(adapter / "trained_base.safetensors"), strict=False)
    processor = load_processor(merged)
    batch, _ = padded_batch([encode_example(processor, row) for row in read_rows(rows_file)[:4]])
    with torch.no_grad():
        expected = wrapped.eval()(**batch).logits
        torch.testing.assert_close(load_model(merged).eval()(**batch).logits, expected, atol=2e-5, rtol=1e-4)
    assert moved_parts(tiny, merged) == {"vision", "projector", "language"}

    shutil.copytree(tmp_path / "a", tmp_path / "b")
    shutil.rmtree(tmp_path / "b/checkpoint-4")
    again = train(tiny, rows_file, tmp_path / "b", resume="auto", **changes)
    assert_same_weights(merged, again)


@pytest.mark.slow
@of_the_matrix
def test_two_processes_train_as_one_with_twice_the_batch(tiny, rows_file, tmp_path):
    """gloo DDP through the entry point; with 2 rows per process, many rank batches lack images or videos."""
    single = train(tiny, rows_file, tmp_path / "one", **SMOOTH)
    config = settings(tiny, rows_file, tmp_path / "two", **SMOOTH)
    two_processes(config, tmp_path)
    assert_same_weights(single, tmp_path / "two/final", atol=1e-5, rtol=1e-4)
    losses = [[x["loss"] for x in metrics(tmp_path / run)] for run in ("one", "two")]
    assert losses[1] == pytest.approx(losses[0], abs=1e-4)


@pytest.mark.slow
def test_two_processes_train_everything_on_text_and_count_held_out_rows_once(tiny, rows_file, tmp_path):
    rows = read_rows(rows_file)
    text_rows = [row for row in rows if not row["images"] and not row["videos"]]
    text = write_rows([*text_rows, text_rows[0] | {"id": "again"}], tmp_path / "text.jsonl")
    held_out = write_rows([row for row in rows if row["images"]][:5], tmp_path / "held_out.jsonl")
    changes = {"steps": 2, "eval_every": 2, "data__eval_rows": str(held_out)} | SMOOTH
    single = train(tiny, text, tmp_path / "one", **changes)
    config = settings(tiny, text, tmp_path / "two", **changes)
    two_processes(config, tmp_path)
    assert_same_weights(single, tmp_path / "two/final", atol=1e-5, rtol=1e-4)
    losses = [[x["eval_loss"] for x in metrics(tmp_path / run) if "eval_loss" in x] for run in ("one", "two")]
    assert len(losses[0]) == 1 and losses[1] == pytest.approx(losses[0], abs=1e-5)


@pytest.mark.parametrize("part", ["projector", "vision+projector"])
def test_only_the_vision_side_may_train_on_text(tiny, rows_file, tmp_path, part):
    """Its gradient is zero, and no error."""
    text = write_rows(
        [row for row in read_rows(rows_file) if not row["images"] and not row["videos"]], tmp_path / "t.jsonl"
    )
    final = train(tiny, text, tmp_path / "run", model__trainable=part, steps=1)
    assert moved_parts(tiny, final) == set()


def two_processes(config: dict, folder: Path) -> None:
    """Run `config` by the entry point in two processes with gloo."""
    (folder / "two.yaml").write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*command, "sft.py", "--config", str(folder / "two.yaml")],
        cwd=REPOSITORY,
        env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout.count("SFT done:") + done.stderr.count("SFT done:") == 1


def test_rows_that_cannot_be_trained_on_are_named_before_training(tiny, rows_file, tmp_path):
    rows = read_rows(rows_file)
    rows[1]["trace"] = None
    broken = write_rows(rows, tmp_path / "rows.jsonl")
    with pytest.raises(
        RowError, match=r"1 of 12 rows cannot be used .*\n  row 'row1': field 'trace': expected"
    ):
        train(tiny, broken, tmp_path / "run")


def test_long_rows_are_an_error_or_dropped_and_listed(tiny, rows_file, tmp_path, capfd):
    with pytest.raises(
        TraceError, match=r"12 of 12 rows are longer than data.max_tokens = 3 .*\n  row 'row0': \d+ tokens"
    ):
        train(tiny, rows_file, tmp_path / "a", data__max_tokens=3)
    lengths = sorted(len(encode_example(load_processor(tiny), row)) for row in read_rows(rows_file))
    changes = {"data__max_tokens": lengths[7], "data__long_rows": "drop", "steps": 1}
    train(tiny, rows_file, tmp_path / "b", **changes)
    kept = sum(length <= lengths[7] for length in lengths)
    printed = capfd.readouterr()
    assert f"{12 - kept} of 12 rows are longer" in printed.out + printed.err
    assert f"SFT: {kept} rows from" in printed.out + printed.err


def test_a_model_without_weights_is_one_clear_error(tiny, rows_file, tmp_path):
    shutil.copytree(tiny, tmp_path / "empty")
    (tmp_path / "empty/model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="empty"):
        train(tmp_path / "empty", rows_file, tmp_path / "run")


def test_bfloat16_weights_keep_float32_masters_and_a_resumed_run_goes_on_exactly(tiny, rows_file, tmp_path):
    """Steps far smaller than bfloat16's resolution add up."""
    changes = {"model__dtype": "bfloat16", "optimizer__learning_rate": 1e-5, "save_every": 2}
    final = train(tiny, rows_file, tmp_path / "a", **changes)
    masters = torch.load(final.parent / "checkpoint-4/trainer_state/optimizer.bin")["masters"]
    assert masters and all(master.dtype == torch.float32 for master in masters)
    assert all(w.dtype == torch.bfloat16 for w in load_file(final / "model.safetensors").values())
    shutil.copytree(
        tmp_path / "a", tmp_path / "b", ignore=shutil.ignore_patterns("checkpoint-4", "final", "f*.json")
    )
    again = train(tiny, rows_file, tmp_path / "b", resume="auto", **changes)
    assert_same_weights(final, again)


def test_autocast_computes_in_bfloat16_with_float32_weights(tiny, rows_file, tmp_path):
    plain = train(tiny, rows_file, tmp_path / "a")
    AcceleratorState._reset_state(reset_partial_state=True)  # the precision of a process is settled once
    try:
        mixed = train(tiny, rows_file, tmp_path / "b", autocast="bfloat16")
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
    weights = load_file(mixed / "model.safetensors")
    assert all(w.dtype == torch.float32 for w in weights.values())
    losses = [[x["loss"] for x in metrics(run.parent)] for run in (plain, mixed)]
    assert losses[0] != losses[1] and losses[1] == pytest.approx(losses[0], abs=0.1)


def test_a_dry_run_prints_the_resolved_config_and_an_unknown_key_its_nearest_name(tiny, rows_file, tmp_path):
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(settings(tiny, rows_file, tmp_path / "run")))
    command = [sys.executable, "sft.py", "--config", str(tmp_path / "c.yaml")]
    dry = subprocess.run([*command, "--dry-run"], cwd=REPOSITORY, capture_output=True, text=True, timeout=120)
    assert dry.returncode == 0 and yaml.safe_load(dry.stdout)["steps"] == 4
    assert not (tmp_path / "run").exists()
    wrong = subprocess.run(
        [*command, "optimizer.learnin_rate=1"], cwd=REPOSITORY, capture_output=True, text=True, timeout=120
    )
    assert wrong.returncode == 2 and "did you mean 'optimizer.learning_rate'" in wrong.stderr


def test_every_row_is_looked_at_before_training(tiny, rows_file, tmp_path):
    rows = read_rows(rows_file)
    Image.new("RGB", (600, 2)).save(tmp_path / "strip.png")
    (tmp_path / "cut.png").write_bytes(Path(rows[4]["images"][0]).read_bytes()[:60])
    rows[0]["images"], rows[4]["images"] = [str(tmp_path / "strip.png")], [str(tmp_path / "cut.png")]
    rows[1]["prompt"][0]["content"] = "what<|im_end|>"
    rows[5]["trace"]["reasoning"] = "so " * 5000
    broken = write_rows(rows, tmp_path / "rows.jsonl")
    with pytest.raises(RowError, match="4 of 12 rows cannot be used") as caught:
        train(tiny, broken, tmp_path / "run")
    lines = sorted(str(caught.value).splitlines()[1:])
    for line, (name, reason) in zip(
        lines,
        {
            "row0": "strip.png: expected positive sides with an aspect ratio",
            "row1": "field 'prompt': expected plain text in the user's message, got the special token <|im_end|>",
            "row4": "cut.png (",
            "row5": "expected at most 4096, the model's context",
        }.items(),
        strict=True,
    ):
        assert line.startswith(f"  row '{name}': ") and reason in line
    changes = {"data__bad_rows": "drop", "steps": 1}
    train(tiny, broken, tmp_path / "run", data__max_bad_rows=0.4, **changes)
    with pytest.raises(RowError, match=r"more than the share max_bad_rows = 0\.3"):
        train(tiny, broken, tmp_path / "run2", data__max_bad_rows=0.3, **changes)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_row_that_slips_through_is_left_out_named_and_counted(
    tiny, rows_file, tmp_path, monkeypatch, capfd, workers
):
    """Its image is damaged after the look before the run; a step of two rows goes on with the other one."""
    rows = read_rows(rows_file)[:2]
    image = tmp_path / "late.png"
    Image.new("RGB", (56, 56), "red").save(image)
    rows[0]["images"] = [str(image)]
    path = write_rows(rows, tmp_path / "rows.jsonl")
    look = sft.rows.look_at_rows

    def then_damage(*args, **kwargs):
        looked = look(*args, **kwargs)
        image.write_bytes(b"no image")
        return looked

    monkeypatch.setattr(sft.rows, "look_at_rows", then_damage)
    changes = {"rows_per_step": 1, "data__cache_rows": False, "data__workers": workers}
    train(tiny, path, tmp_path / "run", data__max_bad_rows=0.5, **changes)
    lines = [line for line in metrics(tmp_path / "run") if "loss" in line]
    assert len(lines) == 4 and lines[-1]["rows/left_out"] == 1
    # two epochs of two rows: half the steps had no target
    assert sum(line["loss"] is None for line in lines) == 2
    assert f"left out: row 'row0': expected an image that decodes, got {image}" in capfd.readouterr().err
    Image.new("RGB", (56, 56), "red").save(image)
    with pytest.raises(TraceError, match=r"1 of 2 rows had to be left out .* data.max_bad_rows = 0\.01"):
        train(tiny, path, tmp_path / "run2", **changes)
