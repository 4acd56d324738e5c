"""Training sequences: where the loss falls, how rows of every kind share a batch, what the cache keeps."""

from __future__ import annotations

import re

import pytest
import torch
from PIL import Image

from core.rows import read_rows
from rewards.stages import render
from sft.data import (
    IGNORE,
    STAGE_NAMES,
    TraceError,
    check_end_token,
    encode_example,
    prompt_media,
    row_length,
    target,
)
from vlm.inputs import MEDIA_TOKENS, encode_row
from vlm.load import load_processor


@pytest.fixture(scope="module")
def processor(tiny):
    return load_processor(tiny)


@pytest.fixture(scope="module")
def rows(rows_file):
    return read_rows(rows_file)


def test_the_loss_falls_on_the_trace_and_the_end_token_alone(processor, rows):
    """Labels decode to exactly the rendered trace; prompt and media ids have none."""
    tokenizer = processor.tokenizer
    for row in rows[:4]:
        example = encode_example(processor, row)
        ids, labels = example.sequence.input_ids, example.labels
        prompt = encode_row(processor, row)
        assert (labels[: len(prompt)] == IGNORE).all()
        assert torch.equal(ids[: len(prompt)], prompt.input_ids)
        assert torch.equal(labels[len(prompt) :], ids[len(prompt) :])
        text = tokenizer.decode(labels[labels != IGNORE])
        assert text == render(row["trace"]) + tokenizer.eos_token
        media = torch.tensor(tokenizer.convert_tokens_to_ids(list(MEDIA_TOKENS)))
        assert not torch.isin(labels, media).any()
        assert torch.equal(example.stage_ids > 0, labels != IGNORE)


def test_stage_ids_follow_the_stages_of_the_text(processor, rows):
    ids, stages = target(processor.tokenizer, rows[0])
    for stage, text in rows[0]["trace"].items():
        own = [i for i, s in zip(ids, stages, strict=True) if STAGE_NAMES[s] == stage]
        assert text in processor.tokenizer.decode(own)
    assert STAGE_NAMES[stages[-1]] == "end" and ids[-1] == processor.tokenizer.eos_token_id


def test_the_media_of_a_prompt_are_known_by_kind_and_identity(processor, rows, tmp_path):
    """In reading order, images inside observations apart; `media_end` is behind the last placeholder."""
    for row in rows[:4]:
        example = encode_example(processor, row)
        placeholders = torch.tensor(
            processor.tokenizer.convert_tokens_to_ids(["<|image_pad|>", "<|video_pad|>"])
        )
        places = torch.isin(example.sequence.input_ids, placeholders).nonzero().flatten().tolist()
        assert example.media_end == (places[-1] + 1 if places else 0)
    two = prompt_media(rows[2])
    assert two == (("image", rows[2]["images"][0]), ("image", rows[2]["images"][1]))
    assert prompt_media(rows[3]) == (("video", rows[3]["videos"][0]),) and prompt_media(rows[1]) == ()
    turns = encode_example(processor, multi_turn_row(rows, tmp_path))
    assert (
        turns.media == prompt_media(rows[0])
        and turns.media_end == encode_example(processor, rows[0]).media_end
    )
    one, same, other = ([{**rows[0], "images": [data]}][0] for data in (b"a", b"a", b"b"))
    assert prompt_media(one) == prompt_media(same) != prompt_media(other)


def test_row_length_is_the_length_of_the_encoded_row(processor, rows):
    assert [row_length(processor, row) for row in rows] == [
        len(encode_example(processor, row)) for row in rows
    ]


def multi_turn_row(rows, tmp_path):
    Image.new("RGB", (28, 28)).save(tmp_path / "crop.png")
    turns = [
        {"role": "assistant", "content": "I zoom in."},
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "the crop"}]},
        {"role": "assistant", "content": render(rows[0]["trace"])},
    ]
    return rows[0] | {"trace": turns, "images": [*rows[0]["images"], str(tmp_path / "crop.png")]}


