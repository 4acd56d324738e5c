r"""A page of HTML as text in reading order, with marks where its images stand; formulas as TeX, tables as Markdown.

Before the main content is extracted, everything that plain text would lose is put into the text itself: an image becomes a
mark, a formula `$TeX$` (or `$$TeX$$` where it is displayed), a table Markdown, a heading `## words`. So whatever the extractor
keeps, it keeps in its place.

The extractor is resiliparse (Bevendorff et al. 2018; Apache-2.0), whose rules go by tags, roles and class names, as used for
DCLM (Li et al. 2024, arXiv 2406.11794) and, with formulas kept in this way, OpenWebMath (Paster et al. 2023, arXiv 2310.06786).
trafilatura (Apache-2.0) judges blocks by the length of their text instead, which took images that stand alone from between
paragraphs, is 10 to 50 times slower and has more than twice the dependencies; docling (MIT) reads HTML as well, but is made for
layout models that have to be downloaded.

Formulas are found as KaTeX and MathJax (2 to 4) leave them, as MathML with `alttext`, an annotation in TeX or neither, and as
images with TeX for an `alt` (LaTeX2HTML, Doxygen, MediaWiki). TeX between \( \) or $ $ in the text stays as it is.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.encoding import detect_encoding
from resiliparse.parse.html import HTMLTree, NodeType

from data_recipes.readers.mathml import children, tex

Node = Any
"""An element of resiliparse's tree."""

_OPEN, _CLOSE = "\ue000", "\ue001"
MARK = re.compile(f"{_OPEN}([it])(\\d+){_CLOSE}")
"""Marks in the text: (i, number of the image), (t, number of the table or displayed formula)."""

SKIPPED = ("nav", "svg", "canvas", "video", "audio", "object", "area", "iframe", "dialog", "template")
LINKS = 0.8
"""A list with this share of its letters in links is navigation where resiliparse takes it for that."""
LONGEST_CELL = 1000
"""Characters; a table with a longer cell lays out the page."""
_TEX_IMAGES = frozenset(
    [
        "formulaInl",
        "formulaDsp",
        "latex",
        "mwe-math-fallback-image-inline",
        "mwe-math-fallback-image-display",
        "math",
        "tex",
    ]
)
_RENDERED = frozenset(
    [
        "MathJax",
        "MathJax_Preview",
        "MathJax_Display",
        "MathJaxDisplay",
        "MathJax_SVG",
        "MathJax_CHTML",
        "MJX_Assistive_MathML",
    ]
)
_CHARSET = re.compile(
    rb"""<(?:meta[^>]{0,200}charset|\?xml[^>]{0,200}encoding)\s*=\s*["']?\s*([\w.:-]+)""", re.IGNORECASE
)


@dataclass
class Image:
    """An `<img>`: its address as written ("" for none) and alternative text."""

    address: str
    alt: str


@dataclass
class Page:
    """text: with marks `MARK` for the images that stand in the main content. images: all of the page, by their number."""

    text: str = ""
    title: str = ""
    images: list[Image] = field(default_factory=list)
    formulas: int = 0
    tables: int = 0
    lost_formulas: int = 0
    """Rendered by MathJax without a trace of their source; their places are empty."""


