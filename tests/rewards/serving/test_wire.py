"""What a row holds reaches a function unchanged, wherever it runs."""

from __future__ import annotations

import datetime
import decimal
from pathlib import Path
from typing import Any

import pytest

from rewards.config import RewardsConfig
from rewards.router import Router
from rewards.serving import wire
from rewards.serving.items import Failure, Item, Outcome
from rewards.serving.signatures import Signature

VALUES: dict[str, Any] = {
    "image": b"\x89PNG\x00\xff",
    "taken": datetime.datetime(2024, 5, 1, 12, 30, 0, 5),
    "zoned": datetime.datetime(2024, 5, 1, tzinfo=datetime.UTC),
    "day": datetime.date(2024, 5, 1),
    "at": datetime.time(4, 30),
    "price": decimal.Decimal("1.10"),
    "nested": {"list": [1, 2.5, None, True, "é \udcff"], "blob": [b"a"]},
    "nan": float("inf"),
}
PLUGIN = """
import datetime, decimal

def seen(completion, **row):
    return {"reward": 1.0, "row": repr(sorted(row.items()))[:9000]}
"""


def test_values_that_json_lacks_survive_the_way_there_and_back() -> None:
    assert wire.loads(wire.dumps(VALUES)) == VALUES


@pytest.mark.parametrize("tag", ["__bytes__", "__datetime__", "__decimal__"])
def test_a_broken_tag_is_a_value_error_and_a_dict_that_only_looks_like_one_stays(tag: str) -> None:
    with pytest.raises(ValueError, match=tag):
        wire.loads(wire.dumps({tag: "!"}))
    assert wire.loads(wire.dumps({tag: 1})) == {tag: 1}
    assert wire.loads(wire.dumps({tag: "!", "more": 1})) == {tag: "!", "more": 1}


def test_outcomes_and_signatures_survive() -> None:
    failure = Failure("crash", "it died", "trace")
    for outcome in (Outcome(0.5, {"n": 1}), Outcome(None), Outcome(None, {}, failure)):
        assert wire.outcome_from_json(wire.loads(wire.dumps(wire.outcome_to_json("k", outcome)))) == outcome
    with pytest.raises(ValueError, match=r"in \[0, 1\]"):
        wire.outcome_from_json({"value": 2.0, "extra": {}, "failure": None})


def test_only_what_a_function_reads_is_sent() -> None:
    item = Item("text", {"id": "r", "image": b"large", "answer": {}, "prompt": []}, [1, 2], "g")
    named = wire.item_to_json("0", item, Signature("sample", ("answer",), ()))
    assert named["row"] == {"id": "r", "answer": {}} and named["ids"] is None
    ids = wire.item_to_json("0", item, Signature("sample", ("answer",), (), ("completion_ids",)))
    assert ids["ids"] == [1, 2]
    everything = wire.item_to_json("0", item, Signature("batch", None, ()))
    assert wire.item_from_json(wire.loads(wire.dumps(everything))) == ("0", item)


def test_a_function_sees_the_same_row_in_process_and_in_a_worker(tmp_path: Path) -> None:
    (tmp_path / "plugin.py").write_text(PLUGIN)
    row = {"id": "r", "task": "t", "answer": {"value": 1}, **VALUES}
    seen = []
    for isolate in (False, True):
        functions = [{"function": f"{tmp_path / 'plugin.py'}:seen", "isolate": isolate}]
        with Router(RewardsConfig.model_validate({"grammar": "none", "tasks": {"t": functions}})) as router:
            seen.append(router.score([row], ["text"])[0].extra["seen/row"])
    assert seen[0] == seen[1] and "Decimal('1.10')" in seen[0]
