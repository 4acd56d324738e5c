"""Web pages as documents: order of text and images, formulas as TeX, tables as Markdown, images that carry nothing."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from core.rows import check_document, read_rows
from data_recipes.config import Recipe
from data_recipes.inspection import guess
from data_recipes.readers.html_pages import HtmlOptions, convert, read
from data_recipes.readers.html_text import read_page
from data_recipes.records import Rejected
from data_recipes.runner import run_recipe
from tests.data_recipes.readers.test_webdataset import shard


def picture(seed: int = 0, size: tuple[int, int] = (120, 90)) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (*size[::-1], 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def page(body: str, head: str = "<title>A page</title>") -> str:
    menu = '<nav><a href="/">Home</a></nav>'
    return f"<!DOCTYPE html><html><head>{head}</head><body>{menu}<main>{body}</main><footer>Copyright</footer></body></html>"


@pytest.fixture
def site(tmp_path) -> Path:
    folder = tmp_path / "site"
    (folder / "figures").mkdir(parents=True)
    for seed, name in enumerate(("a.png", "b plot.png", "c.png")):
        (folder / "figures" / name).write_bytes(picture(seed))
    (folder / "icon.png").write_bytes(picture(9, (24, 24)))
    return folder


def row_of(site: Path, body: str, **options) -> dict:
    (site / "page.html").write_text(page(body))
    typed = HtmlOptions(**options)
    (record,) = read(site / "page.html", typed)
    (row,) = convert(record, typed)
    return row


def shape(row: dict) -> list[str]:
    images = iter(row["images"])
    named = lambda image: Path(image).name if isinstance(image, str) else "bytes"  # noqa: E731
    return [
        f"[{named(next(images))}]" if part["type"] == "image" else part["text"].strip()
        for part in row["document"]
    ]


def text_of(body: str, head: str = "") -> str:
    return read_page(page(body, head).encode()).text


# ---------------------------------------------------------------------------------------------------------------- order


def test_text_and_images_keep_their_order(site):
    row = row_of(
        site,
        "<h1>Title</h1><p>Before.</p><figure><img src='figures/a.png'><figcaption>A caption.</figcaption></figure>"
        "<p>Within <img src='figures/b%20plot.png?v=2'> a line.</p><ul><li>one<li>two</ul><p>After.</p>",
    )
    assert shape(row) == [
        "# Title\n\nBefore.",
        "[a.png]",
        "A caption.\n\nWithin",
        "[b plot.png]",
        "a line.\n\n  • one\n  • two\n\nAfter.",
    ]
    assert row["title"] == "A page" and not row["left_out"]
    assert check_document(row, site)["id"] == "page.html"


def test_images_that_load_late_are_found(site):
    row = row_of(
        site,
        "<p>One.</p><img src='data:image/gif;base64,R0lGODlhAQABAAAAACw=' data-src='figures/a.png'>"
        "<noscript><img src='figures/a.png'></noscript><img srcset='figures/b%20plot.png 1x, figures/c.png 2x'>",
    )
    assert [Path(image).name for image in row["images"]] == ["a.png", "b plot.png"]


def test_menus_and_footers_are_no_content():
    assert (
        text_of("<p>Words of the page.</p><ul class='menu'><li><a href=x>Other</a></ul>")
        == "Words of the page."
    )


# ------------------------------------------------------------------------------------------------------------- formulas

KATEX = (
    '<span class="katex"><span class="katex-mathml"><math><semantics><mi>x</mi>'
    '<annotation encoding="application/x-tex">x_1^2</annotation></semantics></math></span>'
    '<span class="katex-html" aria-hidden="true">x12</span></span>'
)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (f"{KATEX}", "Let $x_1^2$ be."),
        (f'<span class="katex-display">{KATEX}</span>', "Let\n$$x_1^2$$\nbe."),
        ('<math alttext="{\\displaystyle \\frac{a}{b}}"><mi>a</mi></math>', r"Let $\frac{a}{b}$ be."),
        ('<span class="MathJax_Preview">ab</span><span class="MathJax">ab</span><script type="math/tex">a^b</script>', "Let $a^b$ be."),
        ('<script type="math/tex; mode=display">\\int x\n dx</script>', "Let\n$$\\int x dx$$\nbe."),
        ('<mjx-container><svg></svg><mjx-assistive-mml><math><msup><mi>e</mi><mi>x</mi></msup></math></mjx-assistive-mml></mjx-container>', "Let $e^{x}$ be."),
        ('<img class="formulaInl" alt="$ \\alpha $" src="form_0.png">', r"Let $\alpha$ be."),
        ('<img alt="\\[ x &lt; y \\]" src="img3.png">', "Let\n$$x < y$$\nbe."),
        (r"\(x+y\)", r"Let \(x+y\) be."),
    ],
)  # fmt: skip
def test_formulas_become_tex(body, expected):
    assert (
        "\n".join(line.strip() for line in text_of(f"<p>Let {body} be.</p>").split("\n") if line.strip())
        == expected
    )


@pytest.mark.parametrize(
    ("mathml", "tex"),
    [
        ("<mfrac><mrow><mi>a</mi><mo>+</mo><mn>1</mn></mrow><msqrt><mi>b</mi></msqrt></mfrac>", r"\frac{a+1}{\sqrt{b}}"),
        ("<munderover><mo>∑</mo><mrow><mi>i</mi><mo>=</mo><mn>0</mn></mrow><mi>n</mi></munderover><msub><mi>x</mi><mi>i</mi></msub>", r"∑_{i=0}^{n}x_{i}"),
        ("<mi>sin</mi><mo>&#x2061;</mo><mi>α</mi><mtext>for all</mtext>", r"\sin α\text{for all}"),
        ("<mroot><mi>x</mi><mn>3</mn></mroot><mover><mi>v</mi><mo>→</mo></mover>", r"\sqrt[3]{x}\vec{v}"),
        ("<msup><mrow><mi>a</mi><mi>b</mi></mrow><mn>2</mn></msup>", "{ab}^{2}"),
        ("<mfrac linethickness='0'><mi>n</mi><mi>k</mi></mfrac>", r"\binom{n}{k}"),
        ("<mtable><mtr><mtd><mn>1</mn></mtd><mtd><mn>0</mn></mtd></mtr><mtr><mtd><mn>0</mn></mtd><mtd><mn>1</mn></mtd></mtr></mtable>",
         r"\begin{matrix} 1 & 0 \\ 0 & 1 \end{matrix}"),
        ("<mystery><mi>q</mi></mystery><mn>5</mn><mo>%</mo>", r"q5\%"),
    ],
)  # fmt: skip
def test_mathml_without_tex_is_written_as_tex(mathml, tex):
    assert text_of(f"<p><math>{mathml}</math></p>") == f"${tex}$"


def test_a_formula_of_mediawiki_stands_once():
    body = (
        '<p>So <span class="mwe-math-element"><span class="mwe-math-mathml-inline"><math alttext="{\\displaystyle E=mc^{2}}">'
        '<mi>E</mi></math></span><img class="mwe-math-fallback-image-inline" alt="{\\displaystyle E=mc^{2}}" src="x.svg"></span> holds.</p>'
    )
    assert text_of(body) == "So $E=mc^{2}$ holds."


# --------------------------------------------------------------------------------------------------------------- tables


def test_tables_become_markdown_with_spans_formulas_and_captions():
    table = (
        "<table><caption>Sizes</caption><tr><th>Name<th>A | B<tr><td rowspan=2>x<br>y<td><math alttext='2^3'></math>"
        "<tr><td>5<tr><td colspan=2>both</table>"
    )
    lines = ["Sizes", "", "| Name | A \\| B |", "| --- | --- |", "| x y | $2^3$ |", "|  | 5 |", "| both |  |"]
    assert text_of(f"<p>Before.</p>{table}<p>After.</p>") == "Before.\n\n" + "\n".join(lines) + "\n\nAfter."


@pytest.mark.parametrize(
    "table",
    [
        "<table role=presentation><tr><td>Words<td>go on<tr><td>and<td>on</table>",
        "<table><tr><td><h2>Words</h2><td>go on<tr><td>and<td>on</table>",
        f"<table><tr><td>Words<td>{'go on ' * 300}<tr><td>and<td>on</table>",
        "<table><tr><td><img src=tip.png><td>Words<tr><td><td>go on</table>",
    ],
)
def test_tables_that_lay_out_the_page_are_text(table):
    assert "|" not in text_of(f"<p>Intro.</p>{table}") and "Words" in text_of(table)


# --------------------------------------------------------------------------------------------------------------- images


def test_images_that_carry_nothing_are_left_out_with_the_rule(site):
    (site / "rule.png").write_bytes(picture(3, (700, 70)))
    Image.new("RGB", (200, 200), (240, 240, 240)).save(site / "flat.png")
    (site / "broken.png").write_bytes(picture(4)[:60])
    row = row_of(
        site,
        "<p>Words.</p>"
        + "".join(
            f"<img src='{name}'>"
            for name in (
                "icon.png",
                "rule.png",
                "flat.png",
                "broken.png",
                "gone.png",
                "x.svg",
                "https://a.org/b.png",
                "file:///etc/hosts",
                "",
            )
        )
        + "<img src='figures/a.png'><nav><img src='figures/b%20plot.png'></nav>",
    )
    rules = {entry["image"]: entry["rule"] for entry in row["left_out"]}
    assert rules == {
        "icon.png": "small", "rule.png": "aspect", "flat.png": "flat", "broken.png": "unreadable", "gone.png": "missing",
        "x.svg": "vector", "https://a.org/b.png": "elsewhere", "file:///etc/hosts": "missing", "": "missing",
        "figures/b%20plot.png": "outside",
    }  # fmt: skip
    assert shape(row) == ["Words.", "[a.png]"]


def test_images_of_other_hosts_lie_where_the_options_say(site):
    body = "<p>Words.</p><img src='https://example.org/x/c.png?w=1'><img src='//cdn.org/odd'><img src='/figures/a.png'>"
    entry = {"url": "//cdn.org/odd", "path": "b plot.png"}
    (site / "files.jsonl").write_text(json.dumps(entry) + "\n")
    row = row_of(site, body, media=site / "figures", files=site / "files.jsonl")
    assert shape(row)[1:] == ["[c.png]", "[b plot.png]"]
    assert shape(row_of(site, body))[1:] == ["[a.png]"]  # a / at the beginning is the source's folder


def test_images_within_the_page_are_kept(site):
    data = base64.b64encode(picture()).decode()
    row = row_of(site, f"<p>Words.</p><img src='data:image/png;base64,{data}'>")
    assert row["images"] == [{"bytes": picture()}]


def test_a_logo_of_many_pages_leaves_even_if_saved_with_each(site):
    for i in range(4):
        folder = site / f"page{i}_files"
        folder.mkdir()
        (folder / "logo.png").write_bytes(picture(5))
        (site / f"page{i}.html").write_text(
            page(
                f"<p>Page {i}.</p><img src='page{i}_files/logo.png'><img src='figures/{'a' if i else 'c'}.png'>"
            )
        )
    for limit, left in ((2, 7), (3, 4), (4, 0), (None, 0)):
        options = HtmlOptions(max_pages=limit)
        rows = [row for record in read(site, options) for row in convert(record, options)]
        assert [entry["rule"] for row in rows for entry in row["left_out"]] == ["repeated"] * left, limit


# -------------------------------------------------------------------------------------------------------------- sources


def test_a_list_of_files_and_what_is_missing_in_it(site):
    (site / "one.html").write_text(page("<p>One.</p>"))
    (site / "list.txt").write_text("one.html\n\ngone.html\n")
    options = HtmlOptions()
    good, gone = read(site / "list.txt", options)
    assert next(iter(convert(good, options)))["document"][0]["text"] == "One."
    with pytest.raises(Rejected, match="expected a readable file, got: No such file"):
        convert(gone, options)


def test_shards_hold_pages_with_their_images(tmp_path):
    body = page("<p>Before.</p><img src='figures/A.png'><img src='b.png'><p>After.</p>").encode()
    path = shard(tmp_path / "x.tar", {"000.html": body, "000.a.png": picture(1), "001.a.png": picture(2)})
    options = HtmlOptions()
    good, bad = read(path, options)
    (row,) = convert(good, options)
    assert shape(row) == ["Before.", "[bytes]", "After."] and row["images"][0]["bytes"] == picture(1)
    assert [entry["reason"] for entry in row["left_out"]] == ["not in the page's sample"]
    assert bad.problem == "expected one page (.html, .htm, .xhtml), got 0 (.a.png)"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "got an empty file"),
        (b"plain words", "expected a page of HTML, got none: it has no tags"),
        (b"<p>\0\1\2", "it is a binary file"),
        (page("").encode(), "expected a page with text, got none"),
        (page("<p>Words.</p>").encode(), "expected a page with an image, got none (it has none"),
    ],
)
def test_a_broken_page_says_what_is_wrong(tmp_path, content, expected):
    (tmp_path / "page.html").write_bytes(content)
    options = HtmlOptions(need_image="image" in expected)
    (record,) = read(tmp_path / "page.html", options)
    (problem,) = _problems(record, options)
    assert expected in problem


def _problems(record, options) -> list[str]:
    try:
        return [str(row) for row in convert(record, options)]
    except Rejected as error:
        return [str(error)]


@pytest.mark.parametrize(
    ("encoding", "head"),
    [("latin-1", "<meta charset='iso-8859-1'>"), ("utf-8", ""), ("utf-16", ""), ("cp1251", "<meta http-equiv=Content-Type content='text/html; charset=windows-1251'>")],
)  # fmt: skip
def test_pages_are_decoded_as_they_say(encoding, head):
    words = "Мир и труд." if encoding == "cp1251" else "Größe über alles?"
    assert read_page(page(f"<p>{words}</p>", head).encode(encoding)).text == words


def test_odd_markup_costs_no_more_than_its_page():
    for body in (
        "<div>" * 3000,
        "<math>" * 500 + "<mi>x",
        "<table><tr><td colspan=999999999>x<td>y<tr><td>z",
        "<b><p></b>x" * 500,
    ):
        read_page(f"<body>{body}".encode())


def test_a_recipe_counts_what_was_left_out(site):
    (site / "one.html").write_text(page("<p>One.</p><img src='icon.png'><img src='figures/a.png'>"))
    (site / "two.html").write_text(page("<p>Two, which is another page.</p><img src='icon.png'>"))
    (site / "bad.html").write_text("no page")
    assert [kind.name for kind in guess(site)] == ["html_pages"]
    recipe = {
        "name": "pages",
        "sources": [{"name": "site", "format": "html_pages", "path": str(site)}],
        "output_dir": str(site.parent / "out"),
        "tasks": 2,
        "workers": 1,
    }
    said: list[str] = []
    run_recipe(Recipe.model_validate(recipe), say=said.append)
    card = "\n".join(said)
    assert "| site | image (small) | 2 |" in card and "| site | html_pages | 3 | 2 | 1 | 1 |" in card
    rows = read_rows(site.parent / "out", check=check_document)
    assert {row["id"] for row in rows} == {"site/one.html", "site/two.html"}
    (site / "figures" / "a.png").unlink()  # what a page names is looked at again
    run_recipe(Recipe.model_validate(recipe), say=said.append)
    rows = read_rows(site.parent / "out", check=check_document)
    assert [len(row["images"]) for row in rows] == [0, 0]


REAL = [file for file in sorted(Path("/usr/share/doc").rglob("*.html")) if file.is_file()][::5][:30]


@pytest.mark.skipif(not REAL, reason="no HTML under /usr/share/doc (a -doc package of Debian)")
def test_real_documentation_is_read():
    options = HtmlOptions(max_pages=None)
    rows = []
    for path in REAL:
        (record,) = read(path, options)
        rows += [row for row in _rows(record, options) if row is not None]
    assert len(rows) >= 0.8 * len(REAL)
    assert all(check_document(row, Path("/"))["task"] == "document" for row in rows)


def _rows(record, options) -> list[dict]:
    try:
        return list(convert(record, options))
    except Rejected:
        return []
