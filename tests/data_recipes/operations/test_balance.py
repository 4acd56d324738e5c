"""Balance: MetaCLIP's curation against a plain reading of the paper, caps and tempered shares of a column."""

from __future__ import annotations

import json
import random
from collections import Counter
from typing import Any

import pytest
from pydantic import ValidationError

from data_recipes.operations.balance import OPERATIONS, BalanceOptions, ConceptBalanceOptions, allowed, spaced
from data_recipes.records import Context, Options, Signature

ENTRIES = ("dog", "red dog", "cat", "New York", "a", "St. John", "photo of a dog", "zebra")


def caption_row(name: str, text: str, task: str = "caption", **columns: Any) -> dict[str, Any]:
    prompt = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Describe."}]}]
    trace = [{"role": "assistant", "content": text}]
    return {"id": name, "task": task, "prompt": prompt, "answer": None, "trace": trace} | columns


def removed(name: str, rows: list[dict[str, Any]], options: Options, context: Context) -> dict[str, str]:
    """Rules by id of the rows that leave."""
    operation = OPERATIONS[name]

    def signatures():
        for row in rows:
            data = json.loads(json.dumps(operation.sign(row, options)))
            yield Signature(row["id"], row["task"], "set", data)

    return {d.id: d.rule for d in operation.decide(signatures, options, context)}


def captions(count: int, seed: int = 0) -> list[dict[str, Any]]:
    r = random.Random(seed)
    words = ["dog", "red", "cat", "New", "York", "photo", "of", "a", "dogs", "tree,", "St.", "John", "cat."]
    rows = [caption_row(f"row-{i}", " ".join(r.choices(words, k=r.randint(1, 8)))) for i in range(count - 3)]
    return [
        *rows,
        *(caption_row(f"rare-{i}", text) for i, text in enumerate(("a zebra", "zebra!", "one\tzebra"))),
    ]


def test_matched_entries_are_those_of_a_plain_substring_search():
    options = ConceptBalanceOptions(entries=ENTRIES, ignore_case=False)
    sign = OPERATIONS["concept_balance"].sign
    for row in captions(500):
        text = f" {spaced(row['trace'][0]['content'])} "
        plain = [i for i, entry in enumerate(ENTRIES) if f" {entry} " in text]
        assert sign(row, options)["entries"] == plain, text


def test_an_entry_inside_a_word_does_not_match_and_case_matters_only_where_asked():
    sign = OPERATIONS["concept_balance"].sign
    row = caption_row("x", "Dog and hotdogs.")
    assert sign(row, ConceptBalanceOptions(entries=("dog", "hot")))["entries"] == [0]
    assert sign(row, ConceptBalanceOptions(entries=("dog", "hot"), ignore_case=False))["entries"] == []


def test_texts_are_kept_as_often_as_algorithm_1_says(tmp_path):
    """Expected number of kept texts: the sum of 1 - prod(1 - min(1, t / count)) over texts."""
    rows, t = captions(6000), 100
    counts, matched = Counter[str](), {}
    for row in rows:
        text = f" {spaced(row['trace'][0]['content'])} "
        matched[row["id"]] = [e for e in ENTRIES if f" {e} " in text]
        counts.update(matched[row["id"]])
    expected = 0.0
    for entries in matched.values():
        none = 1.0
        for entry in entries:
            none *= 1 - min(1.0, t / counts[entry])
        expected += 1 - none
    options = ConceptBalanceOptions(entries=ENTRIES, t=t, ignore_case=False)
    context = Context(tmp_path, seed=3)
    gone = removed("concept_balance", rows, options, context)
    assert abs(len(rows) - len(gone) - expected) < 4 * expected**0.5
    assert {name for name, rule in gone.items() if rule == "no_concept"} == {
        name for name, entries in matched.items() if not entries
    }
    assert not any(name.startswith("rare") for name in gone)
    assert context.counts["entries_matched"] == len(counts)
    assert context.counts["entries_over_t"] == sum(count > t for count in counts.values())


