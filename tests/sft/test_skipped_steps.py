"""SFT steps that are not finite are skipped, counted and named; too many in a row stop the run; weights stay finite."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

import sft.loop
from core.files.jsonl import read
from sft.config import SFTConfig


def config(tiny, rows_file, output, **optimizer) -> SFTConfig:
    """Steps of 4 rows in several micro-batches."""
    return SFTConfig.model_validate(
        {
            "model": {"path": str(tiny)},
            "data": {"rows": str(rows_file)},
            "optimizer": {"learning_rate": 3e-3} | optimizer,
            "steps": 4,
            "rows_per_step": 4,
            "max_tokens_per_microbatch": 60,
            "output_dir": str(output),
            "log_every": 1,
            "save_every": 1,
            "keep_checkpoints": None,
        }
    )


def break_steps(monkeypatch, steps, what):
    """In these steps (from 1), of one micro-batch the loss, or one value of one weight's gradient, is not finite."""
    forward = sft.loop.packed_forward
    update = sft.loop.update
    now = [0, 0]

    def counted(run, rows):
        now[:] = [run.step + 1, 0]
        return update(run, rows)

    def broken(model, packed, **options):
        now[1] += 1
        if now[0] not in steps or now[1] != 2:
            return forward(model, packed, **options)
        if what == "loss":
            hidden = model.model.language_model.norm.register_forward_hook(lambda *a: a[2] + torch.inf)
            out = forward(model, packed, **options)
            hidden.remove()
            return out
        weight = next(p for n, p in model.named_parameters() if n.endswith("layers.1.mlp.up_proj.weight"))

        def hook(gradient):
            handle.remove()
            changed = gradient.clone()
            changed[3, 5] = torch.nan
            return changed

        handle = weight.register_hook(hook)
        return forward(model, packed, **options)

    monkeypatch.setattr(sft.loop, "update", counted)
    monkeypatch.setattr(sft.loop, "packed_forward", broken)


def weights(folder):
    return load_file(folder / "model.safetensors")


def same(a, b):
    return all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("what", ["loss", "gradient"])
@pytest.mark.parametrize("max_grad_norm", [1.0, 0.0])
def test_a_step_that_is_not_finite_changes_nothing_and_is_counted_and_named(
    tiny, rows_file, tmp_path, monkeypatch, capsys, what, max_grad_norm
):
    break_steps(monkeypatch, {2}, what)
    sft.loop.train(config(tiny, rows_file, tmp_path, max_grad_norm=max_grad_norm))
    steps = list(read(tmp_path / "metrics.jsonl"))
    assert [s["steps/skipped"] for s in steps] == [0, 1, 0, 0]
    assert all(s["loss"] > 0 for s in steps)  # of the micro-batches that had one
    assert steps[1]["grad_norm"] is None and steps[2]["grad_norm"] > 0
    one, two, three = (weights(tmp_path / f"checkpoint-{i}") for i in (1, 2, 3))
    assert same(one, two) and not same(two, three)
    assert all(w.isfinite().all() for w in weights(tmp_path / "final").values())
    assert "step 2 is skipped: its gradient norm is nan" in capsys.readouterr().out


def test_more_in_a_row_than_allowed_stop_the_run(tiny, rows_file, tmp_path, monkeypatch):
    break_steps(monkeypatch, {2, 3, 4}, "gradient")
    with pytest.raises(
        FloatingPointError, match="step 4 is skipped.*3 steps in a row were skipped, at most 2"
    ):
        sft.loop.train(config(tiny, rows_file, tmp_path, max_skipped_steps=2))
    assert same(weights(tmp_path / "checkpoint-1"), weights(tmp_path / "checkpoint-3"))
    assert not (tmp_path / "final").exists()


def test_weights_that_are_not_finite_are_not_saved(tiny, rows_file, tmp_path, monkeypatch):
    update = sft.loop.update

    def overflow(run, rows):
        numbers = update(run, rows)
        dict(run.model.named_parameters())["model.language_model.norm.weight"].data[3] = torch.inf
        return numbers

    monkeypatch.setattr(sft.loop, "update", overflow)
    with pytest.raises(
        FloatingPointError, match=r"language_model\.norm\.weight; such weights are neither saved"
    ):
        sft.loop.train(config(tiny, rows_file, tmp_path))
    assert not list(tmp_path.glob("checkpoint-*/model.safetensors"))


@pytest.mark.parametrize("name", ["learning_rate", "weight_decay", "max_grad_norm", "epsilon"])
@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_a_config_holds_finite_numbers_only(tiny, rows_file, tmp_path, name, value):
    values = config(tiny, rows_file, tmp_path).model_dump(mode="json")
    values["optimizer"][name] = value
    with pytest.raises(ValidationError, match="finite number|greater than"):
        SFTConfig.model_validate(values)
