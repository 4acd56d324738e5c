"""SFT steps that are not finite are skipped, counted and named; too many in a row stop the run; weights stay finite."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from core.files.jsonl import read
from sft.config import SFTConfig
from sft.train import run
from sft.trainer import TraceTrainer


def config(tiny, rows_file, output, **optim) -> SFTConfig:
    optim = {"max_steps": 4, "per_device_batch_size": 2, "gradient_accumulation_steps": 2} | optim
    return SFTConfig.model_validate(
        {
            "model": {"path": str(tiny)},
            "data": {"train": str(rows_file)},
            "optim": optim | {"learning_rate": 3e-3},
            "output_dir": str(output),
            "logging_steps": 1,
            "save_steps": 1,
        }
    )


def break_steps(monkeypatch, steps, what):
    """In these steps (from 1), of one micro-batch the loss, or one value of one weight's gradient, is not finite."""
    loss = TraceTrainer.compute_loss
    seen = [0]

    def broken(self, model, inputs, *args, **options):
        seen[0] += 1
        broken_now = self.state.global_step + 1 in steps and seen[0] % 2
        if broken_now and what == "loss":
            head = model.get_output_embeddings()
            handle = head.register_forward_hook(lambda module, inputs, logits: logits + torch.inf)
            total = loss(self, model, inputs, *args, **options)
            handle.remove()
            return total
        total = loss(self, model, inputs, *args, **options)
        if broken_now:
            weight = next(p for n, p in model.named_parameters() if n.endswith("layers.1.mlp.up_proj.weight"))

            def hook(gradient):
                handle.remove()
                changed = gradient.clone()
                changed[3, 5] = torch.nan
                return changed

            handle = weight.register_hook(hook)
        return total

    monkeypatch.setattr(TraceTrainer, "compute_loss", broken)


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
    run(config(tiny, rows_file, tmp_path, max_grad_norm=max_grad_norm))
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
        run(config(tiny, rows_file, tmp_path, max_skipped_steps=2))
    assert same(weights(tmp_path / "checkpoint-1"), weights(tmp_path / "checkpoint-3"))
    assert not (tmp_path / "final").exists()


def test_weights_that_are_not_finite_are_not_saved(tiny, rows_file, tmp_path, monkeypatch):
    norm = TraceTrainer._get_grad_norm

    def overflow(self, model, grad_norm=None):
        dict(model.named_parameters())["model.language_model.norm.weight"].data[3] = torch.inf
        return norm(self, model, grad_norm)

    monkeypatch.setattr(TraceTrainer, "_get_grad_norm", overflow)
    with pytest.raises(
        FloatingPointError, match=r"language_model\.norm\.weight; such weights are neither saved"
    ):
        run(config(tiny, rows_file, tmp_path))
    assert not list(tmp_path.glob("checkpoint-*/model.safetensors"))


@pytest.mark.parametrize("name", ["learning_rate", "weight_decay", "max_grad_norm", "epsilon", "epochs"])
@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_a_config_holds_finite_numbers_only(tiny, rows_file, tmp_path, name, value):
    values = config(tiny, rows_file, tmp_path).model_dump(mode="json")
    values["optim"][name] = value
    with pytest.raises(ValidationError, match="finite number|greater than"):
        SFTConfig.model_validate(values)
