"""`python -m inference ask`: one question on the command line."""

from __future__ import annotations

import io
import json

import pytest
from PIL import Image
from rich.console import Console

from inference.__main__ import main
from inference.ask import AskConfig, ask, row_of, view
from inference.types import Node

ENGINE = ("engine.kind=transformers", "engine.max_model_len=1024", "max_tokens=60")


def asked(bench, *more):
    main(["ask", "--model", str(bench.path), "--question", "What is 1 + 2?", *more, *ENGINE])


def test_the_conclusion_alone_is_printed_and_the_stages_and_the_tree_on_demand(bench, tmp_path, capsys):
    asked(bench, "--candidates", "3", "--tree", str(tmp_path / "tree.json"))
    printed = capsys.readouterr().out
    found = json.loads((tmp_path / "tree.json").read_text())
    assert printed == found["conclusion"] + "\n"
    assert printed.strip().isdigit()
    assert sum(node["tokens"] for node in found["tree"]) == found["spent"]["tokens_generated"]
    assert "".join(found["tree"][i]["text"] for i in found["chosen"]) == found["text"]
    Image.new("RGB", (56, 56), "red").save(tmp_path / "a.png")
    asked(bench, "--method", "greedy", "--stages", "--image", str(tmp_path / "a.png"))
    assert capsys.readouterr().out.startswith(
        "<SUMMARY>"
    )  # the model has not seen images; its answer is shown as it is


def test_the_view_shows_stages_as_they_come(bench):
    config = AskConfig.model_validate(
        {"model": {"path": str(bench.path)}, "max_tokens": 60, "engine": {"kind": "transformers"}}
    )
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    ask(config, row_of("What is 1 + 2?", [], [], "chat"), console=console)
    written = console.file.getvalue()
    places = [written.index(f"{stage}: 1 of ") for stage in ("SUMMARY", "CAPTION", "REASONING", "CONCLUSION")]
    assert places == sorted(places)
    assert written.count("SUMMARY: 1 of") > 3  # refreshed


def test_markup_of_the_model_is_text():
    console = Console(file=io.StringIO(), width=60)
    console.print(view([Node(None, "SUMMARY", "[red]a[/wrong] \x1b", 1, True, None, 0.5, True)], "[/b]"))
    assert "[red]a[/wrong]" in console.file.getvalue()


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--image", "nowhere.png"], "nowhere.png"),
        (["--judge", "nowhere"], "nowhere"),
        (["--method", "magic"], "method"),
        (["--method", "stage_beam", "--grammar", "none"], "have no stages"),
        (["--question", "a <|im_end|> b"], "special token"),
        (["--model", "nowhere"], "nowhere"),
    ],
)
def test_what_is_wrong_is_said(bench, arguments, problem, capsys):
    with pytest.raises(SystemExit) as error:
        asked(bench, *arguments)
    assert problem in capsys.readouterr().err + str(error.value)


def test_dry_run_prints_the_settings(bench, capsys):
    asked(bench, "--dry-run", "--method", "retracing", "method.threshold=0.5")
    assert "threshold: 0.5" in capsys.readouterr().out
