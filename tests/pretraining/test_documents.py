"""Documents as training sequences: the loss on all text, media whole, cuts between sentences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from core.rows import read_rows
from pretraining.documents import Documents, UnusableRow, boundary, end_of_document
from sft.data import encode_example
from vlm.families import family_of_processor
from vlm.packed.packing import Segment

IMAGE = {"type": "image"}


def text(words: str) -> dict[str, str]:
    return {"type": "text", "text": words}


@pytest.fixture(scope="module")
def picture(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("pictures") / "red.png"
    Image.new("RGB", (84, 56), (200, 30, 30)).save(path)
    return str(path)


def row(parts: Any, images: list[str], **changes) -> dict[str, Any]:
    return {"id": "d", "task": "document", "document": parts, "images": images} | changes


def made(processor, record: dict[str, Any], window: int = 4096, **options) -> list[Segment]:
    return Documents(processor, window, **options)("rows.jsonl at byte 0", record, Path("/"))


def visual(processor, segment: Segment) -> int:
    """Visual tokens in a sequence."""
    token = processor.tokenizer.convert_tokens_to_ids(family_of_processor(processor).image_token)
    return int((segment.sequence.input_ids == token).sum())


def texts(processor, segments: list[Segment]) -> str:
    """What is trained, as text."""
    ids = [i for s in segments for i in s.sequence.input_ids[s.trained].tolist()]
    return processor.tokenizer.decode(ids)


@pytest.mark.every_family
def test_all_text_and_the_end_are_targets_and_nothing_else(processor, picture):
    parts = [IMAGE, text("A red tile."), text(" Then another:"), IMAGE, text("It is red, too.")]
    (segment,) = made(processor, row(parts, [picture, picture]))
    end = processor.tokenizer.decode([end_of_document(processor.tokenizer)])
    assert texts(processor, [segment]) == f"A red tile. Then another:It is red, too.{end}"
    assert not segment.trained[0]
    assert torch.equal(segment.coefficients, segment.trained.float())
    assert visual(processor, segment) == 2 * (84 // 28) * (56 // 28)


@pytest.mark.parametrize("family", ["internvl"], indirect=True, scope="session")
def test_tiles_of_an_image_stay_together(processor, picture):
    """InternVL's marks and tiles are other tokens than those of the Qwen models."""
    (segment,) = made(processor, row([text("Picture 1:"), IMAGE, text("It is red.")], [picture]))
    end = processor.tokenizer.decode([end_of_document(processor.tokenizer)])
    assert texts(processor, [segment]).endswith(f"It is red.{end}")
    untrained = segment.sequence.input_ids[~segment.trained]
    assert visual(processor, segment) > 0
    assert len(untrained) == visual(processor, segment) + 3  # the first token, and the marks


def test_the_first_token_of_a_text_has_nothing_to_predict_it(processor):
    (segment,) = made(processor, row("One two three.", []))
    ids = processor.tokenizer("One two three.")["input_ids"]
    assert segment.sequence.input_ids.tolist() == [*ids, end_of_document(processor.tokenizer)]
    assert segment.trained.tolist() == [False, *[True] * len(ids)]


def test_a_long_document_is_split_and_loses_nothing(processor, picture):
    """Every sequence fits the window; joined they are the whole document, with every image whole."""
    parts = []
    for number in range(6):
        parts += [text(f"Picture {number}: a red tile. " + "It is red. " * number + "\n\n"), IMAGE]
    record = row(parts, [picture] * 6)
    (whole,) = made(processor, record)
    assert len(made(processor, record, len(whole))) == 1
    for window in (20, 33, 64, len(whole) - 2, len(whole) - 1):
        split = made(processor, record, window)
        assert len(split) > 1
        assert all(1 < len(s) <= window for s in split)
        assert split[-1].trained[-1]  # the end token
        joined = [token for s in split for token in s.sequence.input_ids.tolist()]
        assert joined == whole.sequence.input_ids.tolist()
        assert all(visual(processor, s) % 6 == 0 for s in split)
        assert all(int(s.sequence.position_ids[:, 0].max()) == 0 for s in split)
        untrained = sum(len(s) - int(s.trained.sum()) for s in split) - (
            len(whole) - int(whole.trained.sum())
        )
        assert 0 <= untrained <= len(split) - 1  # first tokens