def test_the_same_captions_leave_in_any_order_and_others_with_another_seed(tmp_path):
    rows = captions(800)
    options = ConceptBalanceOptions(entries=ENTRIES, t=20)
    gone = removed("concept_balance", rows, options, Context(tmp_path))
    assert removed("concept_balance", rows[::-1], options, Context(tmp_path)) == gone
    assert removed("concept_balance", rows, options, Context(tmp_path, seed=1)) != gone


def test_other_tasks_and_unmatched_texts_stay_where_asked(tmp_path):
    rows = [caption_row("m", "nothing", task="math"), caption_row("c", "nothing")]
    options = ConceptBalanceOptions(entries=("dog",), tasks=("caption",))
    assert removed("concept_balance", rows, options, Context(tmp_path)) == {"c": "no_concept"}
    keep = ConceptBalanceOptions(entries=("dog",), unmatched="keep")
    assert removed("concept_balance", rows, keep, Context(tmp_path)) == {}


def test_entries_come_from_a_file(tmp_path):
    (tmp_path / "entries.txt").write_text("dog\nred dog\n", encoding="utf-8")
    (tmp_path / "entries.json").write_text('["dog", "red dog"]', encoding="utf-8")
    sign = OPERATIONS["concept_balance"].sign
    for name in ("entries.txt", "entries.json"):
        options = ConceptBalanceOptions(entries=str(tmp_path / name))
        assert sign(caption_row("x", "a red dog"), options)["entries"] == [0, 1]
    with pytest.raises(ValueError, match="expected a non-empty list of strings"):
        sign(caption_row("x", "a"), ConceptBalanceOptions(entries=()))


def rows_by_level(**counts: int) -> list[dict[str, Any]]:
    return [
        caption_row(f"{level}-{i}", "x", level=level, source={"dataset": f"set {level}"})
        for level, count in counts.items()
        for i in range(count)
    ]


def test_a_cap_keeps_exactly_so_many_of_each_value(tmp_path):
    rows = rows_by_level(easy=300, middle=40, hard=7)
    options = BalanceOptions(by="level", cap=50, caps={"middle": 0})
    gone = removed("balance", rows, options, Context(tmp_path))
    left = Counter(row["level"] for row in rows if row["id"] not in gone)
    assert left == {"easy": 50, "hard": 7}
    shuffled = random.Random(0).sample(rows, len(rows))
    assert removed("balance", shuffled, options, Context(tmp_path)) == gone


def test_a_dot_leads_into_a_dict_and_a_missing_column_is_a_value_of_its_own(tmp_path):
    rows = rows_by_level(easy=5, hard=5)
    options = BalanceOptions(by="source.dataset", cap=3)
    gone = removed("balance", rows, options, Context(tmp_path))
    assert len(gone) == 4 and set(gone.values()) == {"over_source.dataset"}
    assert len(removed("balance", rows, BalanceOptions(by="nothing", cap=3), Context(tmp_path))) == 7


def test_a_smaller_set_is_kept_within_a_larger_one(tmp_path):
    rows = rows_by_level(easy=200)
    few = removed("balance", rows, BalanceOptions(by="level", cap=20), Context(tmp_path))
    more = removed("balance", rows, BalanceOptions(by="level", cap=60), Context(tmp_path))
    assert set(more) < set(few)


@pytest.mark.parametrize(
    ("temperature", "expected"),
    [(1.0, {"a": 900, "b": 100, "c": 9}), (2.0, {"a": 90, "b": 30, "c": 9}), (1e9, {"a": 9, "b": 9, "c": 9})],
)
def test_temperature_flattens_shares_and_keeps_the_rarest_whole(temperature, expected):
    assert allowed({"a": 900, "b": 100, "c": 9}, BalanceOptions(temperature=temperature)) == expected


def test_a_cap_or_a_temperature_must_be_given():
    for wrong in ({}, {"cap": 1, "temperature": 2.0}):
        with pytest.raises(ValidationError, match="expected cap"):
            BalanceOptions(**wrong)
