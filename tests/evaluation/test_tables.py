"""The evaluation's table as Markdown, plain text and in a terminal."""

from __future__ import annotations

import io

import pytest

from evaluation.metrics import ScoredAnswer, by_task, differences, summarise
from evaluation.tables import markdown, percent, plain, print_table


@pytest.fixture
def evaluation() -> dict:
    answers = {
        name: [
            ScoredAnswer(f"{task}{i}", task, float(i < right), True, 20)
            for task in ("math", "grounding")
            for i in range(10)
        ]
        for name, right in (("sft", 4), ("rl", 9))
    }
    answers["sft"][0] = ScoredAnswer("math0", "math", None, False, 20)
    scores = {
        name: {"overall": summarise(all_), "tasks": {t: summarise(s) for t, s in by_task(all_).items()}}
        for name, all_ in answers.items()
    }
    return {
        "settings": {"max_tokens": 64, "samples": 4},
        "checkpoints": {name: {"greedy": one, "sampled": one} for name, one in scores.items()},
        "differences": differences(answers),
    }


def test_markdown_has_a_line_per_task_and_bold_totals(evaluation):
    lines = markdown(evaluation).splitlines()
    assert lines[0] == "| task | rows | sft | T=1 | grammar | rl | T=1 | grammar | rl − sft |"
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["grounding", "math", "**overall**"]
    assert "| 0.40 [0.17, 0.69] | 0.40 | 100 % | 0.90 [0.60, 0.98] |" in lines[2]
    assert len({line.count("|") for line in lines}) == 1


def test_plain_text_is_aligned_and_names_what_could_not_be_scored(evaluation):
    *table, note = plain(evaluation).splitlines()
    assert len({line.index("rows") + 4 if "rows" in line else 0 for line in table[:1]}) == 1
    assert all(len(line) <= len(table[1]) for line in table)
    assert "2 answers could not be scored" in note and "at most 64 tokens" in note


def test_a_file_gets_plain_text_and_a_terminal_gets_lines(evaluation, monkeypatch):
    file = io.StringIO()
    print_table(evaluation, file)
    assert file.getvalue() == plain(evaluation)

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("COLUMNS", "200")
    terminal = Terminal()
    print_table(evaluation, terminal)
    assert "│" in terminal.getvalue() or "┃" in terminal.getvalue()


def test_cells_never_round_a_failure_away():
    assert [percent(x) for x in (1.0, 0.999, 0.5, 0.001, 0.0, None)] == [
        "100 %",
        "> 99 %",
        "50 %",
        "< 1 %",
        "0 %",
        "–",
    ]
