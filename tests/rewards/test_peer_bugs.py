"""One test for each reward bug that was found in other systems, named after it. None may happen here."""

from __future__ import annotations

import itertools
import threading

import pytest

from rewards.functions.choice import choice_reward
from rewards.functions.counting import counting_reward
from rewards.functions.format import stage_format_reward
from rewards.functions.grounding import box_set_reward, giou_reward, iou_reward, read_boxes
from rewards.functions.math_answer import math_reward
from rewards.functions.penalties import soft_overlong_reward
from rewards.functions.pointing import point_in_box_reward
from rewards.functions.temporal import temporal_iou_reward
from rewards.stages import THINK, parse

TRUE = {"boxes": [[0, 0, 100, 100]], "frame": "pixel"}
TRACE = "<SUMMARY>s</SUMMARY><CAPTION>c</CAPTION><REASONING>r</REASONING><CONCLUSION>12</CONCLUSION>"


# 1. NeMo-RL bbox_giou_reward


def test_nemo_rl_inverted_box_scored_full_marks() -> None:
    assert giou_reward("[100, 100, 0, 0]", TRUE) == 0.0


def test_nemo_rl_big_inverted_box_scored_a_hundred() -> None:
    assert giou_reward("[1000, 1000, 0, 0]", TRUE) == 0.0


def test_nemo_rl_unparsable_text_beat_an_honest_disjoint_box() -> None:
    assert 0.0 == giou_reward("no idea", TRUE) < giou_reward("[900, 900, 950, 950]", TRUE)


def test_nemo_rl_two_answer_blocks_were_read_greedily() -> None:
    assert parse("<think>a</think><answer>1</answer><answer>2</answer>", THINK).broken == "repeated:answer"
    assert parse("<think>a</think><answer>1</answer>", THINK).conclusion == "1"


def test_nemo_rl_reward_jumped_where_it_switched_from_giou_to_iou() -> None:
    values = [giou_reward(f"[{x / 10}, 0, {100 + x / 10}, 100]", TRUE) for x in range(600)]
    assert max(a - b for a, b in itertools.pairwise(values)) < 0.002


# 2. Visual-RFT LISA GIoU + 1


def test_visual_rft_inverted_box_scored_two() -> None:
    assert giou_reward("[100, 100, 0, 0]", TRUE) == 0.0
    assert giou_reward("[10000, 10000, 0, 0]", TRUE) == 0.0
    assert giou_reward("[0, 0, 100, 100]", TRUE) == 1.0


# 3. VLM-R1 cosine_reward


def test_vlm_r1_cosine_reward_ignored_accuracy_and_came_back_at_twice_the_length() -> None:
    options = {"max_tokens": 1024, "cache_tokens": 512}
    values = [
        soft_overlong_reward("x", {}, completion_ids=range(n), **options)
        for n in (512, 768, 1024, 2048, 4096)
    ]  # type: ignore[arg-type]
    assert values == [1.0, 0.5, 0.0, 0.0, 0.0]


# 4. VLM-R1 IoU and format


def test_vlm_r1_one_pixel_wide_and_normalised_boxes_scored_zero() -> None:
    assert iou_reward("[5, 5, 6, 50]", {"boxes": [[5, 5, 6, 50]]}) == 1.0
    assert iou_reward("[0.1, 0.2, 0.5, 0.6]", {"boxes": [[0.1, 0.2, 0.5, 0.6]], "frame": "norm1"}) == 1.0


def test_vlm_r1_two_boxes_without_area_divided_by_zero() -> None:
    assert (
        iou_reward("[5, 5, 5, 5]", TRUE)
        == giou_reward("[5, 5, 5, 5]", TRUE)
        == box_set_reward("[5, 5, 5, 5]", TRUE)
        == 0.0
    )
    with pytest.raises(ValueError, match=r"answer.boxes: expected \[x1, y1, x2, y2\] with x1 < x2"):
        giou_reward.check_gold({"boxes": [[5, 5, 5, 5]]}, {})  # type: ignore[attr-defined]


def test_vlm_r1_decimals_were_rejected() -> None:
    assert read_boxes("[1.5, 2.25, 30.0, 40.125]") == [(1.5, 2.25, 30.0, 40.125)]


def test_vlm_r1_format_accepted_junk_around() -> None:
    assert stage_format_reward(TRACE) == 1.0
    assert stage_format_reward("junk " + TRACE) == stage_format_reward(TRACE + " junk") == 0.0


def test_vlm_r1_several_images_were_rescaled_by_the_size_of_the_sample_not_the_image() -> None:
    answer = {"boxes": [[10, 10, 20, 20]], "frame": "pixel", "image": 1, "image_size": [200, 100]}
    assert giou_reward("[50, 100, 100, 200]", answer, frame_out="norm1000") == 1.0