def test_a_multi_turn_trace_is_trained_on_the_assistants_turns_alone(processor, rows, tmp_path):
    row = multi_turn_row(rows, tmp_path)
    example = encode_example(processor, row)
    end = processor.tokenizer.eos_token
    assert processor.tokenizer.decode(example.labels[example.labels != IGNORE]) == (
        "I zoom in." + end + render(rows[0]["trace"]) + end
    )
    stages = [STAGE_NAMES[s] for s in example.stage_ids[example.stage_ids > 0]]
    assert list(dict.fromkeys(stages)) == ["turns", "end", "summary", "caption", "reasoning", "conclusion"]
    assert len(example.sequence.image_grid_thw) == 2
    assert row_length(processor, row) == len(example) == example.sequence.position_ids.shape[1]


@pytest.mark.parametrize("text", ["\n\nFirst, look.", " x", "\t{}", "ends so\n", ""])
def test_a_turn_is_tokenised_on_its_own_as_it_is_sampled(processor, rows, text):
    """Whatever its first characters would merge with in the text of the whole conversation."""
    tokenizer = processor.tokenizer
    other = {"role": "user", "content": "Go on."}
    turns = [{"role": "assistant", "content": text}, other, {"role": "assistant", "content": text}]
    example = encode_example(processor, rows[1] | {"trace": turns})
    prompt = encode_row(processor, rows[1])
    own = [*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    ids, targets = example.sequence.input_ids.tolist(), example.labels.ne(IGNORE).tolist()
    assert ids[: len(prompt)] == prompt.input_ids.tolist()
    assert ids[len(prompt) : len(prompt) + len(own)] == ids[-len(own) :] == own
    assert targets == [False] * len(prompt) + [True] * len(own) + targets[-1 - len(own) : -len(own)] * (
        len(ids) - len(prompt) - 2 * len(own)
    ) + [True] * len(own)
    assert not targets[-1 - len(own)]


@pytest.mark.parametrize("multi_turn", [False, True])
@pytest.mark.parametrize("token", ["<|im_end|>", "<|im_start|>", "<|endoftext|>"])
def test_a_special_token_in_a_prompt_or_an_observation_is_refused(processor, rows, token, multi_turn):
    wrong = {"role": "user", "content": [{"type": "text", "text": f"a {token}\nb"}]}
    answer = {"role": "assistant", "content": "yes"}
    row = rows[1] | {"prompt": [wrong]} | ({"trace": [answer]} if multi_turn else {})
    rows_of = [row, rows[1] | {"trace": [answer, wrong, answer]}] if multi_turn else [row]
    for row in rows_of:
        for look in (encode_example, row_length):
            with pytest.raises(ValueError, match="row 'row1': .*got the special token " + re.escape(token)):
                look(processor, row)


@pytest.mark.parametrize(
    ("trace", "message"),
    [
        (None, "row 'row0': field 'trace': expected a trace to train on, got none"),
        ({"caption": "a <SUMMARY> b"}, "row 'row0': trace field 'caption': holds the tag '<SUMMARY>'"),
        (
            {"caption": "a <|im_end|> b"},
            "row 'row0': field 'trace': expected plain text, got the special token",
        ),
        (
            [{"role": "user", "content": "x"}],
            "expected a multi-turn trace to begin and end with an assistant's turn",
        ),
        (
            [{"role": "assistant", "content": "x<|im_end|>"}],
            "row 'row0': field 'trace': expected plain text, got the special token",
        ),
    ],
)
def test_a_trace_that_cannot_be_a_target_is_named(processor, rows, trace, message):
    if isinstance(trace, dict):
        trace = rows[0]["trace"] | trace
    with pytest.raises(TraceError, match=message.replace("(", r"\(").replace("|", r"\|")):
        encode_example(processor, rows[0] | {"trace": trace})


def test_an_end_token_that_the_template_does_not_write_is_an_error(tiny):
    processor = load_processor(tiny)
    processor.tokenizer.eos_token = "<|endoftext|>"
    with pytest.raises(ValueError, match="end an assistant's turn with the tokenizer's eos_token"):
        check_end_token(processor)
