"""Short names of the built-in rewards."""

from __future__ import annotations

BUILTINS: dict[str, str] = {
    "math": "rewards.functions.math_answer:math_reward",
    "counting": "rewards.functions.counting:counting_reward",
    "choice": "rewards.functions.choice:choice_reward",
    "giou": "rewards.functions.grounding:giou_reward",
    "iou": "rewards.functions.grounding:iou_reward",
    "iou_above_centre": "rewards.functions.grounding:iou_above_centre_reward",
    "box_set": "rewards.functions.grounding:box_set_reward",
    "point_in_box": "rewards.functions.pointing:point_in_box_reward",
    "point_distance": "rewards.functions.pointing:point_distance_reward",
    "point_set": "rewards.functions.pointing:point_set_reward",
    "action": "rewards.functions.actions:action_reward",
    "action_type": "rewards.functions.actions:action_type_reward",
    "action_point": "rewards.functions.actions:action_point_reward",
    "action_text": "rewards.functions.actions:action_text_reward",
    "action_direction": "rewards.functions.actions:action_direction_reward",
    "action_keys": "rewards.functions.actions:action_keys_reward",
    "outcome": "rewards.functions.outcome:outcome_reward",
    "temporal_iou": "rewards.functions.temporal:temporal_iou_reward",
    "anls": "rewards.functions.text:anls_reward",
    "exact_text": "rewards.functions.text:exact_text_reward",
    "relaxed_numeric": "rewards.functions.numeric:relaxed_numeric_reward",
    "stage_format": "rewards.functions.format:stage_format_reward",
    "soft_overlong": "rewards.functions.penalties:soft_overlong_reward",
    "repetition": "rewards.functions.penalties:repetition_reward",
}
"""Short name -> "module:function"."""