def read_page(content: bytes) -> Page:
    """The page's main content. Raises ValueError for bytes that are no HTML."""
    text = decoded(content)
    if "\0" in text[:4096] or not re.search(r"<[a-zA-Z!?]", text):
        raise ValueError("it has no tags" if "\0" not in text[:4096] else "it is a binary file")
    tree = HTMLTree.parse(re.sub(f"[{_OPEN}-\ue00f]", "", text))
    page = Page(title=" ".join((tree.title or "").split()))
    if tree.body is None:
        return page
    blocks: list[str] = []
    found = list(_within(tree.document))
    _formulas(tree, found, page, blocks)
    _images(tree, found, page)
    _lists(tree, found)
    _tables(tree, found, page, blocks)
    for heading in _all(found, names=("h1", "h2", "h3", "h4", "h5", "h6")):
        if heading.text.strip():
            heading.insert_before(tree.create_text_node("#" * int(heading.tag[1]) + " "), heading.first_child)
    plain = extract_plain_text(
        tree, main_content=True, preserve_formatting=True, alt_texts=True, skip_elements=list(SKIPPED)
    )
    plain = MARK.sub(lambda mark: blocks[int(mark[2])] if mark[1] == "t" else mark[0], plain)
    page.text = re.sub(r"\n{3,}", "\n\n", re.sub(r"[ \t]+\n", "\n", plain)).strip()
    return page


def decoded(content: bytes) -> str:
    """Text of a page: by its byte order mark, its own declaration, else what its bytes look like."""
    for mark, name in (
        (codecs.BOM_UTF8, "utf-8-sig"),
        (codecs.BOM_UTF16_LE, "utf-16"),
        (codecs.BOM_UTF16_BE, "utf-16"),
    ):
        if content.startswith(mark):
            return content.decode(name, "replace")
    declared = _CHARSET.search(content[:4096])
    name = declared[1].decode("ascii") if declared else detect_encoding(content[: 1 << 16]) or "utf-8"
    try:
        return content.decode(
            "cp1252" if name.lower() in ("iso-8859-1", "latin1", "ascii", "us-ascii") else name, "replace"
        )
    except LookupError:  # no encoding of this name
        return content.decode("utf-8", "replace")


# ------------------------------------------------------------------------------------------------------------- formulas


def _formulas(tree: HTMLTree, found: list[Node], page: Page, blocks: list[str]) -> None:
    def put(node: Node, source: str, display: bool) -> None:
        source = clean_tex(source)
        page.formulas += bool(source)
        if display and source:
            blocks.append(f"$${source}$$")
            _replace(tree, node, "div", f"{_OPEN}t{len(blocks) - 1}{_CLOSE}")
        else:
            _replace(tree, node, None, f"${source}$" if source else "")

    for node in _all(found, classes=("katex",)):
        parent = node.parent
        display = parent is not None and "katex-display" in (parent.getattr("class") or "").split()
        math = node.query_selector("math")
        put(node, _of_math(math) if math is not None else node.text, display)
    for node in _all(found, names=("script",)):
        kind = node.getattr("type") or ""
        if kind.startswith("math/tex"):
            for rendered in _rendered_before(node):
                _remove(rendered)
            put(node, node.text, "mode=display" in kind)
        elif kind.startswith("math/mml"):
            document = HTMLTree.parse(node.text).document
            math = document.query_selector("math") if document is not None else None
            for rendered in _rendered_before(node):
                _remove(rendered)
            put(
                node,
                _of_math(math) if math is not None else "",
                math is not None and math.getattr("display") == "block",
            )
    for node in _all(found, names=("mjx-container",)):
        math, own = node.query_selector("math"), node.getattr("data-latex")
        if not own and math is None:
            page.lost_formulas += 1
        put(node, own or (_of_math(math) if math is not None else ""), node.getattr("display") == "true")
    for node in _all(found, names=("math",)):
        put(node, _of_math(node), node.getattr("display") == "block" or node.getattr("mode") == "display")
    for node in _all(found, classes=_RENDERED):
        page.lost_formulas += 1
        _remove(node)
    for node in _all(found, names=("img",)):
        alt = (node.getattr("alt") or "").strip()
        classes = classes_of(node)
        named = classes & _TEX_IMAGES
        if not alt or not (named or re.match(r"\$|\\\(|\\\[|\\begin\{", alt)):
            continue
        if any(name.startswith("mwe-math-fallback") for name in classes) and _beside_formula(node):
            _remove(node)  # MediaWiki writes the formula twice
        else:
            put(
                node,
                alt,
                bool({"formulaDsp", "mwe-math-fallback-image-display"} & classes)
                or alt.startswith(("\\[", "$$")),
            )


