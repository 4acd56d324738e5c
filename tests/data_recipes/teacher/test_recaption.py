"""Captions by a scripted teacher: the tiny model of the tests writes no language (see endpoints.py)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from core.rows import check_row
from data_recipes.operations import OPERATIONS
from data_recipes.records import Context, Removed
from tests.data_recipes.endpoints import scripted_teacher, text_of

OLD = "A red bus stands beside a tall building on a rainy day in the city."
GOOD = (
    "A red double-decker bus waits at a stop in front of a tall office building. Rain has left puddles on the street, and"
    " two people with umbrellas stand near the door. The sign above the windscreen reads LIVERPOOL STREET."
)
CHINESE = "一辆红色的双层公共汽车停在高楼前的车站。街道上有雨水留下的水坑，两个打着伞的人站在车门附近。挡风玻璃上方的牌子写着终点站的名字。"
MIXED = GOOD + " Eine Frau mit einem blauen Regenschirm geht langsam über die nasse Straße nach Hause."
LOOP = "The bus is red and the bus is tall. " * 12
CHINESE_LOOP = "公共汽车是红色的，" * 20


@pytest.fixture
def image(tmp_path) -> str:
    path = tmp_path / "bus.png"
    Image.fromarray(np.zeros((30, 40, 3), dtype=np.uint8)).save(path)
    return str(path)


def row(image: str, caption: str | None = OLD, **more: Any) -> dict:
    content = [{"type": "image"}, {"type": "text", "text": "Describe the picture."}]
    return {
        "id": "r",
        "task": "caption",
        "prompt": [{"role": "user", "content": content}],
        "images": [image],
        "videos": [],
        "answer": None,
        "trace": None if caption is None else [{"role": "assistant", "content": caption}],
        "source": None,
    } | more


def recaption(rows, replies: list[str | None], folder: Path, **options):
    """(rows out, counts, the teacher) when the teacher plays these replies, the last one for ever."""
    with scripted_teacher(lambda body, number: replies[min(number, len(replies) - 1)]) as teacher:
        operation = OPERATIONS["recaption"]
        settings = {"teacher": {"base_url": teacher.url, "model": "big"}} | options
        context = Context(folder)
        return (
            list(operation.apply(iter(rows), operation.options(**settings), context)),
            context.counts,
            teacher,
        )


def test_a_new_caption_takes_the_place_of_the_old(image, tmp_path):
    (out,), counts, teacher = recaption([row(image)], [GOOD], tmp_path)
    assert out["trace"] == [{"role": "assistant", "content": GOOD}]
    assert out["caption_before"] == OLD and out["teacher"] == {"model": "big", "tries": 1}
    check_row(out, tmp_path)
    content = teacher.requests[0]["messages"][0]["content"]
    assert [part["type"] for part in content] == ["image_url", "text"]
    assert OLD in text_of(content) and counts["accepted"] == 1


def test_the_old_caption_can_stay_hidden_and_stand_in_a_column(image, tmp_path):
    given = row(image, None, text=OLD)
    (out,), _, teacher = recaption([given], [GOOD], tmp_path, column="text", show_caption=False)
    assert out["text"] == GOOD and out["trace"] is None
    assert OLD not in text_of(teacher.requests[0]["messages"][0]["content"])


BAD = {
    "other language": (CHINESE, "language"),
    "mixed languages": (MIXED, "language"),
    "loop": (LOOP, "repetition"),
    "short": ("A bus.", "length"),
    "huge": ("word " * 50_000, "length"),
    "media token": (GOOD + "<|image_pad|>", "control_token"),
    "stage tag": (GOOD + "<CONCLUSION>", "control_token"),
    "refusal": (None, "refused"),
    "saw nothing": ("I am sorry, but I cannot see any image here to describe in a caption.", "unseen_media"),
    "speaks of the old one": (GOOD + " The present caption was wrong about the bus.", "given_caption"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_caption_is_told_why_and_written_again(image, tmp_path, name):
    bad, rule = BAD[name]
    (out,), _, teacher = recaption([row(image)], [bad, GOOD], tmp_path)
    assert out["trace"][0]["content"] == GOOD and out["teacher"]["tries"] == 2
    assert teacher.requests[1]["messages"][-1]["role"] == "user"
    (out,), counts, _ = recaption([row(image)], [bad], tmp_path / "again")
    assert isinstance(out, Removed) and out.rule == f"caption_{rule}" and counts[f"refused/{rule}"] == 1
    assert counts[f"replies_refused/{rule}"] == 2
    (out,), _, _ = recaption([row(image)], [bad], tmp_path / "kept", otherwise="keep")
    assert out == row(image)


def test_chinese_captions_are_judged_too(image, tmp_path):
    (out,), _, _ = recaption(
        [row(image, "雨天，一辆红色的公共汽车停在城市的高楼旁边。")], [CHINESE], tmp_path
    )
    assert out["trace"][0]["content"] == CHINESE
    (out,), _, _ = recaption([row(image)], [CHINESE_LOOP], tmp_path, language="zh")
    assert isinstance(out, Removed) and out.rule == "caption_repetition"


def test_other_rows_pass(image, tmp_path):
    turns = [{"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}]
    rows = [row(image, task="math"), row(image, None), row(image, trace=turns)]
    out, counts, teacher = recaption(rows, [GOOD], tmp_path)
    assert out == rows and teacher.requests == [] and counts["passed"] == 3
