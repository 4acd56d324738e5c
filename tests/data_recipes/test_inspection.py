"""`inspect` tells a file's format, shows rows, and says what is wrong."""

from __future__ import annotations

import json

import pytest

from data_recipes.__main__ import main


def output(capsys, *arguments: str) -> str:
    main(["inspect", *arguments])
    return capsys.readouterr().out


def test_a_good_file_is_named_and_shown(source, capsys):
    text = output(capsys, str(source))
    assert text.startswith(f"{source}: rows")
    assert text.count("  prompt ") == 3
    assert "60 records; 60 good rows (math 15, counting 15, grounding 15, pointing 15); 0 rejected" in text


def test_what_is_wrong_is_listed_with_its_line(source, capsys):
    rows = [json.loads(line) for line in source.read_text().splitlines()]
    rows[2]["answer"]["boxes"] = [[1, 2, 90, 30]]
    rows[4]["id"] = "r1"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = output(capsys, str(source))
    assert "60 records; 58 good rows" in text
    assert "  wrong    field 'answer" in text  # the third row is shown, with what is wrong
    assert f"{source}:3: field 'answer" in text
    assert f"{source}:5: field 'id': 'r1' stands at {source}:2 already" in text


def test_an_unknown_file_shows_its_first_entry(tmp_path, capsys):
    (tmp_path / "x.jsonl").write_text('{"tune": 1}\n')
    assert 'no known format; its first entry is {"tune": 1}' in output(capsys, str(tmp_path / "x.jsonl"))


def test_a_missing_file_is_an_error(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["inspect", str(tmp_path / "none.jsonl")])
    assert stopped.value.code == 2
    assert "found nothing at" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("tabmwp/problems.json", "tabmwp"),
        ("gsm8k/train.subset.jsonl", "gsm8k"),
        ("mathv/test.jsonl", "mathv"),
        ("tvg/charades_sta_train.subset.txt", "charades_sta"),
        ("tvg/activitynet_train.subset.json", "activitynet_captions"),
        ("tvg/qvhighlights_val.subset.jsonl", "qvhighlights"),
        ("tvg/timer1_train_2k5.subset.json", "timerft"),
        ("gui_points/screenspot_re_gpt-4o.jsonl", "screenspot"),
        ("bccd", "voc"),
        ("screenagent", "screenagent"),
    ],
)
def test_real_files_are_recognised(shared_data, file, name):
    from data_recipes.inspection import guess

    assert [kind.name for kind in guess(shared_data / file)][:1] == [name]