def clean_tex(source: str) -> str:
    r"""TeX on one line without its dollars, \( \) or \displaystyle."""
    source = " ".join(source.split())
    for pattern in (
        r"\$\$?(.*?)\$\$?",
        r"\\\((.*)\\\)",
        r"\\\[(.*)\\\]",
        r"\{\\(?:display|text)style\s?(.*)\}",
        r"%\s?<!\[CDATA\[(.*)%\]\]>",
    ):
        if found := re.fullmatch(pattern, source):
            source = found[1].strip()
    return source.strip("$ ")


def _of_math(math: Node) -> str:
    """TeX of a `<math>`: of its annotation, its `alttext`, else of its elements."""
    for note in _within(math, "annotation"):
        if "tex" in (note.getattr("encoding") or "").lower() and note.text.strip():
            return str(note.text)
    return math.getattr("alttext") or tex(math)


def _rendered_before(script: Node) -> Iterator[Node]:
    """What MathJax 2 put before its script."""
    node = script.prev
    while node is not None and (
        not node.tag or node.tag.startswith("#") or not classes_of(node).isdisjoint(_RENDERED)
    ):
        before = node.prev
        if node.tag and not node.tag.startswith("#"):
            yield node
        elif node.text.strip():
            return
        node = before


def _beside_formula(image: Node) -> bool:
    parent = image.parent
    return (parent is not None and "$" in parent.text) or (parent is not None and _OPEN in parent.text)


# ------------------------------------------------------------------------------------------------------ images and lists


def _images(tree: HTMLTree, found: list[Node], page: Page) -> None:
    for node in _all(found, names=("img",)):
        page.images.append(Image(_address(node), (node.getattr("alt") or "").strip()))
        _replace(tree, node, None, f"{_OPEN}i{len(page.images) - 1}{_CLOSE}")


def _address(node: Node) -> str:
    """Where the image lies; pages that load late keep the true address in data-src or the like."""
    late = next(
        (node.getattr(name) for name in ("data-src", "data-original", "data-lazy-src") if node.getattr(name)),
        None,
    )
    address = late or node.getattr("src")
    if not address:
        address = (
            (node.getattr("srcset") or node.getattr("data-srcset") or "").strip().split(" ")[0].rstrip(",")
        )
    return str(address or "").strip()


def _lists(tree: HTMLTree, found: list[Node]) -> None:
    """Lists near the page's root count as navigation for resiliparse; those that are not made of links are moved deeper."""
    for node in _all(found, names=("ul",)):
        if not _near_root(node):
            continue
        linked = sum(len(link.text.strip()) for link in _within(node, "a"))
        if linked < LINKS * len(node.text.strip()):
            around: list[Node] = [tree.create_element("div") for _ in range(3)]
            around[0].append_child(around[1])
            around[1].append_child(around[2])
            node.parent.replace_child(around[0], node)
            around[2].append_child(node)


def _near_root(node: Node) -> bool:
    """Whether fewer than three elements lie between a node and the body."""
    for _ in range(3):
        node = node.parent
        if node is None or node.tag == "body":
            return True
    return False


# --------------------------------------------------------------------------------------------------------------- tables


def _tables(tree: HTMLTree, found: list[Node], page: Page, blocks: list[str]) -> None:
    for node in _all(found, names=("table",)):
        for cell in _within(node, "td", "th"):
            for block in _within(cell, *_BREAKS):  # "one<br>two" is not "onetwo"
                block.parent.insert_before(tree.create_text_node(" "), block)
        rows = None if node.query_selector("table") is not None else data_table(node)
        if rows is None:
            continue
        caption = node.query_selector("caption")
        title = _inline(caption.text) + "\n\n" if caption is not None and caption.text.strip() else ""
        page.tables += 1
        blocks.append(
            title + MARK.sub(lambda m: blocks[int(m[2])] if m[1] == "t" else m[0], markdown_table(rows))
        )
        _replace(tree, node, "p", f"{_OPEN}t{len(blocks) - 1}{_CLOSE}")


