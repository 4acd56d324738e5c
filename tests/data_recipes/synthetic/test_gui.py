"""Rows of drawn screens: boxes are where the pixels are, words name one element, truths follow from the DOM."""

from __future__ import annotations

import io
import os
import re
import signal
from collections import Counter
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from data_recipes.records import SourceError
from data_recipes.synthetic.gui import world
from data_recipes.synthetic.gui.questions import WORDS, Named
from data_recipes.synthetic.gui.world import GuiOptions
from environments.gui.screen import Screen
from tests.environments.chromium import needs_chromium

MARK = """
(() => { const hit = document.elementFromPoint(%f, %f).closest("a,button,input,select,textarea,li,td,th,[role=slider],.thumb");
window.marked = hit; hit.style.setProperty("outline", "2px solid #f0f", "important");
hit.style.setProperty("outline-offset", "-2px", "important"); hit.style.setProperty("opacity", "1", "important") })()
"""
UNMARK = "for (const name of ['outline', 'outline-offset', 'opacity']) marked.style.removeProperty(name)"


@pytest.fixture(scope="module")
def drawn():
    """Screens of every kind of question, small ones and large ones, at several scales."""
    options = GuiOptions(rows=33, questions=3, seed=7, difficulty=0.7)
    return [world.draw(index, options) for index in range(11)]


@needs_chromium
def test_boxes_are_what_the_browser_draws(drawn):
    """An outline inside an element's edge changes pixels in its box alone, up to its edges."""
    checked: Counter[str] = Counter()
    for one in drawn:
        screen = world.browser()
        screen.show(one.page, one.view)
        before = shot(screen)
        targets = {
            (e.role, *e.box): e
            for e in one.elements
            if e.whole and "plain" not in e.data and e.role in {*WORDS, "listitem", "cell", "thumb"}
        }
        for element in list(targets.values())[:: max(1, len(targets) // 5)]:
            x1, y1, x2, y2 = (value / one.view.scale for value in element.box)
            screen.evaluate(MARK % ((x1 + x2) / 2, (y1 + y2) / 2 if element.role != "listitem" else y2 - 2))
            ys, xs = np.nonzero(np.abs(shot(screen) - before).sum(-1) > 30)
            screen.evaluate(UNMARK)
            found = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
            assert np.abs(np.subtract(found, element.box)).max() <= 2, (element, found)
            checked[element.role] += 1
    assert sum(checked.values()) > 30 and len(checked) >= 8, checked


def shot(screen) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(screen.screenshot())).convert("RGB")).astype(int)


COMPUTED = """
[...document.body.querySelectorAll("a,button,input,select,textarea,h1,h2,th,p,[role]")]
  .filter((e) => e.checkVisibility()).map((e) => [e.computedRole, e.computedName])
"""
SAME = {"menuitem", "menuitemcheckbox", "link", "button", "textbox", "searchbox", "checkbox", "radio", "switch", "slider", "tab", "heading", "combobox"}  # fmt: skip


@needs_chromium
def test_roles_and_names_are_those_that_chromium_tells_assistive_technology(drawn):
    screen, compared = Screen(("--enable-blink-features=ComputedAccessibilityInfo",)), Counter()
    for one in drawn[::2]:
        if one.content["busy"] or one.content["dialog"]:
            continue  # what a modal dialog covers is left out of Chromium's tree
        screen.show(one.page, one.view)
        theirs = Counter((role, name) for role, name in screen.evaluate(COMPUTED) if role in SAME)
        ours = Counter((e.role, e.name) for e in one.elements if e.role in SAME)
        handles = Counter(("button", e.name) for e in one.elements if e.role == "handle")
        assert theirs == ours + handles
        compared += Counter(role for role, _ in theirs.elements())
    screen.close()
    assert sum(compared.values()) > 60 and len(compared) >= 6, compared


@needs_chromium
def test_words_name_one_element_and_boxes_are_inside_the_image(drawn):
    for one in drawn:
        named = Named(one.elements)
        words = Counter(filter(None, map(named.words, named.shown)))
        assert max(words.values()) == 1, words.most_common(1)
        width, height = Image.open(io.BytesIO(one.image)).size
        assert (width, height) == one.view.pixels
        for question in one.asked:
            boxes = [v for key, v in question.answer.items() if key.endswith("box")]
            for x1, y1, x2, y2 in [*boxes, *question.answer.get("boxes", [])]:
                assert 0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height, question


@needs_chromium
def test_truths_follow_from_what_is_shown(drawn):
    kinds = {question.kind for one in drawn for question in one.asked}
    assert kinds == set(GuiOptions().kinds)
    for one in drawn:
        shown = {e.name for e in one.elements if e.shown}
        for question in one.asked:
            answer = question.answer
            if question.kind == "scroll":
                name = re.search(r"'(.*)' into view", question.text).group(1)
                titles = [e for e in one.elements if e.name == name and e.beyond]
                assert name not in shown and {e.beyond for e in titles} >= {answer["direction"]}
            if question.kind == "finished":
                name = re.search(r"'([^']*)'", question.text).group(1)
                [element] = [
                    e
                    for e in one.elements
                    if e.whole and name in (e.name, e.item) and is_so(e, question.text)
                ][:1]
                assert element
            if question.kind == "wait":
                assert one.content["busy"] and any(
                    e.name == one.content["busy"] or e.role == "status" for e in one.elements
                )


def is_so(element, text: str) -> bool:
    if element.role == "combobox":
        return f"'{element.state['value']}'" in text
    return bool(element.state.get("checked")) == (not re.search(r"not ticked|off\.", text))


@needs_chromium
def test_a_browser_that_dies_is_replaced_and_the_rows_are_the_same(tmp_path):
    options = GuiOptions(
        rows=4, questions=2, kinds=("click", "grounding"), sizes=((640, 480),), scales=(1.0,)
    )
    first = world.draw(0, options)
    for process in psutil.Process(world.browser().browser.process.pid).children(recursive=True):
        os.kill(process.pid, signal.SIGKILL)
    assert world.draw(0, options) == first


@needs_chromium
def test_options_without_room_are_refused():
    with pytest.raises(SourceError, match="max_pixels: expected room for one of `sizes`"):
        world.draw(0, GuiOptions(sizes=((2000, 2000),)))


def test_a_machine_without_chromium_is_told_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SourceError, match="synthetic_gui: expected a Chromium .*apt-get install chromium"):
        world.read(Path(tmp_path), GuiOptions())
