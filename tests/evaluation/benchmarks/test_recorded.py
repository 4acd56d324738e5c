"""Our figures on published predictions equal the published ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evaluation.benchmarks.__main__ import main
from evaluation.benchmarks.recorded import compare, read_list

SHARED = Path(__file__).with_name("recorded_shared.yaml")


@pytest.mark.parametrize("entry", read_list(SHARED), ids=lambda entry: f"{entry.benchmark}-{entry.what}")
def test_figures_equal_those_of_the_published_predictions(entry, shared_data: Path) -> None:
    line = compare(entry, shared_data)
    assert line.missing is None
    assert line.differing == (), line.ours
    assert line.agreeing in (None, line.n)
    assert line.equal


def test_the_official_edge_rule_differs_from_the_log_on_clicks_on_the_edge(shared_data: Path) -> None:
    entry = next(one for one in read_list(SHARED) if one.benchmark == "screenspot_pro")
    line = compare(entry.model_copy(update={"rule": None}), shared_data)
    assert line.agreeing is not None
    assert 0 < line.n - line.agreeing <= 5  # integer points on the right or lower edge
    assert not line.equal


def test_every_entry_of_the_list_names_a_benchmark_and_something_to_compare() -> None:
    for entry in read_list():
        assert entry.figures or entry.verdicts
        assert compare(entry, Path("/nowhere")).missing is not None


def write(folder: Path, answers: dict[str, str], verdicts: dict[str, bool]) -> Path:
    rows = [{"id": own, "question": "?", "options": [], "answer": "2", "image": "1.jpg"} for own in answers]
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = [{"id": own, "response": text, "correct": verdicts[own]} for own, text in answers.items()]
    (folder / "out.jsonl").write_text("".join(json.dumps(one) + "\n" for one in found))
    path = folder / "list.yaml"
    path.write_text(
        "recorded:\n- {benchmark: math_vision, what: ours, questions: test.jsonl, predictions: out.jsonl, verdicts: correct,"
        " figures: {accuracy: 50}}\n"
    )
    return path


def test_the_table_says_which_figure_and_how_many_verdicts_are_equal(tmp_path: Path, capsys) -> None:
    path = write(tmp_path, {"a": r"\boxed{2}", "b": r"\boxed{3}"}, {"a": True, "b": False})
    assert main(["rules", str(tmp_path), "--list", str(path)]) == 0
    table = capsys.readouterr().out
    assert "accuracy 50 | accuracy 50.0 | 2 of 2 | equal" in table
    assert "1 compared, 1 equal" in table


def test_a_verdict_that_differs_fails_although_the_figure_is_equal(tmp_path: Path, capsys) -> None:
    path = write(tmp_path, {"a": r"\boxed{2}", "b": r"\boxed{3}"}, {"a": False, "b": True})
    assert main(["rules", str(tmp_path), "--list", str(path)]) == 1
    assert "0 of 2 | differs" in capsys.readouterr().out


def test_nothing_to_compare_is_a_failure(tmp_path: Path, capsys) -> None:
    assert main(["rules", str(tmp_path)]) == 1
    assert "0 compared" in capsys.readouterr().out
