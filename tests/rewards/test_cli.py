"""`python -m rewards`: list, check, score, and errors that name file and line."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from rewards.cli import main

FUNCTIONS = f"{Path(__file__).parent / 'plugin_functions.py'}:"


def write(path: Path, records: list[Any]) -> Path:
    path.write_text("".join(f"{json.dumps(record)}\n" for record in records))
    return path


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    trace = {"summary": "s", "caption": "c", "reasoning": "r", "conclusion": "3"}
    records = [{"id": f"r{i}", "task": "counting", "answer": {"value": i}, "trace": trace} for i in (3, 4, 5)]
    return write(tmp_path / "rows.jsonl", records)


def test_list_names_the_built_ins(capsys: Any) -> None:
    assert main(["list"]) == 0
    listed = {line.split()[0] for line in capsys.readouterr().out.splitlines()}
    assert {"math", "counting", "choice", "giou", "point_in_box", "temporal_iou", "http"} <= listed


def test_check_of_a_sound_function_passes(rows: Path, capsys: Any) -> None:
    assert main(["check", "counting", "--rows", str(rows)]) == 0
    lines = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines()}
    assert lines["counting:"][1:3] == ["3", "rows,"]
    assert lines["trace"][1:5] == ["3", "0.000", "0.333", "1.000"]
    assert lines["answer"][1:5] == ["3", "1.000", "1.000", "1.000"]
    assert lines["empty"][4] == "0.000" and lines["adversarial"][6] == "0"


def test_check_shows_what_is_wrong_with_a_function(rows: Path, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "naive.py").write_text(
        "def naive(completion, answer):\n    return 1 / abs(float(completion) - 5)\n"
    )
    assert main(["check", f"{tmp_path}/naive.py:naive", "--rows", str(rows), "--workers", "1"]) == 1
    out = capsys.readouterr().out
    assert (
        "16 exception" in next(line for line in out.splitlines() if line.startswith("empty"))
        or "exception" in out
    )
    assert "ValueError: could not convert string to float" in out
    assert 'naive.py", line 2, in naive' in out


def test_check_names_answers_that_cannot_be_read(tmp_path: Path, capsys: Any) -> None:
    bad = write(
        tmp_path / "rows.jsonl",
        [{"id": "a", "answer": {"value": "many"}}, {"id": "b", "answer": {"value": 2}}],
    )
    assert main(["check", "counting", "--rows", str(bad)]) == 1
    out = capsys.readouterr().out
    assert "2 rows, 1 answers it cannot read" in out and "row 'a': answer.value" in out


def test_score_prints_a_line_per_completion(rows: Path, tmp_path: Path, capsys: Any) -> None:
    texts = [
        {"id": "r3", "completion": "3"},
        {"id": "r5", "completion": "3"},
        {"row_id": "r4", "completion": "4"},
    ]
    completions = write(tmp_path / "completions.jsonl", texts)
    assert main(["score", "counting", "--rows", str(rows), "--completions", str(completions)]) == 0
    out, err = capsys.readouterr()
    assert [json.loads(line) for line in out.splitlines()] == [
        {"id": "r3", "value": 1.0},
        {"id": "r5", "value": 0.0},
        {"id": "r4", "value": 1.0},
    ]
    assert err == "counting: 3 completions, mean 0.6667, 0 failed\n"


def test_score_with_a_plugin_its_arguments_and_parquet_rows(tmp_path: Path, capsys: Any) -> None:
    table = pyarrow.table({"id": ["a"], "answer": [{"value": 1}]})
    pyarrow.parquet.write_table(table, tmp_path / "rows.parquet")
    completions = write(
        tmp_path / "c.jsonl", [{"id": "a", "completion": "0.5"}, {"id": "a", "completion": "x"}]
    )
    files = ["--rows", f"{tmp_path}/rows.parquet", "--completions", str(completions)]
    assert main(["score", FUNCTIONS + "with_threshold", *files, "--arg", "threshold=0.4"]) == 1
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert first == {"id": "a", "value": 1.0}
    assert (second["value"], second["failure"]) == (None, "exception")


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ('{"id": "a"}\n{"id": \n', "rows.jsonl:2: expected one JSON object, got no valid JSON"),
        ('{"id": "a"}\n\n[1]\n', "rows.jsonl:3: expected one JSON object, got [1] (list)"),
        ('{"id": 5}\n', "rows.jsonl:1: field 'id': expected a non-empty string, got 5"),
        ('{"id": "a"}\n{"id": "a"}\n', "rows.jsonl:2: field 'id': expected a unique id, got 'a' again"),
        ("\n", "rows.jsonl: expected at least one row, got none"),
    ],
)
def test_broken_rows_are_named_by_file_and_line(lines: str, says: str, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "rows.jsonl").write_text(lines)
    assert main(["check", "counting", "--rows", f"{tmp_path}/rows.jsonl"]) == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (["check", "cuonting", "--rows", "{rows}"], "did you mean 'counting'?"),
        (["check", "counting", "--rows", "nowhere.jsonl"], "rows not found: nowhere.jsonl"),
        (["check", "counting", "--rows", "{rows}", "--arg", "x"], "--arg: expected NAME=VALUE"),
        (
            ["check", "counting", "--rows", "{rows}", "--task", "chat"],
            "expected at least one row of task 'chat' (found: counting), got none",
        ),
        (["serve", "--function", "counting", "--host", "0.0.0.0"], "set `token_env`, or `open: true`"),
        (
            ["serve", "--function", "counting", "--token-env", "NO_SUCH_VARIABLE"],
            "'NO_SUCH_VARIABLE' is not set",
        ),
        (["serve"], "key 'functions' is required"),
        (
            ["serve", "--function", "counting", "--port", "-1"],
            "key 'port': expected greater than or equal to 0, got -1",
        ),
    ],
)
def test_commands_that_cannot_be_run_say_why(command: list[str], says: str, rows: Path, capsys: Any) -> None:
    assert main([part.format(rows=rows) for part in command]) == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("functions: [counting]\nprot: 80\n", "service.yaml:2: unknown key 'prot', did you mean 'port'?"),
        ("functions: [counting]\nport: high\n", "service.yaml:2: key 'port': expected a valid integer"),
        ("functions: [counting]\nhost: 0.0.0.0\n", "service.yaml: host 0.0.0.0: other machines could use"),
        ("functions: [counting]\nport: 1\nport: 2\n", "service.yaml:3: key 'port' is written twice"),
        ("functions: [\n", "service.yaml:2: expected YAML"),
        ("- counting\n", "service.yaml: expected `key: value` lines, got a list"),
        ("functions:\n- function: counting\n  weight: heavy\n", "service.yaml:3: key 'functions.0.weight'"),
        ("port: 0\n", "service.yaml: key 'functions' is required"),
    ],
)
def test_a_service_config_that_is_wrong_is_named_by_file_and_line(
    text: str, says: str, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    monkeypatch.setattr("rewards.serving.service.serve", lambda config: None)  # it would listen until stopped
    (tmp_path / "service.yaml").write_text(text)
    assert main(["serve", "--config", f"{tmp_path}/service.yaml"]) == 2
    assert says in capsys.readouterr().err


def test_options_of_serve_replace_what_the_config_says(tmp_path: Path, monkeypatch: Any) -> None:
    served: list[Any] = []
    monkeypatch.setattr("rewards.serving.service.serve", served.append)  # it would listen until stopped
    file = tmp_path / "service.yaml"
    file.write_text("functions: [{function: counting}]\nport: 1\nworkers: 3\ntoken_env: SOME_TOKEN\n")
    monkeypatch.setenv("TRUE", "secret")
    assert (
        main(["serve", "--config", str(file), "--port", "0", "--token-env", "TRUE", "--timeout-s", "2"]) == 0
    )
    assert (served[0].port, served[0].workers, served[0].token_env, served[0].timeout_s) == (
        0,
        3,
        "TRUE",
        2.0,
    )
    assert [function.function for function in served[0].functions] == ["counting"]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        (
            "latin.jsonl",
            b'{"id": "a"}\n{"id": "caf\xe9"}\n',
            "latin.jsonl:2: expected one JSON object in UTF-8, got byte 0xe9",
        ),
        ("cut.jsonl.gz", b"\x1f\x8b\x08\x00", "cut.jsonl.gz:1: cannot be read"),
        ("not.jsonl.gz", b'{"id": "a"}\n', "not.jsonl.gz:1: cannot be read"),
        ("deep.jsonl", b"[" * 100_000, "deep.jsonl:1: expected one JSON object, got JSON nested too deeply"),
        (
            "huge.jsonl",
            b'{"id": "a", "n": ' + b"9" * 5000 + b"}",
            "huge.jsonl:1: expected one JSON object, got no valid JSON",
        ),
        ("ids.jsonl", b'{"id": ["a"]}\n', "ids.jsonl:1: field 'id': expected a non-empty string"),
    ],
)
def test_broken_files_are_one_line_with_file_and_line(
    name: str, content: bytes, says: str, tmp_path: Path, capsys: Any
) -> None:
    (tmp_path / name).write_bytes(content)
    assert main(["check", "counting", "--rows", str(tmp_path / name)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and says in error


def test_completions_with_ids_that_are_none_are_one_line(rows: Path, tmp_path: Path, capsys: Any) -> None:
    completions = write(tmp_path / "completions.jsonl", [{"id": ["r3"], "completion": "3"}])
    assert main(["score", "counting", "--rows", str(rows), "--completions", str(completions)]) == 2
    assert "completions.jsonl:1: field 'id': expected the id of a row, got ['r3']" in capsys.readouterr().err


@pytest.mark.parametrize("value", ["0", "-1", "two", "1e3", "9" * 30])
def test_a_number_of_workers_that_is_none_is_refused(rows: Path, value: str, capsys: Any) -> None:
    with pytest.raises(SystemExit):
        main(["check", "counting", "--rows", str(rows), "--workers", value])
    assert "--workers: expected a whole number of at least 1" in capsys.readouterr().err


def test_compressed_rows_are_read(rows: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl.gz").write_bytes(gzip.compress(rows.read_bytes()))
    assert main(["check", "counting", "--rows", str(tmp_path / "rows.jsonl.gz")]) == 0


def test_parquet_answers_may_be_json_text(tmp_path: Path, capsys: Any) -> None:
    table = {"id": ["a", "b"], "task": ["counting"] * 2, "answer": ['{"value": 3}', '{"value": "4"}']}
    pyarrow.parquet.write_table(pyarrow.table(table), tmp_path / "rows.parquet")
    assert main(["check", "counting", "--rows", str(tmp_path / "rows.parquet")]) == 0
    table["answer"][1] = "{4"
    pyarrow.parquet.write_table(pyarrow.table(table), tmp_path / "rows.parquet")
    assert main(["check", "counting", "--rows", str(tmp_path / "rows.parquet")]) == 2
    assert (
        "rows.parquet:2: field 'answer': expected a dict or null, got '{4' (str)" in capsys.readouterr().err
    )


@pytest.mark.parametrize("kind", ["parquet", "shards", "datasets"])
def test_rows_are_read_from_every_kind_of_file_and_folder_that_training_reads(
    kind: str, rows: Path, tmp_path: Path, capsys: Any
) -> None:
    import datasets

    records = [json.loads(line) for line in rows.read_text().splitlines()]
    folder = tmp_path / kind
    folder.mkdir()
    if kind == "parquet":
        for i, record in enumerate(records):
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist([record]), folder / f"{i}.parquet")
    elif kind == "shards":
        write(folder / "rows-0.jsonl", records[:2])
        (folder / "rows-1.jsonl.gz").write_bytes(gzip.compress(json.dumps(records[2]).encode()))
    else:
        datasets.Dataset.from_list(records).save_to_disk(folder)
    assert main(["check", "counting", "--rows", str(folder)]) == 0
    assert "counting: 3 rows, 0 answers" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'{"id": "r3"\n', "c.jsonl:1: expected one JSON object, got no valid JSON"),
        (b"[1]\n", "c.jsonl:1: expected one JSON object, got list"),
        (b'{"id": "r3"}\n', "c.jsonl:1: field 'completion': expected a string, got NoneType"),
        (b"\n", "c.jsonl: expected at least one completion, got none"),
    ],
)
def test_broken_completions_are_one_line(
    content: bytes, says: str, rows: Path, tmp_path: Path, capsys: Any
) -> None:
    (tmp_path / "c.jsonl").write_bytes(content)
    assert main(["score", "counting", "--rows", str(rows), "--completions", str(tmp_path / "c.jsonl")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and says in error
