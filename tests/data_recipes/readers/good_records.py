"""One good record of every format, and the options with which it is read."""

from __future__ import annotations

import json
from typing import Any

NAN = float("nan")
STAGES = "<SUMMARY>a</SUMMARY><CAPTION>b</CAPTION><REASONING>c</REASONING><CONCLUSION>4</CONCLUSION>"
ASKED = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "A cat."}]
CHAT = [{"role": "user", "content": "<image>What?"}, {"role": "assistant", "content": "A cat."}]
BOX = [
    {"role": "user", "content": "<image>Where?"},
    {"role": "assistant", "content": '{"bbox_2d": [1, 2, 9, 8]}'},
]

GOOD: dict[str, tuple[Any, dict]] = {
    "rows": (
        {
            "id": "a",
            "task": "math",
            "prompt": [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "1 + 1?"}]}],
            "images": ["a.png"],
            "answer": {"value": "2"},
            "trace": {"summary": "a", "caption": "b", "reasoning": "c", "conclusion": "2"},
            "source": "made",
            "more": {"x": [1, "y"]},
        },
        {},
    ),
    "llava": ({"id": "1", "image": "a.png", "conversations": ASKED}, {}),
    "sharegpt": ({"conversations": ASKED, "images": ["a.png"], "system": "Be brief.", "tools": "[]"}, {}),
    "llamafactory_v1": (
        {
            "messages": [
                {
                    "role": "user",
                    "content": [{"type": "image_url", "value": "a.png"}, {"type": "text", "value": "?"}],
                },
                {"role": "assistant", "content": [{"type": "text", "value": "A cat."}], "loss_weight": 1.0},
            ]
        },
        {},
    ),
    "ms_swift": (
        {
            "messages": [
                {"role": "user", "content": "<image>Find <ref-object>"},
                {"role": "assistant", "content": "<bbox>"},
            ],
            "images": ["a.png"],
            "objects": {"ref": ["cat"], "bbox": [[1, 2, 9, 8]], "image_id": [0], "bbox_type": "real"},
        },
        {"gold": "objects", "task": "grounding"},
    ),
    "llava_video": (
        {
            "id": "1",
            "video": "v.mp4",
            "data_source": "0_30_s_academic_v0_1",
            "conversations": [
                {
                    "from": "human",
                    "value": "<image>\nWhich colour?\nA. Grey\nB. Red\nPlease respond with only the letter.",
                },
                {"from": "gpt", "value": "A."},
            ],
        },
        {"turns": "rows"},
    ),
    "videochat": (
        {
            "video": "v.mp4",
            "start": 0.2,
            "end": 1.5,
            "QA": [{"i": "Answer briefly.", "q": "Which colour?", "a": "Grey, and it gets lighter."}],
        },
        {},
    ),
    "video_r1": (
        {
            "problem_id": 2,
            "problem": "Which colour is it?",
            "data_type": "video",
            "problem_type": "multiple choice",
            "options": ["A. Grey", "B. Red"],
            "process": "<think>It gets lighter.</think>",
            "solution": "<answer>A</answer>",
            "path": "./v.mp4",
            "data_source": "CLEVRER",
        },
        {},
    ),
    "llava_cot": (
        {"id": "1", "image": "a.png", "conversations": [ASKED[0], {"from": "gpt", "value": STAGES}]},
        {},
    ),
    "mathv": (
        {
            "id": "1",
            "question": "What? <image1>",
            "options": ["2", "3"],
            "image": "a.png",
            "answer": "A",
            "level": 1,
            "subject": "algebra",
            "solution": None,
        },
        {},
    ),
    "mathvista": (
        {
            "pid": "1",
            "question": "What?",
            "query": "Question: What?",
            "image": "a.png",
            "choices": ["2", "3"],
            "unit": None,
            "precision": None,
            "answer": "2",
            "question_type": "multi_choice",
            "answer_type": "text",
            "metadata": {
                "task": "x",
                "grade": "y",
                "source": "z",
                "language": "english",
                "split": "testmini",
            },
        },
        {},
    ),
    "gsm8k": ({"question": "1 + 1?", "answer": "It is <<1+1=2>>2.\n#### 2"}, {"trace": "solution"}),
    "visual_search": (
        {
            "images": ["a.png"],
            "doc_id": "7",
            "problem": "<image>\nWhat?",
            "solution": "cat",
            "data_source": "v_easy",
        },
        {},
    ),
    "vstar": (
        {
            "image": "a.png",
            "text": "What colour is the cup?\n(A) red\n(B) blue\nAnswer with the letter.",
            "category": "direct_attributes",
            "label": "A",
            "question_id": "0",
        },
        {},
    ),
    "preference": ({"prompt": "Which?", "chosen": "Red.", "rejected": "Blue.", "images": ["a.png"]}, {}),
    "rlaif_v": (
        {
            "ds_name": "R",
            "image": "a.png",
            "question": "Which?",
            "chosen": "Red.",
            "rejected": "Blue.",
            "idx": 1,
        },
        {},
    ),
    "mm_rlhf": (
        {
            "image": "a.png",
            "prompt": "<image>Which?",
            "chosen": "Red.",
            "rejected": "Blue.",
            "chosen_score": 3,
        },
        {},
    ),
    "rlhf_v": (
        {
            "ds_name": "RLHF-V",
            "image": {"path": "a.png", "bytes": None},
            "idx": 3,
            "text": json.dumps({"question": "Which?", "chosen": "Red.", "rejected": "Blue."}),
        },
        {},
    ),
    "llava_rlhf": (
        {
            "id": "7",
            "image": "a.png",
            "preference": 2,
            "output_1": {"from": "llava", "value": "Blue."},
            "output_2": {"from": "llava", "value": "Red."},
            "conversations": [{"from": "human", "value": "<image>Which?"}, {"from": "gpt", "value": ""}],
        },
        {},
    ),
    "vlfeedback": (
        {
            "id": "v",
            "prompt": "Which?",
            "img_path": "a.png",
            "completions": {
                "annotations": [
                    {
                        name: {"Rating": rating, "Rationale": "…"}
                        for name in ("Helpfulness", "Visual Faithfulness", "Ethical Considerations")
                    }
                    for rating in ("1", "5")
                ],
                "model": ["m", "n"],
                "response": ["Blue.", "Red."],
            },
        },
        {},
    ),
    "helpsteer": (
        {
            "domain": "general",
            "context": [{"role": "user", "content": "Which?"}],
            "response1": "Blue.",
            "response2": "Red.",
            "overall_preference": 3,
        },
        {},
    ),
    "ultrafeedback": (
        {
            "instruction": "Which?",
            "source": "s",
            "completions": [
                {"response": "Blue.", "fine-grained_score": 2.5, "overall_score": 10.0},
                {"response": "Red.", "fine-grained_score": 4.0, "overall_score": 7.0},
            ],
        },
        {},
    ),
    "open_images": ("a,xclick,/m/01,1,0.1,0.5,0.2,0.75,0,0,0,0,0", {}),
    "mini_o3_coldstart": (
        {
            "images": ["a.png"],
            "image_names": ["a.png"],
            "conversations": json.dumps([ASKED[0], {"from": "gpt", "value": "<answer>cat</answer>"}]),
            "data_source": "x",
            "sample_index": 1,
            "rollout_index": 2,
        },
        {},
    ),
    "deepeyes": (
        {
            "prompt": [{"role": "user", "content": "<image>\nWhat?\nThink first."}],
            "images": [{"path": "a.png"}],
            "data_source": "vstar",
            "env_name": "visual_toolbox_v2",
            "reward_model": {"style": "model", "ground_truth": "cat"},
            "extra_info": {"index": "0", "split": "train", "question": "What?", "answer": "cat"},
        },
        {},
    ),
    "easyr1": ({"id": 1, "problem": "<image>1 + 1?", "answer": "2", "images": ["a.png"], "more": [1]}, {}),
    "geometry3k_parquet": ({"problem": "<image>1 + 1?", "answer": "2", "images": ["a.png"]}, {}),
    "verl": (
        {
            "prompt": [{"role": "user", "content": "<image>1 + 1?"}],
            "images": [{"path": "a.png"}],
            "data_source": "geo",
            "ability": "math",
            "reward_model": {"style": "rule", "ground_truth": "2"},
            "extra_info": {"index": 0, "split": "train"},
        },
        {},
    ),
    "refcoco": ({"image": "a.png", "sent": "the cat", "bbox": [1, 2, 9, 8], "width": 20, "height": 20}, {}),
    "boxes_json": ({"images": ["a.png"], "messages": BOX}, {"frame": "pixel"}),
    "screenspot": (
        {
            "img_filename": "a.png",
            "bbox": [1, 2, 8, 6],
            "instruction": "Close",
            "data_type": "icon",
            "data_source": "x",
        },
        {},
    ),
    "screenspot_pro": (
        {
            "id": "1",
            "img_filename": "a.png",
            "img_size": [20, 20],
            "bbox": [1, 2, 9, 8],
            "instruction": "Close",
            "application": "x",
            "platform": "y",
            "ui_type": "icon",
        },
        {},
    ),
    "qvhighlights": (
        {"qid": 1, "query": "A square moves.", "vid": "v", "duration": 2.0, "relevant_windows": [[0.2, 1.0]]},
        {},
    ),
    "timerft": (
        {
            "video": "v.mp4",
            "duration": 2.0,
            "timestamp": [0.2, 1.0],
            "sentence": "A square moves.",
            "qid": "1",
            "video_start": 0.0,
            "video_end": 2.0,
            "difficulty": 50.0,
        },
        {"cut": "never"},
    ),
    "alpaca": (
        {
            "instruction": "<image>Name it.",
            "input": "Now.",
            "output": "A cat.",
            "system": "Be brief.",
            "history": [["Hi", "Hello"]],
            "images": ["a.png"],
        },
        {},
    ),
    "r1v": (
        {"image": "a.png", "problem": "How many?", "solution": "<answer> 3 </answer>"},
        {"task": "counting"},
    ),
    "tvgbench": (
        {
            "path": "x/v.mp4",
            "question": "A square moves.",
            "answer": "0.2-1.0",
            "start": 0.0,
            "end": 2.0,
            "duration": 2.0,
            "question_type": "video temporal grounding",
            "dataset_name": "charades",
        },
        {},
    ),
    "tabmwp": (
        {
            "question": "1 + 1?",
            "choices": None,
            "answer": "2",
            "unit": "cm",
            "table_title": "x",
            "table": "a | 1",
            "solution": "It is 2.",
            "ques_type": "free_text",
            "ans_type": "integer_number",
            "grade": 4,
            "split": "train",
        },
        {"trace": "stages"},
    ),
    "activitynet_captions": (
        {"duration": 2.0, "timestamps": [[0.2, 1.0]], "sentences": ["A square moves."]},
        {"video": "v.mp4"},
    ),
    "timechat_tvg": (
        {"id": 1, "image_id": "v.mp4", "caption": "A square moves.", "timestamp": [0.2, 1.0]},
        {},
    ),
    "coco": ({"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 5, 6], "iscrowd": 0}, {}),
    "refcoco_mdetr": ({"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 5, 6]}, {}),
    "geometry3k": (
        {
            "problem_text": "Find x.",
            "annotat_text": "Find $x$.",
            "choices": ["1", "2", "3", "4"],
            "answer": "B",
            "problem_type_graph": ["Triangle"],
            "problem_type_goal": ["Angle"],
            "data_type": "train",
        },
        {},
    ),
    "screenagent": (
        {
            "actions": [
                {
                    "action_type": "MouseAction",
                    "mouse_action_type": "click",
                    "mouse_button": "left",
                    "mouse_position": {"width": 5, "height": 6},
                }
            ],
            "video_width": 20,
            "video_height": 20,
            "task_prompt_en": "Open it.",
            "send_prompt_en": 'The current subtask is "Click". Please give',
            "saved_image_name": "a.png",
            "session_id": "s",
        },
        {},
    ),
    "voc": (
        {"filename": "a.png", "width": "20", "height": "20", "name": "cat", "box": ["1", "2", "9", "8"]},
        {},
    ),
    "gui_r1": (
        {
            "image": "a.png",
            "instruction": "Save it.",
            "history": "None",
            "gt_action": "click",
            "gt_bbox": [0.1, 0.2, 0.4, 0.5],
            "gt_input_text": "no input text",
            "task_type": "high",
        },
        {},
    ),
    "mind2web": (
        {
            "screenshot": "a.png",
            "confirmed_task": "Find a flight.",
            "operation": '{"original_op": "TYPE", "value": "Oslo", "op": "TYPE"}',
            "pos_candidates": ['{"tag": "input", "attributes": "{\\"bounding_box_rect\\": \\"1,2,8,6\\"}"}'],
            "action_uid": "u",
            "action_reprs": ["[a] -> CLICK"],
            "target_action_index": "0",
        },
        {},
    ),
    "android_control": (  # in TFRecord files: test_android_control.py
        {
            "episode_id": 7,
            "goal": "Set an alarm.",
            "screenshots": ["a.png", "a.png", "a.png"],
            "screenshot_widths": [20, 20, 20],
            "screenshot_heights": [20, 20, 20],
            "actions": [
                '{"action_type": "click", "x": 5, "y": 6}',
                {"action_type": "open_app", "app_name": "Clock"},
            ],
            "step_instructions": ["Tap the clock.", "Open it."],
        },
        {},
    ),
    "os_atlas": (
        {"img_filename": "a.png", "elements": [{"instruction": "Save", "bbox": [0.1, 0.2, 0.4, 0.5]}]},
        {"rows": ["pointing", "grounding"]},
    ),
    "webdataset": ({"jpg": b"", "txt": b"A red square."}, {}),  # in tar files: test_webdataset.py
    "html_pages": (b"<p>A red square.</p>", {}),  # files of their own: test_html_pages.py, test_pdf_pages.py
    "pdf_pages": (b"", {}),
    "obelics": (
        {
            "images": [None, "https://example.org/a.png"],
            "texts": ["A red square.", None],
            "metadata": '[null, {"alt_text": "square"}]',
            "general_metadata": '{"url": "https://example.org/page"}',
        },
        {},
    ),
    "mmc4": (
        {
            "text_list": ["A page.", "It has a red square."],
            "image_info": [{"image_name": "a.png", "matched_text_index": 1, "matched_sim": 0.3}],
            "url": "https://example.org/page",
        },
        {},
    ),
    "charades_sta": ("v 0.2 1.0##A square moves.", {}),
}
"""By format: a record of it that becomes at least one good row beside a.png (20 x 20) and v.mp4 (2 s), and options."""
