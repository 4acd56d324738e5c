"""Windows: sequences that do not see each other, no padding, losses by kind of data."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from pretraining.documents import Documents
from pretraining.windows import Sums, empty_window, losses_by_kind, window_metrics, windows_of
from vlm.load import load_model
from vlm.packed.forward import packed_forward
from vlm.packed.packing import PrefixTree, Segment, pack

KINDS = ("interleaved", "text", "unseen")


@pytest.fixture(scope="module")
def sequences(processor, world) -> list[tuple[int, Segment]]:
    make = Documents(processor, 4096)
    lines = {kind: (world / f"{kind}.jsonl").read_text().splitlines()[:3] for kind in KINDS[:2]}
    rows = [(KINDS.index(kind), json.loads(line)) for kind, some in lines.items() for line in some]
    return [(kind, segment) for kind, row in rows for segment in make("here", row, Path(world))]


def test_windows_hold_every_sequence_once_and_no_padding(sequences):
    size = max(len(s) for _, s in sequences) + 20
    windows = windows_of(sequences, size)
    assert 1 < len(windows) < len(sequences)
    assert all(window.packed.layout.total == window.tokens <= size for window in windows)
    assert sum(w.tokens for w in windows) == sum(len(s) for _, s in sequences)
    for kind in range(2):
        wanted = sum(int(s.trained.sum()) for k, s in sequences if k == kind)
        assert sum(int((w.kinds == kind).sum()) for w in windows) == wanted


def test_a_sequence_in_a_window_has_the_loss_it_has_alone(tiny, sequences):
    """No attention across documents: loss and gradient are the sums of those of each document alone."""
    model = load_model(tiny)
    sums = Sums(Accelerator(cpu=True), KINDS)
    windows = windows_of(sequences, 10_000)
    assert len(windows) == 1
    out = packed_forward(model, windows[0].packed)
    out.loss.backward()
    together = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    sums.add_window(windows[0])
    sums.add_losses(-out.logprobs.detach(), windows[0].kinds, torch.tensor(True))
    losses = losses_by_kind(sums.total(), KINDS)

    model.zero_grad()
    alone = {0: [0.0, 0], 1: [0.0, 0]}
    for kind, segment in sequences:
        one = packed_forward(model, pack([PrefixTree(segment)]))
        one.loss.backward()
        alone[kind][0] += float(one.loss.detach())
        alone[kind][1] += int(segment.trained.sum())
    for kind in alone:
        assert losses[f"loss/{KINDS[kind]}"] == pytest.approx(alone[kind][0] / alone[kind][1], rel=1e-5)
    assert losses["loss"] == pytest.approx(
        sum(a for a, _ in alone.values()) / sum(n for _, n in alone.values()), rel=1e-5
    )
    assert "loss/unseen" not in losses
    for name, p in model.named_parameters():
        if name in together:
            assert torch.allclose(together[name], p.grad, rtol=1e-3, atol=1e-4), name


def test_padding_counts_what_is_computed_for_nothing(sequences):
    sums = Sums(Accelerator(cpu=True), KINDS)
    (window,) = windows_of(sequences[:1], 1000)
    sums.add_window(window)
    assert window_metrics(sums.total(), 1000, 2.0) == {
        "tokens_per_second": round(window.tokens / 2, 1),
        "tokens/padding": 0.0,
        "tokens/window_filled": window.tokens / 1000,
    }
    sums.add_window(empty_window())
    after = window_metrics(sums.total(), 1000, 2.0)
    assert after["tokens/padding"] == pytest.approx(1 / (window.tokens + 1))
    assert after["tokens/window_filled"] == window.tokens / 1000


def test_a_loss_that_is_not_finite_does_not_count():
    sums = Sums(Accelerator(cpu=True), KINDS)
    sums.add_losses(torch.tensor([math.nan, 1.0]), torch.tensor([0, 1]), torch.tensor(False))
    sums.add_losses(torch.tensor([2.0]), torch.tensor([1]), torch.tensor(True))
    assert losses_by_kind(sums.total(), KINDS) == {"loss": 2.0, "loss/text": 2.0}
