"""The trainer's pieces: losses by stage, the label head, the schedule, the order of rows."""

from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from trl.trainer.utils import add_fused_lm_head

from core.rows import read_rows
from sft import trainer as sft_trainer
from sft.data import IGNORE, STAGE_NAMES, Collator
from sft.trainer import StepSampler, add_label_head, lr_factor, stage_losses, stage_sums
from vlm.load import load_model, load_processor


@pytest.fixture(scope="module")
def batch(tiny, rows_file):
    rows = read_rows(rows_file)
    return Collator(load_processor(tiny), rows)([{"row": i} for i in range(6)])


def gradients(model):
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("label_logits", [2**26, 0], ids=["labels alone", "TRL's head"])
def test_loss_and_gradient_equal_plain_cross_entropy(tiny, batch, monkeypatch, label_logits):
    """The head against full logits of the unpatched model, for the CPU path and the one it falls back to."""
    monkeypatch.setattr(sft_trainer, "LABEL_LOGITS", label_logits)
    inputs = {k: v for k, v in batch.items() if k not in ("labels", "stage_ids")}
    plain = load_model(tiny)
    model = copy.deepcopy(plain)
    logits = plain(**inputs).logits[:, :-1].flatten(0, 1)
    reference = F.cross_entropy(logits, batch["labels"][:, 1:].flatten(), ignore_index=IGNORE)
    reference.backward()

    add_fused_lm_head(model)
    add_label_head(model)
    outputs = model(**inputs, labels=batch["labels"], use_cache=False, fused_lm_head=True)
    loss = -outputs.log_probs.sum() / outputs.label_mask.sum()
    loss.backward()
    assert loss.item() == pytest.approx(reference.item(), abs=1e-5)
    for name, expected in gradients(plain).items():
        torch.testing.assert_close(gradients(model)[name], expected, atol=1e-5, rtol=1e-4)


def test_a_batch_without_labels_has_a_zero_gradient(tiny, batch):
    model = load_model(tiny)
    add_fused_lm_head(model)
    add_label_head(model)
    inputs = {k: v for k, v in batch.items() if k not in ("labels", "stage_ids")}
    outputs = model(**inputs, labels=torch.full_like(batch["labels"], IGNORE), fused_lm_head=True)
    outputs.log_probs.sum().backward()
    assert all((g == 0).all() for g in gradients(model).values()) and gradients(model)


def test_stage_losses_weighted_by_their_tokens_sum_to_the_total():
    torch.manual_seed(0)
    stage_ids = torch.randint(0, len(STAGE_NAMES), (4, 30))
    losses = torch.rand(4, 30) * (stage_ids > 0)
    sums = stage_sums(losses, stage_ids)
    logged = stage_losses(sums.tolist())
    tokens = sums[1:, 1]
    by_stage = torch.tensor([logged[f"loss/{name}"] for name in STAGE_NAMES[1:]])
    assert logged["loss"] == pytest.approx(losses.sum().item() / (stage_ids > 0).sum().item(), rel=1e-5)
    assert float((by_stage * tokens).sum() / tokens.sum()) == pytest.approx(logged["loss"], rel=1e-5)


def test_stages_that_do_not_occur_are_not_logged():
    sums = stage_sums(torch.tensor([[0.0, 2.0, 4.0]]), torch.tensor([[0, 1, 1]]))
    assert stage_losses(sums.tolist()) == {"loss": 3.0, "loss/summary": 3.0}


def test_the_learning_rate_rises_then_falls_to_its_floor():
    cosine = [lr_factor(s, 10, 110, "cosine", 0.1) for s in range(111)]
    assert cosine[0] == pytest.approx(1 / 11) and cosine[10] == 1.0 and cosine[110] == pytest.approx(0.1)
    assert cosine[60] == pytest.approx(0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi / 2)))
    assert lr_factor(60, 10, 110, "linear", 0.0) == pytest.approx(0.5)
    assert lr_factor(10**6, 10, 110, "linear", 0.2) == 0.2
    assert lr_factor(109, 10, 110, "constant", 0.2) == 1.0


def test_sorting_keeps_the_rows_of_each_step_and_orders_them_by_length():
    lengths = [(37 * i) % 23 for i in range(50)]
    plain, by_length = StepSampler(50, 8, seed=3), StepSampler(50, 8, seed=3, lengths=lengths)
    a, b = list(plain), list(by_length)
    assert a != b and sorted(a) == list(range(50))
    for start in range(0, 50, 8):
        step = b[start : start + 8]
        assert set(step) == set(a[start : start + 8])
        assert [lengths[i] for i in step] == sorted((lengths[i] for i in step), reverse=True)


def test_the_order_depends_on_seed_and_epoch_alone():
    first = StepSampler(30, 4, seed=1)
    torch.manual_seed(99)
    assert list(first) == list(StepSampler(30, 4, seed=1)) != list(StepSampler(30, 4, seed=2))
    before = list(first)
    first.set_epoch(1)
    assert list(first) != before
