"""Preparation of rows for RL with verifiable rewards, as MiMo-VL's (arXiv 2506.03569, section 3.1).

drop_proofs   problems that ask for a proof leave
free_form     multiple choice with a numeric or symbolic answer is asked freely
needs_image   rows that a model solves without the image leave
pass_rate     rows that the policy always or never solves leave
"""

from __future__ import annotations

from typing import Any

from data_recipes.operations import free_form, proofs, rollout_filters

OPERATIONS: dict[str, Any] = {**proofs.OPERATIONS, **free_form.OPERATIONS, **rollout_filters.OPERATIONS}
