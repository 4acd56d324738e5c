"""Which launches hide the gradients of single tasks. That processes find what one finds: tests/rl/test_process_matrix.py."""

from __future__ import annotations

import pytest

from core.errors import RunError
from rl.interference.gradients import refuse_stage


@pytest.mark.parametrize("stage", [1, 2])
def test_stages_of_zero_that_hide_gradients_are_refused(stage):
    with pytest.raises(
        RunError, match=f"expected ZeRO-3 or a launch without DeepSpeed; with ZeRO stage {stage}"
    ):
        refuse_stage(stage)
    refuse_stage(0)
    refuse_stage(3)