_BREAKS = ("br", "p", "li", "div", "dt", "dd")


def data_table(node: Node) -> list[list[str]] | None:
    """Cells of a table row by row, spans filled with empty ones; None for a table that only lays out the page."""
    if node.getattr("role") in ("presentation", "none"):
        return None
    rows: list[list[str]] = []
    below: dict[int, int] = {}  # column: rows that a cell above still fills
    for row in _within(node, "tr"):
        cells: list[str] = []
        for cell in children(row):
            while below.get(len(cells), 0):
                below[len(cells)] -= 1
                cells.append("")
            if (
                cell.query_selector("h1, h2, h3, form, pre, p + p, ul ul") is not None
                or len(cell.text) > LONGEST_CELL
            ):
                return None
            wide, high = (_span(cell.getattr(name)) for name in ("colspan", "rowspan"))
            if high > 1:
                below.update({len(cells) + i: high - 1 for i in range(wide)})
            cells += [_inline(cell.text), *[""] * (wide - 1)]
        while below.get(len(cells), 0):
            below[len(cells)] -= 1
            cells.append("")
        if any(MARK.sub("", cell).strip() for cell in cells):
            rows.append(cells)
    wide = max(map(len, rows), default=0)
    rows = [row + [""] * (wide - len(row)) for row in rows]
    rows = [list(row) for row in zip(*(column for column in zip(*rows) if any(column)))]
    if len(rows) < 2 or len(rows[0]) < 2 or any(not MARK.sub("", "".join(column)) for column in zip(*rows)):
        return None  # a column of images alone: an icon beside a note, or a figure in a frame
    return rows


def markdown_table(rows: list[list[str]]) -> str:
    """A table in GitHub's Markdown, the first row as its head."""
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + " --- |" * len(rows[0]), *lines[1:]])


def _span(value: str | None) -> int:
    return min(int(value), 100) if value and value.isdecimal() and int(value) else 1


def _inline(text: str) -> str:
    return " ".join(text.split())


# ------------------------------------------------------------------------------------------------------------- the tree


def _within(node: Node, *names: str) -> Iterator[Node]:
    """Elements under a node, of these names if any are given, in document order.

    Walked by hand: going through what `query_selector_all` returns takes a time that grows with the square of its length.
    """
    at = node.first_child
    while at is not None:
        if at.type == NodeType.ELEMENT and (not names or at.tag in names):
            yield at
        after = at.first_child
        while after is None and at is not None:
            after = at.next
            if after is None:
                at = at.parent
                if at is None or at == node:
                    return
        at = after


def _all(
    found: Iterable[Node], *, names: Sequence[str] = (), classes: Collection[str] = ()
) -> Iterator[Node]:
    """Those of the elements of these names, or with one of these classes, that are still in the page when their turn comes."""
    for node in found:
        named = node.tag in names or (classes and not classes_of(node).isdisjoint(classes))
        if named and _attached(node):
            yield node


def classes_of(node: Node) -> set[str]:
    return set((node.getattr("class") or "").split())


def _attached(node: Node) -> bool:
    while node.parent is not None:  # `contains` walks through the whole page
        node = node.parent
    return bool(node.type == NodeType.DOCUMENT)


def _replace(tree: HTMLTree, node: Node, tag: str | None, text: str) -> None:
    """Put a text, or an element with it, in the place of an element."""
    made: Node = tree.create_text_node(text)
    if tag is not None:
        outer: Node = tree.create_element(tag)
        outer.append_child(made)
        made = outer
    node.parent.replace_child(made, node)


def _remove(node: Node) -> None:
    if node.parent is not None:
        node.parent.remove_child(node)