def test_a_document_is_cut_between_paragraphs(processor):
    paragraphs = [f"It shows {n} shapes, more than before. It shows {n}.\n\n" for n in range(9)]
    split = made(processor, row("".join(paragraphs), []), 60)
    assert len(split) > 2
    for segment in split[:-1]:
        assert processor.tokenizer.decode(segment.sequence.input_ids).rstrip("\n").endswith(".")
    assert all(
        processor.tokenizer.decode(s.sequence.input_ids).lstrip().startswith("It shows") for s in split
    )


@pytest.mark.parametrize(
    ("words", "room", "first"),
    [
        ("aa bb. cc\n\ndd ee", 14, "aa bb. cc\n\n"),
        ("aa bb. cc\ndd ee ff", 15, "aa bb. cc\n"),
        ("aa bb. cc dd ee ff", 11, "aa bb. "),
        ("aa bb cc dd", 7, "aa bb "),
        ("aa.\n\nbbbbbbbbbbbbbbbb cc dddddd", 23, "aa.\n\nbbbbbbbbbbbbbbbb "),  # a paragraph ends too early
        ("aaaaaaaaaaaa", 5, "aaaaa"),
        ("一二三。四五六七", 6, "一二三。"),
        ("He said “no.” Then he left", 20, "He said “no.” "),
    ],
)
def test_the_best_boundary_that_leaves_half_is_taken(words, room, first):
    """Every character a token; white space may go to either side."""
    place = boundary(words, list(range(len(words))), room)
    assert words[:place].rstrip() == first.rstrip()
    assert len(first.rstrip()) <= place <= len(first)


@pytest.mark.parametrize(
    ("record", "options", "expected"),
    [
        ({"document": [IMAGE]}, {"window": 5}, r"field 'images\[0\]': expected fewer than data.window = 5 tokens"),
        ({"document": [IMAGE]}, {"media": ("video",)}, "field 'images': expected none, as data.media does not have image"),
        ({"document": [text("a<|im_end|>"), IMAGE]}, {}, "got the special token <|im_end|>"),
        ({"document": [IMAGE, IMAGE]}, {}, "field 'images': expected 2 image"),
        ({"document": [IMAGE, {"type": "text"}]}, {}, r"field 'document\[1\].text': expected a string"),
        ({"document": [text("")], "images": []}, {}, "field 'document': expected text or media, got none"),
        ({"document": []}, {}, "field 'document': expected a string or a non-empty list"),
        ({"document": [IMAGE], "prompt": [{"role": "user", "content": "?"}]}, {}, "field 'prompt': expected none beside"),
        ({"document": [IMAGE], "images": ["absent.png"]}, {}, "expected an existing file"),
        ({"document": None}, {}, "field 'prompt'"),
    ],
)  # fmt: skip
def test_what_cannot_be_trained_on_says_where_it_is_and_why(processor, picture, record, options, expected):
    with pytest.raises(UnusableRow, match=expected) as raised:
        made(processor, row(None, [picture]) | record, **options)
    assert str(raised.value).startswith("rows.jsonl at byte 0: ")


def test_instruction_rows_are_trained_on_as_in_sft(processor, world):
    record = read_rows(world / "instruction.jsonl", limit=1)[0]
    (segment,) = made(processor, record)
    example = encode_example(processor, record)
    assert torch.equal(segment.sequence.input_ids, example.sequence.input_ids)
    assert torch.equal(segment.trained, example.stage_ids > 0)
    with pytest.raises(UnusableRow, match="expected at most data.window = 8 tokens of prompt and trace"):
        made(processor, record, 8)
