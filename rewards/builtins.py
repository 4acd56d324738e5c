"""Short names of the library's rewards. The plugin loader resolves a name without a colon here first."""

from __future__ import annotations

BUILTINS: dict[str, str] = {
    "math": "rewards.math_answer:math_reward",
    "counting": "rewards.counting:counting_reward",
    "choice": "rewards.choice:choice_reward",
    "giou": "rewards.grounding:giou_reward",
    "iou": "rewards.grounding:iou_reward",
    "iou_above_centre": "rewards.grounding:iou_above_centre_reward",
    "box_set": "rewards.grounding:box_set_reward",
    "point_in_box": "rewards.pointing:point_in_box_reward",
    "point_distance": "rewards.pointing:point_distance_reward",
    "point_set": "rewards.pointing:point_set_reward",
    "temporal_iou": "rewards.temporal:temporal_iou_reward",
    "anls": "rewards.text:anls_reward",
    "exact_text": "rewards.text:exact_text_reward",
    "relaxed_numeric": "rewards.numeric:relaxed_numeric_reward",
    "stage_format": "rewards.format:stage_format_reward",
    "soft_overlong": "rewards.penalties:soft_overlong_reward",
    "repetition": "rewards.penalties:repetition_reward",
}
"""Short name -> "module:function"."""
