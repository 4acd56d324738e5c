"""What can be asked about a screen: which element, where to click, and what to do next. Every answer comes from the DOM.

An element is asked about only if all of it can be seen and words name it alone: role and name, or with them the entry (row,
card, group) that it belongs to.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from data_recipes.synthetic.gui import vocabulary as v
from data_recipes.synthetic.gui.content import Content
from environments.gui.screen import Box, Element

WORDS = {
    "button": "button",
    "link": "link",
    "textbox": "field",
    "searchbox": "field",
    "combobox": "drop-down list",
    "checkbox": "check box",
    "radio": "radio button",
    "switch": "switch",
    "slider": "slider",
    "tab": "tab",
    "menuitem": "menu item",
    "menuitemcheckbox": "menu item",
    "handle": "drag handle",
}
"""Elements that one acts on, by role, and what questions call them."""
TEXTS = {"heading": "heading", "columnheader": "column header", "listitem": "entry", "dialog": "dialog"}
NAMELESS = ("Select", "Move")
"""Names that say nothing about the entry that they belong to."""
SLACK = 0.05
"""How far from the asked value a slider may end, as a share of its track."""


@dataclass(frozen=True)
class Question:
    """kind: of the question. text: the task. answer: without frame; boxes in pixels of the screenshot. reason: in words."""

    kind: str
    task: str
    text: str
    answer: dict[str, Any]
    reason: str


class Named:
    """The elements of a screen, and the words that name one alone."""

    def __init__(self, elements: Sequence[Element]) -> None:
        self.shown = [e for e in elements if e.shown]
        self.elements = list(elements)
        self._counts = Counter(self._key(e) for e in self.shown)
        self._with_item = Counter((*self._key(e), e.item) for e in self.shown)
        self._titles = Counter(e.name for e in self.shown if _titles(e))
        self._whole_titles = {e.name for e in self.shown if _titles(e) and e.whole}
        self._columns = {e.name for e in self.shown if e.role == "columnheader" and e.whole}

    def words(self, element: Element) -> str | None:
        """What names the element alone; None if nothing does."""
        if element.role == "cell":
            return self._cell(element)
        word = WORDS.get(element.role) or TEXTS.get(element.role)
        if word is None or not element.name:
            return None
        if element.name not in NAMELESS and self._counts[self._key(element)] == 1:
            return f"the {word} '{element.name}'"
        item = element.item
        if item is None or item not in self._whole_titles or self._titles[item] != 1:
            return None
        if self._with_item[(*self._key(element), item)] != 1:
            return None
        name = "" if element.name in NAMELESS else f" '{element.name}'"
        return f"the {word}{name} of '{item}'"

    def whole(self, *roles: str) -> list[tuple[Element, str]]:
        """Elements of these roles that can be asked about, with their words."""
        found = ((e, self.words(e)) for e in self.shown if e.role in roles and e.whole)
        return [(element, words) for element, words in found if words]

    def usable(self, *roles: str) -> list[tuple[Element, str]]:
        return [(e, words) for e, words in self.whole(*roles) if not e.state["disabled"]]

    def _key(self, element: Element) -> tuple[str, str]:
        word = WORDS.get(element.role) or TEXTS.get(element.role) or element.role
        return word, element.name.casefold()

    def _cell(self, element: Element) -> str | None:
        column, item = element.data.get("column"), element.item
        if column not in self._columns or item not in self._whole_titles or self._titles[item] != 1:
            return None
        return f"the cell in column '{column}' of the row '{item}'"


def _titles(element: Element) -> bool:
    """Whether the element shows the name of an entry."""
    return element.role in ("listitem", "group") or element.data.get("column") == "Name"


def questions(
    kind: str, rng: random.Random, elements: Sequence[Element], content: Content
) -> Iterator[Question]:
    """All questions of a kind that a screen allows, in random order."""
    if content["busy"] and kind not in ("wait", "grounding"):
        return
    named = Named(elements)
    found = list(KINDS[kind](rng, named, content))
    yield from rng.sample(found, len(found))


# ---------------------------------------------------------------------------------------------------- where something is


def _grounding(rng: random.Random, named: Named, content: Content) -> Iterator[Question]:
    for element, words in named.whole(*WORDS, *TEXTS, "cell"):
        alone = ", without its label" if element.role in ("checkbox", "radio") and element.label else ""
        yield Question(
            "grounding",
            "grounding",
            f"Where on this screen is {words}{alone}?",
            {"boxes": [element.box]},
            f"{words[0].upper()}{words[1:]} is there once{_state_of(element)}.",
        )


def _pointing(rng: random.Random, named: Named, content: Content) -> Iterator[Question]:
    for element, words in named.usable(*WORDS):
        if wish := _wish(rng, element, words):
            text = f"Where on this screen do you click to do the following? {wish}"
            yield Question("pointing", "pointing", text, {"box": _target(element)}, f"I click {words}.")


# ----------------------------------------------------------------------------------------------------------- what to do


def _click(rng: random.Random, named: Named, content: Content) -> Iterator[Question]:
    for element, words in named.usable(*WORDS):
        if wish := _wish(rng, element, words):
            answer = {"action": "click", "start_box": _target(element)}
            yield _action("click", wish, answer, f"This takes a click on {words}.")


def _input(rng: random.Random, named: Named, content: Content) -> Iterator[Question]:
    for element, words in named.usable("textbox", "searchbox"):
        if element.state.get("value"):
            continue  # to replace, or to add to it?
        text = v.field_value(rng, element.name)
        answer: dict[str, Any] = {"action": "input", "text": text}
        where = "The cursor is there already."
        if not element.state["focused"]:
            answer["start_box"] = element.box
            where = f"{words[0].upper()}{words[1:]} is empty and does not have the cursor yet."
        wish = rng.choice(("Type '{t}' into {w}.", "Fill {w} with '{t}'.", "Enter '{t}' in {w}."))
        yield _action("input", wish.format(t=text, w=words), answer, where)


def _select(rng: random.Random, named: Named, content: Content) -> Iterator[Question]:
    for element, words in named.usable("combobox"):
        chosen = element.state["value"]
        option = rng.choice([o for o in element.state["options"] if o != chosen])
        wish = rng.choice(("Choose '{o}' in {w}.", "Set {w} to '{o}'.")).format(o=option, w=words)
        answer = {"action": "select", "text": option}
        yield _action("select", wish, answer, f"{words[0].upper()}{words[1:]} stands at '{chosen}'.")


def _scroll(rng: random.Random, named: Named, content: Content) -> Iterator[Question]:
    if content["main"].get("caption") is None:
        return
    sideways = bool(content["main"].get("scroll_x") is not None and "July" in content["main"]["columns"])
    what = "column" if sideways else "entry"
    entries = [e for e in named.elements if (e.role == "columnheader" if sideways else _titles(e)) and e.name]
    seen = [e.name for e in entries if e.whole and e.name != "Name"]
    if len(seen) < 2:
        return
    order = "months in the order of the year" if sideways else "entries in order"
    for element in entries:
        if element.beyond in (("left", "right") if sideways else ("up", "down")) and element.name != "Name":
            wish = f"Bring the {what} '{element.name}' into view; the {order} go on beyond what is shown."
            reason = f"I see '{seen[0]}' to '{seen[-1]}'; '{element.name}' is further {element.beyond}."
            yield _action("scroll", wish, {"action": "scroll", "direction": element.beyond}, reason)


def _press(rng: random.Random, named: Named, content: Content) -> Iterator[Question]:
    for element, words in named.usable("menuitem", "menuitemcheckbox"):
        if keys := element.data.get("keys"):
            wish = rng.choice(("Use the keyboard shortcut of {w}.", "Do {w} by its keys."))
            answer = {"action": "press", "keys": keys.lower().split("+")}
            yield _action("press", wish.format(w=words), answer, f"Beside it stands {keys}.")
    for element, words in named.whole("dialog"):
        answer = {"action": "press", "keys": ["esc"]}
        yield _action("press", f"Close {words} with one key.", answer, f"'{element.name}' is open.")
    if content["main"]["kind"] != "form":
        return
    for _, words in [(e, w) for e, w in named.usable("textbox") if e.state["focused"]]:
        send, following = {"action": "press", "keys": ["enter"]}, {"action": "press", "keys": ["tab"]}
        yield _action("press", "Send the form with one key.", send, f"The cursor is in {words}.")
        yield _action("press", "Go to the next field with one key.", following, f"The cursor is in {words}.")


def _hover(rng: random.Random, named: Named, content: Content) -> Iterator[Question]:
    for element, words in named.usable("button"):
        if "icon" in element.data:
            wish = f"Let the pointer rest on {words}, so that its tooltip appears."
            answer = {"action": "hover", "start_box": element.box}
            yield _action("hover", wish, answer, f"I see {words}.")


def _drag(rng: random.Random, named: Named, content: Content) -> Iterator[Question]:
    places = {e.name: e for e, _ in named.whole("listitem")}
    for handle, _ in named.usable("handle"):
        others = [name for name in places if name != handle.item]
        if handle.item in places and others:
            goal = rng.choice(others)
            answer = {"action": "drag", "start_box": handle.box, "end_box": places[goal].box}
            wish = f"Drag '{handle.item}' by its handle to the place of '{goal}'."
            yield _action("drag", wish, answer, f"The handle of '{handle.item}' goes to '{goal}'.")
    thumbs = {e.name: e for e in named.shown if e.role == "thumb" and e.whole}
    for track, words in named.usable("slider"):
        if track.name in thumbs:
            now = int(track.state["value"])
            value = rng.choice([n for n in range(10, 95, 5) if abs(n - now) >= 20])
            answer = {"action": "drag", "start_box": thumbs[track.name].box, "end_box": _along(track, value)}
            yield _action("drag", f"Drag {words} to {value} %.", answer, f"It stands at {now} %.")


def _wait(rng: random.Random, named: Named, content: Content) -> Iterator[Question]:
    if not content["busy"]:
        return
    for element in named.shown:
        words = named.words(element) if element.role in WORDS and not element.state["disabled"] else None
        wish = _wish(rng, element, words) if words and element.inside == 1.0 and element.top == 0 else None
        if wish:
            yield _action("wait", wish, {"action": "wait"}, f"The page is busy: '{content['busy']}'")


def _finished(rng: random.Random, named: Named, content: Content) -> Iterator[Question]:
    for element, words in named.usable("checkbox", "radio", "switch"):
        is_on = bool(element.state.get("checked"))
        if is_on or element.role != "radio":
            wish = f"Make sure that {words} is {_condition(element, is_on)}."
            yield _action("finished", wish, {"action": "finished"}, "It is so already.")
    for element, words in named.usable("combobox"):
        wish = f"Make sure that {words} stands at '{element.state['value']}'."
        yield _action("finished", wish, {"action": "finished"}, "It does already.")


KINDS: dict[str, Callable[[random.Random, Named, Content], Iterator[Question]]] = {
    "grounding": _grounding,
    "pointing": _pointing,
    "click": _click,
    "input": _input,
    "select": _select,
    "scroll": _scroll,
    "press": _press,
    "hover": _hover,
    "drag": _drag,
    "wait": _wait,
    "finished": _finished,
}


def _action(kind: str, wish: str, answer: dict[str, Any], reason: str) -> Question:
    return Question(kind, "action", wish, answer, reason)


def _wish(rng: random.Random, element: Element, words: str) -> str | None:
    """What a click on the element is good for; None where a click does nothing that can be said."""
    role, is_on = element.role, bool(element.state.get("checked"))
    if role in ("checkbox", "switch"):
        verb = {"checkbox": ("Tick", "Untick"), "switch": ("Turn on", "Turn off")}[role][is_on]
        sure = f"Make sure that {words} is {_condition(element, not is_on)}."
        return rng.choice((f"{verb} {words}.", sure))
    if role == "radio":
        return None if is_on else rng.choice((f"Choose {words}.", f"Make sure that {words} is chosen."))
    if role == "tab":
        return None if element.state.get("selected") else f"Open {words}."
    if role in ("textbox", "searchbox"):
        return None if element.state["focused"] else f"Put the cursor into {words}."
    if role == "menuitem" and "expanded" in element.state:
        return None if element.state["expanded"] else f"Open the menu '{element.name}'."
    verbs = {"button": "Press", "link": "Follow", "menuitem": "Choose", "menuitemcheckbox": "Choose"}
    return f"{verbs[role]} {words}." if role in verbs else None


def _condition(element: Element, is_on: bool) -> str:
    if element.role == "radio":
        return "chosen"
    return {"checkbox": ("not ticked", "ticked"), "switch": ("off", "on")}[element.role][is_on]


def _state_of(element: Element) -> str:
    if element.state["disabled"]:
        return ", greyed out"
    if "checked" in element.state:
        return ", switched on" if element.state["checked"] else ", switched off"
    return ", with the cursor in it" if element.state["focused"] and element.role == "textbox" else ""


def _target(element: Element) -> Box:
    """Where a click counts: for check boxes and radio buttons the label as well."""
    return element.label or element.box


def _along(track: Element, value: int) -> Box:
    """The part of a slider's track around a value."""
    x1, y1, x2, y2 = track.box
    at, slack = x1 + (x2 - x1) * value / 100, (x2 - x1) * SLACK
    return [round(at - slack), y1, round(at + slack), y2]