# 5. GUI-R1


def test_gui_r1_unbalanced_regex_was_swallowed_and_scored_zero() -> None:
    assert point_in_box_reward("(50, 50)", {"box": [0, 0, 100, 100]}) == 1.0
    assert point_in_box_reward("the button is at (50, 50)", {"box": [0, 0, 100, 100]}) == 1.0


def test_gui_r1_evaluated_what_the_model_wrote(tmp_path) -> None:  # type: ignore[no-untyped-def]
    mark = tmp_path / "evaluated"
    attack = f"__import__('pathlib').Path({str(mark)!r}).touch()"
    answers = {
        math_reward: {"value": "12"},
        counting_reward: {"value": 3},
        giou_reward: TRUE,
        point_in_box_reward: {"box": [0, 0, 9, 9]},
        temporal_iou_reward: {"spans": [[1, 3]]},
        choice_reward: {"letter": "B"},
    }
    for reward, answer in answers.items():
        for text in (
            attack,
            f"[{attack}]",
            f"\\boxed{{{attack}}}",
            f"${attack}$",
            f"({attack}, x)",
            f'{{"x": {attack}}}',
        ):
            assert reward(text, answer) == 0.0
    assert not mark.exists()


# 6. open-r1-multimodal


def test_open_r1_multimodal_multi_line_thinking_was_never_rewarded() -> None:
    assert stage_format_reward(TRACE.replace(">r<", ">first\n\nsecond\nthird<").replace("><", ">\n<")) == 1.0


# 7. verify(answer, gold) in reversed order; the thinking could score


def test_r1_v_called_math_verify_in_reversed_order() -> None:
    """math-verify unwraps an equation of the prediction where the truth is none, but not the other way round."""
    assert math_reward("$x = 5$", {"value": "$5$"}) == 1.0
    assert math_reward("$2x + z = 1$", {"value": "$1$"}) == 1.0
    assert math_reward("$1$", {"value": "$2x + z = 1$"}) == 0.0


def test_r1_v_a_number_in_the_thinking_scored() -> None:
    text = TRACE.replace(">r<", ">it is 12, I am sure: \\boxed{12}<").replace(">12</CON", ">7</CON")
    conclusion = parse(text).conclusion
    assert conclusion == "7"
    assert math_reward(conclusion, {"value": "12"}) == 0.0


# 8. Format patterns that accept junk


def test_fullmatch_with_dotall_accepted_junk_and_a_second_answer() -> None:
    text = "<think>a</think><answer>1</answer> junk <answer>2</answer>"
    assert parse(text, THINK).stages is None
    assert stage_format_reward(TRACE + TRACE) == 0.0


def test_open_r1_multiline_dollar_accepted_trailing_text() -> None:
    assert (
        parse("<think>\na\n</think>\n<answer>\n1\n</answer>\nand more", THINK).broken
        == "outside:after answer"
    )


def test_trl_think_format_accepted_a_stray_closing_tag() -> None:
    assert parse("<think>a</think>b</think><answer>1</answer>", THINK).broken == "repeated:think"


# 9. Visual-RFT classification


def test_visual_rft_empty_answer_scored_one_by_substring() -> None:
    answer = {"letter": "B", "options": ["cat", "polecat", "dog"]}
    assert (
        choice_reward("", answer)
        == choice_reward("ole", answer)
        == choice_reward("cat polecat dog", answer)
        == 0.0
    )
    assert choice_reward("cat", answer) == 0.0
    assert choice_reward("polecat", answer) == 1.0


# 10. OneThinker


def test_one_thinker_accepted_booleans_and_numbers_in_quotes() -> None:
    for text in ("[false, false, true, true]", '["0", "0", "100", "100"]', '{"boxes": [0, 0, 100, true]}'):
        assert giou_reward(text, TRUE) == 0.0
    assert temporal_iou_reward('{"time": ["1", "3"]}', {"spans": [[1, 3]]}) == 0.0
    assert temporal_iou_reward('{"time": [true, 3]}', {"spans": [[1, 3]]}) == 0.0


# 11. verl


def test_verl_signal_alarm_off_the_main_thread_made_every_math_score_zero() -> None:
    scores: list[float] = []
    thread = threading.Thread(
        target=lambda: scores.append(math_reward(r"\boxed{\frac{1}{2}}", {"value": r"\frac{2}{4}"}))
    )
    thread.start()
    thread.join(60)
    assert scores == [1.0]


def test_verl_without_a_time_limit_a_single_answer_hung_the_run() -> None:
    """See test_math_pool for the limit itself; here an answer that sympy would compute for years."""
    assert math_reward("$9^{9^{9^{9^{9}}}}$", {"value": "$x+1$"}) == 0.0
    assert math_reward("$1/2$", {"value": "$0.5$"}) == 1.0
