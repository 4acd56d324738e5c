"""The on-policy checks: what they measure, and that each of them can fail."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch

from core.metrics import joined
from engines.rollout import Rollout
from rl.checks import (
    GapCheck,
    GapLimits,
    LogprobGap,
    OffPolicyError,
    check_gap,
    check_sampled,
    gap_metrics,
    gap_of,
    logprob_gap,
)
from vlm.inputs import Encoded


def rollout(version: int) -> Rollout:
    prompt = Encoded(torch.tensor([1]), torch.zeros(3, 1, dtype=torch.long), (1,))
    return Rollout("row-1", prompt, (5,), (1,), (-0.5,), "x", version, "stop")


def test_equal_logprobs_have_no_gap_and_full_sample_size():
    logprobs = torch.tensor([-1.0, -2.0, -0.1])
    assert logprob_gap(logprobs, logprobs) == LogprobGap(mean=0.0, max=0.0, kl=0.0, ess=1.0, tokens=3)


def test_gap_of_two_tokens_by_hand():
    gap = logprob_gap(torch.tensor([0.0, 0.0]), torch.tensor([math.log(2), math.log(0.5)]))
    assert gap.mean == pytest.approx(math.log(2))
    assert gap.max == pytest.approx(math.log(2))
    assert gap.kl == pytest.approx(((2 - 1 - math.log(2)) + (0.5 - 1 + math.log(2))) / 2)
    assert gap.ess == pytest.approx(2.5**2 / (2 * 4.25))


def test_masked_tokens_do_not_count():
    gap = logprob_gap(torch.tensor([-1.0, 0.0]), torch.tensor([-1.0, -9.0]), torch.tensor([1, 0]))
    assert gap == LogprobGap(mean=0.0, max=0.0, kl=0.0, ess=1.0, tokens=1)


def test_kl_estimate_is_the_divergence_of_sampled_tokens():
    generator = torch.Generator().manual_seed(0)
    engine = torch.randn(50, generator=generator).log_softmax(-1)
    trainer = (engine + 0.3 * torch.randn(50, generator=generator)).log_softmax(-1)
    sampled = torch.multinomial(engine.exp(), 200_000, replacement=True, generator=generator)
    exact = (engine.exp() * (engine - trainer)).sum().item()
    assert logprob_gap(engine[sampled], trainer[sampled]).kl == pytest.approx(exact, rel=0.02)


def test_joined_micro_batches_give_the_gap_of_the_whole():
    generator = torch.Generator().manual_seed(0)
    engine, trainer = -torch.rand(2, 10, generator=generator)
    parts = [gap_metrics(engine[part], trainer[part]) for part in (slice(3), slice(3, None), slice(0))]
    assert vars(gap_of(joined(parts))) == pytest.approx(vars(logprob_gap(engine, trainer)), rel=1e-12)
    assert gap_of({}) == gap_of(parts[2]) == LogprobGap(mean=0.0, max=0.0, kl=0.0, ess=1.0, tokens=0)


def test_logprobs_of_different_shapes_are_an_error():
    with pytest.raises(ValueError, match="must have one shape"):
        logprob_gap(torch.zeros(2), torch.zeros(3))


@pytest.mark.parametrize("value", [2e-4, float("nan"), float("inf")])
def test_a_gap_above_the_limit_or_not_a_number_stops_the_run(value):
    gap = LogprobGap(mean=value, max=value, kl=0.0, ess=1.0, tokens=10)
    with pytest.raises(OffPolicyError, match="mean difference .* over 10 tokens"):
        check_gap(gap, GapLimits())


def test_one_token_far_off_stops_the_run():
    with pytest.raises(OffPolicyError, match="max difference"):
        check_gap(LogprobGap(mean=1e-5, max=0.2, kl=0.0, ess=1.0, tokens=10), GapLimits())


def test_a_gap_of_rounding_passes():
    check_gap(LogprobGap(mean=1.4e-5, max=7e-3, kl=0.0, ess=1.0, tokens=10), GapLimits())
    check_gap(LogprobGap(mean=1e-2, max=1.0, kl=0.0, ess=1.0, tokens=10), GapLimits.for_dtype(torch.bfloat16))


def gap_of_kl(kl):
    return LogprobGap(mean=math.sqrt(kl), max=0.0, kl=kl, ess=1.0, tokens=10)


def test_kl_and_sample_size_have_ceilings():
    with pytest.raises(OffPolicyError, match=r"KL between .* 0\.0006 .* limit is 0\.0005"):
        check_gap(gap_of_kl(6e-4), GapLimits.for_dtype(torch.bfloat16))
    with pytest.raises(OffPolicyError, match=r"ESS between .* 0\.98 .* limit is 0\.99"):
        check_gap(LogprobGap(0.0, 0.0, 0.0, ess=0.98, tokens=10), GapLimits.for_dtype(torch.bfloat16))


def test_the_first_gap_is_judged_by_rounding_and_sets_the_floor():
    check = GapCheck(GapLimits(noise=4.0))
    with pytest.raises(OffPolicyError, match=r"more than rounding: KL 5\.0e-12 .* rounding makes 1\.0e-12"):
        check.first(gap_of_kl(5e-12), noise=gap_of_kl(1e-12))
    check.first(gap_of_kl(3e-12), noise=gap_of_kl(1e-12))
    assert check.floor.kl == 3e-12
    check.first(gap_of_kl(1e-13), noise=gap_of_kl(1e-12))
    assert check.floor.kl == 1e-12


def test_a_later_gap_above_the_floor_is_judged_by_rounding_on_its_own_tokens():
    check, measured = GapCheck(GapLimits(noise=4.0), floor=gap_of_kl(1e-12)), []

    def noise(value):
        return lambda: measured.append(value) or gap_of_kl(value)

    check.check(gap_of_kl(4e-12), noise(0.0))
    assert not measured  # below the limit nothing is measured
    check.check(gap_of_kl(5e-12), noise(2e-12))
    assert measured == [2e-12] and check.floor.kl == 2e-12
    with pytest.raises(OffPolicyError, match="more than rounding"):
        check.check(gap_of_kl(2e-11), noise(2e-12))
    with pytest.raises(OffPolicyError, match="KL between"):
        check.check(replace(gap_of_kl(0.0), kl=float("nan")), noise(1.0))


def test_one_unlucky_token_is_not_more_than_rounding():
    check = GapCheck(GapLimits(noise=4.0), floor=gap_of_kl(1e-10))
    check.check(replace(gap_of_kl(1e-10), kl=1e-8), lambda: gap_of_kl(1e-10))


def test_the_noise_of_a_sure_policy_is_never_below_that_of_float32_log_probs():
    GapCheck(GapLimits()).first(gap_of_kl(5e-14), noise=gap_of_kl(0.0))


def test_the_floor_survives_as_json():
    check = GapCheck(GapLimits(), floor=gap_of_kl(1e-12))
    other = GapCheck(GapLimits())
    other.load_state_dict(json.loads(json.dumps(check.state_dict())))
    assert other.floor == check.floor


def test_a_rollout_of_another_version_stops_the_run():
    check_sampled([rollout(3)], 3)
    with pytest.raises(OffPolicyError, match="trainer is at version 3, but 1 rollout.*version 2"):
        check_sampled([rollout(3), rollout(2)], 3)
