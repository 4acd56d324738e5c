"""Documents: boilerplate leaves the text, pages without anything to learn leave with the figure, near-copies are found."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.files.jsonl import append
from core.files.jsonl import read as read_jsonl
from data_recipes.config import Recipe
from data_recipes.operations.documents import DocumentFilterOptions, document_filter, is_boilerplate
from data_recipes.operations.text_filters import Limits
from data_recipes.records import Context, Removed
from data_recipes.runner import run_recipe

PROSE = """Rivers carry sediment from the hills to the sea. Where the slope becomes gentle the water slows down, and what it
carried settles: first gravel, then sand, and at last the finest silt.

Over thousands of years this builds a delta. The channels of a delta shift, because each flood leaves banks behind that the next
one has to pass. Engineers who build harbours there must dredge them again and again, or lead the stream elsewhere."""


def document(text: str, images: int = 0) -> dict:
    parts = [{"type": "text", "text": text}] + [{"type": "image"}] * images
    return {"id": "a", "task": "document", "document": parts, "images": ["x.png"] * images, "videos": []}


def filtered(text: str, images: int = 0, **options):
    context = Context(Path())
    (row,) = document_filter(iter([document(text, images)]), DocumentFilterOptions(**options), context)
    return row, context.counts


@pytest.mark.parametrize(
    "paragraph",
    [
        "We use cookies to make this site better. By going on you agree to our use of them. Accept all cookies",
        "This website uses optional cookies. Manage your preferences.",
        "© 2024 Example Ltd. All rights reserved.",
        "Please enable JavaScript to view the comments.",
        "Subscribe to our newsletter and never miss a story!",
        "Wir verwenden Cookies, um Inhalte zu personalisieren.",
        "本网站使用 Cookie 以改善体验。",
        "Home › Guides › Rivers › Deltas",
        "Home | About us | Contact",
        "Prev\nUp\nNext",
        "Next: Deltas, Previous: , Up: Rivers   [Contents][Index]",
        "Share on Facebook",
        "Skip to main content",
        "Privacy Policy · Terms of Service",
    ],
)
def test_notices_and_navigation_are_boilerplate(paragraph):
    assert is_boilerplate(paragraph)


@pytest.mark.parametrize(
    "paragraph",
    [
        *PROSE.split("\n\n"),
        "A cookie is a small file that a site asks the browser to keep.",
        "if a > b and b > c: return x",
        "a > b > c > d = e",
        "| Home | Size |\n| --- | --- |\n| next | 3 |",
        "Contents of the box: two bolts, a spring.",
        "• one\n• two",
        "Help the next person up the stairs.",
        "$a | b | c$ holds.",
        "",
    ],
)
def test_words_of_the_page_are_not(paragraph):
    assert not is_boilerplate(paragraph)


def test_boilerplate_leaves_and_is_counted():
    row, counts = filtered(f"Home › Guides › Rivers\n\n{PROSE}\n\nAll rights reserved.", images=1)
    assert (
        row["document"] == [{"type": "text", "text": PROSE}, {"type": "image"}]
        or row["document"][0]["text"].strip() == PROSE
    )
    assert counts["boilerplate_paragraphs"] == 2 and counts["boilerplate_words"] == 6
    kept, counts = filtered(f"{PROSE}\n\nAll rights reserved.", boilerplate=False)
    assert kept["document"][0]["text"].endswith("reserved.") and not counts


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("A page of few words.", "words"),
        ("We use cookies. " * 2 + "\n\n" + "Accept cookies.", "words"),
        ("a b c d e. " * 30, "word_length"),
        ("#tag wonderful... #other day... " * 20, "symbols"),
        ("\n".join(f"• item number {'abcdefghijklmnopqrstuvwxyz'[i]} of the list." for i in range(26)), "bullets"),
        ("\n".join(f"Something about the {w} and more that follows here, as it did before..." for w in PROSE.split()[:30]), "ellipses"),
        ("\n".join(f"{i} {i * 7} {i * 13} and {i * 17}." for i in range(40)), "lettered"),
        ("Fresh deals online. Cheap shoes, cheap bags, free shipping today. Buy now, pay later, click here. " * 4, "stop_words"),
        ("\n".join(f"the {w} page and all of that" for w in PROSE.split()[:40]), "ended_lines"),
        ("\n".join(["The same line of words, that is written to be seen again."] * 20), "repeated_lines"),
        ("Go on and on to the end of it, and to the end of that. " * 12, "density"),
    ],
)  # fmt: skip
def test_each_rule_takes_what_it_is_for(text, rule):
    row, _ = filtered(text)
    assert isinstance(row, Removed) and row.rule == rule, row
    assert any(sign.isdigit() for sign in row.reason)


def test_prose_stays_in_several_scripts_and_with_tables():
    for text in (
        PROSE,
        "# Deltas\n\n"
        + PROSE
        + "\n\n| river | km |\n| --- | --- |\n"
        + "\n".join(f"| r{i} | {i} |" for i in range(30)),
        "河流把泥沙从山上带到海里。坡度变缓的地方，水流变慢，携带的东西就沉积下来：先是砾石，然后是沙，最后是最细的淤泥。几千年后就形成了三角洲。"
        * 1,
        "Реки несут осадки с гор к морю. Там, где склон становится пологим, вода замедляется, и то, что она несла, оседает: сначала гравий, "
        "затем песок и наконец самый мелкий ил. За тысячи лет так возникает дельта, русла которой смещаются после каждого паводка, потому что "
        "всякий паводок оставляет за собой валы, которые следующему приходится обходить. Инженеры снова и снова углубляют гавани.",
    ):
        row, _ = filtered(text)
        assert isinstance(row, dict), row


def test_limits_of_grade_and_images():
    assert isinstance(filtered(PROSE, grade=Limits(max=16))[0], dict)
    assert filtered(PROSE, grade=Limits(max=4))[0].rule == "grade"
    assert filtered(PROSE, images=9, words_an_image=Limits(min=20))[0].rule == "words_an_image"


def test_rows_with_a_prompt_pass():
    row = {"id": "a", "task": "math", "prompt": [{"role": "user", "content": "1?"}]}
    assert list(document_filter(iter([row]), DocumentFilterOptions(), Context(Path()))) == [row]


def test_copies_of_a_page_with_another_date_are_near_duplicates(tmp_path):
    """Questions that differ in a number are different ones, pages are not."""
    long = (
        PROSE
        + "\n\n"
        + PROSE.replace("Rivers", "Streams").replace("delta", "estuary").replace("harbours", "ports")
    )
    other = "Bees dance to tell each other where flowers are. " * 3 + " ".join(reversed(long.split()))
    texts = {
        "first": f"Updated on 3 May 2021, read 17 times.\n\n{long}",
        "copy": f"Updated on 9 June 2024, read 4,031 times.\n\n{long} A new last sentence.",
        "other": other,
        "short": "The valve opens at 3 bar.",
        "short too": "The valve opens at 4 bar.",
    }
    rows = [
        {"id": name, "task": "document", "document": text, "source": "made"} for name, text in texts.items()
    ]
    append(tmp_path / "rows.jsonl", rows)
    recipe = {
        "name": "pages",
        "sources": [{"name": "s", "format": "rows", "path": str(tmp_path / "rows.jsonl")}],
        "operations": [{"dedup": {"mode": "text"}}],
        "output_dir": str(tmp_path / "out"),
        "tasks": 1,
        "workers": 1,
    }
    run_recipe(Recipe.model_validate(recipe), say=lambda line: None)
    removed = list(read_jsonl(tmp_path / "out" / "removed.jsonl"))
    assert [(entry["id"], entry["kept"]) for entry in removed] == [("s/copy", "s/first")]
